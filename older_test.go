// SPDX-License-Identifier: Apache-2.0

package faultline_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	testgrpc "google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/stats"
	grpcstatus "google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/faultline-rpc/faultline"
	"github.com/faultline-rpc/faultline/fault"
)

// backwards is an older compressor and decompressor that is registered nowhere.
type backwards struct{ err error }

func (b backwards) Type() string { return "backwards" }

func (b backwards) Do(w io.Writer, p []byte) error {
	p = bytes.Clone(p)
	slices.Reverse(p)
	if _, err := w.Write(p); err != nil {
		return err
	}
	return b.err
}

type backwardsReader struct{ err error }

func (backwardsReader) Type() string { return "backwards" }

func (b backwardsReader) Do(r io.Reader) ([]byte, error) {
	p, err := io.ReadAll(r)
	slices.Reverse(p)
	return p, errors.Join(err, b.err)
}

// tagged is an older codec: a byte, then the message.
type tagged struct{}

func (tagged) String() string { return "tagged" }

func (tagged) Marshal(v any) ([]byte, error) {
	return proto.MarshalOptions{}.MarshalAppend([]byte{0x7f}, v.(proto.Message))
}

func (tagged) Unmarshal(p []byte, v any) error {
	if len(p) == 0 || p[0] != 0x7f {
		return errors.New("the tag is missing")
	}
	return proto.Unmarshal(p[1:], v.(proto.Message))
}

// encodings notes what grpc-encoding each side's headers carried.
type encodings struct {
	stats.Handler
	mu               sync.Mutex
	request, respond string // guarded by mu
}

func (*encodings) TagRPC(ctx context.Context, _ *stats.RPCTagInfo) context.Context   { return ctx }
func (*encodings) TagConn(ctx context.Context, _ *stats.ConnTagInfo) context.Context { return ctx }
func (*encodings) HandleConn(context.Context, stats.ConnStats)                       {}
func (e *encodings) HandleRPC(_ context.Context, s stats.RPCStats) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if h, ok := s.(*stats.InHeader); ok {
		if h.Client {
			e.respond = h.Compression
		} else {
			e.request = h.Compression
		}
	}
}

// olderOptions are the options of one test, which both implementations have.
type olderOptions struct {
	compressor   grpc.Compressor   // WithCompressor
	decompressor grpc.Decompressor // WithDecompressor
	codec        grpc.Codec        // WithCodec and CustomCodec
	answers      grpc.Compressor   // RPCCompressor
	requests     grpc.Decompressor // RPCDecompressor
	limit        int               // WithMaxMsgSize and MaxMsgSize
}

// older serves and dials with these options, by implementation.
type older struct {
	serve func(o olderOptions, e *encodings, svc *service, lis net.Listener) (stop func())
	dial  func(t *testing.T, o olderOptions, e *encodings, addr string) grpc.ClientConnInterface
}

var olders = map[string]older{
	"faultline": {
		serve: func(o olderOptions, e *encodings, svc *service, lis net.Listener) func() {
			opts := []faultline.ServerOption{faultline.StatsHandler(e), faultline.RPCCompressor(o.answers), faultline.RPCDecompressor(o.requests)}
			if o.codec != nil {
				opts = append(opts, faultline.CustomCodec(o.codec))
			}
			if o.limit > 0 {
				opts = append(opts, faultline.MaxMsgSize(o.limit))
			}
			s := faultline.NewServer(opts...)
			testgrpc.RegisterTestServiceServer(s, svc)
			go func() { _ = s.Serve(lis) }()
			return s.Stop
		},
		dial: func(t *testing.T, o olderOptions, e *encodings, addr string) grpc.ClientConnInterface {
			opts := []faultline.DialOption{faultline.WithStatsHandler(e), faultline.WithCompressor(o.compressor), faultline.WithDecompressor(o.decompressor)}
			if o.codec != nil {
				opts = append(opts, faultline.WithCodec(o.codec))
			}
			if o.limit > 0 {
				opts = append(opts, faultline.WithMaxMsgSize(o.limit))
			}
			return dial(t, addr, opts...)
		},
	},
	"grpc-go": {
		serve: func(o olderOptions, e *encodings, svc *service, lis net.Listener) func() {
			opts := []grpc.ServerOption{grpc.StatsHandler(e), grpc.RPCCompressor(o.answers), grpc.RPCDecompressor(o.requests)}
			if o.codec != nil {
				opts = append(opts, grpc.CustomCodec(o.codec))
			}
			if o.limit > 0 {
				opts = append(opts, grpc.MaxMsgSize(o.limit))
			}
			s := grpc.NewServer(opts...)
			testgrpc.RegisterTestServiceServer(s, svc)
			go func() { _ = s.Serve(lis) }()
			return s.Stop
		},
		dial: func(t *testing.T, o olderOptions, e *encodings, addr string) grpc.ClientConnInterface {
			opts := []grpc.DialOption{grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithStatsHandler(e),
				grpc.WithCompressor(o.compressor), grpc.WithDecompressor(o.decompressor)}
			if o.codec != nil {
				opts = append(opts, grpc.WithCodec(o.codec))
			}
			if o.limit > 0 {
				opts = append(opts, grpc.WithMaxMsgSize(o.limit))
			}
			cc, err := grpc.NewClient(addr, opts...)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = cc.Close() })
			return cc
		},
	},
}

