// SPDX-License-Identifier: Apache-2.0

package channel

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc/balancer"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/resolver"

	"github.com/faultline-rpc/faultline/event"
	"github.com/faultline-rpc/faultline/fault"
)

// Subchannel keeps a connection to one server
// (https://github.com/grpc/grpc/blob/master/doc/connectivity-semantics-and-api.md):
//
//	          connect              ready
//	+------+ ---------> +------------+ ---------> +-------+
//	| IDLE |            | CONNECTING |            | READY |
//	+------+ <--+       +------------+            +-------+
//	    ^       |             | fail: no address      |
//	    | retry |             v could be connected    |
//	    |       |  +-------------------+              |
//	    +-------+--| TRANSIENT_FAILURE |              |
//	            |  +-------------------+              |
//	            +-------------------------------------+
//	               lost: GOAWAY, or the connection broke
//
//	shutdown leads from every state to SHUTDOWN, which is final.
//
// The functions of the arrows, below, are the only ones that change the state.
// The fault of the last failed attempt is kept until a connection is ready.
// After several connections in a row that never lived the next attempt fails at
// once (stillborn.go).
//
// A Subchannel is a balancer.SubConn. Its methods may be called from any
// goroutine.
type Subchannel struct {
	balancer.SubConn // nil: asked for by the interface; every public method is here or in producer.go

	c       *Channel
	policy  *policy
	listen  func(balancer.SubConnState)
	checked bool                 // listen hears of health, too
	ready   atomic.Pointer[link] // the connection in READY, else nil

	mu       sync.Mutex
	state    connectivity.State // guarded by mu
	stage    stage              // guarded by mu
	addrs    []resolver.Address // guarded by mu: never changed in place
	last     *fault.Fault       // guarded by mu: why the last attempt failed
	failures int                // guarded by mu: failed attempts in a row
	wasReady bool               // guarded by mu: the last attempt succeeded, and the connection was lost
	attempt  *attempt           // guarded by mu: in CONNECTING
	retry    *time.Timer        // guarded by mu: in TRANSIENT_FAILURE
	waits    uint64             // guarded by mu: counts retries, so that a late timer does nothing

	unlived stillborn // guarded by mu

	opinions opinions

	extras producers
}

// attempt is one stay in CONNECTING.
type attempt struct {
	ctx     context.Context
	cancel  context.CancelFunc
	next    time.Time     // when the next attempt may start
	overdue *time.Timer   // fails the attempt if a dialer ignores ctx
	delay   time.Duration // before the dial
}

// overdueGrace is how long after its deadline an attempt may still report what
// it was doing.
const overdueGrace = time.Second

func (a *attempt) end() {
	a.cancel()
	a.overdue.Stop()
}

func newSubchannel(c *Channel, p *policy, addrs []resolver.Address, o balancer.NewSubConnOptions) *Subchannel {
	s := &Subchannel{c: c, policy: p, addrs: slices.Clone(addrs), listen: o.StateListener, checked: o.HealthCheckEnabled}
	if s.listen == nil {
		s.listen = func(st balancer.SubConnState) { p.b.UpdateSubConnState(s, st) }
	}
	return s
}

// String names the subchannel by its first address.
func (s *Subchannel) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return fmt.Sprintf("subchannel %s", s.addrs[0].Addr)
}

// address is the connection's, or the first.
func (s *Subchannel) address() string {
	if l := s.ready.Load(); l != nil {
		return l.addr.Addr
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.addrs[0].Addr
}

// State returns the subchannel's state and, unless it is READY, why the last
// attempt to connect failed.
func (s *Subchannel) State() (connectivity.State, *fault.Fault) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.state, s.last
}

// Pick returns the subchannel's connection; false unless it is READY.
func (s *Subchannel) Pick() (Picked, bool) {
	if l := s.ready.Load(); l != nil {
		return l.picked(balancer.PickResult{SubConn: s}), true
	}
	return Picked{}, false
}

// PickOnly is [Channel.Pick] for calls that use this subchannel alone, in
// whatever state it is.
func (s *Subchannel) PickOnly(context.Context, string, bool) (Picked, error) {
	if p, ok := s.Pick(); ok {
		return p, nil
	}
	if _, last := s.State(); last != nil {
		return Picked{}, last
	}
	return Picked{}, fault.PickNoReady.New(fault.Args{Side: fault.Local, Processed: fault.No,
		Evidence: &fault.Evidence{Target: s.c.target, Address: s.address()}})
}

