// SPDX-License-Identifier: Apache-2.0

package processed

import (
	"context"
	"flag"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/net/http2"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/resolver"
	"google.golang.org/grpc/resolver/manual"

	"github.com/faultline-rpc/faultline"
	"github.com/faultline-rpc/faultline/fault"
	"github.com/faultline-rpc/faultline/internal/simnet"
)

// A run is a row of episodes, each in fake time and made from two numbers:
//
//	calls -> client -> taps -> simnet, whose links break -> servers, ours and scripted, that come and go
//	                                                        -> ledger
//
// After each, every call's fault is held against the ledger (what happened) and
// against the taps (what could be known).

var (
	seedFlag    = flag.Uint64("seed", 1, "of all episodes")
	episodeFlag = flag.Int("episode", -1, "the only one to run")
)

// howMany is how many calls are made: a few, or FAULTLINE_CALLS.
func howMany(t *testing.T) int {
	s := os.Getenv("FAULTLINE_CALLS")
	if s == "" {
		return 2000
	}
	n, err := strconv.Atoi(s)
	if err != nil || n < 1 {
		t.Fatalf("FAULTLINE_CALLS is %q, expected a number of calls", s)
	}
	return n
}

// tally is what a run came to.
type tally struct {
	mu       sync.Mutex
	calls    int            // guarded by mu
	failures int            // episodes that went wrong; guarded by mu
	faults   map[string]int // by id and claim; guarded by mu
	definite int            // faults of which only one thing could be said; guarded by mu
}

// TestProcessed: a fault that says "no" was seen by no handler, one that says
// "yes" was, and "maybe" is said only where nobody could know.
func TestProcessed(t *testing.T) {
	sum := &tally{faults: map[string]int{}}
	if *episodeFlag >= 0 {
		perform(t, *seedFlag, *episodeFlag, sum)
		return
	}
	began, all := time.Now(), howMany(t)
	t.Cleanup(func() {
		failed, lines := 0, make([]string, 0, len(sum.faults))
		for what, n := range sum.faults {
			failed += n
			lines = append(lines, fmt.Sprintf("%s %6d", what, n))
		}
		slices.Sort(lines)
		t.Logf("%d calls in %v, %d failed; of %d only one thing could be said:\n%s", sum.calls, time.Since(began).Round(time.Millisecond), failed, sum.definite, strings.Join(lines, "\n"))
	})
	var next atomic.Int64
	for w := range runtime.GOMAXPROCS(0) {
		t.Run(strconv.Itoa(w), func(t *testing.T) {
			t.Parallel()
			for !sum.enough(all) {
				perform(t, *seedFlag, int(next.Add(1))-1, sum)
			}
		})
	}
}

// enough reports whether all calls were made, or too much went wrong.
func (s *tally) enough(all int) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.calls >= all || s.failures >= maxFailures
}

// perform runs one episode.
func perform(t *testing.T, seed uint64, number int, sum *tally) {
	var problems []string
	synctest.Test(t, func(t *testing.T) {
		e := newEpisode(t, seed, number)
		e.play()
		e.judge(sum)
		problems = e.problems
	})
	if len(problems) > 0 {
		sum.mu.Lock()
		sum.failures++
		sum.mu.Unlock()
		t.Errorf("go test ./internal/processed -run TestProcessed -seed %d -episode %d\n%s", seed, number, strings.Join(problems, "\n"))
	}
}

// maxFailures is how many episodes may go wrong before the rest is left out.
const maxFailures = 10

// wrong notes what ought not to be. Any goroutine of the episode may do it.
func (e *episode) wrong(format string, args ...any) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.problems = append(e.problems, fmt.Sprintf(format, args...))
}

// episode is a small world.
type episode struct {
	t        *testing.T
	seed     uint64
	r        *rand.Rand
	start    time.Time
	span     time.Duration // in which its events happen
	network  *simnet.Network
	ledger   *ledger
	calls    []*call
	config   string
	hedged   bool
	patient  bool                     // its calls wait longer than keepalive does
	conducts func(number int) conduct // nil: random ones

	mu       sync.Mutex
	taps     []*wiretap // guarded by mu
	problems []string   // guarded by mu
	hosts    []*host
	acts     []*stage
}

const (
	retryConfig = `{"loadBalancingConfig":[{"%s":{}}],"retryThrottling":{"maxTokens":10,"tokenRatio":0.5},"methodConfig":[{"name":[{}],"retryPolicy":{"maxAttempts":4,"initialBackoff":"0.01s","maxBackoff":"0.1s",
		"backoffMultiplier":2,"retryableStatusCodes":["UNAVAILABLE","ABORTED","NOT_FOUND","INVALID_ARGUMENT","RESOURCE_EXHAUSTED","CANCELLED"]}}]}`
	hedgeConfig = `{"loadBalancingConfig":[{"%s":{}}],"methodConfig":[{"name":[{}],"hedgingPolicy":{"maxAttempts":3,"hedgingDelay":"%s",
		"nonFatalStatusCodes":["UNAVAILABLE","ABORTED","INTERNAL"]}}]}`
	plainConfig = `{"loadBalancingConfig":[{"%s":{}}]}`
)

