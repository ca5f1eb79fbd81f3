// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"maps"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	testpb "google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/reflection"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/descriptorpb"

	"github.com/faultline-rpc/faultline"
	"github.com/faultline-rpc/faultline/cmd/faultline/testservice"
	"github.com/faultline-rpc/faultline/internal/peer"
	"github.com/faultline-rpc/faultline/status"
)

var update = flag.Bool("update", false, "write the golden transcripts anew")

// outcome is what a command did.
type outcome struct {
	status         int
	stdout, stderr string
}

// command runs the program with these arguments and this standard input.
func command(t *testing.T, stdin string, args ...string) outcome {
	t.Helper()
	var out, errs bytes.Buffer
	status := runWith(t.Context(), args, strings.NewReader(stdin), &out, &errs)
	return outcome{status, out.String(), errs.String()}
}

// testServer serves the test service, with or without reflection.
func testServer(t *testing.T, lis net.Listener, reflect bool, opts ...faultline.ServerOption) string {
	t.Helper()
	s := faultline.NewServer(opts...)
	testpb.RegisterTestServiceServer(s, testservice.Server{})
	if reflect {
		reflection.Register(s)
	}
	done := make(chan error, 1)
	go func() { done <- s.Serve(lis) }()
	t.Cleanup(func() {
		s.Stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return lis.Addr().String()
}

func loopback(t *testing.T) net.Listener {
	t.Helper()
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return lis
}

const service = "grpc.testing.TestService"

// TestTranscripts are golden: what a person sees, but for addresses, times, and
// the engine's own words, which other tests have.
func TestTranscripts(t *testing.T) {
	addr := startServe(t).addr
	for _, tc := range []struct{ name, stdin, args string }{
		{"list", "", "list --plaintext ADDR"},
		{"list-methods", "", "list --plaintext ADDR grpc.testing.TestService"},
		{"list-json", "", "list --json --plaintext ADDR grpc.health.v1.Health"},
		{"list-unknown", "", "list --plaintext ADDR grpc.testing.TestServise"},
		{"list-tls", "", "list ADDR"},
		{"describe-service", "", "describe --plaintext ADDR grpc.testing.TestService"},
		{"describe-method", "", "describe --plaintext ADDR grpc.testing.TestService/FullDuplexCall"},
		{"describe-message", "", "describe --plaintext ADDR grpc.testing.SimpleResponse --msg-template"},
		{"describe-enum", "", "describe --plaintext ADDR .grpc.testing.PayloadType"},
		{"describe-field", "", "describe --plaintext ADDR grpc.testing.SimpleRequest.response_size"},
		{"describe-json", "", "describe --json --plaintext ADDR grpc.testing.Payload"},
		{"describe-unknown", "", "describe --plaintext ADDR grpc.testing.Payloat"},
		{"call-unary", "", `call --plaintext ADDR grpc.testing.TestService/UnaryCall -d {"response_size":3}`},
		{"call-grpcurl", "", `call -plaintext -max-time 5 -max-msg-sz 100 -d {"response_size":3} ADDR grpc.testing.TestService.UnaryCall`},
		{"call-empty", "", "call --plaintext ADDR grpc.testing.TestService/EmptyCall"},
		{"call-gzip", "", `call --plaintext ADDR --compress gzip grpc.testing.TestService/UnaryCall -d {"payload":{"body":"AAAAAAAAAAAAAAAA"}}`},
		{"call-defaults", "", `call --plaintext ADDR grpc.testing.TestService/UnaryCall --emit-defaults`},
		{"call-server-stream", "", `call --plaintext --json ADDR grpc.testing.TestService/StreamingOutputCall -d {"response_parameters":[{"size":1},{"size":2}]}`},
		{"call-client-stream", `{"payload":{"body":"AAAA"}}{"payload":{"body":"AAAA"}}`, "call --plaintext ADDR grpc.testing.TestService/StreamingInputCall -d @"},
		{"call-bidi", `{"response_parameters":[{"size":1}]} {"response_parameters":[{"size":2}]}`, "call --plaintext --json ADDR grpc.testing.TestService/FullDuplexCall -d @"},
		{"call-verbose", "", `call --plaintext ADDR grpc.testing.TestService/UnaryCall -v -H x-grpc-test-echo-initial:hi -H authorization:secret --rpc-header x-grpc-test-echo-trailing-bin:AP8 --reflect-header x-only:reflection`},
		{"call-status", "", `call --plaintext ADDR grpc.testing.TestService/UnaryCall -d {"response_status":{"code":5,"message":"gone"}}`},
		{"call-status-json", "", `call --json --plaintext ADDR grpc.testing.TestService/UnaryCall -d {"response_status":{"code":5,"message":"gone"}}`},
		{"call-unauthenticated", "", `call --plaintext ADDR grpc.testing.TestService/UnaryCall -d {"response_status":{"code":16,"message":"who?"}}`},
		{"call-unknown-method", "", "call --plaintext ADDR grpc.testing.TestService/UnaryCal"},
		{"call-unknown-service", "", "call --plaintext ADDR grpc.testing.TestServise/UnaryCall -d {\"a\":1}"},
		{"call-tls", "", "call ADDR grpc.testing.TestService/EmptyCall"},
		{"call-too-large", "", `call --plaintext --max-msg-size 1KiB ADDR grpc.testing.TestService/UnaryCall -d {"response_size":2000}`},
		{"complete-method", "", "__complete call --plaintext ADDR grpc.testing.TestService/U"},
		{"complete-service", "", "__complete call -plaintext ADDR grpc.t"},
		{"complete-list", "", "__complete list --plaintext ADDR grpc.h"},
		{"complete-describe", "", "__complete describe --plaintext ADDR grpc.health.v1.Health"},
		{"complete-nobody", "", "__complete call --plaintext 127.0.0.1:1 grpc."},
		{"explain", "", "explain 17"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			o := command(t, tc.stdin, strings.Fields(strings.ReplaceAll(tc.args, "ADDR", addr))...)
			got := fmt.Sprintf("$ faultline %s\n%s", tc.args, o.stdout)
			if o.stderr != "" {
				got += "--- standard error\n" + o.stderr
			}
			got = plain(fmt.Sprintf("%s--- exit %d\n", got, o.status), addr)
			file := filepath.Join("testdata", "transcripts", tc.name+".txt")
			if *update {
				if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(file)
			if err != nil || got != string(want) {
				t.Errorf("%v; got\n%s\nwant\n%s", err, got, want)
			}
		})
	}
}

var (
	times       = regexp.MustCompile(`\d+(\.\d+)?(µs|ms|s)\b`)
	addresses   = regexp.MustCompile(`127\.0\.0\.1:\d{2,5}`)
	engine      = regexp.MustCompile(`(?m)^  (evidence|above|caused by|remedy|spec|ledger|             ) .*\n`)
	words       = regexp.MustCompile(`desc = .*`)
	failureLine = regexp.MustCompile(`(?m)^\{"error":.*`)
	inJSON      = regexp.MustCompile(`"(message|remedy)":"(?:[^"\\]|\\.)*"|"(evidence)":\{[^}]*\}|"(ledger)":\{"budget_ns":[^]]*\]\}`)
)

// plain takes out what differs from run to run, and the engine's own words.
func plain(text, addr string) string {
	text = strings.ReplaceAll(text, addr, "ADDR")
	text = addresses.ReplaceAllString(text, "127.0.0.1:PORT")
	text = times.ReplaceAllString(text, "TIME")
	text = engine.ReplaceAllString(text, "")
	text = words.ReplaceAllString(text, "desc = ...")
	return failureLine.ReplaceAllStringFunc(text, func(line string) string { return inJSON.ReplaceAllString(line, `"$1$2$3":...`) })
}

// TestCallBadInput: nothing is sent, the exit status is 2, and one line says
// what is wrong and what is expected.
func TestCallBadInput(t *testing.T) {
	addr := startServe(t).addr
	dir := t.TempDir()
	write := func(name, text string) string {
		p := filepath.Join(dir, name)
		if err := os.WriteFile(p, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return p
	}
	bad := write("bad.proto", "syntax = \"proto3\";\nmessage A { strin x = 1; }\n")
	lost := write("lost.proto", "syntax = \"proto3\";\nimport \"nowhere.proto\";\n")
	empty := write("empty.set", "")
	cert, key := pair(t, dir, "one")
	const unary = "grpc.testing.TestService/UnaryCall"
	for _, tc := range []struct {
		stdin string
		args  []string
		want  string // a pattern
	}{
		{"", []string{"call"}, `call: no target is given, want host:port and package\.Service/Method`},
		{"", []string{"call", addr}, `call: no method is given for ".*", want package\.Service/Method \(faultline list shows them\)`},
		{"", []string{"call", addr, unary, "{}"}, `call: unexpected argument "\{\}", want a target and a method \(is the data in quotes, after -d\?\)`},
		{"", []string{"call", addr, "UnaryCall"}, `call: "UnaryCall" is no method, want package\.Service/Method`},
		{"", []string{"call", addr, "a//b"}, `call: "a//b" is no method, .*`},
		{"", []string{"call", "https://" + addr, unary}, `call: the target "https://.*" is a URL, want host:port`},
		{"", []string{"call", "http://" + addr, unary}, `call: the target "http://.*" is a URL, want host:port \(with --plaintext\)`},
		{"", []string{"call", "", unary}, `call: the target is empty, want host:port`},
		{"", []string{"call", "--plaintext", "--insecure", addr, unary}, `call: --plaintext and --insecure are given, want one of them`},
		{"", []string{"call", "--plaintext", "--cacert", "x", addr, unary}, `call: --plaintext and --cacert are given, want one of them`},
		{"", []string{"call", "--insecure", "--cacert", "x", addr, unary}, `call: --insecure and --cacert are given, want one of them`},
		{"", []string{"call", "--cacert", dir + "/none", addr, unary}, `call: --cacert .*none cannot be read: no such file or directory; want a PEM file with certificates`},
		{"", []string{"call", "--cacert", empty, addr, unary}, `call: --cacert .* holds no certificate, want a PEM file with some`},
		{"", []string{"call", "--cert", cert, addr, unary}, `call: --cert .* is given without --key, want both or neither`},
		{"", []string{"call", "--key", key, addr, unary}, `call: --key .* is given without --cert, want both or neither`},
		{"", []string{"call", "--cert", key, "--key", cert, addr, unary}, `call: --cert .* and --key .* cannot be used: .*`},
		{"", []string{"call", "-H", "nonsense", addr, unary}, `call: -H "nonsense" is no header, want 'name: value'`},
		{"", []string{"call", "-H", "a b: c", addr, unary}, `call: -H: the name "a b" has characters that metadata may not have, .*`},
		{"", []string{"call", "-H", "grpc-timeout: 1S", addr, unary}, `call: -H: the name "grpc-timeout" is gRPC's own, want another`},
		{"", []string{"call", "-H", "x-bin: ***", addr, unary}, `call: -H x-bin: the value of a -bin name must be base64: .*`},
		{"", []string{"call", "--expand-headers", "-H", "x: ${NOBODY_HAS_THIS}", addr, unary}, `call: -H x: there is no variable "NOBODY_HAS_THIS" in the environment`},
		{"", []string{"call", "--rpc-header", "x", addr, unary}, `call: --rpc-header "x" is no header, .*`},
		{"", []string{"call", "--plaintext", "--reflect-header", "x", addr, unary}, `call: --reflect-header "x" is no header, .*`},
		{"", []string{"call", "--timeout", "soon", addr, unary}, `call: invalid argument "soon" for "--timeout" flag: want a time above 0 such as 5s or 250ms, or a number of seconds .*`},
		{"", []string{"call", "-keepalive-time", "0", addr, unary}, `call: invalid argument "0" for "--keepalive-time" flag: .*`},
		{"", []string{"call", "--timeout", "-1", addr, unary}, `call: invalid argument "-1" for "--timeout" flag: .*`},
		{"", []string{"call", "--max-msg-size", "9GiB", addr, unary}, `call: invalid argument "9GiB" for "--max-msg-size" flag: want a number of bytes from 1 to 2147483647, .*`},
		{"", []string{"call", "--format", "text", addr, unary}, `call: --format "text" is not supported, want json`},
		{"", []string{"call", "--compress", "lzma", addr, unary}, `call: --compress "lzma" is not supported, want gzip`},
		{"", []string{"call", "--bogus", addr, unary}, `call: unknown flag: --bogus, want one of --.*`},
		{"", []string{"call", "--plaintext", addr, unary, "-d", "@" + dir + "/none"}, `call: --data @.*none cannot be read: no such file or directory; want a file with JSON, or @ alone for standard input`},
		{"", []string{"call", "--plaintext", addr, unary, "-d", "{"}, `call: message 1 of the data is no grpc\.testing\.SimpleRequest: it is no JSON: it ends in the middle of a value`},
		{"", []string{"call", "--plaintext", addr, unary, "-d", "{x}"}, `call: message 1 of the data is no grpc\.testing\.SimpleRequest: it is no JSON: invalid character 'x' looking for beginning of object key string, at byte 2`},
		{"", []string{"call", "--plaintext", addr, unary, "-d", "[]"}, `call: message 1 of the data is no grpc\.testing\.SimpleRequest: .*unexpected token \[`},
		{"", []string{"call", "--plaintext", addr, unary, "-d", `{"respons_size":3}`}, `call: message 1 of the data is no grpc\.testing\.SimpleRequest: .*unknown field "respons_size"; did you mean "response_size" of grpc\.testing\.SimpleRequest\?`},
		{"", []string{"call", "--plaintext", addr, unary, "-d", `{"bodi":""}`}, `call: .*unknown field "bodi"; did you mean "body" of grpc\.testing\.Payload\?`},
		{"", []string{"call", "--plaintext", addr, "grpc.testing.TestService/EmptyCall", "-d", `{"x":1}`}, `call: .*unknown field "x"; it has no fields`},
		{"", []string{"call", "--plaintext", addr, "grpc.health.v1.Health/Check", "-d", `{"x":1}`}, `call: .*unknown field "x"; grpc\.health\.v1\.HealthCheckRequest has service`},
		{"", []string{"call", "--plaintext", addr, unary, "-d", `{"response_size":"many"}`}, `call: .*invalid value for int32 field responseSize: "many"`},
		{"", []string{"call", "--plaintext", addr, unary, "-d", `{"payload":{"body":1}}`}, `call: .*invalid value for bytes field body: 1`},
		{"{}{}", []string{"call", "--plaintext", addr, unary, "-d", "@"}, `call: the data holds more than one message, want one: grpc\.testing\.TestService/UnaryCall takes no stream`},
		{`{"response_parameters":[]} {"oops":1}`, []string{"call", "--plaintext", addr, "grpc.testing.TestService/FullDuplexCall", "-d", "@"}, `call: message 2 of the data is no grpc\.testing\.StreamingOutputCallRequest: .*unknown field "oops"; .*`},
		{"", []string{"call", "--proto", dir + "/none.proto", addr, unary}, `call: --proto .*none\.proto cannot be read: no such file or directory; want a \.proto file`},
		{"", []string{"call", "--proto", "none.proto", "--import-path", dir, addr, unary}, `call: --proto none\.proto cannot be read: no such file or directory; want a \.proto file below .*`},
		{"", []string{"call", "--proto", bad, addr, unary}, `call: --proto .*bad\.proto does not compile: .*bad\.proto:2:13: field A\.x: unknown type strin`},
		{"", []string{"call", "--proto", lost, addr, unary}, `call: --proto .*lost\.proto does not compile: .*nowhere\.proto.*; --import-path names the folder that imports are relative to`},
		{"", []string{"call", "--import-path", dir, addr, unary}, `call: --import-path is given without --proto, want both`},
		{"", []string{"call", "--protoset", dir + "/none", addr, unary}, `call: --protoset .*none cannot be read: no such file or directory; want a file of protoc --descriptor_set_out`},
		{"", []string{"call", "--protoset", empty, addr, unary}, `call: --protoset .*empty\.set holds no descriptor set, want .*`},
		{"", []string{"call", "--protoset", empty, "--proto", bad, addr, unary}, `call: --proto and --protoset are given, want one of them`},
		{"", []string{"list"}, `list: no target is given, want host:port \(or --proto or --protoset\)`},
		{"", []string{"list", "a", "b", "c"}, `list: unexpected argument "c", want a target and at most one name`},
		{"", []string{"list", "--plaintext", addr, "no/service"}, `list: "no/service" is no service, want package\.Service`},
		{"", []string{"list", "--plaintext", addr, "grpc.testing.Payload"}, `list: "grpc\.testing\.Payload" is no service \(faultline describe shows it\)`},
		{"", []string{"describe", "--plaintext", addr, "!"}, `describe: "!" is no symbol, want .*`},
		{"", []string{"explain"}, `explain: nothing to explain is given, want an id, a code or an error text .*`},
		{"", []string{"completion"}, `completion: want one shell: bash, zsh, fish, powershell`},
		{"", []string{"completion", "tcsh"}, `completion: "tcsh" is no shell that is known, want one of .*`},
	} {
		t.Run(strings.Join(tc.args, " "), func(t *testing.T) {
			o := command(t, tc.stdin, tc.args...)
			if o.status != 2 || o.stdout != "" || !regexp.MustCompile("^faultline: "+tc.want+"\n$").MatchString(o.stderr) {
				t.Errorf("status %d, stdout %q, stderr %q; want 2, nothing, %s", o.status, o.stdout, o.stderr, tc.want)
			}
		})
	}
}

// failure is the JSON of a failed call.
type failure struct {
	Error struct {
		Code, ID, Layer, Side, Processed, Message, Remedy string
		Details, Trail                                    []any
		Evidence, Ledger                                  map[string]any
	}
}

// members are those of the error object, all of them, always.
var members = []string{"code", "details", "evidence", "id", "layer", "ledger", "message", "processed", "remedy", "side", "trail"}

// TestFailures calls peers that fail, as people and as machines see it.
func TestFailures(t *testing.T) {
	cert, key := pair(t, t.TempDir(), "server")
	tls := startServe(t, "--cert", cert, "--key", key).addr
	scripted := func(a peer.Answer) string {
		s, err := peer.Listen("127.0.0.1:0", peer.Each(a))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { s.Close() })
		return s.Addr()
	}
	raw := func(r peer.Raw) string {
		s, err := peer.ListenRaw("127.0.0.1:0", r)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { s.Close() })
		return s.Addr()
	}
	const method = service + "/EmptyCall"
	for _, tc := range []struct {
		name                           string
		args                           []string
		code                           codes.Code
		id, side, processed, with, via string // with: of stderr; via: of the evidence
	}{
		{"refused", []string{"--plaintext", "127.0.0.1:1", method}, codes.Unavailable, "dial.refused", "remote", "no", "faultline doctor", "method:/" + method},
		{"missing socket", []string{"--plaintext", "--unix", "/nowhere/x.sock", method}, codes.Unavailable, "dial.missing", "local", "no", "", ""},
		{"bad target", []string{"--plaintext", "dns://%zz", method}, codes.Unknown, "resolve.bad-target", "local", "no", "", ""},
		{"plaintext to TLS", []string{"--plaintext", tls, method}, codes.Unavailable, "http2.tls-peer", "remote", "no", "the server speaks TLS: drop --plaintext", ""},
		{"untrusted", []string{tls, method}, codes.Unavailable, "tls.unknown-authority", "local", "no", "--cacert FILE", ""},
		{"another name", []string{"--cacert", cert, "--server-name", "other.example", tls, method}, codes.Unavailable, "tls.hostname", "local", "no", "--server-name HOST", ""},
		{"HTTP/1", []string{"--plaintext", raw(peer.HTTP1()), method}, codes.Unavailable, "http2.http1-peer", "remote", "no", "the server speaks HTTP/1", ""},
		{"SSH", []string{"--plaintext", raw(peer.SSH()), method}, codes.Unavailable, "http2.not-http2", "remote", "no", "", "SSH"},
		{"bad gateway", []string{"--plaintext", scripted(peer.HTTPStatus(502, "text/html", "<h1>Bad Gateway</h1>")), method}, codes.Unavailable, "wire.http-status", "between", "maybe", "", "502"},
		{"bad gateway, and data", []string{"--plaintext", scripted(peer.HTTPStatus(502, "text/html", "")), method, "-d", `{"x":1}`}, codes.Unavailable, "wire.http-status", "between", "maybe", "check that the backend runs", "502"},
		{"no reflection, and data", []string{"--plaintext", scripted(peer.TrailersOnly(12, "none")), method, "-d", `{"x":1}`}, codes.Unimplemented, "handler.status", "remote", "maybe", "--proto FILE", ""},
		{"a page", []string{"--plaintext", scripted(peer.HTML()), method}, codes.Unknown, "wire.content-type", "between", "maybe", "", "text/html"},
		{"reset", []string{"--plaintext", scripted(peer.RST(2)), method}, codes.Internal, "http2.rst-other", "remote", "maybe", "", ""},
		{"refused stream", []string{"--plaintext", scripted(peer.RST(7)), method}, codes.Unavailable, "http2.refused-stream", "remote", "no", "", ""},
		{"status", []string{"--plaintext", scripted(peer.TrailersOnly(7, "not you")), method}, codes.PermissionDenied, "handler.status", "remote", "maybe", "", ""},
		{"a number that is no code", []string{"--plaintext", scripted(peer.TrailersOnly(200, "mine")), method}, codes.Unknown, "handler.status", "remote", "maybe", "", "grpc_status:200"},
		{"a page without end", []string{"--plaintext", scripted(func(p *peer.Peer, s uint32) error {
			return p.SendHeaders(s, false, ":status", "503", "content-type", "text/html")
		}), method}, codes.Unavailable, "wire.http-status", "between", "maybe", "", "503"},
		{"no trailers", []string{"--plaintext", scripted(peer.MissingTrailers(nil)), method}, codes.Internal, "wire.trailers-missing", "between", "yes", "", ""},
		{"silence", []string{"--plaintext", "--timeout", "200ms", scripted(peer.Silence()), method}, codes.DeadlineExceeded, "call.deadline", "local", "maybe", "--timeout gives more time", ""},
		{"a frozen server", []string{"--plaintext", "--timeout", "400ms", raw(peer.Mute()), method}, codes.Unavailable, "http2.preface-timeout", "remote", "no", "frozen or stuck", ""},
		{"a frozen TLS server", []string{"--timeout", "400ms", raw(peer.Mute()), method}, codes.Unavailable, "tls.handshake", "remote", "no", "frozen", ""},
		{"too little time to connect", []string{"--plaintext", "--timeout", "400ms", "--connect-timeout", "9s", raw(peer.Mute()), method}, codes.DeadlineExceeded, "call.deadline", "local", "no", "sent no HTTP/2 SETTINGS", ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			o := command(t, "", append([]string{"call"}, tc.args...)...)
			if o.status != exitCall+int(tc.code) || o.stdout != "" || !strings.Contains(o.stderr, tc.id+": ") || !strings.Contains(o.stderr, tc.with) {
				t.Errorf("status %d, stdout %q, stderr %s; want %d, nothing, %s and %q", o.status, o.stdout, o.stderr, exitCall+int(tc.code), tc.id, tc.with)
			}
			o = command(t, "", append([]string{"call", "--json"}, tc.args...)...)
			var f failure
			var bare map[string]map[string]any
			if err := errorsOf(json.Unmarshal([]byte(o.stdout), &f), json.Unmarshal([]byte(o.stdout), &bare)); err != nil || o.stderr != "" || strings.Count(o.stdout, "\n") != 1 {
				t.Fatalf("%v; stdout %s, stderr %q", err, o.stdout, o.stderr)
			}
			if got := slices.Sorted(maps.Keys(bare["error"])); !slices.Equal(got, members) || len(bare) != 1 {
				t.Errorf("the members are %q, want %q", got, members)
			}
			e := f.Error
			if o.status != exitCall+int(tc.code) || e.ID != tc.id || !strings.HasPrefix(tc.id, e.Layer+".") || e.Processed != tc.processed || tc.side != "" && e.Side != tc.side || e.Message == "" || e.Remedy == "" {
				t.Errorf("status %d, %+v; want %d, %s, %s, %s", o.status, e, exitCall+int(tc.code), tc.id, tc.side, tc.processed)
			}
			if evidence := fmt.Sprint(e.Evidence); !strings.Contains(evidence, tc.via) {
				t.Errorf("the evidence is %s, want %q in it", evidence, tc.via)
			}
		})
	}
}

