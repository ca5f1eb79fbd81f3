// SPDX-License-Identifier: Apache-2.0

package h2

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"net"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/net/http2"

	"github.com/faultline-rpc/faultline/internal/peer"
	"github.com/faultline-rpc/faultline/internal/simnet"
)

// opening runs Open on a goroutine of its own.
func (d *dialogue) opening(p []byte, done <-chan struct{}) (*testStream, chan error) {
	s := &testStream{}
	s.Attach(s)
	got := make(chan error, 1)
	go func() { got <- d.c.Open(&s.Stream, Header{Fixed: request}, p, true, done) }()
	synctest.Wait()
	return s, got
}

func initial(n uint32) peer.Options {
	return peer.Options{NoCredit: true, Interleave: true, Settings: []http2.Setting{setting(http2.SettingInitialWindowSize, n)}}
}

func TestNegativeWindow(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		d := client(t, Config{}, initial(100))
		_, got := d.opening(bytes.Repeat([]byte{'x'}, 300), nil)
		d.p.WantHeaders(1)
		d.p.WantData(1, 100)
		d.p.SendSettings(setting(http2.SettingInitialWindowSize, 10)) // -90
		d.p.SendWindowUpdate(1, 90)                                   // 0
		d.p.WantQuiet(time.Second)
		d.p.SendWindowUpdate(1, 1)
		d.p.WantData(1, 1)
		d.p.WantQuiet(time.Second)
		d.p.SendSettings(setting(http2.SettingInitialWindowSize, 0), setting(http2.SettingInitialWindowSize, 60)) // +50 in all
		d.p.WantData(1, 50)
		d.p.WantQuiet(time.Second)
		d.p.SendWindowUpdate(1, 1000)
		if b := d.p.WantBody(1); len(b) != 149 {
			t.Errorf("%d bytes at the end", len(b))
		}
		if err := <-got; err != nil {
			t.Error(err)
		}
	})
}

// Streams that wait for the connection's window get it in turn.
func TestConnectionWindowInTurn(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		d := client(t, Config{}, initial(1<<20))
		_, first := d.opening(make([]byte, 65535+1000), nil)
		d.p.WantHeaders(1)
		d.p.WantData(1, 65535)
		_, second := d.opening(make([]byte, 1000), nil)
		_, third := d.opening(make([]byte, 1000), nil)
		d.p.WantHeaders(3)
		d.p.WantHeaders(5)
		d.p.WantQuiet(time.Second)
		for i, id := range []uint32{1, 3, 5} {
			d.p.SendWindowUpdate(0, 1000)
			if b := d.p.WantBody(id); len(b) != 1000 {
				t.Errorf("stream %d: %d bytes", id, len(b))
			}
			if err := <-[]chan error{first, second, third}[i]; err != nil {
				t.Error(err)
			}
			d.p.WantQuiet(time.Second)
		}
	})
}

