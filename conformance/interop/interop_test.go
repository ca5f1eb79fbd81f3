// SPDX-License-Identifier: Apache-2.0

package interop_test

import (
	"net"
	"strings"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"

	"github.com/faultline-rpc/faultline/conformance"
	"github.com/faultline-rpc/faultline/conformance/interop"
	"github.com/faultline-rpc/faultline/conformance/known"
)

// TestPairings holds every pairing against the list of known failures.
func TestPairings(t *testing.T) {
	list, err := conformance.KnownFailing("interop")
	if err != nil {
		t.Fatal(err)
	}
	var all []known.Result
	for _, p := range interop.Pairings() {
		rs, err := p.Run(t.Context())
		if err != nil {
			t.Fatalf("%s: %v", p.Name, err)
		}
		t.Logf("interop %s: %d of %d", p.Name, known.Passed(rs), len(rs))
		all = append(all, rs...)
	}
	for _, d := range list.Compare(all) {
		t.Error(d)
	}
}

// TestBaseline proves that the cases themselves are sound.
func TestBaseline(t *testing.T) {
	rs, err := interop.Baseline().Run(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if want := 2 * len(interop.Cases()); len(rs) != want {
		t.Errorf("%d results, want %d: each case over cleartext and TLS", len(rs), want)
	}
	for _, d := range (known.List{}).Compare(rs) {
		t.Error(d)
	}
}

// TestFailureIsReported runs the cases against a server that registers
// nothing: what must fail does, and the process lives on.
func TestFailureIsReported(t *testing.T) {
	empty := interop.GRPCGo()
	serve := empty.Serve
	empty.Serve = func(lis net.Listener, creds credentials.TransportCredentials, _ func(grpc.ServiceRegistrar)) func() {
		return serve(lis, creds, func(grpc.ServiceRegistrar) {})
	}
	rs, err := interop.Pairing{Name: "empty", Client: interop.GRPCGo(), Server: empty}.Run(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	// These hold without any service; timeout_on_sleeping_server may go either
	// way, as the refusal can come within its one millisecond.
	indifferent := func(name string) bool {
		return strings.HasSuffix(name, "unimplemented_method") || strings.HasSuffix(name, "unimplemented_service") ||
			strings.HasSuffix(name, "cancel_after_begin") || strings.HasSuffix(name, "timeout_on_sleeping_server")
	}
	for _, r := range rs {
		if r.Err == nil && !indifferent(r.Name) {
			t.Errorf("%s passes against a server without services", r.Name)
		}
		if strings.HasSuffix(r.Name, "rpc_soak") && (r.Err == nil || !strings.Contains(r.Err.Error(), "unknown service")) {
			t.Errorf("%s: %v, want what its iterations said", r.Name, r.Err)
		}
	}
}