// TestCallWithoutReflection: a server that lets reflection wait, or answers it
// with nonsense, is called all the same.
func TestCallWithoutReflection(t *testing.T) {
	well := peer.OK([]byte{8, 1})
	for name, first := range map[string]peer.Answer{
		"hangs":    peer.Silence(),
		"nonsense": well,
		"too much": peer.Oversized(5 << 20),
	} {
		t.Run(name, func(t *testing.T) {
			s, err := peer.Listen("127.0.0.1:0", peer.Each(func(p *peer.Peer, stream uint32) error {
				if stream == 1 {
					return first(p, stream)
				}
				return well(p, stream)
			}))
			if err != nil {
				t.Fatal(err)
			}
			defer s.Close()
			o := command(t, "", "call", "--plaintext", "--json", "--timeout", "1s", s.Addr(), "p.S/M")
			if o.status != 0 || o.stdout != `{"bytes":"CAE="}`+"\n" || o.stderr != "" {
				t.Errorf("status %d, stdout %q, stderr %q", o.status, o.stdout, o.stderr)
			}
		})
	}
	t.Run("a connection that breaks after nonsense", func(t *testing.T) {
		s, err := peer.Listen("127.0.0.1:0", peer.Each(peer.Then(func(p *peer.Peer, s uint32) error {
			if err := p.SendHeaders(s, false, ":status", "200", "content-type", "application/grpc"); err != nil {
				return err
			}
			return p.SendData(s, peer.Message([]byte{8, 1}), false)
		}, peer.HangUp())))
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		o := command(t, "", "call", "--plaintext", "--json", s.Addr(), "p.S/M")
		var f failure
		if err := json.Unmarshal([]byte(o.stdout), &f); err != nil || f.Error.ID != "http2.connection-lost" || f.Error.Processed != "yes" {
			t.Errorf("%v: %s", err, o.stdout)
		}
	})
}

