// SPDX-License-Identifier: Apache-2.0

package h2

import (
	"testing"

	"github.com/faultline-rpc/faultline/h2/hpack"
)

var (
	okHead  = hpack.NewTemplate(hpack.Field{Name: ":status", Value: "200"}, hpack.Field{Name: "content-type", Value: "application/grpc"})
	okTrail = hpack.NewTemplate(hpack.Field{Name: "grpc-status", Value: "0"})
)

// quickServer answers on the reader and uses the storage of its streams again.
type quickServer struct {
	echo
	free []*quickStream
}

type quickStream struct {
	Stream
	srv  *quickServer
	body [64]byte
	n    int
}

func (q *quickServer) NewStream(*Block) *Stream {
	var s *quickStream
	if n := len(q.free); n > 0 {
		s, q.free = q.free[n-1], q.free[:n-1]
	} else {
		s = &quickStream{srv: q}
	}
	s.n = 0
	s.Attach(s)
	return &s.Stream
}

func (s *quickStream) OnHeaders(*Block, bool) {}
func (s *quickStream) OnClose(error)          {}
func (s *quickStream) OnData(p []byte, _ *ReadBuf, end bool) {
	s.n += copy(s.body[s.n:], p)
	s.Consumed(len(p))
	if !end {
		return
	}
	if err := s.Respond(Header{Fixed: okHead}, s.body[:s.n], Header{Fixed: okTrail}, nil); err == nil {
		s.srv.free = append(s.srv.free, s) // used after this callback only: both run on the reader
	}
}

// quickCall is a client's stream that is used again and again.
type quickCall struct {
	Stream
	n    int
	err  error
	over chan struct{}
}

func (s *quickCall) OnHeaders(_ *Block, end bool) {
	if end {
		s.over <- struct{}{}
	}
}
func (s *quickCall) OnData(p []byte, _ *ReadBuf, _ bool) { s.n += len(p); s.Consumed(len(p)) }
func (s *quickCall) OnClose(err error)                   { s.err = err; s.over <- struct{}{} }

// quickPair is a steady connection over TCP and a way to call.
func quickPair(tb testing.TB) (call func()) {
	cn, sn := tcpPair(tb)
	q := &quickServer{echo: echo{closed: make(chan *ConnError, 1)}}
	ce := clientEnd{make(chan *ConnError, 1)}
	s := NewServer(sn, Config{}, q)
	c := NewClient(cn, Config{}, ce)
	go s.Run()
	go c.Run()
	tb.Cleanup(func() {
		c.Close(NoError, "")
		<-ce.closed
		<-q.closed
	})
	st := &quickCall{over: make(chan struct{}, 1)}
	payload := make([]byte, 32)
	return func() {
		st.Attach(st)
		st.n = 0
		if err := c.Open(&st.Stream, Header{Fixed: request}, payload, true, nil); err != nil {
			tb.Fatal(err)
		}
		<-st.over
		if st.err != nil || st.n != len(payload) {
			tb.Fatalf("%d bytes, %v", st.n, st.err)
		}
	}
}

// Both ends together spend nothing per call once the connection is steady.
func TestAllocsPerCall(t *testing.T) {
	call := quickPair(t)
	for range 200 {
		call()
	}
	if n := testing.AllocsPerRun(500, call); n > 0 {
		t.Errorf("%v allocations per call on both ends", n)
	}
}

func BenchmarkCall(b *testing.B) {
	call := quickPair(b)
	b.ReportAllocs()
	for b.Loop() {
		call()
	}
}

func BenchmarkBulk(b *testing.B) {
	cn, sn := tcpPair(b)
	ce := clientEnd{make(chan *ConnError, 1)}
	s, c := NewServer(sn, Config{}, &target{}), NewClient(cn, Config{}, ce)
	go s.Run()
	go c.Run()
	st := &quickCall{over: make(chan struct{}, 1)}
	st.Attach(st)
	if err := c.Open(&st.Stream, Header{Fixed: request}, nil, false, nil); err != nil {
		b.Fatal(err)
	}
	p := make([]byte, 64<<10)
	b.SetBytes(int64(len(p)))
	for b.Loop() {
		if err := st.WriteData(p, false, nil); err != nil {
			b.Fatal(err)
		}
	}
	c.Abort(errOver)
	<-ce.closed
	<-s.Done()
}
