// SPDX-License-Identifier: Apache-2.0

package channel

import (
	"context"
	"io"
	"net"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/net/http2"
	"google.golang.org/grpc/connectivity"

	"github.com/faultline-rpc/faultline/fault"
	"github.com/faultline-rpc/faultline/h2"
)

// ending is a peer that sends SETTINGS and ends the connection, in the way of
// last if it is not nil.
func ending(last func(*http2.Framer)) func(string, net.Conn) {
	return func(_ string, nc net.Conn) {
		defer nc.Close()
		if _, err := io.ReadFull(nc, make([]byte, len(http2.ClientPreface))); err != nil {
			return
		}
		go func() { _, _ = io.Copy(io.Discard, nc) }()
		fr := http2.NewFramer(nc, nil)
		_ = fr.WriteSettings()
		if last != nil {
			last(fr)
		}
	}
}

// Connections that end before a call can be sent count as failed attempts after
// some, with their backoff; one that lives makes up for all.
func TestStillborn(t *testing.T) {
	for _, test := range []struct {
		name  string
		last  func(*http2.Framer)
		entry *fault.Entry
		code  string
	}{
		{"hangs up", nil, fault.HTTP2ConnectionLost, ""},
		{"GOAWAY PROTOCOL_ERROR", func(fr *http2.Framer) { _ = fr.WriteGoAway(0, http2.ErrCodeProtocol, []byte("no preface")) }, fault.HTTP2GoAway, "PROTOCOL_ERROR"},
		{"GOAWAY too_many_pings", func(fr *http2.Framer) { _ = fr.WriteGoAway(0, http2.ErrCodeEnhanceYourCalm, []byte("too_many_pings")) }, fault.HTTP2GoAwayCalm, "ENHANCE_YOUR_CALM"},
		{"GOAWAY NO_ERROR", func(fr *http2.Framer) { _ = fr.WriteGoAway(0, http2.ErrCodeNo, nil) }, fault.HTTP2GoAway, "NO_ERROR"},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := &farm{serve: ending(test.last)}
				c := newChannel(t, "passthrough:///svc:1", Config{Dialer: f.dial})
				begin := time.Now()
				var err error
				for err == nil { // as a call does whose attempt never left
					var p Picked
					if p, err = c.Pick(t.Context(), "/m", false); err == nil {
						<-p.Conn.Done()
						p.Lost()
					}
				}
				got := wantFault(t, err, expect{test.entry, fault.Remote, fault.PickNoReady})
				if got.Processed() != fault.No || got.Evidence().HTTP2Code != test.code || got.Evidence().Address != "svc:1" {
					t.Errorf("%+v", got)
				}
				// The last one may be counted while another is under way already.
				if n := len(f.seen()); n < maxStillborn || n > maxStillborn+1 || time.Since(begin) > time.Second {
					t.Errorf("%d connections in %v, want %d at once", n, time.Since(begin), maxStillborn)
				}
				wantState(t, c, connectivity.TransientFailure)

				f.mu.Lock()
				f.serve = goodPeer
				f.mu.Unlock()
				p, err := c.Pick(t.Context(), "/m", true)
				if err != nil || time.Since(begin) < 700*time.Millisecond {
					t.Fatalf("a call that waits is served after %v: %v", time.Since(begin), err)
				}
				p.Conn.Abort(context.Canceled)
				<-p.Conn.Done()
				synctest.Wait()
				if p.Sub.unlived != (stillborn{}) {
					t.Errorf("a connection lived, and still %+v", p.Sub.unlived)
				}
			})
		})
	}
}

// A connection that retires in order after a while has lived.
func TestRetiredUnused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &farm{serve: ending(func(fr *http2.Framer) {
			time.Sleep(firstBreathInOrder)
			_ = fr.WriteGoAway(0, http2.ErrCodeNo, []byte("max_idle"))
		})}
		c := newChannel(t, "passthrough:///svc:1", Config{Dialer: f.dial})
		for range 3 * maxStillborn {
			<-mustPick(t, c).Conn.Done()
			synctest.Wait()
		}
		if l := (&link{sub: &Subchannel{c: c}}); l.retired(&h2.GoAwayError{Local: true}) != nil {
			t.Error("this side's own retirement is held against the server")
		}
	})
}
