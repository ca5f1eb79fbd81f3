// SPDX-License-Identifier: Apache-2.0

package channel

import (
	"context"
	"errors"
	"net"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc/attributes"
	"google.golang.org/grpc/balancer"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/resolver"
	"google.golang.org/grpc/serviceconfig"
	"google.golang.org/grpc/status"

	"github.com/faultline-rpc/faultline/event"
	"github.com/faultline-rpc/faultline/fault"
)

var insecureCreds = insecure.NewCredentials()

func TestResolverErrors(t *testing.T) {
	row := func(e *fault.Entry, s fault.Side) expect { return expect{e, s, fault.PickNoReady} }
	tests := []struct {
		name string
		err  error
		want expect
	}{
		{"plain", errCustom, row(fault.ResolveFailed, fault.Remote)},
		{"deadline", context.DeadlineExceeded, row(fault.ResolveFailed, fault.Between)},
		{"unavailable", status.Error(codes.Unavailable, "xds down"), row(fault.ResolveFailed, fault.Remote)},
		{"reserved", status.Error(codes.NotFound, "no such cluster"), row(fault.ResolveControlPlaneCode, fault.Remote)},
		{"dns", &net.DNSError{Name: "x", IsNotFound: true}, row(fault.ResolveNotFound, fault.Remote)},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h := &hand{}
				c := newChannel(t, "hand:///x", Config{Resolvers: []resolver.Builder{h.builder()}})
				c.Connect()
				synctest.Wait()
				h.cc.ReportError(tt.err)
				got := wantFault(t, pickFault(t, c), tt.want)
				if !errors.Is(got, tt.err) {
					t.Errorf("cause %v", got.Unwrap())
				}
				wantState(t, c, connectivity.TransientFailure)
			})
		})
	}
}

// An error after good addresses does not disturb calls; a good answer after an
// error takes the error away.
func TestResolverRecovers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, f := &hand{}, &farm{serve: goodPeer}
		c := newChannel(t, "hand:///x", Config{Dialer: f.dial, Resolvers: []resolver.Builder{h.builder()}})
		c.Connect()
		synctest.Wait()
		h.cc.ReportError(errCustom)
		wantFault(t, pickFault(t, c), expect{fault.ResolveFailed, fault.Remote, fault.PickNoReady})
		if err := h.cc.UpdateState(h.addrs()); !errors.Is(err, balancer.ErrBadResolverState) {
			t.Errorf("no address: %v", err)
		}
		wantFault(t, pickFault(t, c), expect{fault.ResolveNotFound, fault.Remote, fault.PickNoReady})
		h.cc.NewAddress([]resolver.Address{{Addr: "a"}}) //nolint:staticcheck // public method
		p := mustPick(t, c)
		h.cc.ReportError(errCustom)
		if q := mustPick(t, c); q.Conn != p.Conn {
			t.Error("a resolver's error cost the connection")
		}
		c.Close()
		if err := h.cc.UpdateState(h.addrs("b")); err != nil {
			t.Errorf("update after Close: %v", err)
		}
		h.cc.ReportError(errCustom)
	})
}

// Lost and failed connections ask the resolver to look again.
func TestReResolve(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := &hand{}
		f := &farm{refuse: func(string) error { return syscall.ECONNREFUSED }}
		c := newChannel(t, "hand:///x", Config{Dialer: f.dial, Resolvers: []resolver.Builder{h.builder()}})
		c.Connect()
		synctest.Wait()
		if err := h.cc.UpdateState(h.addrs("a")); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if h.asked.Load() == 0 {
			t.Error("a failed connection did not ask the resolver")
		}
	})
}

// gRFC A21: a bad service config fails calls only if there was no good one.
func TestServiceConfigErrors(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, f := &hand{}, &farm{serve: goodPeer}
		c := newChannel(t, "hand:///x", Config{Dialer: f.dial, Resolvers: []resolver.Builder{h.builder()}})
		c.Connect()
		synctest.Wait()
		bad := h.addrs("a")
		bad.ServiceConfig = h.cc.ParseServiceConfig(`{"loadBalancingConfig":3}`)
		if err := h.cc.UpdateState(bad); err == nil {
			t.Error("a bad service config was accepted")
		}
		synctest.Wait()
		f1 := wantFault(t, pickFault(t, c), expect{fault.ResolveBadServiceConfig, fault.Remote, fault.PickNoReady})
		if !strings.Contains(f1.Message(), `error parsing service config: service config: loadBalancingConfig holds 3; expected a list`) {
			t.Errorf("%q does not say what was expected", f1.Message())
		}
		foreign := h.addrs("a")
		foreign.ServiceConfig = &serviceconfig.ParseResult{}
		if err := h.cc.UpdateState(foreign); err == nil {
			t.Error("a foreign service config was accepted")
		}
		if err := h.cc.UpdateState(h.addrs("a")); err != nil {
			t.Fatal(err)
		}
		p := mustPick(t, c)
		var told *ConfigError
		if err := h.cc.UpdateState(bad); !errors.As(err, &told) {
			t.Errorf("a bad service config after a good one: the resolver is told %v", err)
		}
		if q := mustPick(t, c); q.Conn != p.Conn {
			t.Error("a bad service config cost the connection")
		}
	})
	synctest.Test(t, func(t *testing.T) {
		h, f, sink := &hand{}, &farm{serve: goodPeer}, &unresolved{}
		c := newChannel(t, "hand:///x", Config{Dialer: f.dial, Sink: sink, Resolvers: []resolver.Builder{h.builder()},
			DefaultServiceConfig: `{"methodConfig":[{"name":[{}],"timeout":"3s"}]}`})
		c.Connect()
		synctest.Wait()
		bad := h.addrs("a")
		bad.ServiceConfig = h.cc.ParseServiceConfig(`{"loadBalancingConfig":3}`)
		if err := h.cc.UpdateState(bad); err == nil {
			t.Error("the resolver is not told of a bad service config")
		}
		mustPick(t, c)
		if mc := c.MethodConfig("/s/M"); mc == nil || *mc.Timeout != 3*time.Second {
			t.Errorf("with a bad service config %+v applies; want the default", mc)
		}
		good := h.addrs("a")
		good.ServiceConfig = h.cc.ParseServiceConfig(`{}`)
		for _, s := range []resolver.State{good, bad} {
			_ = h.cc.UpdateState(s)
			if mc := c.MethodConfig("/s/M"); mc != nil {
				t.Errorf("%+v applies; want the last good one, which is empty", mc)
			}
		}
		var told *ConfigError
		if got := sink.errs.Load(); got == nil || !errors.As(*got, &told) {
			t.Errorf("observers heard %v", got)
		}
	})
	if _, err := New("x", Config{Creds: insecureCreds, DefaultServiceConfig: "{"}); err == nil || !strings.Contains(err.Error(), "channel: the default service config holds {; expected JSON") {
		t.Errorf("bad default: %v", err)
	}
}

