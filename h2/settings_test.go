// SPDX-License-Identifier: Apache-2.0

package h2

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/net/http2"

	"github.com/faultline-rpc/faultline/internal/peer"
	"github.com/faultline-rpc/faultline/internal/simnet"
)

func TestGreeting(t *testing.T) {
	for _, tt := range []struct {
		name string
		cfg  Config
		want map[http2.SettingID]uint32
	}{
		{"defaults", Config{}, map[http2.SettingID]uint32{http2.SettingInitialWindowSize: 4 << 20, http2.SettingMaxFrameSize: 128 << 10, http2.SettingMaxHeaderListSize: 64 << 10}},
		{"own", Config{StreamWindow: 100, MaxFrameSize: 20000, MaxHeaderListSize: 5000, HeaderTableSize: 100, MaxConcurrentStreams: 7},
			map[http2.SettingID]uint32{http2.SettingInitialWindowSize: 100, http2.SettingMaxFrameSize: 20000, http2.SettingMaxHeaderListSize: 5000, http2.SettingHeaderTableSize: 100}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				check := func(f peer.Frame, id http2.SettingID, want uint32) {
					t.Helper()
					if v, ok := f.Setting(id); !ok || v != want {
						t.Errorf("%v is %d %v, want %d", id, v, ok, want)
					}
				}
				sd := asServer(t, tt.cfg, simnet.Options{})
				f := sd.p.Handshake()
				for id, want := range tt.want {
					check(f, id, want)
				}
				check(f, http2.SettingMaxConcurrentStreams, max(tt.cfg.MaxConcurrentStreams, 7)/7*7+map[bool]uint32{true: 10000 - 7}[tt.cfg.MaxConcurrentStreams == 0])
				cd := asClient(t, tt.cfg, simnet.Options{})
				f = cd.p.Handshake()
				for id, want := range tt.want {
					check(f, id, want)
				}
				check(f, http2.SettingEnablePush, 0)
				if synctest.Wait(); sd.ready != 1 || cd.ready != 1 {
					t.Errorf("Ready was called %d and %d times", sd.ready, cd.ready)
				}
				sd.p.WantSettingsAck()
				cd.p.WantSettingsAck()
			})
		})
	}
}

func TestPrefaceTimeout(t *testing.T) {
	for role, make := range map[string]func(*testing.T, Config, simnet.Options, ...peer.Options) *dialogue{"server": asServer, "client": asClient} {
		for _, bytes := range []string{"", "\x00\x00"} {
			if role == "server" {
				bytes = strings.Replace(bytes, "\x00\x00", "PRI * HT", 1)
			}
			t.Run(role+" "+bytes, func(t *testing.T) {
				inBubble(t, func(t *testing.T) {
					start := time.Now()
					d := make(t, Config{SettingsTimeout: 3 * time.Second}, simnet.Options{})
					d.p.SendRaw([]byte(bytes))
					err := d.wantEnd(PrefaceTimeout, NoError)
					if took := d.at.Sub(start); took != 3*time.Second || err.Ready || string(err.First) != bytes || err.By != Peer {
						t.Errorf("after %v: %+v", took, err)
					}
				})
			})
		}
	}
}

// A server that acknowledges our SETTINGS before it sends its own is taken as
// others take it: its settings are the initial ones.
func TestAcknowledgementFirst(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		d := asClient(t, Config{SettingsTimeout: 3 * time.Second}, simnet.Options{}, peer.Options{NoSettingsAck: true})
		d.p.SendSettingsAck()
		s := d.open(nil, true)
		d.p.WantHeaders(1)
		time.Sleep(time.Minute)
		d.p.SendSettings(setting(http2.SettingMaxConcurrentStreams, 7))
		d.p.SendHeaders(1, true, ":status", "200")
		d.p.WantSettingsAck()
		synctest.Wait()
		if _, _, _, err := s.saw(); err != nil {
			t.Errorf("stream: %v", err)
		}
		d.p.Close()
		if err := d.end(); !err.Ready {
			t.Errorf("%+v", err)
		}
	})
}

