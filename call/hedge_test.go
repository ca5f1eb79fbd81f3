// SPDX-License-Identifier: Apache-2.0

package call

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
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
)

func hedging(attempts int, delay, rest string) string {
	return fmt.Sprintf(`{"methodConfig":[{"name":[{}],"hedgingPolicy":{"maxAttempts":%d,"hedgingDelay":"%s",
		"nonFatalStatusCodes":["UNAVAILABLE","ABORTED"]}}]%s}`, attempts, delay, rest)
}

// at is an answer that comes after a time.
type at struct {
	after  time.Duration
	answer peer.Answer
}

// parallel answers the n-th request with the n-th answer, after its time and
// whatever happens meanwhile, and all others with the last. It keeps when
// requests came, and which were canceled.
type parallel struct {
	answers []at
	note    func(format string, args ...any) // or nil

	mu       sync.Mutex
	began    time.Time
	came     []time.Duration // guarded by mu
	previous []string        // guarded by mu: grpc-previous-rpc-attempts
	canceled []uint32        // guarded by mu
}

func (s *parallel) script(p *peer.Peer) error {
	_, err := p.Handshake()
	for err == nil {
		var f peer.Frame
		if f, err = p.Next(); err != nil {
			break
		}
		s.mu.Lock()
		switch {
		case f.Kind == http2.FrameRSTStream:
			s.canceled = append(s.canceled, f.Stream)
			s.say("server  request canceled: RST_STREAM %v", http2.ErrCodeCancel)
		case f.Get(":method") != "":
			previous := f.Get("grpc-previous-rpc-attempts")
			s.previous = append(s.previous, previous)
			if previous != "" {
				previous = ", grpc-previous-rpc-attempts: " + previous
			}
			s.say("server  request%s", previous)
		}
		if f.End {
			s.came = append(s.came, time.Since(s.began).Truncate(10*time.Millisecond))
			a := s.answers[min(len(s.came), len(s.answers))-1]
			time.AfterFunc(a.after, func() { _ = a.answer(p, f.Stream) })
		}
		s.mu.Unlock()
	}
	if p.Ended(err) {
		return nil
	}
	return err
}

func (s *parallel) say(format string, args ...any) {
	if s.note != nil {
		s.note(format, args...)
	}
}

const tenth = 100 * time.Millisecond

var (
	down  = peer.TrailersOnly(14, "down")
	pong  = peer.OK(text("pong"))
	never = at{time.Hour, peer.Silence()}
)

