// SPDX-License-Identifier: Apache-2.0

package testservice

import (
	"context"
	"errors"
	"io"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	testpb "google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/metadata"

	"github.com/faultline-rpc/faultline/status"
)

// Metadata that the service sends back, in the headers and in the trailers.
const (
	EchoHeader  = "x-grpc-test-echo-initial"
	EchoTrailer = "x-grpc-test-echo-trailing-bin"
)

// MaxPayload is the largest payload that is made on request, in bytes. A
// stranger may call: nobody gets memory by asking for it.
const MaxPayload = 16 << 20

// Server implements grpc.testing.TestService. Its zero value is ready, and its
// methods may be called from several goroutines. UnimplementedCall is what it
// says, as the interoperability tests want it.
type Server struct {
	testpb.UnimplementedTestServiceServer
}

var _ testpb.TestServiceServer = Server{}

// EmptyCall answers an empty message with one.
func (Server) EmptyCall(ctx context.Context, _ *testpb.Empty) (*testpb.Empty, error) {
	return new(testpb.Empty), echo(ctx)
}

// UnaryCall answers with a payload of the size asked for, or with the status
// asked for.
func (Server) UnaryCall(ctx context.Context, in *testpb.SimpleRequest) (*testpb.SimpleResponse, error) {
	if err := echo(ctx); err != nil {
		return nil, err
	}
	if err := wanted(in.GetResponseStatus()); err != nil {
		return nil, err
	}
	p, err := payload(in.GetResponseType(), in.GetResponseSize())
	if err != nil {
		return nil, err
	}
	return &testpb.SimpleResponse{Payload: p}, nil
}

// CacheableUnaryCall is UnaryCall: there is no cache.
func (s Server) CacheableUnaryCall(ctx context.Context, in *testpb.SimpleRequest) (*testpb.SimpleResponse, error) {
	return s.UnaryCall(ctx, in)
}

// StreamingOutputCall answers one request with the payloads that it lists.
func (Server) StreamingOutputCall(in *testpb.StreamingOutputCallRequest, s grpc.ServerStreamingServer[testpb.StreamingOutputCallResponse]) error {
	if err := echo(s.Context()); err != nil {
		return err
	}
	return answer(s.Context(), in, s.Send)
}

// StreamingInputCall adds up the sizes of the payloads it gets.
func (Server) StreamingInputCall(s grpc.ClientStreamingServer[testpb.StreamingInputCallRequest, testpb.StreamingInputCallResponse]) error {
	sum := 0
	for {
		in, err := s.Recv()
		if errors.Is(err, io.EOF) {
			return s.SendAndClose(&testpb.StreamingInputCallResponse{AggregatedPayloadSize: int32(sum)})
		}
		if err != nil {
			return err
		}
		sum += len(in.GetPayload().GetBody())
	}
}

// FullDuplexCall answers each request as it comes.
func (Server) FullDuplexCall(s grpc.BidiStreamingServer[testpb.StreamingOutputCallRequest, testpb.StreamingOutputCallResponse]) error {
	if err := echo(s.Context()); err != nil {
		return err
	}
	for {
		in, err := s.Recv()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if err := answer(s.Context(), in, s.Send); err != nil {
			return err
		}
	}
}

// maxHeld bounds the requests that HalfDuplexCall keeps until it answers.
const maxHeld = 1000

// HalfDuplexCall answers all requests when the last one has come.
func (Server) HalfDuplexCall(s grpc.BidiStreamingServer[testpb.StreamingOutputCallRequest, testpb.StreamingOutputCallResponse]) error {
	var all []*testpb.StreamingOutputCallRequest
	for {
		in, err := s.Recv()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return err
		}
		if len(all) == maxHeld {
			return status.Errorf(codes.ResourceExhausted, "more than %d requests before the first answer", maxHeld)
		}
		in.Payload = nil
		all = append(all, in)
	}
	for _, in := range all {
		if err := answer(s.Context(), in, s.Send); err != nil {
			return err
		}
	}
	return nil
}

// answer sends the payloads that in lists, each after its interval.
func answer(ctx context.Context, in *testpb.StreamingOutputCallRequest, send func(*testpb.StreamingOutputCallResponse) error) error {
	if err := wanted(in.GetResponseStatus()); err != nil {
		return err
	}
	for _, want := range in.GetResponseParameters() {
		if us := want.GetIntervalUs(); us > 0 {
			t := time.NewTimer(time.Duration(us) * time.Microsecond)
			select {
			case <-t.C:
			case <-ctx.Done():
				t.Stop()
				return ctx.Err()
			}
		}
		p, err := payload(in.GetResponseType(), want.GetSize())
		if err != nil {
			return err
		}
		if err := send(&testpb.StreamingOutputCallResponse{Payload: p}); err != nil {
			return err
		}
	}
	return nil
}

// wanted is the error that the request asks for, or nil.
func wanted(s *testpb.EchoStatus) error {
	if s.GetCode() == 0 {
		return nil
	}
	return status.Error(codes.Code(s.GetCode()), s.GetMessage())
}

func payload(kind testpb.PayloadType, size int32) (*testpb.Payload, error) {
	switch {
	case size < 0 || size > MaxPayload:
		return nil, status.Errorf(codes.InvalidArgument, "a response of %d bytes is asked for, want 0 to %d", size, MaxPayload)
	case kind != testpb.PayloadType_COMPRESSABLE:
		return nil, status.Errorf(codes.InvalidArgument, "a payload of type %v is asked for, want COMPRESSABLE", kind)
	}
	return &testpb.Payload{Type: kind, Body: make([]byte, size)}, nil
}

// echo sends the metadata back that is meant to be.
func echo(ctx context.Context) error {
	md, _ := metadata.FromIncomingContext(ctx)
	if v := md.Get(EchoHeader); len(v) > 0 {
		if err := grpc.SetHeader(ctx, metadata.MD{EchoHeader: v}); err != nil {
			return err
		}
	}
	if v := md.Get(EchoTrailer); len(v) > 0 {
		return grpc.SetTrailer(ctx, metadata.MD{EchoTrailer: v})
	}
	return nil
}
