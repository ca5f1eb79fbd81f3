// SPDX-License-Identifier: Apache-2.0

package channel

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/net/http2"
	"google.golang.org/grpc/resolver"

	"github.com/faultline-rpc/faultline/h2"
	"github.com/faultline-rpc/faultline/internal/peer"
)

// A server drains while a stream is open on it: new calls go elsewhere, the
// stream ends in its own time, and the connection with it.
func TestDrain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, pp, tr := &hand{}, newPipes(), newTranscript()
		c := newChannel(t, "hand:///x", Config{Dialer: pp.dial, Sink: tr, Backoff: steady, Resolvers: []resolver.Builder{h.builder()},
			DefaultServiceConfig: `{"loadBalancingConfig":[{"round_robin":{}}]}`})
		c.Connect()
		synctest.Wait()
		serve := func() *peer.T {
			p := peer.Server(t, <-pp.servers, peer.Options{Timeout: time.Hour})
			p.Handshake()
			return p
		}
		servers := map[string]*peer.T{}
		for _, addrs := range [][]string{{"a"}, {"a", "b"}} { // one after the other, to know who is who
			tr.do(fmt.Sprint("resolve ", addrs), func() {
				if err := h.cc.UpdateState(h.addrs(addrs...)); err != nil {
					t.Fatal(err)
				}
				servers[addrs[len(addrs)-1]] = serve()
			})
		}
		calls := func(n int) {
			tr.note("calls", fmt.Sprint(shares(t, c, n)))
		}
		p := mustPick(t, c)
		for p.link.addr.Addr != "a" {
			p = mustPick(t, c)
		}
		var open *h2.Stream
		tr.do("open a stream on a", func() {
			open = openStream(t, p)
			servers["a"].WantHeaders(1)
		})
		tr.do("a sends GOAWAY, its port is served by its successor", func() {
			servers["a"].SendGoAway(1, http2.ErrCodeNo, "max_age")
			servers["new a"] = serve()
		})
		tr.do("10 calls", func() { calls(10) })
		tr.do("an hour later the stream ends", func() {
			time.Sleep(time.Hour)
			select {
			case <-p.Conn.Done():
				t.Error("the drained connection did not wait for its stream")
			default:
			}
			tr.note("a", "the drained connection still carries it")
			open.Reset(h2.Cancel)
		})
		<-p.Conn.Done()
		tr.check(t, "drain")
		if h.asked.Load() == 0 {
			t.Error("GOAWAY did not make the resolver look again")
		}
	})
}
