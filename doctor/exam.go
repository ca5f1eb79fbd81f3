// SPDX-License-Identifier: Apache-2.0

package doctor

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"slices"
	"time"

	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"

	"github.com/faultline-rpc/faultline/channel"
	"github.com/faultline-rpc/faultline/codes"
	"github.com/faultline-rpc/faultline/fault"
	"github.com/faultline-rpc/faultline/h2/hpack"
	"github.com/faultline-rpc/faultline/wire"
)

// DefaultTimeout bounds each probe where Config says nothing.
const DefaultTimeout = 5 * time.Second

// Config says what to examine. Zero values mean the defaults named.
type Config struct {
	// Target is read as by a client: "host:443", "dns:///host:port",
	// "unix:///path".
	Target string
	// TLS is how connections are secured; nil is cleartext. It is not changed.
	TLS *tls.Config
	// Authority overrides :authority, and the name verified by TLS unless TLS
	// has its own.
	Authority string
	// Metadata is sent with each call.
	Metadata metadata.MD
	// ReflectionMetadata is sent with calls to reflection, beside Metadata.
	ReflectionMetadata metadata.MD
	// UserAgent is sent with each call, and to proxies.
	UserAgent string
	// Timeout bounds each probe. Default 5 s.
	Timeout time.Duration
	// ConnectTimeout bounds each probe below gRPC. Default Timeout.
	ConnectTimeout time.Duration
	// Service is the name whose health is asked for; "" is the whole server.
	Service string
	// Method is "package.Service/Method", to be called with the JSON message
	// Data; "" for none. Without reflection Data must be empty.
	Method string
	Data   []byte
	// Compress names the compression of the method's request: "gzip", or a name
	// that only the server has to know, sent with nothing compressed.
	Compress string
	// MaxMessage is the size of the largest message accepted from the method, in
	// bytes. Default 4 MiB.
	MaxMessage int
	// Watch holds a connection and a stream for this long. Default 0: not at
	// all.
	Watch time.Duration
	// Ping sends a PING that often during the watch. Default 0: none.
	Ping time.Duration
	// NoProxy ignores HTTPS_PROXY.
	NoProxy bool
	// Dialer opens connections instead of the net package.
	Dialer func(ctx context.Context, address string) (net.Conn, error)
	// Began is told of each probe as it begins, Ended of each as it ends. Both
	// run on the goroutine of Examine. Nil is free.
	Began func(name, doing string)
	Ended func(Probe)
}

// CheckMethod says what is wrong with a method's name, or nil.
func CheckMethod(name string) error {
	_, _, err := splitMethod(name)
	return err
}

// exam is an examination under way.
type exam struct {
	cfg    Config
	rep    *Report
	steps  *channel.Steps
	fields []hpack.Field // the metadata
	asking []hpack.Field // that of calls to reflection
	sight  *sight        // what the handshakes show; nil in cleartext

	routes []*route // the addresses
	route  *route   // the one in use
	line   *line    // the connection in use, or nil
	lines  []*line  // all there were

	pending *Finding // the first thing that is wrong above the connection
	answer  *answer  // of the health check
	schema  *schema  // what reflection told, or nil
}

// Examine climbs the ladder. It ends within a few times Config.Timeout, the
// watch apart, or when ctx does, and leaves nothing open.
func Examine(ctx context.Context, cfg Config) *Report {
	if cfg.Timeout <= 0 {
		cfg.Timeout = DefaultTimeout
	}
	if cfg.ConnectTimeout <= 0 {
		cfg.ConnectTimeout = cfg.Timeout
	}
	if cfg.MaxMessage <= 0 {
		cfg.MaxMessage = maxAnswer
	}
	if cfg.UserAgent == "" {
		cfg.UserAgent = "faultline-doctor"
	}
	x := &exam{cfg: cfg, rep: &Report{Target: cfg.Target}}
	start := time.Now()
	defer x.hangUp()
	n := x.climb(ctx)
	if n != nil && errors.Is(ctx.Err(), context.Canceled) {
		n = named("call.cancelled").says(fault.Local, n.Processed, "the examination was canceled: %s", n.Message)
	}
	x.conclude(n)
	x.rep.Elapsed = time.Since(start)
	return x.rep
}

// climb makes the probes, bottom up, and returns why the target is sick, or
// nil.
func (x *exam) climb(ctx context.Context) *Finding {
	if f := x.prepare(); f != nil {
		return f
	}
	if f := x.connect(ctx); f != nil {
		return f
	}
	x.probeGRPC(ctx)
	if x.pending == nil {
		x.probeServices(ctx)
		x.probeOthers(ctx)
		x.probeMethod(ctx)
	}
	if x.pending == nil {
		x.probeWatch(ctx)
	}
	return x.pending
}

// blame keeps the first thing that was wrong above the connection.
func (x *exam) blame(f *Finding) *Finding {
	if x.pending == nil {
		x.pending = f
	}
	return f
}

