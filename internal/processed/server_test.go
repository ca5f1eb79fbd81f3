// SPDX-License-Identifier: Apache-2.0

package processed

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	testgrpc "google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/stats"
	"google.golang.org/grpc/tap"
	"google.golang.org/protobuf/proto"

	"github.com/faultline-rpc/faultline"
	"github.com/faultline-rpc/faultline/event"
	"github.com/faultline-rpc/faultline/fault"
	"github.com/faultline-rpc/faultline/status"
)

// ledger counts, for each call, the handlers that ran.
type ledger struct {
	mu   sync.Mutex
	runs map[int]int // guarded by mu
}

func (l *ledger) ran(number int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.runs[number]++
}

func (l *ledger) of(number int) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.runs[number]
}

// conduct is what a handler does.
type conduct struct {
	read     int // of a stream's request, before it answers
	head     bool
	sleep    time.Duration
	deaf     bool // to its context's end
	messages int
	size     int
	end      error
	crash    bool
}

var errPlain = errors.New("the handler's own words")

func newConduct(r *rand.Rand, span time.Duration) conduct {
	c := conduct{read: r.IntN(4), head: r.IntN(4) == 0, messages: r.IntN(3), size: r.IntN(50), deaf: r.IntN(4) == 0}
	if r.IntN(2) == 0 {
		c.sleep = within(r, 2*span)
	}
	switch r.IntN(16) {
	case 0, 1, 2:
		c.end = status.Error(codes.Code(1+r.IntN(17)), "the handler's status")
	case 3:
		c.end = errPlain
	case 4:
		c.crash = true
	case 5:
		c.size = maxMessage + 1
	}
	return c
}

// host is a server of ours, with its ledger, and with every observer that a
// server knows.
type host struct {
	testgrpc.UnimplementedTestServiceServer
	episode *episode
	srv     *faultline.Server
	served  chan error
	guarded bool // by interceptors
}

func (e *episode) newHost(r *rand.Rand, lis net.Listener) *host {
	h := &host{episode: e}
	var opts []faultline.ServerOption
	add := func(n int, o ...faultline.ServerOption) {
		if r.IntN(n) == 0 {
			opts = append(opts, o...)
		}
	}
	add(4, faultline.MaxConcurrentStreams(1+uint32(r.IntN(3))))
	add(4, faultline.MaxHandlers(1+r.IntN(2)))
	add(4, faultline.MaxRecvMsgSize(1000))
	add(4, faultline.MaxUndeliveredBytes(int64(r.IntN(maxMessage))))
	add(24, faultline.MaxHeaderListSize(200+uint32(r.IntN(300))))
	add(4, faultline.ForceServerCodec(&thorough{r: rand.New(rand.NewPCG(r.Uint64(), 1)), span: e.span})) // stops come while requests are decoded
	add(4, faultline.InTapHandle(h.tap))
	add(4, faultline.KeepaliveParams(keepalive.ServerParameters{MaxConnectionAge: within(r, e.span) + time.Millisecond, MaxConnectionAgeGrace: within(r, e.span) + 1}))
	h.guarded = r.IntN(4) == 0
	if h.guarded {
		add(1, faultline.UnaryInterceptor(h.unaryGuard), faultline.StreamInterceptor(h.streamGuard))
	}
	return h.serve(lis, opts)
}

// thorough is a codec that at times takes its time.
type thorough struct {
	span time.Duration
	mu   sync.Mutex
	r    *rand.Rand // guarded by mu
}

func (c *thorough) Name() string                  { return "proto" }
func (c *thorough) Marshal(v any) ([]byte, error) { return proto.Marshal(v.(proto.Message)) }
func (c *thorough) Unmarshal(b []byte, v any) error {
	c.mu.Lock()
	d := time.Duration(0)
	if c.r.IntN(2) == 0 {
		d = within(c.r, c.span)
	}
	c.mu.Unlock()
	if d > 0 {
		<-time.After(d)
	}
	return proto.Unmarshal(b, v.(proto.Message))
}

// plainHost starts a server without limits.
func (e *episode) plainHost(lis net.Listener) *host { return (&host{episode: e}).serve(lis, nil) }

func (h *host) serve(lis net.Listener, opts []faultline.ServerOption) *host {
	opts = append(opts, faultline.Logger(slog.New(slog.DiscardHandler)), faultline.StatsHandler(h), faultline.EventSink(h), faultline.WaitForHandlers(true))
	h.srv = faultline.NewServer(opts...)
	testgrpc.RegisterTestServiceServer(h.srv, h)
	h.served = make(chan error, 1)
	go func() { h.served <- h.srv.Serve(lis) }()
	return h
}

// unaryGuard and streamGuard keep some calls from their handlers.
func (h *host) unaryGuard(ctx context.Context, req any, _ *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
	if err := guard(ctx); err != nil {
		return nil, err
	}
	return handler(ctx, req)
}

func (h *host) streamGuard(srv any, s grpc.ServerStream, _ *grpc.StreamServerInfo, handler grpc.StreamHandler) error {
	if err := guard(s.Context()); err != nil {
		return err
	}
	return handler(srv, s)
}

func guard(ctx context.Context) error {
	md, _ := metadata.FromIncomingContext(ctx)
	if number(md)%8 != 2 {
		return nil
	}
	select {
	case <-time.After(time.Millisecond):
		if number(md)%16 == 2 {
			return errPlain
		}
		return status.Error(codes.PermissionDenied, "not you")
	case <-ctx.Done():
		return ctx.Err()
	}
}

