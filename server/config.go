// SPDX-License-Identifier: Apache-2.0

package server

import (
	"log/slog"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/stats"
	"google.golang.org/grpc/tap"

	"github.com/faultline-rpc/faultline/codec"
	"github.com/faultline-rpc/faultline/event"
	"github.com/faultline-rpc/faultline/h2"
)

// Config holds a server's settings. Zero values mean the defaults named.
type Config struct {
	// Creds secures connections. Nil serves in the clear.
	Creds credentials.TransportCredentials
	// MaxRecvMsgSize is the largest request message, in bytes, before and
	// after decompression. Default 4 MiB.
	MaxRecvMsgSize int
	// MaxSendMsgSize is the largest response message, in bytes. Default
	// 2147483647.
	MaxSendMsgSize int
	// MaxConcurrentStreams bounds the streams of one connection, and also its
	// running handlers: one whose stream was reset counts until it returns, and
	// calls wait for it. Streams above it are refused with REFUSED_STREAM.
	// Default 10000.
	MaxConcurrentStreams uint32
	// InitialWindowSize is a stream's receive window, in bytes; below 65535 it
	// is ignored. Default 4 MiB.
	InitialWindowSize int32
	// InitialConnWindowSize is a connection's receive window, in bytes; below
	// 65535 it is ignored. Default 8 MiB.
	InitialConnWindowSize int32
	// MaxHeaderListSize bounds a request's header section, in bytes as RFC
	// 9113 section 6.5.2 counts them. Default 64 KiB.
	MaxHeaderListSize uint32
	// HeaderTableSize bounds the HPACK table for decoding, in bytes. Default
	// 4096.
	HeaderTableSize uint32
	// ConnectionTimeout bounds a new connection's handshakes, HTTP/2's
	// included; what they leave of it is the time from the first bytes of a
	// header section to its last. Default 120 s.
	ConnectionTimeout time.Duration
	// Keepalive says when connections are pinged and retired. Defaults: a ping
	// after 2 hours without a read (at least 1 s), 20 s for its answer, and no
	// end by idleness or age. Idleness and silence are noticed late by an eighth
	// of the shortest of these times at most.
	Keepalive keepalive.ServerParameters
	// Enforcement says how often clients may ping. Default: every 5 minutes, and
	// every 2 hours without a stream. After the third ping that comes too early
	// the connection is closed with ENHANCE_YOUR_CALM and "too_many_pings".
	Enforcement keepalive.EnforcementPolicy
	// UnaryInts and StreamInts are the interceptors, outermost first.
	UnaryInts  []grpc.UnaryServerInterceptor
	StreamInts []grpc.StreamServerInterceptor
	// StatsHandlers observe calls and connections. None costs nothing.
	StatsHandlers []stats.Handler
	// UnknownHandler serves methods that are not registered. Nil answers
	// UNIMPLEMENTED.
	UnknownHandler grpc.StreamHandler
	// WaitForHandlers makes Stop wait for the handlers that run.
	WaitForHandlers bool
	// ForceCodec serves requests of every content-subtype. Nil looks the codec
	// up by content-subtype.
	ForceCodec *codec.Codec
	// Compressor compresses all answers, whatever their clients say they accept,
	// and Decompressor decompresses requests in its own encoding; nil for none.
	Compressor   grpc.Compressor
	Decompressor grpc.Decompressor
	// Tap looks at each request before anything is done for it, on the reader of
	// its connection: it must not wait. The context that it returns becomes the
	// handler's, and has to come from the one it got. An error refuses the call:
	// a status as it is, another as PERMISSION_DENIED, its text unsaid.
	Tap tap.ServerInHandle
	// MaxHandlers bounds the handlers running or waiting for a worker on the
	// whole server; calls above it are answered RESOURCE_EXHAUSTED
	// (server.overloaded). Zero means no bound.
	MaxHandlers int
	// MaxUndelivered bounds the bytes of requests that were received and that
	// no handler has taken yet, over all connections. Default 256 MiB;
	// negative means no bound.
	MaxUndelivered int64
	// Trusted say which peers may see how a failure came about behind this
	// server: addresses, texts and the services it passed. Any that says so is
	// enough; without any no peer may. They are asked once per connection.
	Trusted []func(*peer.Peer) bool
	// Logger gets what callers must not see, failed handshakes, a line for each
	// finished call, and connections that fail. Of nil slog.Default() gets the
	// first two, and nobody the others.
	Logger *slog.Logger
	// ConnID numbers connections for events; nil numbers them from 1 on, for
	// this server alone.
	ConnID func() uint64
	// Sink observes events. Nil is free.
	Sink event.Sink
}

const (
	defaultConnectionTimeout = 120 * time.Second
	defaultMaxStreams        = 10000
	defaultMaxUndelivered    = 256 << 20
	minWindow                = 65535 // RFC 9113 section 6.9.2
)

func (c Config) withDefaults() Config {
	if c.MaxRecvMsgSize == 0 {
		c.MaxRecvMsgSize = codec.DefaultMaxRecv
	}
	if c.MaxSendMsgSize == 0 {
		c.MaxSendMsgSize = codec.DefaultMaxSend
	}
	if c.MaxConcurrentStreams == 0 {
		c.MaxConcurrentStreams = defaultMaxStreams
	}
	if c.ConnectionTimeout <= 0 {
		c.ConnectionTimeout = defaultConnectionTimeout
	}
	if c.MaxUndelivered == 0 {
		c.MaxUndelivered = defaultMaxUndelivered
	}
	c.Keepalive = keepaliveDefaults(c.Keepalive)
	c.Enforcement = enforcementDefaults(c.Enforcement)
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
	return c
}

// h2 returns the settings of one connection.
func (c *Config) h2(id uint64, timeout time.Duration) h2.Config {
	window := func(n int32) uint32 {
		if n < minWindow {
			return 0 // h2's default
		}
		return uint32(n)
	}
	return h2.Config{
		StreamWindow:         window(c.InitialWindowSize),
		ConnWindow:           window(c.InitialConnWindowSize),
		MaxHeaderListSize:    c.MaxHeaderListSize,
		HeaderTableSize:      c.HeaderTableSize,
		MaxConcurrentStreams: c.MaxConcurrentStreams,
		SettingsTimeout:      timeout,
		ConnID:               id,
		Sink:                 c.Sink,
	}
}
