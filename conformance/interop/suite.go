// SPDX-License-Identifier: Apache-2.0

package interop

import (
	"context"
	"fmt"
	"net"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/interop"
	testgrpc "google.golang.org/grpc/interop/grpc_testing"

	"github.com/faultline-rpc/faultline/conformance/known"
)

// caseLimit bounds one case: a hang is a failure, and the next case runs.
const caseLimit = 30 * time.Second

// Pairing is a client engine against a server engine.
type Pairing struct {
	Name           string
	Client, Server Engine
}

// Pairings returns our engine in both directions and on both ends. Baseline is
// apart: it measures the cases, not us.
func Pairings() []Pairing {
	return []Pairing{
		{"client", Faultline(), GRPCGo()},
		{"server", GRPCGo(), Faultline()},
		{"self", Faultline(), Faultline()},
	}
}

// Baseline returns grpc-go against itself.
func Baseline() Pairing { return Pairing{"baseline", GRPCGo(), GRPCGo()} }

// Run runs every case over each security, one after the other, each on a
// client of its own. The error is that of setting up.
func (p Pairing) Run(ctx context.Context) ([]known.Result, error) {
	overTLS, err := TLS()
	if err != nil {
		return nil, err
	}
	var out []known.Result
	for _, sec := range []Security{Cleartext(), overTLS} {
		rs, err := p.runOver(ctx, sec)
		if err != nil {
			return nil, err
		}
		out = append(out, rs...)
	}
	return out, nil
}

func (p Pairing) runOver(ctx context.Context, sec Security) ([]known.Result, error) {
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("interop: no port to listen on: %w", err)
	}
	target := lis.Addr().String()
	stop := p.Server.Serve(lis, sec.Server, func(r grpc.ServiceRegistrar) {
		testgrpc.RegisterTestServiceServer(r, named{interop.NewTestServer()})
	})
	defer stop()
	var out []known.Result
	for _, c := range Cases() {
		err := p.runCase(ctx, c, target, sec)
		out = append(out, known.Result{Name: p.Name + "/" + sec.Name + "/" + c.Name, Err: err})
	}
	return out, nil
}

func (p Pairing) runCase(ctx context.Context, c Case, target string, sec Security) error {
	ctx, cancel := context.WithTimeout(ctx, caseLimit)
	defer cancel()
	dial := func() (Client, error) { return p.Client.Dial(target, sec.Client) }
	client, err := dial()
	if err != nil {
		return fmt.Errorf("no client of %s: %w", target, err)
	}
	defer func() { _ = client.Close() }()
	done := make(chan error, 1)
	go func() {
		done <- guard(func() { c.run(env{ctx: ctx, target: target, client: client, dial: dial}) })
	}()
	hang := time.NewTimer(caseLimit + 5*time.Second) // ctx ends first: a case that honors it fails by itself
	defer hang.Stop()
	select {
	case err := <-done:
		return err
	case <-hang.C:
		return fmt.Errorf("still running after %s, although its context has ended", caseLimit+5*time.Second)
	}
}

// named fills in the server id that pick_first_unary asks for, which the
// official test server leaves empty.
type named struct{ testgrpc.TestServiceServer }

func (s named) UnaryCall(ctx context.Context, in *testgrpc.SimpleRequest) (*testgrpc.SimpleResponse, error) {
	out, err := s.TestServiceServer.UnaryCall(ctx, in)
	if err == nil && in.GetFillServerId() {
		out.ServerId = "conformance"
	}
	return out, err
}
