// SPDX-License-Identifier: Apache-2.0

package channel

import (
	"errors"
	"fmt"
	"sync"

	"google.golang.org/grpc/balancer"
	"google.golang.org/grpc/balancer/pickfirst"
	_ "google.golang.org/grpc/balancer/roundrobin" // service configs may count on it
	"google.golang.org/grpc/connectivity"
	estats "google.golang.org/grpc/experimental/stats"
	"google.golang.org/grpc/resolver"
	"google.golang.org/grpc/serviceconfig"

	"github.com/faultline-rpc/faultline/fault"
)

// balancerHost runs the channel's balancing policy. All calls into policies are
// made one at a time, in the order in which their reasons arose.
//
// Another policy in the service config is built beside the one at work, and
// takes its place when it has a connection, or at once if the old one has none:
//
//	        use                     READY or IDLE; or cur leaves READY
//	(none) -----> next, connecting ------------------------------------> cur
//	                                 the old cur is closed
type balancerHost struct {
	session *session
	calls   serializer

	mu   sync.Mutex           // taken before Channel.mu
	cur  *policy              // guarded by mu: its picker is the channel's; nil before the first update
	next *policy              // guarded by mu: gets the updates if it is there
	open map[*policy]struct{} // the serializer's: built and not closed
	wake bool                 // the serializer's: the first policy shall connect, whatever it waits for
}

// policy is one balancer at work, and the balancer.ClientConn it sees.
type policy struct {
	balancer.ClientConn // nil: asked for by the interface; every public method is below

	host *balancerHost
	name string
	b    balancer.Balancer // set before any callback
	last balancer.State    // guarded by host.mu: as the policy reported

	mu     sync.Mutex
	closed bool                     // guarded by mu
	subs   map[*Subchannel]struct{} // guarded by mu
}

// update hands new addresses to the policy that the service config names, and
// returns its answer.
func (h *balancerHost) update(s resolver.State, sc *ServiceConfig) error {
	answer := make(chan error, 1)
	ok := h.calls.do(func() {
		name := pickfirst.Name
		var lb serviceconfig.LoadBalancingConfig
		if sc != nil && sc.Policy != "" {
			name, lb = sc.Policy, sc.PolicyLB
		}
		p, err := h.use(name)
		if err == nil {
			err = p.b.UpdateClientConnState(balancer.ClientConnState{ResolverState: s, BalancerConfig: lb})
			if h.wake {
				h.wake = false
				p.b.ExitIdle()
			}
		}
		answer <- err
	})
	if !ok {
		return ErrClosed
	}
	return <-answer
}

// resolverError hands the resolver's failure to the policy, the default one if
// none is at work yet.
func (h *balancerHost) resolverError(err error) {
	h.calls.do(func() {
		p := h.latest()
		if p == nil {
			if p, _ = h.use(pickfirst.Name); p == nil {
				return
			}
		}
		p.b.ResolverError(err)
	})
}

// fail makes calls fail with f, until the policy at work has something better.
func (h *balancerHost) fail(f *fault.Fault) {
	h.calls.do(func() { h.session.publish(connectivity.TransientFailure, failPicker{&toldError{f}}) })
}

// exitIdle asks the policy to connect, or the first to come.
func (h *balancerHost) exitIdle() {
	h.calls.do(func() {
		if p := h.latest(); p != nil {
			p.b.ExitIdle()
			return
		}
		h.wake = true
	})
}

func (h *balancerHost) close() {
	h.calls.close(func() {
		h.mu.Lock()
		h.cur, h.next = nil, nil
		h.mu.Unlock()
		for p := range h.open {
			p.close()
		}
	})
}

// latest is the policy that the resolver's updates are for.
func (h *balancerHost) latest() *policy {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.next != nil {
		return h.next
	}
	return h.cur
}

// use returns the policy of that name, which may have to be built. It runs in
// the serializer.
func (h *balancerHost) use(name string) (*policy, error) {
	b := balancer.Get(name)
	if b == nil {
		return nil, fmt.Errorf("channel: no balancer %q is registered", name)
	}
	h.mu.Lock()
	var dropped *policy // a change of mind
	if h.next != nil && h.next.name != name {
		dropped, h.next = h.next, nil
	}
	p := h.cur
	if h.next != nil {
		p = h.next
	}
	if p != nil && p.name == name {
		h.mu.Unlock()
		dropped.close()
		return p, nil
	}
	p = &policy{host: h, name: name, subs: map[*Subchannel]struct{}{},
		last: balancer.State{ConnectivityState: connectivity.Connecting, Picker: queuePicker{}}}
	if h.cur == nil {
		h.cur = p
	} else {
		h.next = p
	}
	if h.open == nil {
		h.open = map[*policy]struct{}{}
	}
	h.open[p] = struct{}{}
	h.mu.Unlock()
	dropped.close()
	c := h.session.c
	p.b = b.Build(p, balancer.BuildOptions{
		DialCreds:       c.cfg.Creds,
		CredsBundle:     c.cfg.CredsBundle,
		Dialer:          c.cfg.Dialer,
		Authority:       c.authority,
		CustomUserAgent: c.cfg.UserAgent,
		Target:          c.parsed,
	})
	return p, nil
}

