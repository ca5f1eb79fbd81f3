// SPDX-License-Identifier: Apache-2.0

package faultline_test

import (
	"bytes"
	"context"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/net/http2"
	"google.golang.org/grpc"
	"google.golang.org/grpc/encoding"
	testgrpc "google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/mem"
	"google.golang.org/grpc/tap"
	"google.golang.org/protobuf/proto"

	"github.com/faultline-rpc/faultline"
	"github.com/faultline-rpc/faultline/codes"
	"github.com/faultline-rpc/faultline/event"
	"github.com/faultline-rpc/faultline/internal/peer"
	"github.com/faultline-rpc/faultline/internal/simnet"
	"github.com/faultline-rpc/faultline/status"
)

const (
	unaryCall = testgrpc.TestService_UnaryCall_FullMethodName
	duplex    = testgrpc.TestService_FullDuplexCall_FullMethodName
)

// site is a server that a scripted client sees, in fake time.
type site struct {
	*testing.T
	server *faultline.Server
	svc    *service
	conn   net.Conn // to the server, nothing was said
	start  time.Time
}

// served makes a server with opts and plays on it.
func served(t *testing.T, play func(s *site), opts ...faultline.ServerOption) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		s := &site{T: t, svc: &service{}, start: time.Now()}
		s.server = faultline.NewServer(append([]faultline.ServerOption{faultline.Logger(quiet)}, opts...)...)
		testgrpc.RegisterTestServiceServer(s.server, s.svc)
		lis := simnet.Listen(simnet.Options{})
		done := make(chan error, 1)
		go func() { done <- s.server.Serve(lis) }()
		conn, err := lis.Dial(t.Context(), "")
		if err != nil {
			t.Fatal(err)
		}
		s.conn = conn
		defer func() {
			s.server.Stop()
			_ = conn.Close()
			if err := <-done; err != nil {
				t.Error(err)
			}
		}()
		play(s)
	})
}

// client plays the client, after the handshake.
func (s *site) client(o ...peer.Options) (p *peer.T, settings peer.Frame) {
	s.Helper()
	p = peer.Client(s, s.conn, o...)
	return p, p.Handshake()
}

// call makes a unary call and returns the answer.
func (s *site) call(p *peer.T, stream uint32, path string, payload []byte, changes ...string) *peer.Response {
	s.Helper()
	r, err := p.Call(stream, path, payload, changes...)
	if err != nil {
		s.Fatal(err)
	}
	return r
}

// says expects a call to end with this code and text.
func says(code codes.Code, text string) func(*site) {
	return func(s *site) {
		s.Helper()
		p, _ := s.client()
		want(s, s.call(p, 1, unaryCall, request(s, 500)), code, text)
	}
}

func want(s *site, r *peer.Response, code codes.Code, text string) {
	s.Helper()
	if r.Get("grpc-status") != strconv.Itoa(int(code)) || !strings.Contains(r.Get("grpc-message"), text) {
		s.Errorf("the call ended with %s %q, want %d %q", r.Get("grpc-status"), r.Get("grpc-message"), code, text)
	}
}

// request is a request for an answer of n bytes.
func request(s *site, n int32) []byte {
	b, err := proto.Marshal(&testgrpc.SimpleRequest{ResponseSize: n})
	if err != nil {
		s.Fatal(err)
	}
	return b
}

// announces expects a value of the server's SETTINGS, conn its connection
// window if it is not 0.
func announces(id http2.SettingID, value, conn uint32) func(*site) {
	return func(s *site) {
		s.Helper()
		p, settings := s.client()
		if got, ok := settings.Setting(id); !ok || got != value {
			s.Errorf("%v %d, want %d", id, got, value)
		}
		if conn > 0 {
			if got := p.Want(http2.FrameWindowUpdate); got.Increment != conn-65535 {
				s.Errorf("a connection window of %d, want %d", got.Increment+65535, conn)
			}
		}
	}
}

// dotted is a codec of a name of its own: each message begins with a dot.
type dotted struct{}

func (dotted) Name() string { return "dotted" }

func (dotted) Marshal(v any) ([]byte, error) {
	return proto.MarshalOptions{}.MarshalAppend([]byte("."), v.(proto.Message))
}

