// SPDX-License-Identifier: Apache-2.0

package doctor

import (
	"bytes"
	"slices"
	"strings"
	"testing"

	"golang.org/x/net/http2"
	"google.golang.org/protobuf/encoding/protowire"
)

// frames are those of a chatty peer.
func frames(t testing.TB) []byte {
	var b bytes.Buffer
	fr := http2.NewFramer(&b, nil)
	for _, err := range []error{
		fr.WriteSettings(http2.Setting{ID: 3, Val: 100}, http2.Setting{ID: 0xf0, Val: 7}),
		fr.WriteSettingsAck(), fr.WritePing(false, [8]byte{1}), fr.WritePing(true, [8]byte{2}),
		fr.WriteRawFrame(0x0a, 0, 0, []byte("xyz")), fr.WriteRawFrame(0xee, 0, 0, nil),
		fr.WriteData(1, false, make([]byte, 3000)), fr.WriteSettings(), fr.WriteRSTStream(1, 0),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	return b.Bytes()
}

// TestTap reads the same frames in pieces of every length.
func TestTap(t *testing.T) {
	all := frames(t)
	for size := 1; size <= len(all); size++ {
		tp := newTap(nil)
		for piece := range slices.Chunk(all, size) {
			tp.see(piece)
		}
		got := tp.evidence()
		want := []Fact{{"settings", "MAX_CONCURRENT_STREAMS 100, 0xf0 7"}, {"pings received", "1"}, {"unknown frames", "2, ignored as RFC 9113 asks"}}
		if !slices.Equal(got, want) || tp.frames != 9 {
			t.Fatalf("in pieces of %d: %d frames, %v", size, tp.frames, got)
		}
		select {
		case <-tp.acked:
		default:
			t.Fatalf("in pieces of %d: the acknowledgement was not seen", size)
		}
	}
}

func FuzzTap(f *testing.F) {
	f.Add(frames(f), 7)
	f.Add([]byte("HTTP/1.1 400 Bad Request\r\n\r\n"), 1)
	f.Add(bytes.Repeat([]byte{0, 2, 88, 4, 0, 0, 0, 0, 0}, 100), 600)
	f.Fuzz(func(t *testing.T, b []byte, size int) {
		if size < 1 || size > 1<<16 {
			return
		}
		one, many := newTap(nil), newTap(nil)
		one.see(b)
		for piece := range slices.Chunk(b, size) {
			many.see(piece)
		}
		if x, y := one.evidence(), many.evidence(); !slices.Equal(x, y) || one.frames != many.frames {
			t.Errorf("at once %v, in pieces %v", x, y)
		}
		if len(one.kept) > maxKept || len(one.settings) > maxKept {
			t.Errorf("%d bytes and %d settings are kept", len(one.kept), len(one.settings))
		}
	})
}

func FuzzReflection(f *testing.F) {
	service := protowire.AppendString(protowire.AppendTag(nil, 1, protowire.BytesType), "a.B")
	list := protowire.AppendBytes(protowire.AppendTag(nil, gotList, protowire.BytesType), protowire.AppendBytes(protowire.AppendTag(nil, 1, protowire.BytesType), service))
	f.Add(list)
	f.Add(protowire.AppendBytes(protowire.AppendTag(nil, gotError, protowire.BytesType), []byte{8, 5, 18, 2, 'n', 'o'}))
	f.Add(protowire.AppendBytes(protowire.AppendTag(nil, gotFiles, protowire.BytesType), []byte{10, 2, 10, 0}))
	f.Add([]byte{8, 1})
	f.Add([]byte{0xff})
	f.Fuzz(func(t *testing.T, b []byte) {
		names, err := parseList([][]byte{b})
		if err != nil && err.Error() == "" {
			t.Error("an error without a word")
		}
		if !slices.IsSorted(names) {
			t.Errorf("%q is not sorted", names)
		}
		if files, err := parseFiles([][]byte{b}); err == nil && slices.Contains(files, nil) {
			t.Error("a file is nil")
		}
		if _, err := parseHealth(b); err != nil && err.Error() == "" {
			t.Error("an error without a word")
		}
	})
}

func TestParseList(t *testing.T) {
	entry := func(name string) []byte {
		service := protowire.AppendString(protowire.AppendTag(nil, 1, protowire.BytesType), name)
		return protowire.AppendBytes(protowire.AppendTag(nil, 1, protowire.BytesType), service)
	}
	list := protowire.AppendBytes(protowire.AppendTag(nil, gotList, protowire.BytesType), append(entry("b.B"), entry("a.A")...))
	if got, err := parseList([][]byte{list}); err != nil || !slices.Equal(got, []string{"a.A", "b.B"}) {
		t.Errorf("got %q, %v", got, err)
	}
	no := protowire.AppendBytes(protowire.AppendTag(nil, gotError, protowire.BytesType), []byte{8, 5, 18, 2, 'n', 'o'})
	if _, err := parseList([][]byte{no}); err == nil || err.Error() != "NOT_FOUND: no" {
		t.Errorf("the refusal is %v", err)
	}
}

func TestSplitMethod(t *testing.T) {
	for name, want := range map[string]string{"a.B/C": "a.B C", "/a.B/C": "a.B C", "B/C": "B C"} {
		if s, m, err := splitMethod(name); err != nil || s+" "+m != want {
			t.Errorf("%q: %q, %q, %v", name, s, m, err)
		}
	}
	for _, name := range []string{"", "/", "a.B", "a.B/", "/C", "a/b/c", "a.B/C D"} {
		if err := CheckMethod(name); err == nil || !strings.Contains(err.Error(), "want package.Service/Method") {
			t.Errorf("%q: %v", name, err)
		}
	}
}
