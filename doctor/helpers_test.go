// SPDX-License-Identifier: Apache-2.0

package doctor

import (
	"context"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"google.golang.org/grpc/resolver"

	"github.com/faultline-rpc/faultline/internal/peer"
	"github.com/faultline-rpc/faultline/internal/simnet"
)

// listed is a resolver of targets that list their addresses: "listed:///a,b".
type listed struct{}

func init() { resolver.Register(listed{}) }

func (listed) Scheme() string                           { return "listed" }
func (listed) ResolveNow(resolver.ResolveNowOptions)    {}
func (listed) Close()                                   {}
func (listed) OverrideAuthority(resolver.Target) string { return "listed" }
func (l listed) Build(t resolver.Target, cc resolver.ClientConn, _ resolver.BuildOptions) (resolver.Resolver, error) {
	var st resolver.State
	for _, a := range strings.Split(t.Endpoint(), ",") {
		st.Addresses = append(st.Addresses, resolver.Address{Addr: a})
	}
	_ = cc.UpdateState(st)
	return l, nil
}

// host is what stands at an address.
type host func(t *testing.T, ctx context.Context) (net.Conn, error)

// failing cannot be dialed; nil swallows packets.
func failing(err error) host {
	return func(_ *testing.T, ctx context.Context) (net.Conn, error) {
		if err == nil {
			<-ctx.Done()
			return nil, ctx.Err()
		}
		return nil, &net.OpError{Op: "dial", Net: "tcp", Err: err}
	}
}

// serving serves a script.
func serving(s peer.Script, o ...peer.Options) host {
	return listening(func(l net.Listener) *peer.Service { return peer.Serve(l, s, o...) })
}

// saying serves bytes.
func saying(r peer.Raw) host {
	return listening(func(l net.Listener) *peer.Service { return peer.ServeRaw(l, r) })
}

func listening(serve func(net.Listener) *peer.Service) host {
	var l *simnet.Listener
	return func(t *testing.T, ctx context.Context) (net.Conn, error) {
		if l == nil {
			l = simnet.Listen(simnet.Options{})
			s := serve(l)
			t.Cleanup(func() { _ = s.Close() })
		}
		return l.Dial(ctx, "")
	}
}

// network is addresses and what stands at them.
func network(t *testing.T, hosts map[string]host) func(context.Context, string) (net.Conn, error) {
	gate := make(chan struct{}, 1) // hosts are started one at a time
	return func(ctx context.Context, addr string) (net.Conn, error) {
		h := hosts[addr]
		if h == nil {
			return nil, fmt.Errorf("the test has no host %q", addr)
		}
		gate <- struct{}{}
		probe, err := (net.Conn)(nil), error(nil)
		done := make(chan struct{})
		go func() {
			defer close(done)
			probe, err = h(t, ctx)
		}()
		select {
		case <-done:
			<-gate
		case <-time.After(time.Millisecond):
			<-gate
			<-done
		}
		return probe, err
	}
}

// rung finds a rung by name, the last of that name.
func rung(t *testing.T, r *Report, name string) Probe {
	t.Helper()
	for i := len(r.Probes) - 1; i >= 0; i-- {
		if r.Probes[i].Name == name {
			return r.Probes[i]
		}
	}
	t.Fatalf("there is no rung %q in %+v", name, r.Probes)
	return Probe{}
}

func value(p Probe, name string) string {
	for _, f := range p.Evidence {
		if f.Name == name {
			return f.Value
		}
	}
	return ""
}

// well is a peer with nothing wrong.
var well = peer.Each(peer.OK([]byte{8, 1}))

var noAnswer = peer.Each(peer.Silence())

const noError = http2.ErrCodeNo
