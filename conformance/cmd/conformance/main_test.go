// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/faultline-rpc/faultline/conformance/known"
)

func TestWrongUse(t *testing.T) {
	for _, tc := range []struct {
		args []string
		want string
	}{
		{[]string{"-suite", "grpc"}, `no suite "grpc": choose interop, connect, h2spec or all`},
		{[]string{"h2spec"}, `"h2spec" is not understood`},
		{[]string{"-nope"}, "-nope"},
	} {
		var out, errOut strings.Builder
		if code := run(t.Context(), tc.args, &out, &errOut); code != 2 || !strings.Contains(errOut.String(), tc.want) || out.Len() > 0 {
			t.Errorf("run(%q) = %d, %q; want 2 and %q", tc.args, code, errOut.String(), tc.want)
		}
	}
}

func TestReport(t *testing.T) {
	good := known.Result{Name: "client/tls/empty_unary"}
	bad := known.Result{Name: "client/tls/ping_pong", Err: errors.New("boom")}
	var out strings.Builder
	if !report(&out, []group{{"interop", "interop client", []known.Result{good}}}, false, true, time.Second) {
		t.Errorf("report of a good run = false: %s", out.String())
	}
	if want := "ok   client/tls/empty_unary\ninterop took 1.0 s\ninterop client: 1 of 1\n"; out.String() != want {
		t.Errorf("report = %q, want %q", out.String(), want)
	}
	out.Reset()
	if !report(&out, []group{{"interop", "wide", []known.Result{good}}, {"", "narrow", []known.Result{good}}}, false, false, time.Second) {
		t.Errorf("report of a part counted again = false: %s", out.String())
	}
	if want := "interop took 1.0 s\nwide: 1 of 1\nnarrow: 1 of 1\n"; out.String() != want {
		t.Errorf("report = %q, want %q", out.String(), want)
	}
	out.Reset()
	if report(&out, []group{{"interop", "interop client", []known.Result{good, bad}}}, false, false, time.Second) {
		t.Error("report of an unlisted failure = true")
	}
	if !strings.Contains(out.String(), "client/tls/ping_pong fails: boom\n") || !strings.HasSuffix(out.String(), "interop client: 1 of 2\n") {
		t.Errorf("report = %q, want the failure and 1 of 2", out.String())
	}
}
