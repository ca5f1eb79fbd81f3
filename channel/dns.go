// SPDX-License-Identifier: Apache-2.0

package channel

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"time"

	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/resolver"
)

const (
	// dnsMinInterval is the least time between two successful look-ups.
	dnsMinInterval = 30 * time.Second
	// dnsTimeout bounds one look-up.
	dnsTimeout = 30 * time.Second
)

// dnsBuilder resolves dns:///host:port and dns://server/host:port by A and
// AAAA records, and takes the service config from TXT records. Unlike grpc-go's
// it hands on the look-up's error, typed. SRV records, which only the retired
// grpclb policy used, are not asked for.
type dnsBuilder struct {
	// lookup and text stand in for the system's look-ups in tests; without text
	// there are no TXT records then.
	lookup func(ctx context.Context, host string) ([]string, error)
	text   func(ctx context.Context, name string) ([]string, error)
}

func (*dnsBuilder) Scheme() string { return "dns" }

func (b *dnsBuilder) Build(t resolver.Target, cc resolver.ClientConn, o resolver.BuildOptions) (resolver.Resolver, error) {
	host, port, err := splitEndpoint(t.Endpoint())
	if err != nil {
		return nil, err
	}
	if net.ParseIP(host) != nil {
		_ = cc.UpdateState(resolver.State{Addresses: []resolver.Address{{Addr: net.JoinHostPort(host, port)}}})
		return staticResolver{}, nil
	}
	lookup, text := b.lookup, b.text
	if lookup == nil {
		r, server, err := netResolver(t.URL.Host)
		if err != nil {
			return nil, err
		}
		lookup, text = r.LookupHost, r.LookupTXT
		if server != "" {
			lookup = func(ctx context.Context, host string) ([]string, error) {
				hosts, err := r.LookupHost(ctx, host)
				return hosts, askedOf(server, err)
			}
		}
	}
	if o.DisableServiceConfig || !textEnabled() {
		text = nil
	}
	ctx, cancel := context.WithCancel(context.Background())
	r := &dnsResolver{host: host, port: port, lookup: lookup, text: text, cc: cc,
		cancel: cancel, now: make(chan struct{}, 1), done: make(chan struct{})}
	go r.watch(ctx)
	return r, nil
}

// dnsServer returns the address of the name server in a target's authority.
func dnsServer(authority string) (string, error) {
	host, port, err := net.SplitHostPort(authority)
	if err != nil {
		host, port = authority, "53"
	}
	if host == "" || !validPort(port) {
		return "", fmt.Errorf("bad name server %q; expected host or host:port", authority)
	}
	if n := len(host); n > 2 && host[0] == '[' && host[n-1] == ']' {
		host = host[1 : n-1]
	}
	return net.JoinHostPort(host, port), nil
}

// netResolver returns what looks names up, and the address of the name server
// unless that is the system's choice.
func netResolver(authority string) (*net.Resolver, string, error) {
	if authority == "" {
		r := net.DefaultResolver
		if r.Dial == nil {
			r = &net.Resolver{PreferGo: r.PreferGo, StrictErrors: r.StrictErrors, Dial: dialDNS}
		}
		return r, "", nil
	}
	server, err := dnsServer(authority)
	if err != nil {
		return nil, "", err
	}
	return &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, network, _ string) (net.Conn, error) {
		return dialDNS(ctx, network, server)
	}}, server, nil
}

// dialDNS connects to a name server until ctx ends, which Go's resolver does
// when the question is answered or given up: of itself it would wait for
// a silent server for seconds after its caller has gone.
func dialDNS(ctx context.Context, network, address string) (net.Conn, error) {
	var d net.Dialer
	nc, err := d.DialContext(ctx, network, address)
	if err == nil {
		context.AfterFunc(ctx, func() { nc.Close() })
	}
	return nc, err
}

// askedOf corrects a look-up's error, which names the system's name server even
// where another was asked.
func askedOf(server string, err error) error {
	dns, ok := err.(*net.DNSError)
	if !ok || dns.Server == "" {
		return err
	}
	corrected := *dns
	corrected.Server = server
	return &corrected
}

// dnsResolver watches one name. A look-up follows a request for it, but not
// sooner than dnsMinInterval after the last success; failures are repeated
// with backoff.
type dnsResolver struct {
	host, port string
	lookup     func(ctx context.Context, host string) ([]string, error)
	text       func(ctx context.Context, name string) ([]string, error) // nil: no service config
	cc         resolver.ClientConn
	cancel     context.CancelFunc
	now        chan struct{} // capacity 1: requests made meanwhile are one
	done       chan struct{}
}

// ResolveNow asks for a look-up. It never blocks.
func (r *dnsResolver) ResolveNow(resolver.ResolveNowOptions) {
	select {
	case r.now <- struct{}{}:
	default:
	}
}

// Close ends the watch and waits for it.
func (r *dnsResolver) Close() {
	r.cancel()
	<-r.done
}

func (r *dnsResolver) watch(ctx context.Context) {
	defer close(r.done)
	for failures := 0; ; {
		wait := dnsMinInterval
		if err := r.resolve(ctx); err != nil {
			wait = backoffDelay(backoff.DefaultConfig, failures, rand.Float64())
			failures++
		} else {
			failures = 0
		}
		timer := time.NewTimer(wait)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return
		}
		if failures > 0 {
			continue
		}
		select {
		case <-r.now:
		case <-ctx.Done():
			return
		}
	}
}

// resolve looks the name up once and reports what came of it.
func (r *dnsResolver) resolve(ctx context.Context) error {
	lctx, cancel := context.WithTimeout(ctx, dnsTimeout)
	defer cancel()
	config := r.lookUpConfig(lctx)
	hosts, err := r.lookup(lctx, r.host)
	if ctx.Err() != nil {
		return nil
	}
	if err == nil && len(hosts) == 0 {
		err = &net.DNSError{Err: "the answer holds no address", Name: r.host, IsNotFound: true}
	}
	if err != nil {
		var dns *net.DNSError
		if !errors.As(err, &dns) {
			err = &net.DNSError{UnwrapErr: err, Err: err.Error(), Name: r.host, IsTimeout: errors.Is(err, context.DeadlineExceeded)}
		}
		r.cc.ReportError(err)
		return err
	}
	state := resolver.State{Addresses: make([]resolver.Address, len(hosts)), ServiceConfig: <-config}
	for i, h := range hosts {
		state.Addresses[i].Addr = net.JoinHostPort(h, r.port)
	}
	return r.cc.UpdateState(state)
}
