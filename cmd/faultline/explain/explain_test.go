// SPDX-License-Identifier: Apache-2.0

package explain

import (
	"flag"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/faultline-rpc/faultline/codes"
	"github.com/faultline-rpc/faultline/fault"
)

var update = flag.Bool("update", false, "write the golden files anew")

func book(t *testing.T) []Phrase {
	t.Helper()
	all, err := Book()
	if err != nil {
		t.Fatal(err)
	}
	return all
}

var stacks = []string{"grpc-go", "grpc-java", "grpc-js", "C-core", "grpc-dotnet", "connect-go", "tonic", "nginx", "envoy"}

// others are printers of whom less is known.
var others = []string{"any stack", "connect-es", "grpcurl", "grpc-health-probe", "etcd", "go-grpc-middleware", "Google Cloud", "AWS", "Cloudflare", "Kubernetes", "curl", "Browser", "grpc-swift", "grpc-dart"}

// TestBook is a test per phrase: its example is recognized, the circumstance
// it says is the likeliest comes out first, and it is well made.
func TestBook(t *testing.T) {
	all := book(t)
	if len(all) < 200 {
		t.Errorf("%d phrases, want 200 or more", len(all))
	}
	by := map[string]int{}
	seen := map[string]bool{}
	for i := range all {
		p := &all[i]
		for _, from := range p.From {
			by[from]++
		}
		t.Run(p.Pattern, func(t *testing.T) {
			if seen[p.Pattern] {
				t.Error("the pattern is there twice")
			}
			seen[p.Pattern] = true
			checkPhrase(t, p)
			res, err := Explain(p.Example)
			if err != nil || res.Kind != KindText || len(res.Candidates) == 0 {
				t.Fatalf("Explain(%q) = %+v, %v", p.Example, res, err)
			}
			if !slices.ContainsFunc(res.Phrases, func(r Recognized) bool { return r.Source == p.Source }) {
				t.Errorf("Explain(%q) recognizes %+v, want this phrase among them", p.Example, res.Phrases)
			}
			if got := res.Candidates[0].ID; got != p.Means[0].ID && !p.Wrapper {
				t.Errorf("Explain(%q) has %s first, want %s; phrases %+v", p.Example, got, p.Means[0].ID, res.Phrases)
			}
		})
	}
	for _, s := range stacks {
		if by[s] < 10 {
			t.Errorf("%s has %d phrases, want 10 or more", s, by[s])
		}
	}
}

func checkPhrase(t *testing.T, p *Phrase) {
	t.Helper()
	if u, err := url.Parse(p.Source); err != nil || u.Scheme != "https" || u.Host == "" {
		t.Errorf("the source %q is no https address", p.Source)
	}
	if len(p.From) == 0 || len(p.Means) == 0 {
		t.Error("it says not whose it is, or not what it means")
	}
	for _, f := range p.From {
		if !slices.Contains(stacks, f) && !slices.Contains(others, f) {
			t.Errorf("%q is no stack, want one of %q", f, stacks)
		}
	}
	for _, m := range p.Means {
		if fault.Lookup(m.ID) == nil {
			t.Errorf("%s is not in the catalogue", m.ID)
		}
		if !strings.HasSuffix(m.Tell, ".") && !strings.HasSuffix(m.Tell, "?") && !strings.HasSuffix(m.Tell, ")") {
			t.Errorf("%s: %q is no sentence", m.ID, m.Tell)
		}
	}
	if p.exp.MatchString("") {
		t.Error("the pattern matches everything")
	}
}

