// SPDX-License-Identifier: Apache-2.0

package codec

import (
	"math/bits"
	"sync"
)

// Size classes are powers of two: a buffer is never more than twice as large
// as asked for, and fifteen pools cover everything up to the default limit of
// a received message.
const (
	minClassBits = 8  // 256 B
	maxClassBits = 22 // 4 MiB; what is larger is left to the garbage collector
)

// Buffer is a pooled piece of memory. It belongs to one goroutine at a time.
type Buffer struct {
	// B holds the bytes. It may be appended to and resliced at its end.
	B []byte
}

var pools [maxClassBits - minClassBits + 1]sync.Pool

// GetBuffer returns a buffer with length 0 and a capacity of at least n bytes.
// Its memory is not cleared. It is safe for concurrent use.
func GetBuffer(n int) *Buffer {
	class := classFor(n)
	if class >= len(pools) {
		return &Buffer{B: make([]byte, 0, n)}
	}
	if b, ok := pools[class].Get().(*Buffer); ok {
		return b
	}
	return &Buffer{B: make([]byte, 0, 1<<(class+minClassBits))}
}

// Free gives the buffer back to its pool. Neither b nor any slice of b.B may
// be used afterwards, and it must be called once. A nil buffer is ignored.
func (b *Buffer) Free() {
	if b == nil {
		return
	}
	// Only memory that has exactly a class's size is kept: B may have been
	// replaced by append or resliced from its front.
	n := cap(b.B)
	class := classFor(n)
	if class >= len(pools) || n != 1<<(class+minClassBits) {
		return
	}
	b.B = b.B[:0]
	pools[class].Put(b)
}

// classFor returns the smallest class that holds n bytes.
func classFor(n int) int {
	if n <= 1<<minClassBits {
		return 0
	}
	return bits.Len(uint(n-1)) - minClassBits
}

// grow makes room for n more bytes, with memory from the pools.
func (b *Buffer) grow(n int) {
	if cap(b.B)-len(b.B) >= n {
		return
	}
	want := max(len(b.B)+n, 2*cap(b.B))
	next := GetBuffer(want)
	next.B = append(next.B, b.B...)
	b.B, next.B = next.B, b.B
	next.Free()
}

// Write appends p, for compressors. It never fails.
func (b *Buffer) Write(p []byte) (int, error) {
	b.grow(len(p))
	b.B = append(b.B, p...)
	return len(p), nil
}
