// SPDX-License-Identifier: Apache-2.0

package h2

import (
	"time"

	"github.com/faultline-rpc/faultline/event"
	"github.com/faultline-rpc/faultline/h2/frame"
	"github.com/faultline-rpc/faultline/h2/hpack"
)

// Config holds a connection's settings. Zero values mean the defaults named.
type Config struct {
	// StreamWindow is the flow-control window announced for each stream, in
	// bytes (SETTINGS_INITIAL_WINDOW_SIZE). Default 4 MiB.
	StreamWindow uint32
	// ConnWindow is the connection's receive window in bytes. Default 8 MiB,
	// and never below StreamWindow or 65535.
	ConnWindow uint32
	// MaxFrameSize is the largest frame accepted, in bytes
	// (SETTINGS_MAX_FRAME_SIZE, 16384 to 16777215). Default 128 KiB.
	MaxFrameSize uint32
	// MaxHeaderListSize bounds a received header section, in bytes as RFC 9113
	// section 6.5.2 counts them. Default 64 KiB.
	MaxHeaderListSize uint32
	// HeaderTableSize bounds the HPACK dynamic table for decoding, in bytes.
	// Default 4096.
	HeaderTableSize uint32
	// MaxConcurrentStreams is how many streams a client may hold open; a server
	// refuses the others with REFUSED_STREAM. Default 10000.
	MaxConcurrentStreams uint32
	// SettingsTimeout bounds the wait for the peer's preface, and after it the
	// wait for the acknowledgement of our SETTINGS; also the time from the first
	// bytes of a header block, or of a frame other than DATA, to its last. Default
	// 20 s.
	SettingsTimeout time.Duration
	// Pinged is told of each PING received, answers excepted. It runs on the
	// reader and must not block. Nil is free.
	Pinged func()
	// Refused is told of each request of a server's that was answered with
	// RST_STREAM in the place of a stream: why is what is wrong with it, "" where
	// there was no room. It runs on the reader and must not block; b is valid
	// during the call only. Nil is free.
	Refused func(b *Block, id uint32, code Code, why string)
	// ConnID names the connection in events.
	ConnID uint64
	// Sink observes events; nil is free.
	Sink event.Sink
}

const (
	defaultStreamWindow  = 4 << 20
	defaultConnWindow    = 8 << 20
	defaultMaxFrame      = 128 << 10
	defaultMaxHeaderList = 64 << 10
	defaultHeaderTable   = 4096
	defaultMaxStreams    = 10000
	defaultSettingsWait  = 20 * time.Second

	// What RFC 9113 section 6.5.2 lets a peer assume before SETTINGS arrive.
	initialWindow   = 65535
	initialMaxFrame = 16384
	maxWindow       = 1<<31 - 1

	// maxSendFrame bounds the DATA frames we send, whatever the peer allows, so
	// that streams share the connection fairly.
	maxSendFrame = 128 << 10
)

func (c Config) withDefaults() Config {
	set := func(v *uint32, d uint32) {
		if *v == 0 {
			*v = d
		}
	}
	set(&c.StreamWindow, defaultStreamWindow)
	set(&c.ConnWindow, defaultConnWindow)
	set(&c.MaxFrameSize, defaultMaxFrame)
	set(&c.MaxHeaderListSize, defaultMaxHeaderList)
	set(&c.HeaderTableSize, defaultHeaderTable)
	set(&c.MaxConcurrentStreams, defaultMaxStreams)
	c.StreamWindow = min(c.StreamWindow, maxWindow)
	c.ConnWindow = min(max(c.ConnWindow, c.StreamWindow, initialWindow), maxWindow)
	c.MaxFrameSize = min(max(c.MaxFrameSize, initialMaxFrame), 1<<24-1)
	if c.SettingsTimeout <= 0 {
		c.SettingsTimeout = defaultSettingsWait
	}
	return c
}

// ConnHandler is told about a connection as a whole. Its methods run on the
// reader and must not block.
type ConnHandler interface {
	// Ready is called once, when the peer's first SETTINGS frame has arrived:
	// the peer speaks HTTP/2.
	Ready()
	// NewStream, on a server, returns storage for a stream that the peer opens
	// with the header block b, its handler attached with [Stream.Attach]; nil
	// refuses it with REFUSED_STREAM. StreamHandler.OnHeaders follows.
	NewStream(b *Block) *Stream
	// BatchEnd is called after the frames of one read have been delivered.
	BatchEnd()
	// GoAway is called for each GOAWAY received, before the streams above its
	// last id are told.
	GoAway(*GoAwayError)
	// Closed is called once, after every stream has been told and the net.Conn
	// is closed. err says why and is never nil.
	Closed(err *ConnError)
}

// StreamHandler is told what the peer does on one stream. Its methods run on
// the reader, must not block, and are not called again after end or OnClose,
// with one exception: OnClose may follow an end if this side has not ended.
type StreamHandler interface {
	// OnHeaders delivers a header section: the request, the final response (1xx
	// sections are skipped), or trailers. b is valid during the call only,
	// unless b.Lasting.
	OnHeaders(b *Block, end bool)
	// OnData delivers payload bytes, which lie in buf: Retain it to keep p. The
	// stream's window is given back by [Stream.Consumed] alone.
	OnData(p []byte, buf *ReadBuf, end bool)
	// OnClose says that the stream ended before both sides finished: a
	// *StreamError (reset by the peer, or a violation found here), *GoAwayError
	// (above the last id), or *ConnError. It is called at most once, and not
	// after a local Reset.
	OnClose(err error)
}

// Header is a header section to send: fields that repeat from stream to
// stream, which are encoded once, followed by those that vary.
type Header struct {
	Fixed  *hpack.Template
	Fields []hpack.Field
}

// Block is a decoded header section.
type Block = hpack.Block

// Code is an HTTP/2 error code (RFC 9113 section 7).
type Code = frame.Code

// The error codes that floors above send or look for.
const (
	NoError            = frame.NoError
	ProtocolError      = frame.ProtocolError
	InternalError      = frame.InternalError
	FlowControlError   = frame.FlowControlError
	RefusedStream      = frame.RefusedStream
	Cancel             = frame.Cancel
	CompressionError   = frame.CompressionError
	EnhanceYourCalm    = frame.EnhanceYourCalm
	InadequateSecurity = frame.InadequateSecurity
)
