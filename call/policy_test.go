// SPDX-License-Identifier: Apache-2.0

package call

import (
	"context"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/net/http2"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/stats"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/faultline-rpc/faultline/event"
	"github.com/faultline-rpc/faultline/fault"
	"github.com/faultline-rpc/faultline/internal/peer"
	"github.com/faultline-rpc/faultline/internal/simnet"
)

// under runs f in a bubble, with a client that has a service config and no
// luck: backoffs are 0.8 of their nominal length.
func under(t *testing.T, s peer.Script, serviceConfig string, cfg Config, f func(t *testing.T, c *Caller)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		l := simnet.Listen(simnet.Options{Latency: time.Millisecond})
		srv := peer.Serve(l, s)
		c, ch := clientWith(t, l.Dial, serviceConfig, cfg)
		c.random = func() float64 { return 0 }
		f(t, c)
		ch.Close()
		c.Close()
		synctest.Wait()
		_ = srv.Close()
	})
}

// retrying is a service config: policy of retries, then what else there is.
func retrying(attempts int, rest string) string {
	return fmt.Sprintf(`{"methodConfig":[{"name":[{}],"retryPolicy":{"maxAttempts":%d,"initialBackoff":"1s","maxBackoff":"3s",
		"backoffMultiplier":2,"retryableStatusCodes":["UNAVAILABLE","ABORTED"]}}]%s}`, attempts, rest)
}