func newEpisode(t *testing.T, seed uint64, number int) *episode {
	r := rand.New(rand.NewPCG(seed, uint64(number)))
	e := &episode{t: t, seed: seed<<32 + uint64(number), r: r, start: time.Now(), ledger: &ledger{runs: map[int]int{}}}
	e.span = []time.Duration{time.Millisecond, 20 * time.Millisecond, 200 * time.Millisecond}[r.IntN(3)]
	policy := []string{"pick_first", "round_robin"}[r.IntN(2)]
	switch r.IntN(4) {
	case 0:
		e.config = fmt.Sprintf(retryConfig, policy)
	case 1:
		e.config, e.hedged = fmt.Sprintf(hedgeConfig, policy, []string{"0s", "0.001s", "0.02s"}[r.IntN(3)]), true
	default:
		e.config = fmt.Sprintf(plainConfig, policy)
	}
	for n := range 1 + r.IntN(12) {
		e.calls = append(e.calls, newCall(r, n, e.span))
	}
	if e.patient = r.IntN(6) == 0; e.patient {
		for _, c := range e.calls {
			c.deadline += time.Minute
		}
	}
	return e
}

// conduct is what the handler of a call does, each time.
func (e *episode) conduct(number int) conduct {
	if e.conducts != nil {
		return e.conducts(number)
	}
	return newConduct(rand.New(rand.NewPCG(e.seed, uint64(number)+1<<40)), e.span)
}

// play runs it to its end.
func (e *episode) play() {
	r := e.r
	options := simnet.Options{Buffer: []int{0, 0, 200, 4000}[r.IntN(4)], MaxRead: []int{0, 0, 0, 7}[r.IntN(4)]}
	if r.IntN(2) == 0 {
		options.Latency = 1 + within(r, e.span/4)
	}
	e.network = simnet.NewNetwork(options)
	var addrs []string
	for i := range 1 + r.IntN(2) {
		addr := fmt.Sprintf("server%d:443", i)
		addrs = append(addrs, addr)
		e.serve(addr, options)
	}
	cc := e.client(addrs)
	closing := make(chan struct{})
	var wg, others sync.WaitGroup
	others.Go(func() { e.trouble(cc, addrs, closing) })
	for _, c := range e.calls {
		wg.Go(func() { c.make(cc) })
	}
	wg.Wait()
	close(closing)
	others.Wait()
	e.end(cc)
}

// end lets everything come to its end.
func (e *episode) end(cc *faultline.ClientConn) {
	_ = cc.Close()
	for _, h := range e.hosts {
		h.stop()
	}
	for _, s := range e.acts {
		_ = s.service.Close()
	}
	<-time.After(time.Minute) // whatever lingers ends
}

// serve puts a server, ours or a scripted one, at addr, behind links that break.
func (e *episode) serve(addr string, options simnet.Options) {
	r := e.r
	lis, err := e.network.Listen(addr)
	if err != nil {
		e.t.Fatal(err)
	}
	if r.IntN(2) == 0 {
		e.hosts = append(e.hosts, e.newHost(r, lis))
	} else {
		var settings []http2.Setting
		often := func(n int, id http2.SettingID, below int) {
			if r.IntN(n) == 0 {
				settings = append(settings, http2.Setting{ID: id, Val: uint32(r.IntN(below))})
			}
		}
		often(4, http2.SettingMaxConcurrentStreams, 3)
		often(4, http2.SettingInitialWindowSize, 200)
		often(24, http2.SettingMaxHeaderListSize, 800)
		e.acts = append(e.acts, e.newStage(r.Uint64(), settings, lis))
	}
	if r.IntN(2) == 0 {
		return
	}
	broken, toServer, kind, at := 1+r.IntN(3), r.IntN(2) == 0, r.IntN(3), int64(r.IntN(600))
	fault := []func(int64) simnet.Fault{simnet.CutAfter, simnet.FINAfter, simnet.StallAfter}[kind](at)
	e.ok(e.network.SetOptions(addr, func(dial int) simnet.Options {
		o := options
		switch {
		case dial > broken:
		case toServer:
			o.ToServer = []simnet.Fault{fault}
		default:
			o.ToClient = []simnet.Fault{fault}
		}
		return o
	}))
}

func (e *episode) ok(err error) {
	if err != nil {
		e.t.Helper()
		e.t.Fatal(err)
	}
}

