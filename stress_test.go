// SPDX-License-Identifier: Apache-2.0

package faultline_test

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	testgrpc "google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/metadata"
	grpcpeer "google.golang.org/grpc/peer"
	"google.golang.org/grpc/resolver"

	"github.com/faultline-rpc/faultline"
	"github.com/faultline-rpc/faultline/event"
	"github.com/faultline-rpc/faultline/fault"
	"github.com/faultline-rpc/faultline/internal/peer"
	"github.com/faultline-rpc/faultline/internal/simnet"
)

// Everything that a program may do to a client at any moment, done at the same
// time, while servers drain, refuse and break, addresses and policies come and
// go, and whatever the program is called back by calls the client in turn:
//
//	callers, observers -> client <- close, connect, reset backoff, idle
//	                       |  ^-- resolver: addresses, none, other policies
//	                       v
//	                      2 servers that drain, 1 that is scripted, links that are cut
//
// Nothing races, hangs or is left behind, and each end is told once. Run it
// with -race; FAULTLINE_CALLS says how many calls are made.
func TestClientUnderStress(t *testing.T) {
	before := runtime.NumGoroutine()
	server, client := certificates(t)
	for made := 0; made < howMany(t, 0, 600); {
		s := newStress(t)
		if rand.IntN(2) == 0 {
			s.creds, s.serverCreds = credentials.NewTLS(client), credentials.NewTLS(server)
		}
		s.connect()
		s.episode()
		made += int(s.calls.Load())
		if t.Failed() {
			break
		}
	}
	for range 1000 {
		if runtime.NumGoroutine() <= before {
			break
		}
		runtime.GC()
		runtime.Gosched()
	}
	if n := runtime.NumGoroutine(); n > before {
		buf := make([]byte, 1<<20)
		t.Errorf("%d goroutines before, %d after:\n%s", before, n, buf[:runtime.Stack(buf, true)])
	}
	if p, d := tally.picked.Load(), tally.done.Load(); p != d {
		t.Errorf("%d picks, %d told done", p, d)
	}
}

const stressPolicies = `{"loadBalancingConfig":[{%s}],"methodConfig":[{"name":[{}],"timeout":"0.1s"%s}]%s}`

var stressConfigs = []string{"",
	`,"retryPolicy":{"maxAttempts":4,"initialBackoff":"0.001s","maxBackoff":"0.01s","backoffMultiplier":2,"retryableStatusCodes":["UNAVAILABLE","CANCELLED"]}`,
	`,"hedgingPolicy":{"maxAttempts":4,"hedgingDelay":"0.002s","nonFatalStatusCodes":["UNAVAILABLE","CANCELLED"]}`,
}

// stress is one client's life.
type stress struct {
	t                  *testing.T
	network            stressNetwork
	cc                 *faultline.ClientConn
	config             string
	health             *health.Server
	creds, serverCreds credentials.TransportCredentials
	begun              atomic.Int64 // attempts, as stats handlers see them
	ended              atomic.Int64
	conns              atomic.Int64 // connections that have begun and not ended
	calls              atomic.Int64

	mu     sync.Mutex
	served [2]*serving         // guarded by mu
	at     resolver.ClientConn // guarded by mu: nil before the resolver is built
}

var stressAddrs = []string{"a:1", "b:1", "c:1"}

func newStress(t *testing.T) *stress {
	s := &stress{t: t, network: &wires{Network: simnet.NewNetwork(simnet.Options{})}, config: stressConfigs[rand.IntN(len(stressConfigs))],
		creds: insecure.NewCredentials(), serverCreds: insecure.NewCredentials(), health: health.NewServer()}
	if rand.IntN(3) == 0 {
		s.network = &loopback{real: map[string]string{}}
	}
	s.health.SetServingStatus("x", healthpb.HealthCheckResponse_SERVING)
	return s
}

// connect makes the client.
func (s *stress) connect() {
	opts := []faultline.DialOption{
		faultline.WithTransportCredentials(s.creds), faultline.WithContextDialer(s.dial),
		faultline.WithResolvers(s), faultline.WithStatsHandler(s), faultline.WithDefaultServiceConfig(s.someConfig()),
		faultline.WithConnectParams(grpc.ConnectParams{Backoff: backoff.Config{BaseDelay: time.Millisecond, Multiplier: 1.5, Jitter: 0.5, MaxDelay: 20 * time.Millisecond}}),
		faultline.WithLogger(slog.New(s)), faultline.WithPerRPCCredentials(s),
	}
	if rand.IntN(2) == 0 {
		opts = append(opts, faultline.WithIdleTimeout(10*time.Millisecond))
	}
	if rand.IntN(2) == 0 {
		opts = append(opts, faultline.WithUnaryInterceptor(func(ctx context.Context, m string, q, r any, cc *grpc.ClientConn, next grpc.UnaryInvoker, o ...grpc.CallOption) error {
			s.reenter()
			return next(ctx, m, q, r, cc, o...)
		}))
	}
	if rand.IntN(2) == 0 {
		opts = append(opts, faultline.WithEventSink(new(event.Buffer)))
	}
	cc, err := faultline.NewClient("stress:///127.0.0.1", opts...)
	if err != nil {
		s.t.Fatal(err)
	}
	s.cc = cc
}

