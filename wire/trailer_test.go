// SPDX-License-Identifier: Apache-2.0

package wire

import (
	"bytes"
	"encoding/base64"
	"reflect"
	"strings"
	"testing"
	"unicode/utf8"

	spb "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/faultline-rpc/faultline/fault"
	"github.com/faultline-rpc/faultline/h2"
	"github.com/faultline-rpc/faultline/h2/hpack"
)

func details(t testing.TB, code codes.Code, message string) (raw []byte, line string) {
	t.Helper()
	raw, err := proto.Marshal(&spb.Status{Code: int32(code), Message: message, Details: []*anypb.Any{{TypeUrl: "type.example/unregistered", Value: []byte{1}}}})
	if err != nil {
		t.Fatal(err)
	}
	return raw, "grpc-status-details-bin: " + base64.StdEncoding.EncodeToString(raw)
}

func TestParseTrailer(t *testing.T) {
	for name, c := range map[string]struct {
		lines []string
		want  Trailer
	}{
		"ok":                  {[]string{"grpc-status: 0"}, Trailer{}},
		"ok with metadata":    {[]string{"grpc-status: 0", "x-id: 1", "k-bin: YQ"}, Trailer{MD: metadata.MD{"x-id": {"1"}, "k-bin": {"a"}}}},
		"error":               {[]string{"grpc-status: 14", "grpc-message: 100%25 gone"}, Trailer{Code: codes.Unavailable, Message: "100% gone"}},
		"message first":       {[]string{"grpc-message: m", "grpc-status: 5"}, Trailer{Code: codes.NotFound, Message: "m"}},
		"broken encoding":     {[]string{"grpc-status: 2", "grpc-message: 50% off%FF"}, Trailer{Code: codes.Unknown, Message: "50% off%FF"}},
		"leading zero":        {[]string{"grpc-status: 05"}, Trailer{Code: codes.NotFound}},
		"private code":        {[]string{"grpc-status: 1001", "grpc-message: ours"}, Trailer{Code: codes.Code(1001), Message: "ours"}},
		"after a 503":         {[]string{":status: 503", "grpc-status: 8"}, Trailer{Code: codes.ResourceExhausted}}, // "If grpc-status was provided, it must be used"
		"foreign fields":      {[]string{"grpc-status: 0", "grpc-encoding: x", "te: x", "content-type: text/html", ":status: 200"}, Trailer{}},
		"details unreadable":  {[]string{"grpc-status: 5", "grpc-message: m", "grpc-status-details-bin: //8"}, Trailer{Code: codes.NotFound, Message: "m", Details: []byte{0xff, 0xff}, MD: metadata.MD{"grpc-status-details-bin": {"\xff\xff"}}}},
		"details twice":       {[]string{"grpc-status: 5", "grpc-status-details-bin: CAU", "grpc-status-details-bin: CAU"}, Trailer{Code: codes.NotFound, MD: metadata.MD{"grpc-status-details-bin": {"\x08\x05", "\x08\x05"}}}},
		"details, one joined": {[]string{"grpc-status: 5", "grpc-status-details-bin: CAU,CAU"}, Trailer{Code: codes.NotFound, MD: metadata.MD{"grpc-status-details-bin": {"\x08\x05", "\x08\x05"}}}},
	} {
		t.Run(name, func(t *testing.T) {
			if got := ParseTrailer(block(c.lines...), 200); !reflect.DeepEqual(got, c.want) {
				t.Errorf("got  %+v", got)
				t.Errorf("want %+v", c.want)
			}
		})
	}
}

func TestParseTrailerDetails(t *testing.T) {
	raw, line := details(t, codes.NotFound, "long story")
	tr := ParseTrailer(block("grpc-status: 5", "grpc-message: short", line), 200)
	if tr.Fault != nil || tr.Code != codes.NotFound || tr.Message != "long story" || !bytes.Equal(tr.Details, raw) {
		t.Errorf("%+v", tr)
	}
	if len(tr.Status.GetDetails()) != 1 || tr.Status.Details[0].TypeUrl != "type.example/unregistered" {
		t.Errorf("details %v", tr.Status.GetDetails())
	}
	_, line = details(t, codes.NotFound, "")
	if tr := ParseTrailer(block("grpc-status: 5", "grpc-message: short", line), 200); tr.Message != "short" {
		t.Errorf("message %q, want grpc-message where the details have none", tr.Message)
	}
}

