// SPDX-License-Identifier: Apache-2.0

package server

import (
	"testing"
	"time"

	"google.golang.org/grpc/keepalive"

	"github.com/faultline-rpc/faultline/h2"
)

func TestJitter(t *testing.T) {
	for _, tc := range []struct {
		age  time.Duration
		r    float64
		want time.Duration
	}{
		{100 * time.Second, 0, 90 * time.Second},
		{100 * time.Second, 0.5, 100 * time.Second},
		{100 * time.Second, 0.75, 105 * time.Second},
		{never, 0, never},
		{never, 0.999, never},
	} {
		if got := jittered(tc.age, tc.r); got != tc.want {
			t.Errorf("jittered(%v, %v) = %v, want %v", tc.age, tc.r, got, tc.want)
		}
	}
}

func TestKeepaliveDefaults(t *testing.T) {
	got := keepaliveDefaults(keepalive.ServerParameters{})
	if want := (keepalive.ServerParameters{MaxConnectionIdle: never, MaxConnectionAge: never, MaxConnectionAgeGrace: never, Time: 2 * time.Hour, Timeout: 20 * time.Second}); got != want {
		t.Errorf("defaults: %+v", got)
	}
	given := keepalive.ServerParameters{MaxConnectionIdle: 1, MaxConnectionAge: 2, MaxConnectionAgeGrace: 3, Time: 4, Timeout: 5}
	want := given
	want.Time = time.Second
	if got := keepaliveDefaults(given); got != want {
		t.Errorf("given: %+v", got)
	}
	if got := enforcementDefaults(keepalive.EnforcementPolicy{PermitWithoutStream: true}); got.MinTime != 5*time.Minute || !got.PermitWithoutStream {
		t.Errorf("policy: %+v", got)
	}
}

// glance is a look at a connection: when, in seconds from its birth, what was
// found, and what comes of it.
type glance struct {
	at   float64
	t    h2.Tally
	want verdict
	next float64 // seconds; -1 for never
}

func seconds(s float64) time.Duration { return time.Duration(s * float64(time.Second)) }

func TestLifetime(t *testing.T) {
	ping := keepalive.ServerParameters{Time: 80 * time.Second, Timeout: 5 * time.Second}
	idle := keepalive.ServerParameters{Time: never, MaxConnectionIdle: 16 * time.Second}
	old := keepalive.ServerParameters{Time: never, MaxConnectionAge: 100 * time.Second, MaxConnectionAgeGrace: 7 * time.Second}
	for _, tc := range []struct {
		name string
		p    keepalive.ServerParameters
		list []glance
	}{
		{"ping answered", ping, []glance{
			{10, h2.Tally{Reads: 5}, carryOn, 10}, // read at some time before
			{89.5, h2.Tally{Reads: 5}, carryOn, 0.5},
			{90, h2.Tally{Reads: 5}, sendPing, 5},
			{94.9, h2.Tally{Reads: 6}, carryOn, 10},
			{174.9, h2.Tally{Reads: 6}, sendPing, 5},
		}},
		{"ping not answered", ping, []glance{
			{80, h2.Tally{}, sendPing, 5},
			{84, h2.Tally{}, carryOn, 1},
			{85, h2.Tally{}, giveUp, -1},
			{200, h2.Tally{}, carryOn, -1},
		}},
		{"idle from the start", idle, []glance{
			{2, h2.Tally{}, carryOn, 2},
			{15, h2.Tally{Reads: 1}, carryOn, 1}, // pings and the like are no calls
			{16, h2.Tally{Reads: 1}, retireIdle, -1},
			{17, h2.Tally{Reads: 1}, carryOn, -1},
		}},
		{"a stream between two looks", idle, []glance{
			{15, h2.Tally{LastID: 1}, carryOn, 2},
			{30, h2.Tally{LastID: 1}, carryOn, 1},
			{31, h2.Tally{LastID: 1}, retireIdle, -1},
		}},
		{"a stream that ended between two looks", idle, []glance{
			{15, h2.Tally{LastID: 1, Open: 1}, carryOn, 2},
			{17, h2.Tally{LastID: 1, Open: 1}, carryOn, 2},
			{19, h2.Tally{LastID: 1}, carryOn, 2},
			{34.9, h2.Tally{LastID: 1}, carryOn, 0.1},
			{35, h2.Tally{LastID: 1}, retireIdle, -1},
		}},
		{"old", old, []glance{
			{50, h2.Tally{Open: 1}, carryOn, 60},
			{110, h2.Tally{Open: 1}, retireOld, 7},
			{112, h2.Tally{Open: 1}, carryOn, 5},
			{117, h2.Tally{Open: 1}, cutOff, -1},
			{118, h2.Tally{Open: 1}, carryOn, -1},
		}},
		{"old, no end of the grace", keepalive.ServerParameters{Time: never, MaxConnectionAge: 100 * time.Second}, []glance{
			{110, h2.Tally{}, retireOld, -1},
			{1e6, h2.Tally{}, carryOn, -1},
		}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			birth := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
			l := newLifetime(keepaliveDefaults(tc.p), 1, birth, h2.Tally{}) // ages are 10 % longer
			for _, g := range tc.list {
				v, next := l.look(birth.Add(seconds(g.at)), g.t)
				want := never
				if g.next >= 0 {
					want = seconds(g.next)
				}
				if v != g.want || next != want {
					t.Errorf("at %v s: verdict %d, next look after %v; want %d, %v", g.at, v, next, g.want, want)
				}
			}
		})
	}
}