// Why there is no other attempt, and what the program learns.
func TestRetryStops(t *testing.T) {
	unavailable := peer.TrailersOnly(14, "down")
	pushed := func(ms ...string) peer.Answer {
		var fields []string
		for _, v := range ms {
			fields = append(fields, pushbackKey, v)
		}
		return peer.TrailersOnly(14, "down", fields...)
	}
	begun := peer.Full([]string{":status", "200", "content-type", "application/grpc"}, nil, []string{"grpc-status", "14"})
	const throttled = `,"retryThrottling":{"maxTokens":2,"tokenRatio":0.1}`
	for _, tc := range []struct {
		name      string
		answers   []peer.Answer
		config    string
		opts      []grpc.CallOption
		off       bool
		entry     *fault.Entry // nil: the call succeeds
		code      codes.Code
		processed fault.Processed
		rung      fault.ID
		says      string
		requests  int32
		attempts  []string // circumstance, processed
		took      time.Duration
		only      string
	}{
		{name: "success after two", answers: []peer.Answer{unavailable, unavailable, peer.OK(text("pong"))}, requests: 3,
			took: 800*time.Millisecond + 1600*time.Millisecond},
		{name: "exhausted", answers: []peer.Answer{unavailable}, entry: fault.HandlerStatus, code: codes.Unavailable, rung: fault.CallRetriesExhausted.ID,
			says: "3 attempts were made", requests: 3, attempts: []string{"handler.status maybe", "handler.status maybe", "handler.status maybe"}},
		{name: "processed by one", answers: []peer.Answer{peer.TrailersOnly(10, "aborted"), unavailable}, entry: fault.HandlerStatus, code: codes.Unavailable,
			processed: fault.Yes, rung: fault.CallRetriesExhausted.ID, requests: 3, attempts: []string{"handler.status yes", "handler.status maybe", "handler.status maybe"}},
		{name: "another code", answers: []peer.Answer{unavailable, peer.TrailersOnly(3, "bad")}, entry: fault.HandlerStatus, code: codes.InvalidArgument,
			processed: fault.Yes, requests: 2, attempts: []string{"handler.status maybe", "handler.status yes"}},
		{name: "at once another code", answers: []peer.Answer{peer.TrailersOnly(13, "bad")}, entry: fault.HandlerStatus, code: codes.Internal, requests: 1},
		{name: "no policy", config: "{}", answers: []peer.Answer{unavailable}, entry: fault.HandlerStatus, code: codes.Unavailable, requests: 1},
		{name: "disabled", off: true, answers: []peer.Answer{unavailable}, entry: fault.HandlerStatus, code: codes.Unavailable, requests: 1},
		{name: "disabled, yet unprocessed", off: true, answers: []peer.Answer{peer.RST(http2.ErrCodeRefusedStream), peer.OK(text("pong"))}, requests: 2},
		{name: "pushback of never", answers: []peer.Answer{unavailable, pushed("-1")}, entry: fault.HandlerStatus, code: codes.Unavailable,
			rung: fault.CallRetryPushback.ID, says: "after attempt 2 of 3", requests: 2, attempts: []string{"handler.status maybe", "handler.status maybe"}},
		{name: "pushback of nonsense", answers: []peer.Answer{pushed("soon")}, entry: fault.HandlerStatus, code: codes.Unavailable,
			rung: fault.CallRetryPushback.ID, says: "after attempt 1 of 3", requests: 1},
		{name: "pushback twice", answers: []peer.Answer{pushed("1", "2")}, entry: fault.HandlerStatus, code: codes.Unavailable,
			rung: fault.CallRetryPushback.ID, requests: 1},
		{name: "pushback of a time begins backoff anew", config: retrying(5, ""), answers: []peer.Answer{unavailable, pushed("70"), unavailable, peer.OK(text("pong"))},
			requests: 4, took: 800*time.Millisecond + 70*time.Millisecond + 800*time.Millisecond},
		{name: "throttled", config: retrying(5, throttled), answers: []peer.Answer{unavailable}, entry: fault.HandlerStatus, code: codes.Unavailable,
			rung: fault.CallRetryThrottled.ID, says: "after attempt 1 of 5", requests: 1},
		{name: "the answer had begun", answers: []peer.Answer{begun}, entry: fault.HandlerStatus, code: codes.Unavailable,
			rung: fault.CallRetryCommitted.ID, says: "its answer had begun", requests: 1},
		{name: "the last answer had begun", answers: []peer.Answer{unavailable, unavailable, begun}, entry: fault.HandlerStatus, code: codes.Unavailable,
			rung: fault.CallRetriesExhausted.ID, says: "3 attempts were made", requests: 3, attempts: []string{"handler.status maybe", "handler.status maybe", "handler.status maybe"}},
		{name: "too large to keep", opts: []grpc.CallOption{grpc.MaxRetryRPCBufferSize(5)}, answers: []peer.Answer{unavailable}, entry: fault.HandlerStatus,
			code: codes.Unavailable, rung: fault.CallRetryCommitted.ID, says: "too large to be kept", requests: 1},
		{name: "too large to keep, and unprocessed", opts: []grpc.CallOption{grpc.MaxRetryRPCBufferSize(5)}, answers: []peer.Answer{peer.RST(http2.ErrCodeRefusedStream), unavailable},
			entry: fault.HandlerStatus, code: codes.Unavailable, rung: fault.CallRetryCommitted.ID, says: "too large to be kept", requests: 2, only: "unary",
			attempts: []string{"http2.refused-stream no transparent", "handler.status maybe"}},
		{name: "unprocessed counts apart", answers: []peer.Answer{peer.RST(http2.ErrCodeRefusedStream), unavailable, unavailable, peer.RST(http2.ErrCodeRefusedStream)},
			entry: fault.HTTP2RefusedStream, code: codes.Unavailable, rung: fault.CallRetriesExhausted.ID, requests: 4,
			attempts: []string{"http2.refused-stream no transparent", "handler.status maybe", "handler.status maybe", "http2.refused-stream no"}},
		{name: "a proxy's answer", answers: []peer.Answer{peer.HTTPStatus(503, "text/html", "try later"), peer.OK(text("pong"))}, requests: 2},
		{name: "reset", answers: []peer.Answer{peer.RST(http2.ErrCodeRefusedStream), peer.RST(http2.ErrCodeRefusedStream), peer.OK(text("pong"))}, requests: 3},
	} {
		for form, do := range forms {
			if tc.only != "" && tc.only != form {
				continue
			}
			t.Run(tc.name+"/"+form, func(t *testing.T) {
				var n atomic.Int32
				if tc.config == "" {
					tc.config = retrying(3, "")
				}
				under(t, script(&n, tc.answers...), tc.config, Config{DisableRetry: tc.off}, func(t *testing.T, c *Caller) {
					d := &donePicker{Picker: c.cfg.Channel}
					c.cfg.Channel = d
					begin := time.Now()
					got, err := do(c, context.Background(), tc.opts...)
					took := time.Since(begin)
					if n.Load() != tc.requests || len(d.infos) != d.picks || d.picks != int(tc.requests) {
						t.Errorf("%d requests, %d picks, %d times done, want %d", n.Load(), d.picks, len(d.infos), tc.requests)
					}
					if tc.took > 0 && (took < tc.took || took > tc.took+50*time.Millisecond) {
						t.Errorf("took %v, want %v and a little", took, tc.took)
					}
					if tc.entry == nil {
						if err != nil || got != "pong" {
							t.Errorf("%q, %+v", got, err)
						}
						return
					}
					f, ok := fault.From(err)
					if !ok || f.Entry() != tc.entry || f.Code() != tc.code || f.Processed() != tc.processed {
						t.Fatalf("want %s, %s, processed %s: %+v", tc.entry.ID, tc.code, tc.processed, err)
					}
					rung, words := fault.ID(""), ""
					for _, r := range f.Rungs() {
						rung, words = r.ID, r.Text
					}
					if rung != tc.rung || !strings.Contains(words, tc.says) {
						t.Errorf("rung %s %q, want %s %q", rung, words, tc.rung, tc.says)
					}
					var attempts []string
					for _, a := range f.Attempts() {
						s := fmt.Sprint(a.ID, " ", a.Processed)
						if a.Transparent {
							s += " transparent"
						}
						if a.Peer == "" || a.Elapsed <= 0 || a.Elapsed > 100*time.Millisecond {
							t.Errorf("attempt %+v", a)
						}
						attempts = append(attempts, s)
					}
					if !slices.Equal(attempts, tc.attempts) {
						t.Errorf("attempts %q, want %q", attempts, tc.attempts)
					}
				})
			})
		}
	}
}

