// SPDX-License-Identifier: Apache-2.0

package server

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/net/http2"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	testpb "google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"
	grpcstatus "google.golang.org/grpc/status"

	"github.com/faultline-rpc/faultline/fault"
	scripted "github.com/faultline-rpc/faultline/internal/peer"
	"github.com/faultline-rpc/faultline/status"
)

func everybody(*peer.Peer) bool { return true }

// ended is how a call ended, as grpc-go's client sees it.
type ended struct {
	status *grpcstatus.Status
	trail  []string
}

// eachEnd runs f for a unary and a streaming call of the rig's service.
func eachEnd(t *testing.T, r *rig, f func(t *testing.T, method string, e ended)) {
	t.Helper()
	c := r.stub()
	t.Run("unary", func(t *testing.T) {
		var md metadata.MD
		_, err := c.EmptyCall(ctx(t), &testpb.Empty{}, grpc.Trailer(&md))
		f(t, emptyCall, ended{grpcstatus.Convert(err), md[fault.TrailKey]})
	})
	t.Run("stream", func(t *testing.T) {
		s, err := c.FullDuplexCall(ctx(t))
		if err != nil {
			t.Fatal(err)
		}
		_, err = s.Recv()
		f(t, duplex, ended{grpcstatus.Convert(err), s.Trailer()[fault.TrailKey]})
	})
}

// inside is a failure that shows what no stranger may see: a chain of three
// services, and an address.
func inside() *fault.Fault {
	refused := fault.DialRefused.New(fault.Args{Side: fault.Remote, Processed: fault.No, Message: "nothing listens at 10.1.2.3:443",
		Evidence: &fault.Evidence{Method: "/inner.Store/Get", Address: "10.1.2.3:443"}})
	trail := fault.WriteTrail(fault.Hop{ID: "handler.upstream", Code: codes.Unavailable, Processed: fault.Yes, Text: "inner text"}.On("/inner.Books/Find"), refused.Onward(""))
	return fault.HandlerUpstream.New(fault.Args{Code: codes.Unavailable, Side: fault.Remote, Processed: fault.Yes, Verbatim: true,
		Message: "no books today", Evidence: &fault.Evidence{Method: "/inner.Books/Find", Address: "10.1.2.2:443"}}).WithTrail(fault.ReadTrail(trail, "10.1.2.2:443"))
}

var secrets = []string{"10.1.2.", "inner", "hunter2", "connection refused", "db.internal", "stack.go"}

