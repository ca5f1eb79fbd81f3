// SPDX-License-Identifier: Apache-2.0

package channel

import (
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/net/http2"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/resolver"

	"github.com/faultline-rpc/faultline/internal/peer"
)

// steady is the default backoff without its jitter.
var steady = func() backoff.Config {
	c := backoff.DefaultConfig
	c.Jitter = 0
	return c
}()

// storm lets 200 clients, in the test's bubble of fake time, lose their
// connections in one moment, and returns the largest number of connection attempts within any 100 ms after it: at once,
// and later.
func storm(t *testing.T, down time.Duration, cfg Config) (atOnce, later int) {
	const clients = 200
	f := newFleet()
	cfg.Dialer = f.dial
	cfg.DefaultServiceConfig = `{"loadBalancingConfig":[{"round_robin":{}}]}`
	var all []*Channel
	for range clients {
		c := newChannel(t, "passthrough:///vip", cfg)
		c.Connect()
		all = append(all, c)
	}
	synctest.Wait()
	if n := len(f.seen()); n != clients {
		t.Fatalf("%d connections, want %d", n, clients)
	}
	time.Sleep(time.Minute)
	begin := time.Now()
	f.kill("vip")
	if down == 0 {
		f.raise("vip") // whether the first are refused is a matter of luck
	} else {
		time.Sleep(down)
		f.raise("vip")
	}
	time.Sleep(time.Minute)
	synctest.Wait()
	for _, c := range all {
		wantState(t, c, connectivity.Ready)
	}
	var at []time.Duration
	for _, d := range f.seen()[clients:] {
		at = append(at, d.at.Sub(begin))
	}
	slices.Sort(at)
	for i := range at {
		n := 0
		for n = i; n < len(at) && at[n] < at[i]+100*time.Millisecond; n++ {
		}
		if at[i] < 100*time.Millisecond {
			atOnce = max(atOnce, n-i)
		} else {
			later = max(later, n-i)
		}
	}
	return atOnce, later
}

// A server restarts within 5 s, or at once: without jitter all clients return
// together each time, with it they come spread.
func TestReconnectStorm(t *testing.T) {
	tests := []struct {
		name             string
		down             time.Duration
		cfg              Config
		onceMin, onceMax int
		minLater, most   int
	}{
		{"5 s, no jitter", 5 * time.Second, Config{Backoff: steady}, 200, 200, 200, 200},
		{"5 s, default", 5 * time.Second, Config{}, 200, 200, 1, 100},
		{"5 s, spread over 10 s", 5 * time.Second, Config{ReconnectSpread: 10 * time.Second}, 0, 15, 1, 25},
		{"at once, spread over 10 s", 0, Config{ReconnectSpread: 10 * time.Second}, 0, 15, 1, 25},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				atOnce, later := storm(t, tt.down, tt.cfg)
				t.Logf("most attempts within 100 ms: %d at once, %d later", atOnce, later)
				if atOnce < tt.onceMin || atOnce > tt.onceMax {
					t.Errorf("%d attempts at once, want %d to %d", atOnce, tt.onceMin, tt.onceMax)
				}
				if later < tt.minLater || later > tt.most {
					t.Errorf("%d attempts within 100 ms later, want %d to %d", later, tt.minLater, tt.most)
				}
			})
		})
	}
}

// Close and idleness end a reconnect that waits for its moment.
func TestCloseInReconnectSpread(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFleet()
		c := newChannel(t, "passthrough:///x", Config{Dialer: f.dial, ReconnectSpread: time.Hour})
		mustPick(t, c)
		f.kill("x")
		synctest.Wait()
		c.Connect()
		synctest.Wait()
		wantState(t, c, connectivity.Connecting)
		c.Close()
		if n := len(f.seen()); n != 1 {
			t.Errorf("%d dials", n)
		}
	})
}

// A server that retires its connections makes the client ask for the name
// again, and find the one that has taken its place.
func TestGoAwayFindsRenamedService(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		host := "192.0.2.1"
		n := &fakeNames{}
		n.answer = func(string) ([]string, error) {
			n.mu.Lock()
			defer n.mu.Unlock()
			return []string{host}, nil
		}
		pp := newPipes()
		c := newChannel(t, "svc.test:1", Config{NoProxy: true, Dialer: pp.dial, Resolvers: []resolver.Builder{&dnsBuilder{lookup: n.lookup}}})
		c.Connect()
		old := peer.Server(t, <-pp.servers)
		old.Handshake()
		if p := mustPick(t, c); p.link.addr.Addr != "192.0.2.1:1" {
			t.Fatalf("connected to %s", p.link.addr.Addr)
		}
		time.Sleep(time.Minute)
		n.mu.Lock()
		host = "192.0.2.2"
		n.mu.Unlock()
		old.SendGoAway(0, http2.ErrCodeNo, "max_age")
		synctest.Wait()
		c.Connect()
		peer.Server(t, <-pp.servers).Handshake()
		if p := mustPick(t, c); p.link.addr.Addr != "192.0.2.2:1" {
			t.Errorf("connected to %s", p.link.addr.Addr)
		}
	})
}
