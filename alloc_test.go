// SPDX-License-Identifier: Apache-2.0

//go:build !race

package faultline_test

import (
	"context"
	"testing"

	testgrpc "google.golang.org/grpc/interop/grpc_testing"
)

// maxAllocs is what a unary call may allocate, client and server together.
// grpc-go v1.85 needs 129.
const maxAllocs = 18

func TestAllocationsPerCall(t *testing.T) {
	l := listen(t)
	serve(t, l, &service{})
	c := testgrpc.NewTestServiceClient(dial(t, l.Addr().String()))
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
