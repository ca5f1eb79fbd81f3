// SPDX-License-Identifier: Apache-2.0

package channel

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc/balancer"
	"google.golang.org/grpc/balancer/base"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/resolver"

	"github.com/faultline-rpc/faultline/fault"
	"github.com/faultline-rpc/faultline/h2"
)

// slowFarm is a farm whose dials take a second to a, 1.25 s to others.
func slowFarm(refuse func(string) error) (func(context.Context, string) (net.Conn, error), *farm) {
	f := &farm{serve: goodPeer, refuse: refuse}
	return func(ctx context.Context, addr string) (net.Conn, error) {
		wait := time.Second
		if addr != "a" {
			wait += 250 * time.Millisecond
		}
		select {
		case <-time.After(wait):
			return f.dial(ctx, addr)
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}, f
}

// While a new policy connects, the old one's connection carries the calls: of
// calls that do not wait none fails, none is held up.
func TestPolicySwitchDropsNoCall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := &hand{}
		dial, _ := slowFarm(nil)
		tr := newTranscript()
		c := newChannel(t, "hand:///x", Config{Dialer: dial, Sink: tr, Resolvers: []resolver.Builder{h.builder()}})
		c.Connect()
		synctest.Wait()
		configure := func(js string, addrs ...string) {
			s := h.addrs(addrs...)
			s.ServiceConfig = h.cc.ParseServiceConfig(js)
			if err := h.cc.UpdateState(s); err != nil {
				t.Fatal(err)
			}
		}
		seen := map[string]int{}
		calls := func(n int) {
			for range n {
				begin := time.Now()
				p, err := c.Pick(t.Context(), "/s/M", false)
				if err != nil {
					t.Fatalf("a call failed: %v", err)
				}
				if d := time.Since(begin); d > 0 {
					t.Errorf("a call waited %v", d)
				}
				seen[p.link.addr.Addr]++
				time.Sleep(100 * time.Millisecond)
			}
			tr.note("calls", fmt.Sprint(n, " served by ", slices.Sorted(maps.Keys(seen))))
			clear(seen)
		}
		tr.do("resolve a, b with pick_first", func() {
			configure(`{"loadBalancingPolicy":"pick_first"}`, "a", "b")
			time.Sleep(time.Second)
		})
		tr.do("20 calls in 2 s, the policy becomes round_robin before the first", func() {
			configure(`{"loadBalancingPolicy":"round_robin"}`, "a", "b")
			calls(20)
		})
		tr.do("back to pick_first, and to round_robin before it has connected", func() {
			configure(`{"loadBalancingPolicy":"pick_first"}`, "a", "b")
			calls(5)
			configure(`{"loadBalancingPolicy":"round_robin"}`, "a", "b")
			calls(20)
		})
		tr.check(t, "policy-switch")
	})
}

// An old policy that loses its connection makes way at once; one whose
// connection holds serves on while the new one fails.
func TestPolicySwitchFailures(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := &hand{}
		var down atomic.Bool
		f := &farm{serve: goodPeer, refuse: func(string) error {
			if down.Load() {
				return syscall.ECONNREFUSED
			}
			return nil
		}}
		c := newChannel(t, "hand:///x", Config{Dialer: f.dial, Resolvers: []resolver.Builder{h.builder()}})
		c.Connect()
		synctest.Wait()
		if err := h.cc.UpdateState(h.addrs("a")); err != nil {
			t.Fatal(err)
		}
		old := mustPick(t, c)
		down.Store(true)
		s := h.addrs("a")
		s.ServiceConfig = h.cc.ParseServiceConfig(`{"loadBalancingPolicy":"round_robin"}`)
		if err := h.cc.UpdateState(s); err != nil {
			t.Fatal(err)
		}
		time.Sleep(10 * time.Second)
		synctest.Wait()
		wantState(t, c, connectivity.Ready)
		if p := mustPick(t, c); p.Conn != old.Conn {
			t.Error("the old connection was left")
		}
		old.Conn.Abort(errCustom)
		synctest.Wait()
		wantState(t, c, connectivity.TransientFailure)
		wantFault(t, pickFault(t, c), expect{fault.DialRefused, fault.Remote, fault.PickNoReady})
		down.Store(false)
		if p := mustPick(t, c); p.Conn == old.Conn {
			t.Error("the dead connection was picked")
		}
	})
}

// A policy that lets calls fail without so much as a connection has decided so.
func TestPolicySwitchToFailure(t *testing.T) {
	balancer.Register(refusing{})
	synctest.Test(t, func(t *testing.T) {
		h, f := &hand{}, &farm{serve: goodPeer}
		c := newChannel(t, "hand:///x", Config{Dialer: f.dial, Resolvers: []resolver.Builder{h.builder()}})
		c.Connect()
		if err := h.cc.UpdateState(h.addrs("a")); err != nil {
			t.Fatal(err)
		}
		mustPick(t, c)
		s := h.addrs("a")
		s.ServiceConfig = h.cc.ParseServiceConfig(`{"loadBalancingConfig":[{"refusing":{}}]}`)
		if err := h.cc.UpdateState(s); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		wantState(t, c, connectivity.TransientFailure)
		if _, err := c.Pick(t.Context(), "/s/M", false); err == nil || !strings.Contains(err.Error(), "closed for the night") {
			t.Errorf("a call got %v", err)
		}
	})
}

// refusing is a balancing policy that makes no connection.
type refusing struct{ balancer.Balancer }

func (refusing) Name() string { return "refusing" }
func (refusing) Build(cc balancer.ClientConn, _ balancer.BuildOptions) balancer.Balancer {
	return &refuser{cc: cc}
}

