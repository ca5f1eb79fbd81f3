// SPDX-License-Identifier: Apache-2.0

package faultline_test

import (
	"context"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	testgrpc "google.golang.org/grpc/interop/grpc_testing"

	"github.com/faultline-rpc/faultline"
	"github.com/faultline-rpc/faultline/fault"
	"github.com/faultline-rpc/faultline/status"
)

func TestServiceConfigOfAClient(t *testing.T) {
	l := listen(t)
	var calls atomic.Int32
	serve(t, l, &service{unary: func(context.Context, *testgrpc.SimpleRequest) (*testgrpc.SimpleResponse, error) {
		if calls.Add(1)%3 != 0 {
			return nil, status.Error(codes.Unavailable, "not yet")
		}
		return &testgrpc.SimpleResponse{}, nil
	}})
	config := `{"methodConfig": [{"name": [{"service": "grpc.testing.TestService"}], "timeout": "10s",
		"retryPolicy": {"maxAttempts": 3, "initialBackoff": "0.001s", "maxBackoff": "0.01s", "backoffMultiplier": 2, "retryableStatusCodes": ["UNAVAILABLE"]}}]}`
	cc := dial(t, l.Addr().String(), faultline.WithDefaultServiceConfig(config))
	if _, err := testgrpc.NewTestServiceClient(cc).UnaryCall(timeout(t), &testgrpc.SimpleRequest{}); err != nil || calls.Load() != 3 {
		t.Errorf("after %d calls of the handler: %v", calls.Load(), err)
	}
	if mc := cc.GetMethodConfig(testgrpc.TestService_UnaryCall_FullMethodName); mc.Timeout == nil || *mc.Timeout != 10*time.Second {
		t.Errorf("method config %+v", mc)
	}
	once := dial(t, l.Addr().String(), faultline.WithDefaultServiceConfig(config), faultline.WithDisableRetry())
	if _, err := testgrpc.NewTestServiceClient(once).UnaryCall(timeout(t), &testgrpc.SimpleRequest{}); status.Code(err) != codes.Unavailable || calls.Load() != 4 {
		t.Errorf("without retries, after %d calls of the handler: %v", calls.Load(), err)
	}
}

func TestHealthOfAServer(t *testing.T) {
	l := listen(t)
	s := faultline.NewServer()
	testgrpc.RegisterTestServiceServer(s, &service{})
	h := health.NewServer()
	h.SetServingStatus("orders", healthpb.HealthCheckResponse_NOT_SERVING)
	healthpb.RegisterHealthServer(s, h)
	done := make(chan error, 1)
	go func() { done <- s.Serve(l) }()
	t.Cleanup(func() {
		s.Stop()
		<-done
	})
	config := `{"loadBalancingConfig": [{"round_robin": {}}], "healthCheckConfig": {"serviceName": "orders"}}`
	call := func(cc *faultline.ClientConn) error {
		_, err := testgrpc.NewTestServiceClient(cc).EmptyCall(timeout(t), &testgrpc.Empty{})
		return err
	}
	cc := dial(t, l.Addr().String(), faultline.WithDefaultServiceConfig(config))
	err := call(cc)
	if f, ok := fault.From(err); !ok || f.Entry() != fault.PickUnhealthy || f.Code() != codes.Unavailable || f.Processed() != fault.No || f.Side() != fault.Remote {
		t.Errorf("a call to a server that is not serving: %+v", err)
	}
	if err := call(dial(t, l.Addr().String(), faultline.WithDefaultServiceConfig(config), faultline.WithDisableHealthCheck())); err != nil {
		t.Errorf("without health checks: %v", err)
	}
	h.SetServingStatus("orders", healthpb.HealthCheckResponse_SERVING)
	ctx := timeout(t)
	for err := call(cc); err != nil; err = call(cc) {
		if !fault.PickUnhealthy.Is(err) || ctx.Err() != nil {
			t.Fatalf("after the server began to serve: %v", err)
		}
		cc.WaitForStateChange(ctx, cc.GetState())
	}
}

func TestCloseEndsForgottenStreams(t *testing.T) {
	l := listen(t)
	serve(t, l, &service{})
	cc := dial(t, l.Addr().String())
	ended := make(chan error, 1)
	st, err := testgrpc.NewTestServiceClient(cc).FullDuplexCall(context.Background(), grpc.OnFinish(func(err error) { ended <- err }))
	if err != nil {
		t.Fatal(err)
	}
	_ = cc.Close()
	select {
	case err := <-ended:
		if !fault.CallClosed.Is(err) {
			t.Errorf("the stream ended with %v", err)
		}
	case <-timeout(t).Done():
		t.Fatal("the stream outlives its client")
	}
	if _, err := st.Recv(); !fault.CallClosed.Is(err) {
		t.Errorf("Recv: %v", err)
	}
}
