// SPDX-License-Identifier: Apache-2.0

package call

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	testgrpc "google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/stats"
	"google.golang.org/grpc/status"

	"github.com/faultline-rpc/faultline/channel"
	"github.com/faultline-rpc/faultline/internal/peer"
)

// recorder is a stats.Handler that writes down what it is told.
type recorder struct {
	mu     sync.Mutex
	events []string
	errs   []error
	tails  []int // sizes of trailers
}

type tag struct{}

func (r *recorder) TagRPC(ctx context.Context, i *stats.RPCTagInfo) context.Context {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.events = append(r.events, "tag "+i.FullMethodName)
	return context.WithValue(ctx, tag{}, r)
}

func (r *recorder) HandleRPC(ctx context.Context, s stats.RPCStats) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if ctx.Value(tag{}) != r {
		r.events = append(r.events, "without its tag")
	}
	switch s := s.(type) {
	case *stats.DelayedPickComplete:
		return // comes when it comes
	case *stats.InTrailer:
		r.tails = append(r.tails, s.WireLength)
		return
	case *stats.InHeader:
		r.events = append(r.events, fmt.Sprintf("%T %v", s, s.WireLength))
		return
	case *stats.OutPayload:
		r.events = append(r.events, fmt.Sprintf("%T %d %d", s, s.Length, s.WireLength))
		return
	case *stats.InPayload:
		r.events = append(r.events, fmt.Sprintf("%T %d %d", s, s.Length, s.WireLength))
		return
	case *stats.OutHeader:
		r.events = append(r.events, fmt.Sprintf("%T %s %v %v", s, s.FullMethod, s.Authority, slices.Sorted(maps.Keys(s.Header))))
		return
	case *stats.End:
		r.errs = append(r.errs, s.Error)
	}
	r.events = append(r.events, fmt.Sprintf("%T %v", s, s.IsClient()))
}

func (r *recorder) TagConn(ctx context.Context, _ *stats.ConnTagInfo) context.Context { return ctx }
func (r *recorder) HandleConn(context.Context, stats.ConnStats)                       {}

// grpc-go's client is the measure: it tells its handler the same.
func TestStatsAsGRPCGo(t *testing.T) {
	dial := serve(t, &service{
		unary: func(_ context.Context, r *testgrpc.SimpleRequest) (*testgrpc.SimpleResponse, error) {
			if len(r.GetPayload().GetBody()) == 0 {
				return nil, status.Error(codes.NotFound, "nothing")
			}
			return &testgrpc.SimpleResponse{Payload: r.Payload}, nil
		},
		output: func(_ *testgrpc.StreamingOutputCallRequest, st testgrpc.TestService_StreamingOutputCallServer) error {
			_ = st.Send(&testgrpc.StreamingOutputCallResponse{Payload: body("1")})
			return st.Send(&testgrpc.StreamingOutputCallResponse{Payload: body("22")})
		},
	})
	play := func(stub testgrpc.TestServiceClient) {
		ctx := metadata.AppendToOutgoingContext(context.Background(), "k", "v")
		_, _ = stub.UnaryCall(ctx, &testgrpc.SimpleRequest{Payload: body("hello")})
		_, _ = stub.UnaryCall(ctx, &testgrpc.SimpleRequest{})
		st, err := stub.StreamingOutputCall(ctx, &testgrpc.StreamingOutputCallRequest{})
		for err == nil {
			_, err = st.Recv()
		}
	}
	theirs, ours := &recorder{}, &recorder{}
	cc, err := grpc.NewClient("passthrough:///server", grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(dial), grpc.WithStatsHandler(theirs))
	if err != nil {
		t.Fatal(err)
	}
	defer cc.Close()
	c, _ := client(t, dial, Config{StatsHandlers: []stats.Handler{ours}})
	play(testgrpc.NewTestServiceClient(cc))
	play(stub(c))
	// grpc-go reports headers from its reader, so its order is not fixed.
	if !slices.Equal(slices.Sorted(slices.Values(theirs.events)), slices.Sorted(slices.Values(ours.events))) {
		t.Errorf("grpc-go tells\n  %s\nwe tell\n  %s", strings.Join(theirs.events, "\n  "), strings.Join(ours.events, "\n  "))
	}
	var order []string
	for _, e := range ours.events[:7] {
		name, _, _ := strings.Cut(strings.TrimPrefix(e, "*stats."), " ")
		order = append(order, name)
	}
	if want := []string{"tag", "Begin", "OutHeader", "OutPayload", "InHeader", "InPayload", "End"}; !slices.Equal(order, want) {
		t.Errorf("our order is %v, want %v", order, want)
	}
	if len(ours.tails) != 3 || !slices.Equal(theirs.tails, ours.tails) || slices.Contains(ours.tails, 0) {
		t.Errorf("trailers of %v bytes, grpc-go %v", ours.tails, theirs.tails)
	}
	for i := range min(len(theirs.errs), len(ours.errs)) {
		if status.Code(theirs.errs[i]) != status.Code(ours.errs[i]) {
			t.Errorf("End %d: %v, grpc-go %v", i, ours.errs[i], theirs.errs[i])
		}
	}
}

