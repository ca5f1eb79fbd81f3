// SPDX-License-Identifier: Apache-2.0

package call

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/net/http2"
	"google.golang.org/grpc"
	"google.golang.org/grpc/balancer"
	"google.golang.org/grpc/codes"
	grpcpeer "google.golang.org/grpc/peer"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/faultline-rpc/faultline/channel"
	"github.com/faultline-rpc/faultline/event"
	"github.com/faultline-rpc/faultline/fault"
	"github.com/faultline-rpc/faultline/h2"
	"github.com/faultline-rpc/faultline/internal/peer"
	"github.com/faultline-rpc/faultline/internal/simnet"
)

// What the peer promises not to have processed is repeated once, unseen.
func TestTransparentRetry(t *testing.T) {
	for name, first := range map[string]peer.Answer{
		"refused":      peer.RST(http2.ErrCodeRefusedStream),
		"above GOAWAY": peer.GoAway(-2, http2.ErrCodeNo, "bye"),
	} {
		for form, do := range forms {
			t.Run(name+"/"+form, func(t *testing.T) {
				var n atomic.Int32
				events := new(event.Buffer)
				against(t, script(&n, first, peer.OK(text("pong"))), Config{Sink: events}, func(t *testing.T, c *Caller) {
					got, err := do(c, context.Background())
					if err != nil || got != "pong" || n.Load() != 2 {
						t.Fatalf("%q, %v after %d requests, want pong after 2", got, err, n.Load())
					}
				})
				var seen []string
				for _, e := range event.All[event.CallRetried](events) {
					seen = append(seen, fmt.Sprint(e.Method, e.Attempt, e.Transparent))
				}
				// A connection that takes no more streams may be picked once more.
				if name == "above GOAWAY" && len(seen) == 2 && seen[1] == fmt.Sprint(method, 3, true) {
					seen = seen[:1]
				}
				if want := []string{fmt.Sprint(method, 2, true)}; !slices.Equal(seen, want) {
					t.Errorf("events %v, want %v", seen, want)
				}
			})
		}
	}
}

func TestAttemptsAreRemembered(t *testing.T) {
	var n atomic.Int32
	against(t, script(&n, peer.RST(http2.ErrCodeRefusedStream), peer.TrailersOnly(13, "broken")), Config{}, func(t *testing.T, c *Caller) {
		for form, do := range forms {
			n.Store(0)
			_, err := do(c, context.Background())
			f, ok := fault.From(err)
			if !ok || f.Entry() != fault.HandlerStatus || len(f.Attempts()) != 2 {
				t.Fatalf("%s: %+v", form, err)
			}
			a := f.Attempts()[0]
			if a.ID != fault.HTTP2RefusedStream.ID || a.Processed != fault.No || !a.Transparent || a.Peer == "" || a.Code != codes.Unavailable {
				t.Errorf("%s: attempt %+v", form, a)
			}
		}
	})
}

// A call that never left is repeated for as long as there are connections to
// try: here the first five that are picked have just ended.
func TestNeverSentIsRepeated(t *testing.T) {
	var n atomic.Int32
	for form, do := range forms {
		t.Run(form, func(t *testing.T) {
			picks := 0
			n.Store(0)
			against(t, script(&n, peer.OK(text("pong"))), Config{}, func(t *testing.T, c *Caller) {
				l := c.cfg.Channel
				c.cfg.Channel = pickFunc(func(ctx context.Context, m string, wait bool) (channel.Picked, error) {
					p, err := l.Pick(ctx, m, wait)
					if picks++; err == nil && picks <= 5 {
						p.Conn = deadConn()
					}
					return p, err
				})
				ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
				defer cancel()
				if got, err := do(c, ctx); err != nil || got != "pong" || n.Load() != 1 || picks != 6 {
					t.Fatalf("%q, %v after %d picks and %d requests", got, err, picks, n.Load())
				}
			})
		})
	}
}

// deadConn is a connection whose peer has gone.
func deadConn() *h2.Conn {
	here, there := net.Pipe()
	there.Close()
	c := h2.NewClient(here, h2.Config{}, nobody{})
	_ = c.Run()
	return c
}

type nobody struct{}

