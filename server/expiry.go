// SPDX-License-Identifier: Apache-2.0

package server

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/faultline-rpc/faultline/event"
	"github.com/faultline-rpc/faultline/fault"
)

// expiry is the cause of a context whose deadline passed. Contexts have it from
// the start, few need it: the fault is made when somebody asks.
type expiry struct{ c *callContext }

// Error is the fault's text.
func (e expiry) Error() string { return e.fault().Error() }

// Unwrap returns the fault.
func (e expiry) Unwrap() error { return e.fault() }

// Format prints the fault.
func (e expiry) Format(s fmt.State, verb rune) { e.fault().Format(s, verb) }

// LogValue has slog write the fault.
func (e expiry) LogValue() slog.Value { return e.fault().LogValue() }

func (e expiry) fault() *fault.Fault {
	e.c.mu.Lock()
	defer e.c.mu.Unlock()
	return e.c.expiredLocked()
}

// expiredLocked is the fault of a deadline that passed while the handler ran.
// It stays the same.
func (c *callContext) expiredLocked() *fault.Fault {
	if c.expired == nil {
		processed := c.ran
		if c.call != nil {
			processed = c.call.ran()
		}
		ev := &fault.Evidence{Method: c.path}
		if c.peer != nil {
			ev.Address, ev.Local = addr(c.peer.Addr), addr(c.peer.LocalAddr)
		}
		c.expired = fault.CallDeadline.Newf(fault.Args{Side: fault.Local, Processed: processed, Cause: context.DeadlineExceeded, Evidence: ev}, "the caller's deadline, %v after the request arrived, has passed", c.timeout).
			WithLedger(c.ledger(c.timeout, true))
	}
	return c.expired
}

// ledger says what a call's time went to on this side until so long after its
// arrival. Its budget is what was left when it came.
func (c *callContext) ledger(elapsed time.Duration, started bool) *fault.Ledger {
	l := &fault.Ledger{Budget: c.timeout, Elapsed: elapsed}
	if !started {
		l.Add(fault.Phase{Name: fault.PhaseQueue, Spent: elapsed})
		return l
	}
	queued := min(c.queued, elapsed)
	l.Add(fault.Phase{Name: fault.PhaseQueue, Spent: queued})
	l.Add(fault.Phase{Name: fault.PhaseHandler, Spent: elapsed - queued})
	return l
}

// elapsed is the time since a call with a deadline arrived.
func (c *callContext) elapsed() time.Duration { return c.timeout - time.Until(c.deadline) }

// recordExpiry has observers learn of a call that took longer than its caller
// waits.
func (k *call) recordExpiry() {
	x, sink := k.ctx, k.conn.srv.cfg.Sink
	if sink == nil || x.deadline.IsZero() || k.method == nil || k.refusal != nil || !k.started {
		return
	}
	if took := x.elapsed(); took >= x.timeout {
		sink.Record(event.DeadlineExpired{Method: clip(x.path), Conn: k.conn.id, Stream: k.ID(), Budget: x.timeout, Queued: x.queued, Elapsed: took})
	}
}