// Whatever ends a wait for window, the sender hears of it and the turn goes on.
func TestWaitingSenders(t *testing.T) {
	wait := map[string]uint32{"own window": 10, "connection's window": 1 << 20}
	ends := []struct {
		name string
		do   func(d *dialogue, s *testStream, done chan struct{})
		want error
	}{
		{"done", func(_ *dialogue, _ *testStream, done chan struct{}) { close(done) }, ErrDone},
		{"reset by us", func(_ *dialogue, s *testStream, _ chan struct{}) { s.Reset(Cancel) }, ErrEnded},
		{"reset by the peer", func(d *dialogue, _ *testStream, _ chan struct{}) { d.p.SendRST(1, http2.ErrCodeCancel) }, ErrEnded},
		{"GOAWAY", func(d *dialogue, _ *testStream, _ chan struct{}) { d.p.SendGoAway(0, 0, "") }, ErrEnded},
		{"Abort", func(d *dialogue, _ *testStream, _ chan struct{}) { d.c.Abort(errOver) }, ErrEnded},
		{"Close", func(d *dialogue, _ *testStream, _ chan struct{}) { d.c.Close(NoError, "") }, ErrEnded},
		{"connection lost", func(d *dialogue, _ *testStream, _ chan struct{}) { d.p.Cut() }, ErrEnded},
		{"violation", func(d *dialogue, _ *testStream, _ chan struct{}) { d.p.SendWindowUpdate(0, 0) }, ErrEnded},
	}
	for name, window := range wait {
		for _, tt := range ends {
			t.Run(name+" "+tt.name, func(t *testing.T) {
				inBubble(t, func(t *testing.T) {
					d := client(t, Config{}, initial(window))
					done := make(chan struct{})
					s, got := d.opening(make([]byte, 100000), done)
					_, other := d.opening(make([]byte, 100000), nil)
					tt.do(d, s, done)
					if err := <-got; err != tt.want {
						t.Fatalf("Open: %v, want %v", err, tt.want)
					}
					synctest.Wait()
					if d.c.Err() != nil || len(other) > 0 { // the other one has ended as well
						if err := <-other; err != ErrEnded {
							t.Errorf("the other: %v", err)
						}
						return
					}
					s.Reset(Cancel)
					d.p.SendWindowUpdate(0, 1<<20)
					d.p.SendWindowUpdate(3, 1<<20)
					if err := <-other; err != nil {
						t.Errorf("the other: %v", err)
					}
				})
			})
		}
	}
}

func TestReceiveWindows(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		skip := []http2.FrameType{http2.FrameSettings}
		d := asServer(t, Config{StreamWindow: 40000, ConnWindow: 100000}, simnet.Options{}, peer.Options{Skip: skip})
		d.set(func() { d.hold = true })
		d.p.Handshake()
		want := func(stream, n uint32) {
			t.Helper()
			if f := d.p.Want(http2.FrameWindowUpdate); f.Stream != stream || f.Increment != n {
				t.Fatalf("came %v, want %d on stream %d", f, n, stream)
			}
		}
		want(0, 100000-65535)
		d.p.SendRequest(1, false, "/a")
		s := d.last()
		d.p.SendData(1, make([]byte, 16000), false)
		d.p.WantQuiet(time.Second) // less than a quarter of the connection's, nothing consumed
		d.p.SendData(1, make([]byte, 16000), false)
		want(0, 32000) // though nothing is consumed
		s.Consumed(9999)
		d.p.WantQuiet(time.Second)
		s.Consumed(1)
		want(1, 10000)
		s.Consumed(22000)
		want(1, 22000)
		// Padding is consumed at once, and its length field with it.
		d.p.SendFrame(http2.FrameData, 8, 1, append([]byte{255}, make([]byte, 255)...))
		for range 39 {
			d.p.SendFrame(http2.FrameData, 8, 1, append([]byte{255}, make([]byte, 255)...))
		}
		if f := d.p.Want(http2.FrameWindowUpdate); f.Stream != 1 || f.Increment < 10000 || f.Increment%256 != 0 {
			t.Errorf("came %v", f)
		}
		s.Reset(Cancel)
		s.Consumed(40000)
		d.p.WantRST(1, http2.ErrCodeCancel)
		d.p.WantQuiet(time.Second)
	})
}

// engines joins two connections of this package.
func engines(t *testing.T, cc, sc Config, cn, sn net.Conn) (client, server *dialogue) {
	client, server = &dialogue{t: t, begun: make(chan struct{})}, &dialogue{t: t, begun: make(chan struct{})}
	client.c, server.c = NewClient(cn, cc, client), NewServer(sn, sc, server)
	client.run()
	server.run()
	<-client.begun
	<-server.begun
	return client, server
}

