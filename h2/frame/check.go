// SPDX-License-Identifier: Apache-2.0

package frame

import (
	"encoding/binary"
	"strconv"
)

// CheckHeader judges a frame by its header alone, before the payload has come:
// the stream identifier and the length that RFC 9113 section 6 asks of the type.
// It returns NoError, or the code and what was wrong. The size limit
// (SETTINGS_MAX_FRAME_SIZE) is the connection's business. See [StreamOnly] for
// what the fault condemns.
func CheckHeader(h Header) (Code, string) {
	switch h.Type {
	case Data, Headers, Priority, RSTStream, PushPromise, Continuation:
		if h.Stream == 0 {
			return ProtocolError, h.Type.String() + " on stream 0, expected a stream"
		}
	case Settings, Ping, GoAway:
		if h.Stream != 0 {
			return ProtocolError, h.Type.String() + " on stream " + strconv.FormatUint(uint64(h.Stream), 10) + ", expected stream 0"
		}
	}
	return checkLength(h)
}

func checkLength(h Header) (Code, string) {
	switch h.Type {
	case Data, Headers, PushPromise:
		if least := leastLength(h); h.Length < least {
			return wrongLength(h, "at least "+strconv.FormatUint(uint64(least), 10))
		}
	case Priority:
		if h.Length != PriorityLen {
			return wrongLength(h, "5")
		}
	case RSTStream, WindowUpdate:
		if h.Length != 4 {
			return wrongLength(h, "4")
		}
	case Settings:
		if h.Flags.Has(Ack) && h.Length != 0 {
			return wrongLength(h, "0 with ACK") // section 6.5
		}
		if h.Length%SettingLen != 0 {
			return wrongLength(h, "a multiple of 6")
		}
	case Ping:
		if h.Length != 8 {
			return wrongLength(h, "8")
		}
	case GoAway:
		if h.Length < 8 {
			return wrongLength(h, "at least 8")
		}
	}
	return NoError, ""
}

// leastLength is what the fields that the flags announce take up.
func leastLength(h Header) uint32 {
	var n uint32
	if h.Flags.Has(Padded) {
		n++
	}
	if h.Type == Headers && h.Flags.Has(WithPriority) {
		n += PriorityLen
	}
	if h.Type == PushPromise {
		n += 4
	}
	return n
}

func wrongLength(h Header, want string) (Code, string) {
	return FrameSizeError, h.Type.String() + " of " + strconv.FormatUint(uint64(h.Length), 10) + " bytes, expected " + want
}

// CheckPayload judges what a payload says, for a frame that passed
// [CheckHeader]: padding, settings values, a window increment of 0. payload must
// be h.Length bytes long. It returns NoError, or the code and what was wrong.
func CheckPayload(h Header, payload []byte) (Code, string) {
	switch h.Type {
	case Data, Headers, PushPromise:
		data, _, ok := Unpad(payload, h.Flags)
		if !ok || uint32(len(data)) < leastLength(Header{Type: h.Type, Flags: h.Flags &^ Padded}) {
			// "If the length of the padding is the length of the frame payload or
			// greater, the recipient MUST treat this as a connection error of type
			// PROTOCOL_ERROR." (sections 6.1, 6.2, 6.6)
			return ProtocolError, h.Type.String() + " with more padding than payload"
		}
	case Settings:
		for s := range EachSetting(payload) {
			if code, reason := CheckSetting(s); code != NoError {
				return code, reason
			}
		}
	case WindowUpdate:
		if WindowIncrement(payload) == 0 {
			return ProtocolError, "WINDOW_UPDATE with an increment of 0" // section 6.9
		}
	}
	return NoError, ""
}

