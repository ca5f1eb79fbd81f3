// SPDX-License-Identifier: Apache-2.0

package server

import (
	"bytes"
	"context"
	"io"
	"log/slog"
	"net"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	testpb "google.golang.org/grpc/interop/grpc_testing"
	grpcstatus "google.golang.org/grpc/status"

	"github.com/faultline-rpc/faultline/event"
	"github.com/faultline-rpc/faultline/internal/peer"
	"github.com/faultline-rpc/faultline/internal/simnet"
)

const (
	emptyCall = "/grpc.testing.TestService/EmptyCall"
	unaryCall = "/grpc.testing.TestService/UnaryCall"
	duplex    = "/grpc.testing.TestService/FullDuplexCall"
	outputs   = "/grpc.testing.TestService/StreamingOutputCall"
)

// service is the test's service: each method is what the test says.
type testService struct {
	testpb.UnimplementedTestServiceServer
	empty  func(context.Context, *testpb.Empty) (*testpb.Empty, error)
	unary  func(context.Context, *testpb.SimpleRequest) (*testpb.SimpleResponse, error)
	duplex func(testpb.TestService_FullDuplexCallServer) error
	output func(*testpb.StreamingOutputCallRequest, testpb.TestService_StreamingOutputCallServer) error
	input  func(testpb.TestService_StreamingInputCallServer) error
}

func (s *testService) EmptyCall(ctx context.Context, m *testpb.Empty) (*testpb.Empty, error) {
	if s.empty == nil {
		return &testpb.Empty{}, nil
	}
	return s.empty(ctx, m)
}

func (s *testService) UnaryCall(ctx context.Context, m *testpb.SimpleRequest) (*testpb.SimpleResponse, error) {
	if s.unary == nil {
		return &testpb.SimpleResponse{Payload: m.Payload}, nil
	}
	return s.unary(ctx, m)
}

func (s *testService) FullDuplexCall(st testpb.TestService_FullDuplexCallServer) error {
	return s.duplex(st)
}

func (s *testService) StreamingOutputCall(m *testpb.StreamingOutputCallRequest, st testpb.TestService_StreamingOutputCallServer) error {
	return s.output(m, st)
}

func (s *testService) StreamingInputCall(st testpb.TestService_StreamingInputCallServer) error {
	return s.input(st)
}

// rig is a server over simnet, its log and its events.
type rig struct {
	*Server
	t      *testing.T
	lis    *simnet.Listener
	served chan error
	log    safeBuffer
	events recorder
}

type safeBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *safeBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *safeBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

type recorder struct {
	mu   sync.Mutex
	list []event.Event
}

func (r *recorder) Record(e event.Event) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.list = append(r.list, e)
}

func (r *recorder) all() []event.Event {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]event.Event(nil), r.list...)
}

// newRig serves svc, and what more registers, with cfg until the test ends, and then fails the test if
// a goroutine is left.
func newRig(t *testing.T, cfg Config, svc *testService, more ...func(*Server)) *rig {
	t.Helper()
	before := runtime.NumGoroutine()
	r := &rig{t: t, lis: simnet.Listen(simnet.Options{}), served: make(chan error, 1)}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.NewTextHandler(&r.log, nil))
	}
	if cfg.Sink == nil {
		cfg.Sink = &r.events
	}
	r.Server = New(cfg)
	r.journal = nil // the log is what callers must not see
	testpb.RegisterTestServiceServer(r.Server, svc)
	for _, register := range more {
		register(r.Server)
	}
	go func() { r.served <- r.Serve(r.lis) }()
	for listening := 0; listening == 0; runtime.Gosched() {
		r.mu.Lock()
		listening = len(r.listeners)
		r.mu.Unlock()
	}
	t.Cleanup(func() {
		r.Stop()
		if err := <-r.served; err != nil {
			t.Errorf("Serve = %v, want nil after Stop", err)
		}
		noneLeft(t, before)
	})
	return r
}

// noneLeft waits for goroutines that are on their way out.
func noneLeft(t *testing.T, before int) {
	t.Helper()
	var stacks [1 << 16]byte
	const turns = 1 << 20 // in fake time the clock stands while this runs
	for i, start := 0, time.Now(); i < turns && time.Since(start) < 3*time.Second; i++ {
		if runtime.NumGoroutine() <= before {
			return
		}
		runtime.Gosched()
	}
	t.Errorf("%d goroutines are left, there were %d:\n%s", runtime.NumGoroutine(), before, stacks[:runtime.Stack(stacks[:], true)])
}

// client is grpc-go's.
func (r *rig) client(opts ...grpc.DialOption) *grpc.ClientConn {
	r.t.Helper()
	opts = append([]grpc.DialOption{grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, a string) (net.Conn, error) { return r.lis.Dial(ctx, a) })}, opts...)
	cc, err := grpc.NewClient("passthrough:///test", opts...)
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { cc.Close() })
	return cc
}

func (r *rig) stub(opts ...grpc.DialOption) testpb.TestServiceClient {
	r.t.Helper()
	return testpb.NewTestServiceClient(r.client(opts...))
}

// peer is a scripted client that has made its handshake.
func (r *rig) peer(o ...peer.Options) *peer.T {
	r.t.Helper()
	nc, err := r.lis.Dial(context.Background(), "")
	if err != nil {
		r.t.Fatal(err)
	}
	p := peer.Client(r.t, nc, o...)
	p.Handshake()
	return p
}

