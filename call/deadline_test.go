// SPDX-License-Identifier: Apache-2.0

package call

import (
	"bytes"
	"context"
	"errors"
	"math"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/net/http2"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/faultline-rpc/faultline/fault"
	"github.com/faultline-rpc/faultline/internal/peer"
	"github.com/faultline-rpc/faultline/internal/simnet"
)

// A deadline's fault says what was waited for, and how the time was spent.
// A deadline at the end of time is none that has passed.
func TestLargestDeadline(t *testing.T) {
	for form, do := range forms {
		t.Run(form, func(t *testing.T) {
			against(t, peer.Each(peer.OK(text("pong"))), Config{}, func(t *testing.T, c *Caller) {
				ctx, cancel := context.WithTimeout(context.Background(), math.MaxInt64)
				defer cancel()
				if got, err := do(c, ctx); err != nil || got != "pong" {
					t.Errorf("%q, %+v", got, err)
				}
			})
		})
	}
}

func TestDeadlineWhileConnecting(t *testing.T) {
	for form, do := range forms {
		t.Run(form, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c, ch := client(t, func(ctx context.Context, _ string) (net.Conn, error) {
					<-ctx.Done()
					return nil, ctx.Err()
				}, Config{})
				ctx, cancel := context.WithTimeout(context.Background(), time.Second)
				defer cancel()
				_, err := do(c, ctx)
				(&circumstance{entry: fault.CallDeadline, code: codes.DeadlineExceeded, side: fault.Local, processed: fault.No,
					waiting: "connect", is: []error{context.DeadlineExceeded}}).judge(t, err)
				wantLedger(t, err, time.Second, "connect", time.Second)
				ch.Close()
			})
		})
	}
}

// The failure beneath is a rung, and can be found by errors.Is.
func TestDeadlineWithFailuresBeneath(t *testing.T) {
	errDial := errors.New("cable cut")
	synctest.Test(t, func(t *testing.T) {
		c, ch := client(t, func(context.Context, string) (net.Conn, error) { return nil, errDial }, Config{})
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		_, err := forms["unary"](c, ctx, grpc.WaitForReady(true))
		f, _ := fault.From(err)
		if !fault.CallDeadline.Is(err) || !errors.Is(err, errDial) || !errors.Is(err, context.DeadlineExceeded) {
			t.Fatalf("%+v", err)
		}
		if r := f.Rungs(); len(r) != 1 || r[0].ID != fault.DialFailed.ID || !strings.Contains(r[0].Text, "cable cut") {
			t.Errorf("rungs %v, want dial.failed", r)
		}
		if _, err = forms["unary"](c, ctx); !fault.CallDeadlinePast.Is(err) {
			t.Errorf("after the deadline: %v", err)
		}
		if _, err = forms["unary"](c, context.Background()); !fault.DialFailed.Is(err) {
			t.Errorf("without wait-for-ready: %v, want dial.failed", err)
		}
		ch.Close()
	})
}

func wantLedger(t *testing.T, err error, budget time.Duration, last string, spent time.Duration) {
	t.Helper()
	f, _ := fault.From(err)
	l := f.Ledger()
	if l == nil || l.Budget != budget || len(l.Phases) == 0 {
		t.Fatalf("ledger %+v", l)
	}
	if p := l.Phases[len(l.Phases)-1]; p.Name != last || p.Spent != spent {
		t.Errorf("the last phase is %+v, want %s %v", p, last, spent)
	}
	sum := time.Duration(0)
	for _, p := range l.Phases {
		sum += p.Spent
	}
	if sum != budget {
		t.Errorf("the phases %v add up to %v, want %v", l.Phases, sum, budget)
	}
}

// serveWith is against with settings of the server's, and options.
func serveWith(t *testing.T, s peer.Script, o peer.Options, f func(t *testing.T, c *Caller)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		l := simnet.Listen(simnet.Options{})
		srv := peer.Serve(l, s, o)
		c, ch := client(t, l.Dial, Config{})
		f(t, c)
		ch.Close()
		synctest.Wait()
		_ = srv.Close()
	})
}

