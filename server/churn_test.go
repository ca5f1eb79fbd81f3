// SPDX-License-Identifier: Apache-2.0

package server

import (
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	testpb "google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/stats"
	"google.golang.org/grpc/tap"

	"github.com/faultline-rpc/faultline/internal/peer"
	"github.com/faultline-rpc/faultline/internal/simnet"
	"github.com/faultline-rpc/faultline/status"
)

// TestChurn stops servers at any moment of whatever goes on: calls of all
// kinds, peers that reset, cut, dribble, flood and close one side, handlers that
// break the rules, limits that are met all the time, connections that are
// retired. Nothing may be left of it, and nobody may wait for ever.
func TestChurn(t *testing.T) {
	before := runtime.NumGoroutine()
	for range 4 {
		seed := rand.Uint64()
		churn(t, rand.New(rand.NewPCG(seed, 0)), nil)
		if t.Failed() {
			t.Fatalf("seed %d", seed)
		}
	}
	noneLeft(t, before)
}

// TestChurnBesideHTTP is TestChurn behind a server of net/http.
func TestChurnBesideHTTP(t *testing.T) {
	for range 2 {
		seed := rand.Uint64()
		churn(t, rand.New(rand.NewPCG(seed, 1)), serveBesideHTTP)
		if t.Failed() {
			t.Fatalf("seed %d", seed)
		}
	}
}

// serveBesideHTTP serves s on lis by way of net/http, until every ServeHTTP has
// returned: each waits for the goroutines that it has.
func serveBesideHTTP(s *Server, lis net.Listener) error {
	p := new(http.Protocols)
	p.SetUnencryptedHTTP2(true)
	var running atomic.Int64
	h := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		running.Add(1)
		defer running.Add(-1)
		s.ServeHTTP(w, r)
	}), Protocols: p, ErrorLog: slog.NewLogLogger(slog.DiscardHandler, 0)}
	gone := make(chan struct{})
	go func() {
		defer close(gone)
		<-s.done
		h.Close()
	}()
	err := h.Serve(lis)
	for <-gone; running.Load() > 0; runtime.Gosched() {
	}
	if errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return err
}

// churn is one server's life.
func churn(t *testing.T, rnd *rand.Rand, serve func(*Server, net.Listener) error) {
	strays := new(sync.WaitGroup) // goroutines that handlers leave behind
	counts := &tally{}
	s := New(churnConfig(rnd, counts))
	testpb.RegisterTestServiceServer(s, rude(strays))
	ours := serve == nil
	if ours {
		serve = (*Server).Serve
	}
	var all, clients sync.WaitGroup
	for range 2 {
		lis := anywhere(t, rnd)
		all.Go(func() {
			if err := serve(s, lis); err != nil && !errors.Is(err, grpc.ErrServerStopped) {
				t.Errorf("Serve = %v", err)
			}
			lis.Close()
		})
		for range 2 {
			good, bad := rand.New(rand.NewPCG(rnd.Uint64(), 2)), rand.New(rand.NewPCG(rnd.Uint64(), 3))
			clients.Go(func() { polite(t, lis, good) })
			clients.Go(func() { impolite(lis, bad, ours) })
		}
	}
	gone := make(chan struct{})
	all.Go(func() {
		clients.Wait()
		close(gone)
		s.Stop() // whatever the others do
	})
	for range 3 {
		now, way := counts.reach(rnd.Int64N(200)), rnd.IntN(4)
		all.Go(func() {
			select {
			case <-now:
			case <-gone:
			}
			stopIn(t, s, way)
			s.GetServiceInfo()
		})
	}
	all.Wait()
	s.GracefulStop() // for the handlers
	strays.Wait()
	counts.check(t)
	if n := s.calls.Load(); n != 0 {
		t.Errorf("%d calls are still counted", n)
	}
	if n := s.running.Load(); n != 0 {
		t.Errorf("%d handlers are still counted", n)
	}
	for start := time.Now(); s.budget.Used() != 0 && time.Since(start) < 3*time.Second; runtime.Gosched() { // who retires a connection may be about to give them back
	}
	if n := s.budget.Used(); n != 0 {
		t.Errorf("%d bytes are still taken from the budget", n)
	}
	if len(s.conns) != 0 || len(s.listeners) != 0 {
		t.Errorf("%d connections and %d listeners are left", len(s.conns), len(s.listeners))
	}
}

// stopIn stops a server in one of the ways that there are.
func stopIn(t *testing.T, s *Server, way int) {
	switch way {
	case 0:
		s.GracefulStop()
	case 1:
		c, cancel := context.WithTimeout(context.Background(), 5*time.Millisecond)
		defer cancel()
		if err := s.Shutdown(c); err != nil && !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Shutdown = %v", err)
		}
	default:
		s.Stop()
	}
}

// churnPlace is where a server listens.
type churnPlace interface {
	net.Listener
	Dial(ctx context.Context, addr string) (net.Conn, error)
}

