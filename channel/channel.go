// SPDX-License-Identifier: Apache-2.0

package channel

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/balancer"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/credentials"
	estats "google.golang.org/grpc/experimental/stats"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/resolver"
	"google.golang.org/grpc/stats"

	"github.com/faultline-rpc/faultline/event"
	"github.com/faultline-rpc/faultline/fault"
	"github.com/faultline-rpc/faultline/h2"
)

// Config holds a channel's settings. Zero values mean the defaults named.
type Config struct {
	// Creds secures connections. It must be given, insecure.NewCredentials()
	// for plaintext.
	Creds credentials.TransportCredentials
	// CredsBundle is handed to resolvers and balancers.
	CredsBundle credentials.Bundle
	// Authority overrides :authority and the name verified by TLS.
	Authority string
	// UserAgent is sent to proxies and handed to balancers.
	UserAgent string
	// Resolvers are asked before the registered ones.
	Resolvers []resolver.Builder
	// DefaultScheme is the scheme of targets without one. Default "dns".
	DefaultScheme string
	// Dialer opens connections instead of the net package; proxies from the
	// environment are then left to it.
	Dialer func(ctx context.Context, addr string) (net.Conn, error)
	// NoProxy ignores HTTPS_PROXY.
	NoProxy bool
	// LocalDNSResolution resolves dns targets here even if a proxy could.
	LocalDNSResolution bool
	// Backoff paces connection attempts. Default backoff.DefaultConfig.
	Backoff backoff.Config
	// ReconnectSpread is how long a connection that was lost may wait at random
	// before a new one replaces it, so that a server's clients do not all return
	// in one moment; calls may have to wait as long. Default 0: at once.
	ReconnectSpread time.Duration
	// MinConnectTimeout is the least time for one attempt, from the dial to
	// the peer's SETTINGS. Default 20 s.
	MinConnectTimeout time.Duration
	// DefaultServiceConfig is the JSON service config that applies while the
	// resolver gives none.
	DefaultServiceConfig string
	// MaxCallAttempts caps the attempts that a service config's retry and
	// hedging policies ask for. Default 5 (gRFC A6), also for 1 and less.
	MaxCallAttempts int
	// IdleTimeout is how long a channel without calls stays connected; after it,
	// or an eighth later, it closes its connections and is idle until the next
	// call. Default 30 min, negative for ever.
	IdleTimeout time.Duration
	// DisableServiceConfig ignores the resolver's service config.
	DisableServiceConfig bool
	// Keepalive pings connections that have streams (and others too with
	// PermitWithoutStream) after Time without a read, 10 s at least, and gives
	// them up with http2.keepalive when nothing is read for Timeout, 20 s by
	// default, after a ping. On Linux it is TCP_USER_TIMEOUT too. Off if Time is
	// 0 (gRFC A8, A18).
	Keepalive keepalive.ClientParameters
	// H2 configures connections. The channel sets ConnID and Sink.
	H2 h2.Config
	// ConnID numbers connections for events; nil numbers them from 1 on, for
	// this channel alone.
	ConnID func() uint64
	// Sink observes events; nil is free.
	Sink event.Sink
	// Logger gets connections that fail; nil is free.
	Logger *slog.Logger
	// StatsHandlers are told of connections; those that end before they are
	// ready are among them. Those that are an estats.MetricsRecorder as well get
	// what balancers and resolvers measure.
	StatsHandlers []stats.Handler
	// Metrics is handed to balancers and resolvers in the place of
	// StatsHandlers; without any recorder measurements are dropped.
	Metrics estats.MetricsRecorder
	// HealthCheck watches the health of connections where the service config has
	// a healthCheckConfig and the balancing policy asks. Nil: they count as
	// healthy.
	HealthCheck HealthCheck
	// SubchannelConn returns a grpc.ClientConnInterface whose calls use one
	// subchannel only, by [Subchannel.Pick]. Balancers need it for producers,
	// such as ORCA reports: see [Subchannel.Background].
	SubchannelConn func(*Subchannel) any
}

// ErrClosed is returned by Pick on a closed channel.
var ErrClosed = errors.New("channel is closed")

