// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	pb "google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

func TestCheckPayload(t *testing.T) {
	damaged := newPayload(10)
	damaged.Body[9] = 0
	for _, c := range []struct {
		name string
		p    *pb.Payload
		size int
		want string
	}{
		{"none", nil, 0, ""},
		{"whole", newPayload(10), 10, ""},
		{"short", newPayload(9), 10, "payload of 9 bytes, want 10"},
		{"missing", nil, 10, "payload of 0 bytes, want 10"},
		{"damaged", damaged, 10, "is damaged"},
	} {
		err := checkPayload(c.p, c.size)
		if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", c.name, err, c.want)
		}
	}
}

func TestServiceRefusesWhatIsNotTheWorkload(t *testing.T) {
	md := metadata.Pairs(tokenKey, tokenValue, tenantKey, tenantValue, requestKey, "1")
	wrong := md.Copy()
	wrong.Set(tenantKey, "other")
	deadline, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for _, c := range []struct {
		name string
		ctx  context.Context
		size int
		want string
	}{
		{"as it should be", metadata.NewIncomingContext(deadline, md), 4, ""},
		{"wrong size", metadata.NewIncomingContext(deadline, md), 5, "payload of 5 bytes, want 4"},
		{"no deadline", metadata.NewIncomingContext(t.Context(), md), 4, "no deadline"},
		{"no metadata", deadline, 4, "metadata x-bench-"},
		{"wrong metadata", metadata.NewIncomingContext(deadline, wrong), 4, `metadata x-bench-tenant is ["other"]`},
	} {
		s := newService(workload{size: 4, metadata: true})
		_, err := s.UnaryCall(c.ctx, &pb.SimpleRequest{Payload: newPayload(c.size)})
		if c.want == "" {
			if err != nil {
				t.Errorf("%s: %v", c.name, err)
			}
			continue
		}
		if status.Code(err) != codes.InvalidArgument || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want InvalidArgument with %q", c.name, err, c.want)
		}
	}
}