// anywhere is a network of one's own, or the loopback interface.
func anywhere(t *testing.T, rnd *rand.Rand) churnPlace {
	if rnd.IntN(2) == 0 {
		lis, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		return loopback{lis}
	}
	o := simnet.Options{Latency: time.Duration(rnd.IntN(2)) * 100 * time.Microsecond}
	if rnd.IntN(8) == 0 {
		o.MaxRead = 7
	}
	return simnet.Listen(o)
}

type loopback struct{ net.Listener }

func (l loopback) Dial(ctx context.Context, _ string) (net.Conn, error) {
	return new(net.Dialer).DialContext(ctx, "tcp", l.Addr().String())
}

// churnConfig has limits that are met, and observers that look at everything.
func churnConfig(rnd *rand.Rand, counts *tally) Config {
	cfg := Config{
		MaxConcurrentStreams: 1 + rnd.Uint32N(20),
		MaxRecvMsgSize:       20_000,
		Logger:               slog.New(slog.DiscardHandler),
		Sink:                 new(recorder),
		StatsHandlers:        []stats.Handler{counts},
		WaitForHandlers:      rnd.IntN(2) == 0,
		Tap: func(c context.Context, info *tap.Info) (context.Context, error) {
			if rand.IntN(50) == 0 {
				return nil, status.Error(codes.ResourceExhausted, "tap")
			}
			return c, nil
		},
	}
	if rnd.IntN(2) == 0 {
		cfg.MaxHandlers = 1 + rnd.IntN(20)
	}
	if rnd.IntN(2) == 0 {
		cfg.MaxUndelivered = int64(rnd.IntN(50_000)) + 1
	}
	if rnd.IntN(2) == 0 {
		cfg.Keepalive = keepalive.ServerParameters{MaxConnectionIdle: 5 * time.Millisecond, MaxConnectionAge: 30 * time.Millisecond, MaxConnectionAgeGrace: 10 * time.Millisecond}
	}
	if rnd.IntN(2) == 0 {
		cfg.UnknownHandler = func(_ any, s grpc.ServerStream) error { return s.RecvMsg(new(testpb.Empty)) }
	}
	if rnd.IntN(2) == 0 {
		cfg.UnaryInts = []grpc.UnaryServerInterceptor{func(c context.Context, req any, _ *grpc.UnaryServerInfo, h grpc.UnaryHandler) (any, error) {
			_ = grpc.SetHeader(c, metadata.Pairs("interceptor", "1"))
			return h(c, req)
		}}
		cfg.StreamInts = []grpc.StreamServerInterceptor{func(srv any, ss grpc.ServerStream, _ *grpc.StreamServerInfo, h grpc.StreamHandler) error {
			ss.SetTrailer(metadata.Pairs("interceptor", "1"))
			return h(srv, ss)
		}}
	}
	return cfg
}

// tally is a stats handler that compares what begins with what ends.
type tally struct {
	rpcs, conns atomic.Int64

	mu      sync.Mutex
	begun   int64                   // guarded by mu
	waiting map[int64]chan struct{} // guarded by mu: for that many to have begun
}

// reach returns what is closed when so many more calls have begun.
func (y *tally) reach(more int64) <-chan struct{} {
	y.mu.Lock()
	defer y.mu.Unlock()
	if y.waiting == nil {
		y.waiting = map[int64]chan struct{}{}
	}
	n := y.begun + more + 1
	if y.waiting[n] == nil {
		y.waiting[n] = make(chan struct{})
	}
	return y.waiting[n]
}

// begin counts a call.
func (y *tally) begin() {
	y.rpcs.Add(1)
	y.mu.Lock()
	defer y.mu.Unlock()
	y.begun++
	if ch := y.waiting[y.begun]; ch != nil {
		close(ch)
	}
}

type tallied struct{}

func (*tally) TagConn(c context.Context, _ *stats.ConnTagInfo) context.Context { return c }
func (*tally) TagRPC(c context.Context, _ *stats.RPCTagInfo) context.Context {
	return context.WithValue(c, tallied{}, new(atomic.Bool))
}

func (y *tally) HandleConn(_ context.Context, s stats.ConnStats) {
	switch s.(type) {
	case *stats.ConnBegin:
		y.conns.Add(1)
	case *stats.ConnEnd:
		y.conns.Add(-1)
	}
}

func (y *tally) HandleRPC(c context.Context, s stats.RPCStats) {
	switch s := s.(type) {
	case *stats.Begin:
		y.begin()
	case *stats.OutTrailer:
		_ = grpc.SetTrailer(c, s.Trailer) // an observer may not, but it must not hang
	case *stats.End:
		y.rpcs.Add(-1)
		if c.Value(tallied{}).(*atomic.Bool).Swap(true) {
			y.rpcs.Add(1 << 20) // twice
		}
	}
}

func (y *tally) check(t *testing.T) {
	if n := y.rpcs.Load(); n != 0 {
		t.Errorf("%d calls began and did not end for the stats handler", n)
	}
	if n := y.conns.Load(); n != 0 {
		t.Errorf("%d connections began and did not end for the stats handler", n)
	}
}