// Channel is a client's way to one target. It is idle until the first Pick or
// Connect. Its methods may be called from any goroutine.
type Channel struct {
	cfg       Config
	target    string
	parsed    resolver.Target
	builder   resolver.Builder
	authority string
	proxy     *proxy         // nil: connections are direct
	fallback  *ServiceConfig // Config.DefaultServiceConfig, or nil
	measures  *measures      // nil: nobody records

	ctx    context.Context // ends with Close; the parent of connection attempts
	cancel context.CancelFunc

	state      stateCell
	picks      atomic.Pointer[pickGeneration]
	stages     stages
	cause      atomic.Pointer[fault.Fault]   // the latest thing that went wrong beneath the picker
	config     atomic.Pointer[ServiceConfig] // in force; nil before the resolver's first result
	connIDs    atomic.Uint64                 // connections numbered so far
	background atomic.Int64                  // streams that do not count as calls
	pingEvery  atomic.Int64                  // keepalive time of new connections, in ns; doubled when servers complain
	waiting    atomic.Int64                  // calls that wait for a result or a connection
	used       atomic.Bool                   // there was a Pick since the last tick of the session

	mu         sync.Mutex
	live       *session                 // guarded by mu: nil in IDLE and SHUTDOWN
	good       *ServiceConfig           // guarded by mu: the last one accepted
	decided    bool                     // guarded by mu: a service config, or its absence, was accepted
	closed     bool                     // guarded by mu
	subs       map[*Subchannel]struct{} // guarded by mu
	links      map[*link]struct{}       // guarded by mu: connections, draining ones too
	configured chan struct{}            // guarded by mu: closed when config is no longer nil
	throttling *RetryThrottling         // guarded by mu: of the last service config

	leaving sync.WaitGroup // sessions that end because of IDLE; added to under mu, before Close
}

// New makes an idle channel to target. A target that cannot work is reported
// as resolve.bad-target.
func New(target string, cfg Config) (*Channel, error) {
	if cfg.Creds == nil {
		return nil, errors.New("channel: no transport credentials; expected Config.Creds, insecure.NewCredentials() for plaintext")
	}
	if cfg.Backoff == (backoff.Config{}) {
		cfg.Backoff = backoff.DefaultConfig
	}
	if cfg.MinConnectTimeout <= 0 {
		cfg.MinConnectTimeout = defaultMinConnectTimeout
	}
	if cfg.H2.SettingsTimeout == 0 && cfg.MinConnectTimeout > defaultMinConnectTimeout {
		cfg.H2.SettingsTimeout = cfg.MinConnectTimeout
	}
	cfg.Keepalive = keepaliveDefaults(cfg.Keepalive)
	if cfg.MaxCallAttempts < 2 {
		cfg.MaxCallAttempts = defaultMaxAttempts
	}
	switch {
	case cfg.IdleTimeout == 0:
		cfg.IdleTimeout = defaultIdleTimeout
	case cfg.IdleTimeout > 0:
		cfg.IdleTimeout = max(cfg.IdleTimeout, minIdleTimeout)
	}
	if cfg.Metrics == nil {
		cfg.Metrics = metricsOf(cfg.StatsHandlers)
	}
	measured := newMeasures(cfg.Metrics, target)
	if cfg.Metrics == nil {
		cfg.Metrics = noMetrics{}
	}
	c := &Channel{cfg: cfg, target: target, measures: measured, subs: map[*Subchannel]struct{}{}, links: map[*link]struct{}{},
		configured: make(chan struct{})}
	var err error
	if c.parsed, c.builder, err = parseTarget(target, &c.cfg); err != nil {
		return nil, err
	}
	if c.authority, err = findAuthority(target, c.parsed, c.builder, cfg.Authority, cfg.Creds); err != nil {
		return nil, err
	}
	if cfg.DefaultServiceConfig != "" {
		if c.fallback, err = parseServiceConfig(cfg.DefaultServiceConfig, cfg.MaxCallAttempts); err != nil {
			return nil, fmt.Errorf("channel: the default %w", err)
		}
	}
	c.proxy = findProxy(c)
	c.pingEvery.Store(int64(c.cfg.Keepalive.Time))
	c.ctx, c.cancel = context.WithCancel(context.Background())
	c.picks.Store(newGeneration(startPicker{c}))
	return c, nil
}

