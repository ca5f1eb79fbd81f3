// SPDX-License-Identifier: Apache-2.0

package faultline

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/resolver"
	"google.golang.org/grpc/stats"

	"github.com/faultline-rpc/faultline/call"
	"github.com/faultline-rpc/faultline/channel"
	"github.com/faultline-rpc/faultline/event"
)

// Version is this module's version, as the user-agent says it.
const Version = "0.1.0"

// DialOption configures a [ClientConn].
type DialOption interface {
	applyDial(*dialSettings)
}

// EmptyDialOption changes nothing. It may be embedded to build options of
// one's own.
type EmptyDialOption struct{}

func (EmptyDialOption) applyDial(*dialSettings) {}

type dialSettings struct {
	channel channel.Config
	call    call.Config
	bundle  credentials.Bundle
	unary   grpc.UnaryClientInterceptor // the outermost, apart from the chain
	stream  grpc.StreamClientInterceptor

	noHealthCheck bool
}

// finish checks the options against each other and completes them.
func (d *dialSettings) finish() error {
	if at := strings.IndexFunc(d.channel.UserAgent, func(r rune) bool { return r < ' ' || r > '~' }); at >= 0 {
		return fmt.Errorf("faultline: WithUserAgent was given %q, want printable ASCII", d.channel.UserAgent)
	}
	if d.bundle != nil {
		if d.channel.Creds != nil {
			return errors.New("faultline: both WithTransportCredentials and WithCredentialsBundle are set, want one of them")
		}
		d.channel.CredsBundle = d.bundle
		d.channel.Creds = d.bundle.TransportCredentials()
		if d.channel.Creds == nil {
			return errors.New("faultline: the bundle of WithCredentialsBundle has no transport credentials")
		}
		if p := d.bundle.PerRPCCredentials(); p != nil {
			d.call.Creds = append(d.call.Creds, p)
		}
	}
	if d.channel.Creds == nil {
		return errors.New("faultline: no transport security set; use WithTransportCredentials, with insecure.NewCredentials() for plaintext")
	}
	d.call.Secure = d.channel.Creds.Info().SecurityProtocol != "insecure"
	if !d.call.Secure {
		for _, p := range d.call.Creds {
			if p.RequireTransportSecurity() {
				return errors.New("faultline: the credentials require transport level security, and the transport credentials are insecure")
			}
		}
	}
	agent := "faultline-go/" + Version
	if d.channel.UserAgent != "" {
		agent = d.channel.UserAgent + " " + agent
	}
	d.channel.UserAgent, d.call.UserAgent = agent, agent
	if d.unary != nil {
		d.call.UnaryInts = append([]grpc.UnaryClientInterceptor{d.unary}, d.call.UnaryInts...)
	}
	if d.stream != nil {
		d.call.StreamInts = append([]grpc.StreamClientInterceptor{d.stream}, d.call.StreamInts...)
	}
	return nil
}

type dialOption func(*dialSettings)

func (o dialOption) applyDial(d *dialSettings) { o(d) }

// WithTransportCredentials secures connections with c. Some credentials are
// required; insecure.NewCredentials() speaks cleartext.
func WithTransportCredentials(c credentials.TransportCredentials) DialOption {
	return dialOption(func(d *dialSettings) { d.channel.Creds = c })
}

// WithCredentialsBundle takes transport and per-call credentials from b.
func WithCredentialsBundle(b credentials.Bundle) DialOption {
	return dialOption(func(d *dialSettings) { d.bundle = b })
}

// WithPerRPCCredentials adds credentials that put metadata on each call.
func WithPerRPCCredentials(c credentials.PerRPCCredentials) DialOption {
	return dialOption(func(d *dialSettings) {
		if c != nil {
			d.call.Creds = append(d.call.Creds, c)
		}
	})
}

// WithContextDialer opens connections with f, which gets an address as the
// resolver gave it and may return any net.Conn. Proxies are then f's business.
func WithContextDialer(f func(ctx context.Context, addr string) (net.Conn, error)) DialOption {
	return dialOption(func(d *dialSettings) { d.channel.Dialer = f })
}