// Check is [CheckHeader] and then [CheckPayload]. A payload whose length differs
// from h.Length is a FRAME_SIZE_ERROR.
func Check(h Header, payload []byte) (Code, string) {
	if uint64(h.Length) != uint64(len(payload)) {
		return wrongLength(h, strconv.Itoa(len(payload)))
	}
	if code, reason := CheckHeader(h); code != NoError {
		return code, reason
	}
	return CheckPayload(h, payload)
}

// StreamOnly reports whether a fault that the checks found in a frame with
// header h condemns its stream only: a PRIORITY of the wrong length (RFC 9113
// section 6.3) and a WINDOW_UPDATE with an increment of 0 on a stream (section
// 6.9). All others condemn the connection.
func StreamOnly(h Header) bool {
	return h.Stream != 0 && (h.Type == Priority || h.Type == WindowUpdate && h.Length == 4)
}

// CheckSetting judges a setting's value (RFC 9113 section 6.5.2). It returns
// NoError, or the connection error's code and what was wrong.
func CheckSetting(s Setting) (Code, string) {
	switch s.ID {
	case SettingEnablePush:
		if s.Value > 1 {
			return ProtocolError, badSetting(s, "0 or 1")
		}
	case SettingInitialWindowSize:
		if s.Value > MaxWindow {
			return FlowControlError, badSetting(s, "at most 2147483647")
		}
	case SettingMaxFrameSize:
		if s.Value < MinMaxFrameSize || s.Value > MaxMaxFrameSize {
			return ProtocolError, badSetting(s, "16384 to 16777215")
		}
	}
	return NoError, ""
}

func badSetting(s Setting, want string) string {
	return s.ID.String() + " of " + strconv.FormatUint(uint64(s.Value), 10) + ", expected " + want
}

// EachSetting yields the settings of a SETTINGS payload in order. Bytes after
// the last whole setting are left out: [CheckHeader] reports them.
func EachSetting(payload []byte) func(yield func(Setting) bool) {
	return func(yield func(Setting) bool) {
		for p := payload; len(p) >= SettingLen; p = p[SettingLen:] {
			s := Setting{ID: SettingID(binary.BigEndian.Uint16(p)), Value: binary.BigEndian.Uint32(p[2:])}
			if !yield(s) {
				return
			}
		}
	}
}

// Unpad strips the padding of a DATA, HEADERS or PUSH_PROMISE payload. padLen
// counts the pad length field too, so that len(data)+padLen == len(payload),
// which is what flow control charges. ok is false when the padding does not fit
// the payload: a connection error of type PROTOCOL_ERROR.
func Unpad(payload []byte, flags Flags) (data []byte, padLen int, ok bool) {
	if !flags.Has(Padded) {
		return payload, 0, true
	}
	if len(payload) == 0 || int(payload[0]) >= len(payload) {
		return nil, 0, false
	}
	n := int(payload[0])
	return payload[1 : len(payload)-n], n + 1, true
}

// StripPriority takes the deprecated priority fields off an unpadded HEADERS
// payload. ok is false when they are announced and missing.
func StripPriority(payload []byte, flags Flags) (block []byte, ok bool) {
	if !flags.Has(WithPriority) {
		return payload, true
	}
	if len(payload) < PriorityLen {
		return nil, false
	}
	return payload[PriorityLen:], true
}

// WindowIncrement reads a WINDOW_UPDATE payload of 4 bytes; the reserved bit is
// ignored.
func WindowIncrement(payload []byte) uint32 {
	return binary.BigEndian.Uint32(payload) & MaxWindow
}

// ResetCode reads a RST_STREAM payload of 4 bytes.
func ResetCode(payload []byte) Code { return Code(binary.BigEndian.Uint32(payload)) }

// ParseGoAway reads a GOAWAY payload of at least 8 bytes. debug lies in payload.
func ParseGoAway(payload []byte) (lastID uint32, code Code, debug []byte) {
	lastID = binary.BigEndian.Uint32(payload) & MaxStreamID
	return lastID, Code(binary.BigEndian.Uint32(payload[4:])), payload[8:]
}
