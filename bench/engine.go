// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"net"

	pb "google.golang.org/grpc/interop/grpc_testing"
)

// Names of the engines.
const (
	engineFaultline = "faultline"
	enginePolicies  = "faultline-policies"
	engineGRPC      = "grpc-go"
	engineWindows   = "grpc-go-win"
	engineConnect   = "connect-go"
	engineEcho      = "echo"
)

// Windows of engineWindows: those that Faultline's engine announces.
const (
	streamWindow = 4 << 20
	connWindow   = 8 << 20
)

// An engine can serve the benchmark service and call it.
type engine struct {
	name  string
	serve func(l net.Listener, svc *service) error // blocks; ends with its process or when l is closed
	dial  func(addr string) (client, error)
}

// A client is one connection to the service. Its methods may be called concurrently.
type client interface {
	// caller returns what one caller uses for its calls, one after the other.
	caller() func(context.Context, *pb.SimpleRequest) (*pb.SimpleResponse, error)
	both(ctx context.Context) (exchange, error)
	down(ctx context.Context, in *pb.SimpleRequest) (receiver, error)
	up(ctx context.Context) (sender, error)
	close() error
}

// An exchange is a bidirectional stream.
type exchange interface {
	Send(*pb.SimpleRequest) error
	Recv() (*pb.SimpleResponse, error)
	CloseSend() error
}

// A receiver is the client's end of a server stream.
type receiver interface {
	Recv() (*pb.SimpleResponse, error)
}

// A sender is the client's end of a client stream.
type sender interface {
	Send(*pb.SimpleRequest) error
	CloseAndRecv() (*pb.SimpleResponse, error)
}

// engines lists the engines of this build.
func engines() []engine {
	all := []engine{grpcEngine(), windowsEngine(), connectEngine(), echoEngine()}
	return append(all, faultlineEngines()...)
}

// findEngine returns the engine called name.
func findEngine(name string) (engine, error) {
	for _, e := range engines() {
		if e.name == name {
			return e, nil
		}
	}
	return engine{}, fmt.Errorf("no engine %q in this build", name)
}

// hasEngine tells whether this build has the engine called name.
func hasEngine(name string) bool {
	_, err := findEngine(name)
	return err == nil
}
