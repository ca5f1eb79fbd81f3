// SPDX-License-Identifier: Apache-2.0

//go:build !race

package wire

import (
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"

	"github.com/faultline-rpc/faultline/codec"
	"github.com/faultline-rpc/faultline/h2/hpack"
)

// What a call pays for its header sections. The race detector counts
// allocations of its own, so this file is left out there.

func TestTrailerAllocs(t *testing.T) {
	ok := block("grpc-status: 0")
	failed := block("grpc-status: 5", "grpc-message: not found")
	if n := testing.AllocsPerRun(1000, func() {
		if tr := ParseTrailer(ok, 200); tr.Code != codes.OK {
			t.Error(tr)
		}
		if tr := ParseTrailer(failed, 200); tr.Code != codes.NotFound {
			t.Error(tr)
		}
	}); n > 0 {
		t.Errorf("plain trailers cost %v allocations, want 0", n)
	}
}

func TestHeadAllocs(t *testing.T) {
	req := block(with("grpc-accept-encoding: gzip", "x-a: 1", "x-b: 2")...)
	if n := testing.AllocsPerRun(1000, func() {
		if h := ParseRequest(req); h.Refusal != nil {
			t.Error(h.Refusal)
		}
	}); n > 3 { // the map, its group, and one slab for the values
		t.Errorf("a request with its metadata costs %v allocations, want at most 4", n)
	}
	resp := block(":status: 200", "content-type: application/grpc")
	if n := testing.AllocsPerRun(1000, func() {
		if h := ParseResponse(resp); !h.GRPC {
			t.Error(h)
		}
	}); n > 3 {
		t.Errorf("a response costs %v allocations, want at most 3", n)
	}
}

func TestAppendAllocs(t *testing.T) {
	md := metadata.Pairs("x-request-id", "1234", "authorization", "Bearer token", "x-tenant", "a")
	fields := make([]hpack.Field, 0, 16)
	if n := testing.AllocsPerRun(1000, func() {
		var err error
		if fields, err = AppendMetadata(fields[:0], md); err != nil {
			t.Error(err)
		}
		fields = AppendStatus(fields[:0], codes.NotFound, "not found", nil)
	}); n > 0 {
		t.Errorf("metadata and status cost %v allocations, want 0", n)
	}
}

// A message costs nothing beyond its memory, which is lent or pooled.
func TestReceiveAllocs(t *testing.T) {
	r := &receiver{limit: codec.Limit{Bytes: 1 << 20}, account: &account{budget: NewBudget(1 << 30)}}
	buf := testBuf()
	receive := func(pieces ...[]byte) float64 {
		return testing.AllocsPerRun(1000, func() {
			credit := 0
			for _, p := range pieces {
				n, err := r.data(p, buf, false)
				if err != nil {
					t.Error(err)
				}
				credit += n
			}
			m, n, err := r.take(nil, codec.Direct{})
			if err != nil || m.WireLength() != credit+n {
				t.Errorf("%v, window of %d given back for %d", err, credit+n, m.WireLength())
			}
			m.Free()
		})
	}
	msg := framed(pattern(1, 500))
	if n := receive(msg); n > 0 {
		t.Errorf("a lent message costs %v allocations, want 0", n)
	}
	if n := receive(msg[:3], msg[3:100], msg[100:]); n > 0 {
		t.Errorf("a gathered message costs %v allocations, want 0", n)
	}
}
