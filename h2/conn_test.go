// SPDX-License-Identifier: Apache-2.0

package h2

import (
	"bytes"
	"net"
	"testing"
	"time"

	"github.com/faultline-rpc/faultline/h2/hpack"
)

// echo is a server that answers each request with its own body.
type echo struct {
	c      *Conn
	closed chan *ConnError
}

type echoStream struct {
	Stream
	body []byte
}

func (e *echo) Ready() {}
func (e *echo) NewStream(*Block) *Stream {
	s := &echoStream{}
	s.Attach(s)
	return &s.Stream
}
func (e *echo) BatchEnd()             {}
func (e *echo) GoAway(*GoAwayError)   {}
func (e *echo) Closed(err *ConnError) { e.closed <- err }

func (s *echoStream) OnHeaders(_ *Block, end bool) {
	if end {
		go s.answer()
	}
}
func (s *echoStream) OnData(p []byte, _ *ReadBuf, end bool) {
	s.body = append(s.body, p...)
	s.Consumed(len(p))
	if end {
		go s.answer()
	}
}
func (s *echoStream) OnClose(error) {}
func (s *echoStream) answer() {
	_ = s.Respond(Header{Fields: []hpack.Field{{Name: ":status", Value: "200"}}}, s.body,
		Header{Fields: []hpack.Field{{Name: "grpc-status", Value: "0"}}}, nil)
}

// call is a client's stream that gathers the answer.
type call struct {
	Stream
	headers int
	body    []byte
	err     error
	done    chan struct{}
}

func (s *call) OnHeaders(_ *Block, end bool) {
	s.headers++
	if end {
		close(s.done)
	}
}
func (s *call) OnData(p []byte, _ *ReadBuf, end bool) {
	s.body = append(s.body, p...)
	s.Consumed(len(p))
	if end {
		close(s.done)
	}
}
func (s *call) OnClose(err error) { s.err = err; close(s.done) }

type clientEnd struct{ closed chan *ConnError }

func (clientEnd) Ready()                   {}
func (clientEnd) NewStream(*Block) *Stream { return nil }
func (clientEnd) BatchEnd()                {}
func (clientEnd) GoAway(*GoAwayError)      {}
func (e clientEnd) Closed(err *ConnError)  { e.closed <- err }

func tcpPair(t testing.TB) (client, server net.Conn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	client, err = net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	if server, err = l.Accept(); err != nil {
		t.Fatal(err)
	}
	return client, server
}

func pair(t *testing.T) (*Conn, *Conn, *echo, clientEnd) {
	cn, sn := tcpPair(t)
	e := &echo{closed: make(chan *ConnError, 1)}
	ce := clientEnd{make(chan *ConnError, 1)}
	e.c = NewServer(sn, Config{}, e)
	c := NewClient(cn, Config{}, ce)
	go e.c.Run()
	go c.Run()
	return c, e.c, e, ce
}

var request = hpack.NewTemplate(hpack.Field{Name: ":method", Value: "POST"}, hpack.Field{Name: ":scheme", Value: "http"},
	hpack.Field{Name: ":path", Value: "/a"}, hpack.Field{Name: ":authority", Value: "x"})

func TestEcho(t *testing.T) {
	c, s, e, ce := pair(t)
	for _, size := range []int{0, 1, 100, 16384, 100_000, 1 << 20, 9 << 20} {
		body := bytes.Repeat([]byte{'x'}, size)
		st := &call{done: make(chan struct{})}
		st.Attach(st)
		if err := c.Open(&st.Stream, Header{Fixed: request}, body, true, nil); err != nil {
			t.Fatal(err)
		}
		select {
		case <-st.done:
		case <-time.After(10 * time.Second):
			t.Fatalf("no answer to %d bytes", size)
		}
		if st.err != nil || st.headers != 2 || !bytes.Equal(st.body, body) {
			t.Fatalf("size %d: err %v, %d header sections, %d bytes", size, st.err, st.headers, len(st.body))
		}
	}
	if n := c.Active() + s.Active(); n != 0 {
		t.Errorf("%d streams left", n)
	}
	s.Drain("bye")
	if err := <-e.closed; err.Kind != Closed && err.Kind != Lost {
		t.Errorf("server closed with %v", err)
	}
	if err := <-ce.closed; err.GoAway == nil || err.GoAway.Debug != "bye" {
		t.Errorf("client closed with %v", err)
	}
}
