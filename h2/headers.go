// SPDX-License-Identifier: Apache-2.0

package h2

import (
	"strconv"

	"github.com/faultline-rpc/faultline/event"
	"github.com/faultline-rpc/faultline/h2/frame"
	"github.com/faultline-rpc/faultline/h2/hpack"
)

const (
	// blockMultiple bounds a header block on the wire, in multiples of
	// MaxHeaderListSize: up to it the stream is answered and the connection
	// lives; beyond it the peer is told to calm down (CVE-2023-45288).
	blockMultiple = 4
	// maxContinuations bounds the frames of one block.
	maxContinuations = 512
)

// onHeaders takes HEADERS (RFC 9113 section 6.2).
func (c *Conn) onHeaders(h frame.Header, p []byte) *ConnError {
	c.forgiven()
	p, _, ok := frame.Unpad(p, h.Flags)
	if !ok {
		return violation(codeProtocol, "HEADERS with more padding than payload")
	}
	self := h.Flags.Has(frame.WithPriority) && len(p) >= 4 && be32(p)&frame.MaxStreamID == h.Stream
	if p, ok = frame.StripPriority(p, h.Flags); !ok {
		return violation(codeProtocol, "HEADERS with more padding than payload")
	}
	end := h.Flags.Has(frame.EndStream)
	if h.Flags.Has(frame.EndHeaders) {
		return c.onBlock(h.Stream, p, end, self)
	}
	pend := &c.rd.pending
	if err := c.boundBlock(len(p)); err != nil {
		return err
	}
	*pend = pendingHeaders{stream: h.Stream, block: append(pend.block[:0], p...), end: end, self: self}
	return nil
}

func (c *Conn) boundBlock(n int) *ConnError {
	if limit := max(blockMultiple*int(c.cfg.MaxHeaderListSize), 64<<10); n > limit {
		err := violation(codeCalm, "header block of more than %d bytes", limit)
		err.Err = ErrHeaderBlock
		return err
	}
	return nil
}

func (c *Conn) onContinuation(h frame.Header, p []byte) *ConnError {
	pend := &c.rd.pending
	if pend.stream == 0 {
		return violation(codeProtocol, "CONTINUATION without a header block")
	}
	if pend.frames++; pend.frames > maxContinuations {
		err := violation(codeCalm, "header block in more than %d frames", maxContinuations)
		err.Err = ErrHeaderBlock
		return err
	}
	if len(p) == 0 {
		if err := c.wasteful(1, "empty CONTINUATION"); err != nil {
			return err
		}
	}
	if err := c.boundBlock(len(pend.block) + len(p)); err != nil {
		return err
	}
	pend.block = append(pend.block, p...)
	if !h.Flags.Has(frame.EndHeaders) {
		return nil
	}
	block, end, self := pend.block, pend.end, pend.self
	*pend = pendingHeaders{}
	return c.onBlock(h.Stream, block, end, self)
}

// onBlock takes a whole header block.
func (c *Conn) onBlock(id uint32, block []byte, end, self bool) *ConnError {
	b, err := c.rd.dec.Decode(block)
	if err != nil {
		return violation(codeCompression, "%v", err)
	}
	if c.server {
		return c.requestHeaders(id, b, end, self)
	}
	return c.responseHeaders(id, b, end)
}

// requestHeaders is a server's part: a new stream, or trailers.
func (c *Conn) requestHeaders(id uint32, b *Block, end, self bool) *ConnError {
	if id%2 == 0 {
		return violation(codeProtocol, "the client opened stream %d, whose id is even", id)
	}
	if id <= c.lastID { // the reader alone writes it
		return c.trailers(id, b, end)
	}
	ck := b.Check
	if ck.Kind != requestSection {
		ck = note(b, requestSection, checkRequest)
	}
	bad := ck.Bad
	switch {
	case self:
		bad = selfDependent
	case end && ck.Length > 0:
		bad = "the request ends before its content-length"
	}
	if bad != "" { // section 8.1.1
		return c.refuse(b, id, codeProtocol, bad)
	}
	c.mu.Lock()
	full := uint32(c.streams.n) >= c.cfg.MaxConcurrentStreams || len(c.out.b) >= maxBacklog
	retired := c.life.phase >= ending
	c.mu.Unlock()
	var s *Stream
	if !full && !retired {
		s = c.h.NewStream(b)
	}
	if s == nil || !c.accept(s, id, end) {
		return c.refuse(b, id, codeRefused, "")
	}
	s.recv.headers = true
	s.recv.length = ck.Length
	if c.cfg.Sink != nil {
		c.cfg.Sink.Record(event.StreamOpened{Conn: c.cfg.ConnID, Stream: id, Role: event.Server})
	}
	s.h.OnHeaders(b, end)
	return nil
}

