// SPDX-License-Identifier: Apache-2.0

package h2

import (
	"encoding/binary"
	"io"
	"runtime"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/net/http2"

	"github.com/faultline-rpc/faultline/h2/frame"
	"github.com/faultline-rpc/faultline/internal/simnet"
)

// raw makes one frame.
func raw(typ frame.Type, flags frame.Flags, stream uint32, payload ...byte) []byte {
	return append(frame.AppendHeader(nil, len(payload), typ, flags, stream), payload...)
}

func join(parts ...[]byte) (all []byte) {
	for _, p := range parts {
		all = append(all, p...)
	}
	return all
}

// post is :method POST, :scheme http, :path / as a header block.
var post = []byte{0x83, 0x86, 0x84}

const (
	endStream  = frame.EndStream
	endHeaders = frame.EndHeaders
)

// target is a server that keeps nothing of what it serves.
type target struct {
	dialogue
	answer func(s *targetStream)
	opened int
}

func (g *target) NewStream(*Block) *Stream {
	g.opened++
	s := &targetStream{g: g}
	s.Attach(s)
	return &s.Stream
}

type targetStream struct {
	Stream
	g *target
}

func (s *targetStream) OnHeaders(_ *Block, end bool) {
	if s.g.answer != nil {
		s.g.answer(s)
	}
}
func (s *targetStream) OnData(p []byte, _ *ReadBuf, _ bool) { s.Consumed(len(p)) }
func (s *targetStream) OnClose(error)                       {}

func (d *dialogue) buffered() int {
	d.c.mu.Lock()
	defer d.c.mu.Unlock()
	return cap(d.c.out.b) + cap(d.c.out.spare)
}

func heap() uint64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// ending reports whether the last GOAWAY is out: what still comes is read and
// dropped for a moment.
func (g *target) ending() bool {
	g.c.mu.Lock()
	defer g.c.mu.Unlock()
	return g.c.life.phase >= closing
}