// polite is a client that makes calls of all kinds, and gives some of them up.
func polite(t *testing.T, lis churnPlace, rnd *rand.Rand) {
	cc, err := grpc.NewClient("passthrough:///test", grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, a string) (net.Conn, error) { return lis.Dial(ctx, a) }))
	if err != nil {
		t.Error(err)
		return
	}
	defer cc.Close()
	stub := testpb.NewTestServiceClient(cc)
	var wg sync.WaitGroup
	defer wg.Wait()
	for range 6 {
		own := rand.New(rand.NewPCG(rnd.Uint64(), 4))
		wg.Go(func() {
			for range 8 {
				c, cancel := context.WithTimeout(context.Background(), time.Duration(own.IntN(30_000))*time.Microsecond)
				body := &testpb.Payload{Body: make([]byte, own.IntN(22_000))}
				mode := &testpb.EchoStatus{Code: own.Int32N(modes)}
				switch own.IntN(5) {
				case 0:
					_, _ = stub.UnaryCall(c, &testpb.SimpleRequest{Payload: body, ResponseStatus: mode})
				case 1:
					_, _ = stub.UnimplementedCall(c, &testpb.Empty{})
				case 2:
					if s, err := stub.StreamingOutputCall(c, &testpb.StreamingOutputCallRequest{Payload: body, ResponseStatus: mode}); err == nil {
						drain(func() error { _, err := s.Recv(); return err })
					}
				case 3:
					if s, err := stub.StreamingInputCall(c); err == nil {
						for s.Send(&testpb.StreamingInputCallRequest{Payload: body}) == nil && own.IntN(8) != 0 {
						}
						_, _ = s.CloseAndRecv()
					}
				case 4:
					if s, err := stub.FullDuplexCall(c); err == nil {
						_ = s.Send(&testpb.StreamingOutputCallRequest{Payload: body, ResponseStatus: mode})
						if own.IntN(2) == 0 {
							_ = s.CloseSend()
						}
						drain(func() error { _, err := s.Recv(); return err })
					}
				}
				cancel()
			}
		})
	}
}

func drain(recv func() error) {
	for recv() == nil {
	}
}

// impolite is a peer that does what comes to its mind. The HTTP/2 of net/http is
// spared what races within it: a change of the HPACK table's size.
func impolite(lis churnPlace, rnd *rand.Rand, ours bool) {
	for range 4 {
		nc, err := lis.Dial(context.Background(), "")
		if err != nil {
			return
		}
		p := peer.NewClient(nc, peer.Options{NoCredit: rnd.IntN(3) == 0, NoPingAck: rnd.IntN(3) == 0, NoSettingsAck: rnd.IntN(8) == 0, Timeout: 5 * time.Millisecond})
		if rnd.IntN(10) > 0 {
			if rnd.IntN(3) > 0 {
				_, _ = p.Handshake()
			} else {
				_ = p.SendPreface()
				_ = p.SendSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: rnd.Uint32N(70_000)})
			}
			whim(p, rnd, ours)
		}
		switch rnd.IntN(3) {
		case 0:
			p.Cut()
		case 1:
			_ = p.CloseWrite()
		}
		p.Close()
	}
}

// whim is what such a peer does after the handshake.
func whim(p *peer.Peer, rnd *rand.Rand, resize bool) {
	paths := []string{unaryCall, emptyCall, duplex, outputs, "/grpc.testing.TestService/StreamingInputCall", "/none/such"}
	next := uint32(1)
	for range rnd.IntN(60) {
		id := next - min(next-1, 2*rnd.Uint32N(4))
		var err error
		switch rnd.IntN(12) {
		case 0, 1, 2:
			err = p.SendRequest(next, rnd.IntN(3) == 0, paths[rnd.IntN(len(paths))])
			next += 2
		case 3, 4:
			err = p.SendData(id, peer.Message(make([]byte, rnd.IntN(3000))), rnd.IntN(2) == 0)
		case 5:
			err = p.SendData(id, []byte{0, 0}, rnd.IntN(4) == 0)
		case 6:
			err = p.SendRST(id, http2.ErrCodeCancel)
		case 7:
			err = p.SendPing(false, [8]byte{})
		case 8:
			err = p.SendWindowUpdate(id*rnd.Uint32N(2), 1+rnd.Uint32N(100_000))
		case 9:
			set := []http2.Setting{{ID: http2.SettingInitialWindowSize, Val: rnd.Uint32N(70_000)}}
			if resize {
				set = append(set, http2.Setting{ID: http2.SettingHeaderTableSize, Val: rnd.Uint32N(4096)})
			}
			err = p.SendSettings(set...)
		case 10:
			_ = p.SendRaw([]byte{0, 0, 4, byte(http2.FrameData)}) // the rest never comes, or is nonsense
		case 11:
			runtime.Gosched()
		}
		if err != nil {
			return
		}
	}
}
