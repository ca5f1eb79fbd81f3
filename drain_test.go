// SPDX-License-Identifier: Apache-2.0

package faultline_test

import (
	"context"
	"encoding/binary"
	"fmt"
	"net"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	testgrpc "google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/resolver"
	"google.golang.org/grpc/resolver/manual"

	"github.com/faultline-rpc/faultline"
	"github.com/faultline-rpc/faultline/fault"
	"github.com/faultline-rpc/faultline/internal/simnet"
)

// Calls are numbered, and a ledger on the servers' side records how often the
// handler of each ran, while callers keep on calling and servers behind
// round_robin come and go:
//
//	50 callers -> round_robin -> 3 servers -> ledger
//	                             ^ one after the other drains, and comes back

const (
	callers    = 50
	fleetSize  = 3
	roundRobin = `{"loadBalancingConfig":[{"round_robin":{}}]}`
	retrying   = `{"loadBalancingConfig":[{"round_robin":{}}], "methodConfig":[{"name":[{}], "retryPolicy":{
		"maxAttempts":5, "initialBackoff":"0.01s", "maxBackoff":"0.1s", "backoffMultiplier":2, "retryableStatusCodes":["UNAVAILABLE"]}}]}`
	// maxAge is the age at which servers that have one retire a connection.
	maxAge = 50 * time.Millisecond
)

// howMany is how many calls a test with messages of this size makes: a few, or
// FAULTLINE_CALLS.
func howMany(t testing.TB, size, few int) int {
	s := os.Getenv("FAULTLINE_CALLS")
	if s == "" && size > 0 {
		return few / 10
	}
	if s == "" {
		return few
	}
	n, err := strconv.Atoi(s)
	if err != nil || n < 1 {
		t.Fatalf("FAULTLINE_CALLS is %q, expected a number of calls", s)
	}
	if size > 0 { // these are about windows, and take their time
		n = min(n, 10_000)
	}
	return n
}

// ledger counts the runs of the handler for each call.
type ledger struct {
	runs []atomic.Int32
	seen atomic.Int64
}

// spare is how many times more calls a ledger has room for than it was made
// for.
const spare = 20

func newLedger(n int) *ledger { return &ledger{runs: make([]atomic.Int32, spare*n)} }

