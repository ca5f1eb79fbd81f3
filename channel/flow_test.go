// SPDX-License-Identifier: Apache-2.0

package channel

import (
	"context"
	"errors"
	"net"
	"slices"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/net/http2"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/resolver"
	"google.golang.org/grpc/stats"

	"github.com/faultline-rpc/faultline/event"
	"github.com/faultline-rpc/faultline/fault"
	"github.com/faultline-rpc/faultline/h2"
)

// events keeps what a sink is told.
type events struct {
	mu  sync.Mutex
	all []event.Event
}

func (e *events) Record(ev event.Event) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.all = append(e.all, ev)
}

func (e *events) states() (out []string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, ev := range e.all {
		if s, ok := ev.(event.SubchannelState); ok {
			out = append(out, s.State)
		}
	}
	return out
}

func TestLazyConnectAndClose(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &farm{serve: goodPeer}
		sink := &events{}
		c := newChannel(t, "passthrough:///svc:1", Config{Dialer: f.dial, Sink: sink, ConnID: func() uint64 { return 7 }})
		time.Sleep(time.Hour)
		wantState(t, c, connectivity.Idle)
		if len(f.seen()) != 0 {
			t.Fatal("an idle channel dialed")
		}
		p := mustPick(t, c)
		wantState(t, c, connectivity.Ready)
		if p.Conn == nil || p.Sub == nil || p.Security == nil || p.Peer.Addr == nil || p.Peer.LocalAddr == nil {
			t.Errorf("picked %+v", p)
		}
		if st, last := p.Sub.State(); st != connectivity.Ready || last != nil {
			t.Errorf("subchannel %v %v", st, last)
		}
		if q, ok := p.Sub.Pick(); !ok || q.Conn != p.Conn {
			t.Errorf("the subchannel picks %+v", q)
		}
		c.Close()
		c.Close()
		wantState(t, c, connectivity.Shutdown)
		if _, err := c.Pick(t.Context(), "/m", true); err != ErrClosed {
			t.Errorf("Pick after Close: %v", err)
		}
		<-p.Conn.Done()
		if err := p.Conn.Err(); err.Kind != h2.Closed || err.By != h2.Local {
			t.Errorf("connection ended with %v", err)
		}
		if got := sink.states(); !slices.Equal(got, []string{"CONNECTING", "READY", "SHUTDOWN"}) {
			t.Errorf("states %v", got)
		}
		if r, ok := sink.all[0].(event.Resolved); !ok || !slices.Equal(r.Addresses, []string{"svc:1"}) || r.Target != c.Target() {
			t.Errorf("first event %+v", sink.all[0])
		}
	})
}

// connStats is a stats.Handler that writes down what becomes of connections.
type connStats struct {
	mu  sync.Mutex
	all []string
}

type connKey struct{ of *connStats }

func (s *connStats) say(what string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.all = append(s.all, what)
}

func (s *connStats) TagConn(ctx context.Context, i *stats.ConnTagInfo) context.Context {
	p, _ := peer.FromContext(ctx)
	if p == nil || p.Addr != i.RemoteAddr || p.LocalAddr != i.LocalAddr || i.RemoteAddr == nil {
		s.say("wrong addresses")
	}
	s.say("tag")
	return context.WithValue(ctx, connKey{s}, s)
}

func (s *connStats) HandleConn(ctx context.Context, c stats.ConnStats) {
	if !c.IsClient() || ctx.Value(connKey{s}) != s {
		s.say("not the client's, or without its tag")
	}
	switch c.(type) {
	case *stats.ConnBegin:
		s.say("begin")
	case *stats.ConnEnd:
		s.say("end")
	}
}

func (s *connStats) TagRPC(ctx context.Context, _ *stats.RPCTagInfo) context.Context { return ctx }
func (s *connStats) HandleRPC(context.Context, stats.RPCStats)                       {}

func TestConnStats(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &farm{serve: goodPeer}
		a, b := &connStats{}, &connStats{}
		c := newChannel(t, "passthrough:///svc:1", Config{Dialer: f.dial, StatsHandlers: []stats.Handler{a, b}})
		mustPick(t, c)
		for _, h := range []*connStats{a, b} {
			if want := []string{"tag", "begin"}; !slices.Equal(h.all, want) {
				t.Errorf("%q, want %q", h.all, want)
			}
		}
		c.Close()
		synctest.Wait()
		for _, h := range []*connStats{a, b} {
			if want := []string{"tag", "begin", "end"}; !slices.Equal(h.all, want) {
				t.Errorf("%q, want %q", h.all, want)
			}
		}
	})
}

