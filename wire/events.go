// SPDX-License-Identifier: Apache-2.0

package wire

import (
	"strconv"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/faultline-rpc/faultline/fault"
	"github.com/faultline-rpc/faultline/h2"
)

// memo is this room's reading of a header section that lasts: it is made once
// and met again on the block.
type memo struct {
	request  *RequestHead
	response *ResponseHead
	trailer  *Trailer
}

// memoOf returns the memo of a block that lasts, nil of any other.
func memoOf(b *h2.Block) *memo {
	if !b.Lasting {
		return nil
	}
	m, ok := b.Memo.(*memo)
	if !ok {
		m = new(memo)
		b.Memo = m
	}
	return m
}

func responseOf(b *h2.Block) *ResponseHead {
	m := memoOf(b)
	if m != nil && m.response != nil {
		return m.response
	}
	h := ParseResponse(b)
	if m != nil {
		m.response = &h
	}
	return &h
}

func trailerOf(b *h2.Block, httpStatus int) *Trailer {
	m := memoOf(b)
	if m != nil && m.trailer != nil {
		return m.trailer
	}
	t := ParseTrailer(b, httpStatus)
	if m != nil && t.Fault == nil { // a fault may come from httpStatus, which is not in the block
		m.trailer = &t
	}
	return &t
}

func requestOf(b *h2.Block) *RequestHead {
	m := memoOf(b)
	if m != nil && m.request != nil {
		return m.request
	}
	h := ParseRequest(b)
	if m != nil {
		m.request = &h
	}
	return &h
}

// clientEvents is a ClientStream as its connection's reader sees it.
type clientEvents ClientStream

// OnHeaders takes response headers or trailers.
func (e *clientEvents) OnHeaders(b *h2.Block, end bool) {
	s := (*ClientStream)(e)
	if s.first != nil {
		s.onTrailers(trailerOf(b, s.first.HTTPStatus))
		return
	}
	h := responseOf(b)
	switch {
	case h.Fault != nil:
		s.fail(h.Fault, end)
	case end && (h.HasStatus || h.GRPC): // trailers-only
		t := trailerOf(b, h.HTTPStatus)
		if t.Fault != nil && !h.GRPC { // no gRPC, whatever it resembles
			s.fail(h.NotGRPC(nil), end)
			return
		}
		s.onTrailers(t)
	case end:
		s.fail(h.NotGRPC(nil), end)
	default:
		s.first = h
		if !h.GRPC {
			s.expectForeign()
		}
		if h.isGRPC() { // anything else is no answer yet: a call may still be retried
			s.setHead(h)
		}
	}
}

func (s *ClientStream) setHead(h *ResponseHead) {
	s.recv.mu.Lock()
	s.head, s.headAt = h, s.Conn().HeardAt()
	if s.headKnown != nil {
		close(s.headKnown)
		s.headKnown = nil
	}
	s.recv.unlock()
}

// isGRPC reports whether the answer's body consists of gRPC messages. An
// answer with an HTTP error but gRPC's content-type has none worth reading.
func (h *ResponseHead) isGRPC() bool { return h.GRPC && h.HTTPStatus == 200 }

// OnData takes the body.
func (e *clientEvents) OnData(p []byte, buf *h2.ReadBuf, end bool) {
	s := (*ClientStream)(e)
	if !s.first.isGRPC() {
		s.onForeignBody(p, end)
		return
	}
	credit, err := s.recv.data(p, buf, end)
	if f, ok := err.(*fault.Fault); ok {
		s.fail(f, end)
		return
	}
	if end {
		s.onEarlyEnd()
		return
	}
	if credit > 0 {
		s.Consumed(credit)
	}
}

// onEarlyEnd takes END_STREAM on DATA: "Response -> (Response-Headers
// *Length-Prefixed-Message Trailers) / Trailers-Only" (PROTOCOL-HTTP2).
func (s *ClientStream) onEarlyEnd() {
	s.recv.mu.Lock()
	defer s.recv.unlock()
	f := s.recv.truncatedLocked
	if !s.recv.partialLocked() {
		f = func() *fault.Fault {
			return fault.WireTrailersMissing.Newf(fault.Args{Side: fault.Between}, "the answer from %s ends without trailers", s.peer())
		}
	}
	s.endLocked(s.locatedLocked(f()))
}

// sampleSize bounds what is kept of the body of an answer that is no gRPC.
const sampleSize = 1024

// foreignTime is how long the body of an answer that is no gRPC is waited for.
// What it is is known from its headers; a page comes with them, and some never
// end.
const foreignTime = 250 * time.Millisecond

