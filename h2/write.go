// SPDX-License-Identifier: Apache-2.0

package h2

import (
	"net"
	"runtime"
	"time"

	"github.com/faultline-rpc/faultline/h2/frame"
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
	// maxSpare is the largest write buffer that is used again.
	maxSpare = 4 * highWater
	// maxOwnWrite is the most that a sender writes itself.
	maxOwnWrite = 16 << 10
	// shrinkAfter is the quiet time after which larger ones are given up.
	// Shrinking eagerly costs more than it saves.
	shrinkAfter = time.Second
	// maxReplies bounds what a peer can make us queue by not reading it, in
	// bytes: acknowledgements and resets. The replies to one read batch fit.
	maxReplies = 256 << 10
	// maxBacklog is how much may wait in the buffer, in bytes, before a server
	// refuses new streams: answers without DATA wait for nothing, and a peer that
	// does not read them could ask for more for ever.
	maxBacklog = 1 << 20
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
	replies int  // bytes of acknowledgements and resets in b
	wake    chan struct{}
	try     *tryWriter // nil where a write may block
	// exact means that a failed Write reports exactly what left the process.
	exact bool
	// Byte positions in the whole outgoing stream, for Stream.Sent.
	taken   uint64 // handed to Write
	flushes uint64
}

func (o *outbox) init(nc net.Conn) {
	o.wake = make(chan struct{}, 1)
	o.try = newTryWriter(nc)
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

// flushLocked sends what a sender has appended. On a connection that carries
// one stream nobody else would share the write: the sender makes it itself,
// which saves two switches, and leaves to the writer what the socket has no
// room for. It lets go of the lock meanwhile.
func (c *Conn) flushLocked() {
	b := c.out.b
	if c.out.try == nil || c.out.awake || c.streams.n > 1 || len(b) > maxOwnWrite || c.life.phase != active {
		c.wakeWriterLocked()
		return
	}
	c.out.awake = true
	c.out.b, c.out.spare = c.out.spare[:0], nil
	c.out.taken += uint64(len(b))
	c.out.replies = 0
	c.out.flushes++
	c.mu.Unlock()
	n := c.out.try.write(b)
	c.mu.Lock()
	c.out.awake = false
	if rest := b[n:]; len(rest) > 0 {
		c.out.taken -= uint64(len(rest))
		c.out.b = append(append([]byte(nil), rest...), c.out.b...)
	}
	c.out.spare = b[:0]
	c.armShrinkLocked()
	if len(c.out.b) > 0 || c.life.phase >= closing {
		c.wakeWriterLocked()
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
	c.passTurnLocked() // the next buffer fills while this one is written
	c.mu.Unlock()
	n, err := c.nc.Write(b)
	c.mu.Lock()
	if err != nil {
		if c.out.exact {
			c.out.taken -= uint64(len(b) - n)
		}
		c.writeFailedLocked(err)
		return false
	}
	if cap(b) <= maxSpare { // a burst of HEADERS must not stay for good
		c.out.spare = b[:0]
	}
	return true
}

// armShrinkLocked has large buffers given up after a quiet second.
func (c *Conn) armShrinkLocked() {
	if c.out.shrink || c.life.phase == dead || cap(c.out.b)+cap(c.out.spare) <= 2*keepBuffer {
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

// replyLocked counts n bytes appended on the peer's demand. It says so if too
// many wait for a peer that does not read them.
func (c *Conn) replyLocked(n int) *ConnError {
	if c.out.replies += n; c.out.replies > maxReplies {
		return violation(codeCalm, "frames that ask for answers, faster than the answers are read")
	}
	return nil
}

// replyResetLocked appends RST_STREAM as the answer to something on a stream
// that is not open.
func (c *Conn) replyResetLocked(id uint32, code Code) *ConnError {
	c.out.b = frame.AppendRSTStream(c.out.b, id, code)
	c.wakeWriterLocked()
	return c.replyLocked(frame.HeaderLen + 4)
}
