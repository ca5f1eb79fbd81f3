// SPDX-License-Identifier: Apache-2.0

package wire

import (
	"encoding/binary"
	"errors"
	"io"
	"sync"
	"sync/atomic"

	"github.com/faultline-rpc/faultline/codec"
	"github.com/faultline-rpc/faultline/fault"
	"github.com/faultline-rpc/faultline/h2"
)

// ErrDone means that the done channel given to a waiting call was closed
// first. The caller knows why: cancellation, or the deadline.
var ErrDone = h2.ErrDone

// Message is one message received. Its memory is lent: Free gives it back,
// once, after which Data must not be touched.
type Message struct {
	Data []byte
	// Compressed is the flag of its prefix.
	Compressed bool
	// Decoded says that the receiver's [codec.Direct] has it; there is no Data.
	Decoded bool

	read  *h2.ReadBuf // where Data lies in the reader's own buffer
	chunk *chunk      // where it was gathered
}

// Free releases the message's memory. Freeing a zero Message does nothing.
func (m *Message) Free() {
	if m.read != nil {
		m.read.Release()
	}
	if m.chunk != nil {
		m.chunk.release()
	}
	*m = Message{}
}

// WireLength is the message's length as it was sent, prefix included.
func (m *Message) WireLength() int { return codec.PrefixLen + len(m.Data) }

// chunk is memory in which messages are gathered, one after the other, each
// contiguous with its prefix. What it holds is what was received, to the byte:
// a flood of tiny messages costs no more than its own length.
type chunk struct {
	buf  *codec.Buffer
	refs atomic.Int32
	off  int // of the next message not yet taken
}

var chunkPool = sync.Pool{New: func() any { return new(chunk) }}

func newChunk(n int) *chunk {
	c := chunkPool.Get().(*chunk)
	c.buf, c.off = codec.GetBuffer(n), 0
	c.refs.Store(1)
	return c
}

func (c *chunk) release() {
	if c.refs.Add(-1) == 0 {
		c.buf.Free()
		c.buf = nil
		chunkPool.Put(c)
	}
}

const (
	// smallChunk is the memory taken for messages that fit it.
	smallChunk = 2 << 10
	// maxDirect is the largest message that the reader decodes for a program that
	// waits: to hand it over would cost about as much.
	maxDirect = 2 << 10
	// trusted bounds what is taken for a message on the word of its prefix, from
	// a stream that has sent one as large. Else it is twice what has arrived: a
	// prefix that promises much costs its sender as much.
	trusted = 64 << 10
)

// receiver assembles the messages of one stream (gRPC over HTTP/2,
// Length-Prefixed-Message) from DATA of any boundaries.
//
//  1. The reader calls data: a message that lies whole in the read buffer,
//     with none waiting before it, is lent as it is; any other is gathered in
//     chunks.
//  2. The program calls take, which waits for a message or the end.
//  3. The stream's window is given back as messages are taken. The bytes of a
//     message that is still coming are given back as they come if nothing is
//     waiting before it, so that a message may exceed the window.
type receiver struct {
	// Set before data comes.
	limit   codec.Limit
	account *account     // charged with the bytes that wait; nil is unlimited
	garbage *fault.Entry // what bytes that are no messages are

	// taking is held by the program while it takes a message. Programs may not
	// have two goroutines do so at once; those that do get one message each.
	taking sync.Mutex

	mu sync.Mutex
	// whole makes the program's waits end at the end of the stream only, where
	// one message is due.
	whole    bool                  // guarded by mu
	prefix   [codec.PrefixLen]byte // guarded by mu: of a message whose prefix is still coming
	have     uint8                 // guarded by mu: bytes in prefix
	hasLent  bool                  // guarded by mu
	end      bool                  // guarded by mu
	waiting  bool                  // guarded by mu
	due      bool                  // guarded by mu: unlock has to wake the program
	decoded  bool                  // guarded by mu; the program's own after it was woken for it
	ready    int32                 // guarded by mu: whole messages in chunks
	trust    int32                 // guarded by mu: the largest message received so far, as far as it counts
	advanced uint32                // guarded by mu: bytes of the first message whose window was given back before it was taken, modulo 2^32
	need     int                   // guarded by mu: bytes of the message in assembly that are still to come
	lent     Message               // guarded by mu: the first in line, if hasLent
	target   codec.Direct          // guarded by mu: while the program waits, where it wants the message
	chunks   []*chunk              // guarded by mu
	arrived  int                   // guarded by mu: bytes of the message in assembly
	got      int64                 // guarded by mu: messages received
	queued   int64                 // guarded by mu: bytes that wait, each charged to the account
	err      error                 // guarded by mu: why there will be no more messages; nil at a clean end
	wake     chan struct{}
}

