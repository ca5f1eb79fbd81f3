// SPDX-License-Identifier: Apache-2.0

package connect

import (
	"context"
	"errors"
	"reflect"
	"strings"
	"testing"

	"github.com/faultline-rpc/faultline/conformance/known"
)

// TestRun holds both sides against a few cases; the whole suite is run by
// cmd/conformance.
func TestRun(t *testing.T) {
	s, err := Build(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	for _, mode := range []string{"server", "client"} {
		rs, err := s.Run(t.Context(), mode, "faultline", "TLS Client Certs/**")
		if err != nil {
			t.Fatal(err)
		}
		if len(rs) != 12 || known.Passed(rs) != 12 || len(Plain(rs)) != 2 {
			t.Errorf("%s: %d of %d, %d of them plain; want 12 of 12 and 2: %v", mode, known.Passed(rs), len(rs), len(Plain(rs)), rs)
		}
	}
	if _, err := s.Run(t.Context(), "proxy", "faultline", ""); err == nil || !strings.Contains(err.Error(), "mode") {
		t.Errorf("Run of an unknown mode = %v, want what the suite said", err)
	}
	if _, err := s.Run(t.Context(), "server", "faultline", "No Such Suite/**"); err == nil || !strings.Contains(err.Error(), "No Such Suite") {
		t.Errorf("Run of unknown cases = %v, want what the suite said", err)
	}
}

const sample = `Computed 40 config case permutations.
Sending request for "A/x"...
Sending request for "A/y"...
Received response for "A/y"...
Sending request for "A/z"...
Received response for "A/x"...
Sending request for "A/hangs"...
FAILED: A/x:
	wanted this
	got that
FAILED: A/w:
	the server does not start

Total cases: 5
2 passed, 2 failed
Another 1 could not be run due to client timing out or exiting prematurely.
`

func TestParse(t *testing.T) {
	// The case that was not begun is announced by its failure only.
	rs, err := parse(strings.NewReader(strings.Replace(sample, `Sending request for "A/z"...`, "Sending request for \"A/z\"...\nReceived response for \"A/z\"...", 1)))
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]string{}
	for _, r := range rs {
		got[r.Name] = ""
		if r.Err != nil {
			got[r.Name] = r.Err.Error()
		}
	}
	want := map[string]string{"A/x": "wanted this; got that", "A/y": "", "A/z": "", "A/hangs": "it was not answered", "A/w": "the server does not start"}
	if len(got) != len(want) {
		t.Errorf("parse = %v, want %v", got, want)
	}
	for name, why := range want {
		if got[name] != why {
			t.Errorf("%s: %q, want %q", name, got[name], why)
		}
	}
}

func TestParseErrors(t *testing.T) {
	for _, text := range []string{"", "Total cases: 0\n", "Sending request for \"A\"...\n", "Sending request for \"A\"...\nTotal cases: 2\n"} {
		if rs, err := parse(strings.NewReader(text)); err == nil {
			t.Errorf("parse(%q) = %v, want an error", text, rs)
		}
	}
}

func TestBuildCanceled(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Build(ctx); !errors.Is(err, context.Canceled) || !strings.Contains(err.Error(), suiteVersion) {
		t.Errorf("Build with a context that has ended = %v, want its error and what was built", err)
	}
}

func TestPlain(t *testing.T) {
	rs := []known.Result{
		{Name: "A/Codec:CODEC_PROTO/Compression:COMPRESSION_GZIP/x"},
		{Name: "A/Codec:CODEC_JSON/Compression:COMPRESSION_GZIP/x"},
		{Name: "A/Codec:CODEC_PROTO/Compression:COMPRESSION_BR/x"},
		{Name: "A/Compression:COMPRESSION_SNAPPY/x"},
		{Name: "A/Compression:COMPRESSION_IDENTITY/x"},
		{Name: "A/TLS:false/x"},
	}
	if got, want := Plain(rs), []known.Result{rs[0], rs[4], rs[5]}; !reflect.DeepEqual(got, want) {
		t.Errorf("Plain = %v, want %v", got, want)
	}
	if len(rs) != 6 || rs[1].Name == "" {
		t.Errorf("Plain changed its argument to %v", rs)
	}
}
