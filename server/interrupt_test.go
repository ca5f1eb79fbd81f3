// SPDX-License-Identifier: Apache-2.0

package server

import (
	"context"
	"encoding/base64"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/net/http2"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	testpb "google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/stats"

	"github.com/faultline-rpc/faultline/fault"
	"github.com/faultline-rpc/faultline/internal/peer"
	"github.com/faultline-rpc/faultline/status"
)

const (
	stoppedText  = "server.stopped: the server was stopped while the handler ran"
	drainingText = "server.draining: the server is shutting down and takes no new calls"
)

// TestStopAnswers: whose handler runs, whose request is not complete, and who
// has an answer under way.
func TestStopAnswers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		causes := make(chan error, 2)
		hold := func(c context.Context) error {
			grpc.SetHeader(c, metadata.Pairs("a", "b"))
			<-c.Done()
			causes <- context.Cause(c)
			return c.Err()
		}
		ends := &callEnds{}
		r := newRig(t, Config{StatsHandlers: []stats.Handler{ends}}, &testService{
			empty: func(c context.Context, _ *testpb.Empty) (*testpb.Empty, error) { return nil, hold(c) },
			duplex: func(s testpb.TestService_FullDuplexCallServer) error {
				s.Send(&testpb.StreamingOutputCallResponse{})
				return hold(s.Context())
			},
		})
		p := r.peer()
		begin(p, 1)
		p.SendRequest(3, false, duplex)
		p.WantHeaders(3)
		p.WantMessage(3)
		p.SendRequest(5, false, emptyCall) // never complete
		p.SendRequest(7, false, "/no.Such/Method")
		p.WantHeaders(7, "grpc-status", "12")
		p.WantRST(7, http2.ErrCodeNo)
		synctest.Wait()
		start := time.Now()
		stopped := make(chan time.Duration)
		go func() { r.Stop(); stopped <- time.Since(start) }()
		p.WantHeaders(1, "a", "b")
		p.WantTrailers(1, "grpc-status", "14", "grpc-message", stoppedText)
		p.WantTrailers(3, "grpc-status", "14", "grpc-message", stoppedText)
		p.WantRST(3, http2.ErrCodeNo)
		p.WantTrailers(5, "grpc-status", "14", "grpc-message", drainingText)
		p.WantRST(5, http2.ErrCodeNo)
		p.WantGoAway(http2.ErrCodeNo)
		p.WantClosed()
		if d := <-stopped; d != stopTime { // this client stays
			t.Errorf("Stop took %v", d)
		}
		for range 2 {
			if err := <-causes; !fault.ServerStopped.Is(err) {
				t.Errorf("cause: %v", err)
			}
		}
		r.GracefulStop() // no call is left
		if list := r.refusals(); len(list) != 2 || list[1].Stream != 5 || !fault.ServerDraining.Is(list[1].Err) {
			t.Errorf("refusals: %+v", list)
		}
		synctest.Wait()
		if list := ends.all(); len(list) != 2 || !fault.ServerStopped.Is(list[0]) || !fault.ServerStopped.Is(list[1]) {
			t.Errorf("ends as stats handlers see them: %v", list)
		}
	})
}

// callEnds keeps what calls ended with.
type callEnds struct {
	mu   sync.Mutex
	list []error
}

func (e *callEnds) all() []error { e.mu.Lock(); defer e.mu.Unlock(); return e.list }

func (e *callEnds) TagRPC(c context.Context, _ *stats.RPCTagInfo) context.Context   { return c }
func (e *callEnds) TagConn(c context.Context, _ *stats.ConnTagInfo) context.Context { return c }
func (e *callEnds) HandleConn(context.Context, stats.ConnStats)                     {}
func (e *callEnds) HandleRPC(_ context.Context, s stats.RPCStats) {
	if end, ok := s.(*stats.End); ok {
		e.mu.Lock()
		defer e.mu.Unlock()
		e.list = append(e.list, end.Error)
	}
}

// TestStopSeenByGRPC: the caller gets a status, not a broken connection.
func TestStopSeenByGRPC(t *testing.T) {
	svc, started, ended := waiting()
	r := newRig(t, Config{}, svc)
	done := make(chan error, 1)
	c := r.stub()
	go func() {
		_, err := c.EmptyCall(context.Background(), &testpb.Empty{})
		done <- err
	}()
	<-started
	r.Stop()
	<-ended
	wantStatus(t, <-done, codes.Unavailable, stoppedText)
}

// slowCodec takes its time.
type slowCodec struct{ begun, resume chan struct{} }

