// SPDX-License-Identifier: Apache-2.0

package channel

import (
	"context"
	"errors"
	"math/rand/v2"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc/resolver"
	"google.golang.org/grpc/serviceconfig"
	"google.golang.org/grpc/status"

	"github.com/faultline-rpc/faultline/event"
	"github.com/faultline-rpc/faultline/fault"
)

// resolverHost runs the target's resolver and is its resolver.ClientConn. Calls
// into the resolver are made one at a time; its updates reach the balancer in
// order, and UpdateState returns the balancer's answer.
type resolverHost struct {
	session *session
	calls   serializer

	res     resolver.Resolver // the serializer's
	retry   *time.Timer       // the serializer's: builds again after Build failed
	failed  int               // the serializer's: failures of Build in a row
	pending atomic.Bool       // a ResolveNow is queued

	mu     sync.Mutex // serializes updates
	closed atomic.Bool
}

// start builds the resolver.
func (h *resolverHost) start() { h.calls.do(h.build) }

// waitForBuild waits until the resolver has been built, or could not be.
func (h *resolverHost) waitForBuild() {
	built := make(chan struct{})
	if h.calls.do(func() { close(built) }) {
		<-built
	}
}

func (h *resolverHost) build() {
	if h.closed.Load() || h.res != nil {
		return
	}
	c := h.session.c
	b := c.builder
	if addr := c.proxiedTarget(); addr != "" {
		// The proxy resolves the name (gRFC A1).
		h.res = staticResolver{}
		_ = h.UpdateState(resolver.State{Addresses: []resolver.Address{{Addr: addr}}})
		return
	}
	r, err := b.Build(c.parsed, h, resolver.BuildOptions{
		DisableServiceConfig: c.cfg.DisableServiceConfig,
		DialCreds:            c.cfg.Creds,
		CredsBundle:          c.cfg.CredsBundle,
		Dialer:               c.cfg.Dialer,
		Authority:            c.authority,
		MetricsRecorder:      c.cfg.Metrics,
	})
	if err != nil {
		h.ReportError(err)
		h.retry = time.AfterFunc(backoffDelay(c.cfg.Backoff, h.failed, rand.Float64()), func() { h.calls.do(h.build) })
		h.failed++
		return
	}
	h.res = r
}

// resolveNow asks the resolver to look again. Requests made before it gets to
// it are one.
func (h *resolverHost) resolveNow() {
	if h.pending.Swap(true) {
		return
	}
	h.calls.do(func() {
		h.pending.Store(false)
		if h.res != nil {
			h.res.ResolveNow(resolver.ResolveNowOptions{})
		}
	})
}

func (h *resolverHost) close() {
	h.closed.Store(true)
	h.calls.close(func() {
		if h.retry != nil {
			h.retry.Stop()
		}
		if h.res != nil {
			h.res.Close()
		}
	})
}

// UpdateState implements resolver.ClientConn.
func (h *resolverHost) UpdateState(s resolver.State) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed.Load() {
		return nil
	}
	c := h.session.c
	if s.Endpoints == nil {
		s.Endpoints = endpointsOf(s.Addresses)
	}
	h.record(s, nil)
	sc, err := c.acceptConfig(s.ServiceConfig)
	if err != nil {
		f := c.badConfig(err)
		h.record(resolver.State{}, f)
		if sc == nil {
			c.blame(f)
			c.configure(h.session, nil)
			h.session.balancer.fail(f)
			return err
		}
	}
	c.configure(h.session, sc)
	if len(s.Endpoints) > 0 {
		c.stages.resolved(true)
		if f := c.cause.Load(); f != nil && f.Layer() == fault.LayerResolve {
			c.cause.CompareAndSwap(f, nil)
		}
	} else {
		c.blame(fault.ResolveNotFound.Newf(fault.Args{Side: fault.Remote, Processed: fault.No,
			Evidence: &fault.Evidence{Target: c.target}}, "name resolver error: produced zero addresses for %q", c.target))
	}
	if refused := h.session.balancer.update(s, sc); refused != nil {
		return refused
	}
	return err // so that the resolver looks for a better one
}

// badConfig is the fault of a service config that was refused.
func (c *Channel) badConfig(err error) *fault.Fault {
	return fault.ResolveBadServiceConfig.Newf(fault.Args{Side: fault.Remote, Processed: fault.No, Cause: err,
		Evidence: &fault.Evidence{Target: c.target}}, "error parsing service config: %v", err)
}

