// SPDX-License-Identifier: Apache-2.0

package faultline_test

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	testgrpc "google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/stats"

	"github.com/faultline-rpc/faultline"
	"github.com/faultline-rpc/faultline/event"
	"github.com/faultline-rpc/faultline/internal/peer"
	"github.com/faultline-rpc/faultline/internal/simnet"
	"github.com/faultline-rpc/faultline/status"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// secret is in all metadata, tokens and messages of these tests, and never in a
// line of a log.
const secret = "hush-hush-9f3c"

const logged = "shop:443"

// lines are what one side logged.
type lines struct {
	mu  sync.Mutex
	out bytes.Buffer // guarded by mu
}

// Write implements io.Writer.
func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.out.Write(p)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.out.String()
}

// inOrder is what was logged of calls, then of connections: other goroutines
// tell of these, and may come first.
func (l *lines) inOrder() string {
	all := strings.SplitAfter(l.String(), "\n")
	ofConnection := func(line string) int {
		return strings.Count(line, " connection\" role=") + strings.Count(line, `msg="a connection `)
	}
	slices.SortStableFunc(all, func(a, b string) int { return ofConnection(a) - ofConnection(b) })
	return strings.Join(all, "")
}

// logger writes to l, without the time.
func (l *lines) logger(level slog.Level) *slog.Logger {
	return slog.New(slog.NewTextHandler(l, &slog.HandlerOptions{Level: level, ReplaceAttr: func(g []string, a slog.Attr) slog.Attr {
		if len(g) == 0 && a.Key == slog.TimeKey || a.Key == "stack" {
			return slog.Attr{}
		}
		return a
	}}))
}

// ends are a client and a server that write a log each, in a bubble.
type ends struct {
	*testing.T
	net            *simnet.Network
	client, server lines
	level          slog.Level
	cc             *faultline.ClientConn
	s              *faultline.Server
}

func newEnds(t *testing.T) *ends {
	return &ends{T: t, net: simnet.NewNetwork(simnet.Options{Latency: time.Millisecond}), level: slog.LevelDebug}
}

func (e *ends) listen() net.Listener {
	e.Helper()
	l, err := e.net.Listen(logged)
	if err != nil {
		e.Fatal(err)
	}
	return l
}

func (e *ends) serve(svc testgrpc.TestServiceServer, opts ...faultline.ServerOption) {
	l := e.listen()
	e.s = faultline.NewServer(append([]faultline.ServerOption{faultline.Logger(e.server.logger(e.level))}, opts...)...)
	testgrpc.RegisterTestServiceServer(e.s, svc)
	done := make(chan struct{})
	go func() { defer close(done); _ = e.s.Serve(l) }()
	e.Cleanup(func() { e.s.Stop(); <-done })
}

func (e *ends) script(s peer.Script) {
	svc := peer.Serve(e.listen(), s)
	e.Cleanup(func() { _ = svc.Close() })
}

func (e *ends) dial(opts ...faultline.DialOption) testgrpc.TestServiceClient {
	e.Helper()
	cc, err := faultline.NewClient("passthrough:///"+logged, append([]faultline.DialOption{
		faultline.WithTransportCredentials(insecure.NewCredentials()), faultline.WithContextDialer(e.net.Dial),
		faultline.WithLogger(e.client.logger(e.level)), faultline.WithPerRPCCredentials(bearer(secret)),
	}, opts...)...)
	if err != nil {
		e.Fatal(err)
	}
	e.cc = cc
	e.Cleanup(func() { _ = cc.Close() })
	return testgrpc.NewTestServiceClient(cc)
}

// raw connects a scripted client.
func (e *ends) raw() *peer.T {
	e.Helper()
	c, err := e.net.Dial(context.Background(), logged)
	if err != nil {
		e.Fatal(err)
	}
	p := peer.Client(e, c)
	p.Handshake()
	return p
}

func within(d time.Duration) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), d)
	context.AfterFunc(ctx, cancel)
	return metadata.AppendToOutgoingContext(ctx, "authorization", secret, "x-name", secret)
}

