// SPDX-License-Identifier: Apache-2.0

package interop

import (
	"net"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
)

// Engine is a gRPC implementation under test.
type Engine struct {
	Name string
	// Serve serves on lis until stop is called; stop returns when nothing runs
	// any more. register is called before the first connection is accepted.
	Serve func(lis net.Listener, creds credentials.TransportCredentials, register func(grpc.ServiceRegistrar)) (stop func())
	// Dial returns a client of target.
	Dial func(target string, creds credentials.TransportCredentials) (Client, error)
}

// Client is one client connection of an engine.
type Client struct {
	Conn grpc.ClientConnInterface
	// Concrete is for the few cases that insist on grpc-go's own type.
	Concrete *grpc.ClientConn
	Close    func() error
}

// GRPCGo is google.golang.org/grpc at the version in go.mod, with its defaults.
func GRPCGo() Engine {
	return Engine{
		Name: "grpc-go",
		Serve: func(lis net.Listener, creds credentials.TransportCredentials, register func(grpc.ServiceRegistrar)) func() {
			s := grpc.NewServer(grpc.Creds(creds))
			register(s)
			return serve(lis, s)
		},
		Dial: func(target string, creds credentials.TransportCredentials) (Client, error) {
			cc, err := grpc.NewClient(target, grpc.WithTransportCredentials(creds))
			if err != nil {
				return Client{}, err
			}
			return Client{Conn: cc, Concrete: cc, Close: cc.Close}, nil
		},
	}
}

type server interface {
	Serve(net.Listener) error
	Stop()
}

func serve(lis net.Listener, s server) (stop func()) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = s.Serve(lis) // its error can only be that of stopping: lis is ours
	}()
	return func() {
		s.Stop()
		<-done
	}
}
