// SPDX-License-Identifier: Apache-2.0

package processed

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/faultline-rpc/faultline/internal/simnet"
)

// TestEveryByte breaks the connection of four calls, one of each kind, after
// every single byte, in either direction and in each way: a reset, an orderly
// end, silence.
func TestEveryByte(t *testing.T) {
	ways := []struct {
		name string
		at   func(int64) simnet.Fault
	}{{"cut", simnet.CutAfter}, {"end", simnet.FINAfter}, {"stall", simnet.StallAfter}}
	toServer, toClient, _ := fourCalls(t, simnet.Options{})
	t.Logf("the calls take %d bytes to the server and %d to the client", toServer, toClient)
	step := int64(1)
	if testing.Short() || howMany(t) < 100_000 { // every byte in CI
		step = 3
	}
	for i, way := range ways {
		t.Run(way.name, func(t *testing.T) {
			t.Parallel()
			for n := int64(i); n <= toServer; n += step {
				if _, _, problems := fourCalls(t, simnet.Options{ToServer: []simnet.Fault{way.at(n)}}); len(problems) > 0 {
					t.Errorf("%s after byte %d to the server:\n%s", way.name, n, strings.Join(problems, "\n"))
				}
			}
			for n := int64(i); n <= toClient; n += step {
				if _, _, problems := fourCalls(t, simnet.Options{ToClient: []simnet.Fault{way.at(n)}}); len(problems) > 0 {
					t.Errorf("%s after byte %d to the client:\n%s", way.name, n, strings.Join(problems, "\n"))
				}
			}
		})
	}
}

// fourCalls makes them, one connection breaking as o says and the others whole. It
// returns the bytes that passed the first.
func fourCalls(t *testing.T, o simnet.Options) (toServer, toClient int64, problems []string) {
	synctest.Test(t, func(t *testing.T) {
		o.Latency = 100 * time.Microsecond
		e := &episode{t: t, r: rand.New(rand.NewPCG(1, 1)), start: time.Now(), span: time.Millisecond, ledger: &ledger{runs: map[int]int{}},
			config: fmt.Sprintf(plainConfig, "pick_first"), conducts: func(int) conduct { return conduct{messages: 1, read: 3, sleep: 300 * time.Microsecond} }}
		e.network = simnet.NewNetwork(simnet.Options{Latency: o.Latency})
		for k := range kindNames {
			e.calls = append(e.calls, &call{number: k, kind: kind(k), after: time.Duration(k) * 50 * time.Microsecond, deadline: 3 * time.Second, size: 20, messages: 2, pause: 200 * time.Microsecond})
		}
		lis, err := e.network.Listen("server:443")
		e.ok(err)
		h := e.plainHost(lis)
		e.hosts = append(e.hosts, h)
		e.ok(e.network.SetOptions("server:443", func(dial int) simnet.Options {
			if dial == 1 {
				return o
			}
			return simnet.Options{Latency: o.Latency}
		}))
		cc := e.client([]string{"server:443"})
		var wg sync.WaitGroup
		for _, c := range e.calls {
			wg.Go(func() { c.make(cc) })
		}
		wg.Wait()
		e.end(cc)
		e.judge(&tally{faults: map[string]int{}})
		problems = e.problems
		for _, p := range e.taps[0].out {
			toServer += int64(p.n)
		}
		for _, p := range e.taps[0].in {
			toClient += int64(p.n)
		}
	})
	return toServer, toClient, problems
}
