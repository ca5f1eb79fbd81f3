// SPDX-License-Identifier: Apache-2.0

package wire

import (
	"reflect"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"

	"github.com/faultline-rpc/faultline/fault"
	"github.com/faultline-rpc/faultline/h2"
	"github.com/faultline-rpc/faultline/h2/hpack"
)

// block makes a header section from "name: value" lines.
func block(lines ...string) *h2.Block {
	b := new(h2.Block)
	for _, l := range lines {
		i := strings.Index(l[1:], ":") + 1 // a pseudo-header field begins with a colon
		b.Fields = append(b.Fields, hpack.Field{Name: l[:i], Value: strings.TrimPrefix(l[i+1:], " ")})
	}
	return b
}

var goodRequest = []string{
	":method: POST", ":scheme: http", ":path: /pkg.Greeter/Hello", ":authority: host:50051",
	"content-type: application/grpc", "user-agent: grpc-go/1.85.0", "te: trailers",
}

// with returns the good request with lines replaced by name, or added.
func with(lines ...string) []string {
	all := append([]string(nil), goodRequest...)
next:
	for _, l := range lines {
		name := l[:strings.Index(l[1:], ":")+2]
		for i := range all {
			if strings.HasPrefix(all[i], name) {
				all[i] = l
				continue next
			}
		}
		all = append(all, l)
	}
	return all
}

// without returns the good request without the named field.
func without(name string) []string {
	var all []string
	for _, l := range goodRequest {
		if !strings.HasPrefix(l, name+":") {
			all = append(all, l)
		}
	}
	return all
}

func TestParseRequest(t *testing.T) {
	h := ParseRequest(block(with("grpc-timeout: 1500m", "grpc-encoding: gzip", "grpc-accept-encoding: gzip", "grpc-accept-encoding: zstd",
		"x-id: 1", "x-id: 2", "k-bin: YQ==,YWI", "grpc-previous-rpc-attempts: 2", "authorization: Bearer t")...))
	if h.Refusal != nil {
		t.Fatal(h.Refusal.Fault)
	}
	// with replaces equal names, so repeat them here.
	b := block(with("x-id: 1")...)
	b.Fields = append(b.Fields, hpack.Field{Name: "x-id", Value: "2"}, hpack.Field{Name: "k-bin", Value: "YQ==,YWI"},
		hpack.Field{Name: "grpc-timeout", Value: "1500m"}, hpack.Field{Name: "grpc-encoding", Value: "gzip"},
		hpack.Field{Name: "grpc-accept-encoding", Value: "gzip"}, hpack.Field{Name: "grpc-accept-encoding", Value: "zstd"},
		hpack.Field{Name: "grpc-previous-rpc-attempts", Value: "2"}, hpack.Field{Name: "host", Value: "dropped"})
	h = ParseRequest(b)
	want := RequestHead{
		Path: "/pkg.Greeter/Hello", Service: "pkg.Greeter", Method: "Hello", Authority: "host:50051", Scheme: "http", UserAgent: "grpc-go/1.85.0",
		ContentType: "application/grpc", Encoding: "gzip", AcceptEncoding: "gzip,zstd", Timeout: 1500 * time.Millisecond, HasTimeout: true,
		MD: metadata.MD{":authority": {"host:50051"}, "content-type": {"application/grpc"}, "user-agent": {"grpc-go/1.85.0"},
			"grpc-accept-encoding": {"gzip", "zstd"}, "x-id": {"1", "2"}, "k-bin": {"a", "ab"}, "grpc-previous-rpc-attempts": {"2"}},
	}
	if !reflect.DeepEqual(h, want) {
		t.Errorf("got  %+v", h)
		t.Errorf("want %+v", want)
	}
}

func TestHostBecomesAuthority(t *testing.T) {
	h := ParseRequest(block(append(without(":authority"), "host: example.com")...))
	if h.Refusal != nil || h.Authority != "example.com" || !reflect.DeepEqual(h.MD[":authority"], []string{"example.com"}) || h.MD["host"] != nil {
		t.Errorf("authority %q, metadata %v, refusal %+v", h.Authority, h.MD, h.Refusal)
	}
}

