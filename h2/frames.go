// SPDX-License-Identifier: Apache-2.0

package h2

import (
	"github.com/faultline-rpc/faultline/event"
	"github.com/faultline-rpc/faultline/h2/frame"
)

// onFrame takes one frame with its payload; of a padded DATA frame, only the
// length of the padding.
func (c *Conn) onFrame(h frame.Header, p []byte) *ConnError {
	switch h.Type {
	case frame.Data:
		return c.onData(h, int(p[0])+1)
	case frame.Headers:
		return c.onHeaders(h, p)
	case frame.Continuation:
		return c.onContinuation(h, p)
	case frame.RSTStream:
		return c.onReset(h.Stream, frame.ResetCode(p))
	case frame.Settings:
		return c.onSettings(h, p)
	case frame.Ping:
		return c.onPing(h, p)
	case frame.GoAway:
		return c.onGoAway(p)
	case frame.WindowUpdate:
		return c.onWindowUpdate(h, p)
	case frame.PushPromise:
		// "A client cannot push"; and we announced ENABLE_PUSH 0 (section 8.4).
		return violation(codeProtocol, "PUSH_PROMISE, which was not allowed")
	case frame.Priority:
		return c.onPriority(h, p)
	}
	return c.wasteful(1, h.Type.String()) // unknown types are ignored (section 4.1)
}

// onData takes a DATA frame's header. pad is the padding's length with its
// length field, which has been consumed already if pad is not 0.
func (c *Conn) onData(h frame.Header, pad int) *ConnError {
	r := &c.rd
	n := int(h.Length)
	if pad > n {
		return violation(codeProtocol, "DATA with more padding than payload")
	}
	if r.window -= int64(n); r.window < 0 {
		return violation(codeFlow, "DATA exceeds the connection's window by %d bytes", -r.window)
	}
	r.credit += uint32(n)
	c.forgiven()
	end := h.Flags.Has(frame.EndStream)
	if n-pad == 0 && !end {
		if err := c.wasteful(1, "empty DATA"); err != nil {
			return err
		}
	}
	s, err := c.receiving(h.Stream, frame.Data)
	if err != nil {
		return err
	}
	if s != nil {
		if serr := s.charge(n, n-pad, end); serr != nil {
			if err := c.condemn(s, h.Stream, serr); err != nil {
				return err
			}
			s = nil
		}
	}
	if s != nil && pad > 0 {
		s.Consumed(pad)
	}
	r.data = pendingData{s: s, rest: n - pad, end: end, open: true}
	if pad > 0 {
		r.data.pad = pad - 1
	}
	return nil
}

// charge checks a DATA frame of n bytes, payload of them data, against the
// stream's window and content-length.
func (s *Stream) charge(n, payload int, end bool) *StreamError {
	if s.recvWindow.Add(int64(-n)) < 0 && n > 0 { // it is below 0 if SETTINGS lowered it
		return streamViolation(codeFlow, "DATA exceeds the stream's window")
	}
	if !s.recv.headers {
		return streamViolation(codeProtocol, "DATA before HEADERS")
	}
	s.recv.received += int64(payload)
	if l := s.recv.length; l >= 0 && (s.recv.received > l || end && s.recv.received != l) {
		return streamViolation(codeProtocol, "DATA does not add up to content-length")
	}
	return nil
}

// feedData takes what has come of the DATA frame under way and returns the
// bytes after it.
func (c *Conn) feedData(b []byte) []byte {
	d := &c.rd.data
	n := min(d.rest, len(b))
	last := n == d.rest
	if s := d.s; s != nil && (n > 0 || last && d.end) {
		end := last && d.end
		if end {
			c.receivedEnd(s)
		}
		s.h.OnData(b[:n], c.rd.buf, end)
		if end {
			d.s = nil
		}
	}
	d.rest -= n
	b = b[n:]
	if !last {
		return b
	}
	k := min(d.pad, len(b))
	d.pad -= k
	if d.pad == 0 {
		*d = pendingData{}
	}
	return b[k:]
}

// receiving finds the stream for a DATA, HEADERS or CONTINUATION frame. nil
// without an error means that the frame is to be dropped.
func (c *Conn) receiving(id uint32, typ frame.Type) (*Stream, *ConnError) {
	if s := c.streams.peek(id); s != nil {
		return s, nil
	}
	c.mu.Lock()
	s := c.streams.get(id)
	if s != nil && s.state.canReceive() {
		c.mu.Unlock()
		return s, nil
	}
	idleStream := c.idleLocked(id)
	ours := c.resets.has(id) || c.server && id > c.life.lastGoAway
	c.mu.Unlock()
	switch {
	case idleStream:
		return nil, violation(codeProtocol, "%v on stream %d, which is idle", typ, id)
	case s != nil: // half-closed (remote): section 5.1 asks for STREAM_CLOSED
		return nil, c.condemn(s, id, streamViolation(codeClosed, typ.String()+" after END_STREAM"))
	case ours: // it was under way when we reset the stream
		if typ != frame.Data { // which flow control bounds
			return nil, c.wasteful(0.25, typ.String()+" on a stream that was reset")
		}
		return nil, nil
	}
	// Closed by both sides, or reset by the peer. HEADERS there is a connection
	// error; DATA may be late, and is answered on the stream.
	if typ != frame.Data {
		return nil, violation(codeClosed, "%v on stream %d, which is closed", typ, id)
	}
	return nil, c.rebuff(id, codeClosed, "DATA on a closed stream")
}

// rebuff answers what came on a closed stream by RST_STREAM.
func (c *Conn) rebuff(id uint32, code Code, reason string) *ConnError {
	if err := c.wasteful(10, reason); err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.resets.add(id)
	return c.replyResetLocked(id, code)
}