// accept enters a stream that the peer opens. It returns false if the last
// GOAWAY of a drain went out since NewStream was asked.
func (c *Conn) accept(s *Stream, id uint32, end bool) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.life.phase >= ending {
		return false
	}
	c.lastID = id
	s.c, s.id = c, id
	c.startLocked(s)
	if end {
		s.receives.Store(0)
		s.state.receivedEnd()
	}
	return true
}

// refuse answers a request that opens no stream. One above the last id of our
// GOAWAY is dropped: the peer knows that it was not processed (section 6.8).
func (c *Conn) refuse(b *Block, id uint32, code Code, reason string) *ConnError {
	c.mu.Lock()
	c.lastID = id
	retired := c.life.phase >= ending
	var calm *ConnError
	if !retired {
		c.resets.add(id)
		calm = c.replyResetLocked(id, code)
	}
	c.mu.Unlock()
	if !retired {
		c.recordReset(id, true, code, reason)
		if c.cfg.Refused != nil {
			c.cfg.Refused(b, id, code, reason)
		}
	}
	switch {
	case calm != nil:
		return calm
	case reason != "":
		return c.wasteful(10, reason)
	}
	return c.wasteful(0.5, "streams that were refused")
}

// trailers takes a second header section of a request.
func (c *Conn) trailers(id uint32, b *Block, end bool) *ConnError {
	s, err := c.receiving(id, frame.Headers)
	if s == nil || err != nil {
		return err
	}
	if !end {
		return c.condemn(s, id, streamViolation(codeProtocol, "trailers without END_STREAM"))
	}
	return c.deliverTrailers(s, id, b)
}

func (c *Conn) deliverTrailers(s *Stream, id uint32, b *Block) *ConnError {
	ck := b.Check
	if ck.Kind != trailerSection {
		ck = note(b, trailerSection, checkTrailers)
	}
	if ck.Bad != "" {
		return c.condemn(s, id, streamViolation(codeProtocol, ck.Bad))
	}
	if s.recv.length >= 0 && s.recv.received != s.recv.length {
		return c.condemn(s, id, streamViolation(codeProtocol, "DATA does not add up to content-length"))
	}
	c.receivedEnd(s)
	s.h.OnHeaders(b, true)
	return nil
}

// responseHeaders is a client's part: interim responses are skipped, the final
// one and the trailers are delivered.
func (c *Conn) responseHeaders(id uint32, b *Block, end bool) *ConnError {
	s, err := c.receiving(id, frame.Headers)
	if s == nil || err != nil {
		return err
	}
	if s.recv.headers {
		if !end {
			return c.condemn(s, id, streamViolation(codeProtocol, "trailers without END_STREAM"))
		}
		return c.deliverTrailers(s, id, b)
	}
	ck := b.Check
	if ck.Kind != responseSection {
		ck = note(b, responseSection, checkResponse)
	}
	if ck.Bad != "" {
		return c.condemn(s, id, streamViolation(codeProtocol, ck.Bad))
	}
	status := ck.Status
	if status >= 100 && status < 200 {
		if end {
			return c.condemn(s, id, streamViolation(codeProtocol, "an interim response ends the stream"))
		}
		return c.wasteful(1, "interim responses")
	}
	s.recv.headers = true
	// A response to HEAD, or 204 or 304, has no body whatever its
	// content-length says; we send no HEAD.
	if s.recv.length = ck.Length; end && s.recv.length > 0 && status != 304 {
		return c.condemn(s, id, streamViolation(codeProtocol, "the response ends before its content-length"))
	}
	if end {
		c.receivedEnd(s)
	}
	s.h.OnHeaders(b, end)
	return nil
}

// What a header section is taken for.
const (
	requestSection uint8 = iota + 1
	responseSection
	trailerSection
)

// note holds a section against check, once if the block lasts. A section that
// was cut off at its limit is not judged: the floor above answers it.
func note(b *Block, kind uint8, check func(*Block) (status int, bad string)) hpack.Check {
	ck := hpack.Check{Kind: kind, Length: contentLength(b)}
	if ck.Status, ck.Bad = check(b); b.TooLarge {
		ck.Bad = ""
	}
	if b.Lasting {
		b.Check = ck
	}
	return ck
}

