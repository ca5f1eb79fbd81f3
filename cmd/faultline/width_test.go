// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/faultline-rpc/faultline/doctor"
	"github.com/faultline-rpc/faultline/fault"
)

// TestFold breaks a ladder where words end, beneath what they belong to.
func TestFold(t *testing.T) {
	const ladder = "rpc error: code = Unavailable desc = dial.refused: nothing listens at the address: dial tcp 127.0.0.1:1\n" +
		"  circumstance  dial.refused: nothing listens at the address\n" +
		"  evidence      target: 127.0.0.1:1\n" +
		"                method: /some.long.pkg.name.Service/AndAMethodThatIsLongToo\n" +
		"  remedy        Check the port and that the server is up (ss -ltnp on its machine).\n"
	const want = "rpc error: code = Unavailable desc = dial.refused: nothing\n" +
		"listens at the address: dial tcp 127.0.0.1:1\n" +
		"  circumstance  dial.refused: nothing listens at the address\n" +
		"  evidence      target: 127.0.0.1:1\n" +
		"                method:\n" +
		"                /some.long.pkg.name.Service/AndAMethodThatIs\n" +
		"                LongToo\n" +
		"  remedy        Check the port and that the server is up (ss\n" +
		"                -ltnp on its machine).\n"
	if got := fold(ladder, 60); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	const address = "  spec          https://github.com/grpc/grpc/blob/master/doc/connection-backoff.md\n"
	if got := fold(address, 60); got != address {
		t.Errorf("an address is in pieces: %s", got)
	}
	if got := fold(ladder, 200); got != ladder {
		t.Errorf("a wide terminal: got\n%s", got)
	}
}

// TestWidths prints pictures for terminals of some widths: no line is longer.
func TestWidths(t *testing.T) {
	f := fault.WireHTTPStatus.Newf(fault.Args{Evidence: &fault.Evidence{HTTPStatus: 502, Sample: strings.Repeat("word ", 60)}}, "the answer is HTTP 502 (Bad Gateway) from \"nginx\" with content-type \"text/html\", want gRPC")
	rep := &doctor.Report{Verdict: doctor.Finding{ID: f.ID(), Code: f.Code(), Summary: f.Entry().Summary, Cause: f.Entry().Cause, Message: f.Message(), Remedy: f.Remedy(), Spec: f.Entry().Spec}}
	for _, width := range []int{minWidth, 80, 100, maxWidth} {
		var out bytes.Buffer
		v := newDoctorView(&out)
		v.width = width
		v.ended(doctor.Probe{Name: "grpc", Status: doctor.Failed, Summary: f.Message(), Evidence: []doctor.Fact{{Name: "sample", Value: f.Evidence().Sample}}})
		v.verdict(rep)
		for line := range strings.Lines(out.String()) {
			if n := utf8.RuneCountInString(strings.TrimSuffix(line, "\n")); n > width && !strings.Contains(line, "http") {
				t.Errorf("width %d: %d columns: %s", width, n, line)
			}
		}
		for line := range strings.Lines(fold(strings.ReplaceAll(f.Error()+"\n", " ", "  "), width)) {
			if n := utf8.RuneCountInString(line); n > width+1 {
				t.Errorf("width %d: %d columns: %s", width, n, line)
			}
		}
	}
}

// TestNoTerminal: files and pipes are none.
func TestNoTerminal(t *testing.T) {
	f, err := os.Create(filepath.Join(t.TempDir(), "out"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if n := terminalWidth(f); n != 0 || widthOf(f) != plainWidth || widthOf(new(bytes.Buffer)) != plainWidth {
		t.Errorf("a file is %d columns wide", n)
	}
}