// reset makes a receiver new. The wake channel, which is empty, is kept.
func (r *receiver) reset() {
	r.limit, r.account, r.garbage, r.whole = codec.Limit{}, nil, nil, false
	r.have, r.need, r.trust = 0, 0, 0
	r.lent, r.hasLent = Message{}, false
	r.chunks = r.chunks[:0]
	r.ready, r.advanced, r.arrived, r.got, r.queued = 0, 0, 0, 0, 0
	r.end, r.err, r.waiting, r.decoded = false, nil, false, false
}

// data takes payload bytes, which lie in buf; last says that none follow. It
// returns how many bytes of the window to give back at once; or what is wrong
// with the bytes: a *fault.Fault, or errOverBudget. Nothing waits of a
// stream that has ended, or whose bytes exceed the budget.
func (r *receiver) data(p []byte, buf *h2.ReadBuf, last bool) (credit int, err error) {
	r.mu.Lock()
	defer r.unlock()
	if r.end {
		return 0, nil // nobody will take it
	}
	if r.need == 0 && r.have == 0 {
		credit = r.decodeLocked(p)
		p = p[credit:] // what does not wait is not charged
	}
	if len(p) > 0 && !r.account.take(len(p)) {
		return credit, errOverBudget
	}
	r.queued += int64(len(p))
	for len(p) > 0 {
		if r.need == 0 && r.have == 0 {
			if n := r.lendLocked(p, buf, last); n > 0 {
				p = p[n:]
				continue
			}
		}
		first := r.ready == 0 && !r.hasLent
		n, f := r.gatherLocked(p)
		if f != nil {
			return 0, f
		}
		if first {
			credit += n
			r.advanced += uint32(n)
		}
		p = p[n:]
	}
	if r.whole && r.got > 1 {
		// Whoever waits takes none before the end, so a peer that goes on would
		// find the window closed, and wait for ever.
		return 0, severalMessages(r.got)
	}
	if r.waiting && !r.whole && (r.decoded || r.hasLent || r.ready > 0) {
		r.signalLocked()
	}
	return credit, nil
}

// errOverBudget says that the bytes waiting exceed what the [Budget] leaves the
// connection.
var errOverBudget = errors.New("wire: over budget")

func severalMessages(n int64) *fault.Fault {
	return fault.WireCardinality.Newf(fault.Args{Side: fault.Remote}, "%d messages came, want exactly one", n)
}

// decodeLocked decodes the message at p's front for the program that waits for
// it, if it is whole, small and first in line. It returns the message's length
// with its prefix, 0 if it goes another way.
func (r *receiver) decodeLocked(p []byte) int {
	if !r.waiting || !r.target.Wanted() || r.hasLent || len(r.chunks) > 0 || len(p) < codec.PrefixLen {
		return 0
	}
	n := binary.BigEndian.Uint32(p[1:])
	total := codec.PrefixLen + int(n)
	if p[0] != 0 || n > maxDirect || int64(n) > int64(r.limit.Bytes) || len(p) < total || !r.target.Decode(p[codec.PrefixLen:total]) {
		return 0
	}
	r.target, r.decoded = codec.Direct{}, true
	r.got++
	return total
}

// lendLocked lends the message at p's front, if it is whole and first in line.
// It returns the message's length with its prefix, 0 if it has to be gathered.
func (r *receiver) lendLocked(p []byte, buf *h2.ReadBuf, last bool) int {
	if r.hasLent || len(r.chunks) > 0 || len(p) < codec.PrefixLen {
		return 0
	}
	n := binary.BigEndian.Uint32(p[1:])
	total := codec.PrefixLen + int(n)
	if p[0] > 1 || int64(n) > int64(r.limit.Bytes) || len(p) < total {
		return 0
	}
	if taken := r.waiting || r.whole && last; !taken && total < buf.Cap()/8 {
		return 0 // it may wait for long: a few bytes must not hold a large buffer
	}
	buf.Retain()
	r.lent = Message{Data: p[codec.PrefixLen:total:total], Compressed: p[0] == 1, read: buf}
	r.hasLent = true
	r.got++
	return total
}