// UpdateState implements balancer.ClientConn. The picker is the channel's if
// the policy is the one at work or may now take its place.
func (p *policy) UpdateState(s balancer.State) {
	if s.Picker == nil {
		s.Picker = queuePicker{} // as in grpc-go
	}
	p.mu.Lock()
	connects := len(p.subs) > 0
	p.mu.Unlock()
	h := p.host
	h.mu.Lock()
	defer h.mu.Unlock()
	p.last = s
	serves := h.cur != nil && h.cur.last.ConnectivityState == connectivity.Ready
	waits := s.ConnectivityState == connectivity.Connecting || s.ConnectivityState == connectivity.TransientFailure && connects
	switch {
	case p == h.next && serves && waits:
		// The old policy's connections carry the calls meanwhile: while the new
		// one's come about, or fail to. That it lets calls fail is a decision, if
		// it does not even try.
	case p == h.next || p == h.cur && h.next != nil && !serves:
		old := h.cur
		h.cur, h.next = h.next, nil
		h.session.publish(h.cur.last.ConnectivityState, h.cur.last.Picker)
		h.calls.do(old.close)
	case p == h.cur:
		h.session.publish(s.ConnectivityState, s.Picker)
	}
}

// close ends the policy and the subchannels it left behind. It runs in the
// serializer.
func (p *policy) close() {
	if p == nil {
		return
	}
	delete(p.host.open, p)
	p.mu.Lock()
	p.closed = true
	p.mu.Unlock()
	p.b.Close()
	p.mu.Lock()
	subs := p.subs
	p.subs = nil
	p.mu.Unlock()
	for s := range subs {
		s.Shutdown()
	}
}

// NewSubConn implements balancer.ClientConn.
func (p *policy) NewSubConn(addrs []resolver.Address, o balancer.NewSubConnOptions) (balancer.SubConn, error) {
	if len(addrs) == 0 {
		return nil, errors.New("channel: a subchannel needs an address")
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return nil, ErrClosed
	}
	s := newSubchannel(p.host.session.c, p, addrs, o)
	if !p.host.session.c.addSub(s) {
		return nil, ErrClosed
	}
	p.subs[s] = struct{}{}
	return s, nil
}

// RemoveSubConn implements balancer.ClientConn.
func (p *policy) RemoveSubConn(sc balancer.SubConn) {
	if s, ok := sc.(*Subchannel); ok {
		s.Shutdown()
	}
}

// UpdateAddresses implements balancer.ClientConn.
func (p *policy) UpdateAddresses(sc balancer.SubConn, addrs []resolver.Address) {
	if s, ok := sc.(*Subchannel); ok {
		s.UpdateAddresses(addrs)
	}
}

// ResolveNow implements balancer.ClientConn.
func (p *policy) ResolveNow(resolver.ResolveNowOptions) { p.host.session.resolver.resolveNow() }

// Target implements balancer.ClientConn.
func (p *policy) Target() string { return p.host.session.c.target }

// MetricsRecorder implements balancer.ClientConn.
func (p *policy) MetricsRecorder() estats.MetricsRecorder { return p.host.session.c.cfg.Metrics }

// tell calls f among the other calls into the policy, unless it has closed.
func (p *policy) tell(f func()) {
	p.host.calls.do(func() {
		p.mu.Lock()
		closed := p.closed
		p.mu.Unlock()
		if !closed {
			f()
		}
	})
}

func (p *policy) forget(s *Subchannel) {
	p.mu.Lock()
	delete(p.subs, s)
	p.mu.Unlock()
	c := p.host.session.c
	c.mu.Lock()
	delete(c.subs, s)
	c.mu.Unlock()
}

// addSub remembers a subchannel for Close. It reports false after Close.
func (c *Channel) addSub(s *Subchannel) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return false
	}
	c.subs[s] = struct{}{}
	return true
}