func TestWhatCrossesTheEdge(t *testing.T) {
	op := &net.OpError{Op: "dial", Net: "tcp", Addr: &net.TCPAddr{IP: net.IPv4(10, 1, 2, 4), Port: 443}, Err: errors.New("connection refused")}
	local := fault.DialRefused.New(fault.Args{Side: fault.Remote, Processed: fault.No, Message: "dial tcp 10.1.2.3:443: connection refused", Cause: op,
		Evidence: &fault.Evidence{Method: "/inner.Books/Find", Address: "10.1.2.3:443"}})
	throughGo := fault.HandlerStatus.New(fault.Args{Code: codes.Unavailable, Side: fault.Remote, Verbatim: true,
		Message: `connection error: desc = "transport: Error while dialing: dial tcp 10.1.2.3:443: connect: connection refused"`})
	debug := status.New(codes.Internal, "broken").WithDebug([]string{"stack.go:12"}, "").WithReason("BROKEN", "example.com", nil)
	withDebug := fault.HandlerStatus.New(fault.Args{Code: codes.Internal, Side: fault.Remote, Verbatim: true, Message: "broken"}).WithDetails(debug.Proto().GetDetails())
	behind := "a service behind the handler failed, and the handler passed its error on"
	for _, tc := range []struct {
		name     string
		err      error
		code     codes.Code
		masked   string // the message, but for the reference
		message  string // or the message
		details  int
		strange  fault.ID // what strangers read of the circumstance
		trusted  []string // the trail's ids
		trustedD int      // details
	}{
		{name: "status", err: status.Error(codes.NotFound, "no user 42"), code: codes.NotFound, message: "no user 42", strange: "handler.status", trusted: []string{"handler.status"}},
		{name: "a status on purpose, with an address", err: status.Error(codes.Unavailable, "mirror 10.1.2.9:80 is down"), code: codes.Unavailable,
			message: "mirror 10.1.2.9:80 is down", strange: "handler.status", trusted: []string{"handler.status"}},
		{name: "trail", err: inside(), code: codes.Unavailable, message: "no books today", strange: "handler.status",
			trusted: []string{"handler.upstream", "handler.upstream", "dial.refused seen"}},
		{name: "trail wrapped", err: fmt.Errorf("hunter2: %w", inside()), code: codes.Unavailable, message: "no books today", strange: "handler.status",
			trusted: []string{"handler.upstream", "handler.upstream", "dial.refused seen"}},
		{name: "translated", err: status.Wrap(inside(), codes.Internal, "try later"), code: codes.Internal, message: "try later", strange: "handler.status",
			trusted: []string{"handler.status", "handler.upstream", "dial.refused seen"}},
		{name: "own client", err: local, code: codes.Unavailable, masked: "dial.refused: " + fault.DialRefused.Summary, strange: "handler.status",
			trusted: []string{"handler.upstream", "dial.refused seen"}},
		{name: "own client, repeated", err: status.Errorf(codes.Internal, "cannot find: %w", local), code: codes.Internal,
			masked: "dial.refused: " + fault.DialRefused.Summary, strange: "handler.status", trusted: []string{"handler.status", "dial.refused seen"}},
		{name: "a connection's text", err: status.Errorf(codes.Internal, "redis: %w", op), code: codes.Internal, masked: behind, strange: "handler.status",
			trusted: []string{"handler.status"}},
		{name: "own client, printed", err: status.Errorf(codes.Internal, "cannot find: %v", local), code: codes.Internal, masked: behind, strange: "handler.status",
			trusted: []string{"handler.status"}},
		{name: "no status", err: errors.New("password=hunter2"), code: codes.Unknown, masked: "handler.not-status: " + fault.HandlerNotStatus.Summary,
			strange: "handler.not-status", trusted: []string{"handler.not-status"}},
		{name: "debug info from behind", err: withDebug, code: codes.Internal, message: "broken", details: 1, trustedD: 2, strange: "handler.status",
			trusted: []string{"handler.upstream", "handler.status seen"}},
		{name: "debug info on purpose", err: debug.Err(), code: codes.Internal, message: "broken", details: 2, trustedD: 2, strange: "handler.status", trusted: []string{"handler.status"}},
		{name: "policy", err: fault.PolicyRateLimit.New(fault.Args{Side: fault.Local, Processed: fault.No, Message: "10 a minute"}), code: codes.ResourceExhausted,
			message: "policy.rate-limit: 10 a minute", strange: "policy.rate-limit", trusted: []string{"policy.rate-limit"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			check := func(e ended, details int) {
				t.Helper()
				if tc.masked != "" {
					ref := wantMasked(t, e.status.Err(), tc.code, tc.masked)
					if h := fault.ReadTrail(e.trail, "")[0]; h.Reference != ref {
						t.Errorf("the hop's reference is %q, the message's %q", h.Reference, ref)
					}
				} else {
					wantStatus(t, e.status.Err(), tc.code, tc.message)
				}
				if n := len(e.status.Details()); n != details {
					t.Errorf("%d details, want %d", n, details)
				}
			}
			strangers := newRig(t, Config{Trusted: []func(*peer.Peer) bool{nil, func(*peer.Peer) bool { return false }}}, failing(tc.err))
			eachEnd(t, strangers, func(t *testing.T, method string, e ended) {
				check(e, tc.details)
				all := fmt.Sprint(e.status.Proto(), e.trail)
				for _, s := range secrets {
					if strings.Contains(all, s) && !strings.Contains(tc.name, "on purpose") {
						t.Errorf("%q reaches a stranger: %q", s, all)
					}
				}
				trail := fault.ReadTrail(e.trail, "")
				if len(trail) != 1 {
					t.Fatalf("%d hops", len(trail))
				}
				if h := trail[0]; h.ID != tc.strange || h.Processed != fault.Yes || h.Elapsed != 0 || h.Timed || "/"+h.Service+"/"+h.Method != method {
					t.Errorf("strangers read %+v", h)
				}
				if f := fault.HandlerStatus.New(fault.Args{}).WithTrail(trail); len(f.Trail()) != 0 {
					t.Errorf("a trail is shown: %v", f.Trail())
				}
			})
			friends := newRig(t, Config{Trusted: []func(*peer.Peer) bool{everybody}}, failing(tc.err))
			eachEnd(t, friends, func(t *testing.T, method string, e ended) {
				check(e, max(tc.details, tc.trustedD))
				var ids []string
				for _, h := range fault.ReadTrail(e.trail, "") {
					ids = append(ids, strings.TrimSuffix(fmt.Sprint(h.ID, " ", map[bool]string{true: "seen"}[h.Seen]), " "))
				}
				if !slices.Equal(ids, tc.trusted) {
					t.Errorf("friends read %v, want %v", ids, tc.trusted)
				}
				if h := fault.ReadTrail(e.trail, "")[0]; h.Elapsed <= 0 || !h.Timed || h.Budget <= 0 || h.Budget > 10*time.Second || h.Code != tc.code {
					t.Errorf("own hop: %+v", h)
				}
			})
		})
	}
	t.Run("a service that is not there", func(t *testing.T) {
		text := "unknown service inner.Books"
		missing := fault.HandlerStatus.New(fault.Args{Code: codes.Unimplemented, Side: fault.Remote, Verbatim: true, Message: text, Evidence: &fault.Evidence{Method: "/inner.Books/Find"}})
		busy := fault.HandlerStatus.New(fault.Args{Code: codes.ResourceExhausted, Side: fault.Remote, Verbatim: true, Message: "/inner.Books/Find is rejected", Evidence: &fault.Evidence{Method: "/inner.Books/Find"}})
		for _, err := range []error{missing, grpcstatus.Error(codes.Unimplemented, text), fmt.Errorf("books: %w", missing), busy} {
			strangers := newRig(t, Config{}, failing(err))
			eachEnd(t, strangers, func(t *testing.T, _ string, e ended) { wantMasked(t, e.status.Err(), status.Code(err), behind) })
			friends := newRig(t, Config{Trusted: []func(*peer.Peer) bool{everybody}}, failing(err))
			eachEnd(t, friends, func(t *testing.T, _ string, e ended) {
				if strings.Contains(e.status.Message(), "reference") || !strings.Contains(e.status.Message(), "inner.Books") {
					t.Errorf("friends read %q", e.status.Message())
				}
			})
		}
		own := grpcstatus.Error(codes.Unimplemented, "unknown method Nothing for service grpc.testing.TestService")
		eachEnd(t, newRig(t, Config{}, failing(own)), func(t *testing.T, _ string, e ended) {
			wantStatus(t, e.status.Err(), codes.Unimplemented, grpcstatus.Convert(own).Message())
		})
	})
	t.Run("from a service on grpc-go", func(t *testing.T) {
		for _, err := range []error{throughGo, grpcstatus.Error(throughGo.Code(), throughGo.Message()), fmt.Errorf("books: %w", throughGo)} {
			strangers := newRig(t, Config{}, failing(err))
			eachEnd(t, strangers, func(t *testing.T, _ string, e ended) { wantMasked(t, e.status.Err(), codes.Unavailable, behind) })
			friends := newRig(t, Config{Trusted: []func(*peer.Peer) bool{everybody}}, failing(err))
			eachEnd(t, friends, func(t *testing.T, _ string, e ended) {
				wantStatus(t, e.status.Err(), codes.Unavailable, throughGo.Message())
			})
		}
	})
}

