// SPDX-License-Identifier: Apache-2.0

package call

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/stats"

	"github.com/faultline-rpc/faultline/channel"
	"github.com/faultline-rpc/faultline/fault"
	"github.com/faultline-rpc/faultline/internal/peer"
)

// ends counts what stats handlers learn of the end.
type ends struct{ errs []error }

func (*ends) TagRPC(ctx context.Context, _ *stats.RPCTagInfo) context.Context   { return ctx }
func (*ends) TagConn(ctx context.Context, _ *stats.ConnTagInfo) context.Context { return ctx }
func (*ends) HandleConn(context.Context, stats.ConnStats)                       {}

func (e *ends) HandleRPC(_ context.Context, s stats.RPCStats) {
	if s, ok := s.(*stats.End); ok {
		e.errs = append(e.errs, s.Error)
	}
}

// Streams that their programs have forgotten end with the client: everybody
// who asked learns of it.
func TestCloseEndsForgottenStreams(t *testing.T) {
	for name, answer := range map[string]peer.Answer{
		"silent":  peer.Silence(),
		"ended":   peer.TrailersOnly(0, ""),
		"a reply": peer.MissingTrailers(text("pong")),
	} {
		want, code, processed := fault.CallClosed, codes.Canceled, fault.Maybe
		if name == "a reply" {
			want, code, processed = fault.WireTrailersMissing, codes.Internal, fault.Yes
		}
		t.Run(name, func(t *testing.T) {
			seen := &ends{}
			against(t, peer.EachAtOnce(answer), Config{StatsHandlers: []stats.Handler{seen}}, func(t *testing.T, c *Caller) {
				d := &donePicker{Picker: c.cfg.Channel}
				c.cfg.Channel = d
				var finished []error
				const n = 3
				for range n {
					st, err := c.NewStream(context.Background(), &grpc.StreamDesc{ClientStreams: true, ServerStreams: true}, method,
						grpc.OnFinish(func(err error) { finished = append(finished, err) }))
					if err != nil {
						t.Fatal(err)
					}
					defer func() {
						if err := st.RecvMsg(nil); !want.Is(err) {
							t.Errorf("RecvMsg after the end: %+v", err)
						}
					}()
				}
				time.Sleep(time.Second)
				synctest.Wait()
				d.Picker.(*channel.Channel).Close()
				c.Close()
				c.Close() // nothing is left to do
				if len(finished) != n || len(seen.errs) != n || len(d.infos) != n {
					t.Fatalf("OnFinish %d, End %d, Done %d times, want %d each", len(finished), len(seen.errs), len(d.infos), n)
				}
				for i := range n {
					for _, err := range []error{finished[i], seen.errs[i], d.infos[i].Err} {
						if f, ok := fault.From(err); !ok || f.Entry() != want || f.Code() != code || f.Processed() != processed {
							t.Errorf("%+v", err)
						}
					}
				}
			})
		})
	}
}

// A stream that is over is in no list; one that comes after Close ends at once.
func TestCloseForgetsNothing(t *testing.T) {
	answer := peer.OK(text("pong"))
	against(t, peer.Each(answer), Config{}, func(t *testing.T, c *Caller) {
		for form, do := range forms {
			if _, err := do(c, context.Background()); err != nil {
				t.Fatalf("%s: %v", form, err)
			}
		}
		ctx, cancel := context.WithCancel(context.Background())
		cancelled, err := c.NewStream(ctx, &grpc.StreamDesc{ClientStreams: true}, method)
		if err != nil {
			t.Fatal(err)
		}
		cancel()
		synctest.Wait()
		if err := cancelled.RecvMsg(nil); !fault.CallCancelled.Is(err) {
			t.Error(err)
		}
		if c.live.first != nil {
			t.Error("a stream that is over is listed")
		}
		c.Close()
		var finished error
		_, err = c.NewStream(context.Background(), &grpc.StreamDesc{ClientStreams: true}, method, grpc.OnFinish(func(err error) { finished = err }))
		if !fault.CallClosed.Is(finished) {
			t.Errorf("a stream after Close ended with %v, opened with %v", finished, err)
		}
	})
}

// A call that waits before its next attempt ends with the client, at once.
func TestCloseEndsBackoff(t *testing.T) {
	anHour := peer.TrailersOnly(14, "down", pushbackKey, "3600000")
	for name, config := range map[string]string{"retry": retrying(3, ""), "hedging": hedging(3, "10s", "")} {
		for form, do := range forms {
			t.Run(name+"/"+form, func(t *testing.T) {
				under(t, peer.Each(anHour), config, Config{}, func(t *testing.T, c *Caller) {
					ch := c.cfg.Channel.(*channel.Channel)
					time.AfterFunc(time.Second, func() { ch.Close(); c.Close() })
					begin, finished := time.Now(), 0
					_, err := do(c, context.Background(), grpc.OnFinish(func(error) { finished++ }))
					f, ok := fault.From(err)
					if !ok || f.Entry() != fault.CallClosed || f.Code() != codes.Canceled || f.Processed() != fault.Maybe || len(f.Attempts()) != 2 {
						t.Errorf("%+v", err)
					}
					if took := time.Since(begin).Round(10 * time.Millisecond); took != time.Second || finished != 1 {
						t.Errorf("it took %v, want 1s; OnFinish ran %d times", took, finished)
					}
				})
			})
		}
	}
}
