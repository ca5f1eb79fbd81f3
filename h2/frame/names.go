// SPDX-License-Identifier: Apache-2.0

package frame

import "strconv"

// Preface is what a client sends first (RFC 9113 section 3.4).
const Preface = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"

// Limits and initial values, in bytes where they are sizes.
const (
	// HeaderLen is the length of every frame header (section 4.1).
	HeaderLen = 9
	// MinMaxFrameSize is the initial and the smallest SETTINGS_MAX_FRAME_SIZE.
	MinMaxFrameSize = 1 << 14
	// MaxMaxFrameSize is the largest SETTINGS_MAX_FRAME_SIZE.
	MaxMaxFrameSize = 1<<24 - 1
	// MaxWindow is the largest flow-control window (section 6.9.1).
	MaxWindow = 1<<31 - 1
	// InitialWindow is the window of a connection, and of its streams until
	// SETTINGS say otherwise (section 6.9.2).
	InitialWindow = 1<<16 - 1
	// MaxStreamID is the largest stream identifier (section 5.1.1).
	MaxStreamID = 1<<31 - 1
	// SettingLen is the length of one setting in a SETTINGS payload.
	SettingLen = 6
	// PriorityLen is the length of the deprecated priority fields.
	PriorityLen = 5
)

// Type is a frame's type (RFC 9113 section 6).
type Type uint8

// The frame types. Frames of any other type are ignored (section 4.1).
const (
	Data         Type = 0x0
	Headers      Type = 0x1
	Priority     Type = 0x2
	RSTStream    Type = 0x3
	Settings     Type = 0x4
	PushPromise  Type = 0x5
	Ping         Type = 0x6
	GoAway       Type = 0x7
	WindowUpdate Type = 0x8
	Continuation Type = 0x9
)

var typeNames = [...]string{
	"DATA", "HEADERS", "PRIORITY", "RST_STREAM", "SETTINGS",
	"PUSH_PROMISE", "PING", "GOAWAY", "WINDOW_UPDATE", "CONTINUATION",
}

// String returns the name in RFC 9113, or "TYPE_0x1f" for an unknown type.
func (t Type) String() string {
	if int(t) < len(typeNames) {
		return typeNames[t]
	}
	return "TYPE_0x" + strconv.FormatUint(uint64(t), 16)
}

// Flags are a frame's flags; their meaning depends on the type.
type Flags uint8

// The flags that RFC 9113 defines.
const (
	EndStream    Flags = 0x1  // DATA, HEADERS
	Ack          Flags = 0x1  // SETTINGS, PING
	EndHeaders   Flags = 0x4  // HEADERS, PUSH_PROMISE, CONTINUATION
	Padded       Flags = 0x8  // DATA, HEADERS, PUSH_PROMISE
	WithPriority Flags = 0x20 // HEADERS: the priority fields are present
)

// Has reports whether all flags in v are set.
func (f Flags) Has(v Flags) bool { return f&v == v }

// Code is an error code in RST_STREAM and GOAWAY (RFC 9113 section 7).
type Code uint32

// The error codes.
const (
	NoError            Code = 0x0
	ProtocolError      Code = 0x1
	InternalError      Code = 0x2
	FlowControlError   Code = 0x3
	SettingsTimeout    Code = 0x4
	StreamClosed       Code = 0x5
	FrameSizeError     Code = 0x6
	RefusedStream      Code = 0x7
	Cancel             Code = 0x8
	CompressionError   Code = 0x9
	ConnectError       Code = 0xa
	EnhanceYourCalm    Code = 0xb
	InadequateSecurity Code = 0xc
	HTTP11Required     Code = 0xd
)

var codeNames = [...]string{
	"NO_ERROR", "PROTOCOL_ERROR", "INTERNAL_ERROR", "FLOW_CONTROL_ERROR",
	"SETTINGS_TIMEOUT", "STREAM_CLOSED", "FRAME_SIZE_ERROR", "REFUSED_STREAM",
	"CANCEL", "COMPRESSION_ERROR", "CONNECT_ERROR", "ENHANCE_YOUR_CALM",
	"INADEQUATE_SECURITY", "HTTP_1_1_REQUIRED",
}

// String returns the name in RFC 9113 section 7, or "CODE_0x1f" for an unknown
// code.
func (c Code) String() string {
	if uint64(c) < uint64(len(codeNames)) {
		return codeNames[c]
	}
	return "CODE_0x" + strconv.FormatUint(uint64(c), 16)
}

// SettingID names a setting (RFC 9113 section 6.5.2).
type SettingID uint16

// The settings. Unknown ones are ignored (section 6.5.2).
const (
	SettingHeaderTableSize      SettingID = 0x1
	SettingEnablePush           SettingID = 0x2
	SettingMaxConcurrentStreams SettingID = 0x3
	SettingInitialWindowSize    SettingID = 0x4
	SettingMaxFrameSize         SettingID = 0x5
	SettingMaxHeaderListSize    SettingID = 0x6
)

var settingNames = [...]string{
	"SETTINGS_HEADER_TABLE_SIZE", "SETTINGS_ENABLE_PUSH",
	"SETTINGS_MAX_CONCURRENT_STREAMS", "SETTINGS_INITIAL_WINDOW_SIZE",
	"SETTINGS_MAX_FRAME_SIZE", "SETTINGS_MAX_HEADER_LIST_SIZE",
}

// String returns the name in RFC 9113, or "SETTING_0x1f" for an unknown id.
func (id SettingID) String() string {
	if id >= 1 && int(id) <= len(settingNames) {
		return settingNames[id-1]
	}
	return "SETTING_0x" + strconv.FormatUint(uint64(id), 16)
}
