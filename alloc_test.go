// SPDX-License-Identifier: Apache-2.0

//go:build !race

package faultline_test

import (
	"context"
	"io"
	"log/slog"
	"testing"

	testgrpc "google.golang.org/grpc/interop/grpc_testing"

	"github.com/faultline-rpc/faultline"
)

// maxAllocs is what a unary call may allocate, client and server together.
// grpc-go v1.85 needs 129.
const maxAllocs = 18

func TestAllocationsPerCall(t *testing.T) {
	t.Run("without a log", func(t *testing.T) { allocations(t, nil, nil) })
	t.Run("with a log for failures", func(t *testing.T) {
		log := slog.New(slog.NewTextHandler(io.Discard, nil))
		allocations(t, []faultline.ServerOption{faultline.Logger(log)}, []faultline.DialOption{faultline.WithLogger(log)})
	})
}

func allocations(t *testing.T, so []faultline.ServerOption, do []faultline.DialOption) {
	l := listen(t)
	serve(t, l, &service{}, so...)
	c := testgrpc.NewTestServiceClient(dial(t, l.Addr().String(), do...))
	ctx := context.Background()
	in := &testgrpc.Empty{}
	call := func() {
		if _, err := c.EmptyCall(ctx, in); err != nil {
			t.Fatal(err)
		}
	}
	for range 1000 {
		call()
	}
	n := testing.AllocsPerRun(2000, call)
	t.Logf("%.1f allocations", n)
	if n > maxAllocs {
		t.Errorf("a unary call makes %.1f allocations, want at most %d", n, maxAllocs)
	}
}