// Floods that a server ends by GOAWAY ENHANCE_YOUR_CALM long before they cost
// much, whether the attacker reads what is answered or not. Time stands still
// here, so that no allowance is regained: each gets its burst and no more.
func TestFloodsAreEnded(t *testing.T) {
	trailersOnly := func(s *targetStream) {
		_ = s.WriteHeader(head(":status", "200", "grpc-status", "12", "grpc-message", "there is no such method in this server"), true)
	}
	window := func(n uint32) []byte { return binary.BigEndian.AppendUint32(nil, n) }
	tests := []struct {
		name   string
		unread bool // the attacker reads nothing
		most   int  // rounds that may pass
		answer func(*targetStream)
		round  func(id uint32) []byte
	}{
		{"rapid reset", false, 45_000, nil, func(id uint32) []byte {
			return join(raw(frame.Headers, endHeaders|endStream, id, post...), raw(frame.RSTStream, 0, id, 0, 0, 0, 8))
		}},
		{"made you reset: zero increment", false, 1100, nil, func(id uint32) []byte {
			return join(raw(frame.Headers, endHeaders|endStream, id, post...), raw(frame.WindowUpdate, 0, id, window(0)...))
		}},
		{"made you reset: window overflow", false, 1100, nil, func(id uint32) []byte {
			return join(raw(frame.Headers, endHeaders|endStream, id, post...), raw(frame.WindowUpdate, 0, id, window(1<<31-1)...))
		}},
		{"made you reset: DATA after END_STREAM", false, 1100, nil, func(id uint32) []byte {
			return join(raw(frame.Headers, endHeaders|endStream, id, post...), raw(frame.Data, 0, id, 'x'))
		}},
		{"made you reset: HEADERS after END_STREAM", false, 1100, nil, func(id uint32) []byte {
			return join(raw(frame.Headers, endHeaders|endStream, id, post...), raw(frame.Headers, endHeaders|endStream, id, post...))
		}},
		{"made you reset: PRIORITY of the wrong length", false, 1100, nil, func(id uint32) []byte {
			return join(raw(frame.Headers, endHeaders|endStream, id, post...), raw(frame.Priority, 0, id, 0))
		}},
		{"made you reset: PRIORITY on itself", false, 1100, nil, func(id uint32) []byte {
			return join(raw(frame.Headers, endHeaders|endStream, id, post...), raw(frame.Priority, 0, id, append(window(id), 0)...))
		}},
		{"malformed requests", false, 1100, nil, func(id uint32) []byte { return raw(frame.Headers, endHeaders|endStream, id, 0x83) }},
		{"refused requests, unread", true, 25_000, nil, func(id uint32) []byte { return raw(frame.Headers, endHeaders, id, post...) }},
		{"PING", false, 10_100, nil, func(uint32) []byte { return raw(frame.Ping, 0, 0, make([]byte, 8)...) }},
		{"PING, unread", true, 20_000, nil, func(uint32) []byte { return raw(frame.Ping, 0, 0, make([]byte, 8)...) }},
		{"PING answers", false, 10_100, nil, func(uint32) []byte { return raw(frame.Ping, frame.Ack, 0, make([]byte, 8)...) }},
		{"SETTINGS", false, 1100, nil, func(uint32) []byte { return raw(frame.Settings, 0, 0) }},
		{"SETTINGS, unread", true, 1100, nil, func(uint32) []byte { return raw(frame.Settings, 0, 0) }},
		{"SETTINGS answers", false, 10_100, nil, func(uint32) []byte { return raw(frame.Settings, frame.Ack, 0) }},
		{"PRIORITY", false, 10_100, nil, func(uint32) []byte { return raw(frame.Priority, 0, 1, 0, 0, 0, 3, 0) }},
		{"GOAWAY", false, 1100, nil, func(uint32) []byte { return raw(frame.GoAway, 0, 0, make([]byte, 8)...) }},
		{"unknown frames", false, 10_100, nil, func(id uint32) []byte { return raw(frame.Type(10+id%6), 0, id) }},
		{"empty CONTINUATION", false, 600, nil, func(id uint32) []byte {
			if id == 1 {
				return raw(frame.Headers, 0, 1, post...)
			}
			return raw(frame.Continuation, 0, 1)
		}},
		{"empty DATA", false, 10_100, nil, func(id uint32) []byte {
			if id == 1 {
				return raw(frame.Headers, endHeaders, 1, post...)
			}
			return raw(frame.Data, 0, 1)
		}},
		{"padding and nothing else", false, 10_100, nil, func(id uint32) []byte {
			if id == 1 {
				return raw(frame.Headers, endHeaders, 1, post...)
			}
			return raw(frame.Data, frame.Padded, 1, 3, 0, 0, 0)
		}},
		{"DATA on closed streams", false, 2100, trailersOnly, func(id uint32) []byte {
			if id%4 == 1 {
				return raw(frame.Headers, endHeaders|endStream, id, post...)
			}
			return raw(frame.Data, 0, id-2, 'x')
		}},
		// The writer may have taken as much as may wait behind it, before it got stuck.
		{"answers without DATA, unread", true, 2*maxBacklog/12 + 25_000, trailersOnly, func(id uint32) []byte {
			return raw(frame.Headers, endHeaders|endStream, id, post...)
		}},
		{"requests after the last GOAWAY", false, 25_000, func(s *targetStream) { s.Conn().Drain("") }, func(id uint32) []byte {
			if id == 1 {
				return join(raw(frame.Headers, endHeaders, id, post...), raw(frame.Ping, frame.Ack, 0, 0, 0, 0, 0, 0, 0, 0, 1))
			}
			return raw(frame.Headers, endHeaders|endStream, id, post...)
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				before := heap()
				cn, sn := simnet.Pipe(simnet.Options{})
				g := &target{dialogue: dialogue{t: t}, answer: tt.answer}
				g.c = NewServer(sn, Config{MaxConcurrentStreams: 5000}, g)
				g.run()
				if !tt.unread {
					go io.Copy(io.Discard, cn)
				}
				_, err := cn.Write(join([]byte(frame.Preface), raw(frame.Settings, 0, 0), raw(frame.Settings, frame.Ack, 0)))
				rounds := 0
				slack := 256 << 10 / len(tt.round(3)) // what lies in buffers counts as sent
				for batch := []byte(nil); err == nil && !g.ending() && rounds <= tt.most+slack; rounds++ {
					if batch = append(batch, tt.round(uint32(2*rounds+1))...); len(batch) > 1<<10 {
						_, err = cn.Write(batch)
						batch = batch[:0]
					}
				}
				g.c.mu.Lock()
				queued := len(g.c.out.b)
				g.c.mu.Unlock()
				if queued > maxBacklog+maxReplies+1000 {
					t.Errorf("%d bytes are queued", queued)
				}
				if after := heap(); after > before+12<<20 {
					t.Errorf("the heap grew by %d bytes", after-before)
				}
				cn.Close()
				if e := g.end(); e.Kind != Violation || e.Code != EnhanceYourCalm {
					t.Errorf("ended by %v", e)
				}
				if rounds > tt.most+slack {
					t.Errorf("%d rounds passed, want %d at most", rounds, tt.most)
				}
			})
		})
	}
}