func (e *episode) client(addrs []string) *faultline.ClientConn {
	b := manual.NewBuilderWithScheme("stage")
	var s resolver.State
	for _, a := range addrs {
		s.Endpoints = append(s.Endpoints, resolver.Endpoint{Addresses: []resolver.Address{{Addr: a}}})
	}
	b.InitialState(s)
	pause := backoff.Config{BaseDelay: e.span / 4, Multiplier: 1.5, Jitter: 0.2, MaxDelay: e.span}
	opts := []faultline.DialOption{
		faultline.WithResolvers(b), faultline.WithContextDialer(e.dial), faultline.WithDefaultServiceConfig(e.config), faultline.WithTransportCredentials(insecure.NewCredentials()),
		faultline.WithConnectParams(grpc.ConnectParams{Backoff: pause, MinConnectTimeout: time.Second}),
	}
	if e.patient {
		opts = append(opts, faultline.WithKeepaliveParams(keepalive.ClientParameters{Time: 10 * time.Second, Timeout: time.Second}))
	}
	if e.r.IntN(4) == 0 {
		opts = append(opts, faultline.WithPerRPCCredentials(purse{e}))
	}
	if e.r.IntN(4) == 0 {
		opts = append(opts, faultline.WithStatsHandler(onlooker{}))
	}
	cc, err := faultline.NewClient("stage:///servers", opts...)
	e.ok(err)
	return cc
}

func (e *episode) dial(ctx context.Context, addr string) (net.Conn, error) {
	nc, err := e.network.Dial(ctx, addr)
	if err != nil {
		return nil, err
	}
	t := &wiretap{Conn: nc.(*simnet.Conn)}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.taps = append(e.taps, t)
	return t, nil
}

// trouble does what no call expects, until they are over.
func (e *episode) trouble(cc *faultline.ClientConn, addrs []string, closing <-chan struct{}) {
	r := rand.New(rand.NewPCG(e.seed, 1))
	for range r.IntN(4) {
		select {
		case <-time.After(within(r, 2*e.span)):
		case <-closing:
			return
		}
		addr := addrs[r.IntN(len(addrs))]
		switch conns := e.network.Conns(addr); r.IntN(7) {
		case 0:
			for _, c := range conns {
				c.Cut()
			}
		case 1:
			for _, c := range conns {
				c.Stall()
			}
		case 2:
			e.ok(e.network.SetHealth(addr, simnet.Health(r.IntN(4))))
		case 3, 4:
			if len(e.hosts) > 0 {
				go e.hosts[r.IntN(len(e.hosts))].srv.GracefulStop()
			}
		case 5:
			if len(e.hosts) > 0 {
				go e.hosts[r.IntN(len(e.hosts))].srv.Stop()
			}
		case 6:
			if r.IntN(2) == 0 {
				_ = cc.Close()
			}
		}
	}
}

// judge holds each call's fault against ledger and taps.
func (e *episode) judge(sum *tally) {
	var all []*attempt
	e.mu.Lock() // a dial that was given up may be late
	taps := slices.Clone(e.taps)
	e.mu.Unlock()
	for _, t := range taps {
		all = append(all, t.attempts(maxMessage)...)
	}
	sum.mu.Lock()
	defer sum.mu.Unlock()
	sum.calls += len(e.calls)
	for _, c := range e.calls {
		runs := e.ledger.of(c.number)
		if c.err == nil {
			if runs == 0 {
				e.wrong("call %d is OK, and no handler ran", c.number)
			}
			continue
		}
		f, ok := fault.From(c.err)
		if !ok {
			e.wrong("call %d: %v is no fault", c.number, c.err)
			continue
		}
		m := moment{c.ended, e.hedged || ours(f), e.hedged}
		allowed, mine := provable(e.taps, all, c.number, m)
		if f.Entry() == fault.CallClosed && c.kind != unary {
			allowed |= only(fault.Maybe) // another goroutine may just have been at work on an attempt
		}
		if allowed == only(f.Processed()) {
			sum.definite++
		}
		sum.faults[fmt.Sprintf("%-28s %v", f.ID(), f.Processed())]++
		problem := ""
		switch p := f.Processed(); {
		case p == fault.No && runs > 0:
			problem = fmt.Sprintf("says no, and its handler ran %d times", runs)
		case p == fault.Yes && runs == 0:
			problem = "says yes, and no handler ran"
		case !allowed.has(p):
			problem = fmt.Sprintf("says %v, and what reached the client proves %v", p, allowed)
		default:
			continue
		}
		e.wrong("call %d (%s, from %v to %v) %s: %+v%s", c.number, kindNames[c.kind], c.began.Sub(e.start), c.ended.Sub(e.start), problem, f, e.seen(mine))
	}
}

func (e *episode) seen(mine []*attempt) (s string) {
	for _, a := range mine {
		s += "\n    seen: " + a.describe(e.start)
	}
	return s
}

// ours reports a fault that this side's program or clock decided on.
func ours(f *fault.Fault) bool {
	switch f.Entry() {
	case fault.CallDeadline, fault.CallCancelled, fault.CallClosed, fault.CallMisuse, fault.CodecTooLarge, fault.HTTP2Keepalive:
		return true
	}
	return false
}