// dial is the client's dialer.
func (s *stress) dial(ctx context.Context, addr string) (net.Conn, error) {
	s.reenter()
	return s.network.dial(ctx, addr)
}

func (s *stress) someConfig() string {
	policy := [...]string{`"pick_first":{}`, `"round_robin":{}`, `"stress_tallied":{}`}[rand.IntN(3)]
	return fmt.Sprintf(stressPolicies, policy, s.config, [...]string{"", `,"healthCheckConfig":{"serviceName":"x"}`}[rand.IntN(2)])
}

// reenter is what callbacks do to the client.
func (s *stress) reenter() {
	switch rand.IntN(40) {
	case 0:
		s.cc.Connect()
	case 1:
		s.cc.ResetConnectBackoff()
	case 2:
		_ = s.cc.GetMethodConfig(duplexName)
	case 3:
		_ = s.cc.GRPCConn()
	case 4:
		s.update()
	default:
		_ = s.cc.GetState()
	}
}

const duplexName = "/grpc.testing.TestService/FullDuplexCall"

// serving is a server that runs.
type serving struct {
	*faultline.Server
	done chan struct{}
}

// start brings the i-th server up.
func (s *stress) start(i int) {
	l, err := s.network.listen(stressAddrs[i])
	if err != nil {
		s.t.Error(err)
		return
	}
	srv := &serving{faultline.NewServer(faultline.MaxConcurrentStreams(uint32(1+rand.IntN(8))), faultline.Creds(s.serverCreds), faultline.Logger(slog.New(slog.DiscardHandler))), make(chan struct{})}
	testgrpc.RegisterTestServiceServer(srv, stressHandler{})
	healthpb.RegisterHealthServer(srv, s.health)
	s.mu.Lock()
	s.served[i] = srv
	s.mu.Unlock()
	go func() {
		defer close(srv.done)
		_ = srv.Serve(l)
	}()
}

// take takes the i-th server out, nil if somebody else has.
func (s *stress) take(i int) *serving {
	s.mu.Lock()
	defer s.mu.Unlock()
	srv := s.served[i]
	s.served[i] = nil
	return srv
}

// episode is the client's life: everything at once, and then nothing is left.
func (s *stress) episode() {
	for i := range s.served {
		s.start(i)
	}
	l, err := s.network.listen(stressAddrs[2])
	if err != nil {
		s.t.Fatal(err)
	}
	at := peer.Each
	if rand.IntN(2) == 0 {
		at = peer.EachAtOnce
	}
	scripted := peer.Serve(l, at(func(p *peer.Peer, id uint32) error { return stressAnswers[rand.IntN(len(stressAnswers))](p, id) }))
	stop := make(chan struct{})
	var chaos, callers sync.WaitGroup
	for range 2 {
		chaos.Go(func() { s.trouble(stop) })
	}
	for range 8 {
		callers.Go(func() {
			for range 1 + rand.IntN(12) {
				s.call()
			}
		})
	}
	if rand.IntN(2) == 0 { // in the midst of it
		<-time.After(time.Duration(rand.IntN(10)) * time.Millisecond)
		_ = s.cc.Close()
	}
	s.wait(&callers)
	close(stop)
	s.wait(&chaos)
	_ = s.cc.Close()
	for i := range s.served {
		srv := s.take(i)
		srv.Stop()
		<-srv.done
	}
	_ = scripted.Close()
	for range 1_000_000 { // what was given up may be late to say so
		if s.conns.Load() == 0 && s.begun.Load() == s.ended.Load() {
			return
		}
		runtime.Gosched()
	}
	s.t.Errorf("%d connections are left; %d attempts begun, %d ended", s.conns.Load(), s.begun.Load(), s.ended.Load())
}

// wait fails loudly where a hang would be silent.
func (s *stress) wait(wg *sync.WaitGroup) {
	patience := time.AfterFunc(time.Minute, func() {
		buf := make([]byte, 1<<22)
		panic(fmt.Sprintf("hung: %s", buf[:runtime.Stack(buf, true)]))
	})
	defer patience.Stop()
	wg.Wait()
}

