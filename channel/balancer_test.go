// SPDX-License-Identifier: Apache-2.0

package channel

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc/balancer"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/resolver"
	"google.golang.org/grpc/status"

	"github.com/faultline-rpc/faultline/fault"
)

// hand is a resolver that a test moves by hand.
type hand struct {
	cc    resolver.ClientConn
	asked atomic.Int32
}

func (h *hand) builder() resolver.Builder {
	return stubBuilder{"hand", func(_ resolver.Target, cc resolver.ClientConn) (resolver.Resolver, error) {
		h.cc = cc
		return h, nil
	}}
}
func (h *hand) ResolveNow(resolver.ResolveNowOptions) { h.asked.Add(1) }
func (h *hand) Close()                                {}

func (h *hand) addrs(addrs ...string) resolver.State {
	var s resolver.State
	for _, a := range addrs {
		s.Addresses = append(s.Addresses, resolver.Address{Addr: a})
	}
	return s
}

// scripted is a policy whose picker is the test's. Its one subchannel connects
// to the first address.
type scripted struct {
	pick   func(sc balancer.SubConn, in balancer.PickInfo) (balancer.PickResult, error)
	listen func(cc balancer.ClientConn, sc balancer.SubConn, s balancer.SubConnState)
	built  atomic.Pointer[scriptedBalancer]
}

type scriptedBuilder struct {
	name string
	s    *scripted
}

type scriptedBalancer struct {
	s       *scripted
	cc      balancer.ClientConn
	sc      balancer.SubConn
	updates int
	closed  bool
}

func (b scriptedBuilder) Name() string { return b.name }
func (b scriptedBuilder) Build(cc balancer.ClientConn, o balancer.BuildOptions) balancer.Balancer {
	sb := &scriptedBalancer{s: b.s, cc: cc}
	b.s.built.Store(sb)
	return sb
}
func (b *scriptedBalancer) UpdateClientConnState(s balancer.ClientConnState) error {
	b.updates++
	if b.sc != nil {
		return nil
	}
	var err error
	b.sc, err = b.cc.NewSubConn(s.ResolverState.Addresses, balancer.NewSubConnOptions{})
	if err == nil {
		b.sc.Connect()
	}
	return err
}
func (b *scriptedBalancer) ResolverError(error) {}

// UpdateSubConnState is how subchannels without a listener report.
func (b *scriptedBalancer) UpdateSubConnState(sc balancer.SubConn, s balancer.SubConnState) {
	if b.s.listen != nil {
		b.s.listen(b.cc, sc, s)
	}
	if s.ConnectivityState == connectivity.Ready || s.ConnectivityState == connectivity.TransientFailure {
		b.cc.UpdateState(balancer.State{ConnectivityState: s.ConnectivityState, Picker: scriptedPicker{b}})
	}
}
func (b *scriptedBalancer) Close()    { b.closed = true }
func (b *scriptedBalancer) ExitIdle() {}

type scriptedPicker struct{ b *scriptedBalancer }

func (p scriptedPicker) Pick(in balancer.PickInfo) (balancer.PickResult, error) {
	if p.b.s.pick == nil {
		return balancer.PickResult{SubConn: p.b.sc}, nil
	}
	return p.b.s.pick(p.b.sc, in)
}

// withPolicy registers s under the test's name and returns a config for it.
func withPolicy(t *testing.T, s *scripted) string {
	name := strings.ToLower(strings.NewReplacer("/", "_", " ", "_").Replace(t.Name()))
	balancer.Register(scriptedBuilder{name, s})
	return fmt.Sprintf(`{"loadBalancingConfig":[{%q:{}}]}`, name)
}

