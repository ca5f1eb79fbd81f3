// SPDX-License-Identifier: Apache-2.0

package wire

import (
	"cmp"
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
		s.foreignData(0, true)
		s.requestEnd()
		return
	}
	s.head = requestOf(b)
	if s.head.Refusal != nil {
		s.Owner.Refused(s.head.Refusal.Fault)
		s.refuse(s.head.Refusal, end)
		return
	}
	// From Open on the call may be answered from elsewhere, by a server that
	// stops: what an answer looks at is in place before.
	s.recv.garbage, s.recv.account = fault.CodecRequestParse, &s.c.account
	s.mode = s.Owner.Open()
	s.opened = s.mode != Refused
	s.recv.limit = s.MaxRecv
	switch s.mode {
	case Now:
		s.Owner.Dispatch()
	case Whole:
		s.recv.whole = true
	}
	if end {
		s.requestEnd()
	}
}

// OnData takes the request's messages.
func (e *serverEvents) OnData(p []byte, buf *h2.ReadBuf, end bool) {
	s := (*ServerStream)(e)
	if s.mode == Refused {
		s.foreignData(len(p), end)
		return
	}
	switch credit, err := s.recv.data(p, buf, end); {
	case err == errOverBudget:
		s.mode = Refused
		s.recv.discard()
		s.recv.abort(s.Owner.Overloaded())
	case err != nil:
		s.badRequest(err.(*fault.Fault))
	case end:
		s.requestEnd()
	case credit > 0:
		s.Consumed(credit)
	}
}

// badRequest ends the request for what is wrong with its framing or size: the
// handler, or the dispatcher in its place, learns it from Recv.
func (s *ServerStream) badRequest(f *fault.Fault) {
	f = s.located(f)
	whole := s.mode == Whole
	s.mode = Refused
	s.recv.mu.Lock()
	s.recv.finishUnderLock(f)
	s.recv.unlock()
	if whole {
		s.Owner.Dispatch()
	}
}

// located adds to a fault of the request where it happened, and whether a
// handler was waiting for more.
func (s *ServerStream) located(f *fault.Fault) *fault.Fault {
	f = f.WithEvidence(mergeEvidence(f.Evidence(), s.evidence()))
	if s.mode == Whole {
		f = f.WithProcessed(fault.No)
	}
	return f
}

// requestEnd is the client's END_STREAM.
func (s *ServerStream) requestEnd() {
	if s.mode == Refused {
		return
	}
	whole := s.mode == Whole
	s.recv.mu.Lock()
	var err error
	if s.recv.partialLocked() {
		err = s.located(s.recv.truncatedLocked())
	}
	if whole { // else a handler may be looking
		s.whole = true
	}
	s.recv.finishUnderLock(err)
	s.recv.unlock()
	if whole {
		s.Owner.Dispatch()
	}
}

// OnClose says that the client gave the call up, or that its connection is gone.
func (e *serverEvents) OnClose(err error) {
	s := (*ServerStream)(e)
	f := s.closeFault(err)
	s.recv.mu.Lock()
	if s.recv.end && s.recv.err == nil {
		s.recv.err = f // the request was complete: what can still fail is the answer
	}
	s.recv.discardLocked() // nobody waits for an answer to it
	s.recv.finishUnderLock(f)
	s.recv.unlock()
	s.mode = Refused
	s.takeForeign()
	if s.opened {
		s.Owner.Reset(f)
	}
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
		if se.Code == h2.FlowControlError {
			return fault.HTTP2FlowControl.Newf(a, "%s broke flow control: %s", ev.Address, se.Reason)
		}
		return fault.HTTP2Protocol.Newf(a, "%s broke a rule of HTTP/2: %s", ev.Address, se.Reason)
	}
	var ce *h2.ConnError
	if errors.As(err, &ce) {
		_, stamped := fault.From(ce.Err)
		if ce.By == h2.Local && ce.Kind == h2.Closed && ce.Code != h2.NoError { // what the peer did made us close
			a.Code, ev.HTTP2Code = codes.Internal, ce.Code.String()
			return fault.HTTP2Protocol.Newf(a, "this server closed the connection to %s with %v: %s", ev.Address, ce.Code, ce.Reason)
		}
		if ce.By == h2.Local && !stamped && (ce.Kind == h2.Closed || ce.Kind == h2.Aborted) {
			a.Side = fault.Local
			return fault.ServerStopped.Newf(a, "this server closed the connection: %s", cmp.Or(ce.Reason, "no reason given"))
		}
		return connEnd(ce, a)
	}
	a.Side = fault.Between
	return fault.HTTP2ConnectionLost.New(a)
}
