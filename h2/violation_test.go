// SPDX-License-Identifier: Apache-2.0

package h2

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/net/http2"

	"github.com/faultline-rpc/faultline/internal/peer"
)

// Violations by a client that end the connection, and the code of the GOAWAY
// that says so.
func TestServerConnectionErrors(t *testing.T) {
	const end, endHeaders, padded = 1, 4, 8
	tests := []struct {
		name string
		code http2.ErrCode
		do   func(p *peer.T)
	}{
		{"DATA on stream 0", http2.ErrCodeProtocol, func(p *peer.T) { p.SendFrame(http2.FrameData, 0, 0, []byte("x")) }},
		{"DATA on an idle stream", http2.ErrCodeProtocol, func(p *peer.T) { p.SendData(1, []byte("x"), false) }},
		{"HEADERS on stream 0", http2.ErrCodeProtocol, func(p *peer.T) { p.SendRequest(0, true, "/a") }},
		{"HEADERS on an even stream", http2.ErrCodeProtocol, func(p *peer.T) { p.SendRequest(2, true, "/a") }},
		{"RST_STREAM on an idle stream", http2.ErrCodeProtocol, func(p *peer.T) { p.SendRST(1, 0) }},
		{"RST_STREAM of 3 bytes", http2.ErrCodeFrameSize, func(p *peer.T) { p.SendFrame(http2.FrameRSTStream, 0, 1, make([]byte, 3)) }},
		{"WINDOW_UPDATE on an idle stream", http2.ErrCodeProtocol, func(p *peer.T) { p.SendWindowUpdate(1, 1) }},
		{"WINDOW_UPDATE by 0", http2.ErrCodeProtocol, func(p *peer.T) { p.SendWindowUpdate(0, 0) }},
		{"WINDOW_UPDATE of 5 bytes", http2.ErrCodeFrameSize, func(p *peer.T) { p.SendFrame(http2.FrameWindowUpdate, 0, 0, make([]byte, 5)) }},
		{"connection window overflow", http2.ErrCodeFlowControl, func(p *peer.T) { p.SendWindowUpdate(0, 1<<31-1) }},
		{"PING of 7 bytes", http2.ErrCodeFrameSize, func(p *peer.T) { p.SendFrame(http2.FramePing, 0, 0, make([]byte, 7)) }},
		{"PING on a stream", http2.ErrCodeProtocol, func(p *peer.T) { p.SendFrame(http2.FramePing, 0, 1, make([]byte, 8)) }},
		{"GOAWAY of 7 bytes", http2.ErrCodeFrameSize, func(p *peer.T) { p.SendFrame(http2.FrameGoAway, 0, 0, make([]byte, 7)) }},
		{"SETTINGS of 5 bytes", http2.ErrCodeFrameSize, func(p *peer.T) { p.SendFrame(http2.FrameSettings, 0, 0, make([]byte, 5)) }},
		{"SETTINGS ACK with a payload", http2.ErrCodeFrameSize, func(p *peer.T) { p.SendFrame(http2.FrameSettings, 1, 0, make([]byte, 6)) }},
		{"SETTINGS on a stream", http2.ErrCodeProtocol, func(p *peer.T) { p.SendFrame(http2.FrameSettings, 0, 1, nil) }},
		{"MAX_FRAME_SIZE 0", http2.ErrCodeProtocol, func(p *peer.T) { p.SendSettings(setting(http2.SettingMaxFrameSize, 0)) }},
		{"MAX_FRAME_SIZE 2^24", http2.ErrCodeProtocol, func(p *peer.T) { p.SendSettings(setting(http2.SettingMaxFrameSize, 1<<24)) }},
		{"INITIAL_WINDOW_SIZE 2^31", http2.ErrCodeFlowControl, func(p *peer.T) { p.SendSettings(setting(http2.SettingInitialWindowSize, 1<<31)) }},
		{"ENABLE_PUSH 2", http2.ErrCodeProtocol, func(p *peer.T) { p.SendSettings(setting(http2.SettingEnablePush, 2)) }},
		{"PUSH_PROMISE", http2.ErrCodeProtocol, func(p *peer.T) { p.SendFrame(http2.FramePushPromise, endHeaders, 1, make([]byte, 4)) }},
		{"DATA above MAX_FRAME_SIZE", http2.ErrCodeFrameSize, func(p *peer.T) {
			p.SendRequest(1, false, "/a")
			p.SendRaw([]byte{2, 0, 1, 0, 0, 0, 0, 0, 1})
		}},
		{"unknown frame above MAX_FRAME_SIZE", http2.ErrCodeFrameSize, func(p *peer.T) { p.SendRaw([]byte{2, 0, 1, 0xfa, 0, 0, 0, 0, 0}) }},
		{"CONTINUATION without HEADERS", http2.ErrCodeProtocol, func(p *peer.T) { p.SendFrame(http2.FrameContinuation, endHeaders, 1, nil) }},
		{"DATA inside a header block", http2.ErrCodeProtocol, func(p *peer.T) {
			p.SendFrame(http2.FrameHeaders, 0, 1, []byte{0x83})
			p.SendData(1, []byte("x"), false)
		}},
		{"unknown frame inside a header block", http2.ErrCodeProtocol, func(p *peer.T) {
			p.SendFrame(http2.FrameHeaders, 0, 1, []byte{0x83})
			p.SendFrame(0xfa, 0, 0, nil)
		}},
		{"CONTINUATION of another stream", http2.ErrCodeProtocol, func(p *peer.T) {
			p.SendFrame(http2.FrameHeaders, 0, 1, []byte{0x83})
			p.SendFrame(http2.FrameContinuation, endHeaders, 3, []byte{0x84})
		}},
		{"HEADERS with more padding than payload", http2.ErrCodeProtocol, func(p *peer.T) {
			p.SendFrame(http2.FrameHeaders, endHeaders|padded, 1, []byte{5, 0x83})
		}},
		{"padded HEADERS without a length", http2.ErrCodeFrameSize, func(p *peer.T) { p.SendFrame(http2.FrameHeaders, endHeaders|padded, 1, nil) }},
		{"DATA with more padding than payload", http2.ErrCodeProtocol, func(p *peer.T) {
			p.SendRequest(1, false, "/a")
			p.SendFrame(http2.FrameData, padded, 1, []byte{2, 'x'})
		}},
		{"padded DATA without a length", http2.ErrCodeFrameSize, func(p *peer.T) {
			p.SendRequest(1, false, "/a")
			p.SendFrame(http2.FrameData, padded, 1, nil)
		}},
		{"a header block that does not decode", http2.ErrCodeCompression, func(p *peer.T) { p.SendBlock(1, true, []byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}) }},
		{"a header block that does not decode, on a stream that was reset", http2.ErrCodeCompression, func(p *peer.T) {
			p.SendRequest(1, false, "/a")
			p.SendRST(1, http2.ErrCodeCancel)
			p.SendBlock(1, true, []byte{0x80})
		}},
		{"PRIORITY of 4 bytes on an idle stream", http2.ErrCodeFrameSize, func(p *peer.T) { p.SendFrame(http2.FramePriority, 0, 7, make([]byte, 4)) }},
		{"PRIORITY on stream 0", http2.ErrCodeProtocol, func(p *peer.T) { p.SendFrame(http2.FramePriority, 0, 0, make([]byte, 5)) }},
		{"DATA beyond the connection's window", http2.ErrCodeFlowControl, func(p *peer.T) {
			p.SendRequest(1, false, "/a")
			p.SendData(1, make([]byte, 70000), false)
		}},
		{"HEADERS after the client reset the stream", http2.ErrCodeStreamClosed, func(p *peer.T) {
			p.SendRequest(1, false, "/a")
			p.SendRST(1, http2.ErrCodeCancel)
			p.SendRequest(1, true, "/a")
		}},
		{"a header block of too many bytes", http2.ErrCodeEnhanceYourCalm, func(p *peer.T) {
			p.SendFrame(http2.FrameHeaders, 0, 1, make([]byte, 16384))
			for range 20 {
				if p.Peer.SendFrame(http2.FrameContinuation, 0, 1, make([]byte, 16384)) != nil {
					return
				}
			}
		}},
		{"a header block of too many frames", http2.ErrCodeEnhanceYourCalm, func(p *peer.T) {
			p.SendFrame(http2.FrameHeaders, 0, 1, nil)
			for range 513 {
				if p.Peer.SendFrame(http2.FrameContinuation, 0, 1, []byte{0x83}) != nil {
					return
				}
			}
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				d := server(t, Config{StreamWindow: 65535, ConnWindow: 65535})
				tt.do(d.p)
				g := d.p.WantGoAway(tt.code)
				if g.Debug == "" {
					t.Error("GOAWAY does not say what was wrong")
				}
				d.p.WantClosed()
				err := d.wantEnd(Violation, Code(tt.code))
				if err.By != Local || !err.Ready || err.Reason != g.Debug {
					t.Errorf("%+v", err)
				}
				if s := d.streams; len(s) > 0 && s[0].closes != 1 {
					t.Errorf("OnClose was called %d times", s[0].closes)
				}
			})
		})
	}
}

