// SPDX-License-Identifier: Apache-2.0

package h2

import (
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/net/http2"

	"github.com/faultline-rpc/faultline/h2/hpack"
	"github.com/faultline-rpc/faultline/internal/peer"
	"github.com/faultline-rpc/faultline/internal/simnet"
)

// dialogue is one connection under test in fake time, whose other end is a
// script. It plays either role and records what its handler hears.
type dialogue struct {
	t *testing.T
	c *Conn
	p *peer.T

	mu      sync.Mutex
	ready   int
	begun   chan struct{} // if made: closed by Ready
	goAways []*GoAwayError
	ended   *ConnError
	closed  chan struct{}
	made    sync.Once
	told    sync.Once
	streams []*testStream
	refuse  bool
	hold    bool           // accepted streams do not consume
	accept  func() *Stream // makes the streams, if set
	bufSize int            // of the reader, after the last batch
	at      time.Time      // when the end was seen
}

func (d *dialogue) Ready() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.ready++; d.begun != nil {
		close(d.begun)
	}
}
func (d *dialogue) NewStream(*Block) *Stream {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.refuse {
		return nil
	}
	if d.accept != nil {
		return d.accept()
	}
	s := &testStream{hold: d.hold}
	s.Attach(s)
	d.streams = append(d.streams, s)
	return &s.Stream
}
func (d *dialogue) BatchEnd() { d.mu.Lock(); defer d.mu.Unlock(); d.bufSize = len(d.c.rd.buf.b) }

// set changes the handler's ways.
func (d *dialogue) set(change func()) { d.mu.Lock(); defer d.mu.Unlock(); change() }

// reading is the size of the read buffer, once everything has settled.
func (d *dialogue) reading() int {
	synctest.Wait()
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.bufSize
}

func (d *dialogue) GoAway(g *GoAwayError) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.goAways = append(d.goAways, g)
}
func (d *dialogue) Closed(err *ConnError) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.ended = err
	d.told.Do(func() { close(d.over()) })
}

// over is closed when Closed has been called.
func (d *dialogue) over() chan struct{} {
	d.made.Do(func() { d.closed = make(chan struct{}) })
	return d.closed
}

// last is the stream accepted last, once everything has settled.
func (d *dialogue) last() *testStream {
	d.t.Helper()
	synctest.Wait()
	d.mu.Lock()
	defer d.mu.Unlock()
	if len(d.streams) == 0 {
		d.t.Fatal("no stream was opened")
	}
	return d.streams[len(d.streams)-1]
}

func (d *dialogue) count() int { d.mu.Lock(); defer d.mu.Unlock(); return len(d.streams) }

// end waits for the end and returns its reason.
func (d *dialogue) end() *ConnError {
	d.t.Helper()
	select {
	case <-d.c.Done():
	case <-time.After(time.Minute):
		d.t.Fatal("the connection goes on")
	}
	d.at = time.Now()
	<-d.over()
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.ended == nil || d.ended != d.c.Err() {
		d.t.Fatalf("Closed said %v, Err says %v", d.ended, d.c.Err())
	}
	return d.ended
}

func (d *dialogue) wantEnd(kind Kind, code Code) *ConnError {
	d.t.Helper()
	err := d.end()
	if err.Kind != kind || err.Code != code {
		d.t.Fatalf("ended by kind %d code %v (%v), want kind %d code %v", err.Kind, err.Code, err, kind, code)
	}
	return err
}

// testStream records what it hears.
type testStream struct {
	Stream
	hold bool

	mu      sync.Mutex
	heads   [][]hpack.Field
	body    []byte
	ended   bool
	err     error
	closes  int
	tooBig  bool
	onClose func()
	onEnd   func()
}

func (s *testStream) OnHeaders(b *Block, end bool) {
	s.mu.Lock()
	s.heads = append(s.heads, append([]hpack.Field(nil), b.Fields...))
	s.tooBig = s.tooBig || b.TooLarge
	s.endLocked(end)
}

func (s *testStream) OnData(p []byte, _ *ReadBuf, end bool) {
	s.mu.Lock()
	s.body = append(s.body, p...)
	if !s.hold {
		s.Consumed(len(p))
	}
	s.endLocked(end)
}