// Connect implements balancer.SubConn: IDLE to CONNECTING.
func (s *Subchannel) Connect() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.state == connectivity.Idle {
		s.connectLocked()
	}
}

// connectLocked starts an attempt over all addresses. It has as long as the
// backoff asks for, and no less than MinConnectTimeout.
func (s *Subchannel) connectLocked() {
	pause := backoffDelay(s.c.cfg.Backoff, s.unlived.failures(s.failures), rand.Float64())
	limit := max(pause, s.c.cfg.MinConnectTimeout)
	a := &attempt{}
	if spread := s.c.cfg.ReconnectSpread; s.wasReady && spread > 0 {
		a.delay = rand.N(spread)
	}
	s.wasReady = false
	now := time.Now().Add(a.delay)
	limit, a.next = limit+a.delay, now.Add(pause)
	a.ctx, a.cancel = context.WithTimeout(s.c.ctx, limit)
	a.overdue = time.AfterFunc(limit+overdueGrace, func() { s.fail(a, s.overdueFault()) })
	s.attempt = a
	if a.delay > 0 {
		s.stageLocked(stageBackoff)
	} else {
		s.stageLocked(stageConnect)
	}
	s.enterLocked(connectivity.Connecting, nil)
	if f := s.unlived.take(); f != nil {
		go s.fail(a, f)
		return
	}
	go s.run(a, s.addrs)
}

// run is the goroutine of an attempt and then of the connection it yields.
func (s *Subchannel) run(a *attempt, addrs []resolver.Address) {
	if a.delay > 0 {
		wait := time.NewTimer(a.delay)
		select {
		case <-wait.C:
		case <-a.ctx.Done():
			wait.Stop()
			return // given up: the deadline is later than the delay
		}
	}
	var last *fault.Fault
	for _, addr := range addrs {
		s.advance(a, stageConnect)
		s.c.stages.try(addr.Addr)
		l, f := s.dial(a, addr)
		if f == nil {
			if f = l.serve(); f == nil {
				return // it was ready, or nobody wants it any more
			}
		}
		if last = f; a.ctx.Err() != nil {
			break
		}
	}
	s.fail(a, last)
}

// overdueFault is the failure of an attempt that did not heed its deadline.
func (s *Subchannel) overdueFault() *fault.Fault {
	s.mu.Lock()
	defer s.mu.Unlock()
	return fault.DialTimeout.Newf(fault.Args{Side: fault.Local, Processed: fault.No, Cause: context.DeadlineExceeded,
		Evidence: &fault.Evidence{Target: s.c.target, Address: s.addrs[0].Addr}},
		"the dialer or the credentials did not return when their context ended")
}

// becameReady is CONNECTING to READY. It reports false if the attempt is over.
func (s *Subchannel) becameReady(a *attempt, l *link) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.attempt != a {
		return false
	}
	s.attempt = nil
	a.end()
	*a = attempt{} // [Subchannel.run] holds on to it as long as the connection lives
	s.last, s.failures = nil, 0
	s.ready.Store(l)
	s.stageLocked(stageReady)
	s.enterLocked(connectivity.Ready, nil)
	return true
}

// fail is CONNECTING to TRANSIENT_FAILURE, and to IDLE when the backoff has
// passed.
func (s *Subchannel) fail(a *attempt, f *fault.Fault) {
	s.mu.Lock()
	if s.attempt != a {
		s.mu.Unlock()
		return
	}
	s.attempt = nil
	a.end()
	s.last = f
	s.failures++
	s.c.blame(f)
	s.stageLocked(stageBackoff)
	s.enterLocked(connectivity.TransientFailure, f)
	s.waits++
	wait := s.waits
	s.retry = time.AfterFunc(time.Until(a.next), func() { s.retryNow(wait) })
	s.mu.Unlock()
	s.c.measures.attemptFailed()
	s.logFailure(f)
	s.policy.host.session.resolver.resolveNow()
}

