// SPDX-License-Identifier: Apache-2.0

package channel

import (
	"context"
	"errors"
	"math"
	"net"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/net/http2"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/keepalive"

	"github.com/faultline-rpc/faultline/event"
	"github.com/faultline-rpc/faultline/fault"
	"github.com/faultline-rpc/faultline/h2"
	"github.com/faultline-rpc/faultline/internal/peer"
	"github.com/faultline-rpc/faultline/internal/simnet"
)

// The arithmetic, by looks at a connection: at (in s), its activity, its
// streams, and what is to be done then.
func TestPulse(t *testing.T) {
	type look struct {
		at       float64
		activity uint64
		streams  int
		do       beat
		wait     float64
	}
	tests := []struct {
		name   string
		always bool
		looks  []look
	}{
		{"ping after the time, dead after the timeout", false, []look{
			{0, 1, 1, rest, 2}, {2, 1, 1, rest, 2}, {15, 1, 1, rest, 1}, {16, 1, 1, ping, 2}, {18, 1, 1, rest, 2}, {20, 1, 1, rest, 1}, {21, 1, 1, dead, 0}}},
		{"every read counts anew", false, []look{
			{0, 1, 1, rest, 2}, {15, 2, 1, rest, 2}, {30, 2, 1, rest, 1}, {31, 2, 1, ping, 2}, {32, 3, 1, rest, 2}, {47, 3, 1, rest, 1}, {48, 3, 1, ping, 2}}},
		{"dormant without a stream", false, []look{
			{0, 1, 0, rest, 2}, {16, 1, 0, rest, 2}, {100, 1, 0, rest, 2}, {102, 1, 1, ping, 2}}},
		{"a ping that is out is waited for without a stream too", false, []look{
			{0, 1, 0, rest, 2}, {16, 1, 1, ping, 2}, {21, 1, 0, dead, 0}}},
		{"permitted without a stream", true, []look{{0, 1, 0, rest, 2}, {16, 1, 0, ping, 2}}},
	}
	for _, tt := range tests {
		p := pulse{every: 16 * time.Second, timeout: 5 * time.Second, always: tt.always}
		begin := time.Unix(1, 0)
		s := func(v float64) time.Duration { return time.Duration(v * float64(time.Second)) }
		for _, l := range tt.looks {
			do, wait := p.step(begin.Add(s(l.at)), l.activity, l.streams)
			if do != l.do || wait != s(l.wait) {
				t.Errorf("%s: at %v s: %v, look again in %v; want %v, %v s", tt.name, l.at, do, wait, l.do, l.wait)
			}
		}
	}
}

func TestKeepaliveDefaults(t *testing.T) {
	for in, want := range map[keepalive.ClientParameters]keepalive.ClientParameters{
		{}:                  {},
		{Timeout: 1}:        {},
		{Time: time.Second}: {Time: 10 * time.Second, Timeout: 20 * time.Second},
		{Time: math.MaxInt64, Timeout: 1, PermitWithoutStream: true}: {Time: math.MaxInt64, Timeout: 1, PermitWithoutStream: true},
	} {
		if got := keepaliveDefaults(in); got != want {
			t.Errorf("%+v: %+v, want %+v", in, got, want)
		}
	}
}

// pipes is a dialer whose peers the test plays.
type pipes struct{ servers chan *simnet.Conn }

func newPipes() *pipes { return &pipes{make(chan *simnet.Conn, 16)} }

func (p *pipes) dial(context.Context, string) (net.Conn, error) {
	client, server := simnet.Pipe(simnet.Options{})
	p.servers <- server
	return client, nil
}

// closedWith keeps why connections ended.
type closedWith struct{ errs chan error }

func (c closedWith) Record(e event.Event) {
	if e, ok := e.(event.ConnClosed); ok {
		c.errs <- e.Err
	}
}

