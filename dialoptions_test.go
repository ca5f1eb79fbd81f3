// SPDX-License-Identifier: Apache-2.0

package faultline_test

import (
	"context"
	"net"
	"slices"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/net/http2"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/resolver"
	"google.golang.org/grpc/resolver/manual"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/emptypb"

	"github.com/faultline-rpc/faultline"
	"github.com/faultline-rpc/faultline/codes"
	"github.com/faultline-rpc/faultline/event"
	"github.com/faultline-rpc/faultline/fault"
	"github.com/faultline-rpc/faultline/internal/peer"
	"github.com/faultline-rpc/faultline/internal/simnet"
	"github.com/faultline-rpc/faultline/status"
)

// stage is a client that a scripted server sees, in fake time.
type stage struct {
	*testing.T
	cc    *faultline.ClientConn
	conns chan net.Conn
	dials []time.Duration // since the beginning
	start time.Time
	err   error // what the dialer answers
}

// played makes a client with opts and plays on it.
func played(t *testing.T, play func(s *stage), opts ...faultline.DialOption) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		s := &stage{T: t, conns: make(chan net.Conn, 10), start: time.Now()}
		cc, err := faultline.NewClient("passthrough:///users.test:50051", slices.Concat([]faultline.DialOption{
			faultline.WithTransportCredentials(insecure.NewCredentials()), faultline.WithContextDialer(s.dial)}, opts)...)
		if err != nil {
			t.Fatal(err)
		}
		s.cc = cc
		defer func() {
			_ = cc.Close()
			synctest.Wait()
		}()
		play(s)
	})
}

func (s *stage) dial(context.Context, string) (net.Conn, error) {
	s.dials = append(s.dials, time.Since(s.start))
	if s.err != nil {
		return nil, s.err
	}
	cn, sn := simnet.Pipe(simnet.Options{})
	s.conns <- sn
	return cn, nil
}

// pass lets fake time pass.
func (s *stage) pass(d time.Duration) {
	<-time.After(d)
	synctest.Wait()
}

// server takes the next connection and shakes hands.
func (s *stage) server() (p *peer.T, settings peer.Frame) {
	s.Helper()
	s.cc.Connect()
	p = peer.Server(s, <-s.conns)
	return p, p.Handshake()
}

// request makes a call in the background, and returns its request and what
// waits for its end.
func (s *stage) request(p *peer.T, opts ...grpc.CallOption) (head peer.Frame, end func() error) {
	s.Helper()
	done := make(chan error, 1)
	go func() {
		done <- s.cc.Invoke(context.Background(), "/users.Users/Get", &emptypb.Empty{}, &emptypb.Empty{}, opts...)
	}()
	head = p.Want(http2.FrameHeaders)
	p.WantBody(head.Stream)
	return head, func() error { return <-done }
}

// setting expects a value of the client's SETTINGS, conn its connection window
// if it is not 0.
func setting(id http2.SettingID, want, conn uint32) func(*stage) {
	return func(s *stage) {
		s.Helper()
		p, settings := s.server()
		if got, ok := settings.Setting(id); !ok || got != want {
			s.Errorf("%v %d, want %d", id, got, want)
		}
		if conn > 0 {
			if got := p.Want(http2.FrameWindowUpdate); got.Increment != conn-65535 {
				s.Errorf("a connection window of %d, want %d", got.Increment+65535, conn)
			}
		}
	}
}

// header expects a field in a call's request.
func header(name, want string) func(*stage) {
	return func(s *stage) {
		s.Helper()
		p, _ := s.server()
		head, end := s.request(p)
		if got := head.Get(name); got != want {
			s.Errorf("%s: %q, want %q", name, got, want)
		}
		p.Answer(head.Stream, peer.OK(nil))
		if err := end(); err != nil {
			s.Error(err)
		}
	}
}

// bearer is per-call credentials, and a bundle of them.
type bearer string

func (t bearer) GetRequestMetadata(context.Context, ...string) (map[string]string, error) {
	return map[string]string{"authorization": string(t)}, nil
}
func (bearer) RequireTransportSecurity() bool { return false }
func (bearer) TransportCredentials() credentials.TransportCredentials {
	return insecure.NewCredentials()
}
func (t bearer) PerRPCCredentials() credentials.PerRPCCredentials { return t }
func (t bearer) NewWithMode(string) (credentials.Bundle, error)   { return t, nil }