func TestPickers(t *testing.T) {
	stat := func(c codes.Code) error { return status.Error(c, "the balancer's words") }
	row := func(e *fault.Entry) expect { return expect{e, fault.Local, nil} }
	tests := []struct {
		name string
		err  error
		want expect
	}{
		{"unavailable drops", stat(codes.Unavailable), row(fault.PickDropped)},
		{"exhausted drops", stat(codes.ResourceExhausted), row(fault.PickDropped)},
		{"permission drops", stat(codes.PermissionDenied), row(fault.PickDropped)},
		{"cancel drops", stat(codes.Canceled), row(fault.PickDropped)},
		{"invalid argument", stat(codes.InvalidArgument), row(fault.ResolveControlPlaneCode)},
		{"not found", stat(codes.NotFound), row(fault.ResolveControlPlaneCode)},
		{"already exists", stat(codes.AlreadyExists), row(fault.ResolveControlPlaneCode)},
		{"failed precondition", stat(codes.FailedPrecondition), row(fault.ResolveControlPlaneCode)},
		{"aborted", stat(codes.Aborted), row(fault.ResolveControlPlaneCode)},
		{"out of range", stat(codes.OutOfRange), row(fault.ResolveControlPlaneCode)},
		{"data loss", stat(codes.DataLoss), row(fault.ResolveControlPlaneCode)},
		{"plain", errCustom, row(fault.PickNoReady)},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				sc := withPolicy(t, &scripted{pick: func(balancer.SubConn, balancer.PickInfo) (balancer.PickResult, error) {
					return balancer.PickResult{}, tt.err
				}})
				f := &farm{serve: goodPeer}
				c := newChannel(t, "passthrough:///x", Config{Dialer: f.dial, DefaultServiceConfig: sc})
				got := wantFault(t, pickFault(t, c), tt.want)
				if !errors.Is(got, tt.err) {
					t.Errorf("cause %v", got.Unwrap())
				}
				if st, ok := status.FromError(tt.err); ok {
					if !strings.Contains(got.Message(), "the balancer's words") || got.Evidence().GRPCStatus != st.Code().String() {
						t.Errorf("%q, %+v", got.Message(), got.Evidence())
					}
					if got.Entry() == fault.PickDropped && got.Code() != st.Code() {
						t.Errorf("code %v, want the balancer's, %v", got.Code(), st.Code())
					}
					// A status ends calls that wait, too.
					if _, err := c.Pick(t.Context(), "/m", true); err == nil {
						t.Error("wait-for-ready survived a status")
					}
				}
			})
		})
	}
}

// A picker that flattens its cause to text, or hands it back, does not hide
// what the channel saw.
func TestPickerFlattens(t *testing.T) {
	for _, how := range []string{"text", "value", "wrapped"} {
		synctest.Test(t, func(t *testing.T) {
			var seen error
			p := &scripted{}
			p.listen = func(_ balancer.ClientConn, _ balancer.SubConn, s balancer.SubConnState) {
				if s.ConnectionError != nil {
					seen = s.ConnectionError
				}
			}
			p.pick = func(balancer.SubConn, balancer.PickInfo) (balancer.PickResult, error) {
				switch how {
				case "text":
					return balancer.PickResult{}, errors.New("last error: " + seen.Error())
				case "wrapped":
					return balancer.PickResult{}, fmt.Errorf("last error: %w", seen)
				}
				return balancer.PickResult{}, seen
			}
			f := &farm{refuse: func(string) error { return syscall.ECONNREFUSED }}
			balancer.Register(scriptedBuilder{"flatten_" + how, p})
			c := newChannel(t, "passthrough:///x", Config{Dialer: f.dial, DefaultServiceConfig: `{"loadBalancingConfig":[{"flatten_` + how + `":{}}]}`})
			got := wantFault(t, pickFault(t, c), expect{fault.DialRefused, fault.Remote, fault.PickNoReady})
			if !errors.Is(got, syscall.ECONNREFUSED) || !errors.Is(seen, syscall.ECONNREFUSED) {
				t.Errorf("%s: ECONNREFUSED is lost: %v; the balancer saw %v", how, got, seen)
			}
		})
	}
}