// A connection whose peer falls silent is found out: a ping after the time, the
// end after the timeout, with a fault that says so.
func TestKeepaliveFindsSilence(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		pp, sink := newPipes(), closedWith{make(chan error, 1)}
		c := newChannel(t, "passthrough:///10.0.0.2:443", Config{Dialer: pp.dial, Sink: sink,
			Keepalive: keepalive.ClientParameters{Time: 16 * time.Second, Timeout: 5 * time.Second}})
		c.Connect()
		p := peer.Server(t, <-pp.servers, peer.Options{NoPingAck: true, Timeout: time.Minute, Skip: []http2.FrameType{http2.FrameSettings, http2.FrameWindowUpdate}})
		p.Handshake()
		picked := mustPick(t, c)
		openStream(t, picked)
		p.WantHeaders(1)
		begin := time.Now()
		for range 3 { // answered ones keep it alive
			asked := p.WantPing(false)
			if d := time.Since(begin); d < 16*time.Second || d > 18*time.Second {
				t.Errorf("ping after %v, want 16 s to 18 s", d)
			}
			p.SendPing(true, [8]byte(asked.Data))
			begin = time.Now()
		}
		p.WantPing(false)
		begin = time.Now()
		<-picked.Conn.Done()
		if d := time.Since(begin); d != 5*time.Second {
			t.Errorf("given up after %v, want 5 s", d)
		}
		f, ok := fault.From(<-sink.errs)
		if !ok || f.Entry() != fault.HTTP2Keepalive || f.Processed() != fault.Maybe || f.Side() != fault.Between ||
			f.Evidence().Address != "10.0.0.2:443" || f.Evidence().Waiting != "keepalive ping" {
			t.Errorf("ended with %+v", f)
		}
		var ce *h2.ConnError
		if err := picked.Conn.Err(); !errors.As(error(err), &ce) || ce.Kind != h2.Aborted {
			t.Errorf("connection error %v", err)
		}
		synctest.Wait()
		wantState(t, c, connectivity.Idle)
	})
}

// Without a stream nothing is sent, unless that is permitted.
func TestKeepaliveDormant(t *testing.T) {
	for _, permit := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			pp := newPipes()
			c := newChannel(t, "passthrough:///x", Config{Dialer: pp.dial,
				Keepalive: keepalive.ClientParameters{Time: 16 * time.Second, PermitWithoutStream: permit}})
			c.Connect()
			p := peer.Server(t, <-pp.servers, peer.Options{Timeout: time.Hour, Skip: []http2.FrameType{http2.FrameSettings, http2.FrameWindowUpdate}})
			p.Handshake()
			if permit {
				p.WantPing(false)
				p.WantPing(false)
				return
			}
			for i := range uint32(2) {
				p.WantQuiet(10 * time.Minute)
				begin := time.Now()
				picked := mustPick(t, c)
				st := openStream(t, picked)
				asked := p.WantPing(false) // before HEADERS, "ideally"
				p.WantHeaders(2*i + 1)
				if d := time.Since(begin); d != 0 {
					t.Errorf("the first ping after dormancy comes after %v, want it at once", d)
				}
				p.SendPing(true, [8]byte(asked.Data))
				synctest.Wait()
				mustPick(t, c) // sends no other
				st.Reset(h2.Cancel)
				p.WantRST(2*i+1, http2.ErrCodeCancel)
			}
		})
	}
}

// A server that finds the pings too many makes later connections' time double,
// each time; another GOAWAY does not.
func TestKeepaliveCalm(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		pp, tr := newPipes(), newTranscript()
		c := newChannel(t, "passthrough:///10.0.0.2:443", Config{Dialer: pp.dial, Sink: tr,
			Keepalive: keepalive.ClientParameters{Time: 10 * time.Second}})
		for _, say := range []string{"too_many_pings", "too_many_pings", "other", "silence"} {
			var p *peer.T
			tr.do("connect", func() {
				c.Connect()
				p = peer.Server(t, <-pp.servers, peer.Options{NoPingAck: say == "silence", Timeout: time.Hour, Skip: []http2.FrameType{http2.FrameSettings, http2.FrameWindowUpdate}})
				p.Handshake()
			})
			tr.do("call, headers come after 1 ms, wait for a ping", func() {
				openStream(t, mustPick(t, c))
				p.WantHeaders(1)
				time.Sleep(time.Millisecond)
				p.SendHeaders(1, false, ":status", "200", "content-type", "application/grpc")
				p.WantPing(false)
				tr.note("peer", "PING received")
			})
			if say == "silence" {
				tr.do("silence", func() { time.Sleep(time.Minute) })
				break
			}
			tr.do("GOAWAY ENHANCE_YOUR_CALM "+say, func() {
				p.SendGoAway(1, http2.ErrCodeEnhanceYourCalm, say)
				p.Close()
			})
		}
		tr.check(t, "keepalive")
	})
}

func TestKeepaliveDoublesWithinReason(t *testing.T) {
	c := newChannel(t, "passthrough:///x", Config{Keepalive: keepalive.ClientParameters{Time: math.MaxInt64 - 1}})
	l := &link{sub: &Subchannel{c: c}}
	g := &h2.GoAwayError{Code: h2.EnhanceYourCalm, Debug: "too_many_pings"}
	l.calm(g) // keepalive is not at work
	if got := c.pingEvery.Load(); got != math.MaxInt64-1 {
		t.Errorf("%d ns", got)
	}
	l.keeper.Store(&keeper{l: l, every: math.MaxInt64 - 1})
	l.calm(g)
	if got := c.pingEvery.Load(); got != math.MaxInt64-1 {
		t.Errorf("%d ns", got)
	}
}
