// SPDX-License-Identifier: Apache-2.0

package wire

import (
	"reflect"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"

	"github.com/faultline-rpc/faultline/fault"
)

func TestParseResponse(t *testing.T) {
	h := ParseResponse(block(":status: 200", "content-type: application/grpc+Proto", "grpc-encoding: gzip", "grpc-accept-encoding: gzip",
		"grpc-accept-encoding: zstd", "server: envoy", "x-id: 1", "x-id: 2", "k-bin: YQ", "te: x", "connection: close", "grpc-message: early"))
	want := ResponseHead{
		HTTPStatus: 200, ContentType: "application/grpc+Proto", GRPC: true, Subtype: "proto", Encoding: "gzip", AcceptEncoding: "gzip,zstd", Server: "envoy",
		MD: metadata.MD{"content-type": {"application/grpc+Proto"}, "grpc-accept-encoding": {"gzip", "zstd"}, "server": {"envoy"}, "x-id": {"1", "2"}, "k-bin": {"a"}},
	}
	if !reflect.DeepEqual(h, want) {
		t.Errorf("got  %+v", h)
		t.Errorf("want %+v", want)
	}
}

func TestParseResponseTrailersOnly(t *testing.T) {
	b := block(":status: 200", "content-type: application/grpc", "grpc-status: 5", "grpc-message: gone", "x-id: 1")
	h := ParseResponse(b)
	if !h.HasStatus || !h.GRPC || h.Fault != nil {
		t.Errorf("%+v", h)
	}
	tr := ParseTrailer(b, 0)
	want := Trailer{Code: codes.NotFound, Message: "gone", MD: metadata.MD{"content-type": {"application/grpc"}, "x-id": {"1"}}}
	if !reflect.DeepEqual(tr, want) {
		t.Errorf("got %+v, want %+v", tr, want)
	}
}

func TestParseResponseFaults(t *testing.T) {
	b := block(":status: 200", "content-type: application/grpc")
	b.TooLarge = true
	wantFault(t, ParseResponse(b).Fault, "http2.header-list", codes.Internal, fault.Local, fault.Maybe, "more than this side's limit WithMaxHeaderListSize")
	h := ParseResponse(block(":status: 200", "content-type: application/grpc", "k-bin: hunter2!"))
	f := wantFault(t, h.Fault, "wire.bad-metadata", codes.Internal, fault.Remote, fault.Maybe, `metadata "k-bin" in the response headers is no base64`)
	if strings.Contains(f.Error(), "hunter2") {
		t.Errorf("the value is in the fault: %v", f)
	}
	// Of an answer that is no gRPC at all, this is not the trouble.
	if h := ParseResponse(block(":status: 503", "content-type: text/html", "k-bin: !")); h.Fault != nil || h.GRPC {
		t.Errorf("%+v", h)
	}
}

func TestNotGRPC(t *testing.T) {
	for name, c := range map[string]struct {
		lines []string
		id    fault.ID
		code  codes.Code
		text  string
	}{
		"bad gateway":         {[]string{":status: 502", "content-type: text/html", "server: nginx/1.25"}, "wire.http-status", codes.Unavailable, `HTTP 502 (Bad Gateway) from "nginx/1.25" with content-type "text/html", want gRPC`},
		"not found":           {[]string{":status: 404"}, "wire.http-status", codes.Unimplemented, "HTTP 404 (Not Found) without content-type"},
		"too large":           {[]string{":status: 431"}, "wire.http-status", codes.Unknown, "HTTP 431"},
		"unheard of":          {[]string{":status: 799"}, "wire.http-status", codes.Unknown, "HTTP 799 without"},
		"a web page":          {[]string{":status: 200", "content-type: text/html"}, "wire.content-type", codes.Unknown, `HTTP 200 (OK) with content-type "text/html"`},
		"gRPC-Web":            {[]string{":status: 200", "content-type: application/grpc-web"}, "wire.content-type", codes.Unknown, "grpc-web"},
		"no status":           {[]string{"content-type: text/html"}, "wire.http-status", codes.Unknown, "no HTTP status"},
		"status is no number": {[]string{":status: +20"}, "wire.http-status", codes.Unknown, "no HTTP status"},
	} {
		t.Run(name, func(t *testing.T) {
			h := ParseResponse(block(c.lines...))
			if h.GRPC || h.HasStatus {
				t.Errorf("%+v", h)
			}
			f := wantFault(t, h.NotGRPC([]byte("<html>\x00\xff"+strings.Repeat("x", 10_000))), c.id, c.code, fault.Between, fault.Maybe, c.text)
			ev := f.Evidence()
			if ev.HTTPStatus != h.HTTPStatus || ev.HTTPServer != h.Server || ev.Content != h.ContentType || !ev.Answered {
				t.Errorf("evidence %+v", ev)
			}
			if !strings.HasPrefix(ev.Sample, "<html>..x") || len(ev.Sample) > 600 {
				t.Errorf("sample of %d bytes: %.20q", len(ev.Sample), ev.Sample)
			}
		})
	}
}