// handle is the method. Some calls take a while, so that there is always one
// to be broken.
func (l *ledger) handle(ctx context.Context, in *testgrpc.SimpleRequest) (*testgrpc.SimpleResponse, error) {
	id := binary.BigEndian.Uint64(in.GetPayload().GetBody())
	l.runs[id].Add(1)
	l.seen.Add(1)
	if id%16 == 0 {
		select {
		case <-time.After(time.Millisecond):
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
	return &testgrpc.SimpleResponse{Payload: in.GetPayload()}, nil
}

func numbered(id, size int) *testgrpc.SimpleRequest {
	body := make([]byte, 8+size)
	binary.BigEndian.PutUint64(body, uint64(id))
	return &testgrpc.SimpleRequest{Payload: &testgrpc.Payload{Body: body}}
}

// rpcServer is what servers of ours and of grpc-go have in common.
type rpcServer interface {
	grpc.ServiceRegistrar
	Serve(net.Listener) error
	GracefulStop()
	Stop()
}

// scene is what calls go through.
type scene struct {
	name    string
	grpcGo  string // "client" or "server", if that one is grpc-go's
	ages    bool   // the server retires connections of maxAge
	secure  bool   // TLS
	far     bool   // bytes travel a millisecond, each way
	crowded bool   // a connection carries four calls at a time, the others wait
	steady  bool   // the servers stay
	retries bool   // the client repeats what is UNAVAILABLE
	size    int    // bytes of a message, beside its number
}

// fleet is the servers of a scene. Each keeps its address over its
// incarnations.
type fleet struct {
	scene
	t       *testing.T
	l       *ledger
	network *simnet.Network // nil unless far
	srvTLS  credentials.TransportCredentials
	cliTLS  credentials.TransportCredentials
	addrs   []string
	told    []string       // the addresses that clients know: addrs, or a proxy's
	running []*incarnation // of each address; the rotation's own
	conns   atomic.Int64   // accepted
	turns   atomic.Int64   // servers that left and came back
}

// incarnation is one server from its start to its end.
type incarnation struct {
	rpcServer
	calls  atomic.Int64
	served chan error
}

func newFleet(t *testing.T, s scene, l *ledger) *fleet {
	f := &fleet{t: t, scene: s, l: l, srvTLS: insecure.NewCredentials(), cliTLS: insecure.NewCredentials()}
	if s.secure {
		server, client := certificates(t)
		client.ServerName = "127.0.0.1"
		f.srvTLS, f.cliTLS = credentials.NewTLS(server), credentials.NewTLS(client)
	}
	if s.far {
		f.network = simnet.NewNetwork(simnet.Options{Latency: time.Millisecond})
	}
	for i := range fleetSize {
		addr := "127.0.0.1:0"
		if s.far {
			addr = fmt.Sprintf("server%d:443", i)
		}
		lis := f.listen(addr)
		if !s.far {
			addr = lis.Addr().String()
		}
		f.addrs = append(f.addrs, addr)
		f.running = append(f.running, f.start(lis))
	}
	f.told = f.addrs
	t.Cleanup(func() {
		for _, in := range f.running {
			f.end(in, in.Stop)
		}
	})
	return f
}

func (f *fleet) listen(addr string) (lis net.Listener) {
	var err error
	if f.far {
		lis, err = f.network.Listen(addr)
	} else {
		lis, err = net.Listen("tcp", addr)
	}
	if err != nil {
		f.t.Fatalf("listening at %s: %v", addr, err)
	}
	return counting{lis, &f.conns}
}

// counting is a listener that counts what it accepts.
type counting struct {
	net.Listener
	n *atomic.Int64
}

func (l counting) Accept() (net.Conn, error) {
	nc, err := l.Listener.Accept()
	if err == nil {
		l.n.Add(1)
	}
	return nc, err
}

func (f *fleet) dialer(ctx context.Context, addr string) (net.Conn, error) {
	if f.far {
		return f.network.Dial(ctx, addr)
	}
	return new(net.Dialer).DialContext(ctx, "tcp", addr)
}

func (f *fleet) server() rpcServer {
	if f.grpcGo == "server" {
		opts := []grpc.ServerOption{grpc.Creds(f.srvTLS)}
		if f.crowded {
			opts = append(opts, grpc.MaxConcurrentStreams(4))
		}
		if f.ages {
			opts = append(opts, grpc.KeepaliveParams(keepalive.ServerParameters{MaxConnectionAge: maxAge}))
		}
		return grpc.NewServer(opts...)
	}
	opts := []faultline.ServerOption{faultline.Creds(f.srvTLS)}
	if f.crowded {
		opts = append(opts, faultline.MaxConcurrentStreams(4))
	}
	if f.ages {
		opts = append(opts, faultline.KeepaliveParams(keepalive.ServerParameters{MaxConnectionAge: maxAge}))
	}
	return faultline.NewServer(opts...)
}

// client returns a client of all servers behind round_robin.
func (f *fleet) client() grpc.ClientConnInterface {
	r := manual.NewBuilderWithScheme("fleet")
	var s resolver.State
	for _, a := range f.told {
		s.Endpoints = append(s.Endpoints, resolver.Endpoint{Addresses: []resolver.Address{{Addr: a}}})
	}
	r.InitialState(s)
	config := roundRobin
	if f.retries {
		config = retrying
	}
	if f.grpcGo != "client" {
		return dial(f.t, "fleet:///servers", faultline.WithTransportCredentials(f.cliTLS), faultline.WithContextDialer(f.dialer),
			faultline.WithResolvers(r), faultline.WithDefaultServiceConfig(config), faultline.WithConnectParams(quickly))
	}
	cc, err := grpc.NewClient("fleet:///servers", grpc.WithTransportCredentials(f.cliTLS), grpc.WithContextDialer(f.dialer),
		grpc.WithResolvers(r), grpc.WithDefaultServiceConfig(config), grpc.WithConnectParams(quickly))
	if err != nil {
		f.t.Fatal(err)
	}
	f.t.Cleanup(func() { _ = cc.Close() })
	return cc
}

// quickly is a back-off for servers that come back at once.
var quickly = grpc.ConnectParams{Backoff: backoff.Config{BaseDelay: 5 * time.Millisecond, Multiplier: 1.5, Jitter: 0.2, MaxDelay: 20 * time.Millisecond}, MinConnectTimeout: 5 * time.Second}

func (f *fleet) start(lis net.Listener) *incarnation {
	in := &incarnation{rpcServer: f.server(), served: make(chan error, 1)}
	testgrpc.RegisterTestServiceServer(in, &service{unary: func(ctx context.Context, r *testgrpc.SimpleRequest) (*testgrpc.SimpleResponse, error) {
		in.calls.Add(1)
		return f.l.handle(ctx, r)
	}})
	go func() { in.served <- in.Serve(lis) }()
	return in
}

func (f *fleet) end(in *incarnation, stop func()) {
	stop()
	if err := <-in.served; err != nil && err != grpc.ErrServerStopped { // which is: before it began to serve
		f.t.Errorf("Serve: %v", err)
	}
}

// turn ends the i-th server in the way of stop and starts its successor once
// the others have served a while without it.
func (f *fleet) turn(i int, stop func(rpcServer), calling <-chan struct{}) {
	old := f.running[i]
	f.end(old, func() { stop(old.rpcServer) })
	f.until(calling, f.l.seen.Load()+callers, &f.l.seen)
	f.running[i] = f.start(f.listen(f.addrs[i]))
}

// until waits until count has reached n, or nobody calls any more.
func (f *fleet) until(calling <-chan struct{}, n int64, count *atomic.Int64) bool {
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for count.Load() < n {
		select {
		case <-calling:
			return false
		case <-tick.C:
		}
	}
	return true
}

// rotate has one server after the other leave and come back while calling is
// open, each when all have served calls.
func (f *fleet) rotate(stop func(rpcServer), calling <-chan struct{}) {
	for i := 0; ; i = (i + 1) % fleetSize {
		for _, in := range f.running {
			if !f.until(calling, callers, &in.calls) {
				return
			}
		}
		f.turn(i, stop, calling)
		f.turns.Add(1)
	}
}

// storm makes n calls from many goroutines, more if they end before each server
// had its turn, while servers leave in the way of stop and come back. It
// returns the calls' errors.
func (f *fleet) storm(n int, stop func(rpcServer)) []error {
	c := testgrpc.NewTestServiceClient(f.client())
	calling, rotated := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(rotated)
		if !f.steady {
			f.rotate(stop, calling)
		}
	}()
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	errs := make([]error, len(f.l.runs))
	var next atomic.Int64
	var wg sync.WaitGroup
	for range callers {
		wg.Go(func() {
			for {
				id := int(next.Add(1)) - 1
				if id >= n && (f.steady || f.turns.Load() >= fleetSize) || id >= len(errs) {
					next.Add(-1)
					return
				}
				r, err := c.UnaryCall(ctx, numbered(id, f.size))
				if err == nil && binary.BigEndian.Uint64(r.GetPayload().GetBody()) != uint64(id) {
					err = fmt.Errorf("call %d got the answer %x of another", id, r.GetPayload().GetBody()[:8])
				}
				errs[id] = err
			}
		})
	}
	wg.Wait()
	close(calling)
	<-rotated
	if !f.steady && f.turns.Load() < fleetSize {
		f.t.Errorf("%d servers left and came back within %d calls, want each once", f.turns.Load(), next.Load())
	}
	return errs[:next.Load()]
}

// TestZeroLoss: no call is lost, and none runs twice, while servers drain and
// come back in turn, and their connections age.
func TestZeroLoss(t *testing.T) {
	for _, s := range []scene{
		{name: "ours"},
		{name: "TLS", secure: true},
		{name: "far", far: true},
		{name: "aging", ages: true},
		{name: "aging, TLS", ages: true, secure: true},
		{name: "aging, far", ages: true, far: true},
		{name: "aging, crowded", ages: true, crowded: true},
		{name: "crowded", crowded: true},
		{name: "far and crowded", far: true, crowded: true},
		{name: "large", size: 100_000},
		{name: "far and large", size: 100_000, far: true},
		{name: "grpc-go's client", grpcGo: "client"},
		{name: "grpc-go's client, far", grpcGo: "client", far: true},
		{name: "grpc-go's client, aging", grpcGo: "client", ages: true},
		{name: "grpc-go's servers", grpcGo: "server"},
		{name: "grpc-go's servers, far and crowded", grpcGo: "server", far: true, crowded: true},
		{name: "grpc-go's servers that age", grpcGo: "server", ages: true},
		{name: "grpc-go's servers that age, far", grpcGo: "server", ages: true, far: true},
	} {
		t.Run(s.name, func(t *testing.T) {
			newFleet(t, s, newLedger(howMany(t, s.size, 2000))).losesNothing()
		})
	}
}

// losesNothing makes the calls that the ledger was made for, while servers
// drain.
func (f *fleet) losesNothing() {
	began := time.Now()
	errs := f.storm(len(f.l.runs)/spare, rpcServer.GracefulStop)
	f.t.Logf("%d calls in %v, %d servers drained and came back, %d connections", len(errs), time.Since(began).Round(time.Millisecond), f.turns.Load(), f.conns.Load())
	lost, twice := 0, 0
	for id, err := range errs {
		runs := f.l.runs[id].Load()
		if err == nil && runs == 1 {
			continue
		}
		if err != nil {
			lost++
		}
		if runs > 1 {
			twice++
		}
		if lost+twice <= 10 {
			f.t.Logf("call %d, whose handler ran %d times: %+v", id, runs, err)
		}
	}
	if lost > 0 || twice > 0 {
		f.t.Errorf("%d calls are lost, %d ran twice, want none", lost, twice)
	}
}

// TestCrashes: servers that stop under their calls lose some, none runs twice,
// and what a fault says of the call's processing is what the ledger says.
func TestCrashes(t *testing.T) {
	for _, s := range []scene{
		{name: "ours"},
		{name: "TLS", secure: true},
		{name: "far", far: true},
		{name: "crowded", crowded: true},
		{name: "large", size: 100_000},
		{name: "grpc-go's servers", grpcGo: "server"},
		{name: "grpc-go's servers, far and crowded", grpcGo: "server", far: true, crowded: true},
	} {
		t.Run(s.name, func(t *testing.T) {
			n := howMany(t, s.size, 2000)
			l := newLedger(n)
			f := newFleet(t, s, l)
			errs := f.storm(n, rpcServer.Stop)
			count := map[fault.Processed]int{}
			for id, err := range errs {
				runs := l.runs[id].Load()
				if runs > 1 || err == nil && runs != 1 {
					t.Errorf("the handler of call %d ran %d times: %v", id, runs, err)
				}
				if err == nil {
					continue
				}
				fl, ok := fault.From(err)
				if !ok || fl.Code() != codes.Unavailable {
					t.Errorf("call %d: %v, want a fault UNAVAILABLE", id, err)
					continue
				}
				count[fl.Processed()]++
				if fl.Processed() == fault.No && runs != 0 || fl.Processed() == fault.Yes && runs != 1 {
					t.Errorf("call %d says processed %v, and its handler ran %d times: %v", id, fl.Processed(), runs, err)
				}
			}
			t.Logf("%d calls, %d servers stopped and came back; those lost by processed: %v", len(errs), f.turns.Load(), count)
		})
	}
}