func hushed() *testgrpc.SimpleRequest {
	return &testgrpc.SimpleRequest{Payload: &testgrpc.Payload{Body: []byte(secret)}}
}

// What differs from run to run: references, and what a client says last.
var passing = []struct {
	what *regexp.Regexp
	as   string
}{
	{regexp.MustCompile(`reference(=| )[0-9a-f]{16}`), "reference${1}REFERENCE"},
	{regexp.MustCompile(` after GOAWAY NO_ERROR, last stream 0, debug data \\"drained\\"`), ""},
}

// TestJournal is what both ends log of calls, in fake time.
func TestJournal(t *testing.T) {
	var out strings.Builder
	for _, s := range journalScenes() {
		t.Run(s.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				e := newEnds(t)
				s.play(e)
				time.Sleep(3 * time.Second) // what was set off comes to its end
				synctest.Wait()
				client, server := e.client.inOrder(), e.server.inOrder()
				fmt.Fprintf(&out, "## %s\n\nclient:\n%s\nserver:\n%s\n", s.name, client, server)
				if strings.Contains(client+server, secret) {
					t.Errorf("the log holds metadata, a token or a message:\n%s%s", client, server)
				}
			})
		})
	}
	got := out.String()
	for _, p := range passing {
		got = p.what.ReplaceAllString(got, p.as)
	}
	path := filepath.Join("testdata", "journal.txt")
	if *update {
		if err := os.MkdirAll("testdata", 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	w, g := strings.Split(strings.ReplaceAll(string(want), "\r\n", "\n"), "\n"), strings.Split(got, "\n")
	for i := range max(len(w), len(g)) {
		if i >= len(w) || i >= len(g) || w[i] != g[i] {
			t.Fatalf("%s differs from line %d on (run with -update to accept):\n%s", path, i+1, strings.Join(g[min(i, len(g)):min(i+3, len(g))], "\n"))
		}
	}
}

// count is a log handler that counts the lines of calls.
type count struct {
	slog.Handler
	mu    sync.Mutex
	lines map[string]int // guarded by mu: by stream, for a server
}

func (c *count) Enabled(context.Context, slog.Level) bool { return true }

func (c *count) Handle(_ context.Context, r slog.Record) error {
	if r.Message != "finished call" {
		return nil
	}
	key := ""
	r.Attrs(func(a slog.Attr) bool {
		if a.Key == "peer" || a.Key == "stream" {
			key += a.Value.String() + " "
		}
		return true
	})
	c.mu.Lock()
	defer c.mu.Unlock()
	c.lines[key]++
	return nil
}

// TestOneLineForEachCall: whatever ends a call, and whoever else does at the
// same time, either end has one line for it.
func TestOneLineForEachCall(t *testing.T) {
	const calls = 400
	for _, stop := range []func(*faultline.Server){(*faultline.Server).Stop, (*faultline.Server).GracefulStop} {
		synctest.Test(t, func(t *testing.T) {
			client, server := &count{lines: map[string]int{}}, &count{lines: map[string]int{}}
			e := newEnds(t)
			svc := waits(5 * time.Millisecond)
			svc.stream = func(s grpc.ServerStream) error {
				for i := range 4 {
					time.Sleep(time.Duration(i) * time.Millisecond)
					if err := s.SendMsg(&testgrpc.StreamingOutputCallResponse{}); err != nil {
						return err
					}
				}
				return nil
			}
			events := &event.Buffer{Limit: 1 << 16}
			e.serve(svc, faultline.Logger(slog.New(server)), faultline.EventSink(events), faultline.MaxHandlers(60))
			c := e.dial(faultline.WithLogger(slog.New(client)))
			var wg sync.WaitGroup
			for i := range calls {
				wg.Go(func() {
					time.Sleep(time.Duration(i/40) * time.Millisecond)
					ctx, cancel := context.WithTimeout(context.Background(), time.Duration(1+i%12)*time.Millisecond)
					defer cancel()
					switch i % 4 {
					case 0:
						call(c, ctx)
					case 1:
						readAll(c, ctx)
					case 2: // forgotten
						_, _ = c.FullDuplexCall(ctx)
						<-ctx.Done()
					case 3: // canceled while it is read
						time.AfterFunc(time.Duration(i%7)*time.Millisecond, cancel)
						readAll(c, ctx)
					}
				})
			}
			time.Sleep(8 * time.Millisecond)
			stop(e.s)
			wg.Wait()
			time.Sleep(time.Second)
			synctest.Wait()
			got := 0
			for _, n := range client.lines {
				got += n
			}
			if got != calls {
				t.Errorf("the client has %d lines for %d calls", got, calls)
			}
			for stream, n := range server.lines {
				if n != 1 {
					t.Errorf("the server has %d lines for %s", n, stream)
				}
			}
			opened := len(event.All[event.StreamOpened](events))
			if len(server.lines) != opened || opened < calls/8 {
				t.Errorf("the server has lines for %d of %d streams, want all of many", len(server.lines), opened)
			}
		})
	}
}

// traceKey is what a tracing library puts into contexts.
type traceKey struct{}

// tracer tags calls as tracing libraries do.
type tracer struct{ side string }

func (t tracer) TagRPC(ctx context.Context, i *stats.RPCTagInfo) context.Context {
	return context.WithValue(ctx, traceKey{}, t.side+"-trace")
}
func (tracer) HandleRPC(context.Context, stats.RPCStats)                         {}
func (tracer) TagConn(ctx context.Context, _ *stats.ConnTagInfo) context.Context { return ctx }
func (tracer) HandleConn(context.Context, stats.ConnStats)                       {}

// tracedLog is a log handler that adds the trace of the context.
type tracedLog struct{ slog.Handler }

func (h tracedLog) Handle(ctx context.Context, r slog.Record) error {
	r.AddAttrs(slog.Any("trace", ctx.Value(traceKey{})))
	return h.Handler.Handle(ctx, r)
}

// TestJournalHasTheTrace: a log handler finds what stats handlers put into the
// call's context, at both ends, in the line and in that of a masked error.
func TestJournalHasTheTrace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := newEnds(t)
		with := func(l *lines) *slog.Logger { return slog.New(tracedLog{l.logger(slog.LevelDebug).Handler()}) }
		e.serve(fails(errors.New("sql: database is closed")), faultline.Logger(with(&e.server)), faultline.StatsHandler(tracer{"server"}))
		call(e.dial(faultline.WithLogger(with(&e.client)), faultline.WithStatsHandler(tracer{"client"})), within(time.Second))
		synctest.Wait()
		if got := e.client.String(); strings.Count(got, "\n") != 1 || !strings.Contains(got, "trace=client-trace") {
			t.Errorf("the client logged %s", got)
		}
		if got := e.server.String(); strings.Count(got, "\n") != 2 || strings.Count(got, "trace=server-trace") != 2 {
			t.Errorf("the server logged %s", got)
		}
	})
}

