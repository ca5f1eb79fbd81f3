// SPDX-License-Identifier: Apache-2.0

package server

import (
	"context"
	"reflect"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	testpb "google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"

	"github.com/faultline-rpc/faultline/fault"
	"github.com/faultline-rpc/faultline/status"
)

// headers exercises what a handler may do with metadata, through functions
// that unary and streaming handlers share.
func headers(c context.Context, t *testing.T, send bool) {
	check := func(err error) {
		if err != nil {
			t.Error(err)
		}
	}
	check(grpc.SetHeader(c, nil))
	check(grpc.SetHeader(c, metadata.Pairs("A", "1", "bytes-bin", "\x00\xff")))
	check(grpc.SetHeader(c, metadata.Pairs("a", "2")))
	check(grpc.SetTrailer(c, metadata.Pairs("t", "1")))
	if send {
		check(grpc.SendHeader(c, metadata.Pairs("b", "3")))
		if err := grpc.SendHeader(c, nil); !fault.CallMisuse.Is(err) {
			t.Errorf("second SendHeader = %v", err)
		}
		if err := grpc.SetHeader(c, metadata.Pairs("late", "1")); !fault.CallMisuse.Is(err) {
			t.Errorf("late SetHeader = %v", err)
		}
	} else {
		check(grpc.SetHeader(c, metadata.Pairs("b", "3")))
	}
	check(grpc.SetTrailer(c, metadata.Pairs("t", "2")))
}

func TestMetadata(t *testing.T) {
	for _, send := range []bool{false, true} {
		for _, fails := range []bool{false, true} {
			result := error(nil)
			code := codes.OK
			if fails {
				code = codes.NotFound
				result = status.Error(code, "no")
			}
			svc := &testService{
				empty: func(c context.Context, _ *testpb.Empty) (*testpb.Empty, error) {
					md, _ := metadata.FromIncomingContext(c)
					if !reflect.DeepEqual(md["k"], []string{"v"}) {
						t.Errorf("incoming %v", md)
					}
					if p, ok := peer.FromContext(c); !ok || !strings.HasPrefix(p.Addr.String(), "10.0.0.1:") {
						t.Errorf("peer %v", p)
					}
					headers(c, t, send)
					return &testpb.Empty{}, result
				},
				duplex: func(s testpb.TestService_FullDuplexCallServer) error {
					headers(s.Context(), t, send)
					return result
				},
			}
			r := newRig(t, Config{}, svc)
			c := metadata.AppendToOutgoingContext(ctx(t), "k", "v")
			var head, trail metadata.MD
			_, err := r.stub().EmptyCall(c, &testpb.Empty{}, grpc.Header(&head), grpc.Trailer(&trail))
			check := func(kind string) {
				t.Helper()
				if status.Code(err) != code {
					t.Errorf("%s: %v", kind, err)
				}
				delete(head, "content-type")
				if !reflect.DeepEqual(head, metadata.MD{"a": {"1", "2"}, "b": {"3"}, "bytes-bin": {"\x00\xff"}}) {
					t.Errorf("%s, send %v, fails %v: headers %q", kind, send, fails, head)
				}
				delete(trail, fault.TrailKey)
				if !reflect.DeepEqual(trail, metadata.MD{"t": {"1", "2"}}) {
					t.Errorf("%s: trailers %q", kind, trail)
				}
			}
			check("unary")
			s, err := r.stub().FullDuplexCall(c)
			if err != nil {
				t.Fatal(err)
			}
			head, _ = s.Header()
			if err = s.RecvMsg(&testpb.StreamingOutputCallResponse{}); code == codes.OK {
				err = nil // io.EOF
			}
			trail = s.Trailer()
			check("stream")
		}
	}
}

