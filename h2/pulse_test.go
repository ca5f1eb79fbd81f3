// SPDX-License-Identifier: Apache-2.0

package h2

import (
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/net/http2"

	"github.com/faultline-rpc/faultline/internal/peer"
)

// Between two probes the peer has sent HEADERS or DATA after it had answered
// the first, so that it cannot count them as abuse.
func TestProbe(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		d := client(t, Config{}, peer.Options{NoPingAck: true})
		openOne(t, d)
		d.p.WantHeaders(1)
		probe := func(want bool) {
			t.Helper()
			synctest.Wait()
			if got := d.c.Probe(); got != want {
				t.Errorf("Probe() = %v, want %v", got, want)
			}
		}
		probe(true)
		asked := d.p.WantPing(false)
		probe(false) // it is not answered
		d.p.SendHeaders(1, false, ":status", "200")
		probe(false) // this may have been sent before the PING was seen
		d.p.SendPing(true, [8]byte(asked.Data))
		probe(false)
		d.p.SendData(1, []byte("x"), false)
		probe(true)
		asked = d.p.WantPing(false)
		d.p.SendPing(true, [8]byte(asked.Data))
		d.p.SendWindowUpdate(0, 1)
		probe(false) // neither HEADERS nor DATA
		synctest.Wait()
		if !d.c.Ping(nil) { // keepalive asks nobody, and counts
			t.Error("Ping refused")
		}
		asked = d.p.WantPing(false)
		d.p.SendPing(true, [8]byte(asked.Data))
		d.p.SendHeaders(1, true, "grpc-status", "0")
		d.p.WantRST(1, http2.ErrCodeNo)
		probe(true)
		d.p.WantPing(false)
	})
}

// Moments are those of the reads and PINGs, and waits are added up.
func TestPulse(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		d := client(t, Config{}, peer.Options{NoPingAck: true, NoCredit: true})
		synctest.Wait()
		if p := d.c.Pulse(); p.Heard.IsZero() || !p.Pinged.IsZero() || !p.Answered.IsZero() {
			t.Errorf("at first %+v", p)
		}
		begin := time.Now()
		at := func(ts time.Time) time.Duration { return ts.Sub(begin) }
		<-time.After(time.Second)
		d.c.Probe()
		asked := d.p.WantPing(false)
		<-time.After(time.Second)
		d.p.SendPing(true, [8]byte(asked.Data))
		synctest.Wait()
		<-time.After(time.Second)
		if p := d.c.Pulse(); at(p.Heard) != 2*time.Second || at(p.Pinged) != time.Second || at(p.Answered) != 2*time.Second {
			t.Errorf("then heard %v, pinged %v, answered %v", at(p.Heard), at(p.Pinged), at(p.Answered))
		}
		s := openOne(t, d)
		go func() { _ = s.WriteData(make([]byte, initialWindow+1), true, nil) }()
		synctest.Wait()
		<-time.After(time.Second)
		if b := s.Blocked(d.c); b != (Blocked{Window: time.Second, Now: true}) {
			t.Errorf("while it waits: %+v", b)
		}
		d.p.SendWindowUpdate(0, 100)
		d.p.SendWindowUpdate(1, 100)
		synctest.Wait()
		<-time.After(time.Second)
		if b := s.Blocked(d.c); b != (Blocked{Window: time.Second}) {
			t.Errorf("after it waited: %+v", b)
		}
		s.Reset(Cancel)
	})
}

// A sum of waits holds while one is under way, on connections of any age.
func TestSpanWraps(t *testing.T) {
	for _, age := range []time.Duration{0, time.Hour, 11 * time.Hour, 12 * time.Hour, 1000 * time.Hour} {
		var w span
		w -= toSpan(age)
		w += toSpan(age + 3*time.Second)
		w -= toSpan(age + time.Minute)
		if got := (w + toSpan(age+2*time.Minute)).duration(); got != time.Minute+3*time.Second {
			t.Errorf("at the age of %v: %v", age, got)
		}
	}
}

// openOne opens a stream whose request goes on.
func openOne(t *testing.T, d *dialogue) *testStream {
	t.Helper()
	s := &testStream{}
	s.Attach(s)
	if err := d.c.Open(&s.Stream, Header{Fixed: request}, nil, false, nil); err != nil {
		t.Fatal(err)
	}
	return s
}