// The wait for the acknowledgement begins when the peer's SETTINGS have come.
func TestSettingsTimeout(t *testing.T) {
	for role, make := range map[string]func(*testing.T, Config, simnet.Options, ...peer.Options) *dialogue{"server": asServer, "client": asClient} {
		t.Run(role, func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				start := time.Now()
				d := make(t, Config{SettingsTimeout: 3 * time.Second}, simnet.Options{}, peer.Options{NoSettingsAck: true})
				time.Sleep(2 * time.Second)
				d.p.Handshake()
				d.p.WantSettingsAck()
				d.p.WantGoAway(http2.ErrCodeSettingsTimeout)
				d.p.WantClosed()
				err := d.wantEnd(SettingsTimeout, codeSettings)
				if took := d.at.Sub(start); took != 5*time.Second || !err.Ready {
					t.Errorf("after %v: %+v", took, err)
				}
			})
		})
		t.Run(role+" in time", func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				d := make(t, Config{SettingsTimeout: 3 * time.Second}, simnet.Options{}, peer.Options{NoSettingsAck: true})
				d.p.Handshake()
				time.Sleep(2999 * time.Millisecond)
				d.p.SendSettingsAck()
				d.p.WantQuiet(time.Minute)
			})
		})
	}
}

// The peer's SETTINGS come as the time for them runs out: the timer has fired,
// and finds that it is set anew.
func TestSettingsCrossTheTimeout(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		d := asServer(t, Config{SettingsTimeout: 3 * time.Second}, simnet.Options{}, peer.Options{NoSettingsAck: true})
		time.Sleep(2999 * time.Millisecond)
		d.p.Handshake()
		synctest.Wait()
		d.c.settingsLate()
		time.Sleep(2 * time.Second)
		d.p.SendSettingsAck()
		d.alive(1)
	})
}

func TestNotHTTP2(t *testing.T) {
	tests := []struct {
		name, bytes string
		hangUp      bool
	}{
		{"http/1.1", "HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n", false},
		{"TLS alert", "\x15\x03\x01\x00\x02\x02\x46", false},
		{"ssh", "SSH-2.0-OpenSSH_9.6\r\n", false},
		{"one byte and FIN", "\x00", true},
		{"HEADERS first", "\x00\x00\x01\x01\x05\x00\x00\x00\x01\x88", false},
		{"SETTINGS on a stream", "\x00\x00\x00\x04\x00\x00\x00\x00\x01", false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				d := asClient(t, Config{}, simnet.Options{MaxRead: 3})
				s := d.open(nil, true)
				d.p.SendRaw([]byte(tt.bytes))
				if tt.hangUp {
					d.p.OK(d.p.CloseWrite())
				}
				err := d.end()
				if err.Kind != NotHTTP2 || err.Ready || !strings.HasPrefix(tt.bytes, string(err.First)) || len(err.First) < min(len(tt.bytes), telling) {
					t.Errorf("%+v, first %q", err, err.First)
				}
				if _, _, _, got := s.saw(); got != error(err) {
					t.Errorf("stream: %v", got)
				}
			})
		})
	}
	t.Run("a byte at a time", func(t *testing.T) {
		for _, tt := range []struct {
			text, want string
			every      time.Duration
		}{
			{"\x15\x03\x01\x00\x02\x02\x46", "\x15\x03\x01\x00\x02\x02\x46", 10 * time.Millisecond},
			{"+OK\r\nmore that follows", "+OK\r\n", 50 * time.Millisecond},
			{"SSH-2.0-OpenSSH_9.6\r\n", "SSH-2", 110 * time.Millisecond}, // for hearTime
		} {
			inBubble(t, func(t *testing.T) {
				d := asClient(t, Config{}, simnet.Options{})
				d.open(nil, true)
				start := time.Now()
				for i := range len(tt.text) {
					if d.p.Peer.SendRaw([]byte(tt.text[i:i+1])) != nil {
						break // it has heard enough
					}
					time.Sleep(tt.every)
				}
				err := d.end()
				if took := time.Since(start); string(err.First) != tt.want || took > hearTime+tt.every {
					t.Errorf("first %q after %v, want %q", err.First, took, tt.want)
				}
			})
		}
	})
	t.Run("http/1.1 client", func(t *testing.T) {
		inBubble(t, func(t *testing.T) {
			d := asServer(t, Config{}, simnet.Options{})
			d.p.SendRaw([]byte("GET / HTTP/1.1\r\n\r\n"))
			d.p.WantGoAway(http2.ErrCodeProtocol)
			if err := d.wantEnd(NotHTTP2, codeProtocol); string(err.First) != "GET / HTTP/1.1\r\n\r\n" {
				t.Errorf("First %q", err.First)
			}
		})
	})
	t.Run("nothing at all", func(t *testing.T) {
		inBubble(t, func(t *testing.T) {
			d := asClient(t, Config{}, simnet.Options{})
			synctest.Wait() // all is written
			d.p.Close()
			if err := d.wantEnd(Lost, 0); err.First != nil || err.Err != io.EOF || err.By != Peer {
				t.Errorf("%+v", err)
			}
		})
	})
}

