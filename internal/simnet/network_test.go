// SPDX-License-Identifier: Apache-2.0

package simnet

import (
	"context"
	"errors"
	"io"
	"net"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

func TestDialFailures(t *testing.T) {
	tests := []struct {
		name   string
		addr   string
		health Health
		want   error
		text   string
		after  time.Duration
	}{
		{"nothing listens", "nobody:1", Healthy, syscall.ECONNREFUSED, "dial tcp 10.1.0.2:1: connect: connection refused", 2 * time.Second},
		{"refused", "server:443", Refused, syscall.ECONNREFUSED, "dial tcp 10.1.0.1:443: connect: connection refused", 2 * time.Second},
		{"unreachable", "server:443", Unreachable, syscall.EHOSTUNREACH, "dial tcp 10.1.0.1:443: connect: no route to host", 2 * time.Second},
		{"blackholed", "server:443", Blackholed, context.DeadlineExceeded, "dial tcp 10.1.0.1:443: i/o timeout", time.Minute},
		{"bad address", "server", Healthy, nil, "dial tcp: address server: missing port in address", 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				n := NewNetwork(Options{Latency: time.Second})
				l, err := n.Listen("server:443")
				if err != nil {
					t.Fatal(err)
				}
				defer l.Close()
				if tt.addr != "server" {
					if err := n.SetHealth(tt.addr, tt.health); err != nil {
						t.Fatal(err)
					}
				}
				ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
				defer cancel()
				start := time.Now()
				c, err := n.Dial(ctx, tt.addr)
				if c != nil || err == nil || err.Error() != tt.text {
					t.Fatalf("Dial = %v, %v, want %q", c, err, tt.text)
				}
				if tt.want != nil {
					wantOp(t, err, "dial", tt.want)
				}
				if time.Since(start) != tt.after {
					t.Errorf("failed after %v, want %v", time.Since(start), tt.after)
				}
			})
		})
	}
}

func TestDialCanceled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := NewNetwork(Options{Latency: time.Hour})
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(time.Second, cancel)
		_, err := n.Dial(ctx, "10.9.9.9:80")
		wantOp(t, err, "dial", context.Canceled)
		if want := "dial tcp 10.9.9.9:80: operation was canceled"; err.Error() != want {
			t.Errorf("got %q, want %q", err, want)
		}
	})
}

func TestNetworkConnects(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := NewNetwork(Options{Latency: time.Millisecond})
		l, err := n.Listen("server:443")
		if err != nil {
			t.Fatal(err)
		}
		if _, err := n.Listen("server:443"); !errors.Is(err, syscall.EADDRINUSE) {
			t.Fatalf("a second listener: %v, want EADDRINUSE", err)
		}
		if err := n.SetOptions("server:443", func(dial int) Options {
			if dial == 1 {
				return Options{ToClient: []Fault{CutAfter(2)}}
			}
			return Options{}
		}); err != nil {
			t.Fatal(err)
		}
		go func() {
			for {
				c, err := l.Accept()
				if err != nil {
					return
				}
				io.WriteString(c, "hello")
				c.Close()
			}
		}()
		for i, want := range []string{"he", "hello"} {
			c, err := n.DialContext(t.Context(), "tcp", "server:443")
			if err != nil {
				t.Fatal(err)
			}
			got, _ := io.ReadAll(c)
			if string(got) != want {
				t.Errorf("connection %d: read %q, want %q", i+1, got, want)
			}
			if c.RemoteAddr().String() != "10.1.0.1:443" || c.LocalAddr().String() == c.RemoteAddr().String() {
				t.Errorf("addresses %v -> %v", c.LocalAddr(), c.RemoteAddr())
			}
			c.Close()
		}
		if len(n.Conns("server:443")) != 2 || n.Dials("server:443") != 2 {
			t.Errorf("%d connections of %d dials, want 2 of 2", len(n.Conns("server:443")), n.Dials("server:443"))
		}
		l.Close()
		wantOp(t, l.Close(), "close", net.ErrClosed)
		again, err := n.Listen("server:443")
		if err != nil {
			t.Fatalf("listening again: %v", err)
		}
		again.Close()
	})
}

func TestListenerClose(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := Listen(Options{})
		c, err := l.Dial(t.Context(), "ignored")
		if err != nil {
			t.Fatal(err)
		}
		l.Close()
		_, err = c.Read(make([]byte, 1))
		wantOp(t, err, "read", syscall.ECONNRESET)
		_, err = l.Accept()
		wantOp(t, err, "accept", net.ErrClosed)
		_, err = l.Dial(t.Context(), "ignored")
		wantOp(t, err, "dial", syscall.ECONNREFUSED)
	})
}

func TestBacklogIsBounded(t *testing.T) {
	l := Listen(Options{})
	defer l.Close()
	for range backlog {
		if _, err := l.Dial(t.Context(), ""); err != nil {
			t.Fatal(err)
		}
	}
	_, err := l.Dial(t.Context(), "")
	wantOp(t, err, "dial", syscall.ECONNREFUSED)
}
