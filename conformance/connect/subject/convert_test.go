// SPDX-License-Identifier: Apache-2.0

package subject

import (
	"errors"
	"reflect"
	"testing"

	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/faultline-rpc/faultline/conformance/internal/gen/conformancev1"
)

func TestMetadata(t *testing.T) {
	hs := []*conformancev1.Header{
		{Name: "X-Bin", Value: []string{"AAE", "AAEC/w=="}},
		{Name: "x-text", Value: []string{"a", "b"}},
	}
	md := toMetadata(hs)
	want := metadata.MD{"x-bin": {"\x00\x01", "\x00\x01\x02\xff"}, "x-text": {"a", "b"}}
	if !reflect.DeepEqual(md, want) {
		t.Errorf("toMetadata = %q, want %q", md, want)
	}
	back := fromMetadata(md)
	if len(back) != 2 || back[0].GetName() != "x-bin" || !reflect.DeepEqual(back[0].GetValue(), []string{"AAE", "AAEC/w"}) || back[1].GetName() != "x-text" {
		t.Errorf("fromMetadata = %v", back)
	}
	if !reflect.DeepEqual(md, want) {
		t.Errorf("fromMetadata changed its argument to %q", md)
	}
}

func TestErrors(t *testing.T) {
	detail, err := anypb.New(&conformancev1.Header{Name: "n"})
	if err != nil {
		t.Fatal(err)
	}
	e := &conformancev1.Error{Code: conformancev1.Code_CODE_ABORTED, Message: proto.String("m"), Details: []*anypb.Any{detail}}
	if got := fromError(toError(e)); !proto.Equal(got, e) {
		t.Errorf("there and back: %v, want %v", got, e)
	}
	if got := fromError(nil); got != nil {
		t.Errorf("fromError(nil) = %v, want nil", got)
	}
	if got := fromError(errors.New("x")); got.GetCode() != conformancev1.Code_CODE_UNKNOWN || got.GetMessage() != "x" {
		t.Errorf("fromError of no status = %v, want UNKNOWN x", got)
	}
}

func TestBadCredentials(t *testing.T) {
	for name, req := range map[string]*conformancev1.ServerCompatRequest{
		"no certificate": {UseTls: true},
	} {
		if _, err := serverCreds(req); err == nil {
			t.Errorf("server, %s: no error", name)
		}
	}
	if _, err := clientCreds(&conformancev1.ClientCompatRequest{ServerTlsCert: []byte("x")}); err == nil {
		t.Error("client, a certificate that is not PEM: no error")
	}
}

func TestTiming(t *testing.T) {
	type cancel = conformancev1.ClientCompatRequest_Cancel
	for _, tc := range []struct {
		c    *cancel
		want timing
	}{
		{nil, timing{afterClose: -1}},
		{&cancel{}, timing{}},
		{&cancel{CancelTiming: &conformancev1.ClientCompatRequest_Cancel_AfterCloseSendMs{AfterCloseSendMs: 5}}, timing{afterClose: 5e6}},
		{&cancel{CancelTiming: &conformancev1.ClientCompatRequest_Cancel_AfterNumResponses{AfterNumResponses: 2}}, timing{afterClose: -1, afterCount: 2}},
		{&cancel{CancelTiming: &conformancev1.ClientCompatRequest_Cancel_BeforeCloseSend{}}, timing{afterClose: -1, beforeClose: true}},
	} {
		if got := timingOf(tc.c); got != tc.want {
			t.Errorf("timingOf(%v) = %v, want %v", tc.c, got, tc.want)
		}
	}
}
