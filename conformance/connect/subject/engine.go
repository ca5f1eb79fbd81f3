// SPDX-License-Identifier: Apache-2.0

package subject

import (
	"fmt"
	"net"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"

	"github.com/faultline-rpc/faultline"
)

// Server is the part of an engine's server that the subject uses.
type Server interface {
	grpc.ServiceRegistrar
	Serve(net.Listener) error
	Stop()
}

// Conn is a client of one target.
type Conn interface {
	grpc.ClientConnInterface
	Close() error
}

// Engine is a gRPC implementation under test.
type Engine struct {
	// NewServer makes a server; maxRecv bounds request messages in bytes, 0
	// being the engine's default.
	NewServer func(creds credentials.TransportCredentials, maxRecv int) Server
	// Dial makes a client.
	Dial func(target string, creds credentials.TransportCredentials) (Conn, error)
}

// EngineByName returns faultline or grpc-go, each with its defaults.
func EngineByName(name string) (Engine, error) {
	switch name {
	case "faultline":
		return Engine{
			NewServer: func(creds credentials.TransportCredentials, maxRecv int) Server {
				opts := []faultline.ServerOption{faultline.Creds(creds)}
				if maxRecv > 0 {
					opts = append(opts, faultline.MaxRecvMsgSize(maxRecv))
				}
				return faultline.NewServer(opts...)
			},
			Dial: func(target string, creds credentials.TransportCredentials) (Conn, error) {
				return faultline.NewClient(target, faultline.WithTransportCredentials(creds))
			},
		}, nil
	case "grpc-go":
		return Engine{
			NewServer: func(creds credentials.TransportCredentials, maxRecv int) Server {
				opts := []grpc.ServerOption{grpc.Creds(creds)}
				if maxRecv > 0 {
					opts = append(opts, grpc.MaxRecvMsgSize(maxRecv))
				}
				return grpc.NewServer(opts...)
			},
			Dial: func(target string, creds credentials.TransportCredentials) (Conn, error) {
				return grpc.NewClient(target, grpc.WithTransportCredentials(creds))
			},
		}, nil
	}
	return Engine{}, fmt.Errorf("there is no engine %q: choose faultline or grpc-go", name)
}