// When attempts are made, which one wins, and what the program learns.
func TestHedging(t *testing.T) {
	begun := peer.Then(func(p *peer.Peer, id uint32) error {
		return p.SendHeaders(id, false, ":status", "200", "content-type", "application/grpc")
	}, peer.After(tenth, func(p *peer.Peer, id uint32) error { return p.SendHeaders(id, true, "grpc-status", "14") }))
	for _, tc := range []struct {
		name      string
		config    string
		answers   []at
		came      []time.Duration
		took      time.Duration
		canceled  int
		entry     *fault.Entry
		code      codes.Code
		processed fault.Processed
		rung      fault.ID
		attempts  []string
		deadline  time.Duration
	}{
		{name: "the first is quick", answers: []at{{tenth, pong}}, came: []time.Duration{0}, took: tenth},
		{name: "the second is quicker", answers: []at{{9 * tenth, pong}, {tenth, pong}}, came: []time.Duration{0, 2 * tenth}, took: 3 * tenth, canceled: 1},
		{name: "the first is back in time", answers: []at{{5 * tenth, pong}, never}, came: []time.Duration{0, 2 * tenth, 4 * tenth}, took: 5 * tenth, canceled: 2},
		{name: "all at once", config: hedging(3, "0s", ""), answers: []at{never, never, {tenth, pong}}, came: []time.Duration{0, 0, 0}, took: tenth, canceled: 2},
		{name: "a failure brings the next", answers: []at{{tenth, down}, {tenth, down}, {tenth, pong}}, came: []time.Duration{0, tenth, 2 * tenth}, took: 3 * tenth},
		{name: "the next counts its delay anew", answers: []at{{tenth, down}, {9 * tenth, pong}, {tenth, pong}}, came: []time.Duration{0, tenth, 3 * tenth}, took: 4 * tenth, canceled: 1},
		{name: "all fail", answers: []at{{5 * tenth, down}, {5 * tenth, down}, {5 * tenth, down}}, came: []time.Duration{0, 2 * tenth, 4 * tenth}, took: 9 * tenth,
			entry: fault.HandlerStatus, code: codes.Unavailable, rung: fault.CallRetriesExhausted.ID,
			attempts: []string{"handler.status maybe", "handler.status maybe", "handler.status maybe"}},
		{name: "a fatal one", answers: []at{never, {tenth, peer.TrailersOnly(3, "bad")}}, came: []time.Duration{0, 2 * tenth}, took: 3 * tenth, canceled: 1,
			entry: fault.HandlerStatus, code: codes.InvalidArgument, processed: fault.Yes, attempts: []string{"call.cancelled maybe", "handler.status yes"}},
		{name: "pushback of never", answers: []at{{3 * tenth, pong}, {tenth / 2, peer.TrailersOnly(14, "down", pushbackKey, "-1")}}, came: []time.Duration{0, 2 * tenth}, took: 3 * tenth},
		{name: "pushback of never, and failure", answers: []at{{3 * tenth, down}, {tenth / 2, peer.TrailersOnly(14, "down", pushbackKey, "-1")}},
			came: []time.Duration{0, 2 * tenth}, config: hedging(5, "0.2s", ""), took: 3 * tenth, entry: fault.HandlerStatus,
			code: codes.Unavailable, rung: fault.CallRetryPushback.ID, attempts: []string{"handler.status maybe", "handler.status maybe"}},
		{name: "pushback of a time", answers: []at{{tenth, peer.TrailersOnly(14, "down", pushbackKey, "500")}, {tenth, pong}}, came: []time.Duration{0, 6 * tenth}, took: 7 * tenth},
		{name: "throttled", config: hedging(5, "0.2s", `,"retryThrottling":{"maxTokens":2,"tokenRatio":0.1}`), answers: []at{{tenth, down}}, came: []time.Duration{0}, took: tenth,
			entry: fault.HandlerStatus, code: codes.Unavailable, rung: fault.CallRetryThrottled.ID},
		{name: "unprocessed", answers: []at{{tenth / 2, peer.RST(http2.ErrCodeRefusedStream)}, {tenth, pong}}, came: []time.Duration{0, tenth / 2}, took: 3 * tenth / 2},
		{name: "committed by headers", answers: []at{{tenth, begun}, {tenth, pong}}, came: []time.Duration{0}, took: 2 * tenth,
			entry: fault.HandlerStatus, code: codes.Unavailable, rung: fault.CallRetryCommitted.ID},
		{name: "deadline", answers: []at{never}, deadline: 3 * tenth, came: []time.Duration{0, 2 * tenth}, took: 3 * tenth, canceled: 2,
			entry: fault.CallDeadline, code: codes.DeadlineExceeded, attempts: []string{"call.deadline maybe", "call.deadline maybe"}},
	} {
		for form, do := range forms {
			t.Run(tc.name+"/"+form, func(t *testing.T) {
				if tc.config == "" {
					tc.config = hedging(3, "0.2s", "")
				}
				s := &parallel{answers: tc.answers}
				under(t, s.script, tc.config, Config{}, func(t *testing.T, c *Caller) {
					d := &donePicker{Picker: c.cfg.Channel}
					c.cfg.Channel = d
					ctx, cancel := context.Background(), context.CancelFunc(func() {})
					if tc.deadline > 0 {
						ctx, cancel = context.WithTimeout(ctx, tc.deadline)
					}
					defer cancel()
					s.began = time.Now()
					got, err := do(c, ctx)
					took := time.Since(s.began)
					time.Sleep(tenth / 2)
					synctest.Wait()
					s.mu.Lock()
					if !slices.Equal(s.came, tc.came) || len(s.canceled) != tc.canceled || d.picks != len(tc.came) || len(d.infos) != d.picks {
						t.Errorf("requests at %v, %d canceled, %d picks, %d times done; want %v, %d", s.came, len(s.canceled), d.picks, len(d.infos), tc.came, tc.canceled)
					}
					s.mu.Unlock()
					if took < tc.took || took > tc.took+30*time.Millisecond {
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
					rung := fault.ID("")
					for _, r := range f.Rungs() {
						rung = r.ID
					}
					var attempts []string
					for _, a := range f.Attempts() {
						attempts = append(attempts, fmt.Sprint(a.ID, " ", a.Processed))
					}
					if rung != tc.rung || !slices.Equal(attempts, tc.attempts) {
						t.Errorf("rung %q, attempts %q, want %q, %q", rung, attempts, tc.rung, tc.attempts)
					}
				})
			})
		}
	}
}

// Each hedge has its own number, credentials and stats; options see the winner.
func TestHedgedAttempts(t *testing.T) {
	for form, do := range forms {
		t.Run(form, func(t *testing.T) {
			s := &parallel{answers: []at{never, never, {tenth, peer.Body(peer.Message(text("pong")), "grpc-status", "0", "winner", "third")}}}
			seen, events, creds := &attemptStats{}, new(event.Buffer), &counting{}
			cfg := Config{Creds: []credentials.PerRPCCredentials{creds}, StatsHandlers: []stats.Handler{seen}, Sink: events}
			under(t, s.script, hedging(3, "0.2s", ""), cfg, func(t *testing.T, c *Caller) {
				var trailer metadata.MD
				var finished int
				got, err := do(c, context.Background(), grpc.Trailer(&trailer), grpc.OnFinish(func(err error) { finished++ }))
				if v := trailer.Get("winner"); err != nil || got != "pong" || len(v) != 1 || v[0] != "third" || finished != 1 {
					t.Fatalf("%q, trailer %v, finished %d times, %+v", got, trailer, finished, err)
				}
				synctest.Wait()
				s.mu.Lock()
				defer s.mu.Unlock()
				if want := []string{"", "1", "2"}; !slices.Equal(s.previous, want) || creds.n.Load() != 3 {
					t.Errorf("previous attempts %q, want %q; credentials asked %d times", s.previous, want, creds.n.Load())
				}
				seen.mu.Lock()
				defer seen.mu.Unlock()
				slices.Sort(seen.log)
				if want := "begin false,begin false,begin false,end,end call.cancelled,end call.cancelled,header,header,header"; strings.Join(seen.log, ",") != want {
					t.Errorf("stats %q, want %q", seen.log, want)
				}
				if n := len(event.All[event.CallRetried](events)); n != 2 {
					t.Errorf("%d events, want 2", n)
				}
			})
		})
	}
}

// The program may cancel, or close the client, while attempts run.
func TestHedgingIsInterrupted(t *testing.T) {
	for form, do := range forms {
		for _, way := range []string{"cancel", "close"} {
			t.Run(form+"/"+way, func(t *testing.T) {
				s := &parallel{answers: []at{never}}
				under(t, s.script, hedging(3, "0.2s", ""), Config{}, func(t *testing.T, c *Caller) {
					ctx, cancel := context.WithCancelCause(context.Background())
					defer cancel(nil)
					time.AfterFunc(5*tenth, func() {
						if way == "cancel" {
							cancel(errOwn)
							return
						}
						c.cfg.Channel.(interface{ Close() }).Close()
						c.Close()
					})
					_, err := do(c, ctx)
					want := fault.CallCancelled
					if way == "close" {
						want = fault.CallClosed
					}
					f, ok := fault.From(err)
					if !ok || f.Entry() != want || f.Code() != codes.Canceled || f.Processed() != fault.Maybe || errors.Is(err, errOwn) != (way == "cancel") {
						t.Fatalf("%+v", err)
					}
				})
			})
		}
	}
}

// A request that is not complete when its answer is awaited has one attempt at
// a time.
func TestHedgingNeedsTheWholeRequest(t *testing.T) {
	s := &parallel{answers: []at{never}}
	under(t, s.script, hedging(3, "0.2s", ""), Config{}, func(t *testing.T, c *Caller) {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		st, err := c.NewStream(ctx, &grpc.StreamDesc{ClientStreams: true, ServerStreams: true}, method)
		if err != nil {
			t.Fatal(err)
		}
		if err := st.SendMsg(wrapperspb.String("one")); err != nil {
			t.Fatal(err)
		}
		err = st.RecvMsg(new(wrapperspb.StringValue))
		s.mu.Lock()
		defer s.mu.Unlock()
		if !fault.CallDeadline.Is(err) || len(s.previous) != 1 {
			t.Errorf("after %d requests: %+v", len(s.previous), err)
		}
	})
}

// A request that is larger than what is kept is sent once, in either form.
func TestHedgingKeepsToTheBuffer(t *testing.T) {
	for _, form := range []string{"unary", "client stream"} {
		s := &parallel{answers: []at{{5 * tenth, pong}}}
		under(t, s.script, hedging(3, "0.1s", ""), Config{}, func(t *testing.T, c *Caller) {
			if got, err := forms[form](c, context.Background(), grpc.MaxRetryRPCBufferSize(5)); err != nil || got != "pong" {
				t.Fatalf("%s: %q, %+v", form, got, err)
			}
			s.mu.Lock()
			defer s.mu.Unlock()
			if len(s.previous) != 1 {
				t.Errorf("%s: %d requests, want 1", form, len(s.previous))
			}
		})
	}
}

// Without tokens time brings no hedge.
func TestThrottledHedges(t *testing.T) {
	s := &parallel{answers: []at{{0, down}, {5 * tenth, pong}}}
	under(t, s.script, hedging(5, "0.1s", `,"retryThrottling":{"maxTokens":2,"tokenRatio":0.1}`), Config{}, func(t *testing.T, c *Caller) {
		if _, err := forms["unary"](c, context.Background()); !fault.HandlerStatus.Is(err) {
			t.Fatal(err)
		}
		if got, err := forms["unary"](c, context.Background()); err != nil || got != "pong" {
			t.Fatalf("%q, %+v", got, err)
		}
		s.mu.Lock()
		defer s.mu.Unlock()
		if len(s.came) != 2 {
			t.Errorf("%d requests, want one for each call", len(s.came))
		}
	})
}

// Whoever waits for the answer first, and whatever the sender does meanwhile:
// one attempt's answer is delivered, and nobody waits for somebody who waits.
func TestHedgedStreamConcurrently(t *testing.T) {
	for _, second := range []time.Duration{tenth / 2, 2 * tenth} {
		t.Run(second.String(), func(t *testing.T) {
			s := &parallel{answers: []at{{2 * tenth, peer.OK(text("one"), text("one"))}, {second, peer.OK(text("two"), text("two"))}}}
			under(t, s.script, hedging(2, "0.1s", ""), Config{}, func(t *testing.T, c *Caller) {
				st, err := c.NewStream(context.Background(), &grpc.StreamDesc{ClientStreams: true, ServerStreams: true}, method)
				if err != nil {
					t.Fatal(err)
				}
				time.AfterFunc(tenth/10, func() {
					_ = st.SendMsg(wrapperspb.String("ping"))
					_ = st.CloseSend()
					if md, err := st.Header(); err != nil || md == nil {
						t.Errorf("header %v, %v", md, err)
					}
				})
				var got []string
				for { // it waits before the request is complete
					var m wrapperspb.StringValue
					if err := st.RecvMsg(&m); err == io.EOF {
						break
					} else if err != nil {
						t.Fatal(err)
					}
					got = append(got, m.Value)
				}
				if len(got) != 2 || got[0] != got[1] {
					t.Errorf("got %q, want two messages of one attempt", got)
				}
				synctest.Wait()
			})
		})
	}
}

// A sender that waits for window does not keep the receiver waiting.
func TestHedgedStreamBlockedSender(t *testing.T) {
	headers := func(p *peer.Peer, id uint32) error {
		if err := p.SendHeaders(id, false, ":status", "200", "content-type", "application/grpc"); err != nil {
			return err
		}
		return p.SendData(id, peer.Message(text("pong")), false)
	}
	under(t, peer.EachAtOnce(headers), hedging(2, "0.1s", ""), Config{}, func(t *testing.T, c *Caller) {
		for _, desc := range []*grpc.StreamDesc{{ClientStreams: true, ServerStreams: true}, {ServerStreams: true}} {
			ctx, cancel := context.WithCancel(context.Background())
			st, err := c.NewStream(ctx, desc, method)
			if err != nil {
				t.Fatal(err)
			}
			sent := make(chan error)
			go func() { sent <- st.SendMsg(wrapperspb.String(strings.Repeat("x", 1<<20))) }()
			synctest.Wait()
			var m wrapperspb.StringValue
			if err := st.RecvMsg(&m); err != nil || m.Value != "pong" {
				t.Errorf("%q, %v", m.Value, err)
			}
			cancel()
			<-sent
		}
	})
}