// TestNothingIsLoggedUnasked: without the options a client says nothing, and a
// server only what its callers must not see.
func TestNothingIsLoggedUnasked(t *testing.T) {
	var l lines
	before := slog.Default()
	slog.SetDefault(l.logger(slog.LevelDebug))
	defer slog.SetDefault(before)
	synctest.Test(t, func(t *testing.T) {
		e := newEnds(t)
		e.serve(fails(status.Error(codes.Internal, "no tea")), faultline.Logger(nil))
		c := e.dial(faultline.WithLogger(nil))
		call(c, within(time.Second))
		e.cc.Close()
		_ = e.net.SetHealth(logged, simnet.Refused)
		call(e.dial(faultline.WithLogger(nil)), within(time.Second))
	})
	if got := l.String(); got != "" {
		t.Errorf("the default logger got %s", got)
	}
	synctest.Test(t, func(t *testing.T) {
		e := newEnds(t)
		e.serve(fails(errors.New("sql: database is closed")), faultline.Logger(nil))
		call(e.dial(faultline.WithLogger(nil)), within(time.Second))
	})
	if got := l.String(); strings.Count(got, "\n") != 1 || !strings.Contains(got, `error="sql: database is closed"`) {
		t.Errorf("the default logger got %s", got)
	}
}
