// SPDX-License-Identifier: Apache-2.0

package channel

import (
	"errors"
	"fmt"
	"net"
	"slices"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc/balancer"
	_ "google.golang.org/grpc/balancer/leastrequest"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/resolver"

	"github.com/faultline-rpc/faultline/fault"
)

// fleet is a farm whose servers die and rise.
type fleet struct {
	farm
	state sync.Mutex
	down  map[string]bool       // guarded by state
	conns map[string][]net.Conn // guarded by state
}

func newFleet(down ...string) *fleet {
	f := &fleet{down: map[string]bool{}, conns: map[string][]net.Conn{}}
	for _, addr := range down {
		f.down[addr] = true
	}
	f.refuse = func(addr string) error {
		f.state.Lock()
		defer f.state.Unlock()
		if f.down[addr] {
			return syscall.ECONNREFUSED
		}
		return nil
	}
	f.serve = func(addr string, nc net.Conn) {
		f.state.Lock()
		f.conns[addr] = append(f.conns[addr], nc)
		f.state.Unlock()
		goodPeer(addr, nc)
	}
	return f
}

func (f *fleet) kill(addr string) {
	f.state.Lock()
	f.down[addr] = true
	conns := f.conns[addr]
	f.conns[addr] = nil
	f.state.Unlock()
	for _, nc := range conns {
		nc.Close()
	}
}

func (f *fleet) raise(addr string) {
	f.state.Lock()
	f.down[addr] = false
	f.state.Unlock()
}

// shares makes n calls that do not wait, and counts who got them. The calls
// stay open until the end.
func shares(t *testing.T, c *Channel, n int) map[string]int {
	t.Helper()
	seen := map[string]int{}
	var ends []func(balancer.DoneInfo)
	for range n {
		p, err := c.Pick(t.Context(), "/s/M", false)
		if err != nil {
			t.Fatalf("a call failed: %v", err)
		}
		seen[p.link.addr.Addr]++
		if p.Done != nil {
			ends = append(ends, p.Done)
		}
	}
	for _, end := range ends {
		end(balancer.DoneInfo{BytesSent: true})
	}
	return seen
}

// Three servers; one dies, one is added, the dead one comes back. Each gets its
// share and no call fails.
func TestShares(t *testing.T) {
	for _, policy := range []string{"round_robin", "least_request_experimental"} {
		t.Run(policy, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h, f, tr := &hand{}, newFleet(), newTranscript()
				c := newChannel(t, "hand:///x", Config{Dialer: f.dial, Sink: tr, Backoff: steady, Resolvers: []resolver.Builder{h.builder()},
					DefaultServiceConfig: `{"loadBalancingConfig":[{"` + policy + `":{}}]}`})
				c.Connect()
				synctest.Wait()
				calls := func() {
					seen := shares(t, c, 1200)
					if policy == "round_robin" {
						tr.note("calls", fmt.Sprint(seen))
						return
					}
					for addr, n := range seen { // chosen between two at random
						if fair := 1200 / len(seen); n < fair*9/10 || n > fair*11/10 {
							t.Errorf("%s got %d of 1200 calls among %d", addr, n, len(seen))
						}
					}
				}
				resolve := func(addrs ...string) {
					if err := h.cc.UpdateState(h.addrs(addrs...)); err != nil {
						t.Fatal(err)
					}
					synctest.Wait()
				}
				tr.do("resolve a, b, c", func() { resolve("a", "b", "c") })
				tr.do("1200 calls", calls)
				tr.do("b dies", func() { f.kill("b"); synctest.Wait() })
				tr.do("1200 calls", calls)
				tr.do("resolve a, b, c, d", func() { resolve("a", "b", "c", "d") })
				tr.do("1200 calls", calls)
				tr.do("b is back, 2 s pass", func() { f.raise("b"); time.Sleep(2 * time.Second) })
				tr.do("1200 calls", calls)
				if policy == "round_robin" {
					tr.check(t, "round-robin")
				}
			})
		})
	}
}

// least_request sends calls past a server that is slow to finish its own.
func TestLeastRequestAvoidsTheSlow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, f := &hand{}, newFleet()
		c := newChannel(t, "hand:///x", Config{Dialer: f.dial, Resolvers: []resolver.Builder{h.builder()},
			DefaultServiceConfig: `{"loadBalancingConfig":[{"least_request_experimental":{"choiceCount":10}}]}`})
		c.Connect()
		synctest.Wait()
		if err := h.cc.UpdateState(h.addrs("a", "b", "slow")); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		seen := map[string]int{}
		for range 300 {
			p := mustPick(t, c)
			seen[p.link.addr.Addr]++
			if p.Done == nil {
				t.Fatal("least_request counts nothing")
			}
			if p.link.addr.Addr != "slow" {
				p.Done(balancer.DoneInfo{})
			}
		}
		if seen["slow"] > 5 || seen["a"] < 100 || seen["b"] < 100 {
			t.Errorf("shares %v", seen)
		}
	})
}

// An endpoint with an address of each family is one server: one of them
// connects, and gets one share.
func TestDualStack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const six, four, other = "[2001:db8::1]:1", "192.0.2.1:1", "192.0.2.2:1"
		h, f := &hand{}, newFleet(six)
		c := newChannel(t, "hand:///x", Config{Dialer: f.dial, Resolvers: []resolver.Builder{h.builder()},
			DefaultServiceConfig: `{"loadBalancingConfig":[{"round_robin":{}}]}`})
		c.Connect()
		synctest.Wait()
		addr := func(s string) resolver.Address { return resolver.Address{Addr: s} }
		if err := h.cc.UpdateState(resolver.State{Endpoints: []resolver.Endpoint{
			{Addresses: []resolver.Address{addr(six), addr(four)}}, {Addresses: []resolver.Address{addr(other)}},
		}}); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if seen := shares(t, c, 100); seen[four] != 50 || seen[other] != 50 {
			t.Errorf("shares %v", seen)
		}
		f.raise(six)
		f.kill(four)
		time.Sleep(5 * time.Second)
		synctest.Wait()
		if seen := shares(t, c, 100); seen[six] != 50 || seen[other] != 50 {
			t.Errorf("shares after the other family's turn %v", seen)
		}
	})
}

// pick_first with several addresses fails with the last attempt's fault, and
// stays in TRANSIENT_FAILURE while it tries again (gRFC A62).
func TestStickyFailure(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, f := &hand{}, newFleet("a", "b")
		c := newChannel(t, "hand:///x", Config{Dialer: f.dial, Resolvers: []resolver.Builder{h.builder()}})
		c.Connect()
		synctest.Wait()
		if err := h.cc.UpdateState(h.addrs("a", "b")); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		for range 20 {
			wantState(t, c, connectivity.TransientFailure)
			got := wantFault(t, pickFault(t, c), expect{fault.DialRefused, fault.Remote, fault.PickNoReady})
			if !errors.Is(got, syscall.ECONNREFUSED) || !slices.Contains([]string{"a", "b"}, got.Evidence().Address) {
				t.Errorf("%+v", got)
			}
			time.Sleep(300 * time.Millisecond)
			synctest.Wait()
		}
		f.raise("b")
		time.Sleep(10 * time.Second)
		synctest.Wait()
		wantState(t, c, connectivity.Ready)
		if p := mustPick(t, c); p.link.addr.Addr != "b" {
			t.Errorf("picked %s", p.link.addr.Addr)
		}
	})
}