// Target returns the target as New got it.
func (c *Channel) Target() string { return c.target }

// CanonicalTarget returns the target with its scheme, as it was parsed.
func (c *Channel) CanonicalTarget() string { return c.parsed.String() }

// Authority returns the :authority of calls.
func (c *Channel) Authority() string { return c.authority }

// State returns the connectivity.
func (c *Channel) State() connectivity.State { return c.state.get() }

// WaitForStateChange returns true when the connectivity is not from, false
// when ctx ends before.
func (c *Channel) WaitForStateChange(ctx context.Context, from connectivity.State) bool {
	return c.state.wait(ctx, from)
}

// Connect leaves IDLE, without waiting for a connection. When it returns the
// resolver has been built: programs that feed one by hand may do so.
func (c *Channel) Connect() {
	first := c.start()
	c.mu.Lock()
	s := c.live
	c.mu.Unlock()
	if s == nil {
		return
	}
	if first {
		s.resolver.waitForBuild()
	}
	s.balancer.exitIdle()
}

// ResetConnectBackoff makes subchannels that wait after a failure try again
// at once, and the next failure count as the first.
func (c *Channel) ResetConnectBackoff() {
	c.mu.Lock()
	subs := make([]*Subchannel, 0, len(c.subs))
	for s := range c.subs {
		subs = append(subs, s)
	}
	c.mu.Unlock()
	for _, s := range subs {
		s.resetBackoff()
	}
}

// Close ends all connections, with GOAWAY, and the calls on them; Pick returns
// ErrClosed from then on. It waits for the resolver, the balancer and the
// connections to end, so callbacks of these must not call it. It may be called
// again.
func (c *Channel) Close() {
	c.mu.Lock()
	if c.closed {
		c.mu.Unlock()
		return
	}
	c.closed = true
	c.publishLocked(connectivity.Shutdown, closedPicker{})
	if c.config.Swap(noConfig) == nil {
		close(c.configured) // who waits for it goes on to Pick
	}
	s := c.live
	c.live = nil
	if s != nil && s.tick != nil {
		s.tick.Stop()
	}
	c.mu.Unlock()
	c.cancel()
	if s != nil {
		s.close()
	}
	c.leaving.Wait()
	c.mu.Lock()
	subs, links := c.subs, c.links
	c.subs, c.links = nil, nil
	c.mu.Unlock()
	for s := range subs {
		s.Shutdown()
	}
	for l := range links {
		l.conn.Close(0, "channel closed")
	}
	patience := time.NewTimer(closeWait)
	defer patience.Stop()
	for l := range links {
		select {
		case <-l.conn.Done():
		case <-patience.C:
			return
		}
	}
}

// closeWait bounds Close's wait for connections, which end in a second unless
// a custom net.Conn's Close does not end its Read.
const closeWait = 2 * time.Second

// publishLocked shows a new state and picker to calls.
func (c *Channel) publishLocked(s connectivity.State, p balancer.Picker) {
	if s == connectivity.Ready {
		c.cause.Store(nil)
	}
	old := c.picks.Swap(newGeneration(p))
	c.state.set(s)
	close(old.changed)
}

// blame keeps f as the reason of failing picks.
func (c *Channel) blame(f *fault.Fault) { c.cause.Store(f) }

// connID numbers a connection for events.
func (c *Channel) connID() uint64 {
	if c.cfg.ConnID != nil {
		return c.cfg.ConnID()
	}
	return c.connIDs.Add(1)
}

// track remembers a connection for Close. It reports false after Close.
func (c *Channel) track(l *link) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return false
	}
	c.links[l] = struct{}{}
	return true
}

func (c *Channel) untrack(l *link) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.links, l)
}

// noMetrics drops measurements.
type noMetrics struct {
	estats.UnimplementedMetricsRecorder
}