func (s *testStream) endLocked(end bool) {
	s.ended = s.ended || end
	f := s.onEnd
	s.mu.Unlock()
	if end && f != nil {
		f()
	}
}

func (s *testStream) OnClose(err error) {
	s.mu.Lock()
	s.err = err
	s.closes++
	f := s.onClose
	s.mu.Unlock()
	if f != nil {
		f()
	}
}

// saw returns what the stream heard, once everything has settled.
func (s *testStream) saw() (heads int, body string, ended bool, err error) {
	synctest.Wait()
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.heads), string(s.body), s.ended, s.err
}

var errOver = errors.New("the test is over")

// inBubble runs f in fake time; goroutines that are left fail the test.
func inBubble(t *testing.T, f func(*testing.T)) {
	t.Helper()
	synctest.Test(t, f)
}

// asServer makes the connection under test a server, without a handshake.
func asServer(t *testing.T, cfg Config, net simnet.Options, o ...peer.Options) *dialogue {
	d := &dialogue{t: t}
	cn, sn := simnet.Pipe(net)
	d.p = peer.Client(t, cn, o...)
	d.c = NewServer(sn, cfg, d)
	d.run()
	return d
}

func asClient(t *testing.T, cfg Config, net simnet.Options, o ...peer.Options) *dialogue {
	d := &dialogue{t: t}
	cn, sn := simnet.Pipe(net)
	d.p = peer.Server(t, sn, o...)
	d.c = NewClient(cn, cfg, d)
	d.run()
	return d
}

func (d *dialogue) run() {
	go d.c.Run()
	d.t.Cleanup(func() {
		d.c.Abort(errOver)
		<-d.c.Done()
	})
}

// server and client shake hands with a well-behaved peer first.
func server(t *testing.T, cfg Config, o ...peer.Options) *dialogue {
	t.Helper()
	d := asServer(t, cfg, simnet.Options{}, o...)
	d.p.Handshake()
	synctest.Wait()
	return d
}

func client(t *testing.T, cfg Config, o ...peer.Options) *dialogue {
	t.Helper()
	d := asClient(t, cfg, simnet.Options{}, o...)
	d.p.Handshake()
	synctest.Wait()
	return d
}

func fields(nameValues ...string) (fs []hpack.Field) {
	for i := 0; i < len(nameValues); i += 2 {
		fs = append(fs, hpack.Field{Name: nameValues[i], Value: nameValues[i+1]})
	}
	return fs
}

func head(nameValues ...string) Header { return Header{Fields: fields(nameValues...)} }

// open starts a request.
func (d *dialogue) open(p []byte, end bool) *testStream {
	d.t.Helper()
	s := &testStream{}
	s.Attach(s)
	if err := d.c.Open(&s.Stream, Header{Fixed: request}, p, end, nil); err != nil {
		d.t.Fatalf("Open: %v", err)
	}
	return s
}

// alive proves that a server's connection still serves: a request on stream id
// is answered.
func (d *dialogue) alive(id uint32) {
	d.t.Helper()
	d.p.SendRequest(id, true, "/a.B/Alive")
	s := d.last()
	if s.ID() != id {
		d.t.Fatalf("the last stream is %d, want %d", s.ID(), id)
	}
	if err := s.Respond(head(":status", "200"), []byte("alive"), head("grpc-status", "0"), nil); err != nil {
		d.t.Fatalf("Respond: %v", err)
	}
	d.p.WantHeaders(id, ":status", "200")
	if b := d.p.WantBody(id); string(b) != "alive" {
		d.t.Fatalf("body %q", b)
	}
	d.p.WantTrailers(id, "grpc-status", "0")
}

func wantStreamError(t *testing.T, err error, by By, code Code) {
	t.Helper()
	var se *StreamError
	if !errors.As(err, &se) || se.By != by || se.Code != code {
		t.Fatalf("stream ended with %v, want %v by %v", err, code, by)
	}
}

func setting(id http2.SettingID, v uint32) http2.Setting { return http2.Setting{ID: id, Val: v} }
