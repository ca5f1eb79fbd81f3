// SPDX-License-Identifier: Apache-2.0

package h2

import (
	"errors"
	"math/rand/v2"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/net/http2"

	"github.com/faultline-rpc/faultline/event"
	"github.com/faultline-rpc/faultline/internal/simnet"
)

// The table finds what a map finds, whatever lives long in it.
func TestTable(t *testing.T) {
	for seed := range uint64(20) {
		r := rand.New(rand.NewPCG(seed, 0))
		var tab table
		model := map[uint32]*Stream{}
		live := []uint32{}
		id := uint32(1)
		for range 20_000 {
			switch r.IntN(3) {
			case 0:
				s := &Stream{id: id}
				tab.put(s)
				model[id] = s
				live = append(live, id)
				id += 2 + 2*uint32(r.IntN(2)*r.IntN(1000))
			case 1:
				if len(live) == 0 {
					continue
				}
				i := r.IntN(len(live))
				if i%10 == 0 && seed%2 == 0 { // some live long
					continue
				}
				s := model[live[i]]
				if !tab.del(s) || tab.del(s) {
					t.Fatalf("seed %d: stream %d was not deleted once", seed, live[i])
				}
				delete(model, live[i])
				live = slices.Delete(live, i, i+1)
			case 2:
				k := uint32(r.IntN(int(id)+100)) | 1
				if tab.get(k) != model[k] {
					t.Fatalf("seed %d: stream %d not found", seed, k)
				}
			}
			if tab.n != len(model) {
				t.Fatalf("seed %d: %d streams, want %d", seed, tab.n, len(model))
			}
		}
		tab.each(func(s *Stream) {
			if model[s.id] != s {
				t.Fatalf("seed %d: stream %d was passed twice or never lived", seed, s.id)
			}
			delete(model, s.id)
		})
		if len(model) != 0 || len(*tab.ring.Load()) > maxSlots {
			t.Fatalf("seed %d: %d streams were left out, %d slots", seed, len(model), len(*tab.ring.Load()))
		}
	}
}

func TestResetRing(t *testing.T) {
	var r resetRing
	for id := uint32(1); id <= 401; id += 4 {
		r.add(id)
	}
	if !r.has(1) || !r.has(401) || r.has(3) || r.has(403) {
		t.Error("within its size it is exact")
	}
	for id := uint32(405); id <= 801; id += 4 {
		r.add(id)
	}
	if !r.has(3) || !r.has(801) || r.has(799) || r.has(803) {
		t.Error("beyond its size older ids get the benefit of the doubt, newer ones do not")
	}
}

func TestBucket(t *testing.T) {
	var b bucket
	now := time.Unix(0, 0)
	for range bucketBurst {
		if !b.take(1, now) {
			t.Fatal("empty before its time")
		}
	}
	if b.take(1, now) {
		t.Error("it never empties")
	}
	if now = now.Add(time.Second); !b.take(bucketRate-2, now) || b.take(2, now) {
		t.Error("wrong rate")
	}
	if now = now.Add(time.Hour); b.take(bucketBurst+1, now) {
		t.Error("it holds more than its burst")
	}
}

func TestStates(t *testing.T) {
	type do func(*state)
	for _, tt := range []struct {
		steps   []do
		want    state
		send    bool
		receive bool
	}{
		{nil, idle, false, false},
		{[]do{(*state).start}, open, true, true},
		{[]do{(*state).start, (*state).sentEnd}, halfClosedLocal, false, true},
		{[]do{(*state).start, (*state).receivedEnd}, halfClosedRemote, true, false},
		{[]do{(*state).start, (*state).receivedEnd, (*state).sentEnd}, closed, false, false},
		{[]do{(*state).start, (*state).sentEnd, (*state).receivedEnd}, closed, false, false},
		{[]do{(*state).start, (*state).abort, (*state).sentEnd, (*state).receivedEnd}, closed, false, false},
		{[]do{(*state).start, (*state).sentEnd, (*state).sentEnd}, halfClosedLocal, false, true},
	} {
		var s state
		for _, f := range tt.steps {
			f(&s)
		}
		if s != tt.want || s.canSend() != tt.send || s.canReceive() != tt.receive {
			t.Errorf("%v, want %v", s, tt.want)
		}
	}
}

// What a Sink is told, in order.
func TestEvents(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		client, server := &event.Buffer{}, &event.Buffer{}
		cn, sn := simnet.Pipe(simnet.Options{})
		c, s := engines(t, Config{Sink: client, ConnID: 1}, Config{Sink: server, ConnID: 2}, cn, sn)
		if c.c.NetConn() != cn {
			t.Error("NetConn is another one")
		}
		first := c.open(nil, true)
		s.last().Reset(InternalError)
		synctest.Wait()
		c.open(nil, true)
		second := s.last()
		if err := second.WriteHeader(head(":status", "200"), true); err != nil {
			t.Fatal(err)
		}
		third := c.open(nil, false)
		synctest.Wait()
		third.Reset(Cancel)
		_, _, _, err := first.saw()
		wantStreamError(t, err, Peer, InternalError)
		c.c.Close(NoError, "enough")
		c.end()
		s.end()
		names := func(events ...event.Event) (all []string) {
			for _, e := range events {
				all = append(all, e.Name())
			}
			return all
		}
		opened, reset := event.StreamOpened{}, event.StreamReset{}
		want := names(event.ConnOpened{}, opened, reset, opened, opened, reset, event.GoAwaySent{}, event.ConnClosed{})
		if got := client.Names(); !slices.Equal(got, want) {
			t.Errorf("client:\n got %v\nwant %v", got, want)
		}
		want = names(event.ConnOpened{}, opened, reset, opened, opened, reset, event.GoAwayReceived{}, event.ConnClosed{})
		if got := server.Names(); !slices.Equal(got, want) {
			t.Errorf("server:\n got %v\nwant %v", got, want)
		}
		r, ok := server.Events()[2].(event.StreamReset)
		if !ok || r.Stream != 1 || !r.Local || r.Code != "INTERNAL_ERROR" || r.Conn != 2 {
			t.Errorf("%+v", server.Events()[2])
		}
	})
}

// A client that has used up its stream ids retires its connection.
func TestStreamIDsExhausted(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		d := client(t, Config{})
		d.c.mu.Lock()
		d.c.nextID = 1<<31 - 1
		d.c.mu.Unlock()
		s := d.open(nil, true)
		d.p.WantHeaders(1<<31 - 1)
		var g *GoAwayError
		if err := d.c.Open(&(&testStream{}).Stream, Header{Fixed: request}, nil, true, nil); !errors.As(err, &g) || !g.Local {
			t.Errorf("Open: %v", err)
		}
		d.p.SendHeaders(1<<31-1, true, ":status", "200")
		if _, _, ended, err := s.saw(); !ended || err != nil {
			t.Errorf("the last call: %v", err)
		}
		d.p.WantGoAway(http2.ErrCodeNo)
		d.p.Close()
		d.wantEnd(Closed, NoError)
	})
}
