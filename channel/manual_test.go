// SPDX-License-Identifier: Apache-2.0

package channel

import (
	"testing"
	"testing/synctest"

	"google.golang.org/grpc/resolver"
	"google.golang.org/grpc/resolver/manual"

	"github.com/faultline-rpc/faultline/fault"
)

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