// A handler sees each attempt by itself, and that a pick had to wait.
func TestStatsOfAttempts(t *testing.T) {
	for form, do := range forms {
		t.Run(form, func(t *testing.T) {
			var n atomic.Int32
			r := &plainRecorder{}
			against(t, script(&n, peer.RST(http2.ErrCodeRefusedStream), peer.OK(text("pong"))), Config{StatsHandlers: []stats.Handler{r}}, func(t *testing.T, c *Caller) {
				if _, err := do(c, context.Background()); err != nil {
					t.Fatal(err)
				}
			})
			got := strings.Join(r.events, " ")
			want := "Begin DelayedPickComplete OutHeader"
			if !strings.HasPrefix(got, want) || strings.Count(got, "Begin") != 2 || strings.Count(got, "End") != 2 ||
				strings.Count(got, "again") != 1 || strings.Count(got, "OutPayload") != 2 || strings.Count(got, "InTrailer") != 1 || !strings.HasSuffix(got, "InHeader InPayload InTrailer End") {
				t.Errorf("%s: %s", form, got)
			}
		})
	}
}

// A call whose request cannot be sent is a call that failed.
func TestStatsOfUnsendableRequest(t *testing.T) {
	for form, do := range forms {
		t.Run(form, func(t *testing.T) {
			r := &recorder{}
			against(t, peer.Each(peer.OK(text("pong"))), Config{StatsHandlers: []stats.Handler{r}}, func(t *testing.T, c *Caller) {
				_, _ = do(c, context.Background(), grpc.MaxCallSendMsgSize(1))
			})
			names := strings.Join(r.events, " ")
			if strings.Count(names, "Begin") != 1 || !strings.HasSuffix(names, "*stats.End true") || strings.Contains(names, "OutPayload") ||
				len(r.errs) != 1 || status.Code(r.errs[0]) != codes.ResourceExhausted {
				t.Errorf("%s: %v", names, r.errs)
			}
		})
	}
}

// plainRecorder writes down the names of all events.
type plainRecorder struct {
	mu     sync.Mutex
	events []string
}

func (*plainRecorder) TagRPC(ctx context.Context, _ *stats.RPCTagInfo) context.Context { return ctx }

func (r *plainRecorder) HandleRPC(_ context.Context, s stats.RPCStats) {
	r.mu.Lock()
	defer r.mu.Unlock()
	name := strings.TrimPrefix(fmt.Sprintf("%T", s), "*stats.")
	if b, ok := s.(*stats.Begin); ok && b.IsTransparentRetryAttempt {
		name += " again"
	}
	r.events = append(r.events, name)
}

func (*plainRecorder) TagConn(ctx context.Context, _ *stats.ConnTagInfo) context.Context { return ctx }
func (*plainRecorder) HandleConn(context.Context, stats.ConnStats)                       {}

// lateConfig is a service config that the first call has to wait for.
type lateConfig struct{ ready chan struct{} }

func (l *lateConfig) WaitForConfig(ctx context.Context) error {
	for {
		select {
		case <-l.ready:
			return nil
		default:
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(time.Second):
			close(l.ready)
		}
	}
}

func (*lateConfig) MethodConfig(string) *channel.MethodConfig { return nil }
func (*lateConfig) RetryThrottling() *channel.RetryThrottling { return nil }

// delays is a stats.Handler that notes which calls waited for the resolver.
type delays struct {
	plainRecorder
	waited []bool
}

func (d *delays) TagRPC(ctx context.Context, i *stats.RPCTagInfo) context.Context {
	d.waited = append(d.waited, i.NameResolutionDelay)
	return ctx
}

func TestNameResolutionDelay(t *testing.T) {
	for form, do := range forms {
		t.Run(form, func(t *testing.T) {
			d := &delays{}
			var n atomic.Int32
			against(t, script(&n, peer.RST(http2.ErrCodeRefusedStream), peer.OK(text("pong"))),
				Config{StatsHandlers: []stats.Handler{d}, Methods: &lateConfig{make(chan struct{})}}, func(t *testing.T, c *Caller) {
					_, _ = do(c, context.Background())
					_, _ = do(c, context.Background())
				})
			if want := []bool{true, true, false}; !slices.Equal(d.waited, want) { // two attempts, and one
				t.Errorf("waited %v, want %v", d.waited, want)
			}
		})
	}
}

// tracer is a stats.Handler that sends the number of the attempt along, as
// OpenTelemetry's sends a trace's context.
type tracer struct {
	recorder
	n atomic.Int32
}

func (h *tracer) TagRPC(ctx context.Context, _ *stats.RPCTagInfo) context.Context {
	md, _ := metadata.FromOutgoingContext(ctx)
	md = metadata.Join(md, metadata.Pairs("attempt", fmt.Sprint(h.n.Add(1))))
	return metadata.NewOutgoingContext(context.WithValue(ctx, tag{}, &h.recorder), md)
}

// What handlers add to an attempt's metadata is sent with that attempt.
func TestHandlersAddMetadata(t *testing.T) {
	for form, do := range forms {
		t.Run(form, func(t *testing.T) {
			var r requests
			against(t, r.noting(peer.RST(http2.ErrCodeRefusedStream), peer.OK(text("pong"))), Config{StatsHandlers: []stats.Handler{new(tracer)}}, func(t *testing.T, c *Caller) {
				if got, err := do(c, metadata.AppendToOutgoingContext(context.Background(), "k", "v")); err != nil || got != "pong" {
					t.Fatalf("%q, %+v", got, err)
				}
			})
			if a, k := r.values("attempt"), r.values("k"); !slices.Equal(a, []string{"1", "2"}) || !slices.Equal(k, []string{"v", "v"}) {
				t.Errorf("attempt %q, k %q, want 1 and 2, and twice v", a, k)
			}
		})
	}
}