// WithNoProxy ignores the proxy that HTTPS_PROXY names.
func WithNoProxy() DialOption {
	return dialOption(func(d *dialSettings) { d.channel.NoProxy = true })
}

// WithLocalDNSResolution resolves names here even if a proxy could do it.
func WithLocalDNSResolution() DialOption {
	return dialOption(func(d *dialSettings) { d.channel.LocalDNSResolution = true })
}

// WithAuthority sets :authority, and the name that TLS verifies.
func WithAuthority(a string) DialOption {
	return dialOption(func(d *dialSettings) { d.channel.Authority = a })
}

// WithUserAgent puts s, which must be printable ASCII, before this module's name
// in the user-agent.
func WithUserAgent(s string) DialOption {
	return dialOption(func(d *dialSettings) { d.channel.UserAgent = s })
}

// WithDefaultCallOptions gives options to every call, before its own.
func WithDefaultCallOptions(opts ...grpc.CallOption) DialOption {
	return dialOption(func(d *dialSettings) { d.call.DefaultCallOptions = append(d.call.DefaultCallOptions, opts...) })
}

// WithUnaryInterceptor sets the outermost interceptor of unary calls.
func WithUnaryInterceptor(i grpc.UnaryClientInterceptor) DialOption {
	return dialOption(func(d *dialSettings) { d.unary = i })
}

// WithChainUnaryInterceptor adds interceptors of unary calls, the first
// outermost. Nil ones are ignored.
func WithChainUnaryInterceptor(is ...grpc.UnaryClientInterceptor) DialOption {
	return dialOption(func(d *dialSettings) {
		for _, i := range is {
			if i != nil {
				d.call.UnaryInts = append(d.call.UnaryInts, i)
			}
		}
	})
}

// WithStreamInterceptor sets the outermost interceptor of streaming calls.
func WithStreamInterceptor(i grpc.StreamClientInterceptor) DialOption {
	return dialOption(func(d *dialSettings) { d.stream = i })
}

// WithChainStreamInterceptor adds interceptors of streaming calls, the first
// outermost. Nil ones are ignored.
func WithChainStreamInterceptor(is ...grpc.StreamClientInterceptor) DialOption {
	return dialOption(func(d *dialSettings) {
		for _, i := range is {
			if i != nil {
				d.call.StreamInts = append(d.call.StreamInts, i)
			}
		}
	})
}

// WithStatsHandler adds an observer of calls and connections. Nil is ignored.
func WithStatsHandler(h stats.Handler) DialOption {
	return dialOption(func(d *dialSettings) {
		if h != nil {
			d.call.StatsHandlers = append(d.call.StatsHandlers, h)
			d.channel.StatsHandlers = append(d.channel.StatsHandlers, h)
		}
	})
}

// WithResolvers gives the client resolvers of its own, which are asked before
// the registered ones.
func WithResolvers(rs ...resolver.Builder) DialOption {
	return dialOption(func(d *dialSettings) {
		for _, r := range rs {
			if r != nil {
				d.channel.Resolvers = append(d.channel.Resolvers, r)
			}
		}
	})
}

// WithConnectParams paces connection attempts. MinConnectTimeout is the least
// time for one attempt; its default is 20 s.
func WithConnectParams(p grpc.ConnectParams) DialOption {
	return dialOption(func(d *dialSettings) {
		d.channel.Backoff, d.channel.MinConnectTimeout = p.Backoff, p.MinConnectTimeout
	})
}

// WithInitialWindowSize sets a stream's receive window, in bytes. Values below
// 65535 are ignored. Default 4 MiB.
func WithInitialWindowSize(bytes int32) DialOption {
	return dialOption(func(d *dialSettings) { d.channel.H2.StreamWindow = window(bytes) })
}

// WithInitialConnWindowSize sets a connection's receive window, in bytes.
// Values below 65535 are ignored. Default 8 MiB.
func WithInitialConnWindowSize(bytes int32) DialOption {
	return dialOption(func(d *dialSettings) { d.channel.H2.ConnWindow = window(bytes) })
}

