// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"encoding/json"
	"strings"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	testpb "google.golang.org/grpc/interop/grpc_testing"

	"github.com/faultline-rpc/faultline"
)

// TestTrailOfACall: a call that failed two services further on shows the way,
// to whom the server trusts.
func TestTrailOfACall(t *testing.T) {
	inner := testServer(t, loopback(t), false, faultline.TrustedPeers(faultline.LocalPeer))
	cc, err := faultline.NewClient(inner, faultline.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cc.Close() })
	ask := func(ctx context.Context, req any, info *grpc.UnaryServerInfo, _ grpc.UnaryHandler) (any, error) {
		out := new(testpb.SimpleResponse)
		return out, cc.Invoke(ctx, info.FullMethod, req, out)
	}
	for name, tc := range map[string]struct {
		opts []faultline.ServerOption
		id   string
		hops []string
	}{
		"trusted":   {[]faultline.ServerOption{faultline.TrustedPeers(faultline.LocalPeer)}, "handler.upstream", []string{"handler.upstream", "handler.status"}},
		"untrusted": {nil, "handler.status", nil},
	} {
		addr := testServer(t, loopback(t), true, append(tc.opts, faultline.ChainUnaryInterceptor(ask))...)
		args := []string{"call", "--plaintext", addr, service + "/UnaryCall", "-d", `{"response_status":{"code":8,"message":"no more"}}`}
		o := command(t, "", append(args, "--json")...)
		var got struct {
			Error struct {
				ID, Code, Message string
				Trail             []struct{ Service, Method, ID, Layer, Code, Address string }
			}
		}
		if err := json.Unmarshal([]byte(o.stdout), &got); err != nil || o.status != 64+int(codes.ResourceExhausted) {
			t.Fatalf("%s: %v, status %d, %s", name, err, o.status, o.stdout)
		}
		e := got.Error
		if e.ID != tc.id || e.Code != "RESOURCE_EXHAUSTED" || e.Message != "no more" || len(e.Trail) != len(tc.hops) {
			t.Fatalf("%s: %s", name, o.stdout)
		}
		for i, h := range e.Trail {
			if h.ID != tc.hops[i] || h.Service != service || h.Method != "UnaryCall" || h.Layer != "handler" || h.Code != e.Code || h.Address != []string{addr, inner}[i] {
				t.Errorf("%s: hop %d: %+v", name, i, h)
			}
		}
		if o = command(t, "", args...); strings.Contains(o.stderr, "trail         1: "+service+"/UnaryCall: handler.upstream") != (tc.hops != nil) {
			t.Errorf("%s: %s", name, o.stderr)
		}
		if strings.Contains(o.stderr, inner) != (tc.hops != nil) {
			t.Errorf("%s: the inner address in %s", name, o.stderr)
		}
	}
}
