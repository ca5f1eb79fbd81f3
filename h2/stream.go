// SPDX-License-Identifier: Apache-2.0

package h2

import (
	"sync/atomic"

	"github.com/faultline-rpc/faultline/event"
	"github.com/faultline-rpc/faultline/h2/frame"
)

// Stream is one HTTP/2 stream. It is meant to be embedded: the storage is the
// caller's. The zero value is ready for [Stream.Attach] and [Conn.Open].
//
// The storage may be used for another stream, after Attach, only if this side
// sent END_STREAM without an error and the handler's callback with end has
// returned: then nothing here refers to it any more. After any other end leave
// it to the garbage collector.
//
// The methods may be called from any goroutine once Open has returned, or from
// OnHeaders on.
type Stream struct {
	c  *Conn
	h  StreamHandler
	id uint32

	state state   // guarded by c.mu
	end   endKind // guarded by c.mu: how the stream ended before both sides had, if it did
	code  Code    // guarded by c.mu: of the RST_STREAM that ended it
	// receives is the id while the peer may send, 0 before and after: the
	// reader's look-up needs no lock. It stands here to fill a gap.
	receives   atomic.Uint32
	sendWindow window // guarded by c.mu
	wait       waiter // guarded by c.mu
	headEnd    uint64 // guarded by c.mu: outgoing position after HEADERS

	recv recvState // the reader's own
	// credit is what Consumed gathered and no WINDOW_UPDATE has told yet;
	// recvWindow is what the peer may still send.
	credit     atomic.Int32
	quota      span // guarded by c.mu: waited for, before it was open
	recvWindow atomic.Int64
}

// recvState is what the reader keeps of the receiving side.
type recvState struct {
	headers  bool  // the final header section has arrived
	length   int64 // content-length, -1 if none
	received int64 // DATA bytes so far
}

// Attach names the handler. It is called before Open, or in NewStream, and
// makes a used stream new.
func (s *Stream) Attach(h StreamHandler) {
	s.c, s.h, s.id = nil, h, 0
	s.state, s.end, s.code = idle, endNone, 0
	s.headEnd = 0
	s.recv = recvState{length: -1}
	s.credit.Store(0)
	s.wait.hasTurn, s.wait.stage = false, notWaiting
	s.wait.spent, s.quota = 0, 0
	if s.wait.ch != nil {
		select {
		case <-s.wait.ch:
		default:
		}
	}
}

// ID returns the stream's id; 0 before it is open.
func (s *Stream) ID() uint32 { return s.id }

// Conn returns the stream's connection; nil before it is open.
func (s *Stream) Conn() *Conn { return s.c }

