// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

	"google.golang.org/grpc"
	testpb "google.golang.org/grpc/interop/grpc_testing"

	"github.com/faultline-rpc/faultline/internal/peer"
)

// TestUnimplementedByOthers: a server of another make, without reflection, says
// UNIMPLEMENTED, and call says what is missing.
func TestUnimplementedByOthers(t *testing.T) {
	s := grpc.NewServer()
	testpb.RegisterTestServiceServer(s, testpb.UnimplementedTestServiceServer{})
	lis := loopback(t)
	done := make(chan struct{})
	go func() { defer close(done); _ = s.Serve(lis) }()
	t.Cleanup(func() { s.Stop(); <-done })
	asked := make(chan string, 8)
	mute, err := peer.Listen("127.0.0.1:0", peer.Each(func(p *peer.Peer, stream uint32) error { // whatever it is asked
		asked <- ""
		return peer.TrailersOnly(12, "not by this one")(p, stream)
	}))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { mute.Close() })
	proto := filepath.Join(t.TempDir(), "stub.proto")
	if err := os.WriteFile(proto, []byte(`syntax = "proto3"; package grpc.testing; message E {} service TestService { rpc Newer(E) returns (E); rpc EmptyCall(E) returns (E); }`), 0o644); err != nil {
		t.Fatal(err)
	}
	addr := lis.Addr().String()
	for _, tc := range []struct {
		id   string
		args []string
	}{
		{"handler.unknown-service", []string{addr, "no.Such/Method"}},
		{"handler.unknown-method", []string{addr, "grpc.testing.TestService/Nobody"}},
		{"handler.status", []string{addr, "grpc.testing.TestService/EmptyCall"}},
		{"handler.unknown-method", []string{addr, "grpc.testing.TestService/Newer", "--proto", proto}},
		{"handler.status", []string{addr, "grpc.testing.TestService/EmptyCall", "--proto", proto}},
		{"handler.unknown-service", []string{mute.Addr(), "grpc.testing.TestService/EmptyCall"}},
	} {
		o := command(t, "", append([]string{"call", "--plaintext", "--json"}, tc.args...)...)
		var f failure
		if err := json.Unmarshal([]byte(o.stdout), &f); err != nil || o.status != 76 || f.Error.ID != tc.id || f.Error.Code != "UNIMPLEMENTED" || f.Error.Side != "remote" || f.Error.Processed != "maybe" {
			t.Errorf("%q: status %d, %s, want %s, processed maybe", tc.args, o.status, o.stdout, tc.id)
		}
	}
	if n := len(asked); n > 4 { // reflection twice, the call, and one that compares
		t.Errorf("the server was asked %d times", n)
	}
}
