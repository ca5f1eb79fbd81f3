// SPDX-License-Identifier: Apache-2.0

package server

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"testing"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	testpb "google.golang.org/grpc/interop/grpc_testing"
	grpcstatus "google.golang.org/grpc/status"

	"github.com/faultline-rpc/faultline/event"
	"github.com/faultline-rpc/faultline/fault"
	"github.com/faultline-rpc/faultline/status"
)

func failing(err error) *testService {
	return &testService{
		empty:  func(context.Context, *testpb.Empty) (*testpb.Empty, error) { return nil, err },
		duplex: func(testpb.TestService_FullDuplexCallServer) error { return err },
	}
}

// each runs f for a unary and a streaming call of the service.
func each(t *testing.T, r *rig, f func(t *testing.T, err error)) {
	c := r.stub()
	t.Run("unary", func(t *testing.T) {
		_, err := c.EmptyCall(ctx(t), &testpb.Empty{})
		f(t, err)
	})
	t.Run("stream", func(t *testing.T) {
		s, err := c.FullDuplexCall(ctx(t))
		if err != nil {
			t.Fatal(err)
		}
		_, err = s.Recv()
		f(t, err)
	})
}

func TestStatusPassesUnchanged(t *testing.T) {
	detailed := status.New(codes.NotFound, "no such thing: é\n").WithReason("GONE", "example.com", nil)
	theirs, _ := grpcstatus.New(codes.Aborted, "theirs").WithDetails(&errdetails.RetryInfo{})
	upstream := fault.HandlerStatus.New(fault.Args{Code: codes.AlreadyExists, Side: fault.Remote, Verbatim: true, Message: "from behind"})
	overloaded := fault.ServerOverloaded.New(fault.Args{Side: fault.Remote, Verbatim: true, Message: "server.overloaded: upstream says so"})
	for _, tc := range []struct {
		name    string
		err     error
		code    codes.Code
		message string
		details int
	}{
		{"ours", status.Error(codes.FailedPrecondition, "ours"), codes.FailedPrecondition, "ours", 0},
		{"ours with details", detailed.Err(), codes.NotFound, "no such thing: é\n", 1},
		{"ours wrapped", fmt.Errorf("secret: %w", detailed.Err()), codes.NotFound, "no such thing: é\n", 1},
		{"grpc-go's", theirs.Err(), codes.Aborted, "theirs", 1},
		{"grpc-go's wrapped", fmt.Errorf("secret: %w", theirs.Err()), codes.Aborted, "theirs", 1},
		{"wrapping a cause", status.Wrap(errors.New("secret"), codes.Internal, "broken"), codes.Internal, "broken", 0},
		{"private code", grpcstatus.Error(77, "private"), codes.Code(77), "private", 0},
		{"received from upstream", upstream, codes.AlreadyExists, "from behind", 0},
		{"server fault from upstream", overloaded, codes.ResourceExhausted, "server.overloaded: upstream says so", 0},
	} {
		t.Run(tc.name, func(t *testing.T) {
			r := newRig(t, Config{}, failing(tc.err))
			each(t, r, func(t *testing.T, err error) {
				wantStatus(t, err, tc.code, tc.message)
				if n := len(grpcstatus.Convert(err).Details()); n != tc.details {
					t.Errorf("%d details, want %d", n, tc.details)
				}
			})
			if log := r.log.String(); log != "" {
				t.Errorf("log: %s", log)
			}
		})
	}
}

func TestErrorsAreMasked(t *testing.T) {
	refused := fault.DialRefused.New(fault.Args{Side: fault.Remote, Processed: fault.No, Message: "nothing listens at 10.1.2.3:443"})
	for _, tc := range []struct {
		name   string
		err    error
		code   codes.Code
		start  string
		secret string
	}{
		{"plain", errors.New("password=hunter2"), codes.Unknown, "handler.not-status: the handler returned an error that is no status", "hunter2"},
		{"OK as an error", okError{}, codes.Unknown, "handler.not-status: the handler returned an error that is no status", "claims OK"},
		{"client fault", refused, codes.Unavailable, "dial.refused: " + fault.DialRefused.Summary, "10.1.2.3"},
		{"client fault wrapped", fmt.Errorf("db: %w", refused), codes.Unavailable, "dial.refused: " + fault.DialRefused.Summary, "10.1.2.3"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			r := newRig(t, Config{}, failing(tc.err))
			each(t, r, func(t *testing.T, err error) {
				ref := wantMasked(t, err, tc.code, tc.start)
				log := r.log.String()
				if !strings.Contains(log, ref) || !strings.Contains(log, tc.secret) || !strings.Contains(log, "/grpc.testing.TestService/") {
					t.Errorf("the log lacks method, reference or text: %s", log)
				}
				found := false
				for _, e := range r.events.all() {
					m, ok := e.(event.ErrorMasked)
					found = found || ok && m.Reference == ref && errors.Is(m.Err, tc.err)
				}
				if !found {
					t.Error("no event.ErrorMasked with the reference")
				}
			})
		})
	}
}

