// SPDX-License-Identifier: Apache-2.0

package peer

import (
	"encoding/binary"
	"fmt"
	"strings"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// Frame is a received frame. Kind says which of the fields are set. HEADERS
// come with their CONTINUATION frames, decoded.
type Frame struct {
	Kind      http2.FrameType
	Stream    uint32
	Flags     http2.Flags
	Length    uint32              // of the payload, padding included; for HEADERS of the whole block
	End       bool                // END_STREAM, on DATA and HEADERS
	Ack       bool                // on SETTINGS and PING
	Fields    []hpack.HeaderField // of HEADERS and PUSH_PROMISE, in order
	Data      []byte              // of DATA; the payload of PING and of unknown kinds
	Code      http2.ErrCode       // of RST_STREAM and GOAWAY
	Last      uint32              // of GOAWAY: the last stream id
	Debug     string              // of GOAWAY
	Increment uint32              // of WINDOW_UPDATE
	Settings  []http2.Setting
}

// Get returns the value of the first field called name, or "".
func (f Frame) Get(name string) string { return get(f.Fields, name) }

// Values returns the values of all fields called name.
func (f Frame) Values(name string) []string { return values(f.Fields, name) }

// Setting returns the value of a setting in the frame.
func (f Frame) Setting(id http2.SettingID) (value uint32, ok bool) {
	for _, s := range f.Settings {
		if s.ID == id {
			value, ok = s.Val, true
		}
	}
	return value, ok
}

// String describes the frame on one line, long values cut.
func (f Frame) String() string {
	var b strings.Builder
	b.WriteString(f.Kind.String())
	if f.Stream != 0 {
		fmt.Fprintf(&b, " stream=%d", f.Stream)
	}
	if f.Ack {
		b.WriteString(" ACK")
	}
	if f.End {
		b.WriteString(" END_STREAM")
	}
	for _, h := range f.Fields {
		fmt.Fprintf(&b, " %s=%s", h.Name, short(h.Value))
	}
	switch f.Kind {
	case http2.FrameData:
		fmt.Fprintf(&b, " %d bytes", len(f.Data))
		if len(f.Data) > 0 {
			fmt.Fprintf(&b, " %s", short(string(f.Data)))
		}
	case http2.FrameRSTStream:
		fmt.Fprintf(&b, " %v", f.Code)
	case http2.FrameGoAway:
		fmt.Fprintf(&b, " last=%d %v %s", f.Last, f.Code, short(f.Debug))
	case http2.FrameWindowUpdate:
		fmt.Fprintf(&b, " +%d", f.Increment)
	case http2.FrameSettings:
		for _, s := range f.Settings {
			fmt.Fprintf(&b, " %v=%d", s.ID, s.Val)
		}
	}
	return b.String()
}

// short quotes s, cut to what a line can bear.
func short(s string) string {
	const limit = 60
	if len(s) > limit {
		return fmt.Sprintf("%q... (%d bytes)", s[:limit], len(s))
	}
	return fmt.Sprintf("%q", s)
}

func get(fields []hpack.HeaderField, name string) string {
	for _, f := range fields {
		if f.Name == name {
			return f.Value
		}
	}
	return ""
}

func values(fields []hpack.HeaderField, name string) (all []string) {
	for _, f := range fields {
		if f.Name == name {
			all = append(all, f.Value)
		}
	}
	return all
}

// convert copies what x/net's framer lends. Header blocks are not in it.
func convert(in http2.Frame) Frame {
	h := in.Header()
	f := Frame{Kind: h.Type, Stream: h.StreamID, Flags: h.Flags, Length: h.Length}
	switch in := in.(type) {
	case *http2.DataFrame:
		f.Data, f.End = append([]byte(nil), in.Data()...), in.StreamEnded()
	case *http2.RSTStreamFrame:
		f.Code = in.ErrCode
	case *http2.GoAwayFrame:
		f.Last, f.Code, f.Debug = in.LastStreamID, in.ErrCode, string(in.DebugData())
	case *http2.WindowUpdateFrame:
		f.Increment = in.Increment
	case *http2.PingFrame:
		f.Ack, f.Data = in.IsAck(), append([]byte(nil), in.Data[:]...)
	case *http2.SettingsFrame:
		f.Ack = in.IsAck()
		for i := range in.NumSettings() {
			f.Settings = append(f.Settings, in.Setting(i))
		}
	case *http2.UnknownFrame:
		f.Data = append([]byte(nil), in.Payload()...)
	}
	return f
}

// Message puts gRPC's prefix before an uncompressed message: a zero flag and
// four bytes of length.
func Message(payload []byte) []byte { return MessageWith(0, uint32(len(payload)), payload) }

// MessageWith puts a prefix of any flag and any length before bytes that need
// not fit it.
func MessageWith(flag byte, length uint32, payload []byte) []byte {
	b := append(make([]byte, 0, 5+len(payload)), flag)
	b = binary.BigEndian.AppendUint32(b, length)
	return append(b, payload...)
}
