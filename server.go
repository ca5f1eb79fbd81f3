// SPDX-License-Identifier: Apache-2.0

package faultline

import (
	"context"
	"log/slog"
	"net/netip"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/encoding"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/stats"
	"google.golang.org/grpc/tap"

	"github.com/faultline-rpc/faultline/event"
	"github.com/faultline-rpc/faultline/server"
)

// Server serves gRPC. It is a grpc.ServiceRegistrar and a
// reflection.GRPCServer; see [server.Server] for its methods: RegisterService,
// GetServiceInfo, Serve, Stop, GracefulStop and Shutdown.
type Server struct {
	*server.Server
}

// NewServer makes a server that has no services yet and does not listen.
func NewServer(opts ...ServerOption) *Server {
	var s serverSettings
	for _, o := range opts {
		if o != nil {
			o.applyServer(&s)
		}
	}
	return &Server{server.New(s.finish())}
}

// ServerOption configures a [Server].
type ServerOption interface {
	applyServer(*serverSettings)
}

// EmptyServerOption changes nothing. It may be embedded to build options of
// one's own.
type EmptyServerOption struct{}

func (EmptyServerOption) applyServer(*serverSettings) {}

type serverSettings struct {
	cfg    server.Config
	unary  grpc.UnaryServerInterceptor // the outermost, apart from the chain
	stream grpc.StreamServerInterceptor
}

func (s *serverSettings) finish() server.Config {
	if s.unary != nil {
		s.cfg.UnaryInts = append([]grpc.UnaryServerInterceptor{s.unary}, s.cfg.UnaryInts...)
	}
	if s.stream != nil {
		s.cfg.StreamInts = append([]grpc.StreamServerInterceptor{s.stream}, s.cfg.StreamInts...)
	}
	return s.cfg
}

type serverOption func(*serverSettings)

func (o serverOption) applyServer(s *serverSettings) { o(s) }

// Creds secures connections with c. Without it the server speaks cleartext.
func Creds(c credentials.TransportCredentials) ServerOption {
	return serverOption(func(s *serverSettings) { s.cfg.Creds = c })
}

// MaxRecvMsgSize bounds a request message, in bytes, before and after
// decompression. Default 4 MiB; 0 means the default.
func MaxRecvMsgSize(bytes int) ServerOption {
	return serverOption(func(s *serverSettings) { s.cfg.MaxRecvMsgSize = bytes })
}

// MaxSendMsgSize bounds a response message, in bytes. Default 2147483647; 0
// means the default.
func MaxSendMsgSize(bytes int) ServerOption {
	return serverOption(func(s *serverSettings) { s.cfg.MaxSendMsgSize = bytes })
}

// MaxConcurrentStreams bounds the streams, and the running handlers, of one
// connection: while handlers of streams that were reset have not returned, new
// calls may have to wait. Default 10000; 0 means the default.
func MaxConcurrentStreams(n uint32) ServerOption {
	return serverOption(func(s *serverSettings) { s.cfg.MaxConcurrentStreams = n })
}

// InitialWindowSize sets a stream's receive window, in bytes. Values below
// 65535 are ignored. Default 4 MiB. Windows are static: there is no estimation
// that a fixed size would turn off.
func InitialWindowSize(bytes int32) ServerOption {
	return serverOption(func(s *serverSettings) { s.cfg.InitialWindowSize = bytes })
}

// InitialConnWindowSize sets a connection's receive window, in bytes. Values
// below 65535 are ignored. Default 8 MiB.
func InitialConnWindowSize(bytes int32) ServerOption {
	return serverOption(func(s *serverSettings) { s.cfg.InitialConnWindowSize = bytes })
}

// StaticStreamWindowSize is [InitialWindowSize]: windows are static anyway.
func StaticStreamWindowSize(bytes int32) ServerOption { return InitialWindowSize(bytes) }

// StaticConnWindowSize is [InitialConnWindowSize]: windows are static anyway.
func StaticConnWindowSize(bytes int32) ServerOption { return InitialConnWindowSize(bytes) }

// MaxHeaderListSize bounds a request's header section, in bytes as RFC 9113
// section 6.5.2 counts them. Default 64 KiB; 0 means the default.
func MaxHeaderListSize(bytes uint32) ServerOption {
	return serverOption(func(s *serverSettings) { s.cfg.MaxHeaderListSize = bytes })
}

// HeaderTableSize bounds the HPACK table for decoding, in bytes. Default 4096;
// 0 means the default.
func HeaderTableSize(bytes uint32) ServerOption {
	return serverOption(func(s *serverSettings) { s.cfg.HeaderTableSize = bytes })
}