// TestDialOptions has each option show its effect.
func TestDialOptions(t *testing.T) {
	const agent = "faultline-go/" + faultline.Version
	events := new(event.Buffer)
	for _, tc := range []struct {
		name string
		opts []faultline.DialOption
		play func(*stage)
	}{
		{"none", nil, setting(http2.SettingInitialWindowSize, 4<<20, 8<<20)},
		{"EmptyDialOption", []faultline.DialOption{faultline.EmptyDialOption{}, nil}, header("user-agent", agent)},
		{"nil", []faultline.DialOption{faultline.WithChainUnaryInterceptor(nil), faultline.WithChainStreamInterceptor(nil), faultline.WithPerRPCCredentials(nil),
			faultline.WithResolvers(nil), faultline.WithStatsHandler(nil)}, header("user-agent", agent)},
		{"WithInitialWindowSize", []faultline.DialOption{faultline.WithInitialWindowSize(100_000)}, setting(http2.SettingInitialWindowSize, 100_000, 0)},
		{"WithInitialWindowSize too small", []faultline.DialOption{faultline.WithInitialWindowSize(65534)}, setting(http2.SettingInitialWindowSize, 4<<20, 0)},
		{"WithStaticStreamWindowSize", []faultline.DialOption{faultline.WithStaticStreamWindowSize(200_000)}, setting(http2.SettingInitialWindowSize, 200_000, 0)},
		{"WithInitialConnWindowSize", []faultline.DialOption{faultline.WithInitialConnWindowSize(5 << 20)}, setting(http2.SettingInitialWindowSize, 4<<20, 5<<20)},
		{"WithStaticConnWindowSize", []faultline.DialOption{faultline.WithStaticConnWindowSize(6 << 20)}, setting(http2.SettingInitialWindowSize, 4<<20, 6<<20)},
		{"WithMaxHeaderListSize", []faultline.DialOption{faultline.WithMaxHeaderListSize(12345)}, setting(http2.SettingMaxHeaderListSize, 12345, 0)},
		{"WithAuthority", []faultline.DialOption{faultline.WithAuthority("other.test")}, header(":authority", "other.test")},
		{"WithUserAgent", []faultline.DialOption{faultline.WithUserAgent("shop/2")}, header("user-agent", "shop/2 "+agent)},
		{"WithPerRPCCredentials", []faultline.DialOption{faultline.WithPerRPCCredentials(bearer("a"))}, header("authorization", "a")},
		{"WithDefaultCallOptions", []faultline.DialOption{faultline.WithDefaultCallOptions(grpc.CallContentSubtype("proto"))}, header("content-type", "application/grpc+proto")},
		{"WithUnaryInterceptor", unaries(), header("trace", "outermost first second")},
		{"WithStreamInterceptor", streams(), func(s *stage) {
			p, _ := s.server()
			if _, err := s.cc.NewStream(s.Context(), &grpc.StreamDesc{ClientStreams: true}, "/users.Users/Put"); err != nil {
				s.Fatal(err)
			}
			if got := p.Want(http2.FrameHeaders).Get("trace"); got != "outermost first second" {
				s.Errorf("trace %q", got)
			}
		}},
		{"WithKeepaliveParams", []faultline.DialOption{faultline.WithKeepaliveParams(keepalive.ClientParameters{Time: 30 * time.Second, PermitWithoutStream: true})}, func(s *stage) {
			p, _ := s.server()
			p.WantQuiet(9 * time.Second)
			p.WantQuiet(9 * time.Second)
			p.WantQuiet(9 * time.Second)
			p.WantPing(false)
			if at := time.Since(s.start); at < 30*time.Second || at > 35*time.Second {
				s.Errorf("the PING came after %v", at)
			}
		}},
		{"WithIdleTimeout", []faultline.DialOption{faultline.WithIdleTimeout(time.Minute)}, func(s *stage) {
			s.server()
			if s.pass(2*time.Minute + time.Second); s.cc.GetState() != connectivity.Idle {
				s.Errorf("%v after two minutes without a call", s.cc.GetState())
			}
		}},
		{"WithIdleTimeout for ever", []faultline.DialOption{faultline.WithIdleTimeout(0)}, func(s *stage) {
			s.server()
			if s.pass(100 * time.Hour); s.cc.GetState() != connectivity.Ready {
				s.Errorf("%v", s.cc.GetState())
			}
		}},
		{"WithConnectParams", []faultline.DialOption{faultline.WithConnectParams(grpc.ConnectParams{Backoff: backoff.Config{BaseDelay: 7 * time.Second, Multiplier: 1, MaxDelay: 7 * time.Second}})},
			func(s *stage) {
				s.err = syscall.ECONNREFUSED
				for range 5 { // pick_first is idle after each failure
					s.cc.Connect()
					s.pass(7 * time.Second)
				}
				for i, d := range s.dials {
					if want := time.Duration(i) * 7 * time.Second; d != want {
						s.Errorf("dial %d after %v, want %v", i, d, want)
					}
				}
				if len(s.dials) < 4 {
					s.Errorf("dials %v", s.dials)
				}
			}},
		{"ResetConnectBackoff", []faultline.DialOption{faultline.WithConnectParams(grpc.ConnectParams{Backoff: backoff.Config{BaseDelay: time.Hour, Multiplier: 1, MaxDelay: time.Hour}})},
			func(s *stage) {
				s.err = syscall.ECONNREFUSED
				s.cc.Connect()
				s.pass(time.Minute)
				s.cc.ResetConnectBackoff()
				if synctest.Wait(); !slices.Equal(s.dials, []time.Duration{0, time.Minute}) {
					s.Errorf("dials %v, want one at once and one after a minute", s.dials)
				}
			}},
		{"WithReconnectSpread", []faultline.DialOption{faultline.WithReconnectSpread(10 * time.Minute)}, func(s *stage) {
			p, _ := s.server()
			s.pass(time.Millisecond) // the client is ready
			p.Cut()
			s.pass(time.Millisecond)
			s.server()
			if len(s.dials) != 2 || s.dials[1] <= 2*time.Millisecond || s.dials[1] > 11*time.Minute {
				s.Errorf("dials %v", s.dials)
			}
		}},
		{"WithMaxCallAttempts", []faultline.DialOption{faultline.WithMaxCallAttempts(7), faultline.WithDefaultServiceConfig(`{"methodConfig": [{"name": [{}], "retryPolicy":
			{"maxAttempts": 9, "initialBackoff": "1s", "maxBackoff": "1s", "backoffMultiplier": 1, "retryableStatusCodes": ["UNAVAILABLE"]}}]}`)}, func(s *stage) {
			p, _ := s.server()
			head, end := s.request(p)
			for n := 1; ; n++ {
				p.Answer(head.Stream, peer.TrailersOnly(14, "not now"))
				if n == 7 {
					break
				}
				head = p.Want(http2.FrameHeaders)
				p.WantBody(head.Stream)
			}
			err := end()
			if f, ok := fault.From(err); !ok || f.Code() != codes.Unavailable || len(f.Attempts()) != 7 {
				s.Errorf("%+v", err)
			}
		}},
		{"WithEventSink", []faultline.DialOption{faultline.WithEventSink(events)}, func(s *stage) {
			s.server()
			synctest.Wait()
			opened := event.All[event.ConnOpened](events)
			if len(opened) != 1 || opened[0].Conn != 1 || len(event.All[event.Resolved](events)) != 1 {
				s.Errorf("events %v", events.Events())
			}
		}},
	} {
		t.Run(tc.name, func(t *testing.T) { played(t, tc.play, tc.opts...) })
	}
}

