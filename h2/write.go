// SPDX-License-Identifier: Apache-2.0

package h2

import (
	"net"
	"runtime"
	"time"
)

// The way out:
//
//  1. A sender appends whole frames to outbox.b under the connection's lock.
//  2. It wakes the writer, unless the writer is awake.
//  3. The writer yields once, so that every runnable sender can append too;
//     this is what lets a hundred calls leave in one write(2).
//  4. It takes the buffer, leaves the spare in its place, and writes without
//     the lock.
//  5. Senders that found the buffer full are given their turn.
const (
	// highWater is how much may wait in the buffer before DATA has to wait.
	// HEADERS and control frames do not: they are bounded by the number of
	// streams and by maxReplies.
	highWater = 128 << 10
	// keepBuffer is what a write buffer may hold on to while the connection is
	// quiet.
	keepBuffer = 4 << 10
	// shrinkAfter is the quiet time after which larger ones are given up.
	// Shrinking eagerly costs more than it saves.
	shrinkAfter = time.Second
	// maxReplies bounds the acknowledgements a peer can make us queue by not
	// reading them.
	maxReplies = 1000
	// closeTimeout bounds the flush of the last GOAWAY.
	closeTimeout = time.Second
)

// outbox holds what waits to be written.
type outbox struct {
	b       []byte
	spare   []byte
	awake   bool // the writer is awake or about to be
	busy    bool // the writer is inside Write
	shrink  bool // a shrink timer is armed
	replies int  // acknowledgements in b
	wake    chan struct{}
	// exact means that a failed Write reports exactly what left the process.
	exact bool
	// Byte positions in the whole outgoing stream, for Stream.Sent.
	taken   uint64 // handed to Write
	flushes uint64
}

func (o *outbox) init(nc net.Conn) {
	o.wake = make(chan struct{}, 1)
	switch nc.(type) {
	case *net.TCPConn, *net.UnixConn:
		o.exact = true
	}
}

// end is the position after everything appended so far.
func (o *outbox) end() uint64 { return o.taken + uint64(len(o.b)) }

// full reports whether DATA has to wait.
func (o *outbox) full() bool { return len(o.b) >= highWater }

// wakeWriterLocked sees to it that what was appended is written.
func (c *Conn) wakeWriterLocked() {
	if !c.out.awake {
		c.out.awake = true
		c.out.wake <- struct{}{} // never blocks: one token, awake guards it
	}
}

// writeLoop is the writer goroutine. It ends when the connection is closing
// and everything is written, or on the first error.
func (c *Conn) writeLoop() {
	for range c.out.wake {
		runtime.Gosched()
		c.mu.Lock()
		for len(c.out.b) > 0 && c.life.writable() {
			if !c.writeLocked() {
				break
			}
		}
		c.out.awake = false
		c.armShrinkLocked()
		finished := c.life.flushed(len(c.out.b) == 0)
		c.mu.Unlock()
		if finished {
			c.finishWriting()
			return
		}
	}
}

// writeLocked writes one buffer, letting go of the lock meanwhile.
func (c *Conn) writeLocked() bool {
	b := c.out.b
	c.out.b, c.out.spare = c.out.spare[:0], nil
	c.out.taken += uint64(len(b))
	c.out.replies = 0
	c.out.flushes++
	c.mu.Unlock()
	n, err := c.nc.Write(b)
	c.mu.Lock()
	c.out.spare = b[:0]
	if err != nil {
		if c.out.exact {
			c.out.taken -= uint64(len(b) - n)
		}
		c.failLocked(&ConnError{Kind: Lost, By: Peer, Err: err})
		return false
	}
	c.passTurnLocked()
	return true
}

// armShrinkLocked has large buffers given up after a quiet second.
func (c *Conn) armShrinkLocked() {
	if c.out.shrink || cap(c.out.b)+cap(c.out.spare) <= 2*keepBuffer {
		return
	}
	c.out.shrink = true
	seen := c.out.flushes
	time.AfterFunc(shrinkAfter, func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.out.shrink = false
		if c.out.flushes != seen || c.out.awake {
			c.armShrinkLocked()
			return
		}
		if len(c.out.b) == 0 {
			c.out.b = nil
		}
		c.out.spare = nil
	})
}

// replyLocked counts an acknowledgement appended on the peer's demand, and
// reports whether too many wait for a peer that does not read them.
func (c *Conn) replyLocked() bool {
	c.out.replies++
	return c.out.replies <= maxReplies
}