// A handler that copies the trailers of another service passes its trail on to
// friends, and nothing of it to strangers, nor with OK.
func TestTrailersThatAreATrail(t *testing.T) {
	copied := metadata.MD{fault.TrailKey: fault.WriteTrail(fault.Hop{ID: "handler.status", Code: codes.Aborted}.On("/inner.Books/Find"), nil)}
	for _, tc := range []struct {
		name    string
		trusted []func(*peer.Peer) bool
		err     error
		want    int
	}{
		{"friend", []func(*peer.Peer) bool{everybody}, status.Error(codes.Aborted, "again"), 2},
		{"stranger", nil, status.Error(codes.Aborted, "again"), 1},
		{"OK", []func(*peer.Peer) bool{everybody}, nil, 0},
	} {
		r := newRig(t, Config{Trusted: tc.trusted}, &testService{
			empty: func(c context.Context, _ *testpb.Empty) (*testpb.Empty, error) {
				if err := errors.Join(grpc.SetTrailer(c, copied), grpc.SetHeader(c, copied), grpc.SetTrailer(c, metadata.Pairs("k", "v"))); err != nil {
					t.Error(err)
				}
				return &testpb.Empty{}, tc.err
			},
		})
		var head, md metadata.MD
		_, err := r.stub().EmptyCall(ctx(t), &testpb.Empty{}, grpc.Trailer(&md), grpc.Header(&head))
		if status.Code(err) != status.Code(tc.err) || len(md[fault.TrailKey]) != tc.want || len(head[fault.TrailKey]) != 0 || md.Get("k")[0] != "v" {
			t.Errorf("%s: %v, trailers %v, headers %v", tc.name, err, md, head)
		}
	}
}

