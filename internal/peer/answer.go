// SPDX-License-Identifier: Apache-2.0

package peer

import (
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/net/http2"
)

// Answer is what a server does about one request. Answers are made by the
// functions of this file, and as well in place.
type Answer func(p *Peer, stream uint32) error

const grpcType = "application/grpc"

// OK answers with messages and status 0: one is what a unary call is due, two
// break its cardinality, none too. A message that is no valid protobuf makes an
// answer that does not parse.
func OK(payloads ...[]byte) Answer {
	var body []byte
	for _, m := range payloads {
		body = append(body, Message(m)...)
	}
	return Body(body, "grpc-status", "0")
}

// Body answers with bytes as they are, then trailers of the given names and values.
func Body(body []byte, trailers ...string) Answer {
	return Full([]string{":status", "200", "content-type", grpcType}, body, trailers)
}

// Full answers with a header section, a body, and trailers. Without trailers
// the stream ends on the body, and without body on the headers.
func Full(headers []string, body []byte, trailers []string) Answer {
	return func(p *Peer, stream uint32) error {
		ends := len(body) == 0 && len(trailers) == 0
		if err := p.SendHeaders(stream, ends, headers...); err != nil || ends {
			return err
		}
		if len(body) > 0 {
			if err := p.SendBody(stream, body, len(trailers) == 0); err != nil || len(trailers) == 0 {
				return err
			}
		}
		return p.SendHeaders(stream, true, trailers...)
	}
}

// TrailersOnly answers with a status and nothing else, in one header section,
// and further fields if any are given.
func TrailersOnly(code int, message string, nameValues ...string) Answer {
	return StatusText(strconv.Itoa(code), append([]string{"grpc-message", message}, nameValues...)...)
}

// StatusText is TrailersOnly with whatever text as grpc-status, such as "banana".
func StatusText(text string, nameValues ...string) Answer {
	fields := []string{":status", "200", "content-type", grpcType, "grpc-status", text}
	return Full(slices.Concat(fields, nameValues), nil, nil)
}

// MissingTrailers answers with a message and ends the stream on DATA, as a
// proxy does that drops trailers.
func MissingTrailers(payload []byte) Answer { return Body(Message(payload)) }

// MissingStatus answers with a message and trailers without grpc-status.
func MissingStatus(payload []byte) Answer { return Body(Message(payload), "x-trailer", "1") }

// CorruptGzip answers with a message that says it is gzip and is not.
func CorruptGzip() Answer {
	junk := []byte("\x1f\x8b\x08 this is no gzip")
	return Compressed("gzip", junk)
}

// Compressed answers with a message whose compressed flag is set and whose
// bytes are as given, under grpc-encoding; empty leaves that field out.
func Compressed(encoding string, b []byte) Answer {
	headers := []string{":status", "200", "content-type", grpcType}
	if encoding != "" {
		headers = append(headers, "grpc-encoding", encoding)
	}
	return Full(headers, MessageWith(1, uint32(len(b)), b), []string{"grpc-status", "0"})
}

// Truncated answers with a message cut after keep bytes, its prefix counted,
// and a status of 0.
func Truncated(payload []byte, keep int) Answer {
	return Body(Message(payload)[:keep], "grpc-status", "0")
}

// Oversized answers with the prefix of a message of length bytes, of which
// none follows, and leaves the stream open.
func Oversized(length uint32) Answer {
	return func(p *Peer, stream uint32) error {
		if err := p.SendHeaders(stream, false, ":status", "200", "content-type", grpcType); err != nil {
			return err
		}
		return p.SendData(stream, MessageWith(0, length, nil), false)
	}
}

// HTTPStatus answers as a proxy or web server does: a status, a content type
// and a body of text, without trailers.
func HTTPStatus(status int, contentType, text string) Answer {
	return Full([]string{":status", strconv.Itoa(status), "content-type", contentType}, []byte(text), nil)
}