// What a picker adds travels with the pick; a subchannel that is not ready
// makes the call wait for the next picker, and Done is called.
func TestPickResult(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var in balancer.PickInfo
		done := 0
		md := metadata.Pairs("lb-token", "1")
		sc := withPolicy(t, &scripted{pick: func(sc balancer.SubConn, i balancer.PickInfo) (balancer.PickResult, error) {
			in = i
			return balancer.PickResult{SubConn: sc, Metadata: md, Done: func(balancer.DoneInfo) { done++ }}, nil
		}})
		tries := 0
		f := &farm{serve: goodPeer, refuse: func(string) error {
			if tries++; tries == 1 {
				return errCustom
			}
			return nil
		}}
		c := newChannel(t, "passthrough:///x", Config{Dialer: f.dial, DefaultServiceConfig: sc})
		type key struct{}
		ctx, cancel := context.WithTimeout(context.WithValue(t.Context(), key{}, "v"), time.Minute)
		defer cancel()
		got := make(chan Picked)
		go func() {
			p, err := c.Pick(ctx, "/s/M", false)
			if err != nil {
				t.Error(err)
			}
			got <- p
		}()
		synctest.Wait() // the picker offers a subchannel in TRANSIENT_FAILURE
		if done != 1 {
			t.Errorf("Done called %d times for a subchannel that is not ready", done)
		}
		time.Sleep(2 * time.Second)
		synctest.Wait()
		c.mu.Lock()
		for s := range c.subs {
			go s.Connect()
		}
		c.mu.Unlock()
		p := <-got
		if in.FullMethodName != "/s/M" || in.Ctx.Value(key{}) != "v" {
			t.Errorf("picker saw %+v", in)
		}
		if p.Metadata.Get("lb-token")[0] != "1" || p.Done == nil || p.Conn == nil {
			t.Errorf("picked %+v", p)
		}
	})
}

func TestPickAllocatesNothing(t *testing.T) {
	f := &farm{serve: goodPeer}
	c := newChannel(t, "passthrough:///x", Config{Dialer: f.dial})
	mustPick(t, c)
	ctx := t.Context()
	if n := testing.AllocsPerRun(100, func() {
		if _, err := c.Pick(ctx, "/s/M", false); err != nil {
			t.Fatal(err)
		}
	}); n != 0 {
		t.Errorf("%v allocations per Pick", n)
	}
}

func BenchmarkPick(b *testing.B) {
	f := &farm{serve: goodPeer}
	c, err := New("passthrough:///x", Config{Dialer: f.dial, Creds: insecureCreds})
	if err != nil {
		b.Fatal(err)
	}
	defer c.Close()
	ctx := context.Background()
	for b.Loop() {
		if _, err := c.Pick(ctx, "/s/M", true); err != nil {
			b.Fatal(err)
		}
	}
}

func TestRoundRobin(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := &hand{}
		f := &farm{serve: goodPeer, refuse: func(addr string) error {
			if addr == "down" {
				return syscall.ECONNREFUSED
			}
			return nil
		}}
		c := newChannel(t, "hand:///x", Config{Dialer: f.dial, Resolvers: []resolver.Builder{h.builder()},
			DefaultServiceConfig: `{"loadBalancingConfig":[{"round_robin":{}}]}`})
		c.Connect()
		synctest.Wait()
		if err := h.cc.UpdateState(h.addrs("a", "b", "down")); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		seen := map[string]int{}
		for range 10 {
			seen[mustPick(t, c).link.addr.Addr]++
		}
		if seen["a"] != 5 || seen["b"] != 5 {
			t.Errorf("picks %v", seen)
		}
		if err := h.cc.UpdateState(h.addrs("down")); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		wantFault(t, pickFault(t, c), expect{fault.DialRefused, fault.Remote, fault.PickNoReady})
	})
}

