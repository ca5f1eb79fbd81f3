// SPDX-License-Identifier: Apache-2.0

package call

import (
	"context"
	"io"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/net/http2"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	grpcpeer "google.golang.org/grpc/peer"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/faultline-rpc/faultline/fault"
	"github.com/faultline-rpc/faultline/internal/peer"
)

var (
	duplex  = &grpc.StreamDesc{ClientStreams: true, ServerStreams: true}
	upload  = &grpc.StreamDesc{ClientStreams: true}
	listing = &grpc.StreamDesc{ServerStreams: true}
)

func open(t *testing.T, c *Caller, ctx context.Context, desc *grpc.StreamDesc, opts ...grpc.CallOption) grpc.ClientStream {
	t.Helper()
	st, err := c.NewStream(ctx, desc, method, opts...)
	if err != nil {
		t.Fatal(err)
	}
	return st
}

// After the server has ended the call, SendMsg says io.EOF and RecvMsg why.
func TestSendAfterTheEnd(t *testing.T) {
	against(t, peer.EachAtOnce(peer.TrailersOnly(9, "not now", "k", "v")), Config{}, func(t *testing.T, c *Caller) {
		st := open(t, c, context.Background(), duplex)
		synctest.Wait()
		time.Sleep(10 * time.Millisecond)
		if err := st.SendMsg(wrapperspb.String("x")); err != io.EOF {
			t.Errorf("SendMsg: %v, want io.EOF", err)
		}
		for range 2 {
			err := st.RecvMsg(new(wrapperspb.StringValue))
			if f, _ := fault.From(err); !fault.HandlerStatus.Is(err) || f.Code() != codes.FailedPrecondition || f.Message() != "not now" {
				t.Errorf("RecvMsg: %v", err)
			}
		}
		if err := st.SendMsg(wrapperspb.String("x")); err != io.EOF {
			t.Errorf("SendMsg after RecvMsg: %v, want io.EOF", err)
		}
		if v := st.Trailer().Get("k"); len(v) != 1 || v[0] != "v" {
			t.Errorf("trailer %v", st.Trailer())
		}
		if h, err := st.Header(); err != nil || len(h) != 0 {
			t.Errorf("Header: %v, %v", h, err)
		}
	})
}

// For a method that takes one message, io.EOF is of no use to generated code.
func TestSendAfterTheEndOfListing(t *testing.T) {
	against(t, peer.EachAtOnce(peer.TrailersOnly(9, "not now")), Config{}, func(t *testing.T, c *Caller) {
		st := open(t, c, context.Background(), listing)
		time.Sleep(10 * time.Millisecond)
		if err := st.SendMsg(wrapperspb.String("x")); err != nil {
			t.Errorf("SendMsg: %v, want nil", err)
		}
		if err := st.RecvMsg(new(wrapperspb.StringValue)); !fault.HandlerStatus.Is(err) {
			t.Errorf("RecvMsg: %v", err)
		}
	})
}

func TestMisuseOfStream(t *testing.T) {
	for name, misuse := range map[string]func(grpc.ClientStream) error{
		"SendMsg after CloseSend": func(st grpc.ClientStream) error {
			_ = st.CloseSend()
			return st.SendMsg(wrapperspb.String("x"))
		},
	} {
		t.Run(name, func(t *testing.T) {
			against(t, peer.EachAtOnce(peer.Silence()), Config{}, func(t *testing.T, c *Caller) {
				st := open(t, c, context.Background(), duplex)
				err := misuse(st)
				(&circumstance{entry: fault.CallMisuse, code: codes.Internal, side: fault.Local, processed: fault.Maybe}).judge(t, err)
				if again := st.RecvMsg(nil); again != err {
					t.Errorf("RecvMsg: %v, want the same", again)
				}
				<-st.Context().Done()
			})
		})
	}
}