// retryNow is TRANSIENT_FAILURE to IDLE: the balancer decides whether to
// connect.
func (s *Subchannel) retryNow(wait uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.retry != nil && s.waits == wait {
		s.retry = nil
		s.stageLocked(stageNone)
		s.enterLocked(connectivity.Idle, nil)
	}
}

// resetBackoff counts the next failure as the first, and ends a wait.
func (s *Subchannel) resetBackoff() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.failures = 0
	if s.retry != nil {
		s.retry.Stop()
		s.retry = nil
		s.stageLocked(stageNone)
		s.enterLocked(connectivity.Idle, nil)
	}
}

// lost is READY to IDLE: the connection takes no more streams. Those it
// carries go on as they can.
func (s *Subchannel) lost(l *link, why parting) {
	s.mu.Lock()
	if l == nil || s.ready.Load() != l {
		s.mu.Unlock()
		return
	}
	s.ready.Store(nil)
	s.wasReady = true
	s.stageLocked(stageNone)
	s.enterLocked(connectivity.Idle, nil)
	s.mu.Unlock()
	s.c.measures.disconnected(l, why)
	s.policy.host.session.resolver.resolveNow()
}

// Shutdown implements balancer.SubConn: calls on the connection go on, new
// ones do not get it.
func (s *Subchannel) Shutdown() {
	s.mu.Lock()
	if s.state == connectivity.Shutdown {
		s.mu.Unlock()
		return
	}
	l := s.leaveLocked()
	s.enterLocked(connectivity.Shutdown, nil)
	s.mu.Unlock()
	s.extras.stop()
	s.policy.forget(s)
	if l != nil {
		s.c.measures.disconnected(l, partShutdown)
		l.conn.Drain("subchannel shut down")
	}
}

// UpdateAddresses implements balancer.SubConn: a connection to one of the
// addresses stays; otherwise a new one is begun.
func (s *Subchannel) UpdateAddresses(addrs []resolver.Address) {
	if len(addrs) == 0 {
		return
	}
	s.mu.Lock()
	same := slices.EqualFunc(s.addrs, addrs, sameServer)
	s.addrs = slices.Clone(addrs)
	l := s.ready.Load()
	keep := same || l != nil && slices.ContainsFunc(addrs, func(a resolver.Address) bool { return sameServer(a, l.addr) })
	if keep || s.state != connectivity.Ready && s.state != connectivity.Connecting {
		s.mu.Unlock()
		return
	}
	l = s.leaveLocked()
	s.failures = 0
	s.connectLocked()
	s.mu.Unlock()
	if l != nil {
		s.c.measures.disconnected(l, partShutdown)
		l.conn.Drain("address removed")
	}
}

// sameServer compares what matters for a connection.
func sameServer(a, b resolver.Address) bool {
	return a.Addr == b.Addr && a.ServerName == b.ServerName && a.Attributes.Equal(b.Attributes)
}

// leaveLocked gives up what the state holds. It returns the connection of
// READY for the caller to drain.
func (s *Subchannel) leaveLocked() *link {
	if s.attempt != nil {
		s.attempt.end()
		s.attempt = nil
	}
	if s.retry != nil {
		s.retry.Stop()
		s.retry = nil
	}
	s.stageLocked(stageNone)
	return s.ready.Swap(nil)
}

// advance notes how far an attempt is, unless it is over.
func (s *Subchannel) advance(a *attempt, to stage) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.attempt == a {
		s.stageLocked(to)
	}
}

func (s *Subchannel) stageLocked(to stage) {
	if s.stage != to {
		s.c.stages.move(s.stage, to)
		s.stage = to
	}
}

// enterLocked sets the state and tells the balancer, in order.
func (s *Subchannel) enterLocked(state connectivity.State, f *fault.Fault) {
	s.state = state
	told := balancer.SubConnState{ConnectivityState: state}
	if f != nil {
		told.ConnectionError = &toldError{f}
	}
	if sink := s.c.cfg.Sink; sink != nil {
		e := event.SubchannelState{Target: s.c.target, Address: s.addrs[0].Addr, State: state.String()}
		if f != nil {
			e.Err = f
		}
		sink.Record(e)
	}
	s.policy.tell(func() {
		s.extras.stateChanged(state)
		if state == connectivity.Ready && s.checked {
			s.RegisterHealthListener(s.listen)
			return
		}
		s.listen(told)
	})
}
