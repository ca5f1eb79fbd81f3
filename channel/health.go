// SPDX-License-Identifier: Apache-2.0

package channel

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"google.golang.org/grpc/balancer"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/status"

	"github.com/faultline-rpc/faultline/event"
	"github.com/faultline-rpc/faultline/fault"
)

// Client-side health checking
// (https://github.com/grpc/proposal/blob/master/A17-client-side-health-checking.md):
//
//	      the call is made                SERVING, or UNIMPLEMENTED
//	+------------+ ------------------------------> +-------+
//	| CONNECTING |                                 | READY |
//	+------------+ <--+   +-------------------+ <- +-------+
//	      |           +-- | TRANSIENT_FAILURE |  not SERVING, or the call ended
//	      |       backoff +-------------------+
//	      +--------------------^
//
// This is the state that balancers see of a connection that is READY, if they
// ask for it and the service config names a service. round_robin and its kin
// ask by RegisterHealthListener, older policies by NewSubConnOptions; pick_first
// on its own does not.

// HealthCheck makes one Watch call of grpc.health.v1.Health about service, on
// the subchannel's connection alone ([Subchannel.Pick]), until it ends, and
// returns why, with the status as errors of calls have it. Each answer is told
// to set, on the same goroutine: READY for SERVING, TRANSIENT_FAILURE and what
// was answered for anything else. The call must end with ctx.
type HealthCheck func(ctx context.Context, s *Subchannel, service string, set func(connectivity.State, error)) error

// healthListener is a balancer's wish to know a connection's health.
type healthListener struct {
	tell   func(balancer.SubConnState)
	cancel context.CancelFunc // ends the watch
}

// RegisterHealthListener implements balancer.SubConn. It is told the health of
// the connection from now on until its state changes; READY at once if health
// is not watched.
func (s *Subchannel) RegisterHealthListener(f func(balancer.SubConnState)) {
	e := &s.extras
	e.mu.Lock()
	defer e.mu.Unlock()
	e.endHealthLocked()
	if f == nil || e.state != connectivity.Ready {
		return
	}
	ctx, cancel := context.WithCancel(s.c.ctx)
	h := &healthListener{tell: f, cancel: cancel}
	e.health = h
	tell := func(st balancer.SubConnState) {
		s.policy.tell(func() {
			e.mu.Lock()
			current := e.health == h
			e.mu.Unlock()
			if current {
				h.tell(st)
			}
		})
	}
	sc := s.c.config.Load()
	if s.c.cfg.HealthCheck == nil || sc == nil || sc.Health == nil {
		tell(balancer.SubConnState{ConnectivityState: connectivity.Ready})
		return
	}
	if l := s.ready.Load(); l != nil { // else it has just ended, which the policy is about to learn
		w := &healthWatch{s: s, link: l, service: *sc.Health, tell: tell}
		go w.run(ctx)
	}
}

// healthWatch follows the health of one connection.
type healthWatch struct {
	s       *Subchannel
	link    *link // the connection
	service string
	tell    func(balancer.SubConnState)
	state   connectivity.State // as told last
}

// run makes the call, and again whenever it ends: at once if it brought an
// answer, else with backoff.
func (w *healthWatch) run(ctx context.Context) {
	for failures := 0; ; failures++ {
		answered := false
		w.enter(ctx, connectivity.Connecting, nil)
		end := w.s.Background()
		err := w.s.c.cfg.HealthCheck(ctx, w.s, w.service, func(state connectivity.State, err error) {
			answered = true
			if state != connectivity.Ready {
				state = connectivity.TransientFailure
			}
			w.enter(ctx, state, err)
		})
		end()
		if status.Code(err) == codes.Unimplemented {
			w.enter(ctx, connectivity.Ready, nil) // "clients should assume the server is healthy"
			w.link.logUnwatched(w.service)
			return
		}
		if err == nil {
			err = errors.New("the health call ended")
		}
		w.enter(ctx, connectivity.TransientFailure, err)
		if w.s.ready.Load() != w.link {
			return // the end of the connection, which ctx is about to follow
		}
		if answered && ctx.Err() == nil {
			failures = -1 // "the next attempt will occur immediately"
			continue
		}
		pause := time.NewTimer(backoffDelay(w.s.c.cfg.Backoff, failures, rand.Float64()))
		select {
		case <-pause.C:
		case <-ctx.Done():
			pause.Stop()
			return
		}
	}
}

// enter tells the balancer, unless the watch is over.
func (w *healthWatch) enter(ctx context.Context, state connectivity.State, err error) {
	if ctx.Err() != nil || state == connectivity.Ready && state == w.state {
		return
	}
	w.state = state
	told := balancer.SubConnState{ConnectivityState: state}
	e := event.SubchannelState{Target: w.s.c.target, Address: w.s.address(), State: state.String()}
	if state == connectivity.TransientFailure {
		f := w.unhealthy(err)
		w.s.c.blame(f)
		told.ConnectionError, e.Err = &toldError{f}, f
	}
	if sink := w.s.c.cfg.Sink; sink != nil && state != connectivity.Connecting { // it is connected
		sink.Record(e)
	}
	w.tell(told)
}

func (w *healthWatch) unhealthy(err error) *fault.Fault {
	ev := &fault.Evidence{Target: w.s.c.target, Address: w.s.address()}
	text := fmt.Sprint(err)
	if st, ok := status.FromError(err); ok && err != nil {
		ev.GRPCStatus, text = st.Code().String(), st.Message()
	}
	return fault.PickUnhealthy.Newf(fault.Args{Side: fault.Remote, Processed: fault.No, Evidence: ev, Cause: err},
		"%s is connected, but its health for %q is not SERVING: %s", ev.Address, w.service, text)
}
