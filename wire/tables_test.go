// SPDX-License-Identifier: Apache-2.0

package wire

import (
	"testing"

	"google.golang.org/grpc/codes"

	"github.com/faultline-rpc/faultline/fault"
	"github.com/faultline-rpc/faultline/h2"
)

// allowed reports whether the catalogue lets e carry the code: a table that
// disagrees with it would silently get the default instead.
func allowed(e *fault.Entry, code codes.Code) bool {
	return e.New(fault.Args{Code: code}).Code() == code
}

func TestForReset(t *testing.T) {
	for _, c := range []struct {
		code h2.Code
		id   fault.ID
		want codes.Code
	}{
		{0x0, "http2.rst-other", codes.Internal},
		{0x1, "http2.rst-other", codes.Internal},
		{0x2, "http2.rst-other", codes.Internal},
		{0x3, "http2.rst-other", codes.Internal}, // FLOW_CONTROL_ERROR; grpc-go: RESOURCE_EXHAUSTED
		{0x4, "http2.rst-other", codes.Internal},
		{0x5, "http2.rst-other", codes.Internal},
		{0x6, "http2.rst-other", codes.Internal},
		{0x7, "http2.refused-stream", codes.Unavailable},
		{0x8, "http2.rst-cancel", codes.Canceled},
		{0x9, "http2.rst-other", codes.Internal},
		{0xa, "http2.rst-other", codes.Internal},
		{0xb, "http2.rst-calm", codes.ResourceExhausted},
		{0xc, "http2.rst-inadequate-security", codes.PermissionDenied},
		{0xd, "http2.rst-other", codes.Internal},
		{0xe, "http2.rst-other", codes.Unknown},
		{0xffffffff, "http2.rst-other", codes.Unknown},
	} {
		e, code := ForReset(c.code)
		if e.ID != c.id || code != c.want || !allowed(e, code) {
			t.Errorf("ForReset(%v) = %s, %v (allowed: %v), want %s, %v", c.code, e.ID, code, allowed(e, code), c.id, c.want)
		}
	}
}

func TestForHTTP(t *testing.T) {
	want := map[int]codes.Code{400: codes.Internal, 401: codes.Unauthenticated, 403: codes.PermissionDenied, 404: codes.Unimplemented,
		429: codes.Unavailable, 502: codes.Unavailable, 503: codes.Unavailable, 504: codes.Unavailable}
	for status := 0; status < 1000; status++ {
		id, code := fault.ID("wire.http-status"), codes.Unknown
		if c, ok := want[status]; ok {
			code = c
		}
		if status == 200 {
			id = "wire.content-type"
		}
		if e, got := ForHTTP(status); e.ID != id || got != code || !allowed(e, got) {
			t.Errorf("ForHTTP(%d) = %s, %v, want %s, %v", status, e.ID, got, id, code)
		}
	}
}