func TestIllegalMetadata(t *testing.T) {
	bad := metadata.Pairs("bad key", "v")
	set := make(chan error, 2)
	r := newRig(t, Config{}, &testService{
		empty: func(c context.Context, _ *testpb.Empty) (*testpb.Empty, error) {
			err := grpc.SetHeader(c, bad)
			set <- err
			return nil, err
		},
		duplex: func(s testpb.TestService_FullDuplexCallServer) error {
			s.SetTrailer(bad)
			return nil
		},
	})
	want := `wire.illegal-metadata: metadata key "bad key": the name has a character that is none of a-z 0-9 _ - .`
	_, err := r.stub().EmptyCall(ctx(t), &testpb.Empty{})
	wantStatus(t, err, codes.Internal, want)
	if f, _ := fault.From(<-set); f == nil || f.Entry() != fault.WireIllegalMetadata || f.Processed() != fault.Yes {
		t.Errorf("SetHeader = %v", f)
	}
	s, err := r.stub().FullDuplexCall(ctx(t))
	if err != nil {
		t.Fatal(err)
	}
	_, err = s.Recv()
	wantStatus(t, err, codes.Internal, want)
}

func TestInterceptors(t *testing.T) {
	var order []string
	unary := func(name string) grpc.UnaryServerInterceptor {
		return func(c context.Context, req any, info *grpc.UnaryServerInfo, h grpc.UnaryHandler) (any, error) {
			if _, ok := info.Server.(*testService); !ok || info.FullMethod != emptyCall {
				t.Errorf("info = %+v", info)
			}
			order = append(order, name)
			return h(context.WithValue(c, interceptorKey{}, name), req)
		}
	}
	stream := func(name string) grpc.StreamServerInterceptor {
		return func(srv any, s grpc.ServerStream, info *grpc.StreamServerInfo, h grpc.StreamHandler) error {
			if info.FullMethod != duplex || !info.IsClientStream || !info.IsServerStream {
				t.Errorf("info = %+v", info)
			}
			order = append(order, name)
			return h(srv, s)
		}
	}
	for n := range 4 {
		cfg := Config{}
		want := []string{}
		for i := range n {
			name := string(rune('a' + i))
			want = append(want, name)
			cfg.UnaryInts = append(cfg.UnaryInts, unary(name))
			cfg.StreamInts = append(cfg.StreamInts, stream(name))
		}
		r := newRig(t, cfg, &testService{
			empty: func(c context.Context, _ *testpb.Empty) (*testpb.Empty, error) {
				if last, _ := c.Value(interceptorKey{}).(string); n > 0 && last != want[n-1] {
					t.Errorf("context of interceptor %q", last)
				}
				return &testpb.Empty{}, nil
			},
			duplex: func(testpb.TestService_FullDuplexCallServer) error { return nil },
		})
		each(t, r, func(t *testing.T, _ error) {
			if len(order)+len(want) > 0 && !reflect.DeepEqual(order, want) {
				t.Errorf("order %v, want %v", order, want)
			}
			order = nil
		})
	}
}

type interceptorKey struct{}

func TestStreamAfterItsEnd(t *testing.T) {
	kept := make(chan testpb.TestService_FullDuplexCallServer, 1)
	r := newRig(t, Config{}, &testService{duplex: func(s testpb.TestService_FullDuplexCallServer) error {
		kept <- s
		return nil
	}})
	s, err := r.stub().FullDuplexCall(ctx(t))
	if err != nil {
		t.Fatal(err)
	}
	s.Recv()
	st := <-kept
	select {
	case <-st.Context().Done():
	case <-time.After(5 * time.Second):
		t.Fatal("the context goes on")
	}
	for name, err := range map[string]error{
		"Send": st.Send(&testpb.StreamingOutputCallResponse{}), "SetHeader": st.SetHeader(metadata.Pairs("a", "b")), "SendHeader": st.SendHeader(nil),
	} {
		if !fault.CallMisuse.Is(err) {
			t.Errorf("%s = %v", name, err)
		}
	}
	if _, err := st.Recv(); err == nil {
		t.Error("Recv = nil")
	}
	st.SetTrailer(metadata.Pairs("a", "b"))
}
