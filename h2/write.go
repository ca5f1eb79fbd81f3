// SPDX-License-Identifier: Apache-2.0

package h2

import (
	"net"
	"runtime"
	"sync/atomic"
	"time"

	"github.com/faultline-rpc/faultline/h2/frame"
)

// The way out:
//
//  1. A sender appends whole frames to outbox.b under the connection's lock.
//  2. If nobody is writing, and the reader is not inside a batch, at the end of
//     which it sees to it, the sender becomes the writer for all; or, where a
//     write may block or is large, it wakes the writer goroutine.
//  3. The writer yields once, so that every runnable sender can append too;
//     this is what lets a hundred calls leave in one write(2).
//  4. It takes the buffer, leaves the spare in its place, and writes without
//     the lock. A sender writes once, and leaves the rest to the goroutine.
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
	// quietTime is the time without a write after which larger ones are given
	// up, and the writer goroutine. Shrinking eagerly costs more than it saves.
	quietTime = 250 * time.Millisecond
	// maxReplies bounds what a peer can make us queue by not reading it, in
	// bytes: acknowledgements and resets. The replies to one read batch fit.
	maxReplies = 256 << 10
	// maxBacklog is how much may wait in the buffer, in bytes, before a server
	// refuses new streams: answers without DATA wait for nothing, and a peer that
	// does not read them could ask for more for ever.
	maxBacklog = 1 << 20
	// closeTimeout bounds the flush of the last GOAWAY.
	closeTimeout = time.Second
	// flushTimeout bounds the same at a client's Close.
	flushTimeout = closeTimeout / 10
)

// outbox holds what waits to be written.
type outbox struct {
	b       []byte
	spare   []byte
	awake   bool          // somebody is writing or about to
	corked  atomic.Bool   // the reader is inside a batch, and flushes after it
	armed   bool          // a timer waits for quietTime to pass
	replies int           // bytes of acknowledgements and resets in b
	wake    chan struct{} // the writer goroutine's; nil while there is none
	// exact means that a failed Write reports exactly what left the process.
	exact bool
	// head is how many bytes at the front of b belong to a frame, or to the
	// preface, whose beginning has been handed to Write already.
	head int
	// begunOnly is set when the connection broke down and its streams have been
	// told: frames that have not begun to leave never do, see withdrawLocked.
	begunOnly bool
	// Byte positions in the whole outgoing stream, for Stream.Sent.
	taken   uint64 // handed to Write
	flushes uint64
}

func (o *outbox) init(nc net.Conn) {
	switch nc.(type) {
	case *net.TCPConn, *net.UnixConn:
		o.exact = true
	}
}

// end is the position after everything appended so far.
func (o *outbox) end() uint64 { return o.taken + uint64(len(o.b)) }

// full reports whether DATA has to wait.
func (o *outbox) full() bool { return len(o.b) >= highWater }

// inHandLocked reports whether somebody writes the buffer without being asked.
func (c *Conn) inHandLocked() bool {
	return c.out.awake || c.out.corked.Load() && !c.out.full() && c.life.phase < closing
}

// wakeWriterLocked sees to it that what was appended is written. The writer
// goroutine is made when it is first needed, and again after it was sent home.
func (c *Conn) wakeWriterLocked() {
	if c.inHandLocked() {
		return
	}
	c.out.awake = true
	if c.out.wake == nil {
		c.out.wake = make(chan struct{}, 1)
		go c.writeLoop(c.out.wake)
		return
	}
	c.out.wake <- struct{}{} // never blocks: one token, awake guards it
}

// dismissWriterLocked sends the writer goroutine home.
func (c *Conn) dismissWriterLocked() {
	if c.out.wake != nil {
		close(c.out.wake)
		c.out.wake = nil
	}
}

