// SPDX-License-Identifier: Apache-2.0

package peer

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/net/http2"

	"github.com/faultline-rpc/faultline/internal/simnet"
)

// pair is both roles after the handshake.
func pair(t *testing.T, client, server Options) (c, s *T) {
	t.Helper()
	a, b := simnet.Pipe(simnet.Options{})
	c, s = Client(t, a, client), Server(t, b, server)
	done := make(chan struct{})
	go func() {
		defer close(done)
		s.Peer.Handshake()
	}()
	c.Handshake()
	<-done
	return c, s
}

func TestMismatches(t *testing.T) {
	tests := []struct {
		name string
		send func(c *T)
		want func(s *Peer) error
		text string
	}{
		{"fields", func(c *T) { c.SendHeaders(1, true, "a", "1", "b", "2", "c", "3") },
			func(s *Peer) error { _, err := s.WantHeaders(1, "a", "1", "b", "x", "c", Absent, "d", Any); return err },
			"peer: wanted HEADERS on stream 1 a=\"1\" b=\"x\" no c d=(any)\n        came HEADERS stream=1 END_STREAM a=\"1\" b=\"2\" c=\"3\"\n" +
				"             b: got \"2\", want \"x\"\n             c: got [\"3\"], want none\n             d: is missing"},
		{"trailers", func(c *T) { c.SendHeaders(1, false, "a", "1") },
			func(s *Peer) error { _, err := s.WantTrailers(1); return err },
			"peer: wanted HEADERS on stream 1 with END_STREAM\n        came HEADERS stream=1 a=\"1\"\n             it does not end the stream"},
		{"kind", func(c *T) { c.SendRST(3, http2.ErrCodeCancel) },
			func(s *Peer) error { _, err := s.WantData(3, 1); return err },
			"peer: wanted 1 bytes of DATA on stream 3\n        came RST_STREAM stream=3 CANCEL"},
		{"code", func(c *T) { c.SendGoAway(7, http2.ErrCodeInternal, "oops") },
			func(s *Peer) error { _, err := s.WantGoAway(http2.ErrCodeNo); return err },
			"peer: wanted GOAWAY NO_ERROR\n        came GOAWAY last=7 INTERNAL_ERROR \"oops\"\n             code: got INTERNAL_ERROR, want NO_ERROR"},
		{"stream", func(c *T) { c.SendData(5, []byte("x"), false) },
			func(s *Peer) error { _, err := s.WantOn(3, http2.FrameData); return err },
			"peer: wanted DATA on stream 3\n        came DATA stream=5 1 bytes \"x\""},
		{"short", func(c *T) { c.SendData(1, []byte("\x00\x00\x00\x00\x09abc"), true) },
			func(s *Peer) error { _, err := s.WantMessage(1); return err },
			"peer: wanted 9 bytes of DATA on stream 1\n        came END_STREAM after 3"},
		{"prefix", func(c *T) { c.SendData(1, []byte("\x01\x00\x00\x00\x09abc"), true) },
			func(s *Peer) error { _, err := s.WantMessage(1); return err },
			"peer: wanted an uncompressed message on stream 1\n        came the prefix 0100000009"},
		{"silence", func(c *T) {},
			func(s *Peer) error { return s.WantRST(1, http2.ErrCodeCancel) },
			"peer: wanted RST_STREAM stream=1 CANCEL\n        came nothing within 10s"},
		{"end", func(c *T) { c.Close() },
			func(s *Peer) error { _, err := s.Want(http2.FramePing); return err },
			"peer: wanted PING\n        came the end of the connection: EOF"},
		{"no end", func(c *T) { c.SendData(1, nil, true) },
			func(s *Peer) error { return s.WantClosed() },
			"peer: wanted the end of the connection\n        came DATA stream=1 END_STREAM 0 bytes"},
		{"no quiet", func(c *T) { c.SendData(1, nil, true) },
			func(s *Peer) error { return s.WantQuiet(time.Minute) },
			"peer: wanted nothing for 1m0s\n        came DATA stream=1 END_STREAM 0 bytes"},
		{"garbage", func(c *T) { c.SendFrame(http2.FrameSettings, 0, 0, []byte("x")) },
			func(s *Peer) error { return s.WantClosed() },
			"peer: wanted the end of the connection\n        came the end of the connection: a frame does not parse: connection error: FRAME_SIZE_ERROR"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c, s := pair(t, Options{}, Options{})
				tt.send(c)
				err := tt.want(s.Peer)
				if err == nil || !strings.HasPrefix(err.Error(), tt.text) {
					t.Errorf("got  %v\nwant %s", err, tt.text)
				}
			})
		})
	}
}