// An interceptor that refuses a call leaves proof that no handler ran.
func TestInterceptorsThatRefuse(t *testing.T) {
	no := errors.New("late")
	for _, tc := range []struct {
		name      string
		unary     grpc.UnaryServerInterceptor
		processed fault.Processed
		ran       bool
	}{
		{"passes", func(c context.Context, req any, _ *grpc.UnaryServerInfo, h grpc.UnaryHandler) (any, error) {
			return h(c, req)
		}, fault.Yes, true},
		{"another context", func(_ context.Context, req any, _ *grpc.UnaryServerInfo, h grpc.UnaryHandler) (any, error) {
			return h(context.Background(), req)
		}, fault.Yes, true},
		{"twice", func(c context.Context, req any, _ *grpc.UnaryServerInfo, h grpc.UnaryHandler) (any, error) {
			_, _ = h(c, req)
			return h(c, req)
		}, fault.Yes, true},
		{"refuses", func(context.Context, any, *grpc.UnaryServerInfo, grpc.UnaryHandler) (any, error) {
			return nil, status.Error(codes.Unavailable, "not today")
		}, fault.No, false},
		{"refuses by policy", func(context.Context, any, *grpc.UnaryServerInfo, grpc.UnaryHandler) (any, error) {
			return nil, fault.PolicyPermission.New(fault.Args{Processed: fault.No})
		}, fault.No, false},
		// It may have had the call handled elsewhere.
		{"forwards", func(context.Context, any, *grpc.UnaryServerInfo, grpc.UnaryHandler) (any, error) {
			return nil, inside()
		}, fault.Maybe, false},
		{"forwards with grpc-go", func(context.Context, any, *grpc.UnaryServerInfo, grpc.UnaryHandler) (any, error) {
			return nil, grpcstatus.Error(codes.Unavailable, "theirs")
		}, fault.Maybe, false},
		{"has a cause", func(context.Context, any, *grpc.UnaryServerInfo, grpc.UnaryHandler) (any, error) {
			return nil, status.Wrap(no, codes.Unavailable, "not today")
		}, fault.Maybe, false},
		{"returns no status", func(context.Context, any, *grpc.UnaryServerInfo, grpc.UnaryHandler) (any, error) { return nil, no }, fault.Maybe, false},
		{"panics", func(context.Context, any, *grpc.UnaryServerInfo, grpc.UnaryHandler) (any, error) { panic("boom") }, fault.Maybe, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			ran := false
			svc := failing(nil)
			svc.empty = func(context.Context, *testpb.Empty) (*testpb.Empty, error) {
				ran = true
				return nil, status.Error(codes.Unavailable, "handler")
			}
			svc.duplex = func(testpb.TestService_FullDuplexCallServer) error {
				ran = true
				return status.Error(codes.Unavailable, "handler")
			}
			stream := func(srv any, ss grpc.ServerStream, _ *grpc.StreamServerInfo, h grpc.StreamHandler) error {
				_, err := tc.unary(ss.Context(), nil, nil, func(context.Context, any) (any, error) { return nil, h(srv, ss) })
				return err
			}
			r := newRig(t, Config{UnaryInts: []grpc.UnaryServerInterceptor{tc.unary}, StreamInts: []grpc.StreamServerInterceptor{stream}}, svc)
			eachEnd(t, r, func(t *testing.T, _ string, e ended) {
				h := fault.ReadTrail(e.trail, "")
				if len(h) != 1 || h[0].Processed != tc.processed || ran != tc.ran {
					t.Errorf("processed %+v, want %v; the handler ran: %v", h, tc.processed, ran)
				}
				ran = false
			})
		})
	}
}

// An interceptor that gave up waiting said that no handler ran: then none runs.
func TestNoHandlerAfterTheVerdict(t *testing.T) {
	later := make(chan error, 1)
	r := newRig(t, Config{UnaryInts: []grpc.UnaryServerInterceptor{func(c context.Context, req any, _ *grpc.UnaryServerInfo, h grpc.UnaryHandler) (any, error) {
		go func() {
			<-c.Done() // the call is over
			_, err := h(c, req)
			later <- err
		}()
		return nil, status.Error(codes.Unavailable, "too slow")
	}}}, &testService{empty: func(context.Context, *testpb.Empty) (*testpb.Empty, error) {
		t.Error("the handler ran")
		return nil, nil
	}})
	var md metadata.MD
	_, err := r.stub().EmptyCall(ctx(t), &testpb.Empty{}, grpc.Trailer(&md))
	wantStatus(t, err, codes.Unavailable, "too slow")
	if h := fault.ReadTrail(md[fault.TrailKey], ""); len(h) != 1 || h[0].Processed != fault.No {
		t.Errorf("verdict: %+v", h)
	}
	if err := <-later; !fault.CallMisuse.Is(err) {
		t.Errorf("the late handler: %v", err)
	}
}