// HTML answers 200 with a web page.
func HTML() Answer {
	return HTTPStatus(200, "text/html; charset=utf-8", "<!doctype html><title>Welcome</title><h1>It works!</h1>")
}

// RST answers with RST_STREAM.
func RST(code http2.ErrCode) Answer {
	return func(p *Peer, stream uint32) error { return p.SendRST(stream, code) }
}

// GoAway answers with GOAWAY; last is the last stream id, counted from the
// request's own: 0 includes it, -2 leaves it out.
func GoAway(last int, code http2.ErrCode, debug string) Answer {
	return func(p *Peer, stream uint32) error {
		return p.SendGoAway(uint32(max(0, int(stream)+last)), code, debug)
	}
}

// Cut resets the TCP connection.
func Cut() Answer {
	return func(p *Peer, _ uint32) error {
		p.Cut()
		return nil
	}
}

// HangUp closes the connection without a word.
func HangUp() Answer { return func(p *Peer, _ uint32) error { return p.Close() } }

// Silence answers nothing and keeps the stream open.
func Silence() Answer { return func(*Peer, uint32) error { return nil } }

// OverflowWindow breaks flow control by a WINDOW_UPDATE too large, on the
// stream or on the connection. It always is a violation.
func OverflowWindow(ofConnection bool) Answer {
	return func(p *Peer, stream uint32) error {
		if ofConnection {
			stream = 0
		}
		return p.OverflowWindow(stream)
	}
}

// ExceedWindow answers with headers and then DATA beyond the stream's window, at
// most limit bytes. The bytes are one message that never ends. See [Peer.ExceedWindow].
func ExceedWindow(limit int) Answer {
	return func(p *Peer, stream uint32) error {
		if err := p.SendHeaders(stream, false, ":status", "200", "content-type", grpcType); err != nil {
			return err
		}
		if err := p.SendData(stream, MessageWith(0, uint32(limit), nil), false); err != nil {
			return err
		}
		return p.ExceedWindow(stream, limit)
	}
}

// BadBlock answers with a header block that HPACK cannot decode.
func BadBlock() Answer {
	return func(p *Peer, stream uint32) error { return p.SendBlock(stream, true, []byte{0x80}) } // index 0: RFC 7541 section 6.1
}

// HugeHeaders answers with a field of size bytes beside a good status.
func HugeHeaders(size int) Answer {
	return StatusText("0", "x-huge", strings.Repeat("x", size))
}

// BadFrame answers with a frame that breaks RFC 9113: DATA on stream 0.
func BadFrame() Answer {
	return func(p *Peer, _ uint32) error { return p.SendData(0, []byte("x"), false) }
}

// After waits before it answers, unless the connection ends first.
func After(d time.Duration, a Answer) Answer {
	return func(p *Peer, stream uint32) error {
		timer := time.NewTimer(d)
		defer timer.Stop()
		select {
		case <-timer.C:
			return a(p, stream)
		case <-p.ended:
			return nil
		}
	}
}

// Then answers in several steps.
func Then(steps ...Answer) Answer {
	return func(p *Peer, stream uint32) error {
		for _, a := range steps {
			if err := a(p, stream); err != nil {
				return err
			}
		}
		return nil
	}
}

// Each is a server's script that answers every request when it is complete.
// It ends when the client ends the connection.
func Each(a Answer) Script { return answering(a, func(f Frame) bool { return f.End }) }

// EachAtOnce is Each that answers as soon as the request's headers are there.
func EachAtOnce(a Answer) Script {
	return answering(a, func(f Frame) bool { return f.Kind == http2.FrameHeaders && f.Get(":method") != "" })
}

func answering(a Answer, when func(Frame) bool) Script {
	return func(p *Peer) error {
		_, err := p.Handshake()
		for err == nil {
			var f Frame
			if f, err = p.next(0); err == nil && when(f) {
				err = a(p, f.Stream)
			}
		}
		if p.Ended(err) {
			return nil
		}
		return err
	}
}