// traced adds a name to a call's trace.
func traced(ctx context.Context, name string) context.Context {
	md, _ := metadata.FromOutgoingContext(ctx)
	md = md.Copy()
	if old := md.Get("trace"); len(old) > 0 {
		name = old[0] + " " + name
	}
	if md == nil {
		md = metadata.MD{}
	}
	md.Set("trace", name)
	return metadata.NewOutgoingContext(ctx, md)
}

// unaries and streams are interceptors that leave their trace in the metadata.
func unaries() []faultline.DialOption {
	mark := func(name string) grpc.UnaryClientInterceptor {
		return func(ctx context.Context, method string, req, reply any, cc *grpc.ClientConn, invoke grpc.UnaryInvoker, opts ...grpc.CallOption) error {
			return invoke(traced(ctx, name), method, req, reply, cc, opts...)
		}
	}
	return []faultline.DialOption{faultline.WithChainUnaryInterceptor(mark("first"), mark("second")), faultline.WithUnaryInterceptor(mark("outermost"))}
}

func streams() []faultline.DialOption {
	mark := func(name string) grpc.StreamClientInterceptor {
		return func(ctx context.Context, desc *grpc.StreamDesc, cc *grpc.ClientConn, method string, open grpc.Streamer, opts ...grpc.CallOption) (grpc.ClientStream, error) {
			return open(traced(ctx, name), desc, cc, method, opts...)
		}
	}
	return []faultline.DialOption{faultline.WithChainStreamInterceptor(mark("first"), mark("second")), faultline.WithStreamInterceptor(mark("outermost"))}
}