// requests keeps what a server was asked, header by header.
type requests struct {
	mu   sync.Mutex
	seen []peer.Frame // guarded by mu
}

func (r *requests) values(name string) []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	var all []string
	for _, f := range r.seen {
		all = append(all, f.Get(name))
	}
	return all
}

// noting answers the n-th request with the n-th answer when it is complete, and
// all others with the last.
func (r *requests) noting(answers ...peer.Answer) peer.Script {
	var n atomic.Int32
	return func(p *peer.Peer) error {
		_, err := p.Handshake()
		for err == nil {
			var f peer.Frame
			if f, err = p.Next(); err != nil {
				break
			}
			if f.Get(":method") != "" {
				r.mu.Lock()
				r.seen = append(r.seen, f)
				r.mu.Unlock()
			}
			if f.End {
				err = answers[min(int(n.Add(1)), len(answers))-1](p, f.Stream)
			}
		}
		if p.Ended(err) {
			return nil
		}
		return err
	}
}

// counting credentials number the attempts.
type counting struct{ n atomic.Int32 }

func (c *counting) GetRequestMetadata(context.Context, ...string) (map[string]string, error) {
	return map[string]string{"token": fmt.Sprint(c.n.Add(1))}, nil
}
func (*counting) RequireTransportSecurity() bool { return false }

// attemptStats keeps what stats handlers learn of attempts.
type attemptStats struct {
	ends
	mu  sync.Mutex
	log []string // guarded by mu
}

func (a *attemptStats) HandleRPC(_ context.Context, s stats.RPCStats) {
	a.mu.Lock()
	defer a.mu.Unlock()
	switch s := s.(type) {
	case *stats.Begin:
		a.log = append(a.log, fmt.Sprint("begin ", s.IsTransparentRetryAttempt))
	case *stats.OutHeader:
		a.log = append(a.log, "header")
	case *stats.End:
		f, _ := fault.From(s.Error)
		if f == nil {
			a.log = append(a.log, "end")
			return
		}
		a.log = append(a.log, "end "+string(f.ID()))
	}
}