func (dotted) Unmarshal(p []byte, v any) error {
	return proto.Unmarshal(bytes.TrimPrefix(p, []byte(".")), v.(proto.Message))
}

// counted counts what a codec parses.
type counted struct {
	encoding.CodecV2
	n *atomic.Int32
}

func (c counted) Unmarshal(data mem.BufferSlice, v any) error {
	c.n.Add(1)
	return c.CodecV2.Unmarshal(data, v)
}

// speaksDotted expects the server to use it for requests of any subtype.
func speaksDotted(s *site) {
	s.Helper()
	p, _ := s.client()
	r := s.call(p, 1, unaryCall, append([]byte("."), request(s, 3)...), "content-type", "application/grpc+unheard-of")
	want(s, r, codes.OK, "")
	if m, err := r.Messages(); err != nil || len(m) != 1 || m[0][0] != '.' {
		s.Errorf("messages %q, %v", m, err)
	}
}

// pings sends three, a second apart.
func pings(p *peer.T) {
	for i := range 3 {
		p.SendPing(false, [8]byte{byte(i)})
		p.WantPing(true)
		<-time.After(time.Second)
	}
}

// TestServerOptions has each option show its effect.
func TestServerOptions(t *testing.T) {
	events := new(event.Buffer)
	refuse := func(ctx context.Context, info *tap.Info) (context.Context, error) {
		if info.FullMethodName == unaryCall {
			return nil, status.Error(codes.ResourceExhausted, "tapped")
		}
		return ctx, nil
	}
	var opened []string
	mark := func(name string) grpc.StreamServerInterceptor {
		return func(srv any, ss grpc.ServerStream, info *grpc.StreamServerInfo, next grpc.StreamHandler) error {
			opened = append(opened, name)
			return next(srv, ss)
		}
	}
	var called []string
	unary := func(name string) grpc.UnaryServerInterceptor {
		return func(ctx context.Context, req any, info *grpc.UnaryServerInfo, next grpc.UnaryHandler) (any, error) {
			called = append(called, name)
			return next(ctx, req)
		}
	}
	order := []string{"outermost", "first", "second"}
	for _, tc := range []struct {
		name string
		opts []faultline.ServerOption
		play func(*site)
	}{
		{"none", nil, announces(http2.SettingInitialWindowSize, 4<<20, 8<<20)},
		{"EmptyServerOption", []faultline.ServerOption{faultline.EmptyServerOption{}, nil}, says(codes.OK, "")},
		{"nil", []faultline.ServerOption{faultline.ChainUnaryInterceptor(nil), faultline.ChainStreamInterceptor(nil), faultline.ForceServerCodec(nil), faultline.ForceServerCodecV2(nil),
			faultline.StatsHandler(nil), faultline.UnknownServiceHandler(nil), faultline.InTapHandle(nil)}, says(codes.OK, "")},
		{"InitialWindowSize", []faultline.ServerOption{faultline.InitialWindowSize(100_000)}, announces(http2.SettingInitialWindowSize, 100_000, 0)},
		{"InitialWindowSize too small", []faultline.ServerOption{faultline.InitialWindowSize(1)}, announces(http2.SettingInitialWindowSize, 4<<20, 0)},
		{"StaticStreamWindowSize", []faultline.ServerOption{faultline.StaticStreamWindowSize(200_000)}, announces(http2.SettingInitialWindowSize, 200_000, 0)},
		{"InitialConnWindowSize", []faultline.ServerOption{faultline.InitialConnWindowSize(5 << 20)}, announces(http2.SettingInitialWindowSize, 4<<20, 5<<20)},
		{"StaticConnWindowSize", []faultline.ServerOption{faultline.StaticConnWindowSize(6 << 20)}, announces(http2.SettingInitialWindowSize, 4<<20, 6<<20)},
		{"MaxHeaderListSize", []faultline.ServerOption{faultline.MaxHeaderListSize(12345)}, announces(http2.SettingMaxHeaderListSize, 12345, 0)},
		{"HeaderTableSize", []faultline.ServerOption{faultline.HeaderTableSize(2048)}, announces(http2.SettingHeaderTableSize, 2048, 0)},
		{"MaxConcurrentStreams", []faultline.ServerOption{faultline.MaxConcurrentStreams(17)}, announces(http2.SettingMaxConcurrentStreams, 17, 0)},
		{"MaxRecvMsgSize", []faultline.ServerOption{faultline.MaxRecvMsgSize(2)}, says(codes.ResourceExhausted, "MaxRecvMsgSize")},
		{"MaxSendMsgSize", []faultline.ServerOption{faultline.MaxSendMsgSize(400)}, says(codes.ResourceExhausted, "MaxSendMsgSize")},
		{"MaxUndeliveredBytes", []faultline.ServerOption{faultline.MaxUndeliveredBytes(2)}, says(codes.ResourceExhausted, "server.overloaded")},
		{"InTapHandle", []faultline.ServerOption{faultline.InTapHandle(refuse)}, says(codes.ResourceExhausted, "tapped")},
		{"ForceServerCodec", []faultline.ServerOption{faultline.ForceServerCodec(dotted{})}, speaksDotted},
		{"ConnectionTimeout", []faultline.ServerOption{faultline.ConnectionTimeout(3 * time.Second)}, func(s *site) {
			_, _ = s.conn.Write([]byte(http2.ClientPreface[:5]))
			b := make([]byte, 1024)
			for err := error(nil); err == nil; {
				_, err = s.conn.Read(b)
			}
			if at := time.Since(s.start); at < 3*time.Second || at > 4*time.Second {
				s.Errorf("the connection was given up after %v, want 3 s", at)
			}
		}},
		{"KeepaliveEnforcementPolicy, default", nil, func(s *site) {
			p, _ := s.client()
			pings(p)
			p.SendPing(false, [8]byte{9})
			p.WantGoAway(http2.ErrCodeEnhanceYourCalm)
		}},
		{"KeepaliveEnforcementPolicy", []faultline.ServerOption{faultline.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: time.Second, PermitWithoutStream: true})},
			func(s *site) {
				p, _ := s.client()
				pings(p)
				pings(p)
				want(s, s.call(p, 1, unaryCall, nil), codes.OK, "")
			}},
		{"KeepaliveParams", []faultline.ServerOption{faultline.KeepaliveParams(keepalive.ServerParameters{MaxConnectionIdle: time.Minute})}, func(s *site) {
			p, _ := s.client()
			want(s, s.call(p, 1, unaryCall, nil), codes.OK, "")
			<-time.After(50 * time.Second)
			p.WantQuiet(9 * time.Second)
			if g := p.WantGoAway(http2.ErrCodeNo); g.Last != 1<<31-1 || g.Debug != "max_idle" {
				s.Errorf("GOAWAY %+v", g)
			}
			if g := p.WantGoAway(http2.ErrCodeNo); g.Last != 1 || time.Since(s.start) > 70*time.Second {
				s.Errorf("GOAWAY %+v after %v", g, time.Since(s.start))
			}
			p.WantClosed()
		}},
		{"UnaryInterceptor", []faultline.ServerOption{faultline.ChainUnaryInterceptor(unary("first"), unary("second")), faultline.UnaryInterceptor(unary("outermost"))}, func(s *site) {
			says(codes.OK, "")(s)
			if !slices.Equal(called, order) {
				s.Errorf("called in the order %v", called)
			}
		}},
		{"StreamInterceptor", []faultline.ServerOption{faultline.ChainStreamInterceptor(mark("first"), mark("second")), faultline.StreamInterceptor(mark("outermost"))}, func(s *site) {
			p, _ := s.client()
			want(s, s.call(p, 1, duplex, nil), codes.OK, "")
			if !slices.Equal(opened, order) {
				s.Errorf("called in the order %v", opened)
			}
		}},
		{"UnknownServiceHandler", []faultline.ServerOption{faultline.UnknownServiceHandler(func(_ any, ss grpc.ServerStream) error {
			m, _ := grpc.MethodFromServerStream(ss)
			return status.Error(codes.DataLoss, m)
		})}, func(s *site) {
			p, _ := s.client()
			want(s, s.call(p, 1, "/no.Such/Method", nil), codes.DataLoss, "/no.Such/Method")
		}},
		{"MaxHandlers", []faultline.ServerOption{faultline.MaxHandlers(1)}, func(s *site) {
			p, _ := s.client(peer.Options{Interleave: true})
			release := make(chan struct{})
			s.svc.unary = func(context.Context, *testgrpc.SimpleRequest) (*testgrpc.SimpleResponse, error) {
				<-release
				return &testgrpc.SimpleResponse{}, nil
			}
			p.SendRequest(1, false, unaryCall)
			p.SendBody(1, peer.Message(nil), true)
			want(s, s.call(p, 3, unaryCall, nil), codes.ResourceExhausted, "MaxHandlers")
			close(release)
			want(s, p.WantResponse(1), codes.OK, "")
			want(s, s.call(p, 5, unaryCall, nil), codes.OK, "")
		}},
		{"WaitForHandlers", []faultline.ServerOption{faultline.WaitForHandlers(true)}, func(s *site) {
			p, _ := s.client()
			var returned atomic.Bool
			s.svc.unary = func(context.Context, *testgrpc.SimpleRequest) (*testgrpc.SimpleResponse, error) {
				<-time.After(time.Hour) // it does not look at its context
				returned.Store(true)
				return &testgrpc.SimpleResponse{}, nil
			}
			p.SendRequest(1, false, unaryCall)
			p.SendBody(1, peer.Message(nil), true)
			synctest.Wait()
			if s.server.Stop(); !returned.Load() || time.Since(s.start) < time.Hour {
				s.Errorf("Stop returned after %v", time.Since(s.start))
			}
		}},
		{"EventSink", []faultline.ServerOption{faultline.EventSink(events)}, func(s *site) {
			says(codes.OK, "")(s)
			if len(event.All[event.ConnOpened](events)) != 1 || len(event.All[event.StreamOpened](events)) != 1 {
				s.Errorf("events %v", events.Events())
			}
		}},
		{"SetSendCompressor", nil, func(s *site) {
			s.svc.unary = func(ctx context.Context, in *testgrpc.SimpleRequest) (*testgrpc.SimpleResponse, error) {
				names, err := faultline.ClientSupportedCompressors(ctx)
				if err != nil || !slices.Equal(names, []string{"gzip", "snail"}) {
					return nil, status.Errorf(codes.DataLoss, "%v, %v", names, err)
				}
				if err := faultline.SetSendCompressor(ctx, "snail"); err == nil {
					return nil, status.Error(codes.DataLoss, "a compressor that nobody registered")
				}
				return &testgrpc.SimpleResponse{Username: "compressed"}, faultline.SetSendCompressor(ctx, "gzip")
			}
			p, _ := s.client()
			r := s.call(p, 1, unaryCall, nil, "grpc-accept-encoding", "identity,gzip,snail")
			want(s, r, codes.OK, "")
			if r.Get("grpc-encoding") != "gzip" || len(r.Body) < 5 || r.Body[0] != 1 {
				s.Errorf("grpc-encoding %q, body % x", r.Get("grpc-encoding"), r.Body)
			}
		}},
	} {
		t.Run(tc.name, func(t *testing.T) { served(t, tc.play, tc.opts...) })
	}
}

