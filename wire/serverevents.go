// SPDX-License-Identifier: Apache-2.0

package wire

import (
	"errors"

	"google.golang.org/grpc/codes"

	"github.com/faultline-rpc/faultline/fault"
	"github.com/faultline-rpc/faultline/h2"
)

// serverEvents is a ServerStream as its connection's reader sees it.
type serverEvents ServerStream

// OnHeaders takes the request's headers, or its trailers, which gRPC does not
// have and which only end it.
func (e *serverEvents) OnHeaders(b *h2.Block, end bool) {
	s := (*ServerStream)(e)
	if s.head != nil {
		s.requestEnd()
		return
	}
	s.head = requestOf(b)
	if s.head.Refusal != nil {
		s.refuse(s.head.Refusal)
		return
	}
	s.mode = s.c.h.Open(s)
	s.recv.limit = s.MaxRecv
	switch s.mode {
	case Now:
		s.c.h.Dispatch(s)
	case Whole:
		s.whole, s.recv.whole = true, true
	}
	if end {
		s.requestEnd()
	}
}

// OnData takes the request's messages.
func (e *serverEvents) OnData(p []byte, buf *h2.ReadBuf, end bool) {
	s := (*ServerStream)(e)
	if s.mode == Refused {
		return
	}
	if !s.c.budget.take(len(p)) {
		s.c.budget.give(int64(len(p)))
		s.mode = Refused
		s.drop()
		s.c.h.Overloaded(s)
		return
	}
	before := s.queued()
	credit, f := s.recv.data(p, buf)
	if s.queued() == before { // nobody takes it any more
		s.c.budget.give(int64(len(p)))
	}
	if f != nil {
		s.badRequest(f)
		return
	}
	if credit > 0 && !end {
		s.Consumed(credit)
	}
	if end {
		s.requestEnd()
	}
}

func (s *ServerStream) queued() int64 {
	if s.c.budget == nil {
		return -1
	}
	s.recv.mu.Lock()
	defer s.recv.mu.Unlock()
	return s.recv.queued
}

// badRequest ends the request for what is wrong with its framing or size: the
// handler, or the dispatcher in its place, learns it from Recv.
func (s *ServerStream) badRequest(f *fault.Fault) {
	f = f.WithEvidence(mergeEvidence(f.Evidence(), s.evidence())).WithProcessed(fault.No)
	whole := s.mode == Whole
	s.recv.finish(f)
	s.mode = Refused
	if whole {
		s.c.h.Dispatch(s)
	}
}

func mergeEvidence(ev fault.Evidence, at *fault.Evidence) fault.Evidence {
	ev.Method, ev.Stream, ev.Address, ev.Network, ev.Local = at.Method, at.Stream, at.Address, at.Network, at.Local
	return ev
}

// requestEnd is the client's END_STREAM.
func (s *ServerStream) requestEnd() {
	mode := s.mode
	if mode == Refused {
		return
	}
	s.recv.mu.Lock()
	var err error
	if s.recv.partialLocked() {
		err = truncated(fault.Args{Processed: fault.No, Evidence: s.evidence()})
	}
	s.recv.finishUnderLock(err)
	s.recv.mu.Unlock()
	if mode == Whole {
		s.c.h.Dispatch(s)
	}
}

// OnClose says that the client gave the call up, or that its connection is gone.
func (e *serverEvents) OnClose(err error) {
	s := (*ServerStream)(e)
	f := s.closeFault(err)
	s.recv.mu.Lock()
	if s.recv.end && s.recv.err == nil {
		s.recv.err = f // the request was complete: what can still fail is the answer
	} else {
		s.recv.finishUnderLock(f)
	}
	s.recv.mu.Unlock()
	s.mode = Refused
	s.c.h.Reset(s, f)
}

// closeFault says what the end of a stream means to its server.
func (s *ServerStream) closeFault(err error) *fault.Fault {
	ev := s.evidence()
	a := fault.Args{Side: fault.Remote, Evidence: ev, Cause: err}
	var se *h2.StreamError
	if errors.As(err, &se) {
		ev.HTTP2Code = se.Code.String()
		if se.By == h2.Peer {
			return fault.CallCancelled.Newf(a, "%s gave the call up (RST_STREAM %v)", ev.Address, se.Code)
		}
		a.Code = codes.Internal
		e := fault.HTTP2Protocol
		if se.Code == h2.FlowControlError {
			e = fault.HTTP2FlowControl
		}
		return e.Newf(a, "%s broke a rule of HTTP/2: %s", ev.Address, se.Reason)
	}
	var ce *h2.ConnError
	if errors.As(err, &ce) {
		if ce.Kind == h2.Closed && ce.By == h2.Local {
			a.Side = fault.Local
			return fault.ServerStopped.Newf(a, "this server closed the connection: %s", ce.Reason)
		}
		return connEnd(ce, a)
	}
	a.Side = fault.Between
	return fault.HTTP2ConnectionLost.New(a)
}
