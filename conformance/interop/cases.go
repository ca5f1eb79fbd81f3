// SPDX-License-Identifier: Apache-2.0

package interop

import (
	"context"
	"fmt"
	"os"
	"time"

	"google.golang.org/grpc"
	_ "google.golang.org/grpc/encoding/gzip" // for the gzip variants, on both engines
	"google.golang.org/grpc/interop"
	testgrpc "google.golang.org/grpc/interop/grpc_testing"
)

// env is what a case works with.
type env struct {
	ctx    context.Context
	target string
	client Client
	dial   func() (Client, error)
}

func (e env) stub() testgrpc.TestServiceClient { return testgrpc.NewTestServiceClient(e.client.Conn) }

// Case is one official interop case. A failure panics, see guard.
type Case struct {
	Name string
	run  func(env)
}

// stubCase is a case that needs no more than the stub.
func stubCase(name string, do func(context.Context, testgrpc.TestServiceClient, ...grpc.CallOption), opts ...grpc.CallOption) Case {
	return Case{name, func(e env) { do(e.ctx, e.stub(), opts...) }}
}

// Cases returns every case under the name that the description of the interop
// tests gives it (grpc/grpc doc/interop-test-descriptions.md). A suffix says
// which call option was added.
func Cases() []Case {
	gzip := grpc.UseCompressor("gzip")
	patient := grpc.WaitForReady(true)
	return []Case{
		stubCase("empty_unary", interop.DoEmptyUnaryCall),
		stubCase("large_unary", interop.DoLargeUnaryCall),
		stubCase("client_streaming", interop.DoClientStreaming),
		stubCase("server_streaming", interop.DoServerStreaming),
		stubCase("ping_pong", interop.DoPingPong),
		stubCase("empty_stream", interop.DoEmptyStream),
		stubCase("timeout_on_sleeping_server", interop.DoTimeoutOnSleepingServer),
		stubCase("cancel_after_begin", interop.DoCancelAfterBegin),
		stubCase("cancel_after_first_response", interop.DoCancelAfterFirstResponse),
		stubCase("custom_metadata", interop.DoCustomMetadata),
		stubCase("status_code_and_message", interop.DoStatusCodeAndMessage),
		stubCase("special_status_message", interop.DoSpecialStatusMessage),
		{"unimplemented_method", func(e env) { interop.DoUnimplementedMethod(e.ctx, e.client.Concrete) }},
		{"unimplemented_service", func(e env) {
			interop.DoUnimplementedService(e.ctx, testgrpc.NewUnimplementedServiceClient(e.client.Conn))
		}},
		{"pick_first_unary", func(e env) { interop.DoPickFirstUnary(e.ctx, e.stub()) }},
		{"rpc_soak", rpcSoak},
		{"channel_soak", channelSoak},
		stubCase("empty_unary+wait_for_ready", interop.DoEmptyUnaryCall, patient),
		stubCase("large_unary+gzip", interop.DoLargeUnaryCall, gzip),
		stubCase("client_streaming+gzip", interop.DoClientStreaming, gzip),
		stubCase("server_streaming+gzip", interop.DoServerStreaming, gzip),
		stubCase("ping_pong+gzip", interop.DoPingPong, gzip),
		stubCase("custom_metadata+gzip", interop.DoCustomMetadata, gzip),
	}
}

// soak is the shape of both soak cases: their defaults, and few iterations.
// What they print for each iteration becomes part of the failure.
func soak(e env, workers int, channel func() (*grpc.ClientConn, func())) {
	said, err := os.CreateTemp("", "soak")
	if err != nil {
		panic(failure(err.Error()))
	}
	// DoSoakTest has no other way to be quiet than this. Cases run one by one.
	stderr := os.Stderr
	os.Stderr = said
	defer func() {
		os.Stderr = stderr
		text, _ := os.ReadFile(said.Name())
		_ = said.Close()
		_ = os.Remove(said.Name())
		if r := recover(); r != nil {
			panic(failure(fmt.Sprintf("%v\n%s", r, text)))
		}
	}()
	interop.DoSoakTest(e.ctx, interop.SoakTestConfig{
		RequestSize:                      271828,
		ResponseSize:                     314159,
		PerIterationMaxAcceptableLatency: 5 * time.Second,
		OverallTimeout:                   20 * time.Second,
		ServerAddr:                       e.target,
		NumWorkers:                       workers,
		Iterations:                       20,
		ChannelForTest:                   channel,
	})
}

func rpcSoak(e env) {
	soak(e, 4, func() (*grpc.ClientConn, func()) { return e.client.Concrete, func() {} })
}

// channelSoak makes a connection per iteration. It has one worker: the panic
// of a failed dial is recovered on the case's own goroutine only, so the
// connections are made here, before the soak begins.
func channelSoak(e env) {
	var ready []Client
	for range 21 { // DoSoakTest asks for one more than it has iterations
		c, err := e.dial()
		if err != nil {
			panic(failure(err.Error()))
		}
		ready = append(ready, c)
	}
	next := 0
	soak(e, 1, func() (*grpc.ClientConn, func()) {
		c := ready[next]
		next++
		return c.Concrete, func() { _ = c.Close() }
	})
}
