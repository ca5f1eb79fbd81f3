// SPDX-License-Identifier: Apache-2.0

package channel

import (
	"context"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/resolver"

	"github.com/faultline-rpc/faultline/h2"
	"github.com/faultline-rpc/faultline/h2/hpack"
)

// noReply is a stream's handler that does nothing.
type noReply struct{}

func (noReply) OnHeaders(*h2.Block, bool)        {}
func (noReply) OnData([]byte, *h2.ReadBuf, bool) {}
func (noReply) OnClose(error)                    {}

// openStream opens a stream that nobody answers.
func openStream(t *testing.T, p Picked) *h2.Stream {
	t.Helper()
	s, err := tryStream(p)
	if err != nil {
		t.Fatalf("Open: %v", err)
	}
	return s
}

var requestHead = hpack.NewTemplate(hpack.Field{Name: ":method", Value: "POST"}, hpack.Field{Name: ":scheme", Value: "http"},
	hpack.Field{Name: ":path", Value: "/s/M"}, hpack.Field{Name: ":authority", Value: "x"})

func tryStream(p Picked) (*h2.Stream, error) {
	s := &h2.Stream{}
	s.Attach(noReply{})
	return s, p.Conn.Open(s, h2.Header{Fixed: requestHead}, nil, false, nil)
}

// A channel without calls goes idle, with its resolver, policy and
// connections; the next call brings all back.
func TestIdleTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, f := &hand{}, &farm{serve: goodPeer}
		tr := newTranscript()
		c := newChannel(t, "hand:///x", Config{Dialer: f.dial, Sink: tr, IdleTimeout: 8 * time.Minute, Resolvers: []resolver.Builder{h.builder()}})
		state := func() { tr.note("channel", c.State().String()) }
		call := func() {
			done := make(chan Picked)
			go func() { done <- mustPick(t, c) }()
			synctest.Wait()
			if err := h.cc.UpdateState(h.addrs("a")); err != nil {
				t.Error(err)
			}
			<-done
		}
		tr.do("call", func() { call(); state() })
		tr.do("call every 5 min 1 s for half an hour", func() {
			for range 6 {
				time.Sleep(5*time.Minute + time.Second)
				mustPick(t, c)
			}
			state()
		})
		tr.do("no call for 10 min", func() { time.Sleep(10 * time.Minute); synctest.Wait(); state() })
		tr.do("call", func() { call(); state() })
		tr.check(t, "idle")
		if n := len(f.seen()); n != 2 {
			t.Errorf("%d dials", n)
		}
	})
}

// A stream that is open, and a call that waits, keep the channel awake.
func TestIdleTimeoutSparesCalls(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, f := &hand{}, &farm{serve: goodPeer}
		c := newChannel(t, "hand:///x", Config{Dialer: f.dial, IdleTimeout: time.Minute, Resolvers: []resolver.Builder{h.builder()}})
		got := make(chan Picked)
		go func() {
			p, err := c.Pick(t.Context(), "/s/M", true)
			if err != nil {
				t.Error(err)
			}
			got <- p
		}()
		time.Sleep(time.Hour)
		synctest.Wait()
		wantState(t, c, connectivity.Connecting)
		if err := h.cc.UpdateState(h.addrs("a")); err != nil {
			t.Fatal(err)
		}
		s := openStream(t, <-got)
		time.Sleep(time.Hour + time.Second)
		synctest.Wait()
		wantState(t, c, connectivity.Ready)
		s.Reset(h2.Cancel)
		time.Sleep(time.Minute - 9*time.Second)
		synctest.Wait()
		wantState(t, c, connectivity.Ready)
		time.Sleep(15 * time.Second)
		synctest.Wait()
		wantState(t, c, connectivity.Idle)
		if len(c.subs) != 0 || len(c.links) != 0 {
			t.Errorf("%d subchannels, %d connections are left", len(c.subs), len(c.links))
		}
		c.Connect()
		synctest.Wait()
		wantState(t, c, connectivity.Connecting)
	})
}

func TestIdleTimeoutOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &farm{serve: goodPeer}
		c := newChannel(t, "passthrough:///x", Config{Dialer: f.dial, IdleTimeout: -1})
		mustPick(t, c)
		time.Sleep(100 * time.Hour)
		wantState(t, c, connectivity.Ready)
	})
}