func errorsOf(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

// TestTLS: calls through TLS, trusted, or not verified.
func TestTLS(t *testing.T) {
	cert, key := pair(t, t.TempDir(), "server")
	addr := startServe(t, "--cert", cert, "--key", key).addr
	for _, args := range [][]string{
		{"--cacert", cert}, {"--insecure"}, {"--cacert", cert, "--server-name", "127.0.0.1"}, {"-cacert=" + cert, "-servername", "127.0.0.1"}, {"--insecure", "--authority", "other.example"},
		{"--cacert", cert, "--cert", cert, "--key", key},
	} {
		o := command(t, "", append([]string{"call", "-v", addr, service + "/EmptyCall"}, args...)...)
		if o.status != 0 || o.stdout != "{}\n" || !strings.Contains(o.stderr, "TLS 1.3") || !strings.Contains(o.stderr, "certificate of CN=server") {
			t.Errorf("%q: %+v", args, o)
		}
	}
}

// TestUnix calls over a unix socket.
func TestUnix(t *testing.T) {
	dir, err := os.MkdirTemp("", "fl") // t.TempDir's names are too long for a socket
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	lis, err := net.Listen("unix", filepath.Join(dir, "s"))
	if err != nil {
		t.Fatal(err)
	}
	path := testServer(t, lis, true)
	for _, args := range [][]string{{"--unix", path}, {"unix:" + path}} {
		if o := command(t, "", append([]string{"call", "--plaintext", "--timeout", "5", service + "/EmptyCall"}[:4:4], append(args, service+"/EmptyCall")...)...); o.status != 0 || o.stdout != "{}\n" {
			t.Errorf("%q: %+v", args, o)
		}
	}
}

// TestWithoutReflection: v1alpha alone, none at all, one that says nothing, and
// one that is closed to strangers.
func TestWithoutReflection(t *testing.T) {
	only := func(wanted string, code codes.Code) faultline.ServerOption {
		return faultline.ChainStreamInterceptor(func(srv any, ss grpc.ServerStream, info *grpc.StreamServerInfo, next grpc.StreamHandler) error {
			if strings.Contains(info.FullMethod, "reflection") && !strings.Contains(info.FullMethod, wanted) {
				return status.Errorf(code, "not %s", info.FullMethod)
			}
			return next(srv, ss)
		})
	}
	alpha := testServer(t, loopback(t), true, only(".v1alpha.", codes.Unimplemented))
	none := testServer(t, loopback(t), false)
	closed := testServer(t, loopback(t), true, only("nobody", codes.PermissionDenied))
	silent, err := peer.Listen("127.0.0.1:0", peer.Each(peer.OK()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { silent.Close() })
	const data = `{"response_size":1}`
	note := "note: the server offers no reflection"
	for _, tc := range []struct {
		name string
		args []string
		outcome
	}{
		{"v1alpha", []string{"call", alpha, service + "/UnaryCall", "-d", data, "--json"}, outcome{0, `{"payload":{"body":"AA=="}}` + "\n", ""}},
		{"v1alpha lists", []string{"list", alpha, service, "--json"}, outcome{0, "UnaryCall", ""}},
		{"none, no data", []string{"call", none, service + "/EmptyCall"}, outcome{0, `{"bytes":""}` + "\n", note}},
		{"none, {}", []string{"call", none, service + "/UnaryCall", "-d", " { } "}, outcome{0, `{"bytes":"CgA="}` + "\n", note}},
		{"none, data", []string{"call", none, service + "/UnaryCall", "-d", data}, outcome{76, "", "hint          the server offers no reflection: describe its services with --proto FILE or --protoset FILE"}},
		{"none, unknown method", []string{"call", none, service + "/Nobody"}, outcome{76, "", "code = Unimplemented"}},
		{"none lists", []string{"list", none}, outcome{76, "", noReflection}},
		{"closed, no data", []string{"call", closed, service + "/EmptyCall"}, outcome{0, `{"bytes":""}` + "\n", note}},
		{"closed, data", []string{"call", closed, service + "/UnaryCall", "-d", data}, outcome{71, "", "code = PermissionDenied"}},
		{"silent, no data", []string{"call", silent.Addr(), service + "/EmptyCall"}, outcome{0, "", note}},
		{"silent, data", []string{"call", silent.Addr(), service + "/EmptyCall", "-d", data}, outcome{2, "", "ended without an answer; the server offers no reflection"}},
		{"silent lists", []string{"list", silent.Addr()}, outcome{2, "", "ended without an answer"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			o := command(t, "", append(tc.args, "--plaintext")...)
			if o.status != tc.status || !strings.Contains(o.stdout, tc.stdout) || tc.stdout == "" && o.stdout != "" || !strings.Contains(o.stderr, tc.stderr) {
				t.Errorf("got %+v, want %+v", o, tc.outcome)
			}
		})
	}
}

const api = `syntax = "proto3";
package demo;
import "types.proto";
// Greeter greets.
service Greeter {
  // Hello says hello.
  rpc Hello(Request) returns (stream demo.types.Answer);
}
message Request {
  string name = 1;
  oneof how { bool loud = 2; int32 times = 3; }
  optional int64 age = 4 [json_name = "years"];
  map<string, Request> friends = 5;
  repeated Mood moods = 6;
  enum Mood { SAD = 0; GLAD = 1; }
  message Inner { bytes b = 1; }
  Inner inner = 7;
}
`

// TestFiles: descriptors from .proto files and descriptor sets, nobody asked.
// old is of proto2, with what newer files do not have.
const old = `syntax = "proto2";
package old;
enum E { A = 0; B = 5; }
message M {
  required string name = 1;
  optional int64 n = 2 [default = 7];
  optional E e = 3 [default = B];
  repeated group G = 4 { optional bytes b = 1; }
  optional string s = 5 [default = "a\"b", json_name = "t"];
  extensions 100 to 200, 300, 1000 to max;
}
extend M { optional string ext = 100; }
service S { rpc Echo(M) returns (M); }
`

func TestFiles(t *testing.T) {
	dir := t.TempDir()
	for name, text := range map[string]string{"api.proto": api, "old.proto": old, "types.proto": "syntax = \"proto3\";\npackage demo.types;\nmessage Answer { string text = 1; }\n"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	set := &descriptorpb.FileDescriptorSet{}
	for _, d := range []string{"grpc/testing/empty.proto", "grpc/testing/messages.proto", "grpc/testing/test.proto"} {
		set.File = append(set.File, fileOf(t, d))
	}
	b, err := proto.Marshal(set)
	if err != nil {
		t.Fatal(err)
	}
	protoset := filepath.Join(dir, "test.set")
	if err := os.WriteFile(protoset, b, 0o600); err != nil {
		t.Fatal(err)
	}
	addr := testServer(t, loopback(t), false)
	for _, tc := range []struct {
		args []string
		outcome
	}{
		{[]string{"list", "--proto", "api.proto", "--import-path", dir}, outcome{0, "demo.Greeter\n", ""}},
		{[]string{"list", "--proto", filepath.Join(dir, "api.proto"), "--import-path", dir, "-", "demo.Greeter"}, outcome{0, "demo.Greeter/Hello\n", ""}},
		{[]string{"describe", "--proto", "api.proto", "--import-path", dir, "-", "demo.Greeter"}, outcome{0, "// Greeter greets.\nservice Greeter {\n  // Hello says hello.\n  rpc Hello ( .demo.Request ) returns ( stream .demo.types.Answer );\n}\n", ""}},
		{[]string{"describe", "--proto", "api.proto", "--import-path", dir, "-", "demo.Request"}, outcome{0, `message Request {
  string name = 1;
  oneof how {
    bool loud = 2;
    int32 times = 3;
  }
  optional int64 age = 4 [json_name = "years"];
  map<string, .demo.Request> friends = 5;
  repeated .demo.Request.Mood moods = 6;
  .demo.Request.Inner inner = 7;
  enum Mood {
    SAD = 0;
    GLAD = 1;
  }
  message Inner {
    bytes b = 1;
  }
}
`, ""}},
		{[]string{"describe", "--proto", "api.proto", "--import-path", dir, "--msg-template", "-", "demo.Greeter/Hello"}, outcome{0, `"moods": [
    "SAD"
  ],`, ""}},
		{[]string{"describe", "--proto", filepath.Join(dir, "old.proto"), "-", "old.M"}, outcome{0, `message M {
  required string name = 1;
  optional int64 n = 2 [default = 7];
  optional .old.E e = 3 [default = B];
  repeated .old.M.G g = 4;
  optional string s = 5 [default = "a\"b", json_name = "t"];
  extensions 100 to 200, 300, 1000 to max;
  message G {
    optional bytes b = 1;
  }
}
`, ""}},
		{[]string{"describe", "--proto", filepath.Join(dir, "old.proto"), "-", "old.ext"}, outcome{0, "extend .old.M {\n  optional string ext = 100;\n}\n", ""}},
		{[]string{"describe", "--proto", filepath.Join(dir, "old.proto"), "-", "old.S/Echo", "--msg-template"}, outcome{0, `
{
  "name": "",
  "n": "7",
  "e": "B",
  "g": [
    {
      "b": ""
    }
  ],
  "t": "a\"b"
}
`, ""}},
		{[]string{"list", "--protoset", protoset}, outcome{0, "grpc.testing.TestService\n", ""}},
		{[]string{"list", "--protoset", protoset, "-", "grpc.testing.TestServise"}, outcome{2, "", `does not have "grpc.testing.TestServise"; did you mean "grpc.testing.TestService"?`}},
		{[]string{"call", "--protoset", protoset, "--plaintext", addr, service + "/UnaryCall", "--json", "-d", `{"response_size":1}`}, outcome{0, `{"payload":{"body":"AA=="}}` + "\n", ""}},
		{[]string{"call", "--protoset", protoset, "--plaintext", addr, service + "/UnaryCal"}, outcome{2, "", `did you mean "grpc.testing.TestService/UnaryCall"?`}},
		{[]string{"call", "--protoset", protoset, "--plaintext", addr, "grpc.testing.Payload/x"}, outcome{2, "", `"grpc.testing.Payload" is no service`}},
		{[]string{"__complete", "call", "--protoset", protoset, "nowhere:1", service + "/Em"}, outcome{0, service + "/EmptyCall\n", ""}},
	} {
		t.Run(strings.Join(tc.args, " "), func(t *testing.T) {
			o := command(t, "", tc.args...)
			if o.status != tc.status || !strings.Contains(o.stdout, tc.stdout) || tc.stdout == "" && o.stdout != "" || !strings.Contains(o.stderr, tc.stderr) {
				t.Errorf("got %+v, want %+v", o, tc.outcome)
			}
		})
	}
}

func fileOf(t *testing.T, name string) *descriptorpb.FileDescriptorProto {
	t.Helper()
	for _, d := range []protoreflect.FileDescriptor{testpb.File_grpc_testing_empty_proto, testpb.File_grpc_testing_messages_proto, testpb.File_grpc_testing_test_proto} {
		if d.Path() == name {
			return protodesc.ToFileDescriptorProto(d)
		}
	}
	t.Fatalf("there is no %s", name)
	return nil
}

// TestInterrupted: Ctrl-C cancels a call that would go on for ever.
func TestInterrupted(t *testing.T) {
	s, err := peer.Listen("127.0.0.1:0", peer.Each(peer.Silence()))
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	ctx, cancel := context.WithCancel(t.Context())
	var out, errs bytes.Buffer
	done := make(chan int, 1)
	go func() {
		done <- runWith(ctx, []string{"call", "--plaintext", s.Addr(), service + "/EmptyCall"}, strings.NewReader(""), &out, &errs)
	}()
	cancel()
	select {
	case status := <-done:
		if status != exitCall+int(codes.Canceled) || !strings.Contains(errs.String(), "call.cancelled") {
			t.Errorf("status %d, stderr %s", status, errs.String())
		}
	case <-time.After(10 * time.Second):
		t.Fatal("it goes on")
	}
}

func TestExplainVerb(t *testing.T) {
	for _, tc := range []struct {
		stdin string
		args  []string
		outcome
	}{
		{"", []string{"explain", "tls.plaintext-peer"}, outcome{0, "tls.plaintext-peer: the client speaks TLS", ""}},
		{"", []string{"explain", "Unavailable"}, outcome{0, "UNAVAILABLE (14): ", ""}},
		{"", []string{"explain", "transport", "is", "closing"}, outcome{0, "1. http2.connection-lost: ", ""}},
		{"E: 14 UNAVAILABLE: read ECONNRESET\n", []string{"explain", "-"}, outcome{0, "1. http2.connection-lost: ", ""}},
		{"", []string{"explain", "--json", "too_many_pings"}, outcome{0, `"id": "http2.goaway-calm"`, ""}},
		{"", []string{"explain", "what a day"}, outcome{1, "Nothing in this text is known", ""}},
		{"", []string{"explain", "--json", "what a day"}, outcome{1, `"kind": "unknown"`, ""}},
		{"", []string{"__complete", "explain", "dial.ref"}, outcome{0, "dial.refused", ""}},
		{"", []string{"completion", "bash"}, outcome{0, "bash completion V2 for faultline", ""}},
		{"", []string{"completion", "zsh"}, outcome{0, "#compdef faultline", ""}},
		{"", []string{"completion", "fish"}, outcome{0, "fish completion for faultline", ""}},
		{"", []string{"completion", "powershell"}, outcome{0, "powershell completion for faultline", ""}},
	} {
		o := command(t, tc.stdin, tc.args...)
		if o.status != tc.status || !strings.Contains(o.stdout, tc.stdout) {
			t.Errorf("%q: %+v, want %+v", tc.args, o, tc.outcome)
		}
	}
}
