// SPDX-License-Identifier: Apache-2.0

package server

import (
	"bytes"
	"context"
	"io"
	"runtime"
	"sync"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	testpb "google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/stats"
	grpcstatus "google.golang.org/grpc/status"

	"github.com/faultline-rpc/faultline/codec"
	"github.com/faultline-rpc/faultline/fault"
	"github.com/faultline-rpc/faultline/internal/peer"
)

// What programs do against the rules of grpc.ServerStream harms their own call
// at most: the others of the connection go on.

// Several goroutines send on one stream at once.
func TestSendsThatOverlap(t *testing.T) {
	const senders, each = 4, 4
	body := bytes.Repeat([]byte("x"), 100_000)
	r := newRig(t, Config{}, &testService{
		duplex: func(s testpb.TestService_FullDuplexCallServer) error {
			var wg sync.WaitGroup
			for range senders {
				wg.Go(func() {
					for range each {
						if err := s.Send(&testpb.StreamingOutputCallResponse{Payload: &testpb.Payload{Body: body}}); err != nil {
							t.Error(err)
						}
					}
				})
			}
			wg.Wait()
			return nil
		},
	})
	cc := r.stub()
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			s, err := cc.FullDuplexCall(ctx(t))
			if err != nil {
				t.Error(err)
				return
			}
			for n := 0; ; n++ {
				m, err := s.Recv()
				if err == io.EOF && n == senders*each {
					return
				}
				if err != nil {
					t.Errorf("after %d messages: %v", n, err)
					return
				}
				if !bytes.Equal(m.Payload.Body, body) {
					t.Error("a message is not what was sent")
				}
			}
		})
	}
	wg.Wait()
}

// A handler returns, or panics, while a goroutine of its is sending: the message
// arrives whole, and then the status.
func TestHandlerReturnsAmidASend(t *testing.T) {
	t.Run("returns", func(t *testing.T) { handlerEndsAmidASend(t, func() {}, "0") })
	t.Run("panics", func(t *testing.T) { handlerEndsAmidASend(t, func() { panic("amid a send") }, "2") })
}

func handlerEndsAmidASend(t *testing.T, end func(), status string) {
	sent, returns := make(chan error, 2), make(chan struct{})
	r := newRig(t, Config{}, &testService{
		duplex: func(s testpb.TestService_FullDuplexCallServer) error {
			m := &testpb.StreamingOutputCallResponse{Payload: &testpb.Payload{Body: make([]byte, 100_000)}}
			k := s.(*grpc.GenericServerStream[testpb.StreamingOutputCallRequest, testpb.StreamingOutputCallResponse]).ServerStream.(*serverStream).k
			go func() {
				sent <- s.Send(m)
				for returned := false; !returned; runtime.Gosched() {
					k.ctx.mu.Lock()
					returned = k.returned
					k.ctx.mu.Unlock()
				}
				sent <- s.Send(m)
			}()
			for !k.sending.Load() {
				runtime.Gosched()
			}
			close(returns)
			end()
			return nil
		},
	})
	p := r.peer(peer.Options{NoCredit: true})
	p.SendRequest(1, true, duplex)
	p.WantHeaders(1)
	p.WantData(1, 65535)
	<-returns
	p.SendWindowUpdate(0, 100_000)
	p.SendWindowUpdate(1, 100_000)
	p.WantData(1, codec.PrefixLen+100_007-65535)
	p.WantTrailers(1, "grpc-status", status)
	if err := <-sent; err != nil {
		t.Errorf("the first message: %v", err)
	}
	if err := <-sent; !fault.CallMisuse.Is(err) {
		t.Errorf("the second message: %v", err)
	}
}

// leaving is a handler that leaves behind as many goroutines, which receive
// until there is an error.
func leaving(receivers int, left *sync.WaitGroup) *testService {
	return &testService{duplex: func(s testpb.TestService_FullDuplexCallServer) error {
		for range receivers {
			left.Go(func() {
				for {
					if _, err := s.Recv(); err != nil {
						return
					}
				}
			})
		}
		for range 10 {
			runtime.Gosched()
		}
		return nil
	}}
}

// Several goroutines receive on one stream at once, some of them beyond the
// handler's end.
func TestReceivesThatOverlap(t *testing.T) {
	var left sync.WaitGroup
	r := newRig(t, Config{}, leaving(4, &left))
	p := r.peer(peer.Options{Interleave: true})
	for i := range uint32(100) {
		id := 4*i + 1
		p.SendRequest(id, false, duplex, "grpc-timeout", "1H")
		p.SendData(id, peer.Message(nil), false)
		res, err := p.Call(id+2, emptyCall, nil)
		p.OK(err)
		if got := res.Get("grpc-status"); got != "0" {
			t.Fatalf("call beside it: status %q", got)
		}
	}
	p.Close()
	r.GracefulStop()
	left.Wait()
}

// countEnds is a stats handler that looks at everything it is told.
type countEnds struct {
	mu   sync.Mutex
	ends []*stats.End
}

func (c *countEnds) TagRPC(ctx context.Context, _ *stats.RPCTagInfo) context.Context   { return ctx }
func (c *countEnds) TagConn(ctx context.Context, _ *stats.ConnTagInfo) context.Context { return ctx }
func (c *countEnds) HandleConn(context.Context, stats.ConnStats)                       {}
func (c *countEnds) HandleRPC(_ context.Context, s stats.RPCStats) {
	if end, ok := s.(*stats.End); ok {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.ends = append(c.ends, end)
	}
}

// A goroutine of the handler's meets the failure that ends the call, while the
// handler returns.
func TestReceiveFailsWhileTheHandlerReturns(t *testing.T) {
	const calls = 200
	var left sync.WaitGroup
	seen := new(countEnds)
	r := newRig(t, Config{MaxRecvMsgSize: 10, StatsHandlers: []stats.Handler{seen}}, leaving(1, &left))
	p := r.peer(peer.Options{Interleave: true})
	for i := range uint32(calls) {
		p.SendRequest(2*i+1, false, duplex)
		p.SendData(2*i+1, peer.Message(make([]byte, 11)), false)
	}
	failed := 0
	for i := range uint32(calls) {
		switch got := p.WantResponse(2*i + 1).Get("grpc-status"); got {
		case "0":
		case "8":
			failed++
		default:
			t.Errorf("status %q", got)
		}
	}
	p.Close()
	r.GracefulStop()
	left.Wait()
	if len(seen.ends) != calls {
		t.Errorf("%d calls ended, want %d", len(seen.ends), calls)
	}
	for _, end := range seen.ends {
		if end.Error != nil {
			if grpcstatus.Code(end.Error) != codes.ResourceExhausted {
				t.Error(end.Error)
			}
			failed--
		}
	}
	if failed != 0 {
		t.Errorf("%d more calls failed than the stats handler was told", failed)
	}
}
