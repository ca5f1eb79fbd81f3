// SPDX-License-Identifier: Apache-2.0

package ecosystem

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/grpc-ecosystem/go-grpc-middleware/v2/interceptors"
	"github.com/grpc-ecosystem/go-grpc-middleware/v2/interceptors/auth"
	"github.com/grpc-ecosystem/go-grpc-middleware/v2/interceptors/logging"
	"github.com/grpc-ecosystem/go-grpc-middleware/v2/interceptors/ratelimit"
	"github.com/grpc-ecosystem/go-grpc-middleware/v2/interceptors/realip"
	"github.com/grpc-ecosystem/go-grpc-middleware/v2/interceptors/recovery"
	"github.com/grpc-ecosystem/go-grpc-middleware/v2/interceptors/retry"
	"github.com/grpc-ecosystem/go-grpc-middleware/v2/interceptors/selector"
	"github.com/grpc-ecosystem/go-grpc-middleware/v2/interceptors/timeout"
	"github.com/grpc-ecosystem/go-grpc-middleware/v2/interceptors/validator"
	"github.com/grpc-ecosystem/go-grpc-middleware/v2/metadata"
	"github.com/grpc-ecosystem/go-grpc-middleware/v2/testing/testpb"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/faultline-rpc/faultline"
	"github.com/faultline-rpc/faultline/fault"
)

var hello = &testpb.PingRequest{Value: "hello"}

// TestRecovery: the middleware sees the panic before our server does, and its
// answer is the caller's.
func TestRecovery(t *testing.T) {
	var seen atomic.Value
	handle := recovery.WithRecoveryHandler(func(p any) error {
		seen.Store(fmt.Sprint(p))
		return status.Error(codes.Unknown, "recovered by the middleware")
	})
	p := &ping{unary: func(context.Context, *testpb.PingRequest) (*testpb.PingResponse, error) { panic("boom") }}
	c := client(t, servePing(t, p, faultline.ChainUnaryInterceptor(recovery.UnaryServerInterceptor(handle)),
		faultline.ChainStreamInterceptor(recovery.StreamServerInterceptor(handle),
			func(any, grpc.ServerStream, *grpc.StreamServerInfo, grpc.StreamHandler) error { panic("stream") })))
	_, err := c.Ping(within(t, 10*time.Second), hello)
	wantCode(t, err, codes.Unknown)
	if !strings.Contains(err.Error(), "recovered by the middleware") || seen.Load() != "boom" {
		t.Errorf("%v, the middleware saw %v", err, seen.Load())
	}
	err = stream(t, within(t, 10*time.Second), c, 1)
	wantCode(t, err, codes.Unknown)
	if seen.Load() != "stream" {
		t.Errorf("the middleware saw %v", seen.Load())
	}
}

// journal is a logging.Logger that keeps lines.
type journal struct {
	mu    sync.Mutex
	lines []string
}

func (j *journal) Log(_ context.Context, l logging.Level, msg string, fields ...any) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.lines = append(j.lines, fmt.Sprint(l, " ", msg, " ", fields))
}

// find returns the first line that has all the words.
func (j *journal) find(words ...string) string {
	j.mu.Lock()
	defer j.mu.Unlock()
lines:
	for _, l := range j.lines {
		for _, w := range words {
			if !strings.Contains(l, w) {
				continue lines
			}
		}
		return l
	}
	return ""
}

// TestLogging: both sides log calls with their codes, deadlines and peers.
func TestLogging(t *testing.T) {
	var here, there journal
	all := logging.WithLogOnEvents(logging.StartCall, logging.FinishCall, logging.PayloadReceived, logging.PayloadSent)
	c := client(t, servePing(t, &ping{}, faultline.ChainUnaryInterceptor(logging.UnaryServerInterceptor(&there, all)),
		faultline.ChainStreamInterceptor(logging.StreamServerInterceptor(&there, all))),
		faultline.WithChainUnaryInterceptor(logging.UnaryClientInterceptor(&here, all)),
		faultline.WithChainStreamInterceptor(logging.StreamClientInterceptor(&here, all)))
	ctx := within(t, 10*time.Second)
	if _, err := c.Ping(ctx, hello); err != nil {
		t.Fatal(err)
	}
	_, err := c.PingError(ctx, &testpb.PingErrorRequest{Value: "x", ErrorCodeReturned: uint32(codes.NotFound)})
	wantCode(t, err, codes.NotFound)
	if err := stream(t, ctx, c, 2); err != nil {
		t.Fatal(err)
	}
	for _, side := range []struct {
		name string
		j    *journal
	}{{"client", &here}, {"server", &there}} {
		for _, words := range [][]string{
			{"finished call", "grpc.method Ping ", "grpc.code OK", "grpc.component " + side.name, "grpc.service testing.testpb.v1.TestService", "grpc.method_type unary"},
			{"finished call", "grpc.method PingError", "grpc.code NotFound", "Userspace error"},
			{"finished call", "grpc.method PingStream", "grpc.code OK", "grpc.method_type bidi_stream"},
			{"request", "grpc.request.content value:\"hello\""},
			{"started call", "grpc.request.deadline"},
		} {
			if side.j.find(words...) == "" {
				t.Errorf("the %s logged no line with %q, but\n%s", side.name, words, strings.Join(side.j.lines, "\n"))
			}
		}
	}
	if there.find("peer.address 127.0.0.1:") == "" {
		t.Error("the server did not log who called")
	}
}

