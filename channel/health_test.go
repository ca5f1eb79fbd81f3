// SPDX-License-Identifier: Apache-2.0

package channel

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc/balancer"
	"google.golang.org/grpc/balancer/base"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/resolver"
	"google.golang.org/grpc/status"

	"github.com/faultline-rpc/faultline/fault"
)

// clinic answers health calls. A nil answer of a channel ends the call with
// UNIMPLEMENTED, an error other than errNotServing ends it with that.
type clinic struct {
	mu      sync.Mutex
	reports map[string]chan error // by address; guarded by mu
	calls   []string              // guarded by mu
	open    int                   // guarded by mu
}

var (
	errServing    = errors.New("SERVING")
	errNotServing = errors.New("NOT_SERVING")
)

func (k *clinic) of(addr string) chan error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.reports == nil {
		k.reports = map[string]chan error{}
	}
	if k.reports[addr] == nil {
		k.reports[addr] = make(chan error, 16)
	}
	return k.reports[addr]
}

func (k *clinic) seen() (calls []string, open int) {
	k.mu.Lock()
	defer k.mu.Unlock()
	return append(calls, k.calls...), k.open
}

func (k *clinic) check(ctx context.Context, s *Subchannel, service string, set func(connectivity.State, error)) error {
	p, ok := s.Pick()
	if !ok {
		return status.Error(codes.Unavailable, "no connection")
	}
	addr := p.link.addr.Addr
	k.mu.Lock()
	k.calls = append(k.calls, service+"@"+addr)
	k.open++
	k.mu.Unlock()
	defer func() {
		k.mu.Lock()
		k.open--
		k.mu.Unlock()
	}()
	for {
		select {
		case err := <-k.of(addr):
			switch err {
			case errServing:
				set(connectivity.Ready, nil)
			case errNotServing:
				set(connectivity.TransientFailure, err)
			default:
				return err
			}
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

const healthConfig = `,"healthCheckConfig":{"serviceName":"shop"}`

// Servers that are not SERVING get no calls; if none is, the calls' fault says
// so and names the cause.
func TestHealth(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, f, k, tr := &hand{}, newFleet(), &clinic{}, newTranscript()
		var log bytes.Buffer
		c := newChannel(t, "hand:///x", Config{Dialer: f.dial, Sink: tr, Logger: slog.New(slog.NewTextHandler(&log, nil)), Backoff: steady, Resolvers: []resolver.Builder{h.builder()}, HealthCheck: k.check,
			DefaultServiceConfig: `{"loadBalancingConfig":[{"round_robin":{}}]` + healthConfig + `}`})
		c.Connect()
		synctest.Wait()
		report := func(addr string, what error) func() { return func() { k.of(addr) <- what } }
		tr.do("resolve a, b", func() {
			if err := h.cc.UpdateState(h.addrs("a", "b")); err != nil {
				t.Fatal(err)
			}
		})
		wantState(t, c, connectivity.Connecting)
		tr.do("a is NOT_SERVING", report("a", errNotServing))
		wantState(t, c, connectivity.Connecting)
		tr.do("b is NOT_SERVING", report("b", errNotServing))
		wantState(t, c, connectivity.TransientFailure)
		got := wantFault(t, pickFault(t, c), expect{fault.PickUnhealthy, fault.Remote, fault.PickNoReady})
		if !errors.Is(got, errNotServing) || got.Evidence().Address != "b" || !strings.Contains(got.Message(), `its health for "shop" is not SERVING: NOT_SERVING`) {
			t.Errorf("%+v", got)
		}
		tr.do("a is SERVING", report("a", errServing))
		if seen := shares(t, c, 10); seen["a"] != 10 {
			t.Errorf("shares %v", seen)
		}
		tr.do("b is SERVING", report("b", errServing))
		if seen := shares(t, c, 10); seen["a"] != 5 {
			t.Errorf("shares %v", seen)
		}
		tr.do("a's call ends with UNAVAILABLE", report("a", status.Error(codes.Unavailable, "bye")))
		if seen := shares(t, c, 10); seen["b"] != 10 {
			t.Errorf("shares %v", seen)
		}
		tr.do("1 s passes; a does not implement health", func() {
			time.Sleep(time.Second)
			report("a", status.Error(codes.Unimplemented, "what?"))()
		})
		if seen := shares(t, c, 10); seen["a"] != 5 {
			t.Errorf("shares %v", seen)
		}
		if want := `level=WARN msg="the peer does not implement health checks and counts as healthy" role=client target=hand:///x peer=pipe local=pipe service=shop`; !strings.Contains(log.String(), want) {
			t.Errorf("the log does not say that a's health is unknown: %q", log.String())
		}
		tr.do("b dies", func() { f.kill("b") })
		if _, open := k.seen(); open != 0 {
			t.Errorf("%d health calls outlive their connections", open)
		}
		tr.check(t, "health")
	})
}

// Without a function, without a service name, and with pick_first, health is
// not asked for.
func TestHealthUnasked(t *testing.T) {
	tests := []struct {
		name, config string
		off          bool
	}{
		{"no function", `{"loadBalancingConfig":[{"round_robin":{}}]` + healthConfig + `}`, true},
		{"no config", `{"loadBalancingConfig":[{"round_robin":{}}]}`, false},
		{"no name", `{"loadBalancingConfig":[{"round_robin":{}}],"healthCheckConfig":{}}`, false},
		{"pick_first", `{"loadBalancingConfig":[{"pick_first":{}}]` + healthConfig + `}`, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f, k := &farm{serve: goodPeer}, &clinic{}
				cfg := Config{Dialer: f.dial, HealthCheck: k.check, DefaultServiceConfig: tt.config}
				if tt.off {
					cfg.HealthCheck = nil
				}
				mustPick(t, newChannel(t, "passthrough:///x", cfg))
				if calls, _ := k.seen(); len(calls) != 0 {
					t.Errorf("health calls %q", calls)
				}
			})
		})
	}
}

