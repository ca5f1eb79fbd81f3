// SPDX-License-Identifier: Apache-2.0

package call

import (
	"bytes"
	"context"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/faultline-rpc/faultline/event"
	"github.com/faultline-rpc/faultline/fault"
	"github.com/faultline-rpc/faultline/internal/peer"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// transcript is a golden trace: commands, and beneath each what happened in
// fake time, seen by the caller and by the server.
type transcript struct {
	c      *Caller
	server parallel
	mu     sync.Mutex
	out    bytes.Buffer // guarded by mu
	begin  time.Time    // guarded by mu: of the command
	lines  []string     // guarded by mu: since then
}

// note adds to the trace. Latencies of a millisecond are left out, so that what
// is shown is what the policy decided.
func (tr *transcript) note(format string, args ...any) {
	tr.mu.Lock()
	defer tr.mu.Unlock()
	tr.lines = append(tr.lines, fmt.Sprintf("%7v  %s", time.Since(tr.begin).Truncate(10*time.Millisecond), fmt.Sprintf(format, args...)))
}

// Record implements event.Sink.
func (tr *transcript) Record(e event.Event) {
	if e, ok := e.(event.CallRetried); ok {
		why := "the hedging delay has passed"
		if f, ok := fault.From(e.Err); ok {
			why = fmt.Sprint(f.ID(), " ", f.Code())
		}
		kind := ""
		if e.Transparent {
			kind = " (transparent)"
		}
		tr.note("client  attempt %d%s: %s", e.Attempt, kind, why)
	}
}

// serve answers requests with the answers, in turn.
func (tr *transcript) serve(answers ...at) {
	tr.server.mu.Lock()
	defer tr.server.mu.Unlock()
	tr.server.answers, tr.server.came = answers, nil
}

// do runs a command, and all that it sets off. It belongs in a bubble.
func (tr *transcript) do(command string, f func() (string, error)) {
	tr.mu.Lock()
	tr.begin, tr.lines = time.Now(), nil
	tr.mu.Unlock()
	got, err := f()
	if err == nil {
		tr.note("client  %q", got)
	} else {
		tr.note("client  %v", err)
	}
	time.Sleep(5 * time.Millisecond)
	synctest.Wait()
	tr.mu.Lock()
	defer tr.mu.Unlock()
	fmt.Fprintf(&tr.out, "> %s\n%s\n", command, strings.Join(tr.lines, "\n"))
	if f, ok := fault.From(err); ok {
		for _, r := range f.Rungs() {
			fmt.Fprintf(&tr.out, "         above: %s: %s\n", r.ID, r.Text)
		}
		for i, a := range f.Attempts() {
			fmt.Fprintf(&tr.out, "         attempt %d: %s %s, processed %s, after %v\n", i+1, a.ID, a.Code, a.Processed, a.Elapsed.Truncate(10*time.Millisecond))
		}
		fmt.Fprintf(&tr.out, "         processed: %s\n", f.Processed())
	}
}

// check compares with testdata/NAME.txt.
func (tr *transcript) check(t *testing.T, name string) {
	t.Helper()
	file := filepath.Join("testdata", name+".txt")
	if *update {
		if err := os.MkdirAll("testdata", 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, tr.out.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(want, tr.out.Bytes()) {
		t.Errorf("%s differs (go test -update writes it anew); got:\n%s", file, tr.out.Bytes())
	}
}

// play runs a transcript under a service config.
func play(t *testing.T, name, serviceConfig string, f func(tr *transcript)) {
	tr := &transcript{}
	script := func(p *peer.Peer) error { return tr.server.script(p) }
	under(t, script, serviceConfig, Config{Sink: tr}, func(t *testing.T, c *Caller) {
		tr.c = c
		tr.serve(at{0, pong})
		if _, err := forms["unary"](c, context.Background()); err != nil { // the connection is there
			t.Error(err)
		}
		tr.server.mu.Lock()
		tr.server.note = tr.note
		tr.server.mu.Unlock()
		f(tr)
	})
	tr.check(t, name)
}

func TestRetryTranscript(t *testing.T) {
	play(t, "retry", retrying(4, `,"retryThrottling":{"maxTokens":31,"tokenRatio":0.1}`), func(tr *transcript) {
		unary := func() (string, error) { return forms["unary"](tr.c, context.Background()) }
		tr.serve(at{0, down}, at{0, down}, at{0, pong})
		tr.do("call: twice unavailable, then pong", unary)
		tr.serve(at{0, down})
		tr.do("call: always unavailable", unary)
		tr.serve(at{0, peer.TrailersOnly(14, "down", pushbackKey, "250")}, at{0, down}, at{0, pong})
		tr.do("call: come back after 250 ms, unavailable, then pong", unary)
		tr.serve(at{0, down}, at{0, peer.TrailersOnly(14, "down", pushbackKey, "-1")})
		tr.do("call: unavailable, then do not come back", unary)
		tr.serve(at{0, down}, at{0, peer.TrailersOnly(5, "no such thing")})
		tr.do("call: unavailable, then not found", unary)
		tr.serve(at{0, down})
		tr.do("call with 2 s: always unavailable", func() (string, error) {
			ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
			defer cancel()
			return forms["unary"](tr.c, ctx)
		})
		tr.serve(at{0, down}, at{0, pong})
		tr.do("stream of three messages: unavailable, then pong", func() (string, error) {
			st, err := tr.c.NewStream(context.Background(), &grpc.StreamDesc{ClientStreams: true}, method)
			for _, m := range []string{"one", "two", "three"} {
				if err == nil {
					err = st.SendMsg(wrapperspb.String(m))
				}
			}
			var reply wrapperspb.StringValue
			if err == nil {
				_ = st.CloseSend()
				err = st.RecvMsg(&reply)
			}
			return reply.Value, err
		})
		tr.serve(at{0, down})
		tr.do("call: the tokens run out", unary)
	})
}

func TestHedgingTranscript(t *testing.T) {
	play(t, "hedging", hedging(3, "0.1s", `,"retryThrottling":{"maxTokens":20,"tokenRatio":0.1}`), func(tr *transcript) {
		unary := func() (string, error) { return forms["unary"](tr.c, context.Background()) }
		tr.serve(at{250 * time.Millisecond, pong}, at{60 * time.Millisecond, pong})
		tr.do("call: the first server is slow, the second is not", unary)
		tr.serve(at{30 * time.Millisecond, down}, at{30 * time.Millisecond, down}, at{30 * time.Millisecond, pong})
		tr.do("call: failures bring the next attempt at once", unary)
		tr.serve(at{time.Hour, pong}, at{30 * time.Millisecond, peer.TrailersOnly(5, "no such thing")})
		tr.do("call: a fatal status ends all", unary)
		tr.serve(at{time.Hour, pong}, at{time.Hour, pong}, at{50 * time.Millisecond, pong})
		tr.do("server stream: the third one answers", func() (string, error) { return forms["server stream"](tr.c, context.Background()) })
		tr.serve(at{150 * time.Millisecond, down})
		tr.do("call: all fail", unary)
		tr.serve(at{time.Hour, pong})
		tr.do("call with 150 ms: no one answers", func() (string, error) {
			ctx, cancel := context.WithTimeout(context.Background(), 150*time.Millisecond)
			defer cancel()
			return forms["unary"](tr.c, ctx)
		})
	})
}
