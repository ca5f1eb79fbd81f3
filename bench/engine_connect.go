// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"io"
	"net"
	"net/http"

	"connectrpc.com/connect"
	pb "google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/metadata"
)

// connectEngine is connect-go with the gRPC protocol over net/http's cleartext HTTP/2. Compression is off, as it is
// in the others, and the server admits as many streams as the largest workload opens (net/http's default is 250).
func connectEngine() engine {
	return engine{
		name: engineConnect,
		serve: func(l net.Listener, svc *service) error {
			s := &http.Server{
				Handler:   connectHandler(svc),
				Protocols: cleartextHTTP2(),
				HTTP2:     &http.HTTP2Config{MaxConcurrentStreams: 4096},
			}
			return s.Serve(l)
		},
		dial: func(addr string) (client, error) { return newConnectClient(addr), nil },
	}
}

func cleartextHTTP2() *http.Protocols {
	p := new(http.Protocols)
	p.SetUnencryptedHTTP2(true)
	return p
}

func connectHandler(svc *service) http.Handler {
	mux := http.NewServeMux()
	plain := connect.WithCompression("gzip", nil, nil)
	mux.Handle(pb.BenchmarkService_UnaryCall_FullMethodName, connect.NewUnaryHandler(pb.BenchmarkService_UnaryCall_FullMethodName,
		func(ctx context.Context, r *connect.Request[pb.SimpleRequest]) (*connect.Response[pb.SimpleResponse], error) {
			out, err := svc.answer(ctx, r.Msg, func(k string) []string { return r.Header().Values(k) })
			if err != nil {
				return nil, connect.NewError(connect.CodeInvalidArgument, err)
			}
			return connect.NewResponse(out), nil
		}, plain))
	mux.Handle(pb.BenchmarkService_StreamingCall_FullMethodName, connect.NewBidiStreamHandler(pb.BenchmarkService_StreamingCall_FullMethodName,
		func(_ context.Context, s *connect.BidiStream[pb.SimpleRequest, pb.SimpleResponse]) error {
			return svc.exchange(s.Receive, s.Send)
		}, plain))
	mux.Handle(pb.BenchmarkService_StreamingFromServer_FullMethodName, connect.NewServerStreamHandler(pb.BenchmarkService_StreamingFromServer_FullMethodName,
		func(_ context.Context, _ *connect.Request[pb.SimpleRequest], s *connect.ServerStream[pb.SimpleResponse]) error {
			return svc.pour(s.Send)
		}, plain))
	mux.Handle(pb.BenchmarkService_StreamingFromClient_FullMethodName, connect.NewClientStreamHandler(pb.BenchmarkService_StreamingFromClient_FullMethodName,
		func(_ context.Context, s *connect.ClientStream[pb.SimpleRequest]) (*connect.Response[pb.SimpleResponse], error) {
			out, err := svc.drain(func() (*pb.SimpleRequest, error) {
				if s.Receive() {
					return s.Msg(), nil
				}
				if err := s.Err(); err != nil {
					return nil, err
				}
				return nil, io.EOF
			})
			if err != nil {
				return nil, err
			}
			return connect.NewResponse(out), nil
		}, plain))
	return mux
}

type connectMethod = connect.Client[pb.SimpleRequest, pb.SimpleResponse]

type connectClient struct {
	transport                  *http.Transport
	unary, bidi, server, sends *connectMethod
}

func newConnectClient(addr string) *connectClient {
	t := &http.Transport{Protocols: cleartextHTTP2()}
	hc := &http.Client{Transport: t}
	method := func(path string) *connectMethod {
		return connect.NewClient[pb.SimpleRequest, pb.SimpleResponse](hc, "http://"+addr+path,
			connect.WithGRPC(), connect.WithAcceptCompression("gzip", nil, nil))
	}
	return &connectClient{
		transport: t,
		unary:     method(pb.BenchmarkService_UnaryCall_FullMethodName),
		bidi:      method(pb.BenchmarkService_StreamingCall_FullMethodName),
		server:    method(pb.BenchmarkService_StreamingFromServer_FullMethodName),
		sends:     method(pb.BenchmarkService_StreamingFromClient_FullMethodName),
	}
}

func (c *connectClient) caller() func(context.Context, *pb.SimpleRequest) (*pb.SimpleResponse, error) {
	return func(ctx context.Context, in *pb.SimpleRequest) (*pb.SimpleResponse, error) {
		r := connect.NewRequest(in)
		if md, ok := metadata.FromOutgoingContext(ctx); ok {
			for k, vs := range md {
				for _, v := range vs {
					r.Header().Add(k, v)
				}
			}
		}
		out, err := c.unary.CallUnary(ctx, r)
		if err != nil {
			return nil, err
		}
		return out.Msg, nil
	}
}

type connectBoth struct {
	s *connect.BidiStreamForClient[pb.SimpleRequest, pb.SimpleResponse]
}

func (b connectBoth) Send(in *pb.SimpleRequest) error { return b.s.Send(in) }
func (b connectBoth) CloseSend() error                { return b.s.CloseRequest() }

func (b connectBoth) Recv() (*pb.SimpleResponse, error) {
	out, err := b.s.Receive()
	if err != nil {
		b.s.CloseResponse()
	}
	return out, err
}

func (c *connectClient) both(ctx context.Context) (exchange, error) {
	return connectBoth{c.bidi.CallBidiStream(ctx)}, nil
}

type connectDown struct {
	s *connect.ServerStreamForClient[pb.SimpleResponse]
}

func (d connectDown) Recv() (*pb.SimpleResponse, error) {
	if d.s.Receive() {
		return d.s.Msg(), nil
	}
	if err := d.s.Err(); err != nil {
		return nil, err
	}
	return nil, io.EOF
}

func (c *connectClient) down(ctx context.Context, in *pb.SimpleRequest) (receiver, error) {
	s, err := c.server.CallServerStream(ctx, connect.NewRequest(in))
	return connectDown{s}, err
}

type connectUp struct {
	s *connect.ClientStreamForClient[pb.SimpleRequest, pb.SimpleResponse]
}

func (u connectUp) Send(in *pb.SimpleRequest) error { return u.s.Send(in) }

func (u connectUp) CloseAndRecv() (*pb.SimpleResponse, error) {
	out, err := u.s.CloseAndReceive()
	if err != nil {
		return nil, err
	}
	return out.Msg, nil
}

func (c *connectClient) up(ctx context.Context) (sender, error) {
	return connectUp{c.sends.CallClientStream(ctx)}, nil
}

func (c *connectClient) close() error {
	c.transport.CloseIdleConnections()
	return nil
}