// idleLocked reports whether no stream id was ever opened.
func (c *Conn) idleLocked(id uint32) bool {
	if id%2 == 0 {
		return true // pushes are refused: even ids stay idle for ever
	}
	if c.server {
		return id > c.lastID
	}
	return id >= c.nextID
}

// receivedEnd settles END_STREAM received. It comes before the handler hears
// of it: the handler's owner may reuse s right after.
func (c *Conn) receivedEnd(s *Stream) {
	s.receives.Store(0)
	c.mu.Lock()
	s.state.receivedEnd()
	switch {
	case s.state == closed:
		c.removeLocked(s)
	case !c.server && s.state == halfClosedRemote:
		// The server has answered and is not interested in the rest.
		c.resetLocked(s, codeNo)
		c.wakeWriterLocked()
	}
	c.mu.Unlock()
}

// condemn ends stream id for a violation of the peer's. s was its storage when
// the lock was last held: the stream may be over since, and s in other use.
func (c *Conn) condemn(s *Stream, id uint32, err *StreamError) *ConnError {
	var calm *ConnError
	c.mu.Lock()
	alive := c.streams.get(id) == s
	if alive {
		c.resetLocked(s, err.Code)
		c.wakeWriterLocked()
		calm = c.replyLocked(frame.HeaderLen + 4)
	}
	c.mu.Unlock()
	if alive {
		c.recordReset(id, true, err.Code, err.Reason)
		s.h.OnClose(err)
	}
	if calm != nil {
		return calm
	}
	return c.wasteful(10, err.Reason)
}

func (c *Conn) recordReset(id uint32, local bool, code Code, reason string) {
	if c.cfg.Sink != nil {
		c.cfg.Sink.Record(event.StreamReset{Conn: c.cfg.ConnID, Stream: id, Local: local, Code: code.String(), Reason: reason})
	}
}

func (c *Conn) onReset(id uint32, code Code) *ConnError {
	c.mu.Lock()
	s := c.streams.get(id)
	if s == nil {
		idleStream := c.idleLocked(id)
		c.mu.Unlock()
		if idleStream {
			return violation(codeProtocol, "RST_STREAM on stream %d, which is idle", id)
		}
		return nil // it crossed with our END_STREAM or RST_STREAM
	}
	err := &StreamError{By: Peer, Code: code}
	s.end, s.code = endReset, code
	c.removeLocked(s)
	c.mu.Unlock()
	c.recordReset(id, false, code, "")
	s.h.OnClose(err)
	if c.server { // CVE-2023-44487; a storm of expired deadlines stays far below
		return c.wasteful(0.25, "streams that were reset")
	}
	return nil
}

func (c *Conn) onWindowUpdate(h frame.Header, p []byte) *ConnError {
	n := int64(frame.WindowIncrement(p))
	if h.Stream == 0 {
		if n == 0 {
			return violation(codeProtocol, "WINDOW_UPDATE with an increment of 0")
		}
		c.mu.Lock()
		ok := c.peer.connWindow.add(n)
		c.passTurnLocked()
		c.mu.Unlock()
		if !ok {
			return violation(codeFlow, "the connection's window exceeds 2^31-1")
		}
		return nil
	}
	c.mu.Lock()
	s := c.streams.get(h.Stream)
	if s == nil {
		idleStream := c.idleLocked(h.Stream)
		c.mu.Unlock()
		if idleStream {
			return violation(codeProtocol, "WINDOW_UPDATE on stream %d, which is idle", h.Stream)
		}
		return nil // credit for data whose stream has ended since
	}
	ok := s.sendWindow.add(n)
	c.unblockLocked(s)
	c.mu.Unlock()
	if n == 0 {
		return c.condemn(s, h.Stream, streamViolation(codeProtocol, "WINDOW_UPDATE with an increment of 0"))
	}
	if !ok {
		return c.condemn(s, h.Stream, streamViolation(codeFlow, "the stream's window exceeds 2^31-1"))
	}
	return nil
}

// unblockLocked queues s for a turn if it waited for window and has some now.
func (c *Conn) unblockLocked(s *Stream) {
	if s.wait.blocked && s.sendWindow > 0 {
		s.wait.blocked = false
		c.turns.push(s)
		c.passTurnLocked()
	}
}

// onPriority checks a frame that RFC 9113 section 5.3 deprecates.
func (c *Conn) onPriority(h frame.Header, p []byte) *ConnError {
	if len(p) != frame.PriorityLen { // "a stream error of type FRAME_SIZE_ERROR" (section 6.3)
		return c.condemnID(h.Stream, streamViolation(codeFrameSize, "PRIORITY of the wrong length"))
	}
	if be32(p)&frame.MaxStreamID == h.Stream {
		return c.condemnID(h.Stream, streamViolation(codeProtocol, selfDependent))
	}
	return c.wasteful(1, "PRIORITY")
}

// selfDependent is RFC 7540 section 5.3.1's only rule on priorities that a
// receiver enforces; RFC 9113 dropped it with the rest.
const selfDependent = "the stream depends on itself"

// condemnID ends a stream that may not be open. RST_STREAM on an idle stream
// would be a violation itself (section 6.4).
func (c *Conn) condemnID(id uint32, err *StreamError) *ConnError {
	c.mu.Lock()
	s := c.streams.get(id)
	idleStream := c.idleLocked(id)
	ours := c.resets.has(id) || c.server && id > c.life.lastGoAway
	c.mu.Unlock()
	switch {
	case s != nil:
		return c.condemn(s, id, err)
	case idleStream:
		return violation(err.Code, "%s", err.Reason)
	case ours: // it was under way when we reset the stream
		return c.wasteful(10, err.Reason)
	}
	return c.rebuff(id, err.Code, err.Reason)
}