// TestRetry: the middleware's own retries, and what it tells servers.
func TestRetry(t *testing.T) {
	var n atomic.Int32
	var last atomic.Value
	fails := func(ctx context.Context, in *testpb.PingRequest) (*testpb.PingResponse, error) {
		last.Store(metadata.ExtractIncoming(ctx).Get(retry.AttemptMetadataKey))
		if n.Add(1)%3 != 0 {
			return nil, status.Error(codes.Unavailable, "not yet")
		}
		return &testpb.PingResponse{Value: in.Value}, nil
	}
	var told atomic.Int32
	c := client(t, servePing(t, &ping{unary: fails}),
		faultline.WithChainUnaryInterceptor(retry.UnaryClientInterceptor(retry.WithBackoff(retry.BackoffLinear(time.Millisecond)),
			retry.WithOnRetryCallback(func(context.Context, uint, error) { told.Add(1) }))))
	ctx := within(t, 10*time.Second)
	r, err := c.Ping(ctx, hello, retry.WithMax(5), retry.WithCodes(codes.Unavailable))
	if err != nil || r.GetValue() != "hello" || n.Load() != 3 || last.Load() != "2" || told.Load() != 2 {
		t.Errorf("%v, %v after %d requests, attempt header %v, %d callbacks", r, err, n.Load(), last.Load(), told.Load())
	}
	_, err = c.Ping(ctx, hello, retry.Disable())
	wantCode(t, err, codes.Unavailable)
	if f, ok := fault.From(err); !ok || f.Entry() != fault.HandlerStatus {
		t.Errorf("through the middleware the error is %v, want the fault", err)
	}
	// Each try has its own deadline: the third answers.
	n.Store(0)
	slow := client(t, servePing(t, &ping{unary: func(ctx context.Context, in *testpb.PingRequest) (*testpb.PingResponse, error) {
		if n.Add(1) < 3 {
			<-ctx.Done()
			return nil, ctx.Err()
		}
		return &testpb.PingResponse{Value: in.Value}, nil
	}}), faultline.WithChainUnaryInterceptor(retry.UnaryClientInterceptor()))
	_, err = slow.Ping(ctx, hello, retry.WithMax(4), retry.WithPerRetryTimeout(50*time.Millisecond), retry.WithCodes(codes.DeadlineExceeded))
	if err != nil || n.Load() != 3 {
		t.Errorf("%v after %d requests, want 3", err, n.Load())
	}
}

// TestRetriedStream: a server stream whose beginning fails is opened again.
func TestRetriedStream(t *testing.T) {
	var n atomic.Int32
	c := client(t, servePing(t, &ping{}, faultline.StreamInterceptor(func(srv any, st grpc.ServerStream, _ *grpc.StreamServerInfo, h grpc.StreamHandler) error {
		if n.Add(1) < 3 {
			return status.Error(codes.Unavailable, "not yet")
		}
		return h(srv, st)
	})), faultline.WithChainStreamInterceptor(retry.StreamClientInterceptor(retry.WithMax(5), retry.WithBackoff(retry.BackoffLinear(time.Millisecond)))))
	st, err := c.PingList(within(t, 10*time.Second), &testpb.PingListRequest{Value: "x"})
	if err != nil {
		t.Fatal(err)
	}
	messages := 0
	for err == nil {
		if _, err = st.Recv(); err == nil {
			messages++
		}
	}
	if err != io.EOF || messages != testpb.ListResponseCount || n.Load() != 3 {
		t.Errorf("%v after %d messages and %d requests, want EOF after %d and 3", err, messages, n.Load(), testpb.ListResponseCount)
	}
}

// TestTimeout: the middleware's deadline reaches the server, and ends the call.
func TestTimeout(t *testing.T) {
	var had atomic.Bool
	p := &ping{unary: func(ctx context.Context, _ *testpb.PingRequest) (*testpb.PingResponse, error) {
		_, ok := ctx.Deadline()
		had.Store(ok)
		<-ctx.Done()
		return nil, ctx.Err()
	}}
	c := client(t, servePing(t, p), faultline.WithChainUnaryInterceptor(timeout.UnaryClientInterceptor(50*time.Millisecond)))
	_, err := c.Ping(context.Background(), hello)
	wantCode(t, err, codes.DeadlineExceeded)
	if f, ok := fault.From(err); !ok || f.Entry() != fault.CallDeadline || !had.Load() {
		t.Errorf("%v, the handler had a deadline: %v", err, had.Load())
	}
}