func TestMessageThatDoesNotMarshal(t *testing.T) {
	against(t, peer.EachAtOnce(peer.Silence()), Config{}, func(t *testing.T, c *Caller) {
		st := open(t, c, context.Background(), duplex)
		err := st.SendMsg("no message at all")
		(&circumstance{entry: fault.CodecMarshal, code: codes.Internal, side: fault.Local, processed: fault.Maybe}).judge(t, err)
		err = c.Invoke(context.Background(), method, 7, new(wrapperspb.StringValue))
		(&circumstance{entry: fault.CodecMarshal, code: codes.Internal, side: fault.Local, processed: fault.No}).judge(t, err)
	})
}

// Header waits for the headers; they may come long before the messages.
func TestHeader(t *testing.T) {
	s := peer.EachAtOnce(peer.Then(func(p *peer.Peer, id uint32) error {
		return p.SendHeaders(id, false, ":status", "200", "content-type", "application/grpc", "k", "v")
	}, peer.After(time.Hour, func(p *peer.Peer, id uint32) error {
		if err := p.SendBody(id, peer.Message(text("pong")), false); err != nil {
			return err
		}
		return p.SendHeaders(id, true, "grpc-status", "0", "t", "w")
	})))
	against(t, s, Config{}, func(t *testing.T, c *Caller) {
		start := time.Now()
		st := open(t, c, context.Background(), duplex)
		h, err := st.Header()
		if v := h.Get("k"); err != nil || len(v) != 1 || v[0] != "v" || time.Since(start) > time.Second {
			t.Fatalf("Header: %v, %v after %v", h, err, time.Since(start))
		}
		if st.Trailer() != nil {
			t.Errorf("a trailer before the end: %v", st.Trailer())
		}
		var m wrapperspb.StringValue
		if err := st.RecvMsg(&m); err != nil || m.Value != "pong" {
			t.Fatal(m.Value, err)
		}
		if err := st.RecvMsg(&m); err != io.EOF {
			t.Fatal(err)
		}
		if v := st.Trailer().Get("t"); len(v) != 1 || v[0] != "w" {
			t.Errorf("trailer %v", st.Trailer())
		}
		h["k"][0] = "changed" // a copy
		if h, _ = st.Header(); h.Get("k")[0] != "v" {
			t.Error("Header hands out its own metadata")
		}
	})
}

// Cancellation ends every wait, tells the server, and leaves nothing behind
// even if the program never looks at the stream again.
func TestCancelEndsEverything(t *testing.T) {
	big := wrapperspb.String(string(make([]byte, 1<<20)))
	waits := map[string]func(st grpc.ClientStream) error{
		"SendMsg": func(st grpc.ClientStream) error {
			for {
				if err := st.SendMsg(big); err != nil {
					return st.RecvMsg(nil)
				}
			}
		},
		"RecvMsg": func(st grpc.ClientStream) error { return st.RecvMsg(nil) },
		"Header": func(st grpc.ClientStream) error {
			if h, err := st.Header(); h != nil || err != nil {
				return err
			}
			return st.RecvMsg(nil)
		},
		"nothing": func(st grpc.ClientStream) error {
			<-st.Context().Done()
			synctest.Wait()
			return st.RecvMsg(nil)
		},
	}
	for name, wait := range waits {
		t.Run(name, func(t *testing.T) {
			var reset atomic.Int32
			s := func(p *peer.Peer) error {
				_, err := p.Handshake()
				for err == nil {
					var f peer.Frame
					if f, err = p.Next(); err == nil && f.Kind == http2.FrameRSTStream {
						reset.Add(1)
					}
				}
				if p.Ended(err) {
					return nil
				}
				return err
			}
			serveWith(t, s, peer.Options{NoCredit: true, Timeout: time.Hour}, func(t *testing.T, c *Caller) {
				ctx, cancel := context.WithCancelCause(context.Background())
				finished := 0
				var told error
				st := open(t, c, ctx, duplex, grpc.OnFinish(func(err error) { finished++; told = err }))
				time.AfterFunc(time.Second, func() { cancel(errOwn) })
				err := wait(st)
				(&circumstance{entry: fault.CallCancelled, code: codes.Canceled, side: fault.Local, processed: fault.Maybe,
					is: []error{context.Canceled, errOwn}}).judge(t, err)
				synctest.Wait()
				if reset.Load() != 1 {
					t.Errorf("the server saw %d RST_STREAM, want 1", reset.Load())
				}
				if finished != 1 || told != err {
					t.Errorf("OnFinish ran %d times with %v", finished, told)
				}
			})
		})
	}
}