func TestDeadlineWaitingForFreeStream(t *testing.T) {
	one := peer.Options{Settings: []http2.Setting{{ID: http2.SettingMaxConcurrentStreams, Val: 1}}}
	for form, do := range forms {
		t.Run(form, func(t *testing.T) {
			serveWith(t, peer.Each(peer.Silence()), one, func(t *testing.T, c *Caller) {
				occupied, release := context.WithCancel(context.Background())
				defer release()
				if _, err := c.NewStream(occupied, &grpc.StreamDesc{ClientStreams: true}, method); err != nil {
					t.Fatal(err)
				}
				ctx, cancel := context.WithTimeout(context.Background(), time.Second)
				defer cancel()
				_, err := do(c, ctx)
				(&circumstance{entry: fault.CallDeadline, code: codes.DeadlineExceeded, side: fault.Local, processed: fault.No,
					waiting: fault.PhaseQuota, is: []error{context.DeadlineExceeded}}).judge(t, err)
				wantLedger(t, err, time.Second, fault.PhaseQuota, time.Second)
			})
		})
	}
}

func TestDeadlineWaitingForWindow(t *testing.T) {
	big := wrapperspb.Bytes(bytes.Repeat([]byte("x"), 100_000))
	for _, form := range []string{"unary", "stream"} {
		t.Run(form, func(t *testing.T) {
			serveWith(t, peer.Each(peer.Silence()), peer.Options{NoCredit: true}, func(t *testing.T, c *Caller) {
				ctx, cancel := context.WithTimeout(context.Background(), time.Second)
				defer cancel()
				var err error
				if form == "unary" {
					err = c.Invoke(ctx, method, big, new(wrapperspb.BytesValue))
				} else {
					st, e := c.NewStream(ctx, &grpc.StreamDesc{ClientStreams: true}, method)
					if e != nil {
						t.Fatal(e)
					}
					if e := st.SendMsg(big); e == nil || e.Error() != "EOF" {
						t.Fatalf("SendMsg: %v, want io.EOF", e)
					}
					err = st.RecvMsg(new(wrapperspb.BytesValue))
				}
				f, _ := fault.From(err)
				// Whether the sender or the watch over the context notices first is chance.
				if w := f.Evidence().Waiting; w != fault.PhaseSend && (form == "unary" || w != fault.PhaseHeaders) {
					t.Errorf("waited for %q", w)
				}
				(&circumstance{entry: fault.CallDeadline, code: codes.DeadlineExceeded, side: fault.Local, processed: fault.Maybe,
					is: []error{context.DeadlineExceeded}}).judge(t, err)
			})
		})
	}
}

// The deadline is sent, rounded as grpc-timeout asks for.
func TestTimeoutIsSent(t *testing.T) {
	got := make(chan string, 2)
	answer := peer.OK(text("pong"))
	s := func(p *peer.Peer) error {
		_, err := p.Handshake()
		for err == nil {
			var f peer.Frame
			if f, err = p.Next(); err != nil {
				break
			}
			if f.Kind == http2.FrameHeaders {
				got <- f.Get("grpc-timeout")
			}
			if f.End {
				err = answer(p, f.Stream)
			}
		}
		if p.Ended(err) {
			return nil
		}
		return err
	}
	serveWith(t, s, peer.Options{}, func(t *testing.T, c *Caller) {
		ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
		defer cancel()
		if _, err := forms["unary"](c, ctx); err != nil {
			t.Fatal(err)
		}
		if _, err := forms["unary"](c, context.Background()); err != nil {
			t.Fatal(err)
		}
		if a, b := <-got, <-got; a != "2000000u" && a != "2S" && a != "2000m" || b != "" {
			t.Errorf("grpc-timeout %q and %q, want 2 s and none", a, b)
		}
	})
}
