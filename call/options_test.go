// SPDX-License-Identifier: Apache-2.0

package call

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/encoding"
	_ "google.golang.org/grpc/encoding/gzip"
	testgrpc "google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"

	"github.com/faultline-rpc/faultline/fault"
	mock "github.com/faultline-rpc/faultline/internal/peer"
	"github.com/faultline-rpc/faultline/wire"
)

func body(s string) *testgrpc.Payload { return &testgrpc.Payload{Body: []byte(s)} }

// What the program asks to know is told, of calls that fail too.
func TestResultOptions(t *testing.T) {
	c, _ := client(t, serve(t, &service{unary: func(ctx context.Context, r *testgrpc.SimpleRequest) (*testgrpc.SimpleResponse, error) {
		_ = grpc.SetHeader(ctx, metadata.Pairs("h", "1"))
		_ = grpc.SetTrailer(ctx, metadata.Pairs("t", "2"))
		if len(r.GetPayload().GetBody()) == 0 {
			_ = grpc.SendHeader(ctx, nil)
			return nil, status.Error(codes.NotFound, "nothing")
		}
		return &testgrpc.SimpleResponse{}, nil
	}}), Config{})
	for _, payload := range []string{"x", ""} {
		var header, trailer metadata.MD
		var p peer.Peer
		var told []error
		_, err := stub(c).UnaryCall(context.Background(), &testgrpc.SimpleRequest{Payload: body(payload)},
			grpc.Header(&header), grpc.Trailer(&trailer), grpc.Peer(&p), grpc.OnFinish(func(err error) { told = append(told, err) }))
		if (err == nil) != (payload != "") {
			t.Fatal(err)
		}
		if header.Get("h") == nil || trailer.Get("t") == nil || p.Addr == nil || !slices.Equal(told, []error{err}) {
			t.Errorf("header %v, trailer %v, peer %v, told %v", header, trailer, p, told)
		}
	}
	told := 0
	_, err := stub(c).UnaryCall(context.Background(), nil, grpc.UseCompressor("squeeze"), grpc.OnFinish(func(error) { told++ }))
	if !fault.CallMisuse.Is(err) || told != 1 {
		t.Errorf("%v, OnFinish ran %d times", err, told)
	}
}

// Whoever learns that a stream's time is over finds the answer's options filled
// in, though it may be another goroutine that ended it.
func TestResultOptionsAtTheDeadline(t *testing.T) {
	for range 20 {
		against(t, mock.EachAtOnce(mock.Silence()), Config{}, func(t *testing.T, c *Caller) {
			ctx, cancel := context.WithTimeout(context.Background(), time.Second)
			defer cancel()
			var p peer.Peer
			var trailer metadata.MD
			st := open(t, c, ctx, duplex, grpc.Peer(&p), grpc.Trailer(&trailer))
			if err := st.RecvMsg(nil); !fault.CallDeadline.Is(err) {
				t.Fatalf("RecvMsg: %v", err)
			}
			if p.Addr == nil || trailer == nil {
				t.Errorf("peer %v, trailer %v", p, trailer)
			}
			trailer = st.Trailer() // a race, if the option were filled in later
		})
	}
}

// oldest has the shape of grpc-go's first codec interface.
type oldest struct{ encoding.Codec }

func (oldest) String() string { return "oldest" }

type named struct {
	encoding.CodecV2
	name string
}

func (n named) Name() string { return n.name }

type namedV1 struct{ encoding.Codec }

func (namedV1) Name() string                { return "proto" }
func (namedV1) Marshal(any) ([]byte, error) { return nil, nil }
func (namedV1) Unmarshal([]byte, any) error { return nil }

// carrier is an option of a program's own, for its interceptors.
type carrier struct {
	grpc.EmptyCallOption
	data int
}

