// SPDX-License-Identifier: Apache-2.0

package server

import (
	"context"
	"fmt"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"

	"github.com/faultline-rpc/faultline/fault"
)

// callContext is a handler's context. It is never used for another call, since
// handlers keep it.
//
// What nobody asks for costs nothing: the first Done, or the first question
// that only the standard library's context can answer, makes one of those, and
// from then on it decides. So contexts derived from this one attach to it
// directly, without a goroutine, and context.Cause finds its cause.
type callContext struct {
	base     context.Context // what a stats handler made for the connection, or nil
	peer     *peer.Peer
	md       metadata.MD // shared: never changed
	path     string
	deadline time.Time     // zero: none
	timeout  time.Duration // as the caller gave it
	queued   time.Duration // before the handler started, with a deadline; the worker's
	gate     gate

	mu      sync.Mutex
	call    *call                   // guarded by mu; nil until the call is open, and when it is over
	err     error                   // guarded by mu; unless std is set
	cause   error                   // guarded by mu
	std     context.Context         // guarded by mu; nil until needed
	stop    context.CancelCauseFunc // guarded by mu; ends std
	ran     fault.Processed         // guarded by mu: what was known when call went
	expired *fault.Fault            // guarded by mu: nil until needed
}

var _ context.Context = (*callContext)(nil)

// Deadline implements context.Context.
func (c *callContext) Deadline() (time.Time, bool) { return c.deadline, !c.deadline.IsZero() }

// Done implements context.Context.
func (c *callContext) Done() <-chan struct{} { return c.standard().Done() }

// Err implements context.Context.
func (c *callContext) Err() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.errLocked()
}

func (c *callContext) errLocked() error {
	if c.std != nil {
		return c.std.Err()
	}
	if c.err == nil && !c.deadline.IsZero() {
		c.expireLocked(time.Now())
	}
	return c.err
}

// expireLocked ends the context if its deadline has passed.
func (c *callContext) expireLocked(now time.Time) {
	if c.std == nil && c.err == nil && !now.Before(c.deadline) {
		c.err, c.cause = context.DeadlineExceeded, expiry{c}
	}
}

// Value implements context.Context.
func (c *callContext) Value(key any) any {
	switch key {
	case incomingKey:
		return c.md
	case streamKey:
		return (*transportStream)(c)
	case peerKey:
		return c.peer
	case cancelKey:
		return c.standard().Value(key)
	}
	if c.base != nil {
		return c.base.Value(key)
	}
	return nil
}

// String names the context, for programs that print it.
func (c *callContext) String() string { return "faultline server call " + c.path }

// standard returns the standard context, which it makes at the first call.
func (c *callContext) standard() context.Context {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.std != nil {
		return c.std
	}
	ctx, cancel := context.WithCancelCause(context.Background())
	c.stop = cancel
	if !c.deadline.IsZero() && c.err != context.Canceled {
		timed, stop := context.WithDeadlineCause(ctx, c.deadline, expiry{c})
		ctx = timed
		c.stop = func(cause error) {
			cancel(cause)
			stop()
		}
	}
	c.std = ctx
	if c.err != nil {
		c.stop(c.cause)
	}
	return ctx
}

// cancel ends the context, unless it has ended; cause says why.
func (c *callContext) cancel(cause error) {
	c.mu.Lock()
	stop := c.cancelLocked(cause)
	c.mu.Unlock()
	if stop != nil {
		stop(cause)
	}
}

func (c *callContext) cancelLocked(cause error) context.CancelCauseFunc {
	if c.std != nil {
		return c.stop
	}
	if c.errLocked() == nil {
		c.err, c.cause = context.Canceled, cause
	}
	return nil
}

// why returns the reason for which the context ended, nil if it has not.
func (c *callContext) why() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	cause := c.cause
	if c.std != nil {
		cause = context.Cause(c.std)
	} else if c.errLocked() != nil {
		cause = c.cause
	}
	if _, ok := cause.(expiry); ok {
		return c.expiredLocked()
	}
	return cause
}

// The keys under which grpc-go's packages and the standard library look things
// up are not exported. They are learned by letting each look once.
var (
	incomingKey = learn(func(ctx context.Context) { metadata.FromIncomingContext(ctx) })
	streamKey   = learn(func(ctx context.Context) { grpc.ServerTransportStreamFromContext(ctx) })
	peerKey     = learn(func(ctx context.Context) { peer.FromContext(ctx) })
	cancelKey   = learn(func(ctx context.Context) { _ = context.Cause(ctx) })
)

// learner is a context that keeps the key it is asked for.
type learner struct {
	context.Context
	key any
}

// Value implements context.Context.
func (l *learner) Value(key any) any {
	l.key = key
	return nil
}

// Err implements context.Context: context.Cause asks a context that has ended.
func (l *learner) Err() error { return context.Canceled }

func learn(look func(context.Context)) any {
	l := &learner{Context: context.Background()}
	look(l)
	if l.key == nil {
		panic(fmt.Sprintf("faultline: %T learned no context key", l))
	}
	return l.key
}