func (c slowCodec) Unmarshal([]byte, any) error { close(c.begun); <-c.resume; return nil }
func (slowCodec) Marshal(any) ([]byte, error)   { return nil, nil }
func (slowCodec) Name() string                  { return "slow" }

// TestStopBeforeTheRequestIsDecoded: a call whose request is just being decoded
// is answered with the promise that no handler ran, and none does.
func TestStopBeforeTheRequestIsDecoded(t *testing.T) {
	for name, cfg := range map[string]Config{"bare": {}, "behind an interceptor": {UnaryInts: []grpc.UnaryServerInterceptor{
		func(c context.Context, in any, _ *grpc.UnaryServerInfo, next grpc.UnaryHandler) (any, error) {
			return next(c, in)
		}}}} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := slowCodec{make(chan struct{}), make(chan struct{})}
				cfg.ForceCodec = CodecV1(c)
				r := newRig(t, cfg, &testService{empty: func(context.Context, *testpb.Empty) (*testpb.Empty, error) {
					t.Error("the handler runs after its call was answered with server.draining")
					return nil, nil
				}})
				p := r.peer()
				p.SendRequest(1, false, emptyCall)
				p.SendBody(1, peer.Message(nil), true)
				<-c.begun
				go r.Stop()
				p.WantTrailers(1, "grpc-status", "14", "grpc-message", drainingText)
				close(c.resume)
				synctest.Wait()
				if list := r.refusals(); len(list) != 1 || !fault.ServerDraining.Is(list[0].Err) {
					t.Errorf("refusals: %+v", list)
				}
			})
		})
	}
}

// TestStopInsideAMessage: a message that is cut off by trailers would be
// INTERNAL to grpc-go.
func TestStopInsideAMessage(t *testing.T) {
	r := newRig(t, Config{}, &testService{output: func(_ *testpb.StreamingOutputCallRequest, s testpb.TestService_StreamingOutputCallServer) error {
		return s.Send(&testpb.StreamingOutputCallResponse{Payload: &testpb.Payload{Body: make([]byte, 3<<20)}})
	}})
	s, err := r.stub(grpc.WithStaticStreamWindowSize(65535)).StreamingOutputCall(ctx(t), &testpb.StreamingOutputCallRequest{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Header(); err != nil {
		t.Fatal(err)
	}
	r.Stop()
	if _, err := s.Recv(); status.Code(err) != codes.Unavailable {
		t.Errorf("Recv = %v", err)
	}
}

// TestInterruptBeforeTheHandler: a call that waits for a worker is answered,
// and its handler does not start.
func TestInterruptBeforeTheHandler(t *testing.T) {
	for _, late := range []bool{false, true} { // the context was looked at before
		x := &callContext{path: "/a/b"}
		k := &call{ctx: x}
		x.open(k)
		if late {
			x.Done()
		}
		k.over = true // what interrupt does first
		if err := x.late(); err != context.Canceled || k.started {
			t.Errorf("late = %v, started %v", err, k.started)
		}
	}
}

// TestStopToAClientThatDoesNotRead does not take long.
func TestStopToAClientThatDoesNotRead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sent := make(chan error, 1)
		r := newRig(t, Config{}, &testService{output: func(_ *testpb.StreamingOutputCallRequest, s testpb.TestService_StreamingOutputCallServer) error {
			err := s.Send(&testpb.StreamingOutputCallResponse{Payload: &testpb.Payload{Body: make([]byte, 100000)}})
			sent <- err
			return err
		}})
		p := r.peer(peer.Options{NoCredit: true})
		p.SendRequest(1, false, outputs)
		p.SendData(1, peer.Message(nil), true)
		p.WantHeaders(1)
		p.WantData(1, 65535)
		synctest.Wait()
		start := time.Now()
		r.Stop()
		p.WantGoAway(http2.ErrCodeNo) // and no trailers inside the message
		p.WantClosed()
		if d := time.Since(start); d > stopTime {
			t.Errorf("Stop took %v", d)
		}
		if err := <-sent; !fault.ServerStopped.Is(err) {
			t.Errorf("Send = %v", err)
		}
	})
}