func TestOptionsOnTheWire(t *testing.T) {
	var seen metadata.MD
	c, _ := client(t, serve(t, &service{unary: func(ctx context.Context, r *testgrpc.SimpleRequest) (*testgrpc.SimpleResponse, error) {
		seen, _ = metadata.FromIncomingContext(ctx)
		return &testgrpc.SimpleResponse{Payload: r.Payload}, nil
	}}), Config{UserAgent: "tester/1"})
	protoV2 := encoding.GetCodecV2("proto")
	for name, row := range map[string]struct {
		opts []grpc.CallOption
		key  string
		want string
	}{
		"default":             {nil, "content-type", "application/grpc"},
		"user agent":          {nil, "user-agent", "tester/1"},
		"authority":           {nil, ":authority", "server"},
		"call authority":      {[]grpc.CallOption{grpc.CallAuthority("other:1")}, ":authority", "other:1"},
		"subtype":             {[]grpc.CallOption{grpc.CallContentSubtype("PROTO")}, "content-type", "application/grpc+proto"},
		"force codec":         {[]grpc.CallOption{grpc.ForceCodecV2(protoV2)}, "content-type", "application/grpc+proto"},
		"force older codec":   {[]grpc.CallOption{grpc.ForceCodec(namedV1{})}, "content-type", "application/grpc+proto"},
		"oldest codec":        {[]grpc.CallOption{grpc.CallCustomCodec(oldest{namedV1{}})}, "content-type", "application/grpc"}, //nolint:staticcheck
		"codec and subtype":   {[]grpc.CallOption{grpc.ForceCodecV2(named{protoV2, "other"}), grpc.CallContentSubtype("proto")}, "content-type", "application/grpc+proto"},
		"compressor":          {[]grpc.CallOption{grpc.UseCompressor("gzip")}, "grpc-accept-encoding", "gzip"},
		"identity":            {[]grpc.CallOption{grpc.UseCompressor("identity")}, "content-type", "application/grpc"},
		"of the program's":    {[]grpc.CallOption{carrier{data: 1}, grpc.EmptyCallOption{}}, "content-type", "application/grpc"},
		"the last one counts": {[]grpc.CallOption{grpc.MaxCallSendMsgSize(1), grpc.MaxCallSendMsgSize(1000)}, "content-type", "application/grpc"},
	} {
		t.Run(name, func(t *testing.T) {
			seen = nil
			_, err := stub(c).UnaryCall(context.Background(), &testgrpc.SimpleRequest{Payload: body(strings.Repeat("x", 100))}, row.opts...)
			if err != nil {
				t.Fatal(err)
			}
			if v := seen.Get(row.key); len(v) != 1 || v[0] != row.want {
				t.Errorf("%s: %v, want %q", row.key, v, row.want)
			}
		})
	}
}

func TestMetadataIsSent(t *testing.T) {
	var seen metadata.MD
	c, _ := client(t, serve(t, &service{unary: func(ctx context.Context, _ *testgrpc.SimpleRequest) (*testgrpc.SimpleResponse, error) {
		seen, _ = metadata.FromIncomingContext(ctx)
		return &testgrpc.SimpleResponse{}, nil
	}}), Config{UserAgent: "tester/1"})
	ctx := metadata.NewOutgoingContext(context.Background(), metadata.Pairs("a", "1", "a", "2", "b-bin", "\x00\xff", "user-agent", "forged"))
	ctx = metadata.AppendToOutgoingContext(ctx, "c", "3")
	if _, err := stub(c).UnaryCall(ctx, &testgrpc.SimpleRequest{}); err != nil {
		t.Fatal(err)
	}
	for k, want := range map[string][]string{"a": {"1", "2"}, "b-bin": {"\x00\xff"}, "c": {"3"}, "user-agent": {"tester/1"}} {
		if !slices.Equal(seen.Get(k), want) {
			t.Errorf("%s: %q, want %q", k, seen.Get(k), want)
		}
	}
}

func TestCompression(t *testing.T) {
	c, _ := client(t, serve(t, &service{unary: func(ctx context.Context, r *testgrpc.SimpleRequest) (*testgrpc.SimpleResponse, error) {
		return &testgrpc.SimpleResponse{Payload: r.Payload}, grpc.SetSendCompressor(ctx, "gzip")
	}}), Config{})
	want := strings.Repeat("x", 50_000)
	r, err := stub(c).UnaryCall(context.Background(), &testgrpc.SimpleRequest{Payload: body(want)}, grpc.UseCompressor("gzip"))
	if err != nil || string(r.Payload.Body) != want {
		t.Fatal(err)
	}
	// A limit holds for the message decompressed.
	_, err = stub(c).UnaryCall(context.Background(), &testgrpc.SimpleRequest{Payload: body(want)}, grpc.MaxCallRecvMsgSize(10_000))
	(&circumstance{entry: fault.CodecTooLarge, code: codes.ResourceExhausted, side: fault.Local, processed: fault.Yes, says: "MaxCallRecvMsgSize"}).judge(t, err)
}