// Violations that end one stream only.
func TestServerStreamErrors(t *testing.T) {
	const padded = 8
	tests := []struct {
		name  string
		code  http2.ErrCode
		first func(p *peer.T) // opens stream 1; nil: POST without END_STREAM
		do    func(p *peer.T)
	}{
		{name: "DATA beyond the stream's window", code: http2.ErrCodeFlowControl, do: func(p *peer.T) { p.SendData(1, make([]byte, 20001), false) }},
		{name: "padding beyond the stream's window", code: http2.ErrCodeFlowControl, do: func(p *peer.T) {
			p.SendFrame(http2.FrameData, padded, 1, append([]byte{255}, make([]byte, 20000)...))
		}},
		{name: "window overflow", code: http2.ErrCodeFlowControl, do: func(p *peer.T) { p.SendWindowUpdate(1, 1<<31-1) }},
		{name: "increment of 0", code: http2.ErrCodeProtocol, do: func(p *peer.T) { p.SendWindowUpdate(1, 0) }},
		{name: "PRIORITY of 4 bytes", code: http2.ErrCodeFrameSize, do: func(p *peer.T) { p.SendFrame(http2.FramePriority, 0, 1, make([]byte, 4)) }},
		{name: "depends on itself", code: http2.ErrCodeProtocol, do: func(p *peer.T) { p.SendFrame(http2.FramePriority, 0, 1, []byte{0, 0, 0, 1, 0}) }},
		{name: "trailers without END_STREAM", code: http2.ErrCodeProtocol, do: func(p *peer.T) { p.SendHeaders(1, false, "a", "b") }},
		{name: "pseudo-header in trailers", code: http2.ErrCodeProtocol, do: func(p *peer.T) { p.SendHeaders(1, true, ":path", "/b") }},
		{name: "upper case in trailers", code: http2.ErrCodeProtocol, do: func(p *peer.T) { p.SendHeaders(1, true, "A", "b") }},
		{name: "DATA after END_STREAM", code: http2.ErrCodeStreamClosed, first: func(p *peer.T) { p.SendRequest(1, true, "/a") },
			do: func(p *peer.T) { p.SendData(1, []byte("x"), false) }},
		{name: "HEADERS after END_STREAM", code: http2.ErrCodeStreamClosed, first: func(p *peer.T) { p.SendRequest(1, true, "/a") },
			do: func(p *peer.T) { p.SendHeaders(1, true, "a", "b") }},
		{name: "zero increment after END_STREAM", code: http2.ErrCodeProtocol, first: func(p *peer.T) { p.SendRequest(1, true, "/a") },
			do: func(p *peer.T) { p.SendWindowUpdate(1, 0) }},
		{name: "more than content-length", code: http2.ErrCodeProtocol, first: func(p *peer.T) { p.SendRequest(1, false, "/a", "content-length", "3") },
			do: func(p *peer.T) { p.SendData(1, []byte("1234"), false) }},
		{name: "less than content-length", code: http2.ErrCodeProtocol, first: func(p *peer.T) { p.SendRequest(1, false, "/a", "content-length", "3") },
			do: func(p *peer.T) { p.SendData(1, []byte("12"), true) }},
		{name: "less than content-length, with trailers", code: http2.ErrCodeProtocol, first: func(p *peer.T) { p.SendRequest(1, false, "/a", "content-length", "3") },
			do: func(p *peer.T) { p.SendData(1, []byte("12"), false); p.SendHeaders(1, true, "a", "b") }},
		{name: "content-length that is no number", code: http2.ErrCodeProtocol, first: func(p *peer.T) { p.SendRequest(1, false, "/a", "content-length", "+3") },
			do: func(p *peer.T) { p.SendData(1, []byte("123"), true) }},
		{name: "two content-lengths", code: http2.ErrCodeProtocol, first: func(p *peer.T) { p.SendRequest(1, false, "/a", "content-length", "3", "+content-length", "4") },
			do: func(p *peer.T) { p.SendData(1, []byte("123"), true) }},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				d := server(t, Config{StreamWindow: 20000})
				if tt.first == nil {
					tt.first = func(p *peer.T) { p.SendRequest(1, false, "/a") }
				}
				tt.first(d.p)
				s := d.last()
				tt.do(d.p)
				d.p.WantRST(1, tt.code)
				_, _, _, err := s.saw()
				wantStreamError(t, err, Local, Code(tt.code))
				if s.closes != 1 {
					t.Errorf("OnClose was called %d times", s.closes)
				}
				if err := s.WriteData([]byte("x"), true, nil); err != ErrEnded {
					t.Errorf("WriteData after it: %v", err)
				}
				if err := s.WriteHeader(head(":status", "200"), true); err != ErrEnded {
					t.Errorf("WriteHeader after it: %v", err)
				}
				// What was under way is no violation, and the connection lives.
				d.p.SendData(1, []byte("late"), true)
				d.p.SendRST(1, http2.ErrCodeCancel)
				d.p.SendWindowUpdate(1, 1)
				d.alive(3)
			})
		})
	}
}

