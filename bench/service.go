// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"sync/atomic"
	"time"

	"google.golang.org/grpc/codes"
	pb "google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

// Metadata of the workload with metadata. The first two are the same for every call, the last varies.
const (
	tokenKey, tokenValue   = "x-bench-token", "Bearer 7f3c9a5e1b2d4c6f8091a2b3c4d5e6f70123456789abcdef"
	tenantKey, tenantValue = "x-bench-tenant", "acme-production-eu-west"
	requestKey             = "x-bench-request-id"
)

// checkEvery is how often the server looks at the metadata of a call: seldom, since looking is not what is measured.
const checkEvery = 1024

// A service answers the benchmark's calls; each engine's server wraps it. It refuses what is not as the workload says.
type service struct {
	pb.UnimplementedBenchmarkServiceServer
	size     int
	payload  *pb.Payload // shared by all answers, never changed
	sleep    time.Duration
	metadata bool
	calls    atomic.Uint64
}

func newService(w workload) *service {
	return &service{
		size:     w.size,
		payload:  newPayload(w.size),
		sleep:    time.Duration(w.sleepMS) * time.Millisecond,
		metadata: w.metadata,
	}
}

// newPayload returns a payload of size bytes with marked ends, and nil for none.
func newPayload(size int) *pb.Payload {
	if size == 0 {
		return nil
	}
	b := make([]byte, size)
	b[0], b[size-1] = 0x5a, 0xa5
	return &pb.Payload{Body: b}
}

// checkPayload reports whether p is what newPayload(size) made on the other side.
func checkPayload(p *pb.Payload, size int) error {
	b := p.GetBody()
	if len(b) != size {
		return fmt.Errorf("payload of %d bytes, want %d", len(b), size)
	}
	if size > 0 && (b[0] != 0x5a || b[size-1] != 0xa5) {
		return fmt.Errorf("payload of %d bytes is damaged: ends in %#x and %#x", size, b[0], b[size-1])
	}
	return nil
}

// answer is the unary handler; values looks a metadata field up.
func (s *service) answer(ctx context.Context, in *pb.SimpleRequest, values func(string) []string) (*pb.SimpleResponse, error) {
	if err := checkPayload(in.GetPayload(), s.size); err != nil {
		return nil, err
	}
	if s.metadata && s.calls.Add(1)%checkEvery == 1 {
		if err := checkMetadata(ctx, values); err != nil {
			return nil, err
		}
	}
	if s.sleep > 0 {
		time.Sleep(s.sleep)
	}
	return &pb.SimpleResponse{Payload: s.payload}, nil
}

// checkMetadata reports whether the deadline and the three fields arrived.
func checkMetadata(ctx context.Context, values func(string) []string) error {
	if _, ok := ctx.Deadline(); !ok {
		return errors.New("the call has no deadline")
	}
	for k, want := range map[string]string{tokenKey: tokenValue, tenantKey: tenantValue} {
		if got := values(k); len(got) != 1 || got[0] != want {
			return fmt.Errorf("metadata %s is %q, want %q", k, got, want)
		}
	}
	if got := values(requestKey); len(got) != 1 {
		return fmt.Errorf("metadata %s is %q, want one value", requestKey, got)
	}
	return nil
}

// exchange answers each message with one, until the client ends the stream.
func (s *service) exchange(recv func() (*pb.SimpleRequest, error), send func(*pb.SimpleResponse) error) error {
	for {
		in, err := recv()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err == nil {
			err = checkPayload(in.GetPayload(), s.size)
		}
		if err != nil {
			return err
		}
		if err := send(&pb.SimpleResponse{Payload: s.payload}); err != nil {
			return err
		}
	}
}

// pour sends messages until the client goes away.
func (s *service) pour(send func(*pb.SimpleResponse) error) error {
	out := &pb.SimpleResponse{Payload: s.payload}
	for {
		if err := send(out); err != nil {
			return err
		}
	}
}

// drain receives messages until the client ends the stream and answers how many there were.
func (s *service) drain(recv func() (*pb.SimpleRequest, error)) (*pb.SimpleResponse, error) {
	n := 0
	for {
		in, err := recv()
		if errors.Is(err, io.EOF) {
			return &pb.SimpleResponse{Hostname: strconv.Itoa(n)}, nil
		}
		if err == nil {
			err = checkPayload(in.GetPayload(), s.size)
		}
		if err != nil {
			return nil, err
		}
		n++
	}
}

// The methods of the generated interface.

func (s *service) UnaryCall(ctx context.Context, in *pb.SimpleRequest) (*pb.SimpleResponse, error) {
	out, err := s.answer(ctx, in, func(k string) []string { return metadata.ValueFromIncomingContext(ctx, k) })
	if err != nil {
		return nil, status.Error(codes.InvalidArgument, err.Error())
	}
	return out, nil
}

func (s *service) StreamingCall(g pb.BenchmarkService_StreamingCallServer) error {
	return s.exchange(g.Recv, g.Send)
}

func (s *service) StreamingFromServer(_ *pb.SimpleRequest, g pb.BenchmarkService_StreamingFromServerServer) error {
	return s.pour(g.Send)
}

func (s *service) StreamingFromClient(g pb.BenchmarkService_StreamingFromClientServer) error {
	out, err := s.drain(g.Recv)
	if err != nil {
		return err
	}
	return g.SendAndClose(out)
}
