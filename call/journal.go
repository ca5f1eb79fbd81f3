// SPDX-License-Identifier: Apache-2.0

package call

import (
	"cmp"
	"context"
	"errors"
	"sync/atomic"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/faultline-rpc/faultline/event"
	"github.com/faultline-rpc/faultline/fault"
	"github.com/faultline-rpc/faultline/journal"
	"github.com/faultline-rpc/faultline/status"
)

// What the log is told of a call that has ended: one line, whatever its attempts
// were. An error that interceptors put in the place of its outcome has another.

// log writes the line of a call that has ended with f, nil for success.
func (c *call) log(f *fault.Fault) {
	l := c.caller.cfg.Logger
	if l == nil {
		return
	}
	ctx := c.ctx
	if c.watch != nil && c.watch.ctx != nil { // with the trace that a stats handler made
		ctx = c.watch.ctx
	}
	if f == nil && !journal.Wanted(ctx, l) {
		return
	}
	j := c.line(f)
	j.Attempts, j.State = int(c.number), journal.Unsent
	if c.peer != nil && c.peer.Addr != nil {
		j.Peer = c.peer.Addr.String()
	}
	if c.s != nil && c.s.ID() != 0 {
		p := c.s.Progress()
		j.Stream, j.Received, j.State = c.s.ID(), p.Messages, journal.Request // which may leave yet
		switch {
		case p.Trailers:
			j.State = journal.Trailers
		case p.Messages > 0:
			j.State = journal.Messages
		case p.Headers:
			j.State = journal.Headers
		case !p.Sent && f != nil && f.Processed() == fault.No:
			j.State = journal.Unsent
		}
	}
	j.Log(ctx, l)
}

// line is what is known of every call.
func (c *call) line(f *fault.Fault) *journal.Call {
	j := &journal.Call{Role: event.Client, Method: c.method, Elapsed: c.caller.now() - c.start, Timed: c.timed, Budget: c.budget()}
	if f != nil {
		ev := f.Evidence()
		j.Code, j.Failure, j.Err = f.Code(), journal.Of(f), f
		j.Peer, j.Reference = cmp.Or(ev.Address, ev.Target), ev.Reference
	}
	return j
}

// chain watches the calls that one call becomes behind its interceptors. It is
// nil without a log.
type chain struct {
	begun time.Duration
	last  atomic.Pointer[error] // what the latest of them returned; nil: none was made
}

// chain returns the watch over a call that goes through interceptors.
func (c *Caller) chain() *chain {
	if c.cfg.Logger == nil {
		return nil
	}
	return &chain{begun: c.now()}
}

// returned takes, and returns, what a call behind the interceptors returned.
func (w *chain) returned(err error) error {
	if w != nil {
		kept := err // what is kept is on the heap, and err need not be
		w.last.Store(&kept)
	}
	return err
}

// log writes the line of a call that failed by what an interceptor did: it kept
// the call from being made, or put an error in the place of its outcome.
func (w *chain) log(ctx context.Context, c *Caller, method string, err error) {
	if w == nil || err == nil {
		return
	}
	j := &journal.Call{Role: event.Client, Method: method, Err: err, State: journal.Unsent, Elapsed: c.now() - w.begun,
		Failure: journal.Failure{Layer: fault.LayerPolicy, Side: fault.Local, Processed: fault.No}}
	if last := w.last.Load(); last != nil {
		if *last != nil && errors.Is(err, *last) {
			return // it has its line
		}
		j.State, j.Processed = "", fault.Maybe
		if f, ok := fault.From(*last); ok {
			j.Processed = f.Processed()
		}
	}
	if d, ok := ctx.Deadline(); ok {
		j.Timed, j.Budget = true, time.Until(d)+j.Elapsed
	}
	s, ok := status.FromError(err)
	if j.Code = s.Code(); !ok || j.Code == codes.OK {
		j.Code = codes.Unknown
	}
	if f, ok := fault.From(err); ok && f.Code() == j.Code { // a call's to somebody else, for a token, say
		j.ID, j.Layer, j.Side, j.Peer = f.ID(), f.Layer(), f.Side(), f.Evidence().Address
	}
	j.Log(ctx, c.cfg.Logger)
}