// What breaks a rule on a stream that both sides have ended is answered there,
// once.
func TestServerClosedStreamErrors(t *testing.T) {
	for _, tt := range []struct {
		name string
		code http2.ErrCode
		do   func(p *peer.T)
	}{
		{"DATA", http2.ErrCodeStreamClosed, func(p *peer.T) { p.SendData(1, []byte("x"), false) }},
		{"PRIORITY of 4 bytes", http2.ErrCodeFrameSize, func(p *peer.T) { p.SendFrame(http2.FramePriority, 0, 1, make([]byte, 4)) }},
		{"PRIORITY on itself", http2.ErrCodeProtocol, func(p *peer.T) { p.SendFrame(http2.FramePriority, 0, 1, []byte{0, 0, 0, 1, 0}) }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				d := server(t, Config{})
				d.p.SendRequest(1, true, "/a")
				if err := d.last().WriteHeader(head(":status", "200"), true); err != nil {
					t.Fatal(err)
				}
				d.p.WantTrailers(1, ":status", "200")
				tt.do(d.p)
				d.p.WantRST(1, tt.code)
				tt.do(d.p)
				d.p.WantQuiet(time.Second)
				d.alive(3)
			})
		})
	}
}

func TestServerMalformedRequests(t *testing.T) {
	tests := []struct {
		name    string
		end     bool
		changes []string
	}{
		{"no method", true, []string{":method", peer.Absent}},
		{"no scheme", true, []string{":scheme", peer.Absent}},
		{"no path", true, []string{":path", peer.Absent}},
		{"empty path", true, []string{":path", ""}},
		{"two paths", true, []string{"+:path", "/b"}},
		{"two methods", true, []string{"+:method", "GET"}},
		{"status in a request", true, []string{":status", "200"}},
		{"unknown pseudo-header", true, []string{":protocol", "websocket"}},
		{"upper case", true, []string{"X-Y", "z"}},
		{"space in a name", true, []string{"x y", "z"}},
		{"colon in a name", true, []string{"x:y", "z"}},
		{"empty name", true, []string{"", "z"}},
		{"NUL in a value", true, []string{"x", "a\x00b"}},
		{"newline in a value", true, []string{"x", "a\nb"}},
		{"newline in the path", true, []string{":path", "/a\r\nb"}},
		{"connection", true, []string{"connection", "close"}},
		{"transfer-encoding", true, []string{"transfer-encoding", "chunked"}},
		{"te", true, []string{"te", "gzip"}},
		{"content-length and no body", true, []string{"content-length", "3"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				d := server(t, Config{})
				d.p.SendRequest(1, tt.end, "/a.B/C", tt.changes...)
				d.p.WantRST(1, http2.ErrCodeProtocol)
				if synctest.Wait(); len(d.streams) != 0 {
					t.Error("the handler was asked for a stream")
				}
				d.alive(3)
			})
		})
	}
	t.Run("pseudo after regular", func(t *testing.T) {
		inBubble(t, func(t *testing.T) {
			d := server(t, Config{})
			d.p.SendHeaders(1, true, ":method", "POST", "te", "trailers", ":scheme", "http", ":path", "/")
			d.p.WantRST(1, http2.ErrCodeProtocol)
			d.alive(3)
		})
	})
}