// TestTexts are whole texts as people paste them.
func TestTexts(t *testing.T) {
	for _, tc := range []struct {
		text string
		id   fault.ID
		code codes.Code
	}{
		{`rpc error: code = Unavailable desc = connection error: desc = "transport: Error while dialing: dial tcp 127.0.0.1:50051: connect: connection refused"`, "dial.refused", codes.Unavailable},
		{"Error: 14 UNAVAILABLE: No connection established. Last error: connect ECONNREFUSED 127.0.0.1:8080 (2023-10-19T20:59:35.951Z)", "dial.refused", codes.Unavailable},
		{"status: Unavailable, message: \"error trying to connect: tcp connect error: Connection refused (os error 111)\"", "dial.refused", codes.Unavailable},
		{"io.grpc.StatusRuntimeException: UNAVAILABLE: io exception\nCaused by: io.netty.channel.AbstractChannel$AnnotatedConnectException: Connection refused: localhost/127.0.0.1:9898", "dial.refused", codes.Unavailable},
		{`Status(StatusCode="Unavailable", Detail="Error starting gRPC call. HttpRequestException: No connection could be made because the target machine actively refused it. (127.0.0.1:6061)")`, "dial.refused", codes.Unavailable},
		{"14 UNAVAILABLE: failed to connect to all addresses", "dial.refused", codes.Unavailable},
		{"failed to connect to all addresses; last error: UNKNOWN: ipv4:1.2.3.4:443: Ssl handshake failed: SSL_ERROR_SSL: error:1000007d:SSL routines:OPENSSL_internal:CERTIFICATE_VERIFY_FAILED", "tls.unknown-authority", 0},
		{"error reading server preface: http2: frame too large", "http2.tls-peer", 0},
		{"upstream connect error or disconnect/reset before headers", "dial.refused", 0},
		{"Received RST_STREAM with code 2", "http2.rst-other", 0},
		{"transport is closing", "http2.connection-lost", 0},
		{`received prior goaway: code: ENHANCE_YOUR_CALM, debug data: "too_many_pings"`, "http2.goaway-calm", 0},
		{"unavailable: dial tcp 127.0.0.1:1: connect: connection refused", "dial.refused", codes.Unavailable},
		{"<_InactiveRpcError of RPC that terminated with:\n\tstatus = StatusCode.UNAVAILABLE\n\tdetails = \"Socket closed\"\n>", "http2.connection-lost", codes.Unavailable},
		{"GRPC::Unavailable: 14:failed to connect to all addresses; last error: UNKNOWN: ipv4:127.0.0.1:1: Failed to connect to remote host: Connection refused", "dial.refused", codes.Unavailable},
		{"ERROR:\n  Code: Unimplemented\n  Message: unknown service helloworld.Greeter", "handler.unknown-service", codes.Unimplemented},
		{"rpc error: code = Unavailable desc = tls.hostname: the certificate is for example.com", "tls.hostname", codes.Unavailable},
		{`{"code":"UNAVAILABLE","id":"dial.timeout","layer":"dial"}`, "dial.timeout", codes.Unavailable},
	} {
		res, err := Explain(tc.text)
		if err != nil || res.Kind != KindText || len(res.Candidates) == 0 || res.Candidates[0].ID != tc.id {
			t.Errorf("Explain(%q) = %+v, %v; want %s first", tc.text, res, err, tc.id)
			continue
		}
		if got, _ := CodeIn(tc.text); got != tc.code {
			t.Errorf("CodeIn(%q) = %v, want %v", tc.text, got, tc.code)
		}
	}
}

// TestOwnMessages: every entry's own default message is recognized as certain.
func TestOwnMessages(t *testing.T) {
	for _, e := range fault.Catalogue() {
		f := e.New(fault.Args{})
		for _, text := range []string{f.Error(), f.Message()} {
			res, err := Explain(text)
			if err != nil || res.Kind != KindText || len(res.Candidates) == 0 || res.Candidates[0].ID != e.ID || !res.Candidates[0].Certain {
				t.Errorf("Explain(%q) = %+v, %v; want %s, certain", text, res, err, e.ID)
			}
		}
		res, err := Explain(string(e.ID))
		if err != nil || res.Kind != KindCircumstance || res.Circumstance.ID != e.ID {
			t.Errorf("Explain(%q) = %+v, %v; want its page", e.ID, res, err)
		}
		for id := range processedOf {
			if fault.Lookup(id) == nil {
				t.Errorf("processedOf has %s, which is not in the catalogue", id)
			}
		}
	}
}

func TestCodes(t *testing.T) {
	for _, c := range codes.All() {
		for _, text := range []string{codes.Name(c), c.String(), strings.ToLower(codes.Name(c)), "StatusCode." + codes.Name(c),
			fmt.Sprint(int(c)), fmt.Sprintf("%d %s", c, codes.Name(c)), fmt.Sprintf("%s (%d)", codes.Name(c), c), fmt.Sprintf("code = %d", c), "code = " + c.String(),
			fmt.Sprintf("grpc-status: %d", c), "codes." + c.String(), "Code::" + c.String(), "GRPC_STATUS_" + codes.Name(c), "grpc::StatusCode::" + codes.Name(c),
			"rpc error: code = " + c.String(), strings.ReplaceAll(strings.ToLower(codes.Name(c)), "_", "-"), `"` + codes.Name(c) + `"`} {
			res, err := Explain(text)
			if err != nil || res.Kind != KindCode || res.Code.Number != int(c) || res.Code.Meaning == "" {
				t.Errorf("Explain(%q) = %+v, %v; want the page of %s", text, res, err, codes.Name(c))
			}
			if c != codes.OK && len(res.Code.Circumstances) == 0 {
				t.Errorf("%s has no circumstance", text)
			}
		}
	}
}