// Each attempt has its own number, deadline, credentials and stats.
func TestRetriedAttempts(t *testing.T) {
	for form, do := range forms {
		t.Run(form, func(t *testing.T) {
			var r requests
			seen, events := &attemptStats{}, new(event.Buffer)
			s := r.noting(peer.TrailersOnly(14, "down"), peer.RST(http2.ErrCodeRefusedStream), peer.TrailersOnly(14, "down"), peer.OK(text("pong")))
			cfg := Config{Creds: []credentials.PerRPCCredentials{&counting{}}, StatsHandlers: []stats.Handler{seen}, Sink: events}
			under(t, s, retrying(3, ""), cfg, func(t *testing.T, c *Caller) {
				ctx, cancel := context.WithTimeout(metadata.AppendToOutgoingContext(context.Background(), "k", "v"), 10*time.Second)
				defer cancel()
				if got, err := do(c, ctx); err != nil || got != "pong" {
					t.Fatalf("%q, %+v", got, err)
				}
			})
			for name, want := range map[string][]string{
				"grpc-previous-rpc-attempts": {"", "1", "1", "2"},
				"token":                      {"1", "2", "3", "4"},
				"k":                          {"v", "v", "v", "v"},
			} {
				if got := r.values(name); !slices.Equal(got, want) {
					t.Errorf("%s: %q, want %q", name, got, want)
				}
			}
			last := 10 * time.Second
			for i, v := range r.values("grpc-timeout") {
				var d int64
				var unit string
				if _, err := fmt.Sscanf(v, "%d%s", &d, &unit); err != nil || unit != "u" && unit != "m" {
					t.Fatalf("grpc-timeout %q: %v", v, err)
				}
				left := time.Duration(d) * time.Microsecond
				if unit == "m" {
					left = time.Duration(d) * time.Millisecond
				}
				if left > last || i == 3 && left > 8*time.Second {
					t.Errorf("attempt %d has %v left, the one before %v", i+1, left, last)
				}
				last = left
			}
			want := []string{"begin false", "header", "end handler.status", "begin false", "header", "end http2.refused-stream",
				"begin true", "header", "end handler.status", "begin false", "header", "end"}
			if !slices.Equal(seen.log, want) {
				t.Errorf("stats %q, want %q", seen.log, want)
			}
			var retried []string
			for _, e := range event.All[event.CallRetried](events) {
				retried = append(retried, fmt.Sprint(e.Attempt, " ", e.Transparent))
			}
			if want := []string{"2 false", "3 true", "4 false"}; !slices.Equal(retried, want) {
				t.Errorf("events %q, want %q", retried, want)
			}
		})
	}
}

// A context that ends during the backoff ends the call.
func TestDeadlineDuringBackoff(t *testing.T) {
	for form, do := range forms {
		t.Run(form, func(t *testing.T) {
			var n atomic.Int32
			under(t, script(&n, peer.TrailersOnly(10, "aborted")), retrying(3, ""), Config{}, func(t *testing.T, c *Caller) {
				ctx, cancel := context.WithTimeout(context.Background(), 500*time.Millisecond)
				defer cancel()
				begin := time.Now()
				_, err := do(c, ctx)
				f, ok := fault.From(err)
				if !ok || f.Entry() != fault.CallDeadline || f.Processed() != fault.Yes || len(f.Attempts()) != 1 || f.Evidence().Waiting != fault.PhaseBackoff ||
					len(f.Rungs()) != 1 || f.Rungs()[0].ID != fault.HandlerStatus.ID || n.Load() != 1 || time.Since(begin) != 500*time.Millisecond {
					t.Fatalf("after %v and %d requests: %+v", time.Since(begin), n.Load(), err)
				}
				if p := f.Ledger().Phases; len(p) != 4 || p[2].Name != fault.PhaseHeaders || p[3].Name != fault.PhaseBackoff {
					t.Errorf("ledger %+v", p)
				}
			})
		})
	}
}

