// SPDX-License-Identifier: Apache-2.0

package call

import (
	"context"
	"net"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	testgrpc "google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/test/bufconn"

	"github.com/faultline-rpc/faultline/channel"
)

const (
	unaryMethod  = "/grpc.testing.TestService/UnaryCall"
	duplexMethod = "/grpc.testing.TestService/FullDuplexCall"
)

// service is grpc-go's test service, made of functions.
type service struct {
	testgrpc.UnimplementedTestServiceServer
	unary  func(context.Context, *testgrpc.SimpleRequest) (*testgrpc.SimpleResponse, error)
	duplex func(testgrpc.TestService_FullDuplexCallServer) error
	input  func(testgrpc.TestService_StreamingInputCallServer) error
	output func(*testgrpc.StreamingOutputCallRequest, testgrpc.TestService_StreamingOutputCallServer) error
}

func (s *service) UnaryCall(ctx context.Context, r *testgrpc.SimpleRequest) (*testgrpc.SimpleResponse, error) {
	if s.unary == nil {
		return &testgrpc.SimpleResponse{Payload: r.Payload}, nil
	}
	return s.unary(ctx, r)
}

func (s *service) FullDuplexCall(st testgrpc.TestService_FullDuplexCallServer) error {
	return s.duplex(st)
}

func (s *service) StreamingInputCall(st testgrpc.TestService_StreamingInputCallServer) error {
	return s.input(st)
}

func (s *service) StreamingOutputCall(r *testgrpc.StreamingOutputCallRequest, st testgrpc.TestService_StreamingOutputCallServer) error {
	return s.output(r, st)
}

// serve runs grpc-go's server until the test ends, and returns a dialer to it.
func serve(t testing.TB, s *service, opts ...grpc.ServerOption) func(context.Context, string) (net.Conn, error) {
	l := bufconn.Listen(1 << 20)
	srv := grpc.NewServer(opts...)
	testgrpc.RegisterTestServiceServer(srv, s)
	done := make(chan struct{})
	go func() { defer close(done); _ = srv.Serve(l) }()
	t.Cleanup(func() { srv.Stop(); <-done })
	return func(ctx context.Context, _ string) (net.Conn, error) { return l.DialContext(ctx) }
}

// client returns a Caller over what dial connects to. It is closed when the
// test ends.
func client(t testing.TB, dial func(context.Context, string) (net.Conn, error), cfg Config) (*Caller, *channel.Channel) {
	t.Helper()
	return clientWith(t, dial, "", cfg)
}

// clientWith is client with a service config.
func clientWith(t testing.TB, dial func(context.Context, string) (net.Conn, error), serviceConfig string, cfg Config) (*Caller, *channel.Channel) {
	t.Helper()
	ch, err := channel.New("passthrough:///server", channel.Config{Creds: insecure.NewCredentials(), Dialer: dial, DefaultServiceConfig: serviceConfig})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(ch.Close)
	cfg.Channel, cfg.Methods = ch, ch
	if cfg.UserAgent == "" {
		cfg.UserAgent = "test"
	}
	return New(cfg), ch
}

// conn makes generated clients work on a Caller.
type conn struct{ *Caller }

func stub(c *Caller) testgrpc.TestServiceClient { return testgrpc.NewTestServiceClient(conn{c}) }
