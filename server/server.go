// SPDX-License-Identifier: Apache-2.0

package server

import (
	"fmt"
	"log/slog"
	"net"
	"reflect"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"

	"github.com/faultline-rpc/faultline/codec"
	"github.com/faultline-rpc/faultline/wire"
)

// Server serves registered services on any number of listeners. Its methods
// may be called from several goroutines.
type Server struct {
	cfg      Config
	journal  *slog.Logger                 // gets a line for each call; nil is free
	unaryInt grpc.UnaryServerInterceptor  // the chain, or nil
	strInt   grpc.StreamServerInterceptor // the chain, or nil
	unknown  *method                      // nil without UnknownHandler
	recvMax  codec.Limit
	sendMax  codec.Limit
	deflate  codec.Compressor // of cfg.Compressor, or nil
	inflate  codec.Compressor // of cfg.Decompressor, or nil
	budget   *wire.Budget
	work     workers
	pool     sync.Pool // of *call
	connIDs  atomic.Uint64
	epoch    time.Time // now counts from here

	// methods is the way from a path to its method. It is made by the first
	// Serve and read-only from then on.
	methods atomic.Pointer[map[string]*method]

	running  atomic.Int64 // handlers dispatched and not over, if MaxHandlers is set
	calls    atomic.Int64 // calls opened and not over
	stopping atomic.Bool  // phase is not serving
	stopped  atomic.Bool  // phase is halted

	mu        sync.Mutex
	services  map[string]*service       // guarded by mu; fixed once sealed
	names     []string                  // guarded by mu: of services, sorted; fixed once sealed
	sealed    bool                      // guarded by mu: Serve was called
	phase     phase                     // guarded by mu
	listeners map[net.Listener]struct{} // guarded by mu
	conns     map[*conn]struct{}        // guarded by mu: also those in their handshake
	quit      chan struct{}             // closed when phase leaves serving
	connsGone chan struct{}             // closed when stopping and no connection is left
	callsGone chan struct{}             // closed when, in addition, no call is left
	done      chan struct{}             // closed when Stop, GracefulStop or Shutdown is through
	doneOnce  sync.Once
}

// New makes a server that has no services yet and does not listen.
func New(cfg Config) *Server {
	journal := cfg.Logger
	cfg = cfg.withDefaults()
	s := &Server{
		cfg:       cfg,
		journal:   journal,
		epoch:     time.Now(),
		unaryInt:  gated(chainUnary(cfg.UnaryInts)),
		strInt:    chainStream(cfg.StreamInts),
		recvMax:   codec.Limit{Bytes: cfg.MaxRecvMsgSize, Option: "MaxRecvMsgSize"},
		sendMax:   codec.Limit{Bytes: cfg.MaxSendMsgSize, Option: "MaxSendMsgSize"},
		deflate:   codec.FromCompressor(cfg.Compressor),
		inflate:   codec.FromDecompressor(cfg.Decompressor),
		services:  map[string]*service{},
		listeners: map[net.Listener]struct{}{},
		conns:     map[*conn]struct{}{},
		quit:      make(chan struct{}),
		connsGone: make(chan struct{}),
		callsGone: make(chan struct{}),
		done:      make(chan struct{}),
	}
	if cfg.MaxUndelivered > 0 {
		s.budget = wire.NewBudget(cfg.MaxUndelivered)
	}
	if cfg.UnknownHandler != nil {
		s.unknown = &method{stream: &grpc.StreamDesc{
			StreamName: "unknown_service_handler", Handler: cfg.UnknownHandler, ClientStreams: true, ServerStreams: true,
		}}
	}
	return s
}

// RegisterService registers a service and its implementation, as generated
// code asks for. It panics, since each can only be a mistake in the program,
// if Serve was called already, if the service is registered already, or if
// impl is not nil and does not implement desc.HandlerType.
func (s *Server) RegisterService(desc *grpc.ServiceDesc, impl any) {
	if impl != nil {
		want, have := reflect.TypeOf(desc.HandlerType).Elem(), reflect.TypeOf(impl)
		if !have.Implements(want) {
			panic(fmt.Sprintf("faultline: RegisterService(%q): %v does not implement %v", desc.ServiceName, have, want))
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.sealed {
		panic(fmt.Sprintf("faultline: RegisterService(%q): services must be registered before Serve is called", desc.ServiceName))
	}
	if s.services[desc.ServiceName] != nil {
		panic(fmt.Sprintf("faultline: RegisterService(%q): this service is registered already", desc.ServiceName))
	}
	s.services[desc.ServiceName] = newService(desc, impl)
}

// GetServiceInfo returns what is registered, by full service name. The
// reflection service asks for it.
func (s *Server) GetServiceInfo() map[string]grpc.ServiceInfo {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := make(map[string]grpc.ServiceInfo, len(s.services))
	for name, svc := range s.services {
		all[name] = svc.info()
	}
	return all
}

// now is the time since the server was made.
func (s *Server) now() time.Duration { return time.Since(s.epoch) }

// connID numbers a connection for events.
func (s *Server) connID() uint64 {
	if s.cfg.ConnID != nil {
		return s.cfg.ConnID()
	}
	return s.connIDs.Add(1)
}