func TestMethodNames(t *testing.T) {
	c, _ := client(t, serve(t, &service{}), Config{})
	for _, m := range []string{"", "a.B/C", "/a.B/C\n", "/a.B/Ü"} {
		err := c.Invoke(context.Background(), m, &testgrpc.SimpleRequest{}, &testgrpc.SimpleResponse{})
		(&circumstance{entry: fault.CallMisuse, code: codes.Internal, side: fault.Local, processed: fault.No, says: "expected /package.Service/Method"}).judge(t, err)
	}
}

func TestTemplatesAreBounded(t *testing.T) {
	tm := templates{cfg: &Config{}}
	for i := range 2*maxTemplates + 1 {
		k := templateKey{method: fmt.Sprint("/s/", i)}
		w, f := tm.get(k)
		again, _ := tm.get(k)
		if f != nil || w != again || len(*tm.known.Load()) > maxTemplates {
			t.Fatalf("after %d: %v, %d known", i, f, len(*tm.known.Load()))
		}
		if i == 10 { // the rest would take a while: fill it up
			m := map[templateKey]*wire.Template{}
			for j := range maxTemplates {
				m[templateKey{method: fmt.Sprint("/t/", j)}] = w
			}
			tm.known.Store(&m)
			if _, f := tm.get(templateKey{method: "/u/v"}); f != nil || len(*tm.known.Load()) != 1 {
				t.Fatalf("%v, %d known, want a new beginning", f, len(*tm.known.Load()))
			}
			return
		}
	}
}

// Interceptors run outside in, see the default options first, and are given
// the connection.
func TestInterceptors(t *testing.T) {
	cc, err := grpc.NewClient("passthrough:///x", grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer cc.Close()
	var log []string
	note := func(name string, got *grpc.ClientConn, opts []grpc.CallOption) {
		n := 0
		for _, o := range opts {
			if o, ok := o.(carrier); ok {
				n = n*10 + o.data
			}
		}
		log = append(log, fmt.Sprint(name, " ", got == cc, " ", n))
	}
	unary := func(name string) grpc.UnaryClientInterceptor {
		return func(ctx context.Context, m string, req, reply any, cc *grpc.ClientConn, next grpc.UnaryInvoker, opts ...grpc.CallOption) error {
			note(name, cc, opts)
			return next(ctx, m, req, reply, cc, append(opts, carrier{data: 3})...)
		}
	}
	stream := func(name string) grpc.StreamClientInterceptor {
		return func(ctx context.Context, d *grpc.StreamDesc, cc *grpc.ClientConn, m string, next grpc.Streamer, opts ...grpc.CallOption) (grpc.ClientStream, error) {
			note(name, cc, opts)
			return next(ctx, d, cc, m, append(opts, carrier{data: 3})...)
		}
	}
	c, _ := client(t, serve(t, &service{duplex: func(testgrpc.TestService_FullDuplexCallServer) error { return nil }}), Config{
		DefaultCallOptions: []grpc.CallOption{carrier{data: 1}},
		UnaryInts:          []grpc.UnaryClientInterceptor{unary("a"), unary("b")},
		StreamInts:         []grpc.StreamClientInterceptor{stream("a"), stream("b")},
		CC:                 func() *grpc.ClientConn { return cc },
	})
	if _, err := stub(c).UnaryCall(context.Background(), &testgrpc.SimpleRequest{}, carrier{data: 2}); err != nil {
		t.Fatal(err)
	}
	st, err := stub(c).FullDuplexCall(context.Background(), carrier{data: 2})
	if err != nil {
		t.Fatal(err)
	}
	_, _ = st.Recv()
	if want := []string{"a true 12", "b true 123", "a true 12", "b true 123"}; !slices.Equal(log, want) {
		t.Errorf("got %q, want %q", log, want)
	}
}