func (nobody) Ready()                         {}
func (nobody) NewStream(*h2.Block) *h2.Stream { return nil }
func (nobody) BatchEnd()                      {}
func (nobody) GoAway(*h2.GoAwayError)         {}
func (nobody) Closed(*h2.ConnError)           {}

// Once the answer has begun, the call is committed to it (gRFC A6).
func TestNoRetryAfterHeaders(t *testing.T) {
	var n atomic.Int32
	begun := peer.Then(func(p *peer.Peer, id uint32) error {
		return p.SendHeaders(id, false, ":status", "200", "content-type", "application/grpc")
	}, peer.RST(http2.ErrCodeRefusedStream))
	for form, do := range forms {
		t.Run(form, func(t *testing.T) {
			n.Store(0)
			against(t, script(&n, begun, peer.OK(text("pong"))), Config{}, func(t *testing.T, c *Caller) {
				if _, err := do(c, context.Background()); !fault.HTTP2RefusedStream.Is(err) || n.Load() != 1 {
					t.Fatalf("%v after %d requests, want http2.refused-stream after 1", err, n.Load())
				}
			})
		})
	}
}

// All messages sent so far are sent again, and the end.
func TestStreamIsReplayed(t *testing.T) {
	var n atomic.Int32
	var bodies []string
	var mu sync.Mutex
	answer := func(p *peer.Peer, id uint32) error {
		if n.Add(1) == 1 {
			return p.SendRST(id, http2.ErrCodeRefusedStream)
		}
		return peer.OK(text("pong"))(p, id)
	}
	s := func(p *peer.Peer) error {
		_, err := p.Handshake()
		var body []byte
		for err == nil {
			var f peer.Frame
			if f, err = p.Next(); err != nil {
				break
			}
			body = append(body, f.Data...)
			if f.End {
				mu.Lock()
				bodies = append(bodies, string(body))
				mu.Unlock()
				body = nil
				err = answer(p, f.Stream)
			}
		}
		if p.Ended(err) {
			return nil
		}
		return err
	}
	against(t, s, Config{}, func(t *testing.T, c *Caller) {
		st, err := c.NewStream(context.Background(), &grpc.StreamDesc{ClientStreams: true}, method)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range []string{"one", "two", "three"} {
			if err := st.SendMsg(wrapperspb.String(m)); err != nil {
				t.Fatal(err)
			}
		}
		_ = st.CloseSend()
		var reply wrapperspb.StringValue
		if err := st.RecvMsg(&reply); err != nil || reply.Value != "pong" {
			t.Fatalf("%v, %v", reply.Value, err)
		}
		if err := st.RecvMsg(&reply); err != io.EOF {
			t.Errorf("a second RecvMsg returns %v, want io.EOF", err)
		}
	})
	if len(bodies) != 2 || bodies[0] != bodies[1] || !strings.Contains(bodies[1], "three") {
		t.Errorf("the server got %q", bodies)
	}
}

// "Once called, subsequent client-side retries are disabled" (grpc.ClientStream).
func TestContextCommits(t *testing.T) {
	var n atomic.Int32
	against(t, script(&n, peer.RST(http2.ErrCodeRefusedStream), peer.OK(text("pong"))), Config{}, func(t *testing.T, c *Caller) {
		st, err := c.NewStream(context.Background(), &grpc.StreamDesc{ClientStreams: true, ServerStreams: true}, method)
		if err != nil {
			t.Fatal(err)
		}
		if p, ok := grpcpeer.FromContext(st.Context()); !ok || p.Addr == nil {
			t.Error("no peer")
		}
		_ = st.CloseSend()
		if err := st.RecvMsg(new(wrapperspb.StringValue)); !fault.HTTP2RefusedStream.Is(err) || n.Load() != 1 {
			t.Errorf("%v after %d requests", err, n.Load())
		}
	})
}

