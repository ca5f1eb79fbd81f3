// SPDX-License-Identifier: Apache-2.0

package faultline_test

import (
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/net/http2"
	"google.golang.org/grpc"
	"google.golang.org/grpc/balancer"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/connectivity"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	testgrpc "google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/resolver"
	"google.golang.org/grpc/stats"

	"github.com/faultline-rpc/faultline/internal/peer"
	"github.com/faultline-rpc/faultline/internal/simnet"
	"github.com/faultline-rpc/faultline/status"
)

// What TestClientUnderStress has beside the client: networks, what the client
// calls back, servers, and a policy that is counted.

// stressNetwork is what connects the client to its servers.
type stressNetwork interface {
	listen(addr string) (net.Listener, error)
	dial(ctx context.Context, addr string) (net.Conn, error)
	// cut breaks the connections to addr, at least.
	cut(addr string)
	// refuse says whether addr refuses dials.
	refuse(addr string, yes bool)
}

// wires are simulated.
type wires struct{ *simnet.Network }

func (w *wires) listen(addr string) (net.Listener, error) { return w.Listen(addr) }

func (w *wires) dial(ctx context.Context, addr string) (net.Conn, error) { return w.Dial(ctx, addr) }

func (w *wires) cut(addr string) {
	for _, c := range w.Conns(addr) {
		c.Cut()
	}
}

func (w *wires) refuse(addr string, yes bool) {
	health := simnet.Healthy
	if yes {
		health = simnet.Refused
	}
	_ = w.SetHealth(addr, health)
}

// loopback has sockets, on which senders write themselves.
type loopback struct {
	mu    sync.Mutex
	real  map[string]string // guarded by mu: addresses
	conns []*net.TCPConn    // guarded by mu: the servers' ends
}

func (l *loopback) listen(addr string) (net.Listener, error) {
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.real[addr] = lis.Addr().String()
	return &kept{lis, l}, nil
}

func (l *loopback) dial(ctx context.Context, addr string) (net.Conn, error) {
	l.mu.Lock()
	to := l.real[addr]
	l.mu.Unlock()
	return new(net.Dialer).DialContext(ctx, "tcp", to)
}

func (l *loopback) cut(string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, c := range l.conns {
		_ = c.SetLinger(0)
		c.Close()
	}
	l.conns = nil
}

func (l *loopback) refuse(string, bool) {} // a server that restarts does

// kept is a listener whose connections can be cut.
type kept struct {
	net.Listener
	l *loopback
}

func (k *kept) Accept() (net.Conn, error) {
	nc, err := k.Listener.Accept()
	if err != nil {
		return nil, err
	}
	k.l.mu.Lock()
	defer k.l.mu.Unlock()
	k.l.conns = append(k.l.conns, nc.(*net.TCPConn))
	return nc, nil
}

// Build implements resolver.Builder.
func (s *stress) Build(_ resolver.Target, cc resolver.ClientConn, _ resolver.BuildOptions) (resolver.Resolver, error) {
	if rand.IntN(10) == 0 {
		return nil, errors.New("not now")
	}
	s.mu.Lock()
	s.at = cc
	s.mu.Unlock()
	s.update()
	return s, nil
}

// Scheme implements resolver.Builder.
func (s *stress) Scheme() string { return "stress" }

// ResolveNow implements resolver.Resolver.
func (s *stress) ResolveNow(resolver.ResolveNowOptions) {
	if rand.IntN(4) == 0 {
		s.update()
	}
}

// Close implements resolver.Resolver.
func (s *stress) Close() { _ = s.cc.GetState() }

// update has the resolver say something.
func (s *stress) update() {
	s.mu.Lock()
	cc := s.at
	s.mu.Unlock()
	if cc == nil {
		return
	}
	if rand.IntN(20) == 0 {
		cc.ReportError(errors.New("lost"))
		return
	}
	var st resolver.State
	if rand.IntN(10) != 0 {
		for _, i := range rand.Perm(3)[:1+rand.IntN(3)] {
			st.Addresses = append(st.Addresses, resolver.Address{Addr: stressAddrs[i]})
		}
	}
	if rand.IntN(3) == 0 {
		st.ServiceConfig = cc.ParseServiceConfig(s.someConfig())
	}
	_ = cc.UpdateState(st)
}

// TagRPC, HandleRPC, TagConn and HandleConn implement stats.Handler.
func (s *stress) TagRPC(ctx context.Context, _ *stats.RPCTagInfo) context.Context   { return ctx }
func (s *stress) TagConn(ctx context.Context, _ *stats.ConnTagInfo) context.Context { return ctx }

func (s *stress) HandleRPC(_ context.Context, st stats.RPCStats) {
	switch st.(type) {
	case *stats.Begin:
		s.begun.Add(1)
	case *stats.End:
		s.ended.Add(1)
	case *stats.OutPayload: // a program that resolves as it sends would wait for itself
		return
	}
	_ = s.cc.GetState()
}

func (s *stress) HandleConn(_ context.Context, st stats.ConnStats) {
	switch st.(type) {
	case *stats.ConnBegin:
		s.conns.Add(1)
	case *stats.ConnEnd:
		s.conns.Add(-1)
	}
	s.cc.Connect()
}

// Enabled, Handle, WithAttrs and WithGroup implement slog.Handler.
func (s *stress) Enabled(context.Context, slog.Level) bool { return true }
func (s *stress) WithAttrs([]slog.Attr) slog.Handler       { return s }
func (s *stress) WithGroup(string) slog.Handler            { return s }