// Another policy in the service config replaces the one at work.
func TestPolicySwitch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, first := &hand{}, &scripted{}
		f := &farm{serve: goodPeer}
		sc := withPolicy(t, first)
		c := newChannel(t, "hand:///x", Config{Dialer: f.dial, Resolvers: []resolver.Builder{h.builder()}})
		c.Connect()
		synctest.Wait()
		s := h.addrs("a")
		s.ServiceConfig = h.cc.ParseServiceConfig(sc)
		if err := h.cc.UpdateState(s); err != nil {
			t.Fatal(err)
		}
		old := mustPick(t, c)
		sb := first.built.Load()
		s.ServiceConfig = h.cc.ParseServiceConfig(`{"loadBalancingPolicy":"pick_first"}`)
		if err := h.cc.UpdateState(s); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if next := mustPick(t, c); next.Conn == old.Conn {
			t.Error("the old policy's connection was picked")
		}
		synctest.Wait()
		<-old.Conn.Done() // it carried no stream
		if !sb.closed {
			t.Error("the old policy is open")
		}
		// It is not listened to any more.
		sb.cc.UpdateState(balancer.State{ConnectivityState: connectivity.TransientFailure, Picker: failPicker{errCustom}})
		if sub, err := sb.cc.NewSubConn(s.Addresses, balancer.NewSubConnOptions{}); err != ErrClosed {
			t.Errorf("a closed policy made %v, %v", sub, err)
		}
		wantState(t, c, connectivity.Ready)
	})
}

// Producers and health listeners live as long as the state they were made in.
func TestSubchannelExtras(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &farm{serve: goodPeer}
		var health []connectivity.State
		p := &scripted{}
		p.listen = func(_ balancer.ClientConn, sc balancer.SubConn, s balancer.SubConnState) {
			sc.RegisterHealthListener(func(balancer.SubConnState) { t.Error("a replaced listener was told") })
			sc.RegisterHealthListener(func(h balancer.SubConnState) { health = append(health, h.ConnectivityState) })
		}
		sc := withPolicy(t, p)
		c := newChannel(t, "passthrough:///x", Config{Dialer: f.dial, DefaultServiceConfig: sc,
			SubchannelConn: func(s *Subchannel) any { return s }})
		picked := mustPick(t, c)
		synctest.Wait()
		if len(health) != 1 || health[0] != connectivity.Ready {
			t.Errorf("health %v", health)
		}
		b := &producerBuilder{}
		one, release := picked.Sub.GetOrBuildProducer(b)
		two, release2 := picked.Sub.GetOrBuildProducer(b)
		if one != two || b.built != 1 || b.conn != any(picked.Sub) {
			t.Errorf("builder %+v", b)
		}
		release()
		release()
		if b.closed != 0 {
			t.Error("closed with a user left")
		}
		release2()
		if b.closed != 1 {
			t.Error("not closed with the last user")
		}
		_, release = picked.Sub.GetOrBuildProducer(b)
		picked.Lost()
		synctest.Wait()
		if b.closed != 2 {
			t.Error("not closed with the connection")
		}
		release()
		if b.closed != 2 {
			t.Error("closed twice")
		}
		sb := p.built.Load()
		if sb.cc.MetricsRecorder() == nil || sb.cc.Target() != "passthrough:///x" { //nolint:staticcheck // public method
			t.Error("the balancer's view of the channel is incomplete")
		}
	})
}

type producerBuilder struct {
	conn          any
	built, closed int
}

func (b *producerBuilder) Build(conn any) (balancer.Producer, func()) {
	b.conn = conn
	b.built++
	return b, func() { b.closed++ }
}

func TestUpdateAddresses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &farm{serve: goodPeer}
		p := &scripted{}
		c := newChannel(t, "passthrough:///a", Config{Dialer: f.dial, DefaultServiceConfig: withPolicy(t, p)})
		old := mustPick(t, c)
		update := func(addrs ...string) {
			old.Sub.policy.UpdateAddresses(old.Sub, (&hand{}).addrs(addrs...).Addresses) //nolint:staticcheck // public method
			synctest.Wait()
		}
		update("b", "a")
		update()
		if got := mustPick(t, c); got.Conn != old.Conn {
			t.Error("a connection to a listed address was given up")
		}
		update("c")
		if got := mustPick(t, c); got.Conn == old.Conn || got.link.addr.Addr != "c" {
			t.Errorf("connected to %v", got.link.addr)
		}
		<-old.Conn.Done()
		old.Sub.policy.RemoveSubConn(old.Sub) //nolint:staticcheck // public method
		if st, _ := old.Sub.State(); st != connectivity.Shutdown {
			t.Errorf("removed subchannel is %v", st)
		}
	})
}
