// SPDX-License-Identifier: Apache-2.0

package main

import (
	"io"
	"strings"
	"testing"
)

func TestRun(t *testing.T) {
	for _, tc := range []struct {
		args []string
		in   string
		code int
		want string
	}{
		{[]string{"-nope"}, "", 2, "-nope"},
		{[]string{"grpc-go"}, "", 2, "\"grpc-go\" is not understood"},
		{[]string{"-engine", "x"}, "", 1, "choose faultline or grpc-go"},
		{nil, "\x00\x00\x00\x09x", 1, "unexpected EOF"},
	} {
		var errOut strings.Builder
		code := run(t.Context(), tc.args, strings.NewReader(tc.in), io.Discard, &errOut)
		if code != tc.code || !strings.Contains(errOut.String(), tc.want) {
			t.Errorf("run(%q, %q) = %d, %q; want %d, %q", tc.args, tc.in, code, errOut.String(), tc.code, tc.want)
		}
	}
}