func (s *stress) Handle(context.Context, slog.Record) error {
	_ = s.cc.GetState()
	return nil
}

// GetRequestMetadata and RequireTransportSecurity implement credentials.PerRPCCredentials.
func (s *stress) RequireTransportSecurity() bool { return false }

func (s *stress) GetRequestMetadata(ctx context.Context, _ ...string) (map[string]string, error) {
	s.reenter()
	switch rand.IntN(40) {
	case 0:
		return nil, status.Error(codes.Unavailable, "no token")
	case 1:
		<-ctx.Done()
		return nil, ctx.Err()
	}
	return map[string]string{"authorization": "x"}, nil
}

var stressAnswers = []peer.Answer{
	peer.RST(http2.ErrCodeRefusedStream), peer.RST(http2.ErrCodeRefusedStream), peer.RST(http2.ErrCodeCancel), peer.RST(http2.ErrCodeInternal),
	peer.GoAway(-2, http2.ErrCodeNo, "bye"), peer.GoAway(0, http2.ErrCodeNo, "bye"), peer.GoAway(0, http2.ErrCodeEnhanceYourCalm, "too_many_pings"),
	peer.Cut(), peer.HangUp(), peer.TrailersOnly(14, "down", "grpc-retry-pushback-ms", "1"), peer.TrailersOnly(0, ""), peer.OK(nil), peer.OK(nil),
	peer.Silence(), peer.HTML(), peer.BadFrame(),
}

// stressHandler answers in all ways.
type stressHandler struct {
	testgrpc.UnimplementedTestServiceServer
}

func whim(ctx context.Context) error {
	switch rand.IntN(6) {
	case 0:
		return status.Error(codes.Unavailable, "down")
	case 1:
		select {
		case <-time.After(time.Duration(rand.IntN(8)) * time.Millisecond):
		case <-ctx.Done():
		}
	case 2:
		return status.Error(codes.FailedPrecondition, "no")
	}
	return nil
}

func (stressHandler) UnaryCall(ctx context.Context, r *testgrpc.SimpleRequest) (*testgrpc.SimpleResponse, error) {
	return &testgrpc.SimpleResponse{Payload: r.Payload}, whim(ctx)
}

func (stressHandler) FullDuplexCall(st testgrpc.TestService_FullDuplexCallServer) error {
	for rand.IntN(8) != 0 {
		if _, err := st.Recv(); err != nil {
			break
		}
		if rand.IntN(2) == 0 {
			_ = st.SendHeader(metadata.Pairs("h", "1"))
		}
		if rand.IntN(2) == 0 {
			_ = st.Send(&testgrpc.StreamingOutputCallResponse{Payload: &testgrpc.Payload{Body: make([]byte, rand.IntN(3000))}})
		}
	}
	st.SetTrailer(metadata.Pairs("t", "1"))
	return whim(st.Context())
}

// tallied is round_robin whose picks are counted.
type tallied struct {
	balancer.Builder
	picked, done atomic.Int64
}

var tally = &tallied{}

func init() {
	tally.Builder = balancer.Get("round_robin")
	balancer.Register(tally)
}

func (*tallied) Name() string { return "stress_tallied" }

func (c *tallied) Build(cc balancer.ClientConn, o balancer.BuildOptions) balancer.Balancer {
	return c.Builder.Build(talliedConn{cc, c}, o)
}

type talliedConn struct {
	balancer.ClientConn
	c *tallied
}

func (cc talliedConn) UpdateState(s balancer.State) {
	if s.ConnectivityState == connectivity.Ready {
		s.Picker = talliedPicker{s.Picker, cc}
	}
	cc.ClientConn.UpdateState(s)
}

// NewSubConn has a connection that is ready watched by a producer.
func (cc talliedConn) NewSubConn(addrs []resolver.Address, o balancer.NewSubConnOptions) (sc balancer.SubConn, err error) {
	told, end := o.StateListener, func() {}
	o.StateListener = func(st balancer.SubConnState) {
		if end(); st.ConnectivityState == connectivity.Ready {
			_, end = sc.GetOrBuildProducer(watcher{})
		}
		told(st)
	}
	sc, err = cc.ClientConn.NewSubConn(addrs, o)
	return sc, err
}

// watcher is a producer that has a stream of its own.
type watcher struct{}

func (watcher) Build(cc any) (balancer.Producer, func()) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		st, err := healthpb.NewHealthClient(cc.(grpc.ClientConnInterface)).Watch(ctx, &healthpb.HealthCheckRequest{Service: "x"})
		for err == nil {
			_, err = st.Recv()
		}
	}()
	return nil, func() { cancel(); <-done }
}

type talliedPicker struct {
	balancer.Picker
	cc talliedConn
}

func (p talliedPicker) Pick(i balancer.PickInfo) (balancer.PickResult, error) {
	res, err := p.Picker.Pick(i)
	if err != nil {
		return res, err
	}
	p.cc.c.picked.Add(1)
	last := res.Done
	var once atomic.Bool
	res.Done = func(i balancer.DoneInfo) {
		if once.Swap(true) {
			panic("a pick was told done twice")
		}
		p.cc.c.done.Add(1)
		p.cc.ResolveNow(resolver.ResolveNowOptions{})
		if last != nil {
			last(i)
		}
	}
	return res, nil
}
