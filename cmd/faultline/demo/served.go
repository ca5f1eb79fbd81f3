// SPDX-License-Identifier: Apache-2.0

package demo

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"time"

	"google.golang.org/grpc"
	testpb "google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/stats"

	"github.com/faultline-rpc/faultline"
	"github.com/faultline-rpc/faultline/cmd/faultline/testservice"
	"github.com/faultline-rpc/faultline/event"
)

// served is a server of ours and what it records.
type served struct {
	*faultline.Server
	addr    string
	began   chan struct{} // a value for each handler that started
	release chan struct{} // closed when handlers that hold on may go
	freed   sync.Once
	ends    chan error // how calls ended, as the server reports it
	causes  chan error // why contexts of handlers ended
	refused chan error // why calls were answered without their handlers
}

// handler is what a unary call, or a client-streaming one, does in place of
// the test service's own.
type handler func(ctx context.Context, s *served) error

// records bounds what a served keeps of each kind: a case makes few calls.
const records = 16

// serve starts a server of ours on loopback. h may be nil.
func (l *lab) serve(h handler, opts ...faultline.ServerOption) (*served, error) {
	s := &served{
		began: make(chan struct{}, records), release: make(chan struct{}),
		ends: make(chan error, records), causes: make(chan error, records), refused: make(chan error, records),
	}
	opts = append([]faultline.ServerOption{
		faultline.StatsHandler((*recorder)(s)), faultline.EventSink((*recorder)(s)),
		faultline.WaitForHandlers(true), faultline.Logger(slog.New(slog.DiscardHandler)),
	}, opts...)
	s.Server = faultline.NewServer(opts...)
	testpb.RegisterTestServiceServer(s.Server, &service{s: s, handler: h})
	lis, err := net.Listen("tcp", loopback)
	if err != nil {
		return nil, err
	}
	s.addr = lis.Addr().String()
	done := make(chan error, 1)
	go func() { done <- s.Serve(lis) }()
	l.onClose(func() error {
		s.letGo()
		s.Stop()
		if err := <-done; !errors.Is(err, grpc.ErrServerStopped) { // that is: Stop came before Serve
			return err
		}
		return nil
	})
	return s, nil
}

// letGo ends handlers that hold on.
func (s *served) letGo() { s.freed.Do(func() { close(s.release) }) }

// handling waits until a handler runs.
func (s *served) handling(ctx context.Context) error {
	_, err := next(ctx, s.began, "a handler to start")
	return err
}

// end waits for a call's end and returns the error it ended with.
func (s *served) end(ctx context.Context) error {
	return record(ctx, s.ends, "the server's record of the call's end")
}

// cause waits for the end of a handler's context and returns its cause.
func (s *served) cause(ctx context.Context) error {
	return record(ctx, s.causes, "the end of the handler's context")
}

// refusal waits for a call that no handler saw, and returns why it was refused.
func (s *served) refusal(ctx context.Context) error {
	return record(ctx, s.refused, "the server's record of the call's refusal")
}

func record(ctx context.Context, from <-chan error, what string) error {
	recorded, err := next(ctx, from, what)
	if err != nil {
		return err
	}
	return recorded
}

// next waits for a value, at most for patience.
func next[T any](ctx context.Context, from <-chan T, what string) (v T, err error) {
	t := time.NewTimer(patience)
	defer t.Stop()
	select {
	case v = <-from:
		return v, nil
	case <-t.C:
		return v, fmt.Errorf("waited %v in vain for %s", patience, what)
	case <-ctx.Done():
		return v, fmt.Errorf("waited in vain for %s: %w", what, context.Cause(ctx))
	}
}

// note keeps a value if there is room.
func note[T any](in chan<- T, v T) {
	select {
	case in <- v:
	default:
	}
}

// hold is a handler that waits for the end of its context.
func hold(ctx context.Context, s *served) error {
	<-ctx.Done()
	note(s.causes, context.Cause(ctx))
	return ctx.Err()
}

// holdOn is a handler that heeds nothing until it is let go.
func holdOn(_ context.Context, s *served) error {
	<-s.release
	return nil
}

// crash is a handler that throws an exception.
func crash(context.Context, *served) error { panic("the demo's handler panics on purpose") }

// noStatus is a handler that returns an error which is no status.
func noStatus(context.Context, *served) error { return errors.New("disk 7 is full") }

// service is the test service with a handler of the case's own.
type service struct {
	testservice.Server
	s       *served
	handler handler
}

func (v *service) run(ctx context.Context) (own bool, err error) {
	note(v.s.began, struct{}{})
	if v.handler == nil {
		return false, nil
	}
	return true, v.handler(ctx, v.s)
}

// UnaryCall runs the case's handler, if it has one.
func (v *service) UnaryCall(ctx context.Context, in *testpb.SimpleRequest) (*testpb.SimpleResponse, error) {
	if own, err := v.run(ctx); own {
		return new(testpb.SimpleResponse), err
	}
	return v.Server.UnaryCall(ctx, in)
}

// StreamingInputCall runs the case's handler, if it has one.
func (v *service) StreamingInputCall(s grpc.ClientStreamingServer[testpb.StreamingInputCallRequest, testpb.StreamingInputCallResponse]) error {
	if own, err := v.run(s.Context()); own {
		return err
	}
	return v.Server.StreamingInputCall(s)
}

// recorder is a served as its server's calls report to it.
type recorder served

// Record implements event.Sink.
func (r *recorder) Record(e event.Event) {
	if e, ok := e.(event.CallRefused); ok {
		note(r.refused, e.Err)
	}
}

// TagRPC implements stats.Handler.
func (*recorder) TagRPC(ctx context.Context, _ *stats.RPCTagInfo) context.Context { return ctx }

// TagConn implements stats.Handler.
func (*recorder) TagConn(ctx context.Context, _ *stats.ConnTagInfo) context.Context { return ctx }

// HandleConn implements stats.Handler.
func (*recorder) HandleConn(context.Context, stats.ConnStats) {}

// HandleRPC implements stats.Handler.
func (r *recorder) HandleRPC(_ context.Context, s stats.RPCStats) {
	if end, ok := s.(*stats.End); ok {
		note(r.ends, end.Error)
	}
}
