// SPDX-License-Identifier: Apache-2.0

package h2

import (
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/net/http2"

	"github.com/faultline-rpc/faultline/internal/peer"
)

func TestTally(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		pinged := 0
		d := server(t, Config{Pinged: func() { pinged++ }}, peer.Options{NoPingAck: true})
		synctest.Wait()
		start := d.c.Tally()
		if start.Sent != 0 || start.Open != 0 || start.LastID != 0 || start.Reads == 0 {
			t.Errorf("at the start: %+v", start)
		}
		for i := range byte(3) {
			d.p.SendPing(false, [8]byte{i})
			d.p.WantPing(true)
		}
		d.c.Ping(func() {})
		d.p.SendPing(true, [8]byte(d.p.WantPing(false).Data))
		d.p.SendRequest(1, true, "/a")
		d.p.SendRequest(3, true, "/a")
		s := d.last()
		synctest.Wait()
		if pinged != 3 {
			t.Errorf("told of %d PINGs, want 3: answers do not count", pinged)
		}
		seen := map[StreamHandler]bool{}
		d.c.EachStream(func(h StreamHandler) { seen[h] = true })
		if len(seen) != 2 || !seen[s] {
			t.Errorf("open streams: %v", seen)
		}
		if got := d.c.Tally(); got.Sent != 0 || got.Open != 2 || got.LastID != 3 || got.Reads != d.c.Activity() || got.Reads <= start.Reads {
			t.Errorf("after two requests: %+v", got)
		}
		if err := s.WriteHeader(head(":status", "200"), false); err != nil {
			t.Fatal(err)
		}
		if err := s.WriteData(make([]byte, 20000), false, nil); err != nil { // two frames of 16384 at most
			t.Fatal(err)
		}
		if got := d.c.Tally(); got.Sent != 3 || got.Open != 2 {
			t.Errorf("after HEADERS and DATA: %+v", got)
		}
		s.Reset(Cancel)
		if got := d.c.Tally(); got.Sent != 3 || got.Open != 1 {
			t.Errorf("after RST_STREAM, which is neither: %+v", got)
		}
	})
}

// A server that closes waits a moment for the client to do the same: what it
// sent last would be lost with the socket.
func TestServerCloseWaitsForTheClient(t *testing.T) {
	for name, leave := range map[string]bool{"client closes": true, "client stays": false} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				d := server(t, Config{})
				d.p.SendRequest(1, true, "/a")
				d.last()
				start := time.Now()
				d.c.Close(EnhanceYourCalm, "too_many_pings")
				wantGoAway(t, d.p, 1, http2.ErrCodeEnhanceYourCalm, "too_many_pings")
				d.p.WantClosed()
				want := closeTimeout
				if leave {
					want = 0
					d.p.Close()
				}
				d.wantEnd(Closed, EnhanceYourCalm)
				if took := d.at.Sub(start); took != want {
					t.Errorf("it took %v, want %v", took, want)
				}
			})
		})
	}
}
