// SPDX-License-Identifier: Apache-2.0

package channel

import (
	"context"
	"net"
	"slices"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/resolver"
)

// Servers with IPv4 and IPv6 addresses (RFC 8305,
// https://github.com/grpc/proposal/blob/master/A61-IPv4-IPv6-dualstack-backends.md):
// what grpc-go's pick_first does with our subchannels.
const (
	six1, six2   = "[2001:db8::1]:443", "[2001:db8::2]:443"
	four1, four2 = "192.0.2.1:443", "192.0.2.2:443"
)

// harbour is a farm where dials to some addresses never return of themselves.
type harbour struct {
	farm
	silent []string
	given  atomic.Int64 // dials given up
}

func (h *harbour) dial(ctx context.Context, addr string) (net.Conn, error) {
	if !slices.Contains(h.silent, addr) {
		return h.farm.dial(ctx, addr)
	}
	h.mu.Lock()
	h.dials = append(h.dials, dialed{addr, time.Now()})
	h.mu.Unlock()
	<-ctx.Done()
	h.given.Add(1)
	return nil, ctx.Err()
}

// order says when each address was dialed.
func (h *harbour) order(begin time.Time) (all []string) {
	for _, d := range h.seen() {
		all = append(all, d.at.Sub(begin).String()+" "+d.addr)
	}
	return all
}

// The families take turns, a quarter of a second apart, and at once where one
// is refused; who is not needed any more is given up.
func TestHappyEyeballs(t *testing.T) {
	for _, tt := range []struct {
		name           string
		addrs          []string
		silent, refuse []string
		want           []string
		conn           string
	}{
		{"the first answers", []string{six1, six2, four1}, nil, nil, []string{"0s " + six1}, six1},
		{"IPv6 is silent", []string{six1, six2, four1, four2}, []string{six1, six2, four1}, nil,
			[]string{"0s " + six1, "250ms " + four1, "500ms " + six2, "750ms " + four2}, four2},
		{"IPv6 is refused", []string{six1, six2, four1}, nil, []string{six1, six2}, []string{"0s " + six1, "0s " + four1}, four1},
		{"silent, then refused", []string{four1, four2, six1}, []string{four1}, []string{six1},
			[]string{"0s " + four1, "250ms " + six1, "250ms " + four2}, four2},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h, hb := &hand{}, &harbour{silent: tt.silent}
				hb.serve = goodPeer
				hb.refuse = func(addr string) error {
					if slices.Contains(tt.refuse, addr) {
						return syscall.ECONNREFUSED
					}
					return nil
				}
				c := newChannel(t, "hand:///x", Config{Dialer: hb.dial, Resolvers: []resolver.Builder{h.builder()}})
				c.Connect()
				synctest.Wait()
				begin := time.Now()
				if err := h.cc.UpdateState(h.addrs(tt.addrs...)); err != nil {
					t.Fatal(err)
				}
				if p := mustPick(t, c); p.link.addr.Addr != tt.conn {
					t.Errorf("connected to %s, want %s", p.link.addr.Addr, tt.conn)
				}
				synctest.Wait()
				if got := hb.order(begin); !slices.Equal(got, tt.want) {
					t.Errorf("dialed %q, want %q", got, tt.want)
				}
				if n := hb.given.Load(); n != int64(len(tt.silent)) {
					t.Errorf("%d dials were given up, want %d", n, len(tt.silent))
				}
			})
		})
	}
}

// A channel whose addresses all fail asks the resolver again after each round,
// paces each address by its own backoff, and leaves TRANSIENT_FAILURE for READY
// alone (gRFC A62).
func TestFailingRounds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var up atomic.Bool
		h, f := &hand{}, &farm{serve: goodPeer}
		f.refuse = func(string) error {
			if up.Load() {
				return nil
			}
			return syscall.ECONNREFUSED
		}
		c := newChannel(t, "hand:///x", Config{Dialer: f.dial, Backoff: steady, Resolvers: []resolver.Builder{h.builder()}})
		c.Connect()
		synctest.Wait()
		if err := h.cc.UpdateState(h.addrs(six1, four1)); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		left := make(chan connectivity.State, 1)
		go func() {
			if c.WaitForStateChange(t.Context(), connectivity.TransientFailure) {
				left <- c.State()
			}
		}()
		for round := 1; round < 4; round++ { // at 0 s, 1 s, 2.6 s
			wantState(t, c, connectivity.TransientFailure)
			if n := len(f.seen()); n != 2*round {
				t.Errorf("%d dials after %d rounds", n, round)
			}
			if n := h.asked.Swap(0); n == 0 {
				t.Errorf("round %d did not ask the resolver", round)
			}
			time.Sleep(backoffDelay(steady, round-1, 0.5))
			synctest.Wait()
		}
		up.Store(true)
		if s := <-left; s != connectivity.Ready {
			t.Errorf("left TRANSIENT_FAILURE for %v", s)
		}
		mustPick(t, c)
	})
}