func TestClientConnectionErrors(t *testing.T) {
	tests := []struct {
		name string
		code http2.ErrCode
		do   func(p *peer.T)
	}{
		{"PUSH_PROMISE", http2.ErrCodeProtocol, func(p *peer.T) { p.SendFrame(http2.FramePushPromise, 4, 1, []byte{0, 0, 0, 2, 0x82}) }},
		{"HEADERS on an even stream", http2.ErrCodeProtocol, func(p *peer.T) { p.SendHeaders(2, true, ":status", "200") }},
		{"HEADERS on an idle stream", http2.ErrCodeProtocol, func(p *peer.T) { p.SendHeaders(3, true, ":status", "200") }},
		{"ENABLE_PUSH 1", http2.ErrCodeProtocol, func(p *peer.T) { p.SendSettings(setting(http2.SettingEnablePush, 1)) }},
		{"HEADERS after RST_STREAM", http2.ErrCodeStreamClosed, func(p *peer.T) {
			p.SendRST(1, http2.ErrCodeCancel)
			p.SendHeaders(1, true, ":status", "200")
		}},
		{"initial window that overflows a stream's", http2.ErrCodeFlowControl, func(p *peer.T) {
			p.SendWindowUpdate(1, 1<<30)
			p.SendSettings(setting(http2.SettingInitialWindowSize, 1<<30+1<<29), setting(http2.SettingInitialWindowSize, 1<<31-1))
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				d := client(t, Config{})
				s := d.open(nil, true)
				d.p.WantHeaders(1)
				tt.do(d.p)
				d.p.WantGoAway(tt.code)
				d.p.WantClosed()
				err := d.wantEnd(Violation, Code(tt.code))
				if _, _, _, got := s.saw(); s.closes != 1 || got != error(err) && !strings.HasPrefix(tt.name, "HEADERS after") {
					t.Errorf("stream told %d times: %v", s.closes, got)
				}
			})
		})
	}
}

