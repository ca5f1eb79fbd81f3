// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"io"
	"net"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	pb "google.golang.org/grpc/interop/grpc_testing"
)

// grpcEngine is grpc-go with its defaults: the measure of all ratios.
func grpcEngine() engine { return grpcWith(engineGRPC, nil, nil) }

// windowsEngine is grpc-go with the windows of ours, so that the gain of larger windows can be told from the rest.
func windowsEngine() engine {
	return grpcWith(engineWindows,
		[]grpc.ServerOption{grpc.StaticStreamWindowSize(streamWindow), grpc.StaticConnWindowSize(connWindow)},
		[]grpc.DialOption{grpc.WithStaticStreamWindowSize(streamWindow), grpc.WithStaticConnWindowSize(connWindow)})
}

func grpcWith(name string, so []grpc.ServerOption, do []grpc.DialOption) engine {
	return engine{
		name: name,
		serve: func(l net.Listener, svc *service) error {
			s := grpc.NewServer(so...)
			pb.RegisterBenchmarkServiceServer(s, svc)
			return s.Serve(l)
		},
		dial: func(addr string) (client, error) {
			do := append([]grpc.DialOption{grpc.WithTransportCredentials(insecure.NewCredentials())}, do...)
			cc, err := grpc.NewClient("passthrough:///"+addr, do...)
			if err != nil {
				return nil, err
			}
			return newStub(cc), nil
		},
	}
}

// A channel is what the generated client code needs, and Close.
type channel interface {
	grpc.ClientConnInterface
	io.Closer
}

// A stub is a client by the generated code, over any engine that implements grpc.ClientConnInterface.
type stub struct {
	svc pb.BenchmarkServiceClient
	cc  io.Closer
}

func newStub(cc channel) stub { return stub{pb.NewBenchmarkServiceClient(cc), cc} }

func (s stub) caller() func(context.Context, *pb.SimpleRequest) (*pb.SimpleResponse, error) {
	return func(ctx context.Context, in *pb.SimpleRequest) (*pb.SimpleResponse, error) {
		return s.svc.UnaryCall(ctx, in)
	}
}

func (s stub) both(ctx context.Context) (exchange, error) { return s.svc.StreamingCall(ctx) }

func (s stub) down(ctx context.Context, in *pb.SimpleRequest) (receiver, error) {
	return s.svc.StreamingFromServer(ctx, in)
}

func (s stub) up(ctx context.Context) (sender, error) { return s.svc.StreamingFromClient(ctx) }

func (s stub) close() error { return s.cc.Close() }