// TestWithCredentialsBundle takes both kinds of credentials from a bundle.
func TestWithCredentialsBundle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &stage{T: t, conns: make(chan net.Conn, 1)}
		cc, err := faultline.NewClient("passthrough:///users.test:1", faultline.WithCredentialsBundle(bearer("b")), faultline.WithContextDialer(s.dial))
		if err != nil {
			t.Fatal(err)
		}
		s.cc = cc
		header("authorization", "b")(s)
		_ = cc.Close()
	})
	both := []faultline.DialOption{faultline.WithCredentialsBundle(bearer("b")), faultline.WithTransportCredentials(insecure.NewCredentials())}
	if _, err := faultline.NewClient("passthrough:///users.test:1", both...); err == nil || !strings.Contains(err.Error(), "want one of them") {
		t.Errorf("%v, want a complaint about two kinds of credentials", err)
	}
}

// TestWithDisableServiceConfig ignores what the resolver delivers.
func TestWithDisableServiceConfig(t *testing.T) {
	for _, off := range []bool{false, true} {
		lis := listen(t)
		serve(t, lis, &service{})
		names := manual.NewBuilderWithScheme("configured")
		names.BuildCallback = func(_ resolver.Target, cc resolver.ClientConn, _ resolver.BuildOptions) {
			_ = cc.UpdateState(resolver.State{Addresses: []resolver.Address{{Addr: lis.Addr().String()}},
				ServiceConfig: cc.ParseServiceConfig(`{"methodConfig": [{"name": [{}], "maxRequestMessageBytes": 1}]}`)})
		}
		opts := []faultline.DialOption{faultline.WithResolvers(names)}
		if off {
			opts = append(opts, faultline.WithDisableServiceConfig())
		}
		cc := dial(t, "configured:///users", opts...)
		err := cc.Invoke(timeout(t), "/grpc.testing.TestService/EmptyCall", proto.Message(&emptypb.Empty{}), &emptypb.Empty{})
		if got := cc.GetMethodConfig("/a.B/C").MaxReqSize; (got == nil) != off || status.Code(err) != codes.OK {
			t.Errorf("disabled %v: a limit of %v, %v", off, got, err)
		}
	}
}

// TestTarget compares with grpc-go's.
func TestTarget(t *testing.T) {
	for _, target := range []string{"users.test:50051", "dns:///users.test", "passthrough:///a", "unix:/tmp/a.sock", "unix:a.sock", "unix:///tmp/a.sock", "dns://ns.test/users.test:1"} {
		ours, err := faultline.NewClient(target, faultline.WithTransportCredentials(insecure.NewCredentials()))
		if err != nil {
			t.Fatal(err)
		}
		theirs, err := grpc.NewClient(target, grpc.WithTransportCredentials(insecure.NewCredentials()))
		if err != nil {
			t.Fatal(err)
		}
		if got, want := ours.CanonicalTarget(), theirs.CanonicalTarget(); got != want || ours.Target() != target {
			t.Errorf("%q: %q and %q, want %q", target, ours.Target(), got, want)
		}
		_, _ = ours.Close(), theirs.Close()
	}
}