func TestClientStreamErrors(t *testing.T) {
	tests := []struct {
		name string
		code http2.ErrCode
		do   func(p *peer.T)
	}{
		{"no status", http2.ErrCodeProtocol, func(p *peer.T) { p.SendHeaders(1, false, "a", "b") }},
		{"two statuses", http2.ErrCodeProtocol, func(p *peer.T) { p.SendHeaders(1, false, ":status", "200", ":status", "200") }},
		{"status of two digits", http2.ErrCodeProtocol, func(p *peer.T) { p.SendHeaders(1, false, ":status", "20") }},
		{"path in a response", http2.ErrCodeProtocol, func(p *peer.T) { p.SendHeaders(1, false, ":status", "200", ":path", "/") }},
		{"interim response at the end", http2.ErrCodeProtocol, func(p *peer.T) { p.SendHeaders(1, true, ":status", "100") }},
		{"DATA before HEADERS", http2.ErrCodeProtocol, func(p *peer.T) { p.SendData(1, []byte("x"), false) }},
		{"response ends before content-length", http2.ErrCodeProtocol, func(p *peer.T) { p.SendHeaders(1, true, ":status", "200", "content-length", "1") }},
		{"trailers without END_STREAM", http2.ErrCodeProtocol, func(p *peer.T) {
			p.SendHeaders(1, false, ":status", "200")
			p.SendHeaders(1, false, "grpc-status", "0")
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				d := client(t, Config{})
				s := d.open(nil, true)
				d.p.WantHeaders(1)
				tt.do(d.p)
				d.p.WantRST(1, tt.code)
				_, _, _, err := s.saw()
				wantStreamError(t, err, Local, Code(tt.code))
				s = d.open(nil, true)
				d.p.WantHeaders(3)
				d.p.Answer(3, peer.Full([]string{":status", "200"}, nil, nil))
				if _, _, ended, err := s.saw(); !ended || err != nil {
					t.Errorf("the next stream: ended %v, %v", ended, err)
				}
			})
		})
	}
}
