// SPDX-License-Identifier: Apache-2.0

package channel

import (
	"context"
	"errors"
	"io"
	"net"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/faultline-rpc/faultline/fault"
)

// farm is a dialer whose connections end at scripted peers.
type farm struct {
	// serve plays the peer of a connection and closes it.
	serve func(addr string, nc net.Conn)
	// refuse, if set, fails the dial with its error unless nil.
	refuse func(addr string) error

	mu    sync.Mutex
	dials []dialed
}

type dialed struct {
	addr string
	at   time.Time
}

func (f *farm) dial(_ context.Context, addr string) (net.Conn, error) {
	f.mu.Lock()
	f.dials = append(f.dials, dialed{addr, time.Now()})
	f.mu.Unlock()
	if f.refuse != nil {
		if err := f.refuse(addr); err != nil {
			return nil, err
		}
	}
	here, there := net.Pipe()
	go f.serve(addr, there)
	return here, nil
}

func (f *farm) seen() []dialed {
	f.mu.Lock()
	defer f.mu.Unlock()
	return append([]dialed(nil), f.dials...)
}

// goodPeer speaks HTTP/2 until the connection ends.
func goodPeer(_ string, nc net.Conn) { speak(nc, nil) }

// speak is goodPeer, with a hook that gets the framer once SETTINGS are out.
func speak(nc net.Conn, hook func(*http2.Framer)) {
	defer nc.Close()
	var preface [len(http2.ClientPreface)]byte
	if _, err := io.ReadFull(nc, preface[:]); err != nil || string(preface[:]) != http2.ClientPreface {
		return
	}
	fr := http2.NewFramer(nc, nc)
	out := make(chan func(), 16)
	done := make(chan struct{})
	go func() { // writes must not hold up reads
		defer close(done)
		for f := range out {
			f()
		}
	}()
	defer func() { close(out); nc.Close(); <-done }()
	out <- func() { _ = fr.WriteSettings() }
	if hook != nil {
		out <- func() { hook(fr) }
	}
	for {
		f, err := fr.ReadFrame()
		if err != nil {
			return
		}
		switch f := f.(type) {
		case *http2.SettingsFrame:
			if !f.IsAck() {
				out <- func() { _ = fr.WriteSettingsAck() }
			}
		case *http2.PingFrame:
			if data := f.Data; !f.IsAck() {
				out <- func() { _ = fr.WritePing(true, data) }
			}
		}
	}
}

// newChannel makes a plaintext channel that Cleanup closes.
func newChannel(t *testing.T, target string, cfg Config) *Channel {
	t.Helper()
	if cfg.Creds == nil {
		cfg.Creds = insecure.NewCredentials()
	}
	c, err := New(target, cfg)
	if err != nil {
		t.Fatalf("New(%q): %v", target, err)
	}
	t.Cleanup(c.Close)
	return c
}

// expect is what a fault must be.
type expect struct {
	entry *fault.Entry
	side  fault.Side
	rung  *fault.Entry // nil: no rung
}

func wantFault(t *testing.T, err error, want expect) *fault.Fault {
	t.Helper()
	f, ok := fault.From(err)
	if !ok {
		t.Fatalf("got %T %v, want fault %s", err, err, want.entry.ID)
	}
	if f.Entry() != want.entry {
		t.Fatalf("got circumstance %s (%v), want %s", f.ID(), f, want.entry.ID)
	}
	if !slices.Contains(want.entry.Codes, f.Code()) {
		t.Errorf("%s: code %v, want one of %v", f.ID(), f.Code(), want.entry.Codes)
	}
	if f.Layer() != fault.LayerResolve && want.entry != fault.PickDropped && f.Code() != codes.Unavailable {
		t.Errorf("%s: code %v, want Unavailable", f.ID(), f.Code())
	}
	if f.Side() != want.side {
		t.Errorf("%s: side %v, want %v", f.ID(), f.Side(), want.side)
	}
	if f.Processed() != fault.No {
		t.Errorf("%s: processed %v, want no", f.ID(), f.Processed())
	}
	switch {
	case want.rung == nil && len(f.Rungs()) > 0:
		t.Errorf("%s: rungs %v, want none", f.ID(), f.Rungs())
	case want.rung != nil && (len(f.Rungs()) != 1 || f.Rungs()[0].ID != want.rung.ID):
		t.Errorf("%s: rungs %v, want %s", f.ID(), f.Rungs(), want.rung.ID)
	}
	return f
}

// pickFault makes one call that does not wait for ready and returns its error.
func pickFault(t *testing.T, c *Channel) error {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	_, err := c.Pick(ctx, "/test.Service/Method", false)
	if err == nil {
		t.Fatal("Pick found a connection, want an error")
	}
	return err
}

func mustPick(t *testing.T, c *Channel) Picked {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	p, err := c.Pick(ctx, "/test.Service/Method", true)
	if err != nil {
		t.Fatalf("Pick: %v", err)
	}
	return p
}

func wantState(t *testing.T, c *Channel, want connectivity.State) {
	t.Helper()
	if got := c.State(); got != want {
		t.Fatalf("state %v, want %v", got, want)
	}
}

// asError reports whether err's chain holds a T.
func asError[T error](err error) bool {
	var target T
	return errors.As(err, &target)
}

// noLeaks fails the test if goroutines of the engine outlive it. It is for
// tests on real sockets; synctest watches over the others.
func noLeaks(t *testing.T) {
	t.Helper()
	t.Cleanup(func() {
		deadline := time.Now().Add(10 * time.Second)
		for {
			buf := make([]byte, 1<<20)
			var left []string
			for _, g := range strings.Split(string(buf[:runtime.Stack(buf, true)]), "\n\n") {
				if strings.Contains(g, "faultline/channel.(*") || strings.Contains(g, "faultline/h2.(*") {
					left = append(left, g)
				}
			}
			if len(left) == 0 {
				return
			}
			if time.Now().After(deadline) {
				t.Fatalf("goroutines left behind:\n%s", strings.Join(left, "\n\n"))
			}
			runtime.Gosched()
		}
	})
}

// listen serves each connection to a loopback listener with serve.
func listen(t *testing.T, serve func(net.Conn)) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			nc, err := l.Accept()
			if err != nil {
				return
			}
			wg.Go(func() {
				defer nc.Close()
				serve(nc)
			})
		}
	})
	t.Cleanup(func() { l.Close(); wg.Wait() })
	return l.Addr().String()
}