func TestHiddenRequestFields(t *testing.T) {
	h := ParseRequest(block(with("grpc-status: 0", "grpc-message: x", "grpc-message-type: y", "grpc-timeout: 1S", "grpc-encoding: identity",
		"connection: close", "keep-alive: 1", ":protocol: x")...))
	want := metadata.MD{":authority": {"host:50051"}, "content-type": {"application/grpc"}, "user-agent": {"grpc-go/1.85.0"}}
	if h.Refusal != nil || !reflect.DeepEqual(h.MD, want) {
		t.Errorf("metadata %v, refusal %+v, want %v", h.MD, h.Refusal, want)
	}
}

func TestRefusals(t *testing.T) {
	for name, c := range map[string]struct {
		lines []string
		id    fault.ID
		code  codes.Code
		http  int
		text  string
	}{
		"GET":                    {with(":method: GET"), "wire.not-post", codes.Unknown, 405, `method is "GET", gRPC wants POST`},
		"no method":              {without(":method"), "wire.not-post", codes.Unknown, 405, `method is ""`},
		"GET of a browser":       {with(":method: GET", "content-type: text/html"), "wire.not-post", codes.Unknown, 405, "GET"},
		"no content-type":        {without("content-type"), "wire.not-grpc-request", codes.Unknown, 415, `content-type is "", want application/grpc`},
		"json":                   {with("content-type: application/json"), "wire.not-grpc-request", codes.Unknown, 415, "application/json"},
		"no authority":           {without(":authority"), "wire.authority", codes.Internal, 400, "neither :authority nor host"},
		"two authorities":        {append(with(), ":authority: other"), "wire.authority", codes.Internal, 400, "2 :authority and 0 host fields"},
		"two hosts":              {append(with(), "host: a", "host: b"), "wire.authority", codes.Internal, 400, "1 :authority and 2 host fields"},
		"two hosts, not gRPC":    {append(with("content-type: text/html"), "host: a", "host: b"), "wire.authority", codes.Internal, 400, "2 host"},
		"userinfo":               {with(":authority: user@host"), "wire.authority", codes.Unauthenticated, 200, `:authority "user@host" is no host`},
		"space in authority":     {with(":authority: a b"), "wire.authority", codes.Unauthenticated, 200, "is no host"},
		"path in authority":      {with(":authority: host/x"), "wire.authority", codes.Unauthenticated, 200, "is no host"},
		"bytes in authority":     {with(":authority: h\xffst"), "wire.authority", codes.Unauthenticated, 200, "is no host"},
		"timeout without unit":   {with("grpc-timeout: 100"), "wire.bad-timeout", codes.Internal, 400, "malformed grpc-timeout: unit is '0'"},
		"timeout of nine digits": {with("grpc-timeout: 123456789n"), "wire.bad-timeout", codes.Internal, 400, "1 to 8 digits"},
		"bad base64":             {with("k-bin: !!"), "wire.bad-metadata", codes.Internal, 200, `metadata "k-bin" is no base64`},
		"path without slash":     {with(":path: pkg.Greeter/Hello"), "handler.unknown-method", codes.Unimplemented, 200, `malformed method name "pkg.Greeter/Hello"`},
		"path of one part":       {with(":path: /Hello"), "handler.unknown-method", codes.Unimplemented, 200, "want /package.Service/Method"},
		"path is a slash":        {with(":path: /"), "handler.unknown-method", codes.Unimplemented, 200, "malformed"},
		"empty path":             {with(":path: "), "handler.unknown-method", codes.Unimplemented, 200, "malformed"},
		"no path":                {without(":path"), "handler.unknown-method", codes.Unimplemented, 200, "malformed"},
	} {
		t.Run(name, func(t *testing.T) {
			h := ParseRequest(block(c.lines...))
			if h.Refusal == nil {
				t.Fatal("not refused")
			}
			if h.Refusal.HTTPStatus != c.http {
				t.Errorf("HTTP status %d, want %d", h.Refusal.HTTPStatus, c.http)
			}
			wantFault(t, h.Refusal.Fault, c.id, c.code, fault.Remote, fault.No, c.text)
		})
	}
}

func TestTooLargeRequest(t *testing.T) {
	b := block(":method: GET", "k-bin: !")
	b.TooLarge = true
	h := ParseRequest(b)
	if h.Refusal == nil || h.Refusal.HTTPStatus != 200 {
		t.Fatalf("refusal %+v", h.Refusal)
	}
	wantFault(t, h.Refusal.Fault, "http2.header-list", codes.Internal, fault.Remote, fault.No, "more than this server's limit MaxHeaderListSize")
}