// fatal is a test that records how it was ended.
type fatal struct{ text string }

func (f *fatal) Helper()        {}
func (f *fatal) Cleanup(func()) {}
func (f *fatal) Fatalf(format string, args ...any) {
	f.text = fmt.Sprintf(format, args...)
}

func TestFatalShowsTheDialogue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, s := pair(t, Options{}, Options{})
		c.SendHeaders(1, true, ":path", "/a")
		synctest.Wait()
		f := &fatal{}
		(&T{Peer: s.Peer, t: f}).WantRST(1, http2.ErrCodeNo)
		for _, part := range []string{"wanted RST_STREAM stream=1 NO_ERROR\n", "dialogue so far:\n", "\n  <- preface\n", "\n  -> SETTINGS\n", "\n  <- HEADERS stream=1 END_STREAM :path=\"/a\""} {
			if !strings.Contains(f.text, part) {
				t.Errorf("the message lacks %q:\n%s", part, f.text)
			}
		}
		for range 2 * maxLines {
			s.SendPing(true, [8]byte{})
		}
		if d := s.Dialogue(); len(d) != maxLines+1 || !strings.HasSuffix(d[0], "lines before)") {
			t.Errorf("a long dialogue keeps %d lines, beginning with %q", len(d), d[0])
		}
	})
}

func TestAutomaticAnswers(t *testing.T) {
	all := []http2.FrameType{}
	for _, off := range []bool{false, true} {
		t.Run(fmt.Sprintf("off %v", off), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c, s := pair(t, Options{Skip: all}, Options{NoSettingsAck: off, NoPingAck: off, NoCredit: off})
				if !off {
					c.WantSettingsAck()
				}
				c.SendPing(false, [8]byte{1, 2, 3})
				c.SendData(1, []byte("four"), false)
				if off {
					s.WantPing(false)
					c.WantQuiet(time.Minute)
					return
				}
				if f := c.WantPing(true); !bytes.Equal(f.Data, []byte{1, 2, 3, 0, 0, 0, 0, 0}) {
					t.Errorf("PING came back with %v", f.Data)
				}
				for _, stream := range []uint32{0, 1} {
					if f := c.Want(http2.FrameWindowUpdate); f.Stream != stream || f.Increment != 4 {
						t.Errorf("%v, want 4 for stream %d", f, stream)
					}
				}
				c.WantQuiet(time.Minute)
			})
		})
	}
}

func TestInterleave(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, s := pair(t, Options{}, Options{Interleave: true})
		for _, stream := range []uint32{1, 3, 5} {
			c.SendRequest(stream, false, "/a.B/C")
		}
		for _, stream := range []uint32{5, 1, 3} {
			c.SendData(stream, Message([]byte{byte(stream)}), true)
		}
		for _, stream := range []uint32{3, 5, 1} {
			s.WantHeaders(stream, ":path", "/a.B/C")
			if m := s.WantMessage(stream); m[0] != byte(stream) {
				t.Errorf("stream %d: message %v", stream, m)
			}
			if rest := s.WantBody(stream); len(rest) != 0 {
				t.Errorf("stream %d: %q left", stream, rest)
			}
		}
	})
}

func TestHandshakeWantsSettingsFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client, server := simnet.Pipe(simnet.Options{})
		c := Client(t, client)
		c.SendPreface()
		c.SendPing(false, [8]byte{})
		s := NewServer(server, Options{})
		defer s.Close()
		_, err := s.Handshake()
		if err == nil || !strings.Contains(err.Error(), "wanted SETTINGS first of all\n        came PING") {
			t.Errorf("got %v", err)
		}
	})
}