func TestUnknown(t *testing.T) {
	for text, near := range map[string]string{
		"":                         "",
		"hello world":              "",
		"17":                       "",
		"tls.plaintex-peer":        "tls.plaintext-peer",
		"UNAVAILBLE":               "UNAVAILABLE",
		"14 15":                    "",
		"my computer is on strike": "",
	} {
		res, err := Explain(text)
		if err != nil || res.Kind != KindUnknown || res.Nearest != near {
			t.Errorf("Explain(%q) = %+v, %v; want nothing, and %q", text, res, err, near)
		}
	}
}

// TestGolden shows the pages, with texts of its own: the catalogue's change.
func TestGolden(t *testing.T) {
	long := strings.Repeat("A sentence that is there to be wrapped. ", 5)
	code := &CodePage{Name: "UNAVAILABLE", Number: 14, Meaning: "Not now.", Retry: long, HTTP: 503, By: "library and application", Circumstances: []Listed{{"dial.refused", "nothing listens"}, {"http2.goaway", "it closes"}}}
	recognized := []Recognized{{"Connection refused", stacks, "https://example.com/a"}, {"failed to connect", []string{"C-core"}, "https://example.com/b"}, {"x", []string{"tonic", "envoy"}, "https://example.com/c"}}
	for name, res := range map[string]Result{
		"circumstance": {Kind: KindCircumstance, Circumstance: &Page{ID: "dial.refused", Layer: fault.LayerDial, Codes: []string{"UNAVAILABLE", "UNKNOWN"}, RaisedBy: "client", Summary: "nothing listens", Cause: long, Remedy: long, Processed: neverRan, Spec: "https://example.com"}},
		"anycode":      {Kind: KindCircumstance, Circumstance: &Page{ID: "handler.status", Layer: fault.LayerHandler, RaisedBy: "server", Summary: "it said so", Cause: "A.", Remedy: "B.", Processed: "maybe", Spec: "https://example.com"}},
		"code":         {Kind: KindCode, Code: code},
		"text":         {Kind: KindText, Phrases: recognized, Code: code, Candidates: []Candidate{{"dial.refused", "nothing listens", long, long, false}, {"dial.timeout", "no answer", "It hangs.", "Look.", false}}},
		"one":          {Kind: KindText, Phrases: recognized[:1], Candidates: []Candidate{{"dial.refused", "nothing listens", "Look.", "Start it.", false}}},
		"codeonly":     {Kind: KindText, Code: code, Candidates: []Candidate{{"dial.refused", "nothing listens", "Look.", "Start it.", false}}},
		"own":          {Kind: KindText, Phrases: []Recognized{{Found: "dial.refused", From: []string{"faultline"}}}, Candidates: []Candidate{{"dial.refused", "nothing listens", "", "Start it.", true}}},
		"unknown":      {Kind: KindUnknown, Nearest: "dial.refused"},
	} {
		got := res.Text()
		file := filepath.Join("testdata", name+".golden")
		if *update {
			if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(file)
		if err != nil || got != string(want) {
			t.Errorf("%v; %s is\n%s\nwant\n%s", err, file, got, want)
		}
	}
}

// FuzzExplain: whatever is pasted gets an answer.
func FuzzExplain(f *testing.F) {
	f.Add("rpc error: code = Unavailable desc = transport is closing")
	f.Add("tls.plaintext-peer")
	f.Add("14")
	f.Add("\xff\x00 StatusCode.\x1b[31m")
	f.Fuzz(func(t *testing.T, text string) {
		res, err := Explain(text)
		if err != nil || res.Kind == "" || res.Text() == "" {
			t.Errorf("Explain(%q) = %+v, %v", text, res, err)
		}
	})
}

// TestNeedles: no phrase is missed for want of a needle, and none is without.
func TestNeedles(t *testing.T) {
	all := book(t)
	var texts []string
	for i := range all {
		texts = append(texts, all[i].Example)
		if len(all[i].needles) == 0 {
			t.Errorf("%s is tried on every text", all[i].Pattern)
		}
	}
	for _, r := range reports(t) {
		texts = append(texts, r.text, strings.ToUpper(r.text))
	}
	for i := range all {
		for j, text := range texts {
			if (i+j)%10 != 0 && j != i { // all with all would take long
				continue
			}
			if p := &all[i]; p.exp.MatchString(text) && !p.may(strings.ToLower(text)) {
				t.Errorf("%s matches, and none of %q is in %s", p.Pattern, p.needles, text)
			}
		}
	}
}
