// SPDX-License-Identifier: Apache-2.0

//go:build !race

package codec

import (
	"testing"

	"google.golang.org/protobuf/types/known/wrapperspb"
)

// What a call pays per message. The race detector makes sync.Pool forget on
// purpose, so this file is left out there.

func TestEncodeAllocs(t *testing.T) {
	m := wrapperspb.Bytes(make([]byte, 100))
	if n := testing.AllocsPerRun(1000, func() {
		c, _ := Lookup("")
		b, _, err := c.Encode(m, nil, generous)
		if err != nil {
			t.Fatal(err)
		}
		b.Free()
	}); n > 0 {
		t.Errorf("encoding a small message allocates %v times, want 0", n)
	}
}

func TestDecodeAllocs(t *testing.T) {
	p := []byte{0x08, 0x2a}
	m := new(wrapperspb.Int64Value)
	if n := testing.AllocsPerRun(1000, func() {
		if err := (Codec{}).Decode(p, m); err != nil {
			t.Fatal(err)
		}
	}); n > 0 {
		t.Errorf("decoding a message without strings allocates %v times, want 0", n)
	}
}

func TestCompressAllocs(t *testing.T) {
	m := wrapperspb.Bytes(make([]byte, 10_000))
	comp := gz(t)
	if n := testing.AllocsPerRun(200, func() {
		b, _, err := Codec{}.Encode(m, comp, generous)
		if err != nil {
			t.Fatal(err)
		}
		z, err := Decompress(comp, b.B[PrefixLen:], Limit{Bytes: DefaultMaxRecv})
		if err != nil {
			t.Fatal(err)
		}
		z.Free()
		b.Free()
	}); n > 6 {
		t.Errorf("compressing and decompressing allocates %v times, want at most 6", n)
	}
}
