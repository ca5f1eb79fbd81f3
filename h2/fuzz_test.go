// SPDX-License-Identifier: Apache-2.0

package h2

import (
	"errors"
	"io"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/faultline-rpc/faultline/h2/frame"
	"github.com/faultline-rpc/faultline/h2/hpack"
	"github.com/faultline-rpc/faultline/internal/simnet"
)

// FuzzConn lets a peer say anything to a server and to a client that are at
// work: neither panics nor hangs, every call ends, no goroutine is left.
func FuzzConn(f *testing.F) {
	settings := raw(frame.Settings, 0, 0)
	ack := raw(frame.Settings, frame.Ack, 0)
	hello := join([]byte(frame.Preface), settings, ack)
	add := func(server bool, frames ...[]byte) {
		all := join(frames...)
		if server {
			all = join(hello, all)
		} else {
			all = join(settings, ack, all)
		}
		f.Add(server, uint16(0), all)
		f.Add(server, uint16(1), all)
	}
	status := []byte{0x88} // :status 200
	add(true, raw(frame.Headers, endHeaders|endStream, 1, post...))
	add(true, raw(frame.Headers, endHeaders, 1, post...), raw(frame.Data, 0, 1, []byte("hello")...), raw(frame.Data, endStream|frame.Padded, 1, 2, 'x', 0, 0))
	add(true, raw(frame.Headers, 0, 1, post[:1]...), raw(frame.Continuation, endHeaders, 1, post[1:]...), raw(frame.RSTStream, 0, 1, 0, 0, 0, 8))
	add(true, raw(frame.Settings, 0, 0, 0, 4, 0, 0, 0, 3), raw(frame.Headers, endHeaders|endStream, 1, post...), raw(frame.WindowUpdate, 0, 1, 0, 0, 0, 9))
	add(true, raw(frame.Ping, 0, 0, make([]byte, 8)...), raw(frame.GoAway, 0, 0, make([]byte, 8)...), raw(frame.Priority, 0, 1, 0, 0, 0, 1, 0))
	add(false, raw(frame.Headers, endHeaders, 1, status...), raw(frame.Data, endStream, 1, []byte("hello")...))
	add(false, raw(frame.Headers, endHeaders|endStream, 3, status...), raw(frame.RSTStream, 0, 1, 0, 0, 0, 7), raw(frame.GoAway, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0))
	add(false, raw(frame.Settings, 0, 0, 0, 3, 0, 0, 0, 1, 0, 4, 0, 0, 0, 0), raw(frame.WindowUpdate, 0, 0, 0, 0, 0xff, 0xff), raw(frame.PushPromise, endHeaders, 1, 0, 0, 0, 2))
	f.Add(false, uint16(3), []byte("HTTP/1.1 400 Bad Request\r\n\r\n"))
	f.Add(true, uint16(0), []byte(frame.Preface[:10]))
	f.Fuzz(func(t *testing.T, server bool, maxRead uint16, b []byte) {
		if len(b) > 1<<16 {
			return
		}
		synctest.Test(t, func(t *testing.T) { fuzzConn(t, server, int(maxRead), b) })
	})
}

func fuzzConn(t *testing.T, server bool, maxRead int, b []byte) {
	cn, sn := simnet.Pipe(simnet.Options{MaxRead: maxRead})
	d := &dialogue{t: t}
	var wg sync.WaitGroup
	ours, theirs := cn, sn
	if server {
		ours, theirs = sn, cn
		d.c = NewServer(ours, Config{MaxConcurrentStreams: 3}, d)
		d.answering(&wg)
	} else {
		d.c = NewClient(ours, Config{}, d)
	}
	var read sync.WaitGroup
	read.Go(func() { _, _ = io.Copy(io.Discard, theirs) })
	go d.c.Run()
	if !server {
		for _, size := range []int{0, 10, 100_000} {
			wg.Go(func() { fuzzCall(t, d.c, size) })
		}
	}
	synctest.Wait()
	for len(b) > 0 {
		n := min(len(b), 1000)
		if _, err := theirs.Write(b[:n]); err != nil {
			break
		}
		b = b[n:]
		synctest.Wait()
	}
	_ = theirs.CloseWrite()
	if err := d.end(); err.Error() == "" {
		t.Error("the end has no reason")
	}
	wg.Wait()
	theirs.Close()
	read.Wait()
	if d.c.Active() != 0 {
		t.Errorf("%d streams are left", d.c.Active())
	}
}

// fuzzCall holds one call's ending against the rules of StreamHandler.
func fuzzCall(t *testing.T, c *Conn, size int) {
	s := &testStream{}
	s.Attach(s)
	over := make(chan struct{}, 4)
	s.onEnd, s.onClose = func() { over <- struct{}{} }, func() { over <- struct{}{} }
	err := c.Open(&s.Stream, Header{Fixed: request, Fields: []hpack.Field{{Name: "x", Value: "y"}}}, make([]byte, size), true, nil)
	if err != nil && !errors.Is(err, ErrEnded) {
		var g *GoAwayError
		var ce *ConnError
		if !errors.As(err, &g) && !errors.As(err, &ce) {
			t.Errorf("Open: %v", err)
		}
		return
	}
	<-over
	<-c.Done() // nothing more is said
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closes > 1 || s.closes == 0 && !s.ended || len(over) > 1 {
		t.Errorf("ended %v, OnClose %d times: %v", s.ended, s.closes, s.err)
	}
}