// Beyond the buffer nothing is kept, and nothing is repeated.
func TestReplayBufferIsBounded(t *testing.T) {
	var n atomic.Int32
	against(t, script(&n, peer.RST(http2.ErrCodeRefusedStream), peer.OK(text("pong"))), Config{}, func(t *testing.T, c *Caller) {
		_, err := forms["client stream"](c, context.Background(), grpc.MaxRetryRPCBufferSize(5))
		if !fault.HTTP2RefusedStream.Is(err) || n.Load() != 1 {
			t.Fatalf("%v after %d requests, want http2.refused-stream after 1", err, n.Load())
		}
	})
}

// donePicker counts what the balancer is told.
type donePicker struct {
	Picker
	mu    sync.Mutex
	picks int
	infos []balancer.DoneInfo
}

func (d *donePicker) Pick(ctx context.Context, m string, wait bool) (channel.Picked, error) {
	p, err := d.Picker.Pick(ctx, m, wait)
	if err == nil {
		d.mu.Lock()
		defer d.mu.Unlock()
		d.picks++
		p.Done = func(i balancer.DoneInfo) {
			d.mu.Lock()
			defer d.mu.Unlock()
			d.infos = append(d.infos, i)
		}
	}
	return p, err
}

func TestDoneOncePerAttempt(t *testing.T) {
	for form, do := range forms {
		t.Run(form, func(t *testing.T) {
			var n atomic.Int32
			against(t, script(&n, peer.RST(http2.ErrCodeRefusedStream), peer.OK(text("pong")), peer.TrailersOnly(5, "x", "k", "v"), peer.Silence()), Config{}, func(t *testing.T, c *Caller) {
				d := &donePicker{Picker: c.cfg.Channel}
				c.cfg.Channel = d
				ctx, cancel := context.WithTimeout(context.Background(), time.Second)
				defer cancel()
				for range 3 {
					_, _ = do(c, ctx)
				}
				synctest.Wait()
				if d.picks != 4 || len(d.infos) != 4 {
					t.Fatalf("%d picks, %d times done, want 4 and 4", d.picks, len(d.infos))
				}
				for i, want := range []*fault.Entry{fault.HTTP2RefusedStream, nil, fault.HandlerStatus, fault.CallDeadline} {
					got := d.infos[i]
					if want == nil && got.Err != nil || want != nil && !want.Is(got.Err) || !got.BytesSent {
						t.Errorf("attempt %d: %+v", i, got)
					}
				}
				if v := d.infos[2].Trailer.Get("k"); len(v) != 1 || v[0] != "v" {
					t.Errorf("trailer %v", d.infos[2].Trailer)
				}
				for i, want := range []bool{false, true, true, false} {
					if got := d.infos[i].BytesReceived; got != want {
						t.Errorf("attempt %d: BytesReceived %v, want %v", i, got, want)
					}
				}
			})
		})
	}
}

// A context that ends during the repetition ends the call.
func TestRetryHeedsTheContext(t *testing.T) {
	var n atomic.Int32
	dials := 0
	for form, do := range forms {
		t.Run(form, func(t *testing.T) {
			n.Store(0)
			dials = 0
			against(t, script(&n, peer.GoAway(-2, http2.ErrCodeNo, "")), Config{}, func(t *testing.T, c *Caller) {
				l := c.cfg.Channel
				ch := stuckAfterFirst(t, l, &dials)
				c.cfg.Channel = ch
				ctx, cancel := context.WithTimeout(context.Background(), time.Second)
				defer cancel()
				_, err := do(c, ctx)
				if f, _ := fault.From(err); !fault.CallDeadline.Is(err) || f.Processed() != fault.No || len(f.Attempts()) != 2 {
					t.Fatalf("%+v", err)
				}
			})
		})
	}
}

// stuckAfterFirst lets one pick pass, and the others wait for the context.
func stuckAfterFirst(_ *testing.T, p Picker, n *int) Picker {
	return pickFunc(func(ctx context.Context, m string, wait bool) (channel.Picked, error) {
		if *n++; *n == 1 {
			return p.Pick(ctx, m, wait)
		}
		<-ctx.Done()
		return channel.Picked{}, &channel.PickInterrupted{Phase: "connect", Cause: context.Cause(ctx)}
	})
}

type pickFunc func(ctx context.Context, m string, wait bool) (channel.Picked, error)

func (f pickFunc) Pick(ctx context.Context, m string, wait bool) (channel.Picked, error) {
	return f(ctx, m, wait)
}