// Failures of all methods empty the bucket, successes of all fill it.
func TestThrottling(t *testing.T) {
	var n atomic.Int32
	down, ok := peer.TrailersOnly(14, "down"), peer.OK(text("pong"))
	const bucket = `,"retryThrottling":{"maxTokens":3,"tokenRatio":0.5}`
	under(t, script(&n, down, down, ok, ok, ok, down, ok), retrying(5, bucket), Config{}, func(t *testing.T, c *Caller) {
		_, err := forms["unary"](c, context.Background()) // 3 -> 2, retried -> 1, throttled
		f, _ := fault.From(err)
		if f == nil || n.Load() != 2 || len(f.Rungs()) != 1 || f.Rungs()[0].ID != fault.CallRetryThrottled.ID || len(f.Attempts()) != 2 {
			t.Fatalf("after %d requests: %+v", n.Load(), err)
		}
		for range 3 { // -> 2.5
			if _, err := forms["client stream"](c, context.Background()); err != nil {
				t.Fatal(err)
			}
		}
		_, err = forms["server stream"](c, context.Background()) // -> 1.5: at most half
		if f, _ := fault.From(err); f == nil || n.Load() != 6 || f.Rungs()[0].ID != fault.CallRetryThrottled.ID {
			t.Fatalf("after %d requests: %+v", n.Load(), err)
		}
	})
}

// A stream's messages are sent again to the next attempt, whoever notices the
// failure, until the answer begins.
func TestRetriedStream(t *testing.T) {
	for _, closing := range []bool{true, false} {
		t.Run(fmt.Sprint("closed ", closing), func(t *testing.T) {
			var bodies []string
			var n atomic.Int32
			s := func(p *peer.Peer) error {
				_, err := p.Handshake()
				body := map[uint32]string{}
				for err == nil {
					var f peer.Frame
					if f, err = p.Next(); err != nil {
						break
					}
					body[f.Stream] += string(f.Data)
					if strings.Contains(body[f.Stream], "two") && (f.End || !closing) {
						bodies = append(bodies, body[f.Stream])
						body[f.Stream] = ""
						if n.Add(1) < 3 {
							err = peer.TrailersOnly(14, "down")(p, f.Stream)
						} else {
							err = peer.OK(text("pong"))(p, f.Stream)
						}
					}
				}
				if p.Ended(err) {
					return nil
				}
				return err
			}
			under(t, s, retrying(3, ""), Config{}, func(t *testing.T, c *Caller) {
				ctx, cancel := context.WithCancel(context.Background())
				defer cancel()
				st, err := c.NewStream(ctx, &grpc.StreamDesc{ClientStreams: true, ServerStreams: true}, method)
				if err != nil {
					t.Fatal(err)
				}
				for _, m := range []string{"one", "two"} {
					if err := st.SendMsg(wrapperspb.String(m)); err != nil {
						t.Fatal(err)
					}
				}
				if closing {
					_ = st.CloseSend()
				}
				if md, err := st.Header(); err != nil || md == nil {
					t.Errorf("header %v, %v", md, err)
				}
				var reply wrapperspb.StringValue
				if err := st.RecvMsg(&reply); err != nil || reply.Value != "pong" {
					t.Fatalf("%q, %+v", reply.Value, err)
				}
			})
			if len(bodies) != 3 || bodies[0] != bodies[1] || bodies[0] != bodies[2] {
				t.Errorf("the server got %q", bodies)
			}
		})
	}
}

// Calls that find no connection are retried until there is one.
func TestRetryWithoutConnection(t *testing.T) {
	for form, do := range forms {
		t.Run(form, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				l := simnet.Listen(simnet.Options{Latency: time.Millisecond})
				srv := peer.Serve(l, peer.Each(peer.OK(text("pong"))))
				dials := 0
				events := new(event.Buffer)
				c, ch := clientWith(t, func(ctx context.Context, a string) (net.Conn, error) {
					if dials++; dials == 1 {
						return nil, syscall.ECONNREFUSED
					}
					return l.Dial(ctx, a)
				}, retrying(4, ""), Config{Sink: events})
				got, err := do(c, context.Background())
				if err != nil || got != "pong" {
					t.Errorf("%q, %+v", got, err)
				}
				retried := event.All[event.CallRetried](events)
				if len(retried) == 0 {
					t.Error("there was no failure")
				}
				for _, e := range retried {
					if f, ok := fault.From(e.Err); !ok || f.Entry() != fault.DialRefused || f.Processed() != fault.No || e.Transparent {
						t.Errorf("%+v", e)
					}
				}
				ch.Close()
				synctest.Wait()
				_ = srv.Close()
			})
		})
	}
}