// TestAuth: tokens by the middleware's reading of metadata, and the context
// that it makes.
func TestAuth(t *testing.T) {
	type who struct{}
	check := func(ctx context.Context) (context.Context, error) {
		token, err := auth.AuthFromMD(ctx, "bearer")
		if err != nil {
			return nil, err
		}
		if token != "sesame" {
			return nil, status.Error(codes.PermissionDenied, "wrong token")
		}
		return context.WithValue(ctx, who{}, token), nil
	}
	var seen atomic.Value
	p := &ping{unary: func(ctx context.Context, in *testpb.PingRequest) (*testpb.PingResponse, error) {
		seen.Store(ctx.Value(who{}))
		return &testpb.PingResponse{Value: in.Value}, nil
	}}
	c := client(t, servePing(t, p, faultline.ChainUnaryInterceptor(auth.UnaryServerInterceptor(check)), faultline.ChainStreamInterceptor(auth.StreamServerInterceptor(check))))
	for _, tc := range []struct {
		header string
		want   codes.Code
	}{{"", codes.Unauthenticated}, {"basic x", codes.Unauthenticated}, {"bearer guess", codes.PermissionDenied}, {"bearer sesame", codes.OK}} {
		ctx := within(t, 10*time.Second)
		if tc.header != "" {
			ctx = metadata.MD{}.Set("authorization", tc.header).ToOutgoing(ctx)
		}
		_, err := c.Ping(ctx, hello)
		wantCode(t, err, tc.want)
		wantCode(t, stream(t, ctx, c, 1), tc.want)
	}
	if seen.Load() != "sesame" {
		t.Errorf("the handler's context holds %v", seen.Load())
	}
}

// every is a ratelimit.Limiter that lets every second call pass.
type every struct{ n atomic.Int32 }

func (e *every) Limit(context.Context) error {
	if e.n.Add(1)%2 == 0 {
		return errors.New("too many")
	}
	return nil
}

// TestRateLimit: on the server and on the client.
func TestRateLimit(t *testing.T) {
	for name, c := range map[string]testpb.TestServiceClient{
		"server": client(t, servePing(t, &ping{}, faultline.ChainUnaryInterceptor(ratelimit.UnaryServerInterceptor(&every{})))),
		"client": client(t, servePing(t, &ping{}), faultline.WithChainUnaryInterceptor(ratelimit.UnaryClientInterceptor(&every{}))),
	} {
		t.Run(name, func(t *testing.T) {
			for i := range 4 {
				_, err := c.Ping(within(t, 10*time.Second), hello)
				wantCode(t, err, []codes.Code{codes.OK, codes.ResourceExhausted}[i%2])
			}
		})
	}
}

// TestValidator: a bad request is refused by the server and by the client.
func TestValidator(t *testing.T) {
	for name, c := range map[string]testpb.TestServiceClient{
		"server": client(t, servePing(t, &ping{}, faultline.ChainUnaryInterceptor(validator.UnaryServerInterceptor()), faultline.ChainStreamInterceptor(validator.StreamServerInterceptor()))),
		"client": client(t, servePing(t, &ping{}), faultline.WithChainUnaryInterceptor(validator.UnaryClientInterceptor())),
	} {
		t.Run(name, func(t *testing.T) {
			ctx := within(t, 10*time.Second)
			_, err := c.Ping(ctx, testpb.GoodPing)
			wantCode(t, err, codes.OK)
			_, err = c.Ping(ctx, testpb.BadPing)
			wantCode(t, err, codes.InvalidArgument)
		})
	}
}

// TestSelector: an interceptor for one method only.
func TestSelector(t *testing.T) {
	var n atomic.Int32
	count := func(ctx context.Context, req any, _ *grpc.UnaryServerInfo, h grpc.UnaryHandler) (any, error) {
		n.Add(1)
		return h(ctx, req)
	}
	only := selector.MatchFunc(func(_ context.Context, m interceptors.CallMeta) bool { return m.Method == "Ping" })
	c := client(t, servePing(t, &ping{}, faultline.ChainUnaryInterceptor(selector.UnaryServerInterceptor(count, only))))
	ctx := within(t, 10*time.Second)
	if _, err := c.PingEmpty(ctx, &testpb.PingEmptyRequest{}); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Ping(ctx, hello); err != nil || n.Load() != 1 {
		t.Errorf("%v, the interceptor ran %d times, want once", err, n.Load())
	}
}

// TestRealIP: the peer's address as the middleware finds it.
func TestRealIP(t *testing.T) {
	var seen atomic.Value
	p := &ping{unary: func(ctx context.Context, in *testpb.PingRequest) (*testpb.PingResponse, error) {
		a, _ := realip.FromContext(ctx)
		seen.Store(a.String())
		return &testpb.PingResponse{Value: in.Value}, nil
	}}
	trusted := []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}
	c := client(t, servePing(t, p, faultline.ChainUnaryInterceptor(realip.UnaryServerInterceptor(trusted, []string{realip.XRealIp}))))
	ctx := within(t, 10*time.Second)
	for header, want := range map[string]string{"": "127.0.0.1", "192.0.2.7": "192.0.2.7"} {
		ctx := ctx
		if header != "" {
			ctx = metadata.MD{}.Set(realip.XRealIp, header).ToOutgoing(ctx)
		}
		if _, err := c.Ping(ctx, hello); err != nil || seen.Load() != want {
			t.Errorf("%v, the address is %v, want %s", err, seen.Load(), want)
		}
	}
}