type okError struct{}

func (okError) Error() string                  { return "claims OK" }
func (okError) GRPCStatus() *grpcstatus.Status { return grpcstatus.New(codes.OK, "") }

// count panics if there is no map.
func count(m map[int]int) { m[1]++ }

func TestPanicsAndGoexit(t *testing.T) {
	for _, tc := range []struct {
		name, start, value string
		crash              func()
	}{
		{"panic", "handler.panic: the handler panicked", "boom", func() { panic("boom") }},
		{"nil map", "handler.panic: the handler panicked", "nil map", func() { count(nil) }},
		{"goexit", "handler.panic: the handler ended its goroutine", "Goexit", func() { runtime.Goexit() }},
	} {
		t.Run(tc.name, func(t *testing.T) {
			crash := true
			svc := &testService{
				empty: func(context.Context, *testpb.Empty) (*testpb.Empty, error) {
					if crash {
						tc.crash()
					}
					return &testpb.Empty{}, nil
				},
				duplex: func(testpb.TestService_FullDuplexCallServer) error { tc.crash(); return nil },
			}
			r := newRig(t, Config{}, svc)
			each(t, r, func(t *testing.T, err error) {
				ref := wantMasked(t, err, codes.Unknown, tc.start)
				found := false
				for _, e := range r.events.all() {
					p, ok := e.(event.HandlerPanicked)
					found = found || ok && p.Reference == ref && strings.Contains(p.Value, tc.value) && strings.Contains(string(p.Stack), "errors_test.go")
				}
				if !found {
					t.Error("no event.HandlerPanicked with reference, value and stack")
				}
				if !strings.Contains(r.log.String(), ref) {
					t.Error("the log lacks the reference")
				}
			})
			crash = false
			if _, err := r.stub().EmptyCall(ctx(t), &testpb.Empty{}); err != nil {
				t.Errorf("the next call: %v", err)
			}
		})
	}
}

func TestContextErrors(t *testing.T) {
	for _, tc := range []struct {
		err     error
		code    codes.Code
		message string
	}{
		{context.Canceled, codes.Canceled,
			"handler.context: the handler returned context.Canceled although its own context had not ended: a narrower context did"},
		{fmt.Errorf("secret: %w", context.DeadlineExceeded), codes.DeadlineExceeded,
			"handler.context: the handler returned context.DeadlineExceeded although its own context had not ended: a narrower context did"},
	} {
		r := newRig(t, Config{}, failing(tc.err))
		each(t, r, func(t *testing.T, err error) { wantStatus(t, err, tc.code, tc.message) })
	}
}

func TestUnknownMethods(t *testing.T) {
	r := newRig(t, Config{}, &testService{})
	c := r.client()
	for _, tc := range []struct{ path, message string }{
		{"/grpc.testing.TestServise/EmptyCall", "unknown service grpc.testing.TestServise; the nearest registered name is grpc.testing.TestService"},
		{"/grpc.testing.v2.TestService/EmptyCall", "unknown service grpc.testing.v2.TestService; the nearest registered name is grpc.testing.TestService"},
		{"/other.testservice/EmptyCall", "unknown service other.testservice; the nearest registered name is grpc.testing.TestService"},
		{"/helloworld.Greeter/SayHello", "unknown service helloworld.Greeter"},
		{"/" + strings.Repeat("x", 300) + "/M", "unknown service " + strings.Repeat("x", 256) + "..."},
		{"/grpc.testing.TestService/emptycall", "unknown method emptycall for service grpc.testing.TestService; the nearest registered name is EmptyCall"},
		{"/grpc.testing.TestService/UnaryCal", "unknown method UnaryCal for service grpc.testing.TestService; the nearest registered name is UnaryCall"},
		{"/grpc.testing.TestService/Nothing", "unknown method Nothing for service grpc.testing.TestService"},
		{"/grpc.testing.TestService/", "unknown method  for service grpc.testing.TestService"},
	} {
		err := c.Invoke(ctx(t), tc.path, &testpb.Empty{}, &testpb.Empty{})
		wantStatus(t, err, codes.Unimplemented, tc.message)
	}
}
