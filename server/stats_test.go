// SPDX-License-Identifier: Apache-2.0

package server

import (
	"context"
	"fmt"
	"reflect"
	"sync"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	testpb "google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/stats"

	"github.com/faultline-rpc/faultline/status"
)

type statsKey string

// observer writes down what it is told.
type observer struct {
	t    *testing.T
	name statsKey
	mu   sync.Mutex
	said []string
}

func (o *observer) say(format string, args ...any) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.said = append(o.said, fmt.Sprintf(format, args...))
}

func (o *observer) take() []string {
	o.mu.Lock()
	defer o.mu.Unlock()
	said := o.said
	o.said = nil
	return said
}

func (o *observer) TagConn(c context.Context, info *stats.ConnTagInfo) context.Context {
	o.say("tag conn %v", info.LocalAddr)
	return context.WithValue(c, o.name+"conn", "conn")
}

func (o *observer) HandleConn(c context.Context, s stats.ConnStats) {
	if c.Value(o.name+"conn") != "conn" {
		o.t.Error("HandleConn has another context")
	}
	o.say("%T", s)
}

func (o *observer) TagRPC(c context.Context, info *stats.RPCTagInfo) context.Context {
	if c.Value(o.name+"conn") != "conn" {
		o.t.Error("TagRPC has another context")
	}
	o.say("tag %s", info.FullMethodName)
	return context.WithValue(c, o.name, "call")
}

func (o *observer) HandleRPC(c context.Context, s stats.RPCStats) {
	if c.Value(o.name) != "call" {
		o.t.Error("HandleRPC has another context")
	}
	if s.IsClient() {
		o.t.Error("client event")
	}
	switch s := s.(type) {
	case *stats.InHeader:
		if s.WireLength <= 0 {
			o.t.Errorf("a header section of %d bytes", s.WireLength)
		}
		o.say("in header %s %q %v", s.FullMethod, s.Compression, s.Header["k"])
	case *stats.Begin:
		o.say("begin %v %v", s.IsClientStream, s.IsServerStream)
	case *stats.InPayload:
		o.say("in %d %d %d", s.Length, s.CompressedLength, s.WireLength)
	case *stats.OutHeader:
		o.say("out header %v", map[string][]string(s.Header))
	case *stats.OutPayload:
		o.say("out %d %d %d", s.Length, s.CompressedLength, s.WireLength)
	case *stats.OutTrailer:
		o.say("out trailer %v", map[string][]string(s.Trailer))
	case *stats.End:
		o.say("end %v", s.Error)
	default:
		o.say("%T", s)
	}
}

func TestStats(t *testing.T) {
	a, b := &observer{t: t, name: "a"}, &observer{t: t, name: "b"}
	ended, trailers := make(chan struct{}, 1), make(chan struct{}, 8)
	r := newRig(t, Config{StatsHandlers: []stats.Handler{a, b, tell[*stats.End](ended), tell[*stats.OutTrailer](trailers)}}, &testService{
		unary: func(c context.Context, m *testpb.SimpleRequest) (*testpb.SimpleResponse, error) {
			if c.Value(statsKey("a")) != "call" || c.Value(statsKey("b")) != "call" {
				t.Error("the handler has another context")
			}
			if _, ok := peer.FromContext(c); !ok {
				t.Error("no peer")
			}
			grpc.SetHeader(c, metadata.Pairs("h", "1"))
			grpc.SetTrailer(c, metadata.Pairs("t", "1"))
			return &testpb.SimpleResponse{Payload: m.Payload}, nil
		},
		duplex: func(s testpb.TestService_FullDuplexCallServer) error {
			s.Recv()
			s.Send(&testpb.StreamingOutputCallResponse{})
			return status.Error(codes.Aborted, "enough")
		},
		output: func(_ *testpb.StreamingOutputCallRequest, s testpb.TestService_StreamingOutputCallServer) error {
			s.SendHeader(nil)
			<-s.Context().Done()
			s.SetTrailer(metadata.Pairs("t", "1"))
			return status.Error(codes.Aborted, "too late")
		},
	})
	want := func(lines ...string) {
		t.Helper()
		<-ended
		if got := a.take(); !reflect.DeepEqual(got, lines) {
			t.Errorf("events %q,\nwant   %q", got, lines)
		}
		if got := b.take(); !reflect.DeepEqual(got, lines) {
			t.Errorf("events of the second handler: %q", got)
		}
	}
	cc := r.client()
	c := testpb.NewTestServiceClient(cc)
	out := metadata.AppendToOutgoingContext(ctx(t), "k", "v")
	if _, err := c.UnaryCall(out, &testpb.SimpleRequest{Payload: &testpb.Payload{Body: []byte("abc")}}); err != nil {
		t.Fatal(err)
	}
	want("tag conn 10.0.0.2:443", "*stats.ConnBegin", "tag "+unaryCall, `in header `+unaryCall+` "" [v]`, "begin false false", "in 7 7 12",
		"out header map[h:[1]]", "out 7 7 12", "out trailer map[t:[1]]", "end <nil>")
	s, err := c.FullDuplexCall(ctx(t))
	if err != nil {
		t.Fatal(err)
	}
	s.Send(&testpb.StreamingOutputCallRequest{})
	s.Recv()
	s.Recv()
	want("tag "+duplex, `in header `+duplex+` "" []`, "begin true true", "in 0 0 5", "out header map[]", "out 0 0 5", "out trailer map[]",
		"end rpc error: code = Aborted desc = enough")
	if _, err := c.EmptyCall(ctx(t), &testpb.Empty{}, grpc.CallContentSubtype("proto"), grpc.UseCompressor("gzip")); err != nil {
		t.Fatal(err)
	}
	want("tag "+emptyCall, `in header `+emptyCall+` "gzip" []`, "begin false false", "in 0 0 5", "out header map[]", "out 0 0 5", "out trailer map[]", "end <nil>")
	gone, cancel := context.WithCancel(ctx(t))
	o, err := c.StreamingOutputCall(gone, &testpb.StreamingOutputCallRequest{})
	if err == nil {
		_, err = o.Header()
	}
	if cancel(); err != nil {
		t.Fatal(err)
	}
	want("tag "+outputs, `in header `+outputs+` "" []`, "begin false true", "in 0 0 5", "out header map[]", "end rpc error: code = Aborted desc = too late")
	if err := cc.Invoke(ctx(t), "/a.B/C", &testpb.Empty{}, &testpb.Empty{}); status.Code(err) != codes.Unimplemented {
		t.Fatal(err)
	}
	for range 4 { // this call's too, whose end no event tells
		<-trailers
	}
	cc.Close()
	r.GracefulStop()
	ended <- struct{}{}
	want("tag /a.B/C", `in header /a.B/C "" []`, "out trailer map[]", "*stats.ConnEnd")
}

// tell reports each event of one kind.
type tell[E stats.RPCStats] chan struct{}

func (tell[E]) TagConn(c context.Context, _ *stats.ConnTagInfo) context.Context { return c }
func (tell[E]) HandleConn(context.Context, stats.ConnStats)                     {}
func (tell[E]) TagRPC(c context.Context, _ *stats.RPCTagInfo) context.Context   { return c }
func (t tell[E]) HandleRPC(_ context.Context, s stats.RPCStats) {
	if _, ok := s.(E); ok {
		t <- struct{}{}
	}
}
