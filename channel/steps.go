// SPDX-License-Identifier: Apache-2.0

package channel

import (
	"context"
	"net"
	"sync"
	"time"

	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/resolver"
	"google.golang.org/grpc/serviceconfig"

	"github.com/faultline-rpc/faultline/fault"
)

// Steps is the way to a connection one step at a time, for programs that look
// at each:
//
//	Resolve -> Dial -> Handshake -> (h2.NewClient) -> PrefaceFault, if that fails
//
// Each does what a channel with the same configuration does, and stamps what
// goes wrong with the same fault. Steps holds nothing open. Its methods may be
// called from any goroutine.
type Steps struct{ c *Channel }

// NewSteps reads a target. The error is New's.
func NewSteps(target string, cfg Config) (*Steps, error) {
	c, err := New(target, cfg)
	if err != nil {
		return nil, err
	}
	return &Steps{c}, nil
}

// Authority returns the :authority of calls.
func (s *Steps) Authority() string { return s.c.authority }

// Endpoint returns the name looked for, with its port where it has one.
func (s *Steps) Endpoint() string { return s.c.endpointAddress() }

// Scheme returns the scheme of the resolver that is asked, such as "dns".
func (s *Steps) Scheme() string { return s.c.parsed.URL.Scheme }

// Proxy returns the address of the proxy through which the target is reached,
// without credentials, or empty.
func (s *Steps) Proxy() string {
	if s.c.proxy == nil {
		return ""
	}
	return s.c.proxy.address
}

// Resolve asks the target's resolver once.
func (s *Steps) Resolve(ctx context.Context) ([]resolver.Address, *fault.Fault) {
	c := s.c
	if addr := c.proxiedTarget(); addr != "" {
		return []resolver.Address{{Addr: addr}}, nil
	}
	got := &onceResolved{c: c, done: make(chan struct{})}
	r, err := c.builder.Build(c.parsed, got, resolver.BuildOptions{DisableServiceConfig: true, DialCreds: c.cfg.Creds,
		CredsBundle: c.cfg.CredsBundle, Dialer: c.cfg.Dialer, Authority: c.authority, MetricsRecorder: c.cfg.Metrics})
	if err != nil {
		return nil, c.resolveFault(err)
	}
	defer r.Close()
	select {
	case <-got.done:
		return got.addrs, got.fault
	case <-ctx.Done():
		return nil, c.resolveFault(ctx.Err())
	}
}

// onceResolved is a resolver.ClientConn that keeps the first result.
type onceResolved struct {
	c     *Channel
	once  sync.Once
	done  chan struct{}
	addrs []resolver.Address // before done is closed, once's
	fault *fault.Fault       // before done is closed, once's
}

func (o *onceResolved) UpdateState(st resolver.State) error {
	o.once.Do(func() {
		defer close(o.done)
		o.addrs = st.Addresses
		for _, e := range st.Endpoints {
			if st.Addresses == nil {
				o.addrs = append(o.addrs, e.Addresses...)
			}
		}
		if len(o.addrs) == 0 {
			o.fault = fault.ResolveNotFound.Newf(fault.Args{Side: fault.Remote, Processed: fault.No,
				Evidence: &fault.Evidence{Target: o.c.target}}, "name resolver error: produced zero addresses for %q", o.c.target)
		}
	})
	return nil
}

func (o *onceResolved) ReportError(err error) {
	o.once.Do(func() {
		defer close(o.done)
		o.fault = o.c.resolveFault(err)
	})
}

func (o *onceResolved) NewAddress(addrs []resolver.Address) {
	_ = o.UpdateState(resolver.State{Addresses: addrs})
}

func (o *onceResolved) ParseServiceConfig(js string) *serviceconfig.ParseResult {
	sc, err := parseServiceConfig(js, o.c.cfg.MaxCallAttempts)
	if err != nil {
		return &serviceconfig.ParseResult{Err: err}
	}
	return &serviceconfig.ParseResult{Config: sc}
}

// Dial opens a connection to an address that Resolve returned, through the
// proxy if there is one.
func (s *Steps) Dial(ctx context.Context, a resolver.Address) (net.Conn, *fault.Fault) {
	return s.c.plan(a).open(withHandshakeInfo(ctx, credentials.ClientHandshakeInfo{Attributes: a.Attributes}), s.c)
}

// Handshake secures nc with the credentials. It closes nc on failure.
func (s *Steps) Handshake(ctx context.Context, nc net.Conn, a resolver.Address) (net.Conn, credentials.AuthInfo, *fault.Fault) {
	ctx = withHandshakeInfo(ctx, credentials.ClientHandshakeInfo{Attributes: a.Attributes})
	return s.c.handshake(ctx, nc, s.ServerName(a), s.evidence(a, nc))
}

// ServerName is the name that the handshake verifies.
func (s *Steps) ServerName(a resolver.Address) string { return s.c.serverName(a) }

// PrefaceFault says why the connection to a, without TLS if plain, ended with
// err, that of [h2.Conn.Run], before the peer's SETTINGS had come. late says
// that they were given up waiting for.
func (s *Steps) PrefaceFault(err error, a resolver.Address, nc net.Conn, plain, late bool) *fault.Fault {
	return prefaceFault(err, s.evidence(a, nc), plain, late)
}

// Silence is the fault of a connection to a on which nothing was read for
// every, nor an answer to a PING within timeout.
func (s *Steps) Silence(a resolver.Address, nc net.Conn, every, timeout time.Duration) *fault.Fault {
	return silentFault(s.evidence(a, nc), every, timeout)
}

// Unhealthy is the fault of a server that says of service, which may be empty,
// that it is in the health state named, which is not SERVING.
func (s *Steps) Unhealthy(address, service, state string) *fault.Fault {
	return fault.PickUnhealthy.Newf(fault.Args{Side: fault.Remote, Processed: fault.No,
		Evidence: &fault.Evidence{Target: s.c.target, Address: address}},
		"%s is connected, but its health for %q is %s", address, service, state)
}

func (s *Steps) evidence(a resolver.Address, nc net.Conn) fault.Evidence {
	ev := s.c.plan(a).evidence(s.c)
	ev.Local = addrString(nc.LocalAddr())
	return ev
}