// TestOlderOptions uses grpc-go's interfaces from before package encoding, in
// both implementations and between them: what is on the wire is the same.
func TestOlderOptions(t *testing.T) {
	const unregistered, gz = "backwards", "gzip"
	in := func(n int) *testgrpc.SimpleRequest {
		return &testgrpc.SimpleRequest{Payload: &testgrpc.Payload{Body: make([]byte, n)}, ResponseSize: int32(n)}
	}
	for _, tc := range []struct {
		name             string
		opts             olderOptions
		call             []grpc.CallOption
		request, respond string // grpc-encoding
		code             codes.Code
		ours             *fault.Entry // whoever of the two of this module stamps it
	}{
		{name: "unregistered", opts: olderOptions{compressor: backwards{}, decompressor: backwardsReader{}, answers: backwards{}, requests: backwardsReader{}},
			request: unregistered, respond: unregistered},
		{name: "requests only", opts: olderOptions{compressor: backwards{}, requests: backwardsReader{}}, request: unregistered},
		{name: "answers only", opts: olderOptions{answers: backwards{}, decompressor: backwardsReader{}}, respond: unregistered},
		{name: "grpc-go's gzip", opts: olderOptions{compressor: grpc.NewGZIPCompressor(), decompressor: grpc.NewGZIPDecompressor(), answers: grpc.NewGZIPCompressor(), requests: grpc.NewGZIPDecompressor()},
			request: gz, respond: gz},
		{name: "gzip of the registry", opts: olderOptions{compressor: grpc.NewGZIPCompressor(), decompressor: backwardsReader{}, requests: backwardsReader{}}, request: gz, respond: gz},
		{name: "another answer", opts: olderOptions{compressor: grpc.NewGZIPCompressor(), decompressor: backwardsReader{}, answers: backwards{}}, request: gz, respond: unregistered},
		{name: "a call's own", opts: olderOptions{compressor: backwards{}}, call: []grpc.CallOption{grpc.UseCompressor(gz)}, request: gz, respond: gz},
		{name: "a call's none", opts: olderOptions{compressor: backwards{}}, call: []grpc.CallOption{grpc.UseCompressor("identity")}, request: "identity"},
		{name: "server without", opts: olderOptions{compressor: backwards{}}, request: unregistered, code: codes.Unimplemented, ours: fault.CodecCompressorUnsupported},
		{name: "client without", opts: olderOptions{answers: backwards{}}, respond: unregistered, code: codes.Internal, ours: fault.CodecResponseCompressor},
		{name: "request does not decompress", opts: olderOptions{compressor: backwards{}, requests: backwardsReader{errors.New("torn")}},
			request: unregistered, code: codes.Internal, ours: fault.CodecDecompress},
		{name: "answer does not decompress", opts: olderOptions{answers: backwards{}, decompressor: backwardsReader{errors.New("torn")}},
			respond: unregistered, code: codes.Internal, ours: fault.CodecDecompress},
		{name: "request does not compress", opts: olderOptions{compressor: backwards{errors.New("full")}, requests: backwardsReader{}},
			code: codes.Internal, ours: fault.CodecMarshal},
		{name: "codec", opts: olderOptions{codec: tagged{}}},
		{name: "codec and compressor", opts: olderOptions{codec: tagged{}, compressor: backwards{}, requests: backwardsReader{}}, request: unregistered},
		{name: "limit", opts: olderOptions{limit: 100}, code: codes.ResourceExhausted, ours: fault.CodecTooLarge},
		{name: "limit after decompression", opts: olderOptions{limit: 100, compressor: grpc.NewGZIPCompressor(), requests: grpc.NewGZIPDecompressor()}, request: gz,
			code: codes.ResourceExhausted, ours: fault.CodecTooLarge},
	} {
		for serverName, server := range olders {
			for clientName, client := range olders {
				t.Run(tc.name+"/"+clientName+" to "+serverName, func(t *testing.T) {
					var e encodings
					lis := listen(t)
					svc := &service{unary: func(ctx context.Context, in *testgrpc.SimpleRequest) (*testgrpc.SimpleResponse, error) {
						md, _ := metadata.FromIncomingContext(ctx)
						if got := strings.Join(md["content-type"], ","); got != "application/grpc" {
							return nil, grpcstatus.Errorf(codes.FailedPrecondition, "content-type %q, want no content-subtype", got)
						}
						return &testgrpc.SimpleResponse{Payload: in.GetPayload()}, nil
					}}
					t.Cleanup(server.serve(tc.opts, &e, svc, lis))
					cc := client.dial(t, tc.opts, &e, lis.Addr().String())
					out, err := testgrpc.NewTestServiceClient(cc).UnaryCall(timeout(t), in(500), tc.call...)
					if grpcstatus.Code(err) != tc.code {
						t.Fatalf("%v, want %v", err, tc.code)
					}
					if err == nil && len(out.GetPayload().GetBody()) != 500 {
						t.Errorf("%d bytes came back, want 500", len(out.GetPayload().GetBody()))
					}
					if tc.ours != nil && serverName == "faultline" && clientName == "faultline" && !strings.Contains(err.Error(), string(tc.ours.ID)+": ") {
						t.Errorf("%v, want %s", err, tc.ours.ID)
					}
					e.mu.Lock()
					defer e.mu.Unlock()
					early := err != nil && clientName == "grpc-go" && tc.request == "" // it sends headers before it compresses: they may arrive
					if e.request != tc.request && !early || e.respond != tc.respond {
						t.Errorf("grpc-encoding %q, answered by %q, want %q and %q", e.request, e.respond, tc.request, tc.respond)
					}
				})
			}
		}
	}
}