func TestCloseIdle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newChannel(t, "svc.test:1", Config{})
		c.Close()
		c.Connect()
		wantState(t, c, connectivity.Shutdown)
	})
}

// Close ends calls that wait, whatever for.
func TestCloseWhileWaiting(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newChannel(t, "passthrough:///svc:1", Config{Dialer: func(ctx context.Context, _ string) (net.Conn, error) {
			<-ctx.Done()
			return nil, ctx.Err()
		}})
		got := make(chan error)
		for range 3 {
			go func() { _, err := c.Pick(t.Context(), "/m", true); got <- err }()
		}
		synctest.Wait()
		c.Close()
		for range 3 {
			if err := <-got; err != ErrClosed {
				t.Errorf("waiting Pick: %v", err)
			}
		}
	})
}

func TestConnectAndWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &farm{serve: goodPeer}
		c := newChannel(t, "passthrough:///svc:1", Config{Dialer: f.dial})
		c.Connect()
		for s := c.State(); s != connectivity.Ready; s = c.State() {
			if !c.WaitForStateChange(t.Context(), s) {
				t.Fatal("WaitForStateChange gave up")
			}
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if c.WaitForStateChange(ctx, connectivity.Ready) {
			t.Error("WaitForStateChange saw a change")
		}
	})
}

// Attempts start 1 s, 1.6 s, 2.56 s ... apart, +-20 %, and not more than 120 s; wait-for-ready outlives them all, fail-fast does not.
func TestBackoff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		up := make(chan struct{})
		f := &farm{serve: goodPeer, refuse: func(string) error {
			select {
			case <-up:
				return nil
			default:
				return syscall.ECONNREFUSED
			}
		}}
		c := newChannel(t, "passthrough:///svc:1", Config{Dialer: f.dial})
		got := make(chan error, 1)
		go func() { _, err := c.Pick(t.Context(), "/m", true); got <- err }()
		time.Sleep(20 * time.Minute)
		dials := f.seen()
		for i := 1; i < len(dials); i++ {
			gap := dials[i].at.Sub(dials[i-1].at)
			want := backoffDelay(backoff.DefaultConfig, i-1, 0.5)
			if gap < want*8/10-1 || gap > want*12/10+1 {
				t.Errorf("gap %d is %v, want %v +-20 %%", i, gap, want)
			}
		}
		if n := len(dials); n < 15 || n > 25 {
			t.Errorf("%d attempts in 20 min", n)
		}
		wantState(t, c, connectivity.TransientFailure)
		wantFault(t, pickFault(t, c), expect{fault.DialRefused, fault.Remote, fault.PickNoReady})

		close(up)
		c.ResetConnectBackoff()
		synctest.Wait()
		if err := <-got; err != nil {
			t.Errorf("waiting call: %v", err)
		}
		wantState(t, c, connectivity.Ready)
		mustPick(t, c)
	})
}

func TestBackoffDelay(t *testing.T) {
	c := backoff.Config{BaseDelay: time.Second, Multiplier: 2, Jitter: 0.5, MaxDelay: 5 * time.Second}
	for _, tt := range []struct {
		failures int
		r        float64
		want     time.Duration
	}{{0, 0.5, time.Second}, {0, 0, time.Second / 2}, {1, 0.5, 2 * time.Second}, {1, 0, time.Second}, {2, 0.75, 5 * time.Second}, {3, 0.5, 5 * time.Second}, {10000, 0.5, 5 * time.Second}} {
		if got := backoffDelay(c, tt.failures, tt.r); got != tt.want {
			t.Errorf("backoffDelay(%d, %v) = %v, want %v", tt.failures, tt.r, got, tt.want)
		}
	}
}

