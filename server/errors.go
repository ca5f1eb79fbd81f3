// SPDX-License-Identifier: Apache-2.0

package server

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"runtime/debug"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"

	"github.com/faultline-rpc/faultline/event"
	"github.com/faultline-rpc/faultline/fault"
	"github.com/faultline-rpc/faultline/wire"
)

// statusOf decides what the caller gets to read of an error with which a call
// ends: see [edge]. It also returns what this service says of a failure, and the
// error as observers on this side may see it.
func (k *call) statusOf(err error, raised *fault.Fault) (wire.Status, fault.Hop, error) {
	if err == nil {
		return wire.Status{}, fault.Hop{}, nil
	}
	e := edge{method: k.ctx.path, trusted: k.conn.trusted, ran: k.handlerRan(), passed: k.passed, mask: k.mask, context: k.contextFault}
	if e.ran == fault.No {
		e.ran, e.sealed = fault.Maybe, true
	}
	e.elapsed = k.conn.srv.now() - k.arrived
	if x := k.ctx; !x.deadline.IsZero() {
		e.timed, e.budget = true, time.Until(x.deadline)
	}
	if f, ok := err.(*fault.Fault); ok && (f == raised || f == k.refusal) {
		return e.own(f), e.hop, err
	}
	st, seen := e.judge(err, raised)
	if f, ok := seen.(*fault.Fault); ok && seen != err { // made here
		seen = k.located(f)
	}
	return st, e.hop, seen
}

// contextFault is the fault of a handler that returned its context's error, or
// a narrower one's; nil for other errors.
func (k *call) contextFault(err error) *fault.Fault {
	why := " although its own context had not ended: a narrower context did"
	if cause := k.ctx.why(); cause != nil {
		why = " after its own context had ended: " + cause.Error()
		if f, ok := fault.From(cause); ok {
			why = " after its own context had ended: " + f.Entry().Summary
			if f.Entry() == fault.CallDeadline {
				why += fmt.Sprintf(", %v after the request arrived", k.ctx.timeout)
			}
			if g := contextError(err, nil, "", ""); g != nil && f.Entry() == fault.ServerOverloaded { // this side ended it, and its caller waits for an answer
				return f
			}
		}
	}
	f := contextError(err, k.ctx.why(), k.ctx.path, why)
	if f == nil || k.ctx.deadline.IsZero() {
		return f
	}
	return f.WithLedger(k.ctx.ledger(k.ctx.elapsed(), true))
}

// contextEnd is a context's error, and why that context ended.
type contextEnd struct{ err, cause error }

// Error is the cause's text.
func (e *contextEnd) Error() string { return e.cause.Error() }

// Unwrap returns both.
func (e *contextEnd) Unwrap() []error { return []error{e.err, e.cause} }

// contextError is the fault of a handler that returned a context's error, nil
// for other errors. cause is why the call's own context ended, nil if it has not.
func contextError(err, cause error, method, why string) *fault.Fault {
	a := fault.Args{Side: fault.Local, Processed: fault.Maybe, Cause: err, Evidence: &fault.Evidence{Method: clip(method)}}
	if cause != nil && !errors.Is(cause, err) {
		a.Cause = &contextEnd{err, cause}
	}
	what := ""
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		a.Code, what = codes.DeadlineExceeded, "context.DeadlineExceeded"
	case errors.Is(err, context.Canceled):
		a.Code, what = codes.Canceled, "context.Canceled"
	default:
		return nil
	}
	return fault.HandlerContext.Newf(a, "the handler returned %s%s", what, why)
}

// mask logs what the caller must not see, and returns the reference it gets.
func (k *call) mask(err error, what string) string {
	s, ref := k.conn.srv, reference()
	s.cfg.Logger.LogAttrs(k.user, slog.LevelError, what,
		slog.String("method", clip(k.ctx.path)), slog.String("reference", ref), slog.Any("error", err))
	if s.cfg.Sink != nil {
		s.cfg.Sink.Record(event.ErrorMasked{Method: clip(k.ctx.path), Reference: ref, Err: err})
	}
	return ref
}

// crashed is the fault of a handler that panicked with value, or that ended
// its goroutine if value is nil.
func (k *call) crashed(value any) error {
	s, ref, stack := k.conn.srv, reference(), debug.Stack()
	text, what := fmt.Sprint(value), "a handler panicked"
	if value == nil {
		text, what = "runtime.Goexit was called", "a handler ended its goroutine"
	}
	s.cfg.Logger.LogAttrs(k.user, slog.LevelError, what,
		slog.String("method", clip(k.ctx.path)), slog.String("reference", ref), slog.String("value", text), slog.String("stack", string(stack)))
	if s.cfg.Sink != nil {
		s.cfg.Sink.Record(event.HandlerPanicked{Method: clip(k.ctx.path), Reference: ref, Value: text, Stack: stack})
	}
	summary := fault.HandlerPanic.Summary
	if value == nil {
		summary = "the handler ended its goroutine"
	}
	return k.raise(fault.HandlerPanic.Newf(fault.Args{Side: fault.Local, Processed: k.handlerRan(),
		Evidence: &fault.Evidence{Method: clip(k.ctx.path), Reference: ref}}, "%s; reference %s", summary, ref))
}

// reference is a number that finds a log entry. It is no secret.
func reference() string { return fmt.Sprintf("%016x", rand.Uint64()) }

// answeredFor is the end of a call that this server answers in the place of its
// handler: any caller may read it.
func (k *call) answeredFor(f *fault.Fault) wire.Status {
	st := statusOfFault(f)
	st.Trail = fault.WriteTrail(fault.NewHop(k.ctx.path, f).Masked(), nil)
	return st
}

func statusOfFault(f *fault.Fault) wire.Status {
	st := wire.Status{Code: f.Code(), Message: f.Message()}
	if len(f.Details()) > 0 {
		st.Details, _ = proto.Marshal(f.Proto()) // a Status of valid text marshals
	}
	return st
}