// gatherLocked copies the next piece of a message into a chunk and returns its length.
func (r *receiver) gatherLocked(p []byte) (int, *fault.Fault) {
	if r.need == 0 {
		n := copy(r.prefix[r.have:], p)
		if r.have += uint8(n); r.have < codec.PrefixLen {
			r.arrived = int(r.have)
			return n, nil
		}
		if f := r.startLocked(len(p) - n); f != nil {
			return n, f
		}
		r.arrived = codec.PrefixLen
		r.have = 0
		r.finishLocked()
		return n, nil
	}
	n := min(len(p), r.need)
	c := r.chunks[len(r.chunks)-1]
	if free := cap(c.buf.B) - len(c.buf.B); free < n {
		c = r.growLocked(n)
	}
	c.buf.B = append(c.buf.B, p[:n]...)
	r.need -= n
	r.arrived += n
	r.finishLocked()
	return n, nil
}

// remedyUnframed is for a body that claims to be gRPC's and is not.
const remedyUnframed = "The other side, or a proxy between, writes a body without gRPC's framing (a flag byte and a length of four bytes before each message) under content-type application/grpc: " +
	"a web page, JSON, or bare protobuf. Let it frame its messages, which every gRPC library does by itself, or correct its content-type and find out what it serves in place of gRPC."

// startLocked judges the prefix and makes room for its message, of which here
// bytes have come.
func (r *receiver) startLocked(here int) *fault.Fault {
	if r.prefix[0] > 1 {
		return r.garbage.Newf(fault.Args{Side: fault.Remote},
			"a message's prefix starts with %#02x, want 0 or 1: these are no length-prefixed messages", r.prefix[0]).WithRemedy(remedyUnframed)
	}
	n := binary.BigEndian.Uint32(r.prefix[1:])
	if int64(n) > int64(r.limit.Bytes) {
		return r.limit.Exceeded(codec.Received, int64(n))
	}
	r.need = int(n)
	total := codec.PrefixLen + r.need
	if k := len(r.chunks); k == 0 || cap(r.chunks[k-1].buf.B)-len(r.chunks[k-1].buf.B) < total {
		r.chunks = append(r.chunks, newChunk(max(smallChunk, min(total, max(2*(codec.PrefixLen+here), int(r.trust))))))
	}
	c := r.chunks[len(r.chunks)-1]
	c.buf.B = append(c.buf.B, r.prefix[:]...)
	return nil
}

// growLocked moves the message in assembly to a chunk with room for n more
// bytes, and for as much again.
func (r *receiver) growLocked(n int) *chunk {
	k := len(r.chunks) - 1
	old := r.chunks[k]
	start := len(old.buf.B) - r.arrived
	next := newChunk(min(r.arrived+r.need, max(2*r.arrived, r.arrived+n)))
	next.buf.B = append(next.buf.B, old.buf.B[start:]...)
	if old.off == start { // nothing else waits in it
		r.chunks[k] = next
		old.release()
	} else {
		old.buf.B = old.buf.B[:start]
		r.chunks = append(r.chunks, next)
	}
	return next
}

// finishLocked counts the message in assembly if it is whole.
func (r *receiver) finishLocked() {
	if r.need == 0 {
		r.trust = max(r.trust, int32(min(r.arrived, trusted)))
		r.arrived = 0
		r.ready++
		r.got++
	}
}

// popLocked takes the first message, and returns how much of the window to
// give back for it and for what has come of the one behind it.
func (r *receiver) popLocked() (m Message, credit int) {
	if r.hasLent {
		m, r.lent, r.hasLent = r.lent, Message{}, false
	} else {
		c := r.chunks[0]
		for c.off == len(c.buf.B) { // nothing waits in it any more
			r.dropLocked()
			c = r.chunks[0]
		}
		p := c.buf.B[c.off:]
		total := codec.PrefixLen + int(binary.BigEndian.Uint32(p[1:]))
		m = Message{Data: p[codec.PrefixLen:total:total], Compressed: p[0] == 1, chunk: c}
		c.refs.Add(1)
		c.off += total
		r.ready--
		if c.off == len(c.buf.B) && (len(r.chunks) > 1 || r.need == 0) {
			r.dropLocked()
		}
	}
	credit = int(uint32(m.WireLength()) - r.advanced) // no window is as large
	r.queued -= int64(m.WireLength())
	r.account.give(int64(m.WireLength()))
	r.advanced = 0
	if r.ready == 0 && !r.hasLent && r.arrived > 0 {
		credit += r.arrived
		r.advanced = uint32(r.arrived)
	}
	return m, credit
}