func TestRefusalsKeepNoValues(t *testing.T) {
	long := strings.Repeat("x", 100_000)
	for _, lines := range [][]string{with(":path: " + long), with(":method: " + long), with("content-type: " + long), with(":authority: @" + long),
		with("grpc-timeout: " + long), with(long + "-bin: !")} {
		f := ParseRequest(block(lines...)).Refusal.Fault
		if ev := f.Evidence(); len(f.Message()) > 700 || len(ev.Method)+len(ev.Content)+len(ev.Authority)+len(ev.Header) > 300 {
			t.Errorf("%s keeps %d bytes of message, evidence %+v", f.ID(), len(f.Message()), ev)
		}
	}
	f := ParseRequest(block(with("secret-bin: hunter2!")...)).Refusal.Fault
	if strings.Contains(f.Message(), "hunter2") || f.Evidence().Header != "secret-bin" {
		t.Errorf("%v, evidence %+v", f, f.Evidence())
	}
}

func TestServiceAndMethod(t *testing.T) {
	for _, c := range []struct{ path, service, method string }{
		{"/a.B/C", "a.B", "C"},
		{"/a/b/C", "a/b", "C"},
		{"//C", "", "C"}, // an empty service is unknown, not malformed, as in grpc-go
		{"/a.B/", "a.B", ""},
	} {
		h := ParseRequest(block(with(":path: " + c.path)...))
		if h.Service != c.service || h.Method != c.method || h.Refusal != nil {
			t.Errorf("%q: service %q, method %q, refusal %+v", c.path, h.Service, h.Method, h.Refusal)
		}
	}
}

func TestParseContentType(t *testing.T) {
	for _, c := range []struct {
		in, subtype string
		ok          bool
	}{
		{"application/grpc", "", true},
		{"Application/GRPC", "", true},
		{"application/grpc+proto", "proto", true},
		{"application/grpc+JSON", "json", true},
		{"application/grpc+", "", true},
		{"application/grpc;", "", true},
		{"application/grpc;proto", "proto", true},
		{"application/grpc;charset=utf-8", "", true},
		{"application/grpc ; charset=utf-8", "", true},
		{"application/grpc ", "", true},
		{"application/grpc+proto; charset=utf-8", "proto", true},
		{"application/grpc+proto ;v=1", "proto", true},
		{"", "", false},
		{"application/grp", "", false},
		{"application/grpcfoo", "", false},
		{"application/grpc foo", "", false},
		{"application/grpc-web", "", false},
		{"application/grpc-web+proto", "", false},
		{"text/html; application/grpc", "", false},
	} {
		if subtype, ok := ParseContentType(c.in); subtype != c.subtype || ok != c.ok {
			t.Errorf("ParseContentType(%q) = %q, %v, want %q, %v", c.in, subtype, ok, c.subtype, c.ok)
		}
	}
	for _, subtype := range []string{"", "proto", "json"} {
		if got, ok := ParseContentType(ContentType(subtype)); got != subtype || !ok {
			t.Errorf("%q came back as %q, %v", subtype, got, ok)
		}
	}
}

func FuzzRequestHead(f *testing.F) {
	f.Add(strings.Join(goodRequest, "\n"), false)
	f.Add(strings.Join(with("grpc-timeout: 5x", "k-bin: YQ=="), "\n"), false)
	f.Add(strings.Join(with(":path: x", ":authority: "), "\n"), false)
	f.Add(strings.Join(append(with(), "host: a", "host: b"), "\n"), true)
	f.Add("x", false)
	f.Fuzz(func(t *testing.T, s string, tooLarge bool) {
		b := &h2.Block{TooLarge: tooLarge}
		for _, l := range strings.Split(s, "\n") {
			if l == "" {
				continue
			}
			name, value, _ := strings.Cut(l[1:], ": ")
			b.Fields = append(b.Fields, hpack.Field{Name: l[:1] + name, Value: value})
		}
		h := ParseRequest(b)
		if r := h.Refusal; r != nil {
			if r.Fault.Processed() != fault.No || len(r.Fault.Message()) > 2000 {
				t.Errorf("refusal %v, processed %v", r.Fault, r.Fault.Processed())
			}
			switch r.HTTPStatus {
			case 200, 400, 405, 415:
			default:
				t.Errorf("HTTP status %d", r.HTTPStatus)
			}
			return
		}
		if h.Path[0] != '/' || h.Path != "/"+h.Service+"/"+h.Method || h.MD == nil || h.Timeout < 0 || len(h.MD[":authority"]) != 1 {
			t.Errorf("accepted %+v", h)
		}
	})
}