// tap refuses some calls before anything is done for them.
func (h *host) tap(ctx context.Context, info *tap.Info) (context.Context, error) {
	switch number(metadata.MD(info.Header)) % 8 {
	case 0:
		return nil, status.Error(codes.Unavailable, "not today")
	case 1:
		return nil, errPlain
	}
	return ctx, nil
}

func number(md metadata.MD) int {
	if v := md.Get(numberKey); len(v) == 1 {
		if n, err := strconv.Atoi(v[0]); err == nil {
			return n
		}
	}
	return -1
}

// enter is the first thing that a handler does.
func (h *host) enter(ctx context.Context) conduct {
	if r, ok := ctx.Value(runKey{}).(*run); ok {
		r.ran.Store(true)
	}
	md, _ := metadata.FromIncomingContext(ctx)
	n := number(md)
	h.episode.ledger.ran(n)
	return h.episode.conduct(n)
}

// pass is the middle of a handler: it takes its time, or ends with its context.
func (h *host) pass(ctx context.Context, c conduct) error {
	if c.head {
		_ = grpc.SendHeader(ctx, metadata.Pairs("a", "b"))
	}
	if c.sleep > 0 {
		done := ctx.Done()
		if c.deaf {
			done = nil
		}
		select {
		case <-time.After(c.sleep):
		case <-done:
			f, ok := fault.From(context.Cause(ctx))
			if ok && f.Processed() != fault.Yes && !(h.guarded && f.Processed() == fault.Maybe) { // an interceptor may have been the first to ask
				h.episode.wrong("a handler that runs does not learn so: %+v", f)
			}
			return ctx.Err()
		}
	}
	if c.crash {
		panic("the handler's panic")
	}
	return c.end
}

// UnaryCall implements testgrpc.TestServiceServer.
func (h *host) UnaryCall(ctx context.Context, _ *testgrpc.SimpleRequest) (*testgrpc.SimpleResponse, error) {
	c := h.enter(ctx)
	if err := h.pass(ctx, c); err != nil {
		return nil, err
	}
	return &testgrpc.SimpleResponse{Payload: &testgrpc.Payload{Body: make([]byte, c.size)}}, nil
}

// StreamingInputCall implements testgrpc.TestServiceServer.
func (h *host) StreamingInputCall(s testgrpc.TestService_StreamingInputCallServer) error {
	c := h.enter(s.Context())
	if err := read(c, s); err != nil {
		return err
	}
	if err := h.pass(s.Context(), c); err != nil {
		return err
	}
	return s.SendAndClose(&testgrpc.StreamingInputCallResponse{})
}

// read takes as many messages as the conduct says, or all.
func read[M any](c conduct, s interface{ Recv() (*M, error) }) error {
	for i := 0; i < c.read || c.read == 3; i++ {
		if _, err := s.Recv(); err != nil {
			if err == io.EOF {
				return nil
			}
			return err
		}
	}
	return nil
}

// StreamingOutputCall implements testgrpc.TestServiceServer.
func (h *host) StreamingOutputCall(_ *testgrpc.StreamingOutputCallRequest, s testgrpc.TestService_StreamingOutputCallServer) error {
	return h.answer(h.enter(s.Context()), s.Context(), s)
}

// FullDuplexCall implements testgrpc.TestServiceServer.
func (h *host) FullDuplexCall(s testgrpc.TestService_FullDuplexCallServer) error {
	c := h.enter(s.Context())
	if err := read(c, s); err != nil {
		return err
	}
	return h.answer(c, s.Context(), s)
}

func (h *host) answer(c conduct, ctx context.Context, s interface {
	Send(*testgrpc.StreamingOutputCallResponse) error
}) error {
	for range c.messages {
		if err := s.Send(&testgrpc.StreamingOutputCallResponse{Payload: &testgrpc.Payload{Body: make([]byte, c.size)}}); err != nil {
			return err
		}
	}
	return h.pass(ctx, c)
}

// run is one attempt on the server.
type run struct{ ran atomic.Bool }

type runKey struct{}

// TagRPC implements stats.Handler.
func (h *host) TagRPC(ctx context.Context, _ *stats.RPCTagInfo) context.Context {
	return context.WithValue(ctx, runKey{}, &run{})
}

// HandleRPC implements stats.Handler: what observers are told when the call
// ends is what happened.
func (h *host) HandleRPC(ctx context.Context, s stats.RPCStats) {
	e, ok := s.(*stats.End)
	if !ok {
		return
	}
	f, ok := fault.From(e.Error)
	if !ok {
		return
	}
	ran := ctx.Value(runKey{}).(*run).ran.Load()
	if want := claim(ran); f.Processed() != want {
		h.episode.wrong("stats.End: a call whose handler ran (%t) ended with processed %v, want %v: %+v", ran, f.Processed(), want, f)
	}
}

// claim is what a server knows.
func claim(ran bool) fault.Processed {
	if ran {
		return fault.Yes
	}
	return fault.No
}

// TagConn implements stats.Handler.
func (h *host) TagConn(ctx context.Context, _ *stats.ConnTagInfo) context.Context { return ctx }

// HandleConn implements stats.Handler.
func (h *host) HandleConn(context.Context, stats.ConnStats) {}

// Record implements event.Sink: who is told of a refusal is told that no
// handler ran.
func (h *host) Record(e event.Event) {
	r, ok := e.(event.CallRefused)
	if !ok {
		return
	}
	if f, ok := fault.From(r.Err); !ok || f.Processed() != fault.No {
		h.episode.wrong("event.CallRefused has %+v, want a fault that was not processed", r.Err)
	}
}

// stop ends the server for good.
func (h *host) stop() {
	h.srv.Stop()
	if err := <-h.served; err != nil {
		h.episode.wrong("Serve: %v", err)
	}
}