func TestClosedClient(t *testing.T) {
	for form, do := range forms {
		t.Run(form, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c, ch := client(t, func(context.Context, string) (net.Conn, error) { return nil, io.EOF }, Config{})
				ch.Close()
				_, err := do(c, context.Background())
				(&circumstance{entry: fault.CallClosed, code: codes.Canceled, side: fault.Local, processed: fault.No,
					says: "the client connection is closing"}).judge(t, err)
			})
		})
	}
}

// Connections that retire after they took another call refuse this one as
// often as they like; those that take none, twice at most (see the
// circumstance "above GOAWAY twice").
func TestRetiringConnections(t *testing.T) {
	const retiring = 5
	for form, do := range forms {
		t.Run(form, func(t *testing.T) {
			refused := 0
			each := peer.Each(func(p *peer.Peer, stream uint32) error {
				if stream > 1 && refused < retiring {
					refused++
					return peer.GoAway(-2, http2.ErrCodeNo, "")(p, stream)
				}
				return peer.OK(text("pong"))(p, stream)
			})
			against(t, each, Config{}, func(t *testing.T, c *Caller) {
				l := c.cfg.Channel
				// Somebody else's call comes first on each connection.
				used := map[*h2.Conn]bool{}
				c.cfg.Channel = pickFunc(func(ctx context.Context, m string, wait bool) (channel.Picked, error) {
					p, err := l.Pick(ctx, m, wait)
					if err == nil && !used[p.Conn] {
						used[p.Conn] = true
						other := New(Config{Channel: pickFunc(func(context.Context, string, bool) (channel.Picked, error) { return p, nil })})
						if _, err := do(other, ctx); err != nil {
							t.Errorf("the first call on a connection: %v", err)
						}
					}
					return p, err
				})
				ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
				defer cancel()
				if got, err := do(c, ctx); err != nil || got != "pong" || refused != retiring || len(used) != retiring+1 {
					t.Fatalf("%q, %v after %d refusals by %d connections", got, err, refused, len(used))
				}
			})
		})
	}
}

// A call that never left is repeated as often as it takes: nothing was sent that
// anybody could have processed. Here it waits for a free stream on connections
// that break, after it was refused once.
func TestCallsThatNeverLeftAreRepeated(t *testing.T) {
	for form, do := range forms {
		t.Run(form, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				l := simnet.Listen(simnet.Options{Latency: time.Millisecond})
				var conns, asked atomic.Int32
				srv := peer.Serve(l, func(p *peer.Peer) error {
					n := conns.Add(1)
					if _, err := p.Handshake(); err != nil {
						return err
					}
					<-time.After(10 * time.Millisecond)
					if n == 2 || n == 3 {
						p.Cut()
						return nil
					}
					if err := p.SendSettings(http2.Setting{ID: http2.SettingMaxConcurrentStreams, Val: 1}); err != nil {
						return err
					}
					for {
						f, err := p.Next()
						switch {
						case err != nil && p.Ended(err):
							return nil
						case err != nil:
							return err
						case f.End && n == 1:
							asked.Add(1)
							if err := errors.Join(p.SendSettings(http2.Setting{ID: http2.SettingMaxConcurrentStreams, Val: 0}), p.SendRST(f.Stream, http2.ErrCodeRefusedStream)); err != nil {
								return err
							}
							<-time.After(5 * time.Millisecond)
							p.Cut()
						case f.End:
							asked.Add(1)
							if err := peer.OK(text("pong"))(p, f.Stream); err != nil {
								return err
							}
						}
					}
				}, peer.Options{Settings: []http2.Setting{{ID: http2.SettingMaxConcurrentStreams, Val: 0}}})
				c, ch := client(t, l.Dial, Config{})
				ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
				defer cancel()
				got, err := do(c, ctx)
				if err != nil || got != "pong" || conns.Load() != 4 || asked.Load() != 2 {
					t.Errorf("%q, %v over %d connections, asked %d times; want pong over 4, asked twice", got, err, conns.Load(), asked.Load())
				}
				ch.Close()
				synctest.Wait()
				_ = srv.Close()
			})
		})
	}
}
