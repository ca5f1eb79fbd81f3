// SPDX-License-Identifier: Apache-2.0

package wire

import (
	"bytes"
	"context"
	"io"
	"math/rand/v2"
	"net"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/faultline-rpc/faultline/h2"
	"github.com/faultline-rpc/faultline/internal/peer"
	"github.com/faultline-rpc/faultline/internal/simnet"
)

// both runs a client's and a server's end of one connection over a and b. The
// client knows the server's windows.
func both(t *testing.T, a, b net.Conn, cfg h2.Config, v *service) (client, server *h2.Conn) {
	t.Helper()
	server = serverOn(t, b, cfg, v)
	client, ready := clientReady(t, a, cfg)
	<-ready
	return client, server
}

// size is mostly small, sometimes beyond windows and buffers.
func size(rnd *rand.Rand) int {
	switch rnd.IntN(40) {
	case 0:
		return rnd.IntN(150 << 10)
	case 1, 2, 3:
		return rnd.IntN(8 << 10)
	}
	return rnd.IntN(300)
}

var unaryMethod = NewTemplate(TemplateSpec{Scheme: "http", Authority: "host", Path: "/pkg.S/Unary"})

// Ten thousand calls over one connection and a handful of streams: storage
// that is used again never shows another call's bytes.
func TestReuse(t *testing.T) {
	const workers, calls = 5, 2000
	v := &service{pool: new(sync.Pool), serve: echoUnary(t)}
	a, b := net.Pipe()
	client, _ := both(t, a, b, h2.Config{StreamWindow: 20_000}, v)
	var wg sync.WaitGroup
	for w := range workers {
		wg.Add(1)
		go func() {
			defer wg.Done()
			rnd := rand.New(rand.NewPCG(uint64(w), 1))
			s, req := new(ClientStream), request(true)
			req.Template = unaryMethod
			fresh := 0
			for i := range calls {
				msg := framed(pattern(w*calls+i, size(rnd)))
				done := make(chan struct{})
				if rnd.IntN(20) == 0 {
					go close(done)
				}
				err := s.Start(client, req, msg, true, done)
				var m Message
				if err == nil {
					m, err = s.RecvUnary(done)
				}
				switch {
				case err == ErrDone:
					s.Cancel()
				case err != nil:
					t.Errorf("call %d: %v", i, err)
					return
				case !bytes.Equal(m.Data, msg[5:]):
					t.Errorf("call %d: %.40x of %d bytes, want %.40x of %d", i, m.Data, len(m.Data), msg[5:], len(msg)-5)
					return
				}
				if err == nil && s.Recyclable() {
					s.Renew()
				} else {
					s = new(ClientStream)
					fresh++
				}
				m.Free()
			}
			if fresh > calls/10 {
				t.Errorf("%d of %d streams could not be used again", fresh, calls)
			}
		}()
	}
	wg.Wait()
	if v.reuses < workers*calls/4 && !raceEnabled { // sync.Pool drops at random under the race detector
		t.Errorf("the server used streams again %d times in %d calls", v.reuses, workers*calls)
	}
}

// Cancel at any moment, beside data that arrives and goroutines that wait.
func TestCancelAtAnyMoment(t *testing.T) {
	v := &service{serve: echoStream}
	a, b := net.Pipe()
	client, server := both(t, a, b, h2.Config{StreamWindow: 5000}, v)
	rnd := rand.New(rand.NewPCG(1, 2))
	for i := range 300 {
		s := new(ClientStream)
		if err := s.Start(client, request(i%3 == 0), framed(pattern(i, 100)), false, nil); err != nil {
			t.Fatal(err)
		}
		var wg sync.WaitGroup
		run := func(f func()) {
			wg.Add(1)
			go func() {
				defer wg.Done()
				f()
			}()
		}
		run(func() {
			for s.Send(framed(pattern(i, 700)), false, nil) == nil {
			}
		})
		run(func() {
			if i%3 == 0 {
				if _, err := s.RecvUnary(nil); err == nil {
					t.Error("RecvUnary succeeded")
				}
				return
			}
			for {
				m, err := s.Recv(nil)
				if err == ErrDone {
					return
				}
				if err != nil {
					t.Errorf("Recv: %v", err)
					return
				}
				if n := len(m.Data); n != 100 && n != 700 {
					t.Errorf("a message of %d bytes", n)
				}
				m.Free()
			}
		})
		run(func() { s.Head(nil) })
		run(func() {
			for range rnd.IntN(200) {
				s.Progress()
			}
			s.Cancel()
		})
		wg.Wait()
		if s.Recyclable() {
			t.Fatal("recyclable after Cancel")
		}
	}
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	for server.Active() > 0 && ctx.Err() == nil { // the last RST_STREAM may be under way
		ack := make(chan struct{})
		client.Ping(func() { close(ack) })
		<-ack
	}
	if n := client.Active() + server.Active(); n != 0 {
		t.Errorf("%d streams are left", n)
	}
}