func TestParseTrailerFaults(t *testing.T) {
	_, notFound := details(t, codes.NotFound, "story")
	for name, c := range map[string]struct {
		lines []string
		http  int
		id    fault.ID
		code  codes.Code
		side  fault.Side
		text  string
	}{
		"no status":         {[]string{"grpc-message: error"}, 200, "wire.status-missing", codes.Unknown, fault.Remote, `no grpc-status; grpc-message is "error"`},
		"nothing":           {nil, 200, "wire.status-missing", codes.Unknown, fault.Remote, "no grpc-status"},
		"nothing after 503": {nil, 503, "wire.http-status", codes.Unavailable, fault.Between, "HTTP 503"},
		"only a 403":        {[]string{":status: 403", "content-type: application/grpc"}, 0, "wire.http-status", codes.PermissionDenied, fault.Between, "HTTP 403"},
		"a name":            {[]string{"grpc-status: UNAVAILABLE"}, 200, "wire.status-unparsable", codes.Unknown, fault.Remote, `grpc-status is "UNAVAILABLE", want a number`},
		"empty":             {[]string{"grpc-status: "}, 200, "wire.status-unparsable", codes.Unknown, fault.Remote, `grpc-status is ""`},
		"negative":          {[]string{"grpc-status: -1"}, 200, "wire.status-unparsable", codes.Unknown, fault.Remote, `"-1"`},
		"plus":              {[]string{"grpc-status: +1"}, 200, "wire.status-unparsable", codes.Unknown, fault.Remote, `"+1"`},
		"too large":         {[]string{"grpc-status: 2147483648"}, 200, "wire.status-unparsable", codes.Unknown, fault.Remote, `"2147483648"`},
		"endless":           {[]string{"grpc-status: " + strings.Repeat("1", 99999)}, 200, "wire.status-unparsable", codes.Unknown, fault.Remote, "..."},
		"bad base64":        {[]string{"grpc-status: 5", "grpc-message: gone", "k-bin: !"}, 200, "wire.bad-metadata", codes.Internal, fault.Remote, `metadata "k-bin" in the trailers is no base64; they say grpc-status 5; grpc-message is "gone"`},
		"bad details":       {[]string{"grpc-status: 5", "grpc-status-details-bin: !"}, 200, "wire.bad-metadata", codes.Internal, fault.Remote, "they say grpc-status 5"},
		"mismatch":          {[]string{"grpc-status: 7", "grpc-message: no", notFound}, 200, "wire.status-details-mismatch", codes.Internal, fault.Remote, `grpc-status is 7, grpc-status-details-bin says 5; grpc-message is "no"`},
		"mismatch with OK":  {[]string{"grpc-status: 0", notFound}, 200, "wire.status-details-mismatch", codes.Internal, fault.Remote, "grpc-status is 0"},
	} {
		t.Run(name, func(t *testing.T) {
			tr := ParseTrailer(block(c.lines...), c.http)
			if tr.Fault == nil {
				t.Fatalf("no fault: %+v", tr)
			}
			f := wantFault(t, tr.Fault, c.id, c.code, c.side, fault.Maybe, c.text)
			if tr.Code != f.Code() || tr.Message != f.Message() || len(f.Message()) > 1500 || len(f.Evidence().GRPCStatus) > 300 {
				t.Errorf("%v %q, evidence %+v", tr.Code, tr.Message, f.Evidence())
			}
		})
	}
	b := block("grpc-status: 0")
	b.TooLarge = true
	wantFault(t, ParseTrailer(b, 200).Fault, "http2.header-list", codes.Internal, fault.Local, fault.Maybe, "the trailers have")
}

func TestAppendStatus(t *testing.T) {
	for _, c := range []struct {
		code    codes.Code
		message string
		details []byte
		want    string
	}{
		{codes.OK, "", nil, "grpc-status=0"},
		{codes.Unauthenticated, "", nil, "grpc-status=16"},
		{codes.Code(1001), "é", nil, "grpc-status=1001 grpc-message=%C3%A9"},
		{codes.NotFound, "no %", []byte{8, 5}, "grpc-status=5 grpc-message=no %25 grpc-status-details-bin=CAU"},
	} {
		first := hpack.Field{Name: "first"}
		got := AppendStatus([]hpack.Field{first}, c.code, c.message, c.details)
		if got[0] != first || show(got[1:]) != c.want {
			t.Errorf("got %s, want %s", show(got), c.want)
		}
		tr := ParseTrailer(&h2.Block{Fields: got[1:]}, 200)
		if tr.Code != c.code || tr.Message != c.message || !bytes.Equal(tr.Details, c.details) || tr.Fault != nil {
			t.Errorf("read back as %+v", tr)
		}
	}
}

func FuzzTrailer(f *testing.F) {
	f.Add("0", "", "", "", 200)
	f.Add("5", "gone %C3%BC%", "CAUSA2E=", "YQ", 200)
	f.Add("7", "x", "CAU", "!", 0)
	f.Add("nine", "x", "//8", ",", 503)
	f.Add("99999999999", "\xff", "", "", -1)
	f.Fuzz(func(t *testing.T, status, message, details, binary string, httpStatus int) {
		b := &h2.Block{}
		for _, fd := range []hpack.Field{{Name: "grpc-status", Value: status}, {Name: "grpc-message", Value: message},
			{Name: "grpc-status-details-bin", Value: details}, {Name: "k-bin", Value: binary}} {
			if fd.Value != "" {
				b.Fields = append(b.Fields, fd)
			}
		}
		tr := ParseTrailer(b, httpStatus)
		if !utf8.ValidString(tr.Message) {
			t.Errorf("message %q is not valid UTF-8", tr.Message)
		}
		if tr.Fault != nil {
			if tr.Code == codes.OK || tr.Code != tr.Fault.Code() || tr.Fault.Processed() != fault.Maybe || len(tr.Fault.Message()) > 2000 {
				t.Errorf("%v, %v", tr.Code, tr.Fault)
			}
			return
		}
		// What was accepted says the same when it is sent on.
		again := ParseTrailer(&h2.Block{Fields: AppendStatus(nil, tr.Code, tr.Message, tr.Details)}, 200)
		if again.Fault != nil || again.Code != tr.Code || again.Message != tr.Message {
			t.Errorf("%+v was sent on as %+v", tr, again)
		}
	})
}