// Elapsed and what is left of the budget are those of the server's clock.
func TestHopTimes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, Config{Trusted: []func(*peer.Peer) bool{everybody}}, &testService{empty: func(context.Context, *testpb.Empty) (*testpb.Empty, error) {
			time.Sleep(30 * time.Millisecond)
			return nil, status.Error(codes.Aborted, "")
		}})
		for _, tc := range []struct {
			timeout string
			left    time.Duration
		}{{"", 0}, {"1S", 970 * time.Millisecond}, {"30000001n", 1}} {
			var changes []string
			if tc.timeout != "" {
				changes = []string{"grpc-timeout", tc.timeout}
			}
			p := r.peer()
			res, err := p.Call(1, emptyCall, nil, changes...)
			p.OK(err)
			raw, err := base64.RawStdEncoding.DecodeString(res.Get(fault.TrailKey))
			p.OK(err)
			h := fault.ReadTrail([]string{string(raw)}, "")
			if len(h) != 1 || h[0].Elapsed != 30*time.Millisecond || h[0].Timed != (tc.timeout != "") || h[0].Budget != tc.left {
				t.Errorf("timeout %q: %+v", tc.timeout, h)
			}
			p.Close()
		}
	})
}

// A client that takes few header fields gets message and trailers rather than
// the trail.
func TestTrailYieldsToTheMessage(t *testing.T) {
	r := newRig(t, Config{Trusted: []func(*peer.Peer) bool{everybody}}, &testService{empty: func(c context.Context, _ *testpb.Empty) (*testpb.Empty, error) {
		_ = grpc.SetTrailer(c, metadata.Pairs("k", "v"))
		return nil, inside()
	}})
	for size, hops := range map[uint32]int{1000: 3, 400: 0} {
		p := r.peer(scripted.Options{Settings: []http2.Setting{{ID: http2.SettingMaxHeaderListSize, Val: size}}})
		res, err := p.Call(1, emptyCall, nil)
		p.OK(err)
		n := 0
		for _, f := range res.Header {
			if f.Name == fault.TrailKey {
				n++
			}
		}
		if n != hops || res.Get("grpc-message") != "no books today" || res.Get("k") != "v" {
			t.Errorf("limit %d: %d hops, %v", size, n, res)
		}
	}
}

func TestPredicates(t *testing.T) {
	in := PeersIn(netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("fd00::/8"))
	tcp := func(ip string) *peer.Peer { return &peer.Peer{Addr: &net.TCPAddr{IP: net.ParseIP(ip), Port: 9}} }
	verified := credentials.TLSInfo{}
	verified.State.VerifiedChains = append(verified.State.VerifiedChains, nil)
	for _, tc := range []struct {
		p    *peer.Peer
		want []bool // verified, local, in
	}{
		{tcp("10.1.2.3"), []bool{false, false, true}},
		{tcp("::ffff:10.1.2.3"), []bool{false, false, true}},
		{tcp("fd00::1"), []bool{false, false, true}},
		{tcp("127.0.0.1"), []bool{false, true, false}},
		{tcp("::1"), []bool{false, true, false}},
		{tcp("192.0.2.1"), []bool{false, false, false}},
		{&peer.Peer{Addr: &net.UnixAddr{Name: "@", Net: "unix"}}, []bool{false, true, false}},
		{&peer.Peer{Addr: address("10.0.0.9:1")}, []bool{false, false, true}},
		{&peer.Peer{Addr: address("")}, []bool{false, false, false}},
		{&peer.Peer{}, []bool{false, false, false}},
		{&peer.Peer{AuthInfo: credentials.TLSInfo{}}, []bool{false, false, false}},
		{&peer.Peer{AuthInfo: verified}, []bool{true, false, false}},
		{&peer.Peer{AuthInfo: &verified}, []bool{true, false, false}},
	} {
		if got := []bool{VerifiedPeer(tc.p), LocalPeer(tc.p), in(tc.p)}; !reflect.DeepEqual(got, tc.want) {
			t.Errorf("%v %T: %v, want %v", tc.p.Addr, tc.p.AuthInfo, got, tc.want)
		}
	}
	if trusts([]func(*peer.Peer) bool{nil}, tcp("::1")) || !trusts([]func(*peer.Peer) bool{VerifiedPeer, LocalPeer}, tcp("::1")) {
		t.Error("any predicate is enough, and none is not")
	}
}
