// SPDX-License-Identifier: Apache-2.0

package h2

import (
	"sync"
	"sync/atomic"
)

// ReadBuf is a read buffer that the payloads lying in it share with the
// reader. It returns to its pool when the last holder releases it.
type ReadBuf struct {
	b     []byte
	refs  atomic.Int32
	class int8
}

// The sizes of read buffers: a connection starts with the first, moves up when
// a read fills what it has, and back down when reads stay small.
var readSizes = [...]int{512, 4 << 10, 32 << 10, 128 << 10}

var readPools [len(readSizes)]sync.Pool

func newReadBuf(class int8) *ReadBuf {
	r, _ := readPools[class].Get().(*ReadBuf)
	if r == nil {
		r = &ReadBuf{b: make([]byte, readSizes[class]), class: class}
	}
	r.refs.Store(1)
	return r
}

// oddReadBuf is for the one frame that is larger than the largest class.
func oddReadBuf(n int) *ReadBuf {
	r := &ReadBuf{b: make([]byte, n), class: -1}
	r.refs.Store(1)
	return r
}

// Retain keeps the buffer until a matching Release.
func (r *ReadBuf) Retain() { r.refs.Add(1) }

// Release gives up one hold. The bytes must not be touched afterwards.
func (r *ReadBuf) Release() {
	if r.refs.Add(-1) == 0 && r.class >= 0 {
		readPools[r.class].Put(r)
	}
}

// Cap returns the buffer's size: holding few bytes of a large buffer for long
// is waste.
func (r *ReadBuf) Cap() int { return len(r.b) }

func (r *ReadBuf) shared() bool { return r.refs.Load() > 1 }