// ConnectionTimeout bounds a new connection's handshakes, HTTP/2's included, and
// later the time from the first bytes of a header section to its last. Default
// 120 s; 0 means the default.
func ConnectionTimeout(d time.Duration) ServerOption {
	return serverOption(func(s *serverSettings) { s.cfg.ConnectionTimeout = d })
}

// KeepaliveParams says when connections are pinged and retired. Defaults: a
// ping after 2 hours without a read (at least 1 s), 20 s for its answer, no end
// by idleness or age. MaxConnectionAge is spread by 10 % to either side.
func KeepaliveParams(p keepalive.ServerParameters) ServerOption {
	return serverOption(func(s *serverSettings) { s.cfg.Keepalive = p })
}

// KeepaliveEnforcementPolicy says how often clients may ping. Default: every 5
// minutes, and every 2 hours without a stream; the third ping that comes too
// early closes the connection with "too_many_pings".
func KeepaliveEnforcementPolicy(p keepalive.EnforcementPolicy) ServerOption {
	return serverOption(func(s *serverSettings) { s.cfg.Enforcement = p })
}

// UnaryInterceptor sets the outermost interceptor of unary calls. It panics if
// one was set already: chain several with [ChainUnaryInterceptor].
func UnaryInterceptor(i grpc.UnaryServerInterceptor) ServerOption {
	return serverOption(func(s *serverSettings) {
		if s.unary != nil {
			panic("faultline: UnaryInterceptor was set twice; use ChainUnaryInterceptor for several")
		}
		s.unary = i
	})
}

// ChainUnaryInterceptor adds interceptors of unary calls, the first outermost.
// Nil ones are ignored.
func ChainUnaryInterceptor(is ...grpc.UnaryServerInterceptor) ServerOption {
	return serverOption(func(s *serverSettings) {
		for _, i := range is {
			if i != nil {
				s.cfg.UnaryInts = append(s.cfg.UnaryInts, i)
			}
		}
	})
}

// StreamInterceptor sets the outermost interceptor of streaming calls. It
// panics if one was set already: chain several with [ChainStreamInterceptor].
func StreamInterceptor(i grpc.StreamServerInterceptor) ServerOption {
	return serverOption(func(s *serverSettings) {
		if s.stream != nil {
			panic("faultline: StreamInterceptor was set twice; use ChainStreamInterceptor for several")
		}
		s.stream = i
	})
}

// ChainStreamInterceptor adds interceptors of streaming calls, the first
// outermost. Nil ones are ignored.
func ChainStreamInterceptor(is ...grpc.StreamServerInterceptor) ServerOption {
	return serverOption(func(s *serverSettings) {
		for _, i := range is {
			if i != nil {
				s.cfg.StreamInts = append(s.cfg.StreamInts, i)
			}
		}
	})
}

// StatsHandler adds an observer of calls and connections. Nil is ignored.
// HandleConn must not stop the server, which waits for it; HandleRPC may.
func StatsHandler(h stats.Handler) ServerOption {
	return serverOption(func(s *serverSettings) {
		if h != nil {
			s.cfg.StatsHandlers = append(s.cfg.StatsHandlers, h)
		}
	})
}

// UnknownServiceHandler serves methods that are not registered, as a
// bidirectional stream. Without it they are answered UNIMPLEMENTED.
func UnknownServiceHandler(h grpc.StreamHandler) ServerOption {
	return serverOption(func(s *serverSettings) { s.cfg.UnknownHandler = h })
}

// WaitForHandlers makes Stop wait for the handlers that run.
func WaitForHandlers(wait bool) ServerOption {
	return serverOption(func(s *serverSettings) { s.cfg.WaitForHandlers = wait })
}

// ForceServerCodec serves requests of every content-subtype with c. Nil is
// ignored.
func ForceServerCodec(c encoding.Codec) ServerOption {
	return serverOption(func(s *serverSettings) {
		if c != nil {
			s.cfg.ForceCodec = server.CodecV1(c)
		}
	})
}

// ForceServerCodecV2 serves requests of every content-subtype with c. Nil is
// ignored.
func ForceServerCodecV2(c encoding.CodecV2) ServerOption {
	return serverOption(func(s *serverSettings) {
		if c != nil {
			s.cfg.ForceCodec = server.CodecV2(c)
		}
	})
}