// A GOAWAY moves new calls to a new connection; the old one ends by itself.
func TestGoAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		goaway := make(chan struct{})
		first := true
		f := &farm{}
		f.serve = func(_ string, nc net.Conn) {
			hook := func(fr *http2.Framer) {}
			if first {
				first = false
				hook = func(fr *http2.Framer) { <-goaway; _ = fr.WriteGoAway(0, http2.ErrCodeNo, []byte("bye")) }
			}
			speak(nc, hook)
		}
		c := newChannel(t, "passthrough:///svc:1", Config{Dialer: f.dial})
		old := mustPick(t, c)
		close(goaway)
		synctest.Wait()
		wantState(t, c, connectivity.Idle)
		next := mustPick(t, c)
		if next.Conn == old.Conn {
			t.Error("the retired connection was picked")
		}
		<-old.Conn.Done()
		if len(f.seen()) != 2 {
			t.Errorf("%d dials", len(f.seen()))
		}
	})
}

// A connection that breaks leaves the channel idle; the next call connects.
func TestConnectionLost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var ends []net.Conn
		f := &farm{}
		f.serve = func(_ string, nc net.Conn) { ends = append(ends, nc); goodPeer("", nc) }
		sink := &events{}
		c := newChannel(t, "passthrough:///svc:1", Config{Dialer: f.dial, Sink: sink})
		old := mustPick(t, c)
		ends[0].Close()
		synctest.Wait()
		wantState(t, c, connectivity.Idle)
		if next := mustPick(t, c); next.Conn == old.Conn {
			t.Error("the broken connection was picked")
		}
		if got := sink.states(); !slices.Equal(got, []string{"CONNECTING", "READY", "IDLE", "CONNECTING", "READY"}) {
			t.Errorf("states %v", got)
		}
	})
}

// Whoever finds a connection unusable says so, and is not given it again.
func TestPickedLost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &farm{serve: goodPeer}
		c := newChannel(t, "passthrough:///svc:1", Config{Dialer: f.dial})
		p := mustPick(t, c)
		p.Lost()
		p.Lost()
		q := mustPick(t, c)
		if q.Conn == p.Conn {
			t.Error("the lost connection was picked again")
		}
		<-p.Conn.Done()
		p.Lost()
		if r := mustPick(t, c); r.Conn != q.Conn {
			t.Error("a stale Lost took the new connection away")
		}
	})
}

// The last failure stays visible while the next attempt runs: calls that wait
// know it.
func TestInterrupted(t *testing.T) {
	tests := []struct {
		name, phase string
		last        *fault.Entry
		target      string
		dial        func(context.Context, string) (net.Conn, error)
		lookup      func(string) ([]string, error)
	}{
		{name: "resolve", phase: "resolve", target: "svc.test:1"},
		{name: "resolve fails", phase: "resolve", target: "svc.test:1", last: fault.ResolveFailed, lookup: func(string) ([]string, error) { return nil, errCustom }},
		{name: "connect", phase: "connect", target: "passthrough:///x", dial: func(ctx context.Context, _ string) (net.Conn, error) { <-ctx.Done(); return nil, ctx.Err() }},
		{name: "connect fails", phase: "connect-backoff", target: "passthrough:///x", last: fault.DialRefused, dial: func(context.Context, string) (net.Conn, error) { return nil, syscall.ECONNREFUSED }},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				n := &fakeNames{answer: tt.lookup}
				c := newChannel(t, tt.target, Config{Dialer: tt.dial, NoProxy: true, Resolvers: []resolver.Builder{&dnsBuilder{lookup: n.lookup}}})
				why := errors.New("the program's reason")
				ctx, cancel := context.WithTimeoutCause(t.Context(), 10*time.Second, why)
				defer cancel()
				_, err := c.Pick(ctx, "/m", true)
				var pi *PickInterrupted
				if !errors.As(err, &pi) || pi.Phase != tt.phase || pi.Cause != why || !errors.Is(err, why) {
					t.Fatalf("got %T %v, want phase %q", err, err, tt.phase)
				}
				if tt.last == nil && pi.Last != nil || tt.last != nil && (pi.Last == nil || pi.Last.Entry() != tt.last) {
					t.Errorf("last %v", pi.Last)
				}
			})
		})
	}
}

func TestInterruptedSays(t *testing.T) {
	last := fault.DialRefused.New(fault.Args{Side: fault.Remote, Processed: fault.No})
	err := &PickInterrupted{Last: last, Phase: "connect", Cause: context.Canceled}
	if got := err.Error(); got != "context canceled while waiting for a connection (connect): latest failure: "+last.Message() {
		t.Errorf("%q", got)
	}
	if !errors.Is(err, context.Canceled) || !fault.DialRefused.Is(err) {
		t.Error("the chain is cut")
	}
}