// unresolved keeps the last error of a resolver.
type unresolved struct{ errs atomic.Pointer[error] }

func (u *unresolved) Record(e event.Event) {
	if r, ok := e.(event.Resolved); ok && r.Err != nil {
		u.errs.Store(&r.Err)
	}
}

func TestDisabledServiceConfig(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, f := &hand{}, &farm{serve: goodPeer}
		c := newChannel(t, "hand:///x", Config{Dialer: f.dial, Resolvers: []resolver.Builder{h.builder()}, DisableServiceConfig: true})
		c.Connect()
		synctest.Wait()
		s := h.addrs("a")
		s.ServiceConfig = h.cc.ParseServiceConfig(`{`)
		if err := h.cc.UpdateState(s); err != nil {
			t.Fatal(err)
		}
		mustPick(t, c)
	})
}

// A resolver that cannot be built is tried again.
func TestResolverBuildFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &farm{serve: goodPeer}
		builds := 0
		b := stubBuilder{"own", func(_ resolver.Target, cc resolver.ClientConn) (resolver.Resolver, error) {
			if builds++; builds < 3 {
				return nil, errCustom
			}
			return staticResolver{}, cc.UpdateState(resolver.State{Addresses: []resolver.Address{{Addr: "a"}}})
		}}
		c := newChannel(t, "own:x", Config{Dialer: f.dial, Resolvers: []resolver.Builder{b}})
		if got := wantFault(t, pickFault(t, c), expect{fault.ResolveFailed, fault.Remote, fault.PickNoReady}); !errors.Is(got, errCustom) {
			t.Errorf("cause %v", got.Unwrap())
		}
		mustPick(t, c)
		if builds != 3 {
			t.Errorf("%d builds", builds)
		}
	})
}

// An address's attributes reach dialer and credentials, its server name the
// handshake.
func TestHandshakeInfo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		type key struct{}
		h, f := &hand{}, &farm{serve: goodPeer}
		creds := &spyCreds{TransportCredentials: insecureCreds}
		dial := func(ctx context.Context, addr string) (net.Conn, error) {
			creds.dialed = credentials.ClientHandshakeInfoFromContext(ctx)
			return f.dial(ctx, addr)
		}
		c := newChannel(t, "hand:///x", Config{Dialer: dial, Creds: creds, Resolvers: []resolver.Builder{h.builder()}})
		c.Connect()
		synctest.Wait()
		s := h.addrs("a")
		s.Addresses[0].ServerName = "backend"
		s.Addresses[0].Attributes = attributes.New(key{}, "v")
		if err := h.cc.UpdateState(s); err != nil {
			t.Fatal(err)
		}
		mustPick(t, c)
		if creds.name != "backend" || creds.shook.Attributes.Value(key{}) != "v" || creds.dialed.Attributes.Value(key{}) != "v" {
			t.Errorf("credentials got %q %v, the dialer %v", creds.name, creds.shook, creds.dialed)
		}
	})
}

type spyCreds struct {
	credentials.TransportCredentials
	name          string
	shook, dialed credentials.ClientHandshakeInfo
}

func (s *spyCreds) ClientHandshake(ctx context.Context, name string, nc net.Conn) (net.Conn, credentials.AuthInfo, error) {
	s.name, s.shook = name, credentials.ClientHandshakeInfoFromContext(ctx)
	return s.TransportCredentials.ClientHandshake(ctx, name, nc)
}

// A subchannel of several addresses takes the first that works, and tells the
// last failure if none does.
func TestSeveralAddresses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, up := &hand{}, "c"
		f := &farm{serve: goodPeer}
		f.refuse = func(addr string) error {
			if addr == up {
				return nil
			}
			return syscall.ECONNREFUSED
		}
		c := newChannel(t, "hand:///x", Config{Dialer: f.dial, Resolvers: []resolver.Builder{h.builder()}, DefaultServiceConfig: withPolicy(t, &scripted{})})
		c.Connect()
		synctest.Wait()
		begin := time.Now()
		if err := h.cc.UpdateState(h.addrs("a", "b", "c")); err != nil {
			t.Fatal(err)
		}
		if p := mustPick(t, c); p.link.addr.Addr != "c" || len(f.seen()) != 3 || !time.Now().Equal(begin) {
			t.Errorf("connected to %v after %v", p.link.addr, f.seen())
		}
	})
}
