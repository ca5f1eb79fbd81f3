// SPDX-License-Identifier: Apache-2.0

package channel

import (
	"testing"
	"testing/synctest"

	"google.golang.org/grpc/balancer"
	"google.golang.org/grpc/balancer/lazy"
	"google.golang.org/grpc/balancer/pickfirst"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/resolver"
	"google.golang.org/grpc/resolver/manual"

	"github.com/faultline-rpc/faultline/fault"
)

// When Connect returns the resolver may be fed.
func TestManualResolverAfterConnect(t *testing.T) {
	for range 100 {
		m := manual.NewBuilderWithScheme("manual")
		c := newChannel(t, "manual:///x", Config{Resolvers: []resolver.Builder{m}})
		c.Connect()
		m.CC().ReportError(errCustom)
		c.Close()
	}
}

// An address's own name is what TLS verifies, and so the :authority.
func TestAddressServerName(t *testing.T) {
	for option, want := range map[string]string{"": "address.name", "option": "option"} {
		synctest.Test(t, func(t *testing.T) {
			f, m := &farm{serve: goodPeer}, manual.NewBuilderWithScheme("manual")
			m.InitialState(resolver.State{Addresses: []resolver.Address{{Addr: "a", ServerName: "address.name"}}})
			c := newChannel(t, "manual:///x", Config{Dialer: f.dial, Resolvers: []resolver.Builder{m}, Authority: option})
			if p := mustPick(t, c); p.Authority != want {
				t.Errorf("authority %q, want %q", p.Authority, want)
			}
		})
	}
}

// grpc-go's manual resolver plugs in as it is.
func TestManualResolver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, m := &farm{serve: goodPeer}, manual.NewBuilderWithScheme("manual")
		m.InitialState(resolver.State{Addresses: []resolver.Address{{Addr: "a"}}})
		c := newChannel(t, m.Scheme()+":///x", Config{Dialer: f.dial, Resolvers: []resolver.Builder{m}})
		if p := mustPick(t, c); p.link.addr.Addr != "a" {
			t.Errorf("connected to %s", p.link.addr.Addr)
		}
		s := resolver.State{Endpoints: []resolver.Endpoint{{Addresses: []resolver.Address{{Addr: "b"}}}}}
		s.ServiceConfig = m.CC().ParseServiceConfig(`{"methodConfig":[{"name":[{}],"waitForReady":true}]}`)
		m.UpdateState(s)
		synctest.Wait()
		if p := mustPick(t, c); p.link.addr.Addr != "b" || !*c.MethodConfig("/s/M").WaitForReady {
			t.Errorf("connected to %s", p.link.addr.Addr)
		}
		d := newChannel(t, m.Scheme()+":///y", Config{Dialer: f.dial, Resolvers: []resolver.Builder{manual.NewBuilderWithScheme("manual")}})
		d.Connect()
		synctest.Wait()
		m2 := d.builder.(*manual.Resolver)
		m2.CC().ReportError(errCustom)
		wantFault(t, pickFault(t, d), expect{fault.ResolveFailed, fault.Remote, fault.PickNoReady})
	})
}

// lazyBuilder's policy is pick_first that stays IDLE until it is asked.
type lazyBuilder struct{}

func (lazyBuilder) Name() string { return "lazy_pick_first" }
func (lazyBuilder) Build(cc balancer.ClientConn, o balancer.BuildOptions) balancer.Balancer {
	return lazy.NewBalancer(cc, o, balancer.Get(pickfirst.Name).Build)
}

// Connect asks a policy that waits to be asked, whether the resolver's answer
// is there or comes later.
func TestConnectWakesThePolicy(t *testing.T) {
	balancer.Register(lazyBuilder{})
	for _, late := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			f, m := &farm{serve: goodPeer}, manual.NewBuilderWithScheme("manual")
			s := resolver.State{Addresses: []resolver.Address{{Addr: "a"}}}
			if !late {
				m.InitialState(s)
			}
			c := newChannel(t, "manual:///x", Config{Dialer: f.dial, Resolvers: []resolver.Builder{m}, DefaultServiceConfig: `{"loadBalancingConfig":[{"lazy_pick_first":{}}]}`})
			c.Connect()
			synctest.Wait()
			if late {
				m.UpdateState(s)
				synctest.Wait()
			}
			if got := c.State(); got != connectivity.Ready {
				t.Errorf("late %v: %v", late, got)
			}
		})
	}
}