// A small call overtakes bulk ones after one turn of each, and bulk ones
// advance alike.
func TestFairness(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		const bulks, size, turn = 6, 1 << 20, 300 << 10
		cn, sn := simnet.Pipe(simnet.Options{Bandwidth: 50 << 20, Latency: time.Millisecond})
		c, s := engines(t, Config{}, Config{}, cn, sn)
		var wg sync.WaitGroup
		for range bulks {
			wg.Go(func() {
				st := &testStream{}
				st.Attach(st)
				if err := c.c.Open(&st.Stream, Header{Fixed: request}, make([]byte, size), true, nil); err != nil {
					t.Error(err)
				}
			})
		}
		received := func() (total, least int) {
			s.mu.Lock()
			defer s.mu.Unlock()
			least = size
			for _, st := range s.streams[:bulks] {
				st.mu.Lock()
				total += len(st.body)
				least = min(least, len(st.body))
				st.mu.Unlock()
			}
			return total, least
		}
		time.Sleep(50 * time.Millisecond)
		before, least := received()
		if before < bulks*turn || least < before/bulks-2*turn {
			t.Errorf("%d bytes in all, %d of the slowest", before, least)
		}
		small := &testStream{}
		small.Attach(small)
		if err := c.c.Open(&small.Stream, Header{Fixed: request}, []byte("small"), true, nil); err != nil {
			t.Fatal(err)
		}
		for {
			time.Sleep(time.Millisecond)
			s.mu.Lock()
			arrived := len(s.streams) > bulks
			s.mu.Unlock()
			if arrived {
				break
			}
		}
		after, _ := received()
		if after-before > (bulks+3)*turn {
			t.Errorf("the small call waited for %d bytes of others", after-before)
		}
		wg.Wait()
		time.Sleep(time.Second) // what is under way arrives
		for _, st := range s.streams {
			if _, body, ended, err := st.saw(); !ended || err != nil || len(body) != size && body != "small" {
				t.Errorf("%d bytes, ended %v, %v", len(body), ended, err)
			}
		}
	})
}

// pattern is n bytes that differ from stream to stream and from place to place.
func pattern(seed uint64, n int) []byte {
	r := rand.New(rand.NewPCG(seed, 1))
	p := make([]byte, n)
	for i := range p {
		p[i] = byte(r.Uint32())
	}
	return p
}

// Many streams at once over random windows, buffers and read sizes: all bytes
// arrive in order, those that are given up disturb nobody, no goroutine is left.
func TestManyStreams(t *testing.T) {
	for seed := range uint64(8) {
		inBubble(t, func(t *testing.T) {
			r := rand.New(rand.NewPCG(seed, 2))
			cn, sn := simnet.Pipe(simnet.Options{Buffer: 2000 + r.IntN(100000), MaxRead: 20 + r.IntN(1<<uint(5+r.IntN(11))), Latency: time.Duration(r.IntN(3)) * time.Millisecond})
			manyStreams(t, seed, cn, sn)
		})
	}
	cn, sn := tcpPair(t) // and in the disorder of real time
	manyStreams(t, 100, cn, sn)
}

