// SPDX-License-Identifier: Apache-2.0

package frame

import "encoding/binary"

// Header is a frame header (RFC 9113 section 4.1).
type Header struct {
	// Length is the payload's length in bytes, at most 2^24-1.
	Length uint32
	Type   Type
	Flags  Flags
	// Stream is the stream identifier; 0 is the connection.
	Stream uint32
}

// ParseHeader reads the frame header in b[:HeaderLen]; b must be that long. The
// reserved bit is ignored.
func ParseHeader(b []byte) Header {
	_ = b[HeaderLen-1]
	return Header{
		Length: uint32(b[0])<<16 | uint32(b[1])<<8 | uint32(b[2]),
		Type:   Type(b[3]),
		Flags:  Flags(b[4]),
		Stream: binary.BigEndian.Uint32(b[5:]) & MaxStreamID,
	}
}

// PutHeader writes a frame header into b[:HeaderLen]; b must be that long. It
// serves to fill a header in after its payload was appended.
func PutHeader(b []byte, length int, typ Type, flags Flags, stream uint32) {
	_ = b[HeaderLen-1]
	b[0], b[1], b[2] = byte(length>>16), byte(length>>8), byte(length)
	b[3], b[4] = byte(typ), byte(flags)
	binary.BigEndian.PutUint32(b[5:], stream&MaxStreamID)
}

// AppendHeader appends a frame header for a payload of length bytes.
func AppendHeader(dst []byte, length int, typ Type, flags Flags, stream uint32) []byte {
	return append(dst,
		byte(length>>16), byte(length>>8), byte(length), byte(typ), byte(flags),
		byte(stream>>24)&0x7f, byte(stream>>16), byte(stream>>8), byte(stream))
}

// Boundary returns the first offset in b from n on at which a frame ends or
// begins. b holds whole frames from offset head on.
func Boundary(b []byte, head, n int) int {
	for head < n {
		head += HeaderLen + int(ParseHeader(b[head:]).Length)
	}
	return head
}

// Setting is one pair of a SETTINGS frame.
type Setting struct {
	ID    SettingID
	Value uint32
}

// AppendSettings appends a SETTINGS frame (section 6.5).
func AppendSettings(dst []byte, settings ...Setting) []byte {
	dst = AppendHeader(dst, len(settings)*SettingLen, Settings, 0, 0)
	for _, s := range settings {
		dst = binary.BigEndian.AppendUint16(dst, uint16(s.ID))
		dst = binary.BigEndian.AppendUint32(dst, s.Value)
	}
	return dst
}

// AppendSettingsAck appends the acknowledgment of a SETTINGS frame.
func AppendSettingsAck(dst []byte) []byte {
	return AppendHeader(dst, 0, Settings, Ack, 0)
}

// AppendPing appends a PING frame, or the answer to one (section 6.7).
func AppendPing(dst []byte, ack bool, data [8]byte) []byte {
	var flags Flags
	if ack {
		flags = Ack
	}
	dst = AppendHeader(dst, len(data), Ping, flags, 0)
	return append(dst, data[:]...)
}

// AppendWindowUpdate appends a WINDOW_UPDATE frame (section 6.9); stream 0 is
// the connection. increment is in bytes, 1 to 2^31-1.
func AppendWindowUpdate(dst []byte, stream, increment uint32) []byte {
	dst = AppendHeader(dst, 4, WindowUpdate, 0, stream)
	return binary.BigEndian.AppendUint32(dst, increment&MaxWindow)
}

// AppendRSTStream appends a RST_STREAM frame (section 6.4).
func AppendRSTStream(dst []byte, stream uint32, code Code) []byte {
	dst = AppendHeader(dst, 4, RSTStream, 0, stream)
	return binary.BigEndian.AppendUint32(dst, uint32(code))
}

// AppendGoAway appends a GOAWAY frame (section 6.8). Debug data that the
// smallest permitted frame cannot hold is cut off.
func AppendGoAway(dst []byte, lastID uint32, code Code, debug string) []byte {
	if len(debug) > MinMaxFrameSize-8 {
		debug = debug[:MinMaxFrameSize-8]
	}
	dst = AppendHeader(dst, 8+len(debug), GoAway, 0, 0)
	dst = binary.BigEndian.AppendUint32(dst, lastID&MaxStreamID)
	dst = binary.BigEndian.AppendUint32(dst, uint32(code))
	return append(dst, debug...)
}
