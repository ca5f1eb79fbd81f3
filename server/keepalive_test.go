// SPDX-License-Identifier: Apache-2.0

package server

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"math"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/net/http2"
	"google.golang.org/grpc"
	testpb "google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/keepalive"

	"github.com/faultline-rpc/faultline/event"
	"github.com/faultline-rpc/faultline/fault"
	"github.com/faultline-rpc/faultline/internal/peer"
)

var update = flag.Bool("update", false, "write the golden files anew")

// lives are the ways in which a connection's life goes, as its client sees them.
var lives = []struct {
	name string
	says string
	cfg  Config
	opts peer.Options
	time time.Duration // after which the client leaves
	does []act         // the client
}{
	{"answered", "Time 40s, Timeout 5s: the client answers", Config{Keepalive: keepalive.ServerParameters{Time: 40 * time.Second, Timeout: 5 * time.Second}},
		peer.Options{}, 100 * time.Second, nil},
	{"silent", "Time 40s, Timeout 5s: the client does not answer, a handler runs", Config{Keepalive: keepalive.ServerParameters{Time: 40 * time.Second, Timeout: 5 * time.Second}},
		peer.Options{NoPingAck: true}, time.Minute, []act{{0, holdOne}}},
	{"idle", "MaxConnectionIdle 80s: a call after 33s", Config{Keepalive: keepalive.ServerParameters{MaxConnectionIdle: 80 * time.Second}},
		peer.Options{}, 5 * time.Minute, []act{{33 * time.Second, func(p *peer.T) { p.SendRequest(1, false, unaryCall); p.SendData(1, peer.Message(nil), true) }}}},
	{"old", "MaxConnectionAge 100s (spread by 10s), MaxConnectionAgeGrace 7s: a handler and an upload outlive them", Config{Keepalive: keepalive.ServerParameters{MaxConnectionAge: 100 * time.Second, MaxConnectionAgeGrace: 7 * time.Second}},
		peer.Options{}, 5 * time.Minute, []act{{0, holdOne}, {0, func(p *peer.T) { p.SendRequest(3, false, unaryCall) }}}},
	{"old and done", "MaxConnectionAge 100s, no end of the grace: nothing runs", Config{Keepalive: keepalive.ServerParameters{MaxConnectionAge: 100 * time.Second}},
		peer.Options{}, 5 * time.Minute, nil},
	{"pings", "MinTime 10s, PermitWithoutStream: pings every 4s while a handler runs", Config{Enforcement: keepalive.EnforcementPolicy{MinTime: 10 * time.Second, PermitWithoutStream: true}},
		peer.Options{}, time.Minute, append([]act{{0, holdOne}}, knocks(4, 4*time.Second)...)},
	{"pings without a stream", "MinTime 10s: pings every 11s without a stream", Config{Enforcement: keepalive.EnforcementPolicy{MinTime: 10 * time.Second}},
		peer.Options{}, time.Minute, knocks(4, 11*time.Second)},
	{"pings with a stream", "MinTime 10s: pings every 11s while a handler runs", Config{Enforcement: keepalive.EnforcementPolicy{MinTime: 10 * time.Second}},
		peer.Options{}, time.Minute, append([]act{{0, holdOne}}, knocks(4, 11*time.Second)...)},
}

// act is what a client does some time after its last act.
type act struct {
	after time.Duration
	do    func(p *peer.T)
}

func holdOne(p *peer.T) { begin(p, 1) }

func knocks(n int, every time.Duration) (all []act) {
	for i := range n {
		all = append(all, act{every, func(p *peer.T) { p.SendPing(false, [8]byte{byte(i)}) }})
	}
	return all
}

// TestLivesOfConnections holds what a client sees against
// testdata/lives.golden, which go test -update writes anew.
func TestLivesOfConnections(t *testing.T) {
	var all strings.Builder
	for _, life := range lives {
		synctest.Test(t, func(t *testing.T) {
			fmt.Fprintf(&all, "# %s: %s\n", life.name, life.says)
			causes := make(chan error, 1)
			r := newRig(t, life.cfg, &testService{empty: func(c context.Context, _ *testpb.Empty) (*testpb.Empty, error) {
				<-c.Done()
				causes <- context.Cause(c)
				return nil, c.Err()
			}})
			start := time.Now()
			o := life.opts
			o.Interleave, o.Timeout, o.Skip = true, time.Hour, []http2.FrameType{http2.FrameSettings}
			p := r.peer(o)
			seen := make(chan string, 100)
			go func() {
				defer close(seen)
				var age time.Duration
				for {
					f, err := p.Peer.Next()
					at := time.Since(start).String()
					if err == nil && f.Kind == http2.FrameWindowUpdate {
						continue
					}
					if life.cfg.Keepalive.MaxConnectionAge > 0 { // it is jittered: the first GOAWAY tells it
						if age == 0 {
							age = time.Since(start)
						}
						at = fmt.Sprint("age+", time.Since(start)-age)
						if age < 90*time.Second || age >= 110*time.Second {
							t.Errorf("%s: retired at the age of %v", life.name, age)
						}
					}
					if err != nil {
						if p.Ended(err) {
							seen <- fmt.Sprintf("%6s <- (end)", at)
						}
						return
					}
					seen <- fmt.Sprintf("%6s <- %v", at, f)
				}
			}()
			left := life.time
			for _, a := range life.does {
				time.Sleep(a.after)
				a.do(p)
				left -= a.after
			}
			time.Sleep(left)
			p.Close()
			for line := range seen {
				fmt.Fprintln(&all, line)
			}
			synctest.Wait()
			select {
			case err := <-causes:
				f, _ := fault.From(err)
				fmt.Fprintf(&all, "the handler's context: %s %s\n", f.ID(), f.Processed())
			default:
			}
			for _, e := range r.events.all() {
				if e, ok := e.(event.CallRefused); ok {
					f, _ := fault.From(e.Err)
					fmt.Fprintf(&all, "refused: stream %d %s %s\n", e.Stream, f.ID(), f.Processed())
				}
			}
			fmt.Fprintln(&all)
		})
	}
	const file = "testdata/lives.golden"
	if *update {
		if err := os.MkdirAll("testdata", 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(all.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if all.String() != string(want) {
		t.Errorf("the lives differ from %s (go test -update writes it anew):\n%s", file, all.String())
	}
}

// TestBDPPingsAreTolerated has grpc-go's client measure the connection: it
// sends pings as DATA arrives, which an enforcer must not take ill.
func TestBDPPingsAreTolerated(t *testing.T) {
	r := newRig(t, Config{Enforcement: keepalive.EnforcementPolicy{MinTime: math.MaxInt64}}, &testService{
		output: func(_ *testpb.StreamingOutputCallRequest, s testpb.TestService_StreamingOutputCallServer) error {
			for range 500 {
				if err := s.Send(&testpb.StreamingOutputCallResponse{Payload: &testpb.Payload{Body: make([]byte, 32<<10)}}); err != nil {
					return err
				}
			}
			return nil
		},
	})
	c := r.stub()
	for range 3 {
		s, err := c.StreamingOutputCall(ctx(t), &testpb.StreamingOutputCallRequest{}, grpc.WaitForReady(true))
		if err != nil {
			t.Fatal(err)
		}
		for err == nil {
			_, err = s.Recv()
		}
		if !errors.Is(err, io.EOF) {
			t.Fatal(err)
		}
	}
}