// flushLocked sends what a sender has appended. Whoever comes first writes for
// all, without waiting for the socket: that saves the switches to the writer
// goroutine, which gets what the socket has no room for. It lets go of the lock
// meanwhile.
func (c *Conn) flushLocked() {
	if c.inHandLocked() {
		return
	}
	if !c.ownWriteLocked() {
		c.wakeWriterLocked()
		return
	}
	c.out.awake = true
	if c.streams.n > 1 { // else nobody would share the write
		c.mu.Unlock()
		runtime.Gosched()
		c.mu.Lock()
	}
	if c.ownWriteLocked() {
		c.writeOwnLocked()
	}
	c.out.awake = false
	if len(c.out.b) > 0 || c.life.phase >= closing {
		c.wakeWriterLocked()
	}
}

// uncork sends what was appended while the reader was inside a batch: the
// answers to a hundred requests that came together leave together.
func (c *Conn) uncork() {
	c.out.corked.Store(false)
	c.mu.Lock()
	if len(c.out.b) > 0 {
		c.flushLocked()
	}
	c.mu.Unlock()
}

// ownWriteLocked reports whether a sender may write the buffer itself.
func (c *Conn) ownWriteLocked() bool {
	return c.sock != nil && len(c.out.b) <= maxOwnWrite && c.life.phase == active
}

// takeLocked takes the buffer, to write it. head is as in outbox.
func (c *Conn) takeLocked() (b []byte, head int) {
	b, head = c.out.b, c.out.head
	c.out.b, c.out.spare, c.out.head = c.out.spare[:0], nil, 0
	c.out.taken += uint64(len(b))
	c.out.replies = 0
	c.out.flushes++
	return b, head
}

// withdrawLocked takes back all frames that have not begun to leave: the streams
// of a connection that broke down are told at once, and one whose HEADERS have
// not left then is one that the peer must never see.
func (c *Conn) withdrawLocked() {
	c.out.begunOnly = true
	c.out.b = c.out.b[:c.out.head]
	left := c.out.end()
	c.streams.each(func(s *Stream) {
		if s.headEnd > left {
			s.headEnd = 0
		}
	})
}

// writeOwnLocked writes what the socket has room for.
func (c *Conn) writeOwnLocked() {
	b, head := c.takeLocked()
	alone := c.streams.n <= 1
	c.mu.Unlock()
	n := c.sock.tryWrite(b, alone)
	c.mu.Lock()
	if rest := b[n:]; len(rest) > 0 {
		c.out.taken -= uint64(len(rest))
		c.out.head = frame.Boundary(b, head, n) - n
		if c.out.begunOnly {
			rest = rest[:c.out.head]
		}
		c.out.b = append(append([]byte(nil), rest...), c.out.b...)
	}
	c.out.spare = b[:0]
	c.armQuietLocked()
}

// writeLoop is the writer goroutine. It ends when the connection is closing
// and everything is written, on the first error, or when wake is closed.
func (c *Conn) writeLoop(wake <-chan struct{}) {
	for ok := true; ok; _, ok = <-wake {
		runtime.Gosched()
		c.mu.Lock()
		for len(c.out.b) > 0 && c.life.writable() {
			if !c.writeLocked() {
				break
			}
		}
		c.out.awake = false
		c.armQuietLocked()
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
	b, _ := c.takeLocked()
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

// armQuietLocked has large buffers, and the writer goroutine, given up after a
// time without a write.
func (c *Conn) armQuietLocked() {
	if c.out.armed || c.life.phase >= closing || c.out.wake == nil && cap(c.out.b)+cap(c.out.spare) <= 2*keepBuffer {
		return
	}
	c.out.armed = true
	seen := c.out.flushes
	time.AfterFunc(quietTime, func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.out.armed = false
		if c.life.phase >= closing {
			return
		}
		if c.out.flushes != seen || c.out.awake {
			c.armQuietLocked()
			return
		}
		if len(c.out.b) == 0 {
			c.out.b = nil
		}
		c.out.spare = nil
		c.dismissWriterLocked()
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
