// SPDX-License-Identifier: Apache-2.0

package frame

import (
	"bytes"
	"encoding/hex"
	"strings"
	"testing"

	"golang.org/x/net/http2"
)

func TestNames(t *testing.T) {
	for c := range Code(0x20) {
		if want := http2.ErrCode(c).String(); c <= HTTP11Required && c.String() != want {
			t.Errorf("code %d: %s, want %s", c, c, want)
		}
	}
	for typ := Data; typ <= Continuation; typ++ {
		if want := http2.FrameType(typ).String(); typ.String() != want {
			t.Errorf("type %d: %s, want %s", typ, typ, want)
		}
	}
	for id := SettingHeaderTableSize; id <= SettingMaxHeaderListSize; id++ {
		if want := "SETTINGS_" + http2.SettingID(id).String(); id.String() != want {
			t.Errorf("setting %d: %s, want %s", id, id, want)
		}
	}
	for got, want := range map[string]string{
		Code(0x1f).String():       "CODE_0x1f",
		Code(1<<32 - 1).String():  "CODE_0xffffffff",
		Code(14).String():         "CODE_0xe",
		Type(0x1f).String():       "TYPE_0x1f",
		SettingID(0).String():     "SETTING_0x0",
		SettingID(7).String():     "SETTING_0x7",
		SettingID(65535).String(): "SETTING_0xffff",
		Preface:                   http2.ClientPreface,
	} {
		if got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}

func TestHeader(t *testing.T) {
	for _, tt := range []struct {
		h   Header
		hex string
	}{
		{Header{}, "000000000000000000"},
		{Header{Length: 0x010203, Type: Headers, Flags: EndHeaders | EndStream, Stream: 0x01020304}, "010203010501020304"},
		{Header{Length: 1<<24 - 1, Type: 0xff, Flags: 0xff, Stream: MaxStreamID}, "ffffffffff7fffffff"},
	} {
		b := AppendHeader([]byte("x"), int(tt.h.Length), tt.h.Type, tt.h.Flags, tt.h.Stream|1<<31)
		if got := hex.EncodeToString(b[1:]); got != tt.hex {
			t.Errorf("AppendHeader(%+v) = %s, want %s", tt.h, got, tt.hex)
		}
		put := make([]byte, HeaderLen)
		PutHeader(put, int(tt.h.Length), tt.h.Type, tt.h.Flags, tt.h.Stream|1<<31)
		if !bytes.Equal(put, b[1:]) {
			t.Errorf("PutHeader(%+v) = %x, want %s", tt.h, put, tt.hex)
		}
		put[5] |= 0x80 // the reserved bit
		if got := ParseHeader(put); got != tt.h {
			t.Errorf("ParseHeader(%x) = %+v, want %+v", put, got, tt.h)
		}
	}
}

// TestAppend compares what we append with what x/net's Framer writes.
func TestBoundary(t *testing.T) {
	b := []byte("PRI")
	b = AppendSettings(b)             // 3 to 12
	b = AppendRSTStream(b, 1, Cancel) // 12 to 25
	for n, want := range []int{3, 3, 3, 3, 12, 12, 12, 12, 12, 12, 12, 12, 12, 25, 25} {
		if got := Boundary(b, 3, n); got != want {
			t.Errorf("Boundary(%d) = %d, want %d", n, got, want)
		}
	}
	if got := Boundary(b, 3, len(b)); got != len(b) {
		t.Errorf("at the end: %d", got)
	}
}

func TestAppend(t *testing.T) {
	var buf bytes.Buffer
	fr := http2.NewFramer(&buf, nil)
	ping := [8]byte{1, 2, 3, 4, 5, 6, 7, 8}
	for _, tt := range []struct {
		name string
		got  []byte
		want func() error
	}{
		{"settings", AppendSettings(nil, Setting{SettingInitialWindowSize, 1 << 20}, Setting{0xabcd, 0x01020304}), func() error {
			return fr.WriteSettings(http2.Setting{ID: 4, Val: 1 << 20}, http2.Setting{ID: 0xabcd, Val: 0x01020304})
		}},
		{"no settings", AppendSettings(nil), func() error { return fr.WriteSettings() }},
		{"settings ack", AppendSettingsAck(nil), fr.WriteSettingsAck},
		{"ping", AppendPing(nil, false, ping), func() error { return fr.WritePing(false, ping) }},
		{"ping ack", AppendPing(nil, true, ping), func() error { return fr.WritePing(true, ping) }},
		{"window update", AppendWindowUpdate(nil, 5, MaxWindow), func() error { return fr.WriteWindowUpdate(5, MaxWindow) }},
		{"rst", AppendRSTStream(nil, 7, Cancel), func() error { return fr.WriteRSTStream(7, http2.ErrCodeCancel) }},
		{"goaway", AppendGoAway(nil, 9, EnhanceYourCalm, "too_many_pings"), func() error {
			return fr.WriteGoAway(9, http2.ErrCodeEnhanceYourCalm, []byte("too_many_pings"))
		}},
		{"long goaway", AppendGoAway(nil, 9, NoError, strings.Repeat("x", 20000)), func() error {
			return fr.WriteGoAway(9, 0, bytes.Repeat([]byte("x"), MinMaxFrameSize-8))
		}},
	} {
		buf.Reset()
		if err := tt.want(); err != nil {
			t.Fatal(tt.name, err)
		}
		if !bytes.Equal(tt.got, buf.Bytes()) {
			t.Errorf("%s: %x, want %x", tt.name, tt.got, buf.Bytes())
		}
		h := ParseHeader(tt.got)
		if code, reason := Check(h, tt.got[HeaderLen:]); code != NoError {
			t.Errorf("%s: our own frame is judged %v: %s", tt.name, code, reason)
		}
	}
}

func TestCheck(t *testing.T) {
	for _, tt := range []struct {
		typ     Type
		flags   Flags
		stream  uint32
		payload string // hex
		code    Code
		reason  string
	}{
		{Data, 0, 1, "", NoError, ""},
		{Data, 0, 0, "", ProtocolError, "DATA on stream 0, expected a stream"},
		{Data, Padded, 1, "", FrameSizeError, "DATA of 0 bytes, expected at least 1"},
		{Data, Padded, 1, "00", NoError, ""},
		{Data, Padded, 1, "0100", NoError, ""},
		{Data, Padded, 1, "0200", ProtocolError, "DATA with more padding than payload"},
		{Headers, EndHeaders, 1, "82", NoError, ""},
		{Headers, EndHeaders, 0, "82", ProtocolError, "HEADERS on stream 0, expected a stream"},
		{Headers, WithPriority, 1, "00000000", FrameSizeError, "HEADERS of 4 bytes, expected at least 5"},
		{Headers, WithPriority, 1, "0000000010", NoError, ""},
		{Headers, WithPriority | Padded, 1, "010000000010", ProtocolError, "HEADERS with more padding than payload"},
		{Headers, WithPriority | Padded, 1, "01000000001000", NoError, ""},
		{Priority, 0, 1, "0000000010", NoError, ""},
		{Priority, 0, 0, "0000000010", ProtocolError, "PRIORITY on stream 0, expected a stream"},
		{Priority, 0, 1, "00000000", FrameSizeError, "PRIORITY of 4 bytes, expected 5"},
		{RSTStream, 0, 1, "00000008", NoError, ""},
		{RSTStream, 0, 0, "00000008", ProtocolError, "RST_STREAM on stream 0, expected a stream"},
		{RSTStream, 0, 1, "0000000800", FrameSizeError, "RST_STREAM of 5 bytes, expected 4"},
		{Settings, 0, 0, "", NoError, ""},
		{Settings, 0, 0, "00000000000000ff00000000", NoError, ""}, // unknown ones
		{Settings, Ack, 0, "", NoError, ""},
		{Settings, 0, 1, "", ProtocolError, "SETTINGS on stream 1, expected stream 0"},
		{Settings, 0, 0, "0001000000", FrameSizeError, "SETTINGS of 5 bytes, expected a multiple of 6"},
		{Settings, Ack, 0, "000100000000", FrameSizeError, "SETTINGS of 6 bytes, expected 0 with ACK"},
		{Settings, 0, 0, "000200000001", NoError, ""},
		{Settings, 0, 0, "000200000002", ProtocolError, "SETTINGS_ENABLE_PUSH of 2, expected 0 or 1"},
		{Settings, 0, 0, "00047fffffff", NoError, ""},
		{Settings, 0, 0, "000480000000", FlowControlError, "SETTINGS_INITIAL_WINDOW_SIZE of 2147483648, expected at most 2147483647"},
		{Settings, 0, 0, "000500004000", NoError, ""},
		{Settings, 0, 0, "000500ffffff", NoError, ""},
		{Settings, 0, 0, "000500003fff", ProtocolError, "SETTINGS_MAX_FRAME_SIZE of 16383, expected 16384 to 16777215"},
		{Settings, 0, 0, "000300000000000501000000", ProtocolError, "SETTINGS_MAX_FRAME_SIZE of 16777216, expected 16384 to 16777215"},
		{PushPromise, 0, 1, "00000002", NoError, ""},
		{PushPromise, 0, 0, "00000002", ProtocolError, "PUSH_PROMISE on stream 0, expected a stream"},
		{PushPromise, Padded, 1, "00000002", FrameSizeError, "PUSH_PROMISE of 4 bytes, expected at least 5"},
		{PushPromise, Padded, 1, "0100000002", ProtocolError, "PUSH_PROMISE with more padding than payload"},
		{Ping, 0, 0, "0102030405060708", NoError, ""},
		{Ping, Ack, 3, "0102030405060708", ProtocolError, "PING on stream 3, expected stream 0"},
		{Ping, 0, 0, "01020304050607", FrameSizeError, "PING of 7 bytes, expected 8"},
		{GoAway, 0, 0, "0000000000000000", NoError, ""},
		{GoAway, 0, 1, "0000000000000000", ProtocolError, "GOAWAY on stream 1, expected stream 0"},
		{GoAway, 0, 0, "00000000000000", FrameSizeError, "GOAWAY of 7 bytes, expected at least 8"},
		{WindowUpdate, 0, 0, "00000001", NoError, ""},
		{WindowUpdate, 0, 1, "000000", FrameSizeError, "WINDOW_UPDATE of 3 bytes, expected 4"},
		{WindowUpdate, 0, 0, "00000000", ProtocolError, "WINDOW_UPDATE with an increment of 0"},
		{WindowUpdate, 0, 1, "80000000", ProtocolError, "WINDOW_UPDATE with an increment of 0"},
		{Continuation, 0, 1, "", NoError, ""},
		{Continuation, 0, 0, "", ProtocolError, "CONTINUATION on stream 0, expected a stream"},
		{0x1f, 0xff, 0, "00", NoError, ""}, // unknown types are ignored
	} {
		payload, err := hex.DecodeString(tt.payload)
		if err != nil {
			t.Fatal(err)
		}
		h := Header{Length: uint32(len(payload)), Type: tt.typ, Flags: tt.flags, Stream: tt.stream}
		if code, reason := Check(h, payload); code != tt.code || reason != tt.reason {
			t.Errorf("%+v %s: %v %q, want %v %q", h, tt.payload, code, reason, tt.code, tt.reason)
		}
	}
	if code, reason := Check(Header{Length: 3, Type: Data, Stream: 1}, nil); code != FrameSizeError || reason != "DATA of 3 bytes, expected 0" {
		t.Errorf("payload of another length: %v %q", code, reason)
	}
}

func TestStreamOnly(t *testing.T) {
	for h, want := range map[Header]bool{
		{Type: Priority, Stream: 1, Length: 4}:     true,
		{Type: Priority, Stream: 0, Length: 5}:     false,
		{Type: WindowUpdate, Stream: 1, Length: 4}: true,
		{Type: WindowUpdate, Stream: 0, Length: 4}: false,
		{Type: WindowUpdate, Stream: 1, Length: 3}: false,
		{Type: RSTStream, Stream: 1, Length: 3}:    false,
		{Type: Data, Stream: 1, Flags: Padded}:     false,
	} {
		if got := StreamOnly(h); got != want {
			t.Errorf("%+v: %v, want %v", h, got, want)
		}
	}
}

func TestUnpad(t *testing.T) {
	for _, tt := range []struct {
		payload string
		flags   Flags
		data    string
		padLen  int
		ok      bool
	}{
		{"", 0, "", 0, true},
		{"\x05abc", 0, "\x05abc", 0, true},
		{"", Padded, "", 0, false},
		{"\x00abc", Padded, "abc", 1, true},
		{"\x02abc", Padded, "a", 3, true},
		{"\x03abc", Padded, "", 4, true},
		{"\x04abc", Padded, "", 0, false},
		{"\xff", Padded, "", 0, false},
	} {
		data, n, ok := Unpad([]byte(tt.payload), tt.flags)
		if string(data) != tt.data || n != tt.padLen || ok != tt.ok {
			t.Errorf("Unpad(%q, %#x) = %q, %d, %v, want %q, %d, %v", tt.payload, tt.flags, data, n, ok, tt.data, tt.padLen, tt.ok)
		}
	}
	for _, tt := range []struct {
		payload string
		flags   Flags
		block   string
		ok      bool
	}{{"abc", 0, "abc", true}, {"12345abc", WithPriority, "abc", true}, {"12345", WithPriority, "", true}, {"1234", WithPriority, "", false}} {
		block, ok := StripPriority([]byte(tt.payload), tt.flags)
		if string(block) != tt.block || ok != tt.ok {
			t.Errorf("StripPriority(%q, %#x) = %q, %v", tt.payload, tt.flags, block, ok)
		}
	}
}

func TestParse(t *testing.T) {
	g := AppendGoAway(nil, 1<<31|9, EnhanceYourCalm, "debug")
	if id, code, debug := ParseGoAway(g[HeaderLen:]); id != 9 || code != EnhanceYourCalm || string(debug) != "debug" {
		t.Errorf("ParseGoAway: %d, %v, %q", id, code, debug)
	}
	if n := WindowIncrement([]byte{0xff, 0xff, 0xff, 0xff}); n != MaxWindow {
		t.Errorf("WindowIncrement: %d", n)
	}
	if c := ResetCode([]byte{0, 0, 0, 8}); c != Cancel {
		t.Errorf("ResetCode: %v", c)
	}
	var seen []Setting
	for s := range EachSetting([]byte("\x00\x01\x00\x00\x00\x05\x00\x02\x00\x00\x00\x01\x00")) {
		seen = append(seen, s)
	}
	if len(seen) != 2 || seen[0] != (Setting{SettingHeaderTableSize, 5}) || seen[1] != (Setting{SettingEnablePush, 1}) {
		t.Errorf("EachSetting: %v", seen)
	}
	for s := range EachSetting(AppendSettings(nil, seen...)[HeaderLen:]) {
		if s != seen[0] {
			t.Errorf("EachSetting went on to %v", s)
		}
		break
	}
}
