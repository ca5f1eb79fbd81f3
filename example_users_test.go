// SPDX-License-Identifier: Apache-2.0

package faultline_test

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/test/bufconn"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/faultline-rpc/faultline"
)

// What the examples have in common: a small service, as protoc-gen-go-grpc
// would generate it, and a server that runs in memory.
//
//	service Users {
//	  rpc GetUser(StringValue) returns (StringValue);
//	  rpc ListUsers(StringValue) returns (stream StringValue);
//	}

// users implements the service.
type users struct {
	get  func(ctx context.Context, id string) (name string, err error)
	list func(ctx context.Context, prefix string, send func(name string) error) error
}

type usersServer interface {
	GetUser(context.Context, *wrapperspb.StringValue) (*wrapperspb.StringValue, error)
	ListUsers(*wrapperspb.StringValue, grpc.ServerStreamingServer[wrapperspb.StringValue]) error
}

func (u *users) GetUser(ctx context.Context, in *wrapperspb.StringValue) (*wrapperspb.StringValue, error) {
	name, err := u.get(ctx, in.GetValue())
	if err != nil {
		return nil, err
	}
	return wrapperspb.String(name), nil
}

func (u *users) ListUsers(in *wrapperspb.StringValue, out grpc.ServerStreamingServer[wrapperspb.StringValue]) error {
	return u.list(out.Context(), in.GetValue(), func(name string) error { return out.Send(wrapperspb.String(name)) })
}

var usersDesc = grpc.ServiceDesc{
	ServiceName: "shop.Users",
	HandlerType: (*usersServer)(nil),
	Methods: []grpc.MethodDesc{{
		MethodName: "GetUser",
		Handler: func(srv any, ctx context.Context, dec func(any) error, interceptor grpc.UnaryServerInterceptor) (any, error) {
			in := new(wrapperspb.StringValue)
			if err := dec(in); err != nil {
				return nil, err
			}
			if interceptor == nil {
				return srv.(usersServer).GetUser(ctx, in)
			}
			info := &grpc.UnaryServerInfo{Server: srv, FullMethod: "/shop.Users/GetUser"}
			return interceptor(ctx, in, info, func(ctx context.Context, req any) (any, error) {
				return srv.(usersServer).GetUser(ctx, req.(*wrapperspb.StringValue))
			})
		},
	}},
	Streams: []grpc.StreamDesc{{
		StreamName: "ListUsers", ServerStreams: true,
		Handler: func(srv any, stream grpc.ServerStream) error {
			in := new(wrapperspb.StringValue)
			if err := stream.RecvMsg(in); err != nil {
				return err
			}
			return srv.(usersServer).ListUsers(in, &grpc.GenericServerStream[wrapperspb.StringValue, wrapperspb.StringValue]{ServerStream: stream})
		},
	}},
}

// usersClient calls the service.
type usersClient struct{ cc grpc.ClientConnInterface }

func (c *usersClient) GetUser(ctx context.Context, id string, opts ...grpc.CallOption) (string, error) {
	out := new(wrapperspb.StringValue)
	err := c.cc.Invoke(ctx, "/shop.Users/GetUser", wrapperspb.String(id), out, opts...)
	return out.GetValue(), err
}

// ListUsers calls each for every name, and returns nil at the end of the
// stream, or how else it ended.
func (c *usersClient) ListUsers(ctx context.Context, prefix string, each func(name string)) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	s, err := c.cc.NewStream(ctx, &usersDesc.Streams[0], "/shop.Users/ListUsers")
	if err != nil {
		return err
	}
	if err := s.SendMsg(wrapperspb.String(prefix)); err != nil && err != io.EOF {
		return err
	}
	if err := s.CloseSend(); err != nil {
		return err
	}
	for {
		out := new(wrapperspb.StringValue)
		if err := s.RecvMsg(out); err == io.EOF {
			return nil
		} else if err != nil {
			return err
		}
		each(out.GetValue())
	}
}

// start runs a server of u in memory, and returns a client and what ends both.
func start(u *users, opts ...faultline.ServerOption) (client *usersClient, stop func()) {
	lis := bufconn.Listen(1 << 16)
	s := faultline.NewServer(opts...)
	s.RegisterService(&usersDesc, u)
	go func() { _ = s.Serve(lis) }()
	cc := dialTo(func(ctx context.Context, _ string) (net.Conn, error) { return lis.DialContext(ctx) })
	return &usersClient{cc}, func() {
		_ = cc.Close()
		s.GracefulStop() // and what handlers had to log is there
	}
}

// dialTo makes a client whose connections f opens.
func dialTo(f func(context.Context, string) (net.Conn, error), opts ...faultline.DialOption) *faultline.ClientConn {
	cc, err := faultline.NewClient("passthrough:///users.test:50051", append(opts,
		faultline.WithTransportCredentials(insecure.NewCredentials()), faultline.WithContextDialer(f))...)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	return cc
}

// quiet is a log for examples that are not about it.
var quiet = slog.New(slog.DiscardHandler)