// A connection that ends before the policy learns of it is not watched any more.
func TestHealthOfALostConnection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, k := &farm{serve: goodPeer}, &clinic{}
		c := newChannel(t, "passthrough:///x", Config{Dialer: f.dial, HealthCheck: k.check, Logger: slog.New(slog.DiscardHandler),
			DefaultServiceConfig: `{"loadBalancingConfig":[{"pick_first":{}}]` + healthConfig + `}`})
		s := mustPick(t, c).Sub
		before, _ := k.seen()
		l := s.ready.Swap(nil)
		s.RegisterHealthListener(func(st balancer.SubConnState) { t.Errorf("told %v", st.ConnectivityState) })
		s.ready.Store(l)
		synctest.Wait()
		if calls, _ := k.seen(); len(calls) != len(before) {
			t.Errorf("health calls: %q", calls[len(before):])
		}
	})
}

// Failing health calls are repeated with backoff, and at once after an answer
// (gRFC A17), upon which the backoff is counted anew.
func TestHealthBackoff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, k := &farm{serve: goodPeer}, &clinic{}
		c := newChannel(t, "passthrough:///x", Config{Dialer: f.dial, HealthCheck: k.check,
			DefaultServiceConfig: `{"loadBalancingConfig":[{"round_robin":{}}],"healthCheckConfig":{"serviceName":""}}`})
		c.Connect()
		for _, after := range []time.Duration{2 * time.Second, 3 * time.Second, 5 * time.Second} {
			synctest.Wait()
			before, _ := k.seen()
			k.of("x") <- errCustom
			synctest.Wait()
			wantState(t, c, connectivity.TransientFailure)
			wantFault(t, pickFault(t, c), expect{fault.PickUnhealthy, fault.Remote, fault.PickNoReady})
			time.Sleep(after / 4)
			synctest.Wait()
			if calls, _ := k.seen(); len(calls) != len(before) {
				t.Errorf("called again before %v", after/4)
			}
			time.Sleep(after)
			synctest.Wait()
			if calls, _ := k.seen(); len(calls) != len(before)+1 || calls[0] != "@x" {
				t.Errorf("calls %q", calls)
			}
		}
		k.of("x") <- errServing
		mustPick(t, c)
		before, _ := k.seen()
		k.of("x") <- errCustom
		synctest.Wait()
		wantState(t, c, connectivity.Connecting)
		if calls, _ := k.seen(); len(calls) != len(before)+1 {
			t.Errorf("after an answer the call is not made again at once: %d calls after %d", len(calls), len(before))
		}
		for i, after := range []time.Duration{2 * time.Second, 3 * time.Second} { // counted anew
			k.of("x") <- errCustom
			synctest.Wait()
			if calls, _ := k.seen(); len(calls) != len(before)+1+i {
				t.Errorf("called again without a pause")
			}
			time.Sleep(after)
			synctest.Wait()
			if calls, _ := k.seen(); len(calls) != len(before)+2+i {
				t.Errorf("not counted anew: %d calls after %d", len(calls), len(before))
			}
		}
	})
}

// Policies of the older kind get the health as the subchannel's state.
func TestHealthOfOlderPolicies(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		balancer.Register(base.NewBalancerBuilder("base_checked", firstPicker{}, base.Config{HealthCheck: true}))
		f, k := &farm{serve: goodPeer}, &clinic{}
		c := newChannel(t, "passthrough:///x", Config{Dialer: f.dial, HealthCheck: k.check,
			DefaultServiceConfig: `{"loadBalancingConfig":[{"base_checked":{}}]` + healthConfig + `}`})
		c.Connect()
		synctest.Wait()
		wantState(t, c, connectivity.Connecting)
		k.of("x") <- errNotServing
		synctest.Wait()
		wantState(t, c, connectivity.TransientFailure)
		wantFault(t, pickFault(t, c), expect{fault.PickUnhealthy, fault.Remote, fault.PickNoReady})
		k.of("x") <- errServing
		p := mustPick(t, c)
		p.Conn.Abort(errCustom)
		synctest.Wait()
		if _, open := k.seen(); open > 1 {
			t.Errorf("%d health calls", open)
		}
	})
}

// firstPicker picks any ready subchannel.
type firstPicker struct{}

func (firstPicker) Build(info base.PickerBuildInfo) balancer.Picker {
	for sc := range info.ReadySCs {
		return fixedPicker{sc}
	}
	return base.NewErrPicker(balancer.ErrNoSubConnAvailable)
}

type fixedPicker struct{ sc balancer.SubConn }

func (p fixedPicker) Pick(balancer.PickInfo) (balancer.PickResult, error) {
	return balancer.PickResult{SubConn: p.sc}, nil
}
