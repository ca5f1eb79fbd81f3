// SPDX-License-Identifier: Apache-2.0

package h2spec

import (
	"io"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/faultline-rpc/faultline/conformance"
	"github.com/faultline-rpc/faultline/conformance/known"
)

// strictCases is how many cases h2spec v2.2.1 has with -S.
const strictCases = 146

// TestServe holds `faultline serve` against the list of known failures.
func TestServe(t *testing.T) {
	list, err := conformance.KnownFailing("h2spec")
	if err != nil {
		t.Fatal(err)
	}
	s, err := Faultline(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer s.Stop()
	rs, err := Run(t.Context(), s.Addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("h2spec: %d of %d", known.Passed(rs), len(rs))
	if len(rs) != strictCases {
		t.Errorf("%d cases were run, want %d", len(rs), strictCases)
	}
	for _, d := range list.Compare(rs) {
		t.Error(d)
	}
}

func TestRunNeedsAServer(t *testing.T) {
	if _, err := Run(t.Context(), "nowhere"); err == nil || !strings.Contains(err.Error(), "host:port") {
		t.Errorf("Run(nowhere) = %v, want an error that says host:port", err)
	}
}

const sample = `<?xml version="1.0"?>
<testsuites>
 <testsuite package="http2/6.5.3">
  <testcase package="http2/6.5.3" classname="First"><error>SETTINGS Frame
Connection closed</error></testcase>
  <testcase package="http2/6.5.3" classname="Second"></testcase>
 </testsuite>
 <testsuite package="hpack/2.3"><testcase classname="Third"><skipped></skipped></testcase><testcase classname="Fourth"><failure>x</failure></testcase></testsuite>
</testsuites>`

func TestParse(t *testing.T) {
	rs, err := parse(strings.NewReader(sample))
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, r := range rs {
		line := r.Name
		if r.Err != nil {
			line += " " + r.Err.Error()
		}
		got = append(got, line)
	}
	want := []string{"http2/6.5.3/1 First: SETTINGS Frame Connection closed", "http2/6.5.3/2", "hpack/2.3/1 Third: ", "hpack/2.3/2 Fourth: x"}
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("parse = %q, want %q", got, want)
	}
	for _, bad := range []string{"", "<testsuites>", "<testsuites></testsuites>"} {
		if _, err := parse(strings.NewReader(bad)); err == nil {
			t.Errorf("parse(%q) gives no error", bad)
		}
	}
}

func TestListening(t *testing.T) {
	for _, tc := range []struct{ text, addr, err string }{
		{"listening on 127.0.0.1:4711\n", "127.0.0.1:4711", ""},
		{"a line\naddr=127.0.0.1:80 ok\nmore\n", "127.0.0.1:80", ""},
		{"asked for 127.0.0.1:0\nno such flag\n", "", "no such flag"},
	} {
		addr, err := listening(strings.NewReader(tc.text), time.Minute)
		if addr != tc.addr || (err == nil) != (tc.err == "") || err != nil && !strings.Contains(err.Error(), tc.err) {
			t.Errorf("listening(%q) = %q, %v; want %q, %q", tc.text, addr, err, tc.addr, tc.err)
		}
	}
}

func TestListeningGivesUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, w := io.Pipe()
		defer w.Close()
		if _, err := listening(r, time.Minute); err == nil || !strings.Contains(err.Error(), "within 1m0s") {
			t.Errorf("listening on silence = %v, want an error that says how long", err)
		}
	})
}