// window returns 0, the engine's default, for what grpc-go ignores.
func window(bytes int32) uint32 {
	if bytes < 65535 {
		return 0
	}
	return uint32(bytes)
}

// WithMaxHeaderListSize bounds an answer's header sections, in bytes as RFC
// 9113 section 6.5.2 counts them. Default 64 KiB.
func WithMaxHeaderListSize(bytes uint32) DialOption {
	return dialOption(func(d *dialSettings) { d.channel.H2.MaxHeaderListSize = bytes })
}

// WithDefaultServiceConfig is the JSON service config that applies while the
// resolver gives none.
func WithDefaultServiceConfig(json string) DialOption {
	return dialOption(func(d *dialSettings) { d.channel.DefaultServiceConfig = json })
}

// WithDisableServiceConfig ignores the resolver's service config.
func WithDisableServiceConfig() DialOption {
	return dialOption(func(d *dialSettings) { d.channel.DisableServiceConfig = true })
}

// WithEventSink observes the client's resolver, connections and calls.
func WithEventSink(sink event.Sink) DialOption {
	return dialOption(func(d *dialSettings) { d.channel.Sink, d.call.Sink = sink, sink })
}

// WithLogger gives l a line for each finished call: method, peer, code,
// circumstance, layer, side, whether a handler may have run, attempts, how far
// the stream came, the budget and what was left of it. A call that was retried or
// hedged has one, and so has one that an interceptor failed, or a stream that its
// program forgot, when it ends. Connections that fail, or that servers retire,
// have lines as well. Successes are slog.LevelDebug; what an application answers
// to a bad request, and calls that the program canceled, Info; everything else
// Warn. Lines hold no metadata, tokens or messages. Default: nothing is logged.
//
// The logger's handler runs on the goroutines of calls and connections: it must
// not wait for calls of this client.
func WithLogger(l *slog.Logger) DialOption {
	return dialOption(func(d *dialSettings) { d.channel.Logger, d.call.Logger = l, l })
}

// WithKeepaliveParams has silent connections probed with PING (gRFC A8).
// Time below 10 s counts as 10 s; Timeout's default is 20 s. Without it
// connections are not probed.
func WithKeepaliveParams(kp keepalive.ClientParameters) DialOption {
	return dialOption(func(d *dialSettings) { d.channel.Keepalive = kp })
}

// WithIdleTimeout sets how long a client without calls stays connected. 0 means
// for ever. Default 30 min.
func WithIdleTimeout(timeout time.Duration) DialOption {
	return dialOption(func(d *dialSettings) {
		if d.channel.IdleTimeout = timeout; timeout <= 0 {
			d.channel.IdleTimeout = -1
		}
	})
}

// WithReconnectSpread makes a connection that was lost wait a random part of d
// before it is made again, so that the clients of a restarted server do not
// come back all at once. Default 0.
func WithReconnectSpread(spread time.Duration) DialOption {
	return dialOption(func(d *dialSettings) { d.channel.ReconnectSpread = spread })
}

// WithMaxCallAttempts bounds the attempts that a service config's retry or
// hedging policy may make, the first included. Values below 2 mean the default,
// 5.
func WithMaxCallAttempts(n int) DialOption {
	return dialOption(func(d *dialSettings) { d.channel.MaxCallAttempts = n })
}

// WithStaticStreamWindowSize is [WithInitialWindowSize]: windows are static.
func WithStaticStreamWindowSize(bytes int32) DialOption { return WithInitialWindowSize(bytes) }

// WithStaticConnWindowSize is [WithInitialConnWindowSize]: windows are static.
func WithStaticConnWindowSize(bytes int32) DialOption { return WithInitialConnWindowSize(bytes) }

// WithDisableHealthCheck ignores the service config's healthCheckConfig.
func WithDisableHealthCheck() DialOption {
	return dialOption(func(d *dialSettings) { d.noHealthCheck = true })
}

// WithDisableRetry ignores the service config's policies for retries and
// hedging. A call that provably was not processed is repeated nevertheless.
func WithDisableRetry() DialOption {
	return dialOption(func(d *dialSettings) { d.call.DisableRetry = true })
}
