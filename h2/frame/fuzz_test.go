// SPDX-License-Identifier: Apache-2.0

package frame

import (
	"bytes"
	"encoding/hex"
	"testing"

	"golang.org/x/net/http2"
)

// FuzzCheck judges a frame beside x/net's Framer.
func FuzzCheck(f *testing.F) {
	for _, s := range []string{
		"0100000001ff", "0008000001", "00080000010200", "0120000001000000001082", "0128000001020000000010820000",
		"020000000100000000", "030000000100000008", "0400000000000480000000", "0401000000", "04000000000005", "050c0000010000000002",
		"06000000000102030405060708", "07000000000000000100000002", "080000000000000000", "0800000001ffffffff", "0904000001", "1fff00000000", "100000000130",
	} {
		b, err := hex.DecodeString(s)
		if err != nil {
			f.Fatal(err)
		}
		stream := uint32(b[2])<<24 | uint32(b[3])<<16 | uint32(b[4])<<8
		payload := []byte{}
		if len(b) > 5 {
			stream, payload = stream|uint32(b[4]), b[5:]
		}
		f.Add(b[0], b[1], stream, payload)
	}
	f.Fuzz(func(t *testing.T, typ, flags byte, stream uint32, payload []byte) {
		h := Header{Length: uint32(len(payload)), Type: Type(typ), Flags: Flags(flags), Stream: stream & MaxStreamID}
		code, reason := Check(h, payload)
		if (code == NoError) != (reason == "") {
			t.Fatalf("%+v: %v %q", h, code, reason)
		}
		b := append(AppendHeader(nil, len(payload), h.Type, h.Flags, h.Stream), payload...)
		if got := ParseHeader(b); got != h {
			t.Fatalf("%+v came back as %+v", h, got)
		}
		fr := http2.NewFramer(nil, bytes.NewReader(b))
		fr.AllowIllegalReads = true // one frame has no order
		xf, err := fr.ReadFrame()
		switch {
		case err != nil && code == NoError && h.Type <= Continuation: // x/net knows PRIORITY_UPDATE of RFC 9218 too
			t.Fatalf("%+v %x: accepted, x/net: %v", h, payload, err)
		case err == nil && code != NoError && !stricter(h):
			t.Fatalf("%+v %x: %v %s, x/net accepts %v", h, payload, code, reason, xf)
		case err == nil && code == NoError:
			sameContent(t, h, payload, xf)
		}
	})
}

// stricter reports the frames of which x/net's Framer judges less: it leaves
// settings values to its connections.
func stricter(h Header) bool { return h.Type == Settings }

func sameContent(t *testing.T, h Header, payload []byte, xf http2.Frame) {
	data, _, _ := Unpad(payload, h.Flags)
	switch xf := xf.(type) {
	case *http2.DataFrame:
		if !bytes.Equal(xf.Data(), data) {
			t.Fatalf("%+v %x: data %x, x/net %x", h, payload, data, xf.Data())
		}
	case *http2.HeadersFrame:
		block, ok := StripPriority(data, h.Flags)
		if !ok || !bytes.Equal(xf.HeaderBlockFragment(), block) {
			t.Fatalf("%+v %x: block %x, %v, x/net %x", h, payload, block, ok, xf.HeaderBlockFragment())
		}
	case *http2.SettingsFrame:
		i := 0
		for s := range EachSetting(payload) {
			if x := xf.Setting(i); uint16(x.ID) != uint16(s.ID) || x.Val != s.Value {
				t.Fatalf("%x: setting %v, x/net %v", payload, s, x)
			}
			i++
		}
		if i != xf.NumSettings() {
			t.Fatalf("%x: %d settings, x/net %d", payload, i, xf.NumSettings())
		}
	case *http2.WindowUpdateFrame:
		if n := WindowIncrement(payload); n != xf.Increment {
			t.Fatalf("%x: increment %d, x/net %d", payload, n, xf.Increment)
		}
	case *http2.RSTStreamFrame:
		if c := ResetCode(payload); uint32(c) != uint32(xf.ErrCode) {
			t.Fatalf("%x: code %v, x/net %v", payload, c, xf.ErrCode)
		}
	case *http2.GoAwayFrame:
		id, code, debug := ParseGoAway(payload)
		if id != xf.LastStreamID || uint32(code) != uint32(xf.ErrCode) || !bytes.Equal(debug, xf.DebugData()) {
			t.Fatalf("%x: %d %v %x, x/net %v", payload, id, code, debug, xf)
		}
	}
}
