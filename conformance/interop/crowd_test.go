// SPDX-License-Identifier: Apache-2.0

package interop_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	testgrpc "google.golang.org/grpc/interop/grpc_testing"

	"github.com/faultline-rpc/faultline"
	"github.com/faultline-rpc/faultline/conformance/interop"
)

// TestCrowd has hundreds of calls at once pass through servers that admit a
// few streams and lend small windows. Every one of them succeeds.
func TestCrowd(t *testing.T) {
	type running interface {
		grpc.ServiceRegistrar
		Serve(net.Listener) error
		Stop()
	}
	const window = 65535
	servers := map[string]func(streams uint32) running{
		"grpc-go": func(n uint32) running {
			return grpc.NewServer(grpc.MaxConcurrentStreams(n), grpc.StaticStreamWindowSize(window), grpc.StaticConnWindowSize(window), grpc.ReadBufferSize(16))
		},
		"faultline": func(n uint32) running {
			return faultline.NewServer(faultline.MaxConcurrentStreams(n), faultline.InitialWindowSize(window), faultline.InitialConnWindowSize(window))
		},
	}
	for _, client := range []interop.Engine{interop.Faultline(), interop.GRPCGo()} {
		for name, server := range servers {
			if client.Name == name && name == "grpc-go" {
				continue // neither end is ours
			}
			for _, streams := range []uint32{1, 3} {
				t.Run(fmt.Sprintf("%s to %s, %d streams", client.Name, name, streams), func(t *testing.T) {
					lis, err := net.Listen("tcp", "127.0.0.1:0")
					if err != nil {
						t.Fatal(err)
					}
					s := server(streams)
					testgrpc.RegisterTestServiceServer(s, crowded{})
					var served sync.WaitGroup
					served.Go(func() { _ = s.Serve(lis) })
					defer served.Wait()
					defer s.Stop()
					c, err := client.Dial(lis.Addr().String(), insecure.NewCredentials())
					if err != nil {
						t.Fatal(err)
					}
					defer c.Close()
					crowd(t, testgrpc.NewTestServiceClient(c.Conn))
				})
			}
		}
	}
}

// crowd makes 400 calls at once, each fourth a stream with messages larger
// than the window.
func crowd(t *testing.T, c testgrpc.TestServiceClient) {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	var calls sync.WaitGroup
	for i := range 400 {
		calls.Go(func() {
			var err error
			if i%4 == 0 {
				err = pingPong(ctx, c)
			} else {
				_, err = c.UnaryCall(ctx, &testgrpc.SimpleRequest{Payload: &testgrpc.Payload{Body: make([]byte, 1000)}})
			}
			if err != nil {
				t.Errorf("call %d: %v", i, err)
			}
		})
	}
	calls.Wait()
}

func pingPong(ctx context.Context, c testgrpc.TestServiceClient) error {
	s, err := c.FullDuplexCall(ctx)
	for i := 0; err == nil && i < 3; i++ {
		if err = s.Send(&testgrpc.StreamingOutputCallRequest{Payload: &testgrpc.Payload{Body: make([]byte, 100_000)}}); err == nil || errors.Is(err, io.EOF) {
			_, err = s.Recv()
		}
	}
	if err != nil {
		return err
	}
	if err := s.CloseSend(); err != nil {
		return err
	}
	if _, err := s.Recv(); !errors.Is(err, io.EOF) {
		return fmt.Errorf("the stream ends with %v, want io.EOF", err)
	}
	return nil
}

// crowded sends what it gets.
type crowded struct {
	testgrpc.UnimplementedTestServiceServer
}

func (crowded) UnaryCall(_ context.Context, in *testgrpc.SimpleRequest) (*testgrpc.SimpleResponse, error) {
	return &testgrpc.SimpleResponse{Payload: in.GetPayload()}, nil
}

func (crowded) FullDuplexCall(s testgrpc.TestService_FullDuplexCallServer) error {
	for {
		in, err := s.Recv()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if err := s.Send(&testgrpc.StreamingOutputCallResponse{Payload: in.GetPayload()}); err != nil {
			return err
		}
	}
}