// Streams of the engine's own do not keep the channel awake.
func TestIdleTimeoutIgnoresBackground(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &farm{serve: goodPeer}
		c := newChannel(t, "passthrough:///x", Config{Dialer: f.dial, IdleTimeout: time.Nanosecond})
		if c.cfg.IdleTimeout != minIdleTimeout {
			t.Errorf("idle time-out %v", c.cfg.IdleTimeout)
		}
		p := mustPick(t, c)
		end := p.Sub.Background()
		s := openStream(t, p)
		time.Sleep(time.Second)
		synctest.Wait()
		wantState(t, c, connectivity.Idle)
		select {
		case <-p.Conn.Done():
			t.Error("the stream's connection was not left to end by itself")
		default:
		}
		s.Reset(h2.Cancel)
		end()
		end()
		<-p.Conn.Done()
		if n := c.background.Load(); n != 0 {
			t.Errorf("%d streams in the background", n)
		}
	})
}

// Calls at the very moments at which the channel goes to sleep find a
// connection.
func TestIdleTimeoutAgainstCalls(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &farm{serve: goodPeer}
		c := newChannel(t, "passthrough:///x", Config{Dialer: f.dial, IdleTimeout: 80 * time.Millisecond})
		var wg sync.WaitGroup
		for range 3 {
			wg.Go(func() {
				for range 100 {
					ctx, cancel := context.WithTimeout(t.Context(), time.Second)
					if _, err := c.Pick(ctx, "/s/M", false); err != nil {
						t.Errorf("Pick: %v", err)
					}
					cancel()
					time.Sleep(time.Duration(rand.IntN(20)) * 10 * time.Millisecond)
				}
			})
		}
		wg.Wait()
		if n := len(f.seen()); n < 5 {
			t.Errorf("%d dials: the channel never slept", n)
		}
	})
}

// slowResolver is a resolver that takes its time to close, and may speak meanwhile.
type slowResolver struct {
	hand
	closing, close chan struct{}
}

func (s *slowResolver) Close() {
	close(s.closing)
	<-s.close
}

// Close waits for a session that is about to end because of IDLE, and what its
// resolver still says counts no more.
func TestCloseWaitsForSleep(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, f := &slowResolver{closing: make(chan struct{}), close: make(chan struct{})}, &farm{serve: goodPeer}
		b := stubBuilder{"hand", func(_ resolver.Target, cc resolver.ClientConn) (resolver.Resolver, error) {
			s.cc = cc
			return s, nil
		}}
		c := newChannel(t, "hand:///x", Config{Dialer: f.dial, IdleTimeout: time.Minute, Resolvers: []resolver.Builder{b}})
		c.Connect()
		live := c.live
		<-s.closing
		wantState(t, c, connectivity.Idle)
		if c.configure(live, nil); c.config.Load() != nil {
			t.Error("a session that is over has configured the channel")
		}
		closed := false
		go func() { c.Close(); closed = true }()
		synctest.Wait()
		wantState(t, c, connectivity.Shutdown)
		if closed {
			t.Error("Close has returned before the resolver")
		}
		close(s.close)
		synctest.Wait()
		if !closed {
			t.Error("Close has not returned after the resolver")
		}
	})
}

// A call that begins to wait for the service config in the moment in which the
// channel goes idle begins another session.
func TestIdleAsCallBegins(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, f := &hand{}, &farm{serve: goodPeer}
		c := newChannel(t, "hand:///x", Config{Dialer: f.dial, Resolvers: []resolver.Builder{h.builder()}})
		known := make(chan error)
		go func() { known <- c.WaitForConfig(t.Context()) }()
		synctest.Wait()
		c.mu.Lock() // lookForCalls spares calls that it sees: this one it did not
		old := c.live
		c.sleepLocked()
		c.mu.Unlock()
		old.close()
		synctest.Wait()
		wantState(t, c, connectivity.Connecting)
		if err := h.cc.UpdateState(h.addrs("a")); err != nil {
			t.Fatal(err)
		}
		if err := <-known; err != nil {
			t.Error(err)
		}
	})
}