// checkRequest says what makes a request's header section malformed (RFC 9113
// sections 8.2 and 8.3), "" if nothing does. :authority is left to the floor
// above.
func checkRequest(b *Block) (_ int, bad string) {
	var method, scheme, path bool
	regular := false
	for i := range b.Fields {
		f := &b.Fields[i]
		if len(f.Name) == 0 || f.Name[0] != ':' {
			regular = true
			if bad := checkField(f); bad != "" {
				return 0, bad
			}
			continue
		}
		if regular {
			return 0, "a pseudo-header field after a regular one"
		}
		if bad := checkValue(f); bad != "" {
			return 0, bad
		}
		var seen *bool
		switch f.Name {
		case ":method":
			seen = &method
		case ":scheme":
			seen = &scheme
		case ":path":
			seen = &path
			if f.Value == "" {
				return 0, ":path is empty"
			}
		case ":authority":
			continue
		default:
			return 0, "unknown pseudo-header field " + strconv.Quote(f.Name)
		}
		if *seen {
			return 0, f.Name + " twice"
		}
		*seen = true
	}
	switch {
	case !method:
		return 0, ":method is missing"
	case !scheme:
		return 0, ":scheme is missing"
	case !path:
		return 0, ":path is missing"
	}
	return 0, ""
}

// checkResponse returns the status, and says what makes the section malformed.
func checkResponse(b *Block) (status int, bad string) {
	regular, seen := false, false
	for i := range b.Fields {
		f := &b.Fields[i]
		if len(f.Name) == 0 || f.Name[0] != ':' {
			regular = true
			if bad := checkField(f); bad != "" {
				return status, bad
			}
			continue
		}
		v := f.Value
		switch {
		case regular:
			return status, "a pseudo-header field after a regular one"
		case f.Name != ":status":
			return status, "unknown pseudo-header field " + strconv.Quote(f.Name)
		case seen:
			return status, ":status twice"
		// Any three digits: nginx says 000 where it takes a backend's HTTP/2 for
		// HTTP/0.9.
		case len(v) != 3 || !digit(v[0]) || !digit(v[1]) || !digit(v[2]):
			return status, ":status is no status code"
		}
		status, seen = int(v[0]-'0')*100+int(v[1]-'0')*10+int(v[2]-'0'), true
	}
	if !seen {
		return status, ":status is missing"
	}
	return status, ""
}

func digit(b byte) bool { return b >= '0' && b <= '9' }

func checkTrailers(b *Block) (_ int, bad string) {
	for i := range b.Fields {
		f := &b.Fields[i]
		if len(f.Name) > 0 && f.Name[0] == ':' {
			return 0, "a pseudo-header field in trailers"
		}
		if bad := checkField(f); bad != "" {
			return 0, bad
		}
	}
	return 0, ""
}

// checkField looks at a regular field: its name's characters, and the fields
// that speak of an HTTP/1.1 connection (section 8.2).
func checkField(f *hpack.Field) string {
	if len(f.Name) == 0 {
		return "a field without a name"
	}
	for i := 0; i < len(f.Name); i++ {
		if ch := f.Name[i]; ch <= ' ' || ch >= 0x7f || ch >= 'A' && ch <= 'Z' || ch == ':' {
			return "illegal character in a field name"
		}
	}
	if bad := checkValue(f); bad != "" {
		return bad
	}
	switch f.Name {
	case "connection", "proxy-connection", "keep-alive", "transfer-encoding", "upgrade":
		return "connection-specific field " + f.Name
	case "te":
		if f.Value != "trailers" {
			return "te other than trailers"
		}
	}
	return ""
}

// checkValue looks for the characters that no field's value may contain. Space
// at its ends, which RFC 9113 section 8.2.1 forbids as well, passes: metadata
// comes with it from other stacks, which may strip it but do not refuse it.
func checkValue(f *hpack.Field) string {
	for i := 0; i < len(f.Value); i++ {
		if ch := f.Value[i]; ch == 0 || ch == '\r' || ch == '\n' {
			return "illegal character in the value of " + f.Name
		}
	}
	return ""
}

// contentLength returns the section's content-length, -1 if there is none. One
// that is no number is as wrong as any, and so are two that differ.
func contentLength(b *Block) int64 {
	const wrong = 1<<63 - 1
	length := int64(-1)
	for i := range b.Fields {
		f := &b.Fields[i]
		if f.Name != "content-length" {
			continue
		}
		n, err := strconv.ParseUint(f.Value, 10, 63)
		if err != nil || length >= 0 && length != int64(n) {
			return wrong
		}
		length = int64(n)
	}
	return length
}
