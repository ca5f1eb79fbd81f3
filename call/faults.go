// SPDX-License-Identifier: Apache-2.0

package call

import (
	"context"
	"errors"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/faultline-rpc/faultline/channel"
	"github.com/faultline-rpc/faultline/fault"
	"github.com/faultline-rpc/faultline/wire"
)

// misuse is a mistake of the program that was found before anything was sent.
func misuse(format string, args ...any) *fault.Fault {
	return fault.CallMisuse.Newf(fault.Args{Side: fault.Local, Processed: fault.No}, format, args...)
}

// contextEnd is the cause of a call that its context ended: both what
// ctx.Err says and the program's own cause can be found in it.
type contextEnd struct{ err, cause error }

// Error is the cause's text.
func (e *contextEnd) Error() string { return e.cause.Error() }

// Unwrap returns both.
func (e *contextEnd) Unwrap() []error { return []error{e.err, e.cause} }

// endOf returns the code for the end of ctx, and why it ended. A deadline that has passed counts
// as having ended it, even if its timer has yet to run.
func endOf(ctx context.Context) (code codes.Code, cause error) {
	err := ctx.Err()
	if err == nil {
		err = context.DeadlineExceeded
	}
	code = codes.Canceled
	if errors.Is(err, context.DeadlineExceeded) {
		code = codes.DeadlineExceeded
	}
	cause = context.Cause(ctx)
	switch {
	case cause == nil:
		cause = err
	case !errors.Is(cause, err):
		cause = &contextEnd{err, cause}
	}
	return code, cause
}

// early is the fault of a call whose context ended before it began.
func (c *call) early() *fault.Fault {
	code, cause := endOf(c.ctx)
	a := fault.Args{Code: code, Side: fault.Local, Processed: fault.No, Cause: cause, Evidence: &fault.Evidence{Method: c.method}}
	if code == codes.Canceled {
		return fault.CallCancelled.Newf(a, "context canceled before the call began%s", ownWords(cause))
	}
	return fault.CallDeadlinePast.Newf(a, "context deadline exceeded %v before the call began%s, nothing was sent", (c.start - c.deadline).Round(time.Microsecond), ownWords(cause))
}

// ownWords is the program's own reason for ending a context.
func ownWords(cause error) string {
	if cause == context.Canceled || cause == context.DeadlineExceeded {
		return ""
	}
	return " (" + cause.Error() + ")"
}

// interrupted is the fault of a call whose context ended while it waited.
func (c *call) interrupted(waiting string) *fault.Fault {
	code, cause := endOf(c.ctx)
	return c.ended(waiting, cause, code, ownWords(cause), nil)
}

// ended is the fault of a call that its context ended, for that cause. What is
// known of the attempt becomes evidence; pi is what is known of one that got no
// connection, or nil.
func (c *call) ended(waiting string, cause error, code codes.Code, words string, pi *channel.PickInterrupted) *fault.Fault {
	ev, processed := c.observed()
	if pi != nil {
		ev.Target, ev.Address = pi.Target, pi.Address
	}
	ev.Waiting = waiting
	a := fault.Args{Code: code, Side: fault.Local, Processed: processed, Cause: cause, Evidence: ev}
	l := c.ledger(waiting)
	l.Peer = c.pulse(c.start + l.Elapsed)
	where := l.String()
	if ev.Address != "" {
		where += " (" + ev.Address + ")"
	}
	if alive := l.Peer.String(); alive != "" {
		where += "; " + alive
	}
	where += words
	var f *fault.Fault
	if code == codes.Canceled {
		f = fault.CallCancelled.Newf(a, "context canceled by the program after %v: %s", fault.Brief(l.Elapsed), where)
	} else {
		f = fault.CallDeadline.Newf(a, "context deadline exceeded after %v: %s", fault.Brief(c.budget()), where).WithRemedy(fault.DeadlineRemedy(l.Longest(), l.Peer.Verdict()))
	}
	f = f.WithLedger(l)
	if waiting == fault.PhaseBackoff { // none is running
		return f.WithAttempts(c.more.tries).WithProcessed(c.more.processed)
	}
	return c.withAttempts(f)
}

// observed is what is known of the running attempt. A stream that was opened
// counts as sent, even if its bytes wait: they may leave yet.
func (c *call) observed() (*fault.Evidence, fault.Processed) {
	ev := &fault.Evidence{Method: c.method}
	if c.peer != nil && c.peer.Addr != nil {
		ev.Address, ev.Network = c.peer.Addr.String(), c.peer.Addr.Network()
	}
	s := c.s
	if s == nil || s.ID() == 0 {
		return ev, fault.No
	}
	p := s.Progress()
	ev.Stream, ev.Sent, ev.Answered, ev.Messages = s.ID(), true, p.Headers, p.Messages
	if f, ok := fault.From(s.Outcome()); ok { // the end was there before anybody looked
		return ev, f.Processed()
	}
	if p.Messages > 0 {
		return ev, fault.Yes
	}
	return ev, fault.Maybe
}

// pickFault is why no connection was found.
func (c *call) pickFault(err error) *fault.Fault {
	var pi *channel.PickInterrupted
	switch {
	case errors.As(err, &pi):
		code, cause := endOf(c.ctx)
		words := ownWords(cause)
		if pi.Last == nil {
			return c.ended(pi.Phase, cause, code, words, pi)
		}
		f := c.ended(pi.Phase, &contextEnd{cause, pi}, code, words+"; latest failure: "+pi.Last.Message(), pi)
		return f.Above(pi.Last.Entry(), pi.Last.Message())
	case errors.Is(err, channel.ErrClosed):
		return fault.CallClosed.New(fault.Args{Side: fault.Local, Processed: fault.No, Cause: err,
			Evidence: &fault.Evidence{Method: c.method}, Message: "the client connection is closing"})
	}
	if f, ok := fault.From(err); ok {
		return f
	}
	return misuse("the channel failed without a fault: %v", err)
}

// streamWait is the phase of a stream that is open.
func streamWait(s *wire.ClientStream) string {
	switch {
	case s.Conn() != nil && s.Blocked(s.Conn()).Now:
		return fault.PhaseSend
	case s.Progress().Headers:
		return fault.PhaseMessage
	}
	return fault.PhaseHeaders
}

// skew is how much before the deadline a server may say that it has passed:
// grpc-timeout is rounded, and some servers count in milliseconds (C-core).
const skew = 5 * time.Millisecond

// late turns the peer's word that the time is up into the caller's own fault
// if that is so: which of the two clocks was first says nothing.
func (c *call) late(f *fault.Fault) *fault.Fault {
	if !c.timed {
		return f
	}
	left := c.deadline - c.caller.now()
	switch {
	case f.Entry() == fault.HTTP2RSTCancel && left <= 0:
	case f.Code() == codes.DeadlineExceeded && f.Verbatim() && left <= max(0, min(skew, c.budget()/10)):
	default:
		return f
	}
	_, cause := endOf(c.ctx)
	if !errors.Is(cause, context.DeadlineExceeded) {
		cause = &contextEnd{err: context.DeadlineExceeded, cause: cause}
	}
	g := c.ended(streamWait(c.s), cause, codes.DeadlineExceeded, ownWords(cause), nil)
	processed := f.Processed()
	if c.more != nil && len(c.more.tries) > 0 {
		processed = worse(c.more.processed, processed)
	}
	return g.Above(f.Entry(), f.Message()).WithProcessed(processed).WithDetails(f.Details()).WithTrail(f.Trail())
}

// budget is the time that the caller gave.
func (c *call) budget() time.Duration {
	if !c.timed {
		return 0
	}
	return c.deadline - c.start
}