// Messages of any size, frames of any length, consumers that pause: all
// arrives in order, in both directions, through windows of any size.
func TestEverythingArrives(t *testing.T) {
	for seed := range uint64(25) {
		synctest.Test(t, func(t *testing.T) {
			rnd := rand.New(rand.NewPCG(seed, 3))
			pause := func(r *rand.Rand) {
				if r.IntN(10) == 0 {
					time.Sleep(time.Duration(r.IntN(1000)) * time.Millisecond)
				}
			}
			var payloads [][]byte
			for i := range 60 {
				payloads = append(payloads, pattern(i, size(rnd)))
			}
			body := framed(payloads...)
			takers := rand.New(rand.NewPCG(seed, 4))
			v := &service{serve: func(s *ServerStream, gone <-chan struct{}) {
				s.SendHeader("", "", nil)
				for i := 0; ; i++ {
					pause(takers)
					m, err := s.Recv(gone)
					if err == io.EOF {
						if i != len(payloads) {
							t.Errorf("%d messages arrived", i)
						}
						break
					}
					if err != nil || !bytes.Equal(m.Data, payloads[i]) {
						t.Errorf("message %d: %d bytes, want %d, %v", i, len(m.Data), len(payloads[i]), err)
						break
					}
					if err := s.Send(framed(m.Data), gone); err != nil {
						t.Error(err)
					}
					m.Free()
				}
				s.Finish(Status{}, nil)
			}}
			a, b := simnet.Pipe(simnet.Options{Latency: time.Millisecond, MaxRead: 1 + rnd.IntN(40_000)})
			serverOn(t, b, h2.Config{StreamWindow: 1 + uint32(rnd.IntN(100_000))}, v)
			p := peer.Client(t, a, peer.Options{Timeout: time.Hour})
			p.Handshake()
			p.SendRequest(1, false, "/pkg.S/Stream")
			sent := make(chan error, 1)
			go func() {
				senders := rand.New(rand.NewPCG(seed, 5))
				rest := body
				for len(rest) > 0 {
					n := min(len(rest), 1+senders.IntN(1<<senders.IntN(17)))
					pause(senders)
					if err := p.Peer.SendBody(1, rest[:n], n == len(rest)); err != nil {
						sent <- err
						return
					}
					rest = rest[n:]
				}
				sent <- nil
			}()
			p.WantHeaders(1, ":status", "200")
			if got := p.WantBody(1); !bytes.Equal(got, body) {
				t.Errorf("seed %d: %d bytes came back, want %d", seed, len(got), len(body))
			}
			p.WantTrailers(1, "grpc-status", "0")
			p.OK(<-sent)
		})
	}
}

// A client and a server of ours, streaming both ways at once.
func TestBidirectional(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := simnet.Pipe(simnet.Options{})
		conn, _ := both(t, a, b, h2.Config{StreamWindow: 3000}, &service{serve: echoStream})
		var wg sync.WaitGroup
		for w := range 4 {
			wg.Add(1)
			go func() {
				defer wg.Done()
				var s ClientStream
				if err := s.Start(conn, request(false), nil, false, nil); err != nil {
					t.Error(err)
					return
				}
				closed := make(chan struct{})
				go func() {
					defer close(closed)
					rnd := rand.New(rand.NewPCG(uint64(w), 9))
					for i := range 200 {
						if err := s.Send(framed(pattern(i, size(rnd))), false, nil); err != nil {
							t.Error(err)
						}
					}
					s.CloseSend()
				}()
				rnd := rand.New(rand.NewPCG(uint64(w), 9))
				for i := range 200 {
					m, err := s.Recv(nil)
					if want := pattern(i, size(rnd)); err != nil || !bytes.Equal(m.Data, want) {
						t.Errorf("message %d: %d bytes, want %d, %v", i, len(m.Data), len(want), err)
						return
					}
					m.Free()
				}
				if _, err := s.Recv(nil); err != io.EOF {
					t.Errorf("the end: %v", err)
				}
				<-closed
				if !s.Recyclable() {
					t.Error("a stream that ended in order cannot be used again")
				}
			}()
		}
		wg.Wait()
	})
}