func (r *receiver) dropLocked() {
	r.chunks[0].release()
	n := copy(r.chunks, r.chunks[1:])
	r.chunks[n] = nil
	r.chunks = r.chunks[:n]
}

// take waits for a message, the end (io.EOF or the stream's error), or done.
// credit is window to give back.
func (r *receiver) take(done <-chan struct{}, into codec.Direct) (m Message, credit int, err error) {
	r.taking.Lock()
	defer r.taking.Unlock()
	r.mu.Lock()
	for {
		if r.hasLent || r.ready > 0 {
			m, credit = r.popLocked()
			r.unlock()
			return m, credit, nil
		}
		if r.end {
			err = r.err
			r.unlock()
			if err == nil {
				err = io.EOF
			}
			return Message{}, 0, err
		}
		r.target = into
		woken := r.sleepLocked(done)
		if r.decoded {
			r.decoded = false
			return Message{Decoded: true}, 0, nil
		}
		r.mu.Lock()
		if r.target = (codec.Direct{}); !woken {
			r.unlock()
			return Message{}, 0, ErrDone
		}
	}
}

// waitLocked waits for a signal, letting go of the lock meanwhile. It reports
// false if done was closed first.
func (r *receiver) waitLocked(done <-chan struct{}) bool {
	woken := r.sleepLocked(done)
	r.mu.Lock()
	return woken
}

// sleepLocked is waitLocked without taking the lock again.
func (r *receiver) sleepLocked(done <-chan struct{}) bool {
	if r.wake == nil {
		r.wake = make(chan struct{}, 1)
	}
	r.waiting = true
	ch := r.wake
	r.unlock()
	if done == nil {
		<-ch // much cheaper than a select
		return true
	}
	select {
	case <-ch:
		return true
	case <-done:
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.waiting { // the signal crossed with done
		<-ch
		return true
	}
	r.waiting = false
	return false
}

// signalLocked has unlock wake the program that waits.
func (r *receiver) signalLocked() {
	r.waiting = false
	r.due = true
}

// unlock releases mu, and then wakes the program if that is due: it would run
// into the lock otherwise. The wake is the last act of a reader's callback that
// touches a stream which may be reused right after.
func (r *receiver) unlock() {
	due, ch := r.due, r.wake
	r.due = false
	r.mu.Unlock()
	if due {
		ch <- struct{}{} // one waiter, one token: never blocks
	}
}

// finishUnderLock ends the stream: err is nil at a clean end. The first end counts.
func (r *receiver) finishUnderLock(err error) {
	if r.end {
		return
	}
	r.end, r.err = true, err
	if r.waiting {
		r.signalLocked()
	}
}

// partialLocked reports whether a message has begun and not ended.
func (r *receiver) partialLocked() bool { return r.need > 0 || r.have > 0 }

// discard releases everything that waits, on a stream that has ended.
func (r *receiver) discard() {
	r.mu.Lock()
	r.discardLocked()
	r.unlock()
}

func (r *receiver) discardLocked() {
	if r.hasLent {
		r.lent.Free()
		r.hasLent = false
	}
	for len(r.chunks) > 0 {
		r.dropLocked()
	}
	r.ready, r.need, r.have, r.arrived = 0, 0, 0, 0
	r.account.give(r.queued)
	r.queued = 0
}

// abort ends the stream and releases everything that waits.
func (r *receiver) abort(err error) {
	r.mu.Lock()
	r.abortLocked(err)
	r.unlock()
}

func (r *receiver) abortLocked(err error) {
	if r.end && r.err == nil && (r.hasLent || r.ready > 0) {
		r.err = err // messages are lost: the end is no clean one
	}
	r.discardLocked()
	r.finishUnderLock(err)
}

// truncatedLocked is a stream that ended with a message half sent.
func (r *receiver) truncatedLocked() *fault.Fault {
	a := fault.Args{Side: fault.Remote}
	if r.need == 0 {
		return fault.WireTruncated.Newf(a, "the stream ends inside a message: %d of the %d bytes of its prefix came", r.have, codec.PrefixLen)
	}
	came := r.arrived - codec.PrefixLen
	return fault.WireTruncated.Newf(a, "the stream ends inside a message: %d of its %d bytes came", came, came+r.need)
}
