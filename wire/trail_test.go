// SPDX-License-Identifier: Apache-2.0

package wire

import (
	"encoding/base64"
	"slices"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"

	"github.com/faultline-rpc/faultline/fault"
	"github.com/faultline-rpc/faultline/h2"
	"github.com/faultline-rpc/faultline/internal/peer"
)

// said is a hop as a server sends it, in base64.
func said(h fault.Hop) string {
	return base64.RawStdEncoding.EncodeToString([]byte(fault.WriteTrail(h, nil)[0]))
}

func TestServersOwnWord(t *testing.T) {
	hop := func(id fault.ID, c codes.Code, p fault.Processed) fault.Hop {
		return fault.Hop{ID: id, Code: c, Processed: p, Reference: "00ff"}.On("/pkg.Greeter/Hello")
	}
	draining := hop("server.draining", codes.Unavailable, fault.No)
	long := strings.Repeat("QUFB", 2000)
	for _, tc := range []struct {
		name   string
		fields []string
		body   bool
		want   want
		trail  int
		ref    string
	}{
		{"refused", []string{fault.TrailKey, said(draining)}, false, want{"server.draining", codes.Unavailable, fault.Remote, fault.No, "words"}, 1, "00ff"},
		{"masked", []string{fault.TrailKey, said(draining.Masked())}, false, want{"server.draining", codes.Unavailable, fault.Remote, fault.No, "words"}, 0, "00ff"},
		{"a message had come", []string{fault.TrailKey, said(draining)}, true, want{"server.draining", codes.Unavailable, fault.Remote, fault.Yes, "words"}, 1, "00ff"},
		{"handler", []string{fault.TrailKey, said(hop("handler.status", codes.Unavailable, fault.Yes))}, false, want{"handler.status", codes.Unavailable, fault.Remote, fault.Yes, "words"}, 1, "00ff"},
		{"of another call", []string{fault.TrailKey, said(draining.On("/pkg.Greeter/Bye"))}, false, want{"handler.status", codes.Unavailable, fault.Remote, fault.Maybe, "words"}, 1, ""},
		{"of another code", []string{fault.TrailKey, said(hop("server.overloaded", codes.ResourceExhausted, fault.No))}, false, want{"handler.status", codes.Unavailable, fault.Remote, fault.Maybe, "words"}, 1, ""},
		{"padded and joined", []string{fault.TrailKey, said(draining) + ", " + said(draining)}, false, want{"server.draining", codes.Unavailable, fault.Remote, fault.No, "words"}, 2, "00ff"},
		{"no base64", []string{fault.TrailKey, "*** "}, false, want{"handler.status", codes.Unavailable, fault.Remote, fault.Maybe, "words"}, 0, ""},
		{"no hop", []string{fault.TrailKey, "AQID"}, false, want{"handler.status", codes.Unavailable, fault.Remote, fault.Maybe, "words"}, 0, ""},
		{"too large", []string{fault.TrailKey, long, fault.TrailKey, said(draining)}, false, want{"handler.status", codes.Unavailable, fault.Remote, fault.Maybe, "words"}, 0, ""},
	} {
		bubble(t, tc.name, func(t *testing.T) {
			conn, p := client(t, h2.Config{})
			s := start(t, conn, p, false)
			a := peer.TrailersOnly(14, "words", tc.fields...)
			if tc.body {
				a = peer.Full([]string{":status", "200", "content-type", "application/grpc"}, peer.Message([]byte("m")), slices.Concat([]string{"grpc-status", "14", "grpc-message", "words"}, tc.fields))
			}
			p.Answer(1, a)
			m, err := s.Recv(nil)
			if tc.body {
				m.Free()
				_, err = s.Recv(nil)
			}
			f := tc.want.check(t, err)
			if n := len(f.Trail()); n != tc.trail || f.Evidence().Reference != tc.ref {
				t.Errorf("%d hops, reference %q; want %d, %q", n, f.Evidence().Reference, tc.trail, tc.ref)
			}
			for _, h := range f.Trail()[:min(1, tc.trail)] {
				if h.Address != f.Evidence().Address || h.Address == "" {
					t.Errorf("said at %q by %q", h.Address, f.Evidence().Address)
				}
			}
			if len(s.Trailer()[fault.TrailKey]) != 0 {
				t.Errorf("the program sees %v", s.Trailer())
			}
		})
	}
}

// With OK a trail is nothing, not even metadata.
func TestTrailOfOK(t *testing.T) {
	got := ParseTrailer(block("grpc-status: 0", fault.TrailKey+": !", "x: 1"), 200)
	if got.Trail != nil || got.Fault != nil || len(got.MD) != 1 {
		t.Errorf("%+v", got)
	}
	if head := ParseResponse(block(":status: 200", "content-type: application/grpc", fault.TrailKey+": !")); head.Fault != nil || head.MD[fault.TrailKey] != nil {
		t.Errorf("%+v", head)
	}
}

func FuzzTrailerTrail(f *testing.F) {
	f.Add(said(fault.Hop{ID: "server.draining", Code: codes.Unavailable, Processed: fault.No}.On("/a.B/C")), "AQID")
	f.Add("***", ",,")
	f.Add(strings.Repeat("QUFB", 1100), "")
	f.Fuzz(func(t *testing.T, a, b string) {
		got := ParseTrailer(block("grpc-status: 14", fault.TrailKey+": "+a, fault.TrailKey+": "+b), 200)
		size := 0
		for _, v := range got.Trail {
			size += len(v)
		}
		if got.Fault != nil || size > fault.TrailBudget || len(got.MD) != 0 {
			t.Errorf("%+v", got)
		}
	})
}