// TestStopUnderLoad: every caller learns that the server is gone, from a
// status of its or from the connection's end, and no call stays behind.
func TestStopUnderLoad(t *testing.T) {
	for range 5 {
		r := newRig(t, Config{}, &testService{unary: func(c context.Context, m *testpb.SimpleRequest) (*testpb.SimpleResponse, error) {
			if m.ResponseSize > 0 {
				<-c.Done()
				return nil, c.Err()
			}
			return &testpb.SimpleResponse{}, nil
		}})
		var wg sync.WaitGroup
		var answered atomic.Int64
		for range 4 {
			c := r.stub()
			for i := range 8 {
				wg.Go(func() {
					for {
						in := &testpb.SimpleRequest{}
						if i == 7 {
							in.ResponseSize = 1
						}
						if _, err := c.UnaryCall(context.Background(), in); err != nil {
							if status.Code(err) != codes.Unavailable {
								t.Error(err)
							}
							return
						}
						answered.Add(1)
					}
				})
			}
		}
		for answered.Load() < 300 {
			runtime.Gosched()
		}
		r.Stop()
		wg.Wait()
		r.GracefulStop()
		if n := r.calls.Load(); n != 0 {
			t.Errorf("%d calls are left", n)
		}
	}
}

// TestStopWhileDecoding: a handler whose request is still being decoded when the
// server stops will not run, and all who ask are told so.
func TestStopWhileDecoding(t *testing.T) {
	for name, call := range map[string]string{"unary": emptyCall, "server stream": outputs} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var ran atomic.Int32
				c, ends := slowCodec{make(chan struct{}), make(chan struct{})}, &callEnds{}
				r := newRig(t, Config{ForceCodec: CodecV1(c), StatsHandlers: []stats.Handler{ends}}, &testService{
					empty: func(context.Context, *testpb.Empty) (*testpb.Empty, error) {
						ran.Add(1)
						return nil, nil
					},
					output: func(*testpb.StreamingOutputCallRequest, testpb.TestService_StreamingOutputCallServer) error {
						ran.Add(1)
						return nil
					},
				})
				p := r.peer()
				p.SendRequest(1, false, call)
				p.SendData(1, peer.Message(nil), true)
				<-c.begun
				stopped := make(chan struct{})
				go func() { r.Stop(); close(stopped) }()
				f := p.WantHeaders(1, "grpc-status", "14", "grpc-message", drainingText)
				raw, err := base64.RawStdEncoding.DecodeString(f.Get(fault.TrailKey))
				if hops := fault.ReadTrail([]string{string(raw)}, ""); err != nil || len(hops) != 1 || hops[0].Processed != fault.No {
					t.Errorf("the server says %v, %v, want processed no", hops, err)
				}
				close(c.resume)
				<-stopped
				synctest.Wait()
				if n := ran.Load(); n != 0 {
					t.Errorf("the handler ran %d times", n)
				}
				if list := r.refusals(); len(list) != 1 || !fault.ServerDraining.Is(list[0].Err) {
					t.Errorf("refusals: %+v", list)
				}
				if list := ends.all(); len(list) != 1 || !fault.ServerDraining.Is(list[0]) {
					t.Errorf("ends: %v", list)
				} else if f, _ := fault.From(list[0]); f.Processed() != fault.No {
					t.Errorf("stats.End: %+v", f)
				}
			})
		})
	}
}

// TestStopOfAHandlerThatNeverAsks: code written by hand may run without its
// request; nobody can promise that it did not.
func TestStopOfAHandlerThatNeverAsks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ends := &callEnds{}
		r := newRig(t, Config{StatsHandlers: []stats.Handler{ends}}, &testService{}, func(s *Server) {
			s.RegisterService(&grpc.ServiceDesc{ServiceName: "by.Hand", HandlerType: (*any)(nil), Methods: []grpc.MethodDesc{{MethodName: "Do",
				Handler: func(_ any, c context.Context, _ func(any) error, _ grpc.UnaryServerInterceptor) (any, error) {
					<-c.Done()
					return nil, c.Err()
				}}}}, nil)
		})
		p := r.peer()
		p.SendRequest(1, false, "/by.Hand/Do")
		p.SendBody(1, peer.Message(nil), true)
		synctest.Wait()
		go r.Stop()
		f := p.WantHeaders(1, "grpc-status", "14", "grpc-message", stoppedText)
		raw, err := base64.RawStdEncoding.DecodeString(f.Get(fault.TrailKey))
		if hops := fault.ReadTrail([]string{string(raw)}, ""); err != nil || len(hops) != 1 || hops[0].Processed != fault.Maybe {
			t.Errorf("the server says %v, %v, want processed maybe", hops, err)
		}
		synctest.Wait()
		if list := ends.all(); len(list) != 1 || !fault.ServerStopped.Is(list[0]) {
			t.Errorf("ends: %v", list)
		} else if f, _ := fault.From(list[0]); f.Processed() != fault.Yes {
			t.Errorf("stats.End: %+v", f)
		}
	})
}