// TestForceServerCodecV2 is apart: the codec's interface is another.
func TestForceServerCodecV2(t *testing.T) {
	var unmarshaled atomic.Int32
	served(t, func(s *site) {
		says(codes.OK, "")(s)
		if unmarshaled.Load() != 1 {
			s.Errorf("the codec was used %d times", unmarshaled.Load())
		}
	}, faultline.ForceServerCodecV2(counted{encoding.GetCodecV2("proto"), &unmarshaled}))
}

// TestOptionsSetTwice: what would silently lose an interceptor is a panic.
func TestOptionsSetTwice(t *testing.T) {
	for name, o := range map[string]faultline.ServerOption{
		"UnaryInterceptor":  faultline.UnaryInterceptor(func(context.Context, any, *grpc.UnaryServerInfo, grpc.UnaryHandler) (any, error) { return nil, nil }),
		"StreamInterceptor": faultline.StreamInterceptor(func(any, grpc.ServerStream, *grpc.StreamServerInfo, grpc.StreamHandler) error { return nil }),
		"InTapHandle":       faultline.InTapHandle(func(ctx context.Context, _ *tap.Info) (context.Context, error) { return ctx, nil }),
	} {
		func() {
			defer func() {
				if text, ok := recover().(string); !ok || !strings.Contains(text, name+" was set twice") {
					t.Errorf("%s: %q", name, text)
				}
			}()
			faultline.NewServer(o, o)
		}()
	}
}