// A stream that nobody looks at ends with the channel.
func TestAbandonedStreamEndsWithChannel(t *testing.T) {
	against(t, peer.EachAtOnce(peer.Silence()), Config{}, func(t *testing.T, c *Caller) {
		_ = open(t, c, context.Background(), duplex)
		// against closes the channel, and the bubble ends only without goroutines.
	})
}

func TestChannelCloseEndsCalls(t *testing.T) {
	for form, do := range forms {
		t.Run(form, func(t *testing.T) {
			against(t, peer.EachAtOnce(peer.Silence()), Config{}, func(t *testing.T, c *Caller) {
				time.AfterFunc(time.Second, c.cfg.Channel.(interface{ Close() }).Close)
				_, err := do(c, context.Background())
				(&circumstance{entry: fault.CallClosed, code: codes.Canceled, side: fault.Local, processed: fault.Maybe}).judge(t, err)
			})
		})
	}
}

func TestStreamContext(t *testing.T) {
	type key struct{}
	against(t, peer.EachAtOnce(peer.OK(text("pong"))), Config{}, func(t *testing.T, c *Caller) {
		st := open(t, c, context.WithValue(context.Background(), key{}, "v"), upload)
		ctx := st.Context()
		if p, ok := grpcpeer.FromContext(ctx); !ok || p.Addr == nil || ctx.Value(key{}) != "v" || ctx.Err() != nil {
			t.Errorf("peer %v, value %v, error %v", p, ctx.Value(key{}), ctx.Err())
		}
		if err := st.RecvMsg(new(wrapperspb.StringValue)); err != nil {
			t.Fatal(err)
		}
		if ctx.Err() != context.Canceled || st.Context() != ctx {
			t.Errorf("the context lives on after the stream")
		}
	})
}

// held is a context whose watchers learn of its end later than those who look.
type held struct{ context.Context }

func (held) AfterFunc(func()) func() bool { return func() bool { return true } }

// A context that has ended ends the stream at once, whoever looks first: what
// the program does next is not sent any more, and no answer is taken for one.
func TestContextEndedIsSeenAtOnce(t *testing.T) {
	var n atomic.Int32
	answer := peer.Each(func(p *peer.Peer, id uint32) error { n.Add(1); return peer.OK(text("pong"))(p, id) })
	against(t, answer, Config{}, func(t *testing.T, c *Caller) {
		for name, do := range map[string]func(grpc.ClientStream) error{
			"CloseSend": func(st grpc.ClientStream) error { return st.CloseSend() },
			"SendMsg":   func(st grpc.ClientStream) error { return st.SendMsg(wrapperspb.String("ping")) },
			"RecvMsg":   func(st grpc.ClientStream) error { return st.RecvMsg(new(wrapperspb.StringValue)) },
			"Header":    func(st grpc.ClientStream) error { _, err := st.Header(); return err },
		} {
			ctx, cancel := context.WithCancel(context.Background())
			st, err := c.NewStream(held{ctx}, duplex, method)
			if err != nil {
				t.Fatal(err)
			}
			cancel()
			switch err := do(st); {
			case name == "RecvMsg" && !fault.CallCancelled.Is(err), name == "SendMsg" && err != io.EOF, name == "CloseSend" && err != nil, name == "Header" && err != nil:
				t.Errorf("%s: %v", name, err)
			}
			time.Sleep(time.Second)
			if err := st.RecvMsg(new(wrapperspb.StringValue)); !fault.CallCancelled.Is(err) {
				t.Errorf("RecvMsg after %s: %v", name, err)
			}
		}
		if n.Load() != 0 {
			t.Errorf("%d requests were ended and answered", n.Load())
		}
	})
}