// Sent reports whether the stream's HEADERS may have left this process. False
// is proof that the peer never saw the stream.
func (s *Stream) Sent() bool {
	c := s.c
	if c == nil {
		return false
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return s.headEnd != 0 && c.out.taken >= s.headEnd
}

// endKind is how a stream ended before both sides had ended it. What is known
// beyond that is kept where it takes no room in each stream.
type endKind uint8

const (
	endNone      endKind = iota
	endReset             // RST_STREAM from the peer
	endViolation         // RST_STREAM to the peer, which broke a rule
	endGoAway            // above the last id of the peer's GOAWAY
	endConn              // with its connection
)

// Cause says why the stream ended before both sides had ended it, nil if it did
// not or if this side reset it: what OnClose is told, or about to be, but for
// the text of a violation.
func (s *Stream) Cause() error {
	c := s.c
	if c == nil {
		return nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	switch s.end {
	case endReset:
		return &StreamError{By: Peer, Code: s.code}
	case endViolation:
		return &StreamError{By: Local, Code: s.code, Reason: "the peer broke a rule"}
	case endGoAway:
		return c.life.goAway
	case endConn:
		return c.life.err
	}
	return nil
}

// Open starts a stream with h, and with p as its first DATA if p is not empty;
// end closes our side. Everything that the windows allow goes out under one
// lock. Open waits while the peer's MAX_CONCURRENT_STREAMS are in use, and, for
// p, for window; p is the caller's again on return.
//
// Errors: *GoAwayError and *ConnError (nothing was sent), ErrHeaderList
// (nothing was sent); ErrDone if done was closed first: if some of p may have
// been sent the stream is open, and Reset ends it; ErrEnded if the stream ended
// before all of p was sent: its handler has been told why.
func (c *Conn) Open(s *Stream, h Header, p []byte, end bool, done <-chan struct{}) error {
	c.mu.Lock()
	if err := c.admitLocked(s, h, done); err != nil {
		c.mu.Unlock()
		return err
	}
	s.c, s.id = c, c.nextID
	c.nextID += 2
	c.startLocked(s)
	c.headersLocked(s, h, end && len(p) == 0)
	s.headEnd = c.out.end()
	err := error(nil)
	if len(p) > 0 {
		err = c.dataLocked(s, p, end, done)
	}
	if err == nil && end {
		c.endedLocked(s)
	}
	id := s.id // s may be in other use as soon as its end is sent and received
	c.flushLocked()
	c.mu.Unlock()
	if c.cfg.Sink != nil {
		c.cfg.Sink.Record(event.StreamOpened{Conn: c.cfg.ConnID, Stream: id, Role: c.role()})
	}
	return err
}

// admitLocked waits for a free stream and checks that one may be opened.
func (c *Conn) admitLocked(s *Stream, h Header, done <-chan struct{}) error {
	if err := c.life.openable(); err != nil {
		return err
	}
	if err := c.takeSlotLocked(s, done); err != nil {
		return err
	}
	if err := c.life.openable(); err != nil {
		return err
	}
	if c.nextID > frame.MaxStreamID {
		c.endLocked()
		return &GoAwayError{Local: true, Debug: errStreamIDs.Error()}
	}
	if c.peer.maxHeaderList > 0 && listSize(h) > c.peer.maxHeaderList {
		c.grantSlotsLocked()
		return ErrHeaderList
	}
	return nil
}

// startLocked enters s, whose id is set, into the connection.
func (c *Conn) startLocked(s *Stream) {
	s.state.start()
	s.sendWindow = window(c.peer.streamWindow)
	s.recvWindow.Store(int64(c.cfg.StreamWindow))
	if !c.peer.acked && c.cfg.StreamWindow < initialWindow {
		s.recvWindow.Store(initialWindow) // the peer does not know better yet
	}
	c.streams.put(s)
}

// WriteHeader sends a header section on an open stream: a server's response or
// trailers. end closes our side. It never waits.
func (s *Stream) WriteHeader(h Header, end bool) error {
	c := s.c
	c.mu.Lock()
	defer c.mu.Unlock()
	if !s.state.canSend() {
		return ErrEnded
	}
	if c.peer.maxHeaderList > 0 && listSize(h) > c.peer.maxHeaderList {
		return ErrHeaderList
	}
	c.headersLocked(s, h, end)
	if end {
		c.endedLocked(s)
		c.flushLocked()
	} else {
		c.wakeWriterLocked() // messages follow
	}
	return nil
}

// WriteData sends p as DATA, waiting for the windows and for room in the write
// buffer; end closes our side. p is the caller's again on return. It returns
// ErrEnded if the stream is over, ErrDone if done was closed first, in which
// case some of p may have been sent. Calls for one stream must not overlap.
func (s *Stream) WriteData(p []byte, end bool, done <-chan struct{}) error {
	c := s.c
	c.mu.Lock()
	err := c.dataLocked(s, p, end, done)
	if err == nil && end {
		c.endedLocked(s)
	}
	c.flushLocked()
	c.mu.Unlock()
	return err
}

// Respond sends a server's whole answer: h, p, and the trailers, under one lock
// as far as the windows allow.
func (s *Stream) Respond(h Header, p []byte, trailers Header, done <-chan struct{}) error {
	c := s.c
	c.mu.Lock()
	defer c.mu.Unlock()
	if !s.state.canSend() {
		return ErrEnded
	}
	if c.peer.maxHeaderList > 0 && max(listSize(h), listSize(trailers)) > c.peer.maxHeaderList {
		return ErrHeaderList
	}
	c.headersLocked(s, h, false)
	err := c.dataLocked(s, p, false, done)
	if err == nil {
		c.headersLocked(s, trailers, true)
		c.endedLocked(s)
	}
	c.flushLocked()
	return err
}

// headersLocked appends a header section: HEADERS, and CONTINUATION where the
// block exceeds the peer's frame size. Encoding under the lock keeps the HPACK
// table in step with the order on the wire.
func (c *Conn) headersLocked(s *Stream, h Header, end bool) {
	var flags frame.Flags
	if end {
		flags = frame.EndStream
		s.state.sentEnd()
	}
	c.sent++
	at := len(c.out.b)
	b := frame.AppendHeader(c.out.b, 0, frame.Headers, flags|frame.EndHeaders, s.id)
	b = c.peer.enc.Append(b, h.Fixed, h.Fields)
	n := len(b) - at - frame.HeaderLen
	if n <= c.peer.maxFrame {
		frame.PutHeader(b[at:], n, frame.Headers, flags|frame.EndHeaders, s.id)
		c.out.b = b
		return
	}
	block := append([]byte(nil), b[at+frame.HeaderLen:]...)
	b = b[:at]
	typ := frame.Headers
	for len(block) > 0 {
		k := min(len(block), c.peer.maxFrame)
		if k == len(block) {
			flags |= frame.EndHeaders
		}
		b = frame.AppendHeader(b, k, typ, flags, s.id)
		b = append(b, block[:k]...)
		block, typ, flags = block[k:], frame.Continuation, 0
	}
	c.out.b = b
}

// dataLocked appends p as DATA frames, waiting where it must, and letting go of
// the lock meanwhile. The caller settles the end of the stream.
func (c *Conn) dataLocked(s *Stream, p []byte, end bool, done <-chan struct{}) error {
	for {
		if !s.state.canSend() {
			c.endTurnLocked(s)
			return ErrEnded
		}
		if len(p) == 0 && !end {
			return nil // an empty frame would say nothing
		}
		if c.turns.idle() || s.wait.hasTurn || len(p) == 0 {
			p = c.fillLocked(s, p, end)
			c.endTurnLocked(s)
			if p == nil {
				return nil
			}
		}
		if err := c.awaitLocked(s, done); err != nil {
			return err
		}
	}
}

// fillLocked appends as much of p as may go now and returns the rest, nil if
// nothing is left.
func (c *Conn) fillLocked(s *Stream, p []byte, end bool) []byte {
	for {
		n := fit(min(len(p), c.peer.maxFrame, maxSendFrame), s.sendWindow, c.peer.connWindow)
		if len(p) > 0 && (n == 0 || c.out.full()) {
			return p
		}
		var flags frame.Flags
		if end && n == len(p) {
			flags = frame.EndStream
			s.state.sentEnd()
		}
		s.sendWindow -= window(n)
		c.peer.connWindow -= window(n)
		c.sent++
		c.out.b = append(frame.AppendHeader(c.out.b, n, frame.Data, flags, s.id), p[:n]...)
		if p = p[n:]; len(p) == 0 {
			return nil
		}
	}
}

// endedLocked settles what END_STREAM sent means: a closed stream goes; a
// server that has answered before the request ended tells the client to stop
// with RST_STREAM NO_ERROR (RFC 9113 section 8.1).
func (c *Conn) endedLocked(s *Stream) {
	switch {
	case s.state == closed:
		c.removeLocked(s)
	case c.server:
		c.resetLocked(s, codeNo)
	}
}

// Reset ends the stream at once with RST_STREAM. No OnClose follows. It does
// nothing if the stream is over.
func (s *Stream) Reset(code Code) {
	c := s.c
	if c == nil {
		return
	}
	c.mu.Lock()
	id := s.id
	if s.state == idle || s.state == closed || c.streams.get(id) != s {
		c.mu.Unlock()
		return
	}
	c.resetLocked(s, code)
	c.wakeWriterLocked()
	c.mu.Unlock()
	c.recordReset(id, true, code, "")
}

func (c *Conn) resetLocked(s *Stream, code Code) {
	c.out.b = frame.AppendRSTStream(c.out.b, s.id, code)
	c.resets.add(s.id)
	c.removeLocked(s)
}

// removeLocked takes s, which is over, off the connection.
func (c *Conn) removeLocked(s *Stream) {
	if !c.streams.del(s) {
		return
	}
	s.state.abort()
	c.releaseWaitLocked(s)
	if len(c.slots.q) > 0 {
		c.grantSlotsLocked()
	}
	c.closeIfDoneLocked()
}

// Consumed gives n bytes of the stream's receive window back to the peer: they
// were taken out of the buffer that the window bounds.
func (s *Stream) Consumed(n int) {
	c := s.c
	if !due(s.credit.Add(int32(n)), c.cfg.StreamWindow) {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if !s.state.canReceive() {
		return
	}
	if n := s.credit.Swap(0); n > 0 {
		s.recvWindow.Add(int64(n))
		c.out.b = frame.AppendWindowUpdate(c.out.b, s.id, uint32(n))
		c.wakeWriterLocked()
	}
}

// listSize is the size of a header section as RFC 9113 section 6.5.2 counts it.
func listSize(h Header) uint64 {
	n := uint64(0)
	if h.Fixed != nil {
		n = h.Fixed.Size()
	}
	for i := range h.Fields {
		n += uint64(h.Fields[i].Size())
	}
	return n
}
