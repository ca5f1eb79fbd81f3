// SPDX-License-Identifier: Apache-2.0

package codec

import (
	"bytes"
	"testing"
)

func TestBufferCapacity(t *testing.T) {
	for _, c := range []struct{ ask, least, most int }{
		{0, 0, 256},
		{1, 1, 256},
		{256, 256, 256},
		{257, 257, 512},
		{4<<20 - 1, 4<<20 - 1, 4 << 20},
		{4 << 20, 4 << 20, 4 << 20},
		{4<<20 + 5, 4<<20 + 5, 4<<20 + 5}, // beyond the classes: no more than asked
	} {
		b := GetBuffer(c.ask)
		if len(b.B) != 0 || cap(b.B) < c.least || cap(b.B) > c.most {
			t.Errorf("GetBuffer(%d): length %d, capacity %d, want 0 and %d to %d", c.ask, len(b.B), cap(b.B), c.least, c.most)
		}
		b.Free()
	}
	(*Buffer)(nil).Free()
}

func TestBufferFreeKeepsOnlyWholeClasses(t *testing.T) {
	// Whatever the program put into B, what the pools hand out has the
	// capacity promised.
	for _, foreign := range [][]byte{make([]byte, 3), make([]byte, 300), make([]byte, 600)[100:], nil, make([]byte, 0, 5<<20)} {
		(&Buffer{B: foreign}).Free()
	}
	for _, n := range []int{1, 256, 300, 512, 600, 5 << 20} {
		for range 20 {
			if b := GetBuffer(n); cap(b.B) < n || len(b.B) != 0 {
				t.Fatalf("GetBuffer(%d): length %d, capacity %d", n, len(b.B), cap(b.B))
			}
		}
	}
}

func TestBufferWriteGrows(t *testing.T) {
	b := GetBuffer(1)
	var want []byte
	for i := range 40 {
		piece := bytes.Repeat([]byte{byte(i)}, 37*i)
		want = append(want, piece...)
		if n, err := b.Write(piece); n != len(piece) || err != nil {
			t.Fatalf("Write: %d, %v", n, err)
		}
	}
	if !bytes.Equal(b.B, want) {
		t.Error("the bytes written are not those kept")
	}
	b.Free()
}
