// SPDX-License-Identifier: Apache-2.0

// Package gen_test writes docs/circumstances from the catalogue and fails when they differ:
//
//	go test ./fault/gen -update
package gen_test

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/faultline-rpc/faultline/codes"
	"github.com/faultline-rpc/faultline/fault"
)

var update = flag.Bool("update", false, "write docs/circumstances anew")

const dir = "../../docs/circumstances"

// layers says what each layer is, in one sentence.
var layers = map[fault.Layer]string{
	fault.LayerResolve: "Turning the target's name into addresses.",
	fault.LayerPick:    "Choosing a connection.",
	fault.LayerDial:    "Opening a socket, directly or through a proxy.",
	fault.LayerTLS:     "The handshake that secures a connection.",
	fault.LayerHTTP2:   "The connection and its streams (RFC 9113).",
	fault.LayerWire:    "gRPC's use of a stream: headers, message framing, trailers.",
	fault.LayerCodec:   "Bytes to messages and back: parsing, compression, size limits.",
	fault.LayerCall:    "The call as a whole: deadline, cancellation, credentials, retries.",
	fault.LayerServer:  "The server as a whole: draining, overload, age.",
	fault.LayerHandler: "The application's handler, or its absence.",
	fault.LayerPolicy:  "What refuses a call before its handler.",
}

const header = "<!-- Written by `go test ./fault/gen -update` from fault/catalogue_*.go. -->\n\n"

// codeNames lists an entry's codes as specifications spell them.
func codeNames(e *fault.Entry) string {
	if len(e.Codes) == 0 {
		return "any: that of the status behind it"
	}
	var names []string
	for _, c := range e.Codes {
		names = append(names, fmt.Sprintf("%s (%d)", codes.Name(c), c))
	}
	return strings.Join(names, ", ")
}

func page(e *fault.Entry) []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, "%s# %s\n\n%s.\n\n", header, e.ID, upper(e.Summary))
	b.WriteString("| | |\n|---|---|\n")
	fmt.Fprintf(&b, "| Code | %s |\n", codeNames(e))
	fmt.Fprintf(&b, "| Layer | [%s](index.md#%s): %s |\n", e.Layer, e.Layer, layers[e.Layer])
	fmt.Fprintf(&b, "| Raised by | %s |\n", e.By)
	fmt.Fprintf(&b, "| Processed | %s |\n", processed[e.ID])
	fmt.Fprintf(&b, "| In Go | `fault.Lookup(%q)` |\n", e.ID)
	fmt.Fprintf(&b, "\n## Cause\n\n%s\n\n## Remedy\n\n%s\n\n## Specification\n\n<%s>\n", e.Cause, e.Remedy, e.Spec)
	fmt.Fprintf(&b, "\n[All circumstances](index.md) · [the error model](../errors.md) · [what to retry](../retry.md)\n")
	return b.Bytes()
}

func index() []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, "%s# Circumstances\n\n", header)
	b.WriteString("Every way in which a call can fail, by layer, from the name down to the application. Ids are fixed: search logs for them,\n" +
		"compare them in programs (`fault.DialRefused.Is(err)`), count them in dashboards. [The error model](../errors.md) explains the rest.\n")
	last := fault.LayerUnknown
	for _, e := range fault.Catalogue() {
		if e.Layer != last {
			last = e.Layer
			fmt.Fprintf(&b, "\n## %s\n\n%s\n\n| id | code | what happened |\n|---|---|---|\n", e.Layer, layers[e.Layer])
		}
		names := "any"
		if len(e.Codes) > 0 {
			names = codes.Name(e.Codes[0])
		}
		if len(e.Codes) > 1 {
			names += " or others"
		}
		fmt.Fprintf(&b, "| [%s](%s.md) | %s | %s |\n", e.ID, e.ID, names, e.Summary)
	}
	return b.Bytes()
}

func upper(s string) string { return strings.ToUpper(s[:1]) + s[1:] }

func TestCircumstances(t *testing.T) {
	want := map[string][]byte{"index.md": index()}
	for _, e := range fault.Catalogue() {
		if processed[e.ID] == "" {
			t.Errorf("%s: nothing is said of Processed; add it to processed_test.go", e.ID)
		}
		if layers[e.Layer] == "" {
			t.Errorf("%s: nothing is said of layer %s", e.ID, e.Layer)
		}
		want[string(e.ID)+".md"] = page(e)
	}
	for id := range processed {
		if fault.Lookup(id) == nil {
			t.Errorf("processed_test.go speaks of %s, which is not in the catalogue", id)
		}
	}
	have, err := filepath.Glob(dir + "/*")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range have {
		switch _, ok := want[filepath.Base(name)]; {
		case ok:
		case *update:
			if err := os.Remove(name); err != nil {
				t.Fatal(err)
			}
		default:
			t.Errorf("%s has no entry in the catalogue; run go test ./fault/gen -update", name)
		}
	}
	for name, text := range want {
		file := filepath.Join(dir, name)
		if *update {
			if err := os.WriteFile(file, text, 0o644); err != nil {
				t.Fatal(err)
			}
		}
		if got, err := os.ReadFile(file); err != nil || !bytes.Equal(got, text) {
			t.Errorf("%s is not what the catalogue says (%v); run go test ./fault/gen -update", file, err)
		}
	}
}