func ctx(t *testing.T) context.Context {
	c, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	t.Cleanup(cancel)
	return c
}

func wantStatus(t *testing.T, err error, code codes.Code, message string) {
	t.Helper()
	s := grpcstatus.Convert(err)
	if s.Code() != code || s.Message() != message {
		t.Fatalf("status is %v %q,\nwant %v %q", s.Code(), s.Message(), code, message)
	}
}

// wantMasked checks a message that ends in a reference, and returns that.
func wantMasked(t *testing.T, err error, code codes.Code, start string) string {
	t.Helper()
	s := grpcstatus.Convert(err)
	rest, ok := strings.CutPrefix(s.Message(), start+"; reference ")
	if s.Code() != code || !ok || len(rest) != 16 {
		t.Fatalf("status is %v %q,\nwant %v %q and a reference", s.Code(), s.Message(), code, start)
	}
	return rest
}

func TestUnary(t *testing.T) {
	r := newRig(t, Config{}, &testService{})
	c := r.stub()
	for i := range 50 {
		body := bytes.Repeat([]byte{byte(i)}, i*1000)
		out, err := c.UnaryCall(ctx(t), &testpb.SimpleRequest{Payload: &testpb.Payload{Body: body}})
		if err != nil || !bytes.Equal(out.Payload.Body, body) {
			t.Fatalf("call %d: %v", i, err)
		}
	}
	if _, err := c.EmptyCall(ctx(t), &testpb.Empty{}); err != nil {
		t.Fatal(err)
	}
}

func TestManyCallers(t *testing.T) {
	r := newRig(t, Config{}, &testService{})
	c := r.stub()
	var wg sync.WaitGroup
	for i := range 32 {
		wg.Go(func() {
			for j := range 50 {
				body := bytes.Repeat([]byte{byte(i + j)}, 100*j)
				out, err := c.UnaryCall(context.Background(), &testpb.SimpleRequest{Payload: &testpb.Payload{Body: body}})
				if err != nil || !bytes.Equal(out.Payload.Body, body) {
					t.Errorf("call %d/%d: %v", i, j, err)
					return
				}
			}
		})
	}
	wg.Wait()
}

func TestStreams(t *testing.T) {
	r := newRig(t, Config{}, &testService{
		duplex: func(st testpb.TestService_FullDuplexCallServer) error {
			for {
				m, err := st.Recv()
				if err == io.EOF {
					return nil
				}
				if err != nil {
					return err
				}
				if err := st.Send(&testpb.StreamingOutputCallResponse{Payload: m.Payload}); err != nil {
					return err
				}
			}
		},
		output: func(m *testpb.StreamingOutputCallRequest, st testpb.TestService_StreamingOutputCallServer) error {
			for _, p := range m.ResponseParameters {
				if err := st.Send(&testpb.StreamingOutputCallResponse{Payload: &testpb.Payload{Body: make([]byte, p.Size)}}); err != nil {
					return err
				}
			}
			return nil
		},
		input: func(st testpb.TestService_StreamingInputCallServer) error {
			n := 0
			for {
				m, err := st.Recv()
				if err == io.EOF {
					return st.SendAndClose(&testpb.StreamingInputCallResponse{AggregatedPayloadSize: int32(n)})
				}
				if err != nil {
					return err
				}
				n += len(m.Payload.Body)
			}
		},
	})
	c := r.stub()
	d, err := c.FullDuplexCall(ctx(t))
	if err != nil {
		t.Fatal(err)
	}
	for i := range 20 {
		body := bytes.Repeat([]byte{7}, i*777)
		if err := d.Send(&testpb.StreamingOutputCallRequest{Payload: &testpb.Payload{Body: body}}); err != nil {
			t.Fatal(err)
		}
		m, err := d.Recv()
		if err != nil || !bytes.Equal(m.GetPayload().GetBody(), body) {
			t.Fatalf("message %d: %v", i, err)
		}
	}
	d.CloseSend()
	if _, err := d.Recv(); err != io.EOF {
		t.Fatalf("Recv = %v, want io.EOF", err)
	}
	o, err := c.StreamingOutputCall(ctx(t), &testpb.StreamingOutputCallRequest{ResponseParameters: []*testpb.ResponseParameters{{Size: 1}, {Size: 100000}, {Size: 3}}})
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []int{1, 100000, 3} {
		if m, err := o.Recv(); err != nil || len(m.Payload.Body) != want {
			t.Fatalf("Recv = %v, want %d bytes", err, want)
		}
	}
	if _, err := o.Recv(); err != io.EOF {
		t.Fatalf("Recv = %v, want io.EOF", err)
	}
	in, err := c.StreamingInputCall(ctx(t))
	if err != nil {
		t.Fatal(err)
	}
	for range 5 {
		if err := in.Send(&testpb.StreamingInputCallRequest{Payload: &testpb.Payload{Body: make([]byte, 1000)}}); err != nil {
			t.Fatal(err)
		}
	}
	if sum, err := in.CloseAndRecv(); err != nil || sum.AggregatedPayloadSize != 5000 {
		t.Fatalf("sum = %v, %v", sum, err)
	}
}
