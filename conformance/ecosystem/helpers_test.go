// SPDX-License-Identifier: Apache-2.0

package ecosystem

import (
	"context"
	"fmt"
	"io"
	"net"
	"testing"
	"time"

	"github.com/grpc-ecosystem/go-grpc-middleware/v2/testing/testpb"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	"github.com/faultline-rpc/faultline"
)

// ping is the middleware's own test service, with a handler that a test may
// replace.
type ping struct {
	testpb.TestPingService
	unary func(context.Context, *testpb.PingRequest) (*testpb.PingResponse, error)
}

func (p *ping) Ping(ctx context.Context, in *testpb.PingRequest) (*testpb.PingResponse, error) {
	if p.unary != nil {
		return p.unary(ctx, in)
	}
	return p.TestPingService.Ping(ctx, in)
}

// serve runs a server until the test ends, with the services that register
// adds, and returns its address.
func serve(t *testing.T, register func(*faultline.Server), opts ...faultline.ServerOption) string {
	t.Helper()
	s := faultline.NewServer(opts...)
	register(s)
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- s.Serve(lis) }()
	t.Cleanup(func() {
		s.Stop()
		if err := <-served; err != nil {
			t.Errorf("Serve: %v", err)
		}
	})
	return lis.Addr().String()
}

func servePing(t *testing.T, p *ping, opts ...faultline.ServerOption) string {
	t.Helper()
	return serve(t, func(s *faultline.Server) { testpb.RegisterTestServiceServer(s, p) }, opts...)
}

// dial returns a client in cleartext, unless the options say otherwise.
func dial(t *testing.T, target string, opts ...faultline.DialOption) *faultline.ClientConn {
	t.Helper()
	cc, err := faultline.NewClient(target, append([]faultline.DialOption{faultline.WithTransportCredentials(insecure.NewCredentials())}, opts...)...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cc.Close() })
	return cc
}

func client(t *testing.T, target string, opts ...faultline.DialOption) testpb.TestServiceClient {
	t.Helper()
	return testpb.NewTestServiceClient(dial(t, target, opts...))
}

func within(t *testing.T, d time.Duration) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), d)
	t.Cleanup(cancel)
	return ctx
}

func wantCode(t *testing.T, err error, want codes.Code) {
	t.Helper()
	if got := status.Code(err); got != want {
		t.Errorf("code %v (%v), want %v", got, err, want)
	}
}

// stream plays n messages of a bidirectional stream.
func stream(t *testing.T, ctx context.Context, c testpb.TestServiceClient, n int, opts ...grpc.CallOption) error {
	t.Helper()
	st, err := c.PingStream(ctx, opts...)
	if err != nil {
		return err
	}
	for range n {
		// io.EOF says that Recv knows why the stream is over.
		if err := st.Send(&testpb.PingStreamRequest{Value: "x"}); err != nil && err != io.EOF {
			return err
		}
		if _, err := st.Recv(); err != nil {
			return err
		}
	}
	if err := st.CloseSend(); err != nil {
		return err
	}
	if m, err := st.Recv(); err != io.EOF {
		return fmt.Errorf("the stream goes on with %v, %w", m, err)
	}
	return nil
}