// acceptConfig decides which service config applies (gRFC A21): the
// resolver's; the default where there is none; where it does not parse, and
// then the error says why, the last good one, else the default, which may be
// nil.
func (c *Channel) acceptConfig(r *serviceconfig.ParseResult) (*ServiceConfig, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.cfg.DisableServiceConfig || r == nil:
		c.good = c.fallback
	case r.Err != nil:
		return c.lastGoodLocked(), r.Err
	default:
		sc, ok := r.Config.(*ServiceConfig)
		if !ok {
			return c.lastGoodLocked(), errors.New("illegal service config type: this channel's ParseServiceConfig did not make it")
		}
		c.good = sc
	}
	c.decided = true
	return c.good, nil
}

// lastGoodLocked is what applies in the place of a bad service config, nil if
// there is nothing.
func (c *Channel) lastGoodLocked() *ServiceConfig {
	switch {
	case !c.decided:
		return c.fallback
	case c.good == nil:
		return noConfig
	}
	return c.good
}

// ReportError implements resolver.ClientConn.
func (h *resolverHost) ReportError(err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed.Load() || err == nil {
		return
	}
	f := h.session.c.resolveFault(err)
	h.record(resolver.State{}, f)
	h.session.c.blame(f)
	if h.session.c.config.Load() == nil {
		h.session.c.configure(h.session, h.session.c.fallback)
	}
	h.session.balancer.resolverError(&toldError{f})
}

// NewAddress implements resolver.ClientConn: an UpdateState of addresses.
func (h *resolverHost) NewAddress(addrs []resolver.Address) {
	_ = h.UpdateState(resolver.State{Addresses: addrs})
}

// ParseServiceConfig implements resolver.ClientConn.
func (h *resolverHost) ParseServiceConfig(js string) *serviceconfig.ParseResult {
	sc, err := parseServiceConfig(js, h.session.c.cfg.MaxCallAttempts)
	if err != nil {
		return &serviceconfig.ParseResult{Err: err}
	}
	return &serviceconfig.ParseResult{Config: sc}
}

func (h *resolverHost) record(s resolver.State, f *fault.Fault) {
	if h.session.c.cfg.Sink == nil {
		return
	}
	e := event.Resolved{Target: h.session.c.target}
	if f != nil {
		e.Err = f
	}
	for _, ep := range s.Endpoints {
		for _, a := range ep.Addresses {
			e.Addresses = append(e.Addresses, a.Addr)
		}
	}
	h.session.c.cfg.Sink.Record(e)
}

// endpointsOf makes an endpoint of each address, as resolver.State asks for:
// BalancerAttributes become the endpoint's.
func endpointsOf(addrs []resolver.Address) []resolver.Endpoint {
	eps := make([]resolver.Endpoint, 0, len(addrs))
	for _, a := range addrs {
		ep := resolver.Endpoint{Attributes: a.BalancerAttributes}
		a.BalancerAttributes = nil
		ep.Addresses = []resolver.Address{a}
		eps = append(eps, ep)
	}
	return eps
}

// resolveFault stamps what a resolver reported.
func (c *Channel) resolveFault(err error) *fault.Fault {
	ev := &fault.Evidence{Target: c.target}
	a := fault.Args{Side: fault.Remote, Processed: fault.No, Evidence: ev, Cause: err}
	var dns *net.DNSError
	if errors.As(err, &dns) {
		return dnsFault(dns, a)
	}
	if st, ok := status.FromError(err); ok {
		ev.GRPCStatus = st.Code().String()
		if fault.OnlyApplications(st.Code()) {
			return fault.ResolveControlPlaneCode.Newf(a, "the resolver answered %s, which only servers may: %s", st.Code(), st.Message())
		}
	}
	if errors.Is(err, context.DeadlineExceeded) {
		a.Side = fault.Between
	}
	return fault.ResolveFailed.New(a)
}

// dnsFault stamps a failed look-up. Silence is the network's, an answer the
// name server's.
func dnsFault(dns *net.DNSError, a fault.Args) *fault.Fault {
	a.Evidence.Host = dns.Name
	switch {
	case dns.IsNotFound:
		return fault.ResolveNotFound.New(a)
	case dns.IsTimeout:
		a.Side = fault.Between
	}
	return fault.ResolveFailed.New(a)
}
