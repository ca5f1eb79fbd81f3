// SPDX-License-Identifier: Apache-2.0

package simnet

import (
	"net"
	"time"
)

const (
	defaultBuffer = 64 << 10 // as a socket's buffers on a small machine
	segmentSize   = 1460     // how finely bandwidth spreads one write over time
)

// Options describe a connection. The zero value is a fast, faultless one.
type Options struct {
	// Latency is how long bytes travel, each way. Zero means none.
	Latency time.Duration
	// Bandwidth is in bytes per second, each way. Zero means unlimited.
	Bandwidth int
	// Buffer is how many bytes each direction holds, sent and not yet read,
	// before a write blocks. Zero means 64 KiB.
	Buffer int
	// MaxRead bounds the bytes one Read returns, so that 1 delivers byte by
	// byte. Zero means no bound.
	MaxRead int
	// ToServer and ToClient are the faults of each direction.
	ToServer, ToClient []Fault
	// Client and Server are the failing operations of each end.
	Client, Server []OpFault
	// ClientAddr and ServerAddr are the ends' addresses. Nil means
	// 10.0.0.1:40000 and 10.0.0.2:443.
	ClientAddr, ServerAddr net.Addr
}

// Fault is what happens to one direction at an exact byte.
type Fault struct {
	kind faultKind
	at   int64
	mask byte
}

type faultKind uint8

const (
	faultCut faultKind = iota
	faultStall
	faultFIN
	faultCorrupt
)

// CutAfter resets the connection, both ways, as soon as n bytes have passed:
// the receiver reads these and then ECONNRESET, the sender is reset at once.
// What the sender writes beyond is lost. Zero cuts from the start.
func CutAfter(n int64) Fault { return Fault{kind: faultCut, at: n} }

// StallAfter lets n bytes arrive and no more: neither bytes nor the end of the
// stream, until [Conn.Resume] of the sender. Writes go on until the buffer is full.
func StallAfter(n int64) Fault { return Fault{kind: faultStall, at: n} }

// FINAfter ends the direction cleanly as soon as n bytes have passed: the
// receiver reads these and then io.EOF. What the sender writes beyond is lost
// without its notice. The other direction goes on.
func FINAfter(n int64) Fault { return Fault{kind: faultFIN, at: n} }

// CorruptAt flips the bits of mask in the byte at offset, counted from 0.
func CorruptAt(offset int64, mask byte) Fault {
	return Fault{kind: faultCorrupt, at: offset, mask: mask}
}

// OpFault fails one operation of one end.
type OpFault struct {
	write bool
	nth   int
	err   error
}

// FailRead fails the n-th call of Read, counted from 1, with err in a
// *net.OpError. It consumes nothing; later calls work.
func FailRead(n int, err error) OpFault { return OpFault{nth: n, err: err} }

// FailWrite fails the n-th call of Write, counted from 1, with err in a
// *net.OpError. It sends nothing; later calls work.
func FailWrite(n int, err error) OpFault { return OpFault{write: true, nth: n, err: err} }
