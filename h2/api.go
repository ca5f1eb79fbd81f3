// SPDX-License-Identifier: Apache-2.0

package h2

import (
	"time"

	"github.com/faultline-rpc/faultline/event"
	"github.com/faultline-rpc/faultline/h2/hpack"
)

// Config holds a connection's settings. Zero values mean the defaults named.
type Config struct {
	// StreamWindow is the flow-control window announced for each stream, in
	// bytes (SETTINGS_INITIAL_WINDOW_SIZE). Default 1 MiB.
	StreamWindow uint32
	// ConnWindow is the connection's receive window in bytes. Default 8 MiB.
	ConnWindow uint32
	// MaxFrameSize is the largest frame accepted, in bytes
	// (SETTINGS_MAX_FRAME_SIZE, 16384 to 16777215). Default 128 KiB.
	MaxFrameSize uint32
	// MaxHeaderListSize bounds a received header section, in bytes as RFC 9113
	// section 6.5.2 counts them. Default 16 KiB... see newConn.
	MaxHeaderListSize uint32
	// HeaderTableSize bounds the HPACK dynamic table for decoding. Default 4096.
	HeaderTableSize uint32
	// MaxConcurrentStreams is how many streams a client may hold open; a server
	// refuses the others with REFUSED_STREAM. Default 10000.
	MaxConcurrentStreams uint32
	// SettingsTimeout bounds the wait for the peer's preface, and for the
	// acknowledgement of our SETTINGS. Default 10 s.
	SettingsTimeout time.Duration
	// ConnID names the connection in events.
	ConnID uint64
	// Sink observes events; nil is free.
	Sink event.Sink
}

// ConnHandler is told about a connection as a whole. All methods but Closed
// run on the reader and must not block.
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
	// GoAway is called for each GOAWAY received, after the streams above its
	// last id have been closed with it.
	GoAway(*GoAwayError)
	// Closed is called once, after every stream has been told and the net.Conn
	// is closed. err says why, never nil.
	Closed(err error)
}

// StreamHandler is told what the peer does on one stream. Its methods run on
// the reader, must not block, and are not called again after end or OnClose.
type StreamHandler interface {
	// OnHeaders delivers a header section: the request, the final response (1xx
	// sections are skipped), or trailers. b is valid during the call only,
	// unless b.Lasting.
	OnHeaders(b *Block, end bool)
	// OnData delivers payload bytes, which lie in buf: Retain it to keep p. The
	// stream's window is given back by [Stream.Consumed] alone.
	OnData(p []byte, buf *ReadBuf, end bool)
	// OnClose says that the stream ended before both sides finished: a
	// *StreamError (reset by peer, or a violation found here), *GoAwayError
	// (above the last id), or *ConnError. It is called at most once, and not
	// after a local Reset. On a *ConnError it may run on another goroutine
	// than the reader's, never beside it.
	OnClose(err error)
}

// Header is a header section to send: fields that repeat from stream to
// stream, which are encoded once, followed by those that vary.
type Header struct {
	Fixed  *hpack.Template
	Fields []hpack.Field
}

// Block is a decoded header section.
type Block struct {
	Fields []hpack.Field
	// TooLarge means that the section exceeds MaxHeaderListSize; Fields holds
	// what came before the limit.
	TooLarge bool
	// Lasting means that the block is immutable and kept: the same pointer will
	// be delivered whenever the peer sends the same bytes.
	Lasting bool
	// Memo is the handler's own reading of a lasting block, nil at first. It is
	// touched on the reader only, so one connection's handlers share it.
	Memo any
}