func TestBoundsOfTheReader(t *testing.T) {
	tests := []struct {
		name string
		send func(c *Peer) error
		text string
	}{
		{"frames", func(c *Peer) error {
			return c.Send("flood", func(fr *http2.Framer) error {
				for range maxFrames + 1 {
					fr.WriteRSTStream(1, http2.ErrCodeCancel)
				}
				return nil
			})
		}, "100000 frames of 0 bytes were received and not wanted"},
		{"header block", func(c *Peer) error { return c.SendBlock(1, true, make([]byte, maxBlock+1)) }, "a header block exceeds 4194304 bytes"},
		{"continuation", func(c *Peer) error { return c.SendFrame(http2.FrameContinuation, 0, 1, nil) }, "CONTINUATION on stream 1 without HEADERS"},
		{"inside", func(c *Peer) error {
			if err := c.SendFrame(http2.FrameHeaders, 0, 1, nil); err != nil {
				return err
			}
			return c.SendPing(false, [8]byte{})
		}, "PING came inside a header block"},
		{"hpack", func(c *Peer) error { return c.SendBlock(1, true, []byte{0x80}) }, "the header block of stream 1 does not decode"},
		{"pings never answered", func(c *Peer) error {
			return c.Send("flood", func(fr *http2.Framer) error {
				for range 90_000 {
					fr.WritePing(false, [8]byte{})
				}
				return nil
			})
		}, "the other end does not read the answers"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				client, server := simnet.Pipe(simnet.Options{Buffer: 8 << 20})
				server.Stall() // its answers stay under way
				c := Client(t, client, Options{NoPingAck: true})
				s := NewServer(server, Options{})
				defer s.Close()
				c.SendPreface()
				c.OK(tt.send(c.Peer))
				<-s.ended
				if s.err == nil || !strings.Contains(s.err.Error(), tt.text) {
					t.Errorf("the reader ended with %v, want %q", s.err, tt.text)
				}
			})
		})
	}
}

// stub is a connection of given bytes.
type stub struct {
	net.Conn
	in io.Reader
}

func (s stub) Read(b []byte) (int, error) { return s.in.Read(b) }

func FuzzRead(f *testing.F) {
	var seed bytes.Buffer
	seed.WriteString(http2.ClientPreface)
	fr := http2.NewFramer(&seed, nil)
	fr.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 1})
	fr.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: []byte{0x82, 0x86}, EndHeaders: false})
	fr.WriteContinuation(1, true, []byte{0x84})
	fr.WriteData(1, true, []byte("data"))
	fr.WriteWindowUpdate(1, 5)
	fr.WritePing(false, [8]byte{})
	fr.WriteGoAway(1, http2.ErrCodeNo, []byte("bye"))
	fr.WriteRawFrame(0x55, 1, 9, []byte("unknown"))
	f.Add(seed.Bytes())
	f.Add([]byte("GET / HTTP/1.1\r\n\r\n"))
	f.Add([]byte(http2.ClientPreface + "\x00\x00\x04\x05\x04\x00\x00\x00\x01\x00\x00\x00\x02"))
	f.Fuzz(func(t *testing.T, b []byte) {
		p := &Peer{
			conn: stub{in: bytes.NewReader(b)}, server: true, changed: make(chan struct{}), kick: make(chan struct{}, 1),
			windows: windows{streams: map[uint32]int64{}},
		}
		if err := p.readAll(); err == nil {
			t.Error("reading ended without an error")
		}
		for _, q := range p.queue {
			_ = q.String()
		}
	})
}

func FuzzMessages(f *testing.F) {
	f.Add(Message([]byte("hi")))
	f.Add([]byte{0, 0xff, 0xff, 0xff, 0xff})
	f.Fuzz(func(t *testing.T, b []byte) {
		all, err := (&Response{Body: b}).Messages()
		n := 0
		for _, m := range all {
			n += 5 + len(m)
		}
		if n > len(b) || err == nil && n != len(b) {
			t.Errorf("%d messages of %d bytes in %d, %v", len(all), n, len(b), err)
		}
	})
}