// InTapHandle has h look at each request before anything is done for it, on the
// reader of its connection: it must not wait. The context that it returns, one
// that comes from the one it got, becomes the handler's. An error refuses the
// call: a status as it is, another as PERMISSION_DENIED (policy.permission)
// without its text. It panics if one was set already.
func InTapHandle(h tap.ServerInHandle) ServerOption {
	return serverOption(func(s *serverSettings) {
		if s.cfg.Tap != nil {
			panic("faultline: InTapHandle was set twice")
		}
		s.cfg.Tap = h
	})
}

// SetSendCompressor has the answer of the call whose handler has ctx compressed
// with the compressor of that name; "identity" is none. It takes the place of
// grpc.SetSendCompressor, which knows grpc-go's own calls only. It comes before
// headers are sent, and before a stream's first message. The error,
// call.misuse, says why it changed nothing: they are sent, no such compressor is
// registered, or the client does not understand it.
func SetSendCompressor(ctx context.Context, name string) error {
	return server.SetSendCompressor(ctx, name)
}

// ClientSupportedCompressors returns the names of the compressors that the
// client says it understands, "identity" apart. ctx is a handler's.
func ClientSupportedCompressors(ctx context.Context) ([]string, error) {
	return server.ClientSupportedCompressors(ctx)
}

// MaxHandlers bounds the handlers that run, or wait for a worker, on the whole
// server. Calls above it are answered RESOURCE_EXHAUSTED (server.overloaded)
// and were not processed. Default: no bound.
func MaxHandlers(n int) ServerOption {
	return serverOption(func(s *serverSettings) { s.cfg.MaxHandlers = n })
}

// MaxUndeliveredBytes bounds the bytes of requests that were received and that
// no handler has taken yet, over all connections. A call that exceeds it is
// answered RESOURCE_EXHAUSTED (server.overloaded). The last quarter is for
// connections of which no more than 256 KiB wait, so that a few which send
// without end do not shut out the rest. Default 256 MiB; negative means no
// bound.
func MaxUndeliveredBytes(n int64) ServerOption {
	return serverOption(func(s *serverSettings) { s.cfg.MaxUndelivered = n })
}

// TrustedPeers has callers see how a failure came about, for which one of these
// returns true: the services behind this one that it passed, with addresses and
// texts ([fault.Fault.Trail]). Other callers, and all without this option, get
// code, message and details of a status, and a reference in the place of what
// names the inside. The predicates are asked once per connection, after its
// handshake. [VerifiedPeer], [LocalPeer] and [PeersIn] are such; a proxy's
// address is that of all who come through it.
func TrustedPeers(any ...func(*peer.Peer) bool) ServerOption {
	return serverOption(func(s *serverSettings) { s.cfg.Trusted = append(s.cfg.Trusted, any...) })
}

// VerifiedPeer is a predicate for [TrustedPeers]: the peer showed a certificate
// that the server verified (mutual TLS).
func VerifiedPeer(p *peer.Peer) bool { return server.VerifiedPeer(p) }

// LocalPeer is a predicate for [TrustedPeers]: the peer is on this machine, and
// comes from a loopback address or through a unix socket. Do not use it behind
// a proxy on the same machine.
func LocalPeer(p *peer.Peer) bool { return server.LocalPeer(p) }

// PeersIn returns a predicate for [TrustedPeers]: the peer's address is in one
// of the prefixes, such as netip.MustParsePrefix("10.0.0.0/8").
func PeersIn(prefixes ...netip.Prefix) func(*peer.Peer) bool { return server.PeersIn(prefixes...) }

// Logger gets a line for each finished call: method, peer, code, circumstance,
// layer, side, whether a handler ran, how far the stream came, the caller's
// budget and what was left of it, and the reference that a caller got in the
// place of a text. Calls that never reached a handler have theirs, and so have
// connections that fail. Successes are slog.LevelDebug; what an application
// answers to a bad request, and calls that were given up, Info; defects of this
// server Error; everything else Warn. Lines hold no metadata, tokens or messages.
//
// It also gets what callers must not see: panics, errors that are no status,
// failed handshakes. These go to slog.Default() without this option, which is
// off by default in all other respects. The logger's handler runs on the
// goroutines of calls and connections: it must not wait for these, as Stop does.
func Logger(l *slog.Logger) ServerOption {
	return serverOption(func(s *serverSettings) { s.cfg.Logger = l })
}

// EventSink observes the server's connections, streams and handlers.
func EventSink(sink event.Sink) ServerOption {
	return serverOption(func(s *serverSettings) { s.cfg.Sink = sink })
}
