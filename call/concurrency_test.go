// SPDX-License-Identifier: Apache-2.0

package call

import (
	"context"
	"io"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/net/http2"
	"google.golang.org/grpc"
	"google.golang.org/grpc/stats"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/faultline-rpc/faultline/channel"
	"github.com/faultline-rpc/faultline/fault"
	"github.com/faultline-rpc/faultline/internal/peer"
	"github.com/faultline-rpc/faultline/internal/simnet"
)

var bidi = &grpc.StreamDesc{ClientStreams: true, ServerStreams: true}

// A receiver that waits since before the request was complete, while another
// goroutine awaits the header and makes attempts: who learns of the end first
// does not take the call out of its hands.
func TestReceiverBesideHedging(t *testing.T) {
	seen := &ends{}
	s := &parallel{answers: []at{{tenth, peer.TrailersOnly(0, "")}}}
	under(t, s.script, hedging(3, "0.2s", ""), Config{StatsHandlers: []stats.Handler{seen}}, func(t *testing.T, c *Caller) {
		d := &donePicker{Picker: c.cfg.Channel}
		c.cfg.Channel = d
		finished := 0
		st, err := c.NewStream(context.Background(), bidi, method, grpc.OnFinish(func(error) { finished++ }))
		if err != nil {
			t.Fatal(err)
		}
		received := make(chan error)
		go func() { received <- st.RecvMsg(new(wrapperspb.StringValue)) }()
		synctest.Wait()
		_ = st.CloseSend()
		if md, err := st.Header(); md != nil || err != nil {
			t.Errorf("header %v, %v", md, err)
		}
		if err := <-received; err != io.EOF {
			t.Errorf("received %v, want io.EOF", err)
		}
		if finished != 1 || d.picks != 1 || len(d.infos) != 1 || len(seen.errs) != 1 {
			t.Errorf("%d attempts: OnFinish %d, Done %d, End %d times", d.picks, finished, len(d.infos), len(seen.errs))
		}
	})
}

// A sender that finds its attempt refused makes another while the receiver
// begins to wait for an answer.
func TestReceiverBesideRepetition(t *testing.T) {
	var n atomic.Int32
	l := simnet.Listen(simnet.Options{})
	srv := peer.Serve(l, peer.EachAtOnce(func(p *peer.Peer, id uint32) error {
		if n.Add(1)%2 == 1 {
			return peer.RST(http2.ErrCodeRefusedStream)(p, id)
		}
		return peer.OK(text("pong"))(p, id)
	}))
	c, ch := client(t, l.Dial, Config{})
	for range 300 {
		st, err := c.NewStream(context.Background(), bidi, method)
		if err != nil {
			t.Fatal(err)
		}
		var wg sync.WaitGroup
		wg.Go(func() {
			for range 4 {
				_ = st.SendMsg(wrapperspb.String("ping"))
			}
		})
		var m wrapperspb.StringValue
		if err := st.RecvMsg(&m); err != nil || m.Value != "pong" {
			t.Errorf("%q, %+v", m.Value, err)
		}
		if err := st.RecvMsg(&m); err != io.EOF {
			t.Errorf("%v, want io.EOF", err)
		}
		wg.Wait()
	}
	ch.Close()
	_ = srv.Close()
}

// hooked is a context whose Done is a moment to do something, and that counts
// who watches over it.
type hooked struct {
	context.Context
	hook     func()
	done     chan struct{}
	watchers int
}

func (h *hooked) Done() <-chan struct{} {
	h.hook()
	return h.done
}

func (h *hooked) AfterFunc(func()) func() bool {
	h.watchers++
	return func() bool { h.watchers--; return true }
}

// A client that is closed while a stream is being opened leaves nothing behind
// that waits for the end of its context.
func TestCloseAsStreamOpens(t *testing.T) {
	against(t, peer.EachAtOnce(peer.Silence()), Config{}, func(t *testing.T, c *Caller) {
		ctx := &hooked{Context: context.Background(), done: make(chan struct{})}
		closed := false
		ctx.hook = func() {
			if c.live.first != nil && !closed { // it is open, and nobody watches over ctx yet
				closed = true
				c.Close()
			}
		}
		st, err := c.NewStream(ctx, bidi, method)
		if err != nil {
			t.Fatal(err)
		}
		if err := st.RecvMsg(nil); !fault.CallClosed.Is(err) || !closed {
			t.Errorf("%+v", err)
		}
		if ctx.watchers != 0 {
			t.Errorf("%d watch over the context of a stream that is over", ctx.watchers)
		}
	})
}

// What a last attempt waited for that found no connection is its own.
func TestLastAttemptIsBilled(t *testing.T) {
	for form, do := range forms {
		t.Run(form, func(t *testing.T) {
			against(t, peer.EachAtOnce(peer.RST(http2.ErrCodeRefusedStream)), Config{}, func(t *testing.T, c *Caller) {
				l, picks := c.cfg.Channel, 0
				c.cfg.Channel = pickFunc(func(ctx context.Context, m string, wait bool) (channel.Picked, error) {
					if picks++; picks == 1 {
						return l.Pick(ctx, m, wait)
					}
					time.Sleep(2 * time.Second)
					return channel.Picked{}, fault.PickNoReady.New(fault.Args{Side: fault.Local, Processed: fault.No})
				})
				_, err := do(c, context.Background())
				f, ok := fault.From(err)
				if !ok || f.Entry() != fault.PickNoReady || f.Processed() != fault.No || f.Ledger() == nil {
					t.Fatalf("%+v", err)
				}
				for _, p := range f.Ledger().Phases {
					if p.Spent >= time.Second && (p.Name != fault.PhasePick || p.Attempt != 2) {
						t.Errorf("%+v", p)
					}
				}
			})
		})
	}
}
