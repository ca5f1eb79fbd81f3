// SPDX-License-Identifier: Apache-2.0

package h2

import (
	"errors"
	"fmt"
	"io"

	"github.com/faultline-rpc/faultline/h2/frame"
)

// By says who ended a stream or connection.
type By uint8

// The two ends.
const (
	Local By = iota
	Peer
)

// String returns "local" or "peer".
func (b By) String() string {
	if b == Peer {
		return "peer"
	}
	return "local"
}

// Kind is the way in which a connection ended.
type Kind uint8

const (
	// Lost: reading or writing failed, or the peer closed the socket. Err is the cause.
	Lost Kind = iota
	// Violation: the peer broke a rule of RFC 9113; Code and Reason say which.
	Violation
	// NotHTTP2: the first bytes received are no HTTP/2; they are in First.
	NotHTTP2
	// PrefaceTimeout: the peer's SETTINGS did not come in time.
	PrefaceTimeout
	// SettingsTimeout: our SETTINGS were not acknowledged in time.
	SettingsTimeout
	// Closed: this side closed it; Code and Reason are what it said in GOAWAY.
	Closed
	// Aborted: this side gave it up without a word; Err says why.
	Aborted
)

// ConnError says why a connection ended. It is delivered to each stream that
// was open then.
type ConnError struct {
	Kind   Kind
	By     By
	Code   Code
	Reason string
	// GoAway is the last GOAWAY received before, or nil.
	GoAway *GoAwayError
	// First holds the first bytes received, at most 512, where the peer never
	// spoke HTTP/2.
	First []byte
	// Ready says whether the peer's SETTINGS had arrived: it spoke HTTP/2.
	Ready bool
	// Err is the underlying error, if there is one.
	Err error
}

// Error says what happened, then why.
func (e *ConnError) Error() string {
	var s string
	switch e.Kind {
	case Lost:
		s = "connection lost"
	case NotHTTP2:
		s = "peer does not speak HTTP/2"
	case PrefaceTimeout:
		s = "no HTTP/2 SETTINGS from the peer in time"
	case SettingsTimeout:
		s = "SETTINGS not acknowledged in time"
	case Closed:
		s = fmt.Sprintf("connection closed by this side (%v)", e.Code)
	case Aborted:
		s = "connection given up"
	default:
		s = fmt.Sprintf("connection error %v", e.Code)
	}
	if e.Reason != "" {
		s += ": " + e.Reason
	}
	if e.GoAway != nil {
		s += " after " + e.GoAway.Error()
	}
	if e.Err != nil {
		s += ": " + e.Err.Error()
	}
	return s
}

// Orderly reports an end that nobody has to look into: one side closed the
// connection, or gave it up before its time, and neither complained.
func (e *ConnError) Orderly() bool {
	switch {
	case e.GoAway != nil && e.GoAway.Code != NoError:
		return false
	case e.Kind == Closed:
		return e.Code == NoError
	case e.Kind == Lost:
		return !e.Ready || errors.Is(e.Err, io.EOF)
	}
	return e.Kind == Aborted
}

// Unwrap returns the underlying error.
func (e *ConnError) Unwrap() error { return e.Err }

// StreamError says why one stream ended: an RST_STREAM received (By Peer), or
// a violation found here and answered with one (By Local).
type StreamError struct {
	By     By
	Code   Code
	Reason string // what was wrong, where this side found it
}

// Error says who reset the stream and why.
func (e *StreamError) Error() string {
	if e.By == Peer {
		return fmt.Sprintf("stream reset by peer: %v", e.Code)
	}
	return fmt.Sprintf("stream error %v: %s", e.Code, e.Reason)
}

// GoAwayError is a GOAWAY received, as the error of a stream above its last id
// or of a stream that could not be opened after it.
type GoAwayError struct {
	Code   Code
	LastID uint32
	Debug  string
	// Local: it was this side that retired the connection.
	Local bool
}

// Error quotes the frame.
func (e *GoAwayError) Error() string {
	if e.Local {
		return "connection is being retired by this side"
	}
	s := fmt.Sprintf("GOAWAY %v, last stream %d", e.Code, e.LastID)
	if e.Debug != "" {
		s += fmt.Sprintf(", debug data %q", e.Debug)
	}
	return s
}

var (
	// ErrDone means that the done channel given was closed first.
	ErrDone = errors.New("h2: gave up waiting")
	// ErrEnded means that the stream is over; its handler was told why.
	ErrEnded = errors.New("h2: stream is over")
	// ErrHeaderList means that the header section to send exceeds the peer's
	// SETTINGS_MAX_HEADER_LIST_SIZE; nothing was sent.
	ErrHeaderList = errors.New("h2: header section exceeds the peer's MAX_HEADER_LIST_SIZE")
	// ErrHeaderBlock is the Err of a ConnError whose header block was so far
	// beyond MaxHeaderListSize that it was not read to its end.
	ErrHeaderBlock = errors.New("header block beyond the limit")
)

// violation makes the error for a rule of RFC 9113 that the peer broke, one
// that ends the connection.
func violation(code Code, format string, args ...any) *ConnError {
	return &ConnError{Kind: Violation, By: Local, Code: code, Reason: fmt.Sprintf(format, args...)}
}

// streamViolation makes the error for a broken rule that ends one stream.
func streamViolation(code Code, reason string) *StreamError {
	return &StreamError{By: Local, Code: code, Reason: reason}
}

const (
	codeNo          = frame.NoError
	codeProtocol    = frame.ProtocolError
	codeInternal    = frame.InternalError
	codeFlow        = frame.FlowControlError
	codeSettings    = frame.SettingsTimeout
	codeClosed      = frame.StreamClosed
	codeFrameSize   = frame.FrameSizeError
	codeRefused     = frame.RefusedStream
	codeCompression = frame.CompressionError
	codeCalm        = frame.EnhanceYourCalm
)