func manyStreams(t *testing.T, seed uint64, cn, sn net.Conn) {
	r := rand.New(rand.NewPCG(seed, 0))
	cfg := func() Config {
		return Config{StreamWindow: 500 + r.Uint32N(1<<uint(9+r.IntN(9))), ConnWindow: 65535 + r.Uint32N(1<<18), MaxFrameSize: 16384 + r.Uint32N(1<<17),
			MaxConcurrentStreams: 5 + r.Uint32N(60), HeaderTableSize: 1 + r.Uint32N(8000)}
	}
	c, s := engines(t, cfg(), cfg(), cn, sn)
	var wg, answers sync.WaitGroup
	s.answering(&answers)
	for i := range uint64(60) {
		size, chunk, giveUp := 1+r.IntN(30000), 1+r.IntN(20000), r.IntN(8) == 0
		wg.Go(func() {
			st := &testStream{}
			st.Attach(st)
			over := make(chan struct{})
			st.onEnd, st.onClose = func() { close(over) }, func() { close(over) }
			p := pattern(seed*1000+i, size)
			err := c.c.Open(&st.Stream, Header{Fixed: request, Fields: fields("n", string(rune('a'+i)))}, nil, false, nil)
			for q := p; err == nil && len(q) > 0; {
				n := min(len(q), chunk)
				err = st.WriteData(q[:n], n == len(q), nil)
				q = q[n:]
				if giveUp && len(q) < len(p)/2 {
					st.Reset(Cancel)
					return
				}
			}
			if err != nil {
				t.Errorf("seed %d stream %d: %v", seed, i, err)
				return
			}
			<-over
			st.mu.Lock()
			defer st.mu.Unlock()
			if st.err != nil || !bytes.Equal(st.body, p) {
				t.Errorf("seed %d stream %d: %d of %d bytes came back, %v", seed, i, len(st.body), size, st.err)
			}
		})
	}
	wg.Wait()
	answers.Wait()
	s.c.Drain("done") // ends when no stream is left
	if err := c.end(); err.GoAway == nil || err.Kind != Closed {
		t.Errorf("seed %d: %v", seed, err)
	}
	// The client closes too, and the server may read its FIN first.
	if err := s.end(); err.Kind != Closed && (err.Kind != Lost || err.GoAway == nil) || err.Code != NoError {
		t.Errorf("seed %d: %v", seed, err)
	}
	for _, d := range []*dialogue{c, s} {
		d.c.mu.Lock()
		if d.c.turns.head != nil || d.c.turns.taken || d.c.slots.reserved != 0 || len(d.c.slots.q) != 0 {
			t.Errorf("seed %d: queues are not empty", seed)
		}
		d.c.mu.Unlock()
	}
}

// answering has each request echoed when it is complete.
func (d *dialogue) answering(wg *sync.WaitGroup) {
	d.set(func() {
		d.accept = func() *Stream {
			st := &testStream{}
			st.Attach(st)
			st.onEnd = func() {
				wg.Go(func() {
					err := st.Respond(head(":status", "200"), st.body, head("grpc-status", "0"), nil)
					if err != nil && !errors.Is(err, ErrEnded) {
						d.t.Error(err)
					}
				})
			}
			return &st.Stream
		}
	})
}

// Until a client has acknowledged a smaller INITIAL_WINDOW_SIZE it may use the
// initial one.
func TestSmallWindowBeforeAck(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		d := asServer(t, Config{StreamWindow: 1000}, simnet.Options{}, peer.Options{NoSettingsAck: true})
		d.set(func() { d.hold = true })
		d.p.Handshake()
		d.p.SendRequest(1, false, "/a")
		d.p.SendData(1, make([]byte, 60000), false)
		s := d.last()
		d.p.SendSettingsAck()
		d.p.SendData(1, nil, true) // needs no window
		if _, body, ended, err := s.saw(); len(body) != 60000 || !ended || err != nil {
			t.Errorf("%d bytes, ended %v, %v", len(body), ended, err)
		}
		d.p.SendRequest(3, false, "/a")
		d.p.SendData(3, make([]byte, 1001), false)
		d.p.WantRST(3, http2.ErrCodeFlowControl)
	})
}

// Who was given the turn and has not run yet is not overtaken.
func TestTurnIsNotOvertaken(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		d := client(t, Config{}, initial(1<<20))
		_, first := d.opening(make([]byte, 65535+1000), nil)
		second := d.open(nil, false)
		d.p.WantHeaders(1)
		d.p.WantHeaders(3)
		d.p.WantData(1, 65535)
		got := make(chan error, 1)
		go func() {
			c := d.c
			c.mu.Lock()
			defer c.mu.Unlock()
			c.peer.connWindow.add(1000)
			c.passTurnLocked() // to the first, which cannot run before the lock is free
			got <- c.dataLocked(&second.Stream, make([]byte, 1000), true, nil)
			c.wakeWriterLocked()
		}()
		if b := d.p.WantBody(1); len(b) != 1000 {
			t.Errorf("%d bytes", len(b))
		}
		if err := <-first; err != nil {
			t.Error(err)
		}
		d.p.SendWindowUpdate(0, 1000)
		if b := d.p.WantBody(3); len(b) != 1000 {
			t.Errorf("%d bytes", len(b))
		}
		if err := <-got; err != nil {
			t.Error(err)
		}
	})
}