// prepare reads the target and the configuration.
func (x *exam) prepare() *Finding {
	cfg := channel.Config{Authority: x.cfg.Authority, UserAgent: x.cfg.UserAgent, NoProxy: x.cfg.NoProxy,
		Dialer: x.cfg.Dialer, DisableServiceConfig: true, Creds: insecure.NewCredentials()}
	if x.cfg.TLS != nil {
		x.sight = watchTLS(x.cfg.TLS)
		cfg.Creds = credentials.NewTLS(x.sight.config)
	}
	var err error
	if x.steps, err = channel.NewSteps(x.cfg.Target, cfg); err != nil {
		return x.refuse("name", "reading the target", err)
	}
	if f := wire.CheckAuthority(x.steps.Authority()); f != nil {
		return x.refuse("name", "reading the target", f)
	}
	if x.fields, err = wire.AppendMetadata(nil, x.cfg.Metadata); err != nil {
		return x.refuse("name", "reading the metadata", err)
	}
	if x.asking, err = wire.AppendMetadata(slices.Clone(x.fields), x.cfg.ReflectionMetadata); err != nil {
		return x.refuse("name", "reading the metadata", err)
	}
	return nil
}

// refuse is the end of an examination that cannot begin.
func (x *exam) refuse(name, doing string, err error) *Finding {
	done := x.begin(name, doing)
	f, ok := fault.From(err)
	n := named("call.misuse").says(fault.Local, fault.No, "%v", err)
	if ok {
		n = found(f)
	}
	return done(Probe{Status: Failed, Summary: n.Message, Finding: n})
}

// begin starts a rung. The function returned ends it, and returns the rung's
// finding.
func (x *exam) begin(name, doing string) func(Probe) *Finding {
	start := time.Now()
	if x.cfg.Began != nil {
		x.cfg.Began(name, doing)
	}
	return func(p Probe) *Finding {
		p.Name, p.Elapsed = name, time.Since(start)
		x.rep.Probes = append(x.rep.Probes, p)
		if x.cfg.Ended != nil {
			x.cfg.Ended(p)
		}
		return p.Finding
	}
}

// failed is a rung that broke.
func failed(n *Finding, evidence ...Fact) Probe {
	return Probe{Status: Failed, Summary: n.Message, Finding: n, Evidence: evidence}
}

// conclude writes the verdict, and the rungs that were not reached.
func (x *exam) conclude(n *Finding) {
	r := x.rep
	if n == nil {
		r.Healthy, r.Verdict = true, Finding{Code: codes.OK, Summary: "healthy"}
		return
	}
	r.Verdict = *n
	reached := map[string]bool{}
	for _, p := range r.Probes {
		reached[p.Name] = true
	}
	for _, name := range x.ladder() {
		if !reached[name] {
			r.Probes = append(r.Probes, Probe{Name: name, Status: Skipped, Summary: "not reached"})
		}
	}
}

// ladder names the rungs that were asked for.
func (x *exam) ladder() []string {
	all := []string{"name", "dial"}
	if x.cfg.TLS != nil {
		all = append(all, "tls")
	}
	all = append(all, "http2", "grpc", "health", "reflection")
	if x.cfg.Method != "" {
		all = append(all, "method")
	}
	if x.cfg.Watch > 0 {
		all = append(all, "watch")
	}
	return all
}

// hangUp closes what is open, and waits for it.
func (x *exam) hangUp() {
	for _, r := range x.routes {
		r.drop()
	}
	for _, l := range x.lines {
		l.close()
	}
}

// within bounds a call.
func (x *exam) within(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(ctx, x.cfg.Timeout)
}

// connecting bounds a step of connecting.
func (x *exam) connecting(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(ctx, x.cfg.ConnectTimeout)
}

// round shortens a time for people.
func round(d time.Duration) string {
	switch {
	case d >= 10*time.Second:
		d = d.Round(100 * time.Millisecond)
	case d >= time.Second:
		d = d.Round(10 * time.Millisecond)
	case d >= 10*time.Millisecond:
		d = d.Round(100 * time.Microsecond)
	default:
		d = d.Round(10 * time.Microsecond)
	}
	return d.String()
}

func fact(name, format string, args ...any) Fact { return Fact{name, fmt.Sprintf(format, args...)} }

// skew is how much before a deadline a server may say that it has passed:
// grpc-timeout is rounded, and some servers count in milliseconds (C-core).
const skew = 5 * time.Millisecond

// timedOut reports that a probe's own time was up, or is within the skew.
func timedOut(ctx context.Context, skew time.Duration) bool {
	// The server's clock may ring before this side's timer has run.
	d, ok := ctx.Deadline()
	return errors.Is(ctx.Err(), context.DeadlineExceeded) || ok && ctx.Err() == nil && time.Until(d) <= skew
}
