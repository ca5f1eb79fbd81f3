// SPDX-License-Identifier: Apache-2.0

package hpack

import (
	"bytes"
	"math/rand/v2"
	"strings"
	"testing"

	xhpack "golang.org/x/net/http2/hpack"
)

func TestHuffmanSymbols(t *testing.T) {
	for c := range 256 {
		s := strings.Repeat(string([]byte{byte(c)}), 8) // whole bytes: no padding hides a difference
		want := xhpack.AppendHuffmanString(nil, s)
		if got := appendHuffman(nil, s); !bytes.Equal(got, want) {
			t.Errorf("symbol %d: %x, want %x", c, got, want)
		}
		got, ok := appendHuffmanDecoded(nil, want)
		if string(got) != s || !ok {
			t.Errorf("symbol %d: decoded %q, %v", c, got, ok)
		}
	}
	if n := huffman.limit[longestCode]; n>>2 != 0x3fffffff {
		t.Errorf("the code after the last is %x, want EOS", n>>2)
	}
}

func TestHuffmanAgreesWithXNet(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for range 20000 {
		p := make([]byte, r.IntN(24))
		for i := range p {
			p[i] = byte(r.Uint32())
			if r.IntN(4) == 0 {
				p[i] = 0xff
			}
		}
		checkHuffman(t, p)
		if got, want := appendHuffman(nil, string(p)), xhpack.AppendHuffmanString(nil, string(p)); !bytes.Equal(got, want) || huffmanLen(string(p)) != len(want) {
			t.Fatalf("encoding %x: %x of %d, want %x", p, got, huffmanLen(string(p)), want)
		}
	}
}

func checkHuffman(t *testing.T, p []byte) {
	t.Helper()
	got, ok := appendHuffmanDecoded(nil, p)
	want, err := xhpack.HuffmanDecodeToString(p)
	if ok != (err == nil) || ok && string(got) != want {
		t.Fatalf("decoding %x: %q, %v; x/net: %q, %v", p, got, ok, want, err)
	}
	if len(got) > len(p)*8/5 {
		t.Fatalf("decoding %x: %d bytes", p, len(got))
	}
}

func FuzzHuffman(f *testing.F) {
	for _, s := range []string{"", "\xff", "\xfe", "\xff\xff\xff\xff", "\xf1\xe3\xc2\xe5\xf2\x3a\x6b\xa0\xab\x90\xf4\xff", "\x07", "\x1f\xff", "\xff\xff\xff\xfc"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, p []byte) {
		checkHuffman(t, p)
		back, ok := appendHuffmanDecoded(nil, appendHuffman(nil, string(p)))
		if !ok || !bytes.Equal(back, p) {
			t.Fatalf("%x came back as %x, %v", p, back, ok)
		}
	})
}