func TestEnforcer(t *testing.T) {
	type knock struct {
		at   float64
		t    h2.Tally
		over bool
	}
	stream := h2.Tally{Open: 1}
	for _, tc := range []struct {
		name   string
		policy keepalive.EnforcementPolicy
		list   []knock
	}{
		{"slow enough", keepalive.EnforcementPolicy{MinTime: time.Second}, []knock{{0, stream, false}, {1, stream, false}, {2, stream, false}, {3, stream, false}, {4, stream, false}}},
		{"too fast", keepalive.EnforcementPolicy{MinTime: time.Second}, []knock{{0, stream, false}, {0.9, stream, false}, {1.8, stream, false}, {2.7, stream, true}}},
		{"without stream", keepalive.EnforcementPolicy{MinTime: time.Second}, []knock{{0, h2.Tally{}, false}, {7199, h2.Tally{}, false}, {7200, h2.Tally{}, false}, {7201, h2.Tally{}, true}}},
		{"every two hours", keepalive.EnforcementPolicy{MinTime: time.Second}, []knock{{0, h2.Tally{}, false}, {7200, h2.Tally{}, false}, {14400, h2.Tally{}, false}, {21600, h2.Tally{}, false}}},
		{"permitted", keepalive.EnforcementPolicy{MinTime: time.Second, PermitWithoutStream: true}, []knock{{0, h2.Tally{}, false}, {1, h2.Tally{}, false}, {2, h2.Tally{}, false}, {3, h2.Tally{}, false}}},
		{"after DATA", keepalive.EnforcementPolicy{MinTime: time.Second}, []knock{
			{0, stream, false}, {0.1, stream, false}, {0.2, stream, false},
			{0.3, h2.Tally{Open: 1, Sent: 1}, false}, // wipes the slate
			{0.4, h2.Tally{Open: 1, Sent: 1}, false}, {0.5, h2.Tally{Open: 1, Sent: 1}, false}, {0.6, h2.Tally{Open: 1, Sent: 1}, false},
			{0.7, h2.Tally{Open: 1, Sent: 1}, true},
		}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			e := enforcer{policy: enforcementDefaults(tc.policy)}
			birth := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
			for _, k := range tc.list {
				if over := e.ping(birth.Add(seconds(k.at)), k.t); over != k.over {
					t.Errorf("at %v s: %v, want %v", k.at, over, k.over)
				}
			}
		})
	}
}
