// SPDX-License-Identifier: Apache-2.0

package subject

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"

	"github.com/faultline-rpc/faultline/conformance/internal/gen/conformancev1"
)

func TestDelimited(t *testing.T) {
	var b bytes.Buffer
	for _, host := range []string{"127.0.0.1", ""} {
		if err := writeDelimited(&b, &conformancev1.ServerCompatResponse{Host: host}); err != nil {
			t.Fatal(err)
		}
	}
	if want := "\x00\x00\x00\x0b\x0a\x09127.0.0.1\x00\x00\x00\x00"; b.String() != want {
		t.Fatalf("written: %q, want %q", b.String(), want)
	}
	for _, host := range []string{"127.0.0.1", ""} {
		var got conformancev1.ServerCompatResponse
		if err := readDelimited(&b, &got); err != nil || got.GetHost() != host {
			t.Fatalf("read %q, %v; want %q", got.GetHost(), err, host)
		}
	}
	if err := readDelimited(&b, &conformancev1.ServerCompatResponse{}); err != io.EOF {
		t.Errorf("reading at the end: %v, want io.EOF", err)
	}
}

func TestDelimitedErrors(t *testing.T) {
	for _, tc := range []struct {
		name, in string
		is       error
		want     string
	}{
		{"half a prefix", "\x00\x00", io.ErrUnexpectedEOF, ""},
		{"half a message", "\x00\x00\x00\x02x", io.ErrUnexpectedEOF, ""},
		{"no message", "\x00\x00\x00\x04\xff\xff\xff\xff", nil, "no ServerCompatResponse"},
		{"too large", "\x7f\xff\xff\xff", nil, "2147483647 bytes is announced, want at most 67108864"},
	} {
		err := readDelimited(strings.NewReader(tc.in), &conformancev1.ServerCompatResponse{})
		if err == nil || tc.is != nil && !errors.Is(err, tc.is) || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: %v, want %v %s", tc.name, err, tc.is, tc.want)
		}
	}
}

func FuzzReadDelimited(f *testing.F) {
	f.Add([]byte("\x00\x00\x00\x0b\x0a\x09127.0.0.1"))
	f.Add([]byte("\x00\x00\x00\x00"))
	f.Add([]byte("\xff\xff\xff\xff\x00"))
	f.Fuzz(func(t *testing.T, b []byte) {
		var m conformancev1.ServerCompatResponse
		if readDelimited(bytes.NewReader(b), &m) != nil {
			return
		}
		var w bytes.Buffer
		if err := writeDelimited(&w, &m); err != nil {
			t.Fatal(err)
		}
		var again conformancev1.ServerCompatResponse
		if err := readDelimited(&w, &again); err != nil || !proto.Equal(&m, &again) {
			t.Fatalf("read again: %v, %v; want %v", &again, err, &m)
		}
	})
}
