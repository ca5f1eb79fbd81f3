// SPDX-License-Identifier: Apache-2.0

package channel

import (
	"errors"
	"fmt"
	"sync"

	"google.golang.org/grpc/balancer"
	"google.golang.org/grpc/balancer/pickfirst"
	"google.golang.org/grpc/connectivity"
	estats "google.golang.org/grpc/experimental/stats"
	"google.golang.org/grpc/resolver"
	"google.golang.org/grpc/serviceconfig"

	"github.com/faultline-rpc/faultline/fault"
)

// balancerHost runs the channel's balancing policy. All calls into it are made
// one at a time, in the order in which their reasons arose.
type balancerHost struct {
	c     *Channel
	calls serializer
	cur   *policy // the serializer's; nil before the first update
}

// policy is one balancer at work, and the balancer.ClientConn it sees.
type policy struct {
	balancer.ClientConn // nil: asked for by the interface; every public method is below

	host *balancerHost
	name string
	b    balancer.Balancer // set before any callback

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
		p := h.cur
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
	h.calls.do(func() { h.c.publish(connectivity.TransientFailure, failPicker{&toldError{f}}) })
}

func (h *balancerHost) exitIdle() {
	h.calls.do(func() {
		if h.cur != nil {
			h.cur.b.ExitIdle()
		}
	})
}

func (h *balancerHost) close() {
	h.calls.close(func() {
		if h.cur != nil {
			h.cur.close()
			h.cur = nil
		}
	})
}

// use returns the policy of that name, after replacing another one. The calls
// that come before the new policy is ready wait for it.
func (h *balancerHost) use(name string) (*policy, error) {
	if h.cur != nil && h.cur.name == name {
		return h.cur, nil
	}
	b := balancer.Get(name)
	if b == nil {
		return nil, fmt.Errorf("channel: no balancer %q is registered", name)
	}
	if h.cur != nil {
		h.c.publish(connectivity.Connecting, queuePicker{})
		h.cur.close()
	}
	c := h.c
	p := &policy{host: h, name: name, subs: map[*Subchannel]struct{}{}}
	p.b = b.Build(p, balancer.BuildOptions{
		DialCreds:       c.cfg.Creds,
		CredsBundle:     c.cfg.CredsBundle,
		Dialer:          c.cfg.Dialer,
		Authority:       c.authority,
		CustomUserAgent: c.cfg.UserAgent,
		Target:          c.parsed,
	})
	h.cur = p
	return p, nil
}

// close ends the policy and the subchannels it left behind.
func (p *policy) close() {
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
	s := newSubchannel(p.host.c, p, addrs, o.StateListener)
	if !p.host.c.addSub(s) {
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

// UpdateState implements balancer.ClientConn.
func (p *policy) UpdateState(s balancer.State) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed || s.Picker == nil {
		return
	}
	p.host.c.publish(s.ConnectivityState, s.Picker)
}

// ResolveNow implements balancer.ClientConn.
func (p *policy) ResolveNow(resolver.ResolveNowOptions) { p.host.c.resolver.resolveNow() }

// Target implements balancer.ClientConn.
func (p *policy) Target() string { return p.host.c.target }

// MetricsRecorder implements balancer.ClientConn.
func (p *policy) MetricsRecorder() estats.MetricsRecorder { return p.host.c.cfg.Metrics }

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
	c := p.host.c
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
