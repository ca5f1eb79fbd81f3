// SPDX-License-Identifier: Apache-2.0

package fault

import (
	"strings"
	"testing"

	"google.golang.org/grpc/codes"
)

// TestRemedy: what the evidence tells comes first, and a remedy is short enough
// to be read.
func TestRemedy(t *testing.T) {
	const most = 400
	check := func(f *Fault, want string) {
		t.Helper()
		if got := f.Remedy(); !strings.Contains(got, want) || len(got) > most {
			t.Errorf("%v: the remedy is %q (%d bytes), want %q in it and at most %d", f, got, len(got), want, most)
		}
	}
	for c := codes.Canceled; c <= codes.Unauthenticated; c++ {
		check(HandlerStatus.New(Args{Code: c}), statusRemedy[c])
		if statusRemedy[c] == "" {
			t.Errorf("nothing is known to do about %v", c)
		}
	}
	for status, want := range httpRemedy {
		check(WireHTTPStatus.New(Args{Evidence: &Evidence{HTTPStatus: status}}), want)
	}
	for code, want := range resetRemedy {
		check(HTTP2RSTOther.New(Args{Evidence: &Evidence{HTTP2Code: code}}), want)
	}
	for code, want := range goAwayRemedy {
		check(HTTP2GoAwayError.New(Args{Evidence: &Evidence{HTTP2Code: code}}), want)
	}
	check(HTTP2GoAwayError.New(Args{Evidence: &Evidence{HTTP2Code: "FRAME_SIZE_ERROR"}}), resetRemedy["FRAME_SIZE_ERROR"])
	check(HTTP2GoAwayError.New(Args{Evidence: &Evidence{HTTP2Code: "0xbeef"}}), HTTP2GoAwayError.Remedy)
	check(DialRefused.New(Args{Evidence: &Evidence{Network: "unix"}}), "start the server, or correct the path")
	check(DialRefused.New(Args{Evidence: &Evidence{Network: "tcp"}}), DialRefused.Remedy)
	for _, c := range contentRemedy {
		check(WireContentType.New(Args{Evidence: &Evidence{Content: c.prefix + "+x"}}), c.text)
	}
	check(WireContentType.New(Args{Evidence: &Evidence{HTTPStatus: 200}}), "An empty page answered, not a gRPC server")
	for _, e := range Catalogue() {
		check(e.New(Args{Evidence: &Evidence{HTTPStatus: 418, Content: "image/png", HTTP2Code: "INTERNAL_ERROR"}}), "")
	}
	check(WireHTTPStatus.New(Args{Evidence: &Evidence{HTTPStatus: 418}}), WireHTTPStatus.Remedy)
	check(HandlerStatus.New(Args{Code: 42}), "none of gRPC's codes (0 to 16)")
	for code, want := range keptOutRemedy {
		check(HTTP2GoAway.New(Args{Evidence: &Evidence{HTTP2Code: code}}), want)
	}
	check(HTTP2GoAway.New(Args{Evidence: &Evidence{HTTP2Code: "NO_ERROR"}}), HTTP2GoAway.Remedy)
	check(HandlerStatus.New(Args{Code: codes.Internal}).WithRemedy("this"), "this")
}