// What looks like an attack and costs nothing is borne, and another call on the
// same connection goes on meanwhile.
func TestFloodsAreBorne(t *testing.T) {
	tests := []struct {
		name   string
		rounds int
		round  func(i int) []byte
	}{
		{"tiny DATA", 40_000, func(int) []byte { return raw(frame.Data, 0, 1, 'x') }},
		{"window updates", 20_000, func(int) []byte { return raw(frame.WindowUpdate, 0, 1, 0, 0, 0, 1) }},
		{"window updates on a closed stream", 20_000, func(int) []byte { return raw(frame.WindowUpdate, 0, 3, 0, 0, 0, 1) }},
		{"RST_STREAM on a closed stream", 20_000, func(int) []byte { return raw(frame.RSTStream, 0, 3, 0, 0, 0, 8) }},
		{"SETTINGS of 20000 window sizes", 30, func(i int) []byte {
			var p []byte
			for n := range uint32(20_000) {
				p = binary.BigEndian.AppendUint16(p, uint16(frame.SettingInitialWindowSize))
				p = binary.BigEndian.AppendUint32(p, n)
			}
			return raw(frame.Settings, 0, 0, p...)
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				d := server(t, Config{})
				d.p.SendRequest(1, false, "/a")
				good := d.last()
				d.alive(3)
				before := heap()
				var batch []byte
				for i := range tt.rounds {
					if batch = append(batch, tt.round(i)...); len(batch) > 16<<10 {
						if _, err := d.p.Conn().Write(batch); err != nil {
							t.Fatal(err)
						}
						batch = batch[:0]
					}
				}
				if _, err := d.p.Conn().Write(batch); err != nil {
					t.Fatal(err)
				}
				d.alive(7)
				if after := heap(); after > before+4<<20 {
					t.Errorf("the heap grew by %d bytes", after-before)
				}
				if err := good.Respond(head(":status", "200"), []byte("ok"), head("a", "b"), nil); err != nil {
					t.Errorf("the good call: %v", err)
				}
			})
		})
	}
}

// A table entry that is referred to thousands of times makes nothing grow, and
// a string's length on the wire reserves nothing.
func TestHPACKBomb(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		d := server(t, Config{})
		value := make([]byte, 3900)
		for i := range value {
			value[i] = 'v'
		}
		block := append([]byte{}, post...)
		block = append(block, 0x40, 1, 'a', 0x7f) // literal with indexing; the value's length is 127 +
		for n := len(value) - 127; ; n >>= 7 {
			if n < 128 {
				block = append(block, byte(n))
				break
			}
			block = append(block, byte(n&0x7f|0x80))
		}
		d.p.SendBlock(1, true, append(block, value...))
		if s := d.last(); len(s.heads[0]) != 4 {
			t.Fatalf("%d fields", len(s.heads[0]))
		}
		before := heap()
		bomb := append([]byte{}, post...)
		for len(bomb) < 16000 {
			bomb = append(bomb, 0xbe) // the entry: 16000 times 3900 bytes
		}
		for id := uint32(3); id < 103; id += 2 {
			d.p.SendBlock(id, true, bomb)
			s := d.last()
			if s.ID() != id || !s.tooBig || len(s.heads[0]) > 30 {
				t.Fatalf("stream %d: too large %v, %d fields", s.ID(), s.tooBig, len(s.heads[0]))
			}
		}
		if after := heap(); after > before+4<<20 {
			t.Errorf("the heap grew by %d bytes", after-before)
		}
		d.alive(103)
		d.p.SendBlock(105, true, []byte{0x40, 0x7f, 0xff, 0xff, 0xff, 0xff, 0x07})
		d.p.WantGoAway(http2.ErrCodeCompression)
	})
}