// trouble does what no call expects.
func (s *stress) trouble(stop <-chan struct{}) {
	for {
		select {
		case <-stop:
			return
		case <-time.After(time.Duration(rand.IntN(3000)) * time.Microsecond):
		}
		switch i := rand.IntN(2); rand.IntN(10) {
		case 0:
			s.network.cut(stressAddrs[rand.IntN(3)])
		case 1, 2:
			if srv := s.take(i); srv != nil {
				ctx, cancel := context.WithTimeout(context.Background(), 5*time.Millisecond)
				_ = srv.Shutdown(ctx)
				cancel()
				<-srv.done
				s.start(i)
			}
		case 3, 4:
			s.update()
		case 5:
			s.cc.ResetConnectBackoff()
		case 6:
			ctx, cancel := context.WithTimeout(context.Background(), time.Millisecond)
			if !s.cc.WaitForStateChange(ctx, s.cc.GetState()) && ctx.Err() == nil {
				s.t.Error("WaitForStateChange returned false before its time")
			}
			cancel()
		case 7:
			s.cc.Connect()
		case 8:
			s.health.SetServingStatus("x", healthpb.HealthCheckResponse_ServingStatus(1+rand.IntN(2)))
		case 9:
			s.network.refuse(stressAddrs[rand.IntN(3)], rand.IntN(2) == 0)
		}
	}
}

// call is one call, and what its program does to it meanwhile.
func (s *stress) call() {
	s.calls.Add(1)
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	switch rand.IntN(4) {
	case 0:
		time.AfterFunc(time.Duration(rand.IntN(4000))*time.Microsecond, cancel)
	case 1:
		ctx, cancel = context.WithTimeout(ctx, time.Duration(rand.IntN(4000))*time.Microsecond)
	}
	defer cancel()
	o := &outcome{s: s, cancel: cancel}
	opts := []grpc.CallOption{grpc.OnFinish(o.finish), grpc.Header(&o.header), grpc.Trailer(&o.trailer), grpc.Peer(&o.peer), grpc.WaitForReady(rand.IntN(2) == 0)}
	stub := testgrpc.NewTestServiceClient(s.cc)
	if rand.IntN(3) == 0 {
		_, err := stub.UnaryCall(ctx, &testgrpc.SimpleRequest{Payload: &testgrpc.Payload{Body: make([]byte, rand.IntN(3000))}}, opts...)
		o.check(err)
		return
	}
	st, err := stub.FullDuplexCall(ctx, opts...)
	if err != nil {
		o.check(err)
		return
	}
	o.st.Store(&st)
	o.check(s.converse(st, o))
}

// converse uses a stream from several goroutines, and returns its end.
func (s *stress) converse(st testgrpc.TestService_FullDuplexCallClient, o *outcome) error {
	var wg sync.WaitGroup
	defer wg.Wait()
	wg.Go(func() {
		for range rand.IntN(4) {
			if err := st.Send(&testgrpc.StreamingOutputCallRequest{Payload: &testgrpc.Payload{Body: make([]byte, rand.IntN(100_000))}}); err != nil {
				break
			}
		}
		_ = st.CloseSend()
		if rand.IntN(2) == 0 {
			if md, err := st.Header(); err != nil {
				s.t.Errorf("Header: %v, %v", md, err)
			}
		}
	})
	if rand.IntN(2) == 0 {
		wg.Go(func() {
			for range rand.IntN(5) {
				switch rand.IntN(5) {
				case 0:
					_, _ = st.Header()
				case 1:
					_ = st.Trailer()
				case 2:
					if _, ok := grpcpeer.FromContext(st.Context()); !ok {
						s.t.Error("the stream's context has no peer")
					}
				case 3:
					runtime.Gosched()
				case 4:
					if rand.IntN(10) == 0 {
						o.cancel()
					}
				}
			}
		})
	}
	for {
		if _, err := st.Recv(); err != nil {
			return err
		}
	}
}

// outcome is what a call's program learns of its end.
type outcome struct {
	s               *stress
	st              atomic.Pointer[testgrpc.TestService_FullDuplexCallClient]
	cancel          context.CancelFunc
	told            []error // OnFinish's
	header, trailer metadata.MD
	peer            grpcpeer.Peer
}

// finish is OnFinish: the outcome is there, and the program may look at it.
func (o *outcome) finish(err error) {
	o.told = append(o.told, err)
	if st := o.st.Load(); st != nil {
		_, _ = (*st).Header()
		_ = (*st).Trailer()
		<-(*st).Context().Done()
	}
	o.cancel()
	if rand.IntN(20) == 0 {
		ctx, cancel := context.WithTimeout(context.Background(), time.Millisecond)
		_, _ = testgrpc.NewTestServiceClient(o.s.cc).UnaryCall(ctx, &testgrpc.SimpleRequest{})
		cancel()
	}
	_ = fmt.Sprint(o.header, o.trailer, o.peer.Addr)
	if rand.IntN(400) == 0 {
		_ = o.s.cc.Close()
	}
}

func (o *outcome) check(err error) {
	if err == io.EOF {
		err = nil
	}
	if _, ok := fault.From(err); err != nil && !ok {
		o.s.t.Errorf("%v is no fault", err)
	}
	if len(o.told) != 1 || o.told[0] != err {
		o.s.t.Errorf("OnFinish was told %v, the program %v", o.told, err)
	}
	_ = fmt.Sprint(o.header, o.trailer, o.peer.Addr)
}