// A peer that was told of a smaller table has to obey once it has said so.
func TestHeaderTableSizeAcknowledged(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		d := asServer(t, Config{HeaderTableSize: 100}, simnet.Options{}, peer.Options{NoSettingsAck: true})
		d.p.Handshake()
		// Before the acknowledgement 4096 bytes are the peer's to use. The block is
		// :method POST, :scheme http, :path /, without a table size update.
		d.p.SendBlock(1, true, []byte{0x83, 0x86, 0x84})
		if d.last().ID() != 1 {
			t.Fatal("request refused")
		}
		d.p.SendSettingsAck()
		d.p.SendBlock(3, true, []byte{0x3f, 0x45, 0x83, 0x86, 0x84}) // update to 100
		if d.last().ID() != 3 {
			t.Fatal("request with an update refused")
		}
		d.p.SendBlock(5, true, []byte{0x3f, 0x46, 0x83, 0x86, 0x84}) // update to 101
		d.p.WantGoAway(http2.ErrCodeCompression)
		d.wantEnd(Violation, codeCompression)
	})
}

// The script's decoder is strict about the size it announced first.
func TestPeerHeaderTableSize(t *testing.T) {
	for _, size := range []uint32{0, 50, 200, 4096, 1 << 20} {
		inBubble(t, func(t *testing.T) {
			d := client(t, Config{}, peer.Options{Settings: []http2.Setting{setting(http2.SettingHeaderTableSize, size)}})
			for id := uint32(1); id < 10; id += 2 {
				d.open(nil, true)
				d.p.WantHeaders(id, ":path", "/a", ":authority", "x")
			}
		})
	}
}

func TestPing(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		d := client(t, Config{}, peer.Options{NoPingAck: true})
		d.p.SendPing(false, [8]byte{1, 2, 3})
		if f := d.p.WantPing(true); !bytes.Equal(f.Data, []byte{1, 2, 3, 0, 0, 0, 0, 0}) {
			t.Errorf("answered with %x", f.Data)
		}
		acks := 0
		var sent [][]byte
		for range maxPings {
			if !d.c.Ping(func() { acks++ }) {
				t.Fatal("Ping refused")
			}
			sent = append(sent, d.p.WantPing(false).Data)
		}
		if d.c.Ping(func() {}) {
			t.Error("a seventeenth PING was sent")
		}
		d.p.SendPing(true, [8]byte{0xff}) // answers nothing
		before := d.c.Activity()
		for _, p := range sent {
			d.p.SendPing(true, [8]byte(p))
			d.p.SendPing(true, [8]byte(p)) // twice
		}
		if synctest.Wait(); acks != maxPings || d.c.Activity() == before {
			t.Errorf("%d answers, activity %d then %d", acks, before, d.c.Activity())
		}
		if !d.c.Ping(nil) {
			t.Error("Ping refused after all were answered")
		}
		d.p.SendPing(true, [8]byte(d.p.WantPing(false).Data))
		d.c.Abort(errOver)
		if d.end(); d.c.Ping(nil) {
			t.Error("Ping on a dead connection")
		}
	})
}

func TestMaxHeaderListSize(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		limit := peer.Options{Settings: []http2.Setting{setting(http2.SettingMaxHeaderListSize, 300)}}
		big := head(":status", "200", "x", strings.Repeat("y", 300))
		d := client(t, Config{}, limit)
		s := &testStream{}
		s.Attach(s)
		if err := d.c.Open(&s.Stream, Header{Fixed: request, Fields: big.Fields}, nil, true, nil); err != ErrHeaderList || s.Sent() || s.ID() != 0 {
			t.Errorf("Open: %v", err)
		}
		d.open(nil, true)
		d.p.WantHeaders(1)

		d = server(t, Config{MaxHeaderListSize: 1000}, limit)
		d.p.SendRequest(1, true, "/a")
		s = d.last()
		for name, err := range map[string]error{
			"WriteHeader":      s.WriteHeader(big, true),
			"Respond":          s.Respond(big, nil, head("a", "b"), nil),
			"Respond trailers": s.Respond(head(":status", "200"), nil, big, nil),
		} {
			if err != ErrHeaderList {
				t.Errorf("%s: %v", name, err)
			}
		}
		// A list over our own limit is delivered cut off: the floor above answers it.
		d.p.SendRequest(3, true, "/a", "x", strings.Repeat("y", 2000))
		if s = d.last(); !s.tooBig || s.ID() != 3 {
			t.Errorf("TooLarge %v on stream %d", s.tooBig, s.ID())
		}
		d.alive(5)
	})
}

func TestFirstBytesAfterSettingsAreForgotten(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		d := client(t, Config{})
		d.p.Close()
		err := d.end()
		if err.First != nil || !err.Ready || !errors.Is(err, io.EOF) {
			t.Errorf("%+v", err)
		}
	})
}