// Bytes that come one at a time keep nobody else waiting, and a preface that
// never ends runs into the time limit.
func TestSlowDrip(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		d := asServer(t, Config{SettingsTimeout: 5 * time.Second}, simnet.Options{})
		start := time.Now()
		for i := 0; d.c.Err() == nil; i++ {
			_, _ = d.p.Conn().Write([]byte{frame.Preface[i]})
			time.Sleep(time.Second)
		}
		if err := d.wantEnd(PrefaceTimeout, 0); string(err.First) != frame.Preface[:len(err.First)] || len(err.First) < 4 {
			t.Errorf("%+v", err)
		}
		if took := time.Since(start); took > 6*time.Second {
			t.Errorf("after %v", took)
		}
	})
	inBubble(t, func(t *testing.T) {
		d := server(t, Config{})
		d.p.SendRequest(1, true, "/a")
		good := d.last()
		for _, b := range raw(frame.Headers, endHeaders, 3, post...)[:11] {
			d.p.SendRaw([]byte{b})
			time.Sleep(time.Second)
			if err := good.WriteHeader(head(":status", "200"), false); b == 0 && err != nil {
				t.Fatal(err)
			}
		}
		if n := d.reading(); n != readSizes[0] || d.count() != 1 {
			t.Errorf("a buffer of %d bytes, %d streams", n, d.count())
		}
	})
}

// Windows that are never opened hold the answers up, at a bounded price, until
// their senders give up; others go on.
func TestZeroWindow(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		d := server(t, Config{}, initial(0))
		const n = 200
		done := make(chan struct{})
		errs := make(chan error, n)
		for i := range uint32(n) {
			d.p.SendRequest(2*i+1, true, "/a")
			s := d.last()
			go func() { errs <- s.Respond(head(":status", "200"), make([]byte, 1<<20), head("a", "b"), done) }()
		}
		synctest.Wait()
		if len(errs) != 0 || d.c.Active() != n || d.buffered() > 64<<10 {
			t.Fatalf("%d over, %d active", len(errs), d.c.Active())
		}
		d.p.SendRequest(2*n+1, true, "/good")
		good := d.last()
		if err := good.WriteHeader(head(":status", "200", "good", "yes"), true); err != nil {
			t.Fatal(err)
		}
		for i := range uint32(n) {
			d.p.WantHeaders(2*i + 1)
		}
		d.p.WantTrailers(2*n+1, "good", "yes")
		close(done)
		for range n {
			if err := <-errs; err != ErrDone {
				t.Fatalf("Respond: %v", err)
			}
		}
	})
}

// A window that opens byte by byte makes frames of a byte, no more.
func TestDribblingWindow(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		d := server(t, Config{}, initial(0))
		d.p.SendRequest(1, true, "/a")
		s := d.last()
		got := make(chan error, 1)
		go func() { got <- s.Respond(head(":status", "200"), pattern(1, 300), head("a", "b"), nil) }()
		d.p.WantHeaders(1)
		var body []byte
		for range 300 {
			d.p.SendWindowUpdate(1, 1)
			body = append(body, d.p.WantData(1, 1)...)
		}
		if err := <-got; err != nil || string(body) != string(pattern(1, 300)) {
			t.Errorf("%v", err)
		}
		d.p.WantTrailers(1, "a", "b")
	})
}