// foreign is an answer that is no gRPC.
type foreign struct {
	sample   []byte // the start of its body
	patience *time.Timer
}

// expectForeign begins to wait for the body of an answer that is no gRPC.
func (s *ClientStream) expectForeign() {
	s.recv.mu.Lock()
	defer s.recv.unlock()
	f := new(foreign)
	f.patience = time.AfterFunc(foreignTime, func() { s.enough(f) })
	s.foreign = f
}

// enough ends an answer that is no gRPC and has not ended by itself.
func (s *ClientStream) enough(f *foreign) {
	s.recv.mu.Lock()
	mine := s.foreign == f
	if mine {
		s.endLocked(s.locatedLocked(s.notGRPCLocked()))
	}
	s.recv.unlock()
	if mine { // a stream that failed is not used again
		s.Stream.Reset(h2.Cancel)
	}
}

// onForeignBody gathers a sample of an answer that is no gRPC.
func (s *ClientStream) onForeignBody(p []byte, end bool) {
	s.recv.mu.Lock()
	if s.foreign == nil && !s.recv.end { // an HTTP error with gRPC's content-type
		s.foreign = new(foreign)
	}
	full := false
	if f := s.foreign; f != nil {
		f.sample = append(f.sample, p[:min(len(p), sampleSize-len(f.sample))]...)
		full = len(f.sample) == sampleSize
	}
	s.recv.unlock()
	if end || full {
		s.fail(s.notGRPC(), end)
		return
	}
	s.Consumed(len(p))
}

func (s *ClientStream) notGRPCLocked() *fault.Fault {
	if s.foreign == nil {
		return s.first.NotGRPC(nil)
	}
	return s.first.NotGRPC(s.foreign.sample)
}

func (s *ClientStream) notGRPC() *fault.Fault {
	s.recv.mu.Lock()
	defer s.recv.unlock()
	return s.notGRPCLocked()
}

// OnClose takes every other end.
func (e *clientEvents) OnClose(err error) {
	s := (*ClientStream)(e)
	if s.first != nil && !s.first.isGRPC() { // whatever cut it off: what came is no gRPC
		s.finish(s.located(s.notGRPC()))
		return
	}
	s.finish(s.streamFault(err))
}

// fail ends the stream for a fault found here; the peer is told unless it has
// ended already.
func (s *ClientStream) fail(f *fault.Fault, ended bool) {
	if !ended {
		s.Stream.Reset(h2.Cancel)
	}
	s.finish(s.located(f))
}

// onTrailers takes the end of an answer.
func (s *ClientStream) onTrailers(t *Trailer) {
	s.recv.mu.Lock()
	defer s.recv.unlock()
	s.trailer = t
	var err error
	switch {
	case s.first != nil && !s.first.isGRPC() && t.Fault != nil && (!s.first.GRPC || fault.WireHTTPStatus.Is(t.Fault)):
		err = s.locatedLocked(s.notGRPCLocked())
	case t.Fault != nil:
		err = s.locatedLocked(t.Fault)
	case t.Code != codes.OK:
		err = s.statusLocked(t)
	case s.first != nil && !s.first.isGRPC() && (!s.first.GRPC || s.foreign != nil):
		// A success that nobody can read is none: the messages were dropped.
		err = s.locatedLocked(s.notGRPCLocked())
	case s.recv.partialLocked():
		err = s.locatedLocked(s.recv.truncatedLocked())
	}
	s.inOrder = true
	s.endLocked(err)
}

// finish ends the stream. A nil *fault.Fault must not come here.
func (s *ClientStream) finish(f *fault.Fault) {
	s.recv.mu.Lock()
	s.endLocked(f)
	s.recv.unlock()
}

// statusLocked is the fault for a status that the server sent: its words,
// unchanged.
func (s *ClientStream) statusLocked(t *Trailer) *fault.Fault {
	a := fault.Args{Code: t.Code, Message: t.Message, Evidence: s.evidenceLocked()}
	a.Evidence.Answered = true
	if int64(t.Code) >= int64(len(statusText)) { // the number says more than a name would
		a.Evidence.GRPCStatus = strconv.FormatUint(uint64(t.Code), 10)
	}
	if s.recv.got > 0 {
		a.Processed = fault.Yes
	}
	f := fault.Received(a, t.Trail)
	if t.Status != nil && len(t.Status.Details) > 0 {
		f = f.WithDetails(t.Status.Details)
	}
	return f
}