type refuser struct {
	balancer.Balancer
	cc balancer.ClientConn
}

func (r *refuser) UpdateClientConnState(balancer.ClientConnState) error {
	r.cc.UpdateState(balancer.State{ConnectivityState: connectivity.TransientFailure,
		Picker: base.NewErrPicker(errors.New("closed for the night"))})
	return nil
}

func (*refuser) ResolverError(error) {}
func (*refuser) ExitIdle()           {}
func (*refuser) Close()              {}

// Close in the middle of a switch closes both policies.
func TestCloseInPolicySwitch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, one, two := &hand{}, &scripted{}, &scripted{}
		dial, _ := slowFarm(nil)
		balancer.Register(scriptedBuilder{"switch_one", one})
		balancer.Register(scriptedBuilder{"switch_two", two})
		c := newChannel(t, "hand:///x", Config{Dialer: dial, Resolvers: []resolver.Builder{h.builder()}})
		c.Connect()
		synctest.Wait()
		for _, policy := range []string{"switch_one", "switch_two"} {
			s := h.addrs("a")
			s.ServiceConfig = h.cc.ParseServiceConfig(`{"loadBalancingPolicy":"` + policy + `"}`)
			if err := h.cc.UpdateState(s); err != nil {
				t.Fatal(err)
			}
			if policy == "switch_one" {
				mustPick(t, c)
			}
		}
		if one.built.Load().closed {
			t.Error("the old policy was closed before the new one was ready")
		}
		c.Close()
		if !one.built.Load().closed || !two.built.Load().closed {
			t.Error("a policy outlives the channel")
		}
		if len(c.subs) != 0 {
			t.Errorf("%d subchannels are left", len(c.subs))
		}
	})
}

// Under load from several goroutines, policies change a hundred times and no
// call fails. Whoever got a connection that was given up meanwhile takes
// another, as calls do.
func TestPolicySwitchUnderLoad(t *testing.T) {
	noLeaks(t)
	h, f := &hand{}, &farm{serve: goodPeer}
	built := make(chan struct{})
	b := stubBuilder{"hand", func(_ resolver.Target, cc resolver.ClientConn) (resolver.Resolver, error) {
		h.cc = cc
		close(built)
		return h, nil
	}}
	c := newChannel(t, "hand:///x", Config{Dialer: f.dial, Resolvers: []resolver.Builder{b}})
	c.Connect()
	<-built
	configure := func(policy string) {
		s := h.addrs("a", "b", "c")
		s.ServiceConfig = h.cc.ParseServiceConfig(`{"loadBalancingConfig":[{"` + policy + `":{}}]}`)
		if err := h.cc.UpdateState(s); err != nil {
			t.Error(err)
		}
	}
	configure("round_robin")
	var calls, moved atomic.Int64
	work := make(chan struct{}, 8)
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for range work {
				p, err := c.Pick(t.Context(), "/s/M", false)
				if err != nil {
					t.Errorf("a call failed: %v", err)
					continue
				}
				s, err := tryStream(p)
				if err != nil {
					p.Lost()
					moved.Add(1)
					continue
				}
				s.Reset(h2.Cancel)
				if p.Done != nil {
					p.Done(balancer.DoneInfo{})
				}
				calls.Add(1)
			}
		})
	}
	for i := range 100 {
		configure([]string{"pick_first", "round_robin", "least_request_experimental"}[i%3])
		for range 200 {
			work <- struct{}{}
		}
	}
	close(work)
	wg.Wait()
	if n := calls.Load() + moved.Load(); n != 20000 {
		t.Errorf("%d of 20000 calls", n)
	}
	t.Logf("%d calls, %d moved to another connection", calls.Load(), moved.Load())
}

// sleeper is a policy that is IDLE until somebody picks.
type sleeper struct{ scripted }

func (*sleeper) Name() string { return "sleeper" }
func (s *sleeper) Build(cc balancer.ClientConn, _ balancer.BuildOptions) balancer.Balancer {
	return &sleeperBalancer{scriptedBalancer{s: &s.scripted, cc: cc}}
}

type sleeperBalancer struct{ scriptedBalancer }

func (b *sleeperBalancer) UpdateClientConnState(s balancer.ClientConnState) error {
	var err error
	b.sc, err = b.cc.NewSubConn(s.ResolverState.Addresses, balancer.NewSubConnOptions{})
	b.cc.UpdateState(balancer.State{ConnectivityState: connectivity.Idle, Picker: wakePicker{b.sc}})
	return err
}

type wakePicker struct{ sc balancer.SubConn }

func (p wakePicker) Pick(balancer.PickInfo) (balancer.PickResult, error) {
	p.sc.Connect()
	return balancer.PickResult{}, balancer.ErrNoSubConnAvailable
}

// A policy that waits for a call before it connects would wait for ever if the
// old one kept the calls.
func TestPolicySwitchToLazyPolicy(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		balancer.Register(&sleeper{})
		h, f := &hand{}, &farm{serve: goodPeer}
		c := newChannel(t, "hand:///x", Config{Dialer: f.dial, Resolvers: []resolver.Builder{h.builder()}})
		c.Connect()
		synctest.Wait()
		if err := h.cc.UpdateState(h.addrs("a")); err != nil {
			t.Fatal(err)
		}
		old := mustPick(t, c)
		s := h.addrs("a")
		s.ServiceConfig = h.cc.ParseServiceConfig(`{"loadBalancingPolicy":"sleeper"}`)
		if err := h.cc.UpdateState(s); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		wantState(t, c, connectivity.Idle)
		if p := mustPick(t, c); p.Conn == old.Conn {
			t.Error("the old policy's connection was picked")
		}
	})
}
