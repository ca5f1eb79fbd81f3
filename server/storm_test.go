// SPDX-License-Identifier: Apache-2.0

package server

import (
	"bytes"
	"context"
	"errors"
	"math/rand/v2"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	testpb "google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/metadata"

	"github.com/faultline-rpc/faultline/fault"
	"github.com/faultline-rpc/faultline/internal/peer"
	"github.com/faultline-rpc/faultline/status"
)

// TestCancelStorm has callers give up at every moment of a call's life, while
// others expect their own answers: storage that is used again too early would
// mix them up.
func TestCancelStorm(t *testing.T) {
	r := newRig(t, Config{}, &testService{
		unary: func(c context.Context, m *testpb.SimpleRequest) (*testpb.SimpleResponse, error) {
			if m.FillUsername {
				<-c.Done()
				return nil, c.Err()
			}
			return &testpb.SimpleResponse{Payload: m.Payload}, nil
		},
	})
	cc := r.stub()
	var wg sync.WaitGroup
	for i := range 16 {
		wg.Go(func() {
			for j := range 60 {
				c, cancel := context.WithCancel(context.Background())
				if i%2 == 0 {
					time.AfterFunc(time.Duration(rand.IntN(2000))*time.Microsecond, cancel)
				}
				body := bytes.Repeat([]byte{byte(i), byte(j)}, 1+rand.IntN(20000))
				m, err := cc.UnaryCall(c, &testpb.SimpleRequest{Payload: &testpb.Payload{Body: body}, FillUsername: i%4 == 0})
				switch {
				case err == nil && !bytes.Equal(m.Payload.Body, body):
					t.Error("somebody else's answer")
				case err != nil && (i%2 != 0 || status.Code(err) != codes.Canceled):
					t.Errorf("call %d/%d: %v", i, j, err)
				}
				cancel()
			}
		})
	}
	wg.Wait()
	r.GracefulStop()
	if n := r.calls.Load(); n != 0 {
		t.Errorf("%d calls are still counted", n)
	}
	if log := r.log.String(); log != "" {
		t.Errorf("log: %s", log)
	}
}

func TestBlockingHandlersDelayNobody(t *testing.T) {
	svc, started, release := blocking()
	r := newRig(t, Config{}, svc)
	p := r.peer(peer.Options{Interleave: true})
	for i := range uint32(50) {
		begin(p, 2*i+1)
		<-started
	}
	res, err := p.Call(101, unaryCall, nil)
	p.OK(err)
	if res.Get("grpc-status") != "0" {
		t.Errorf("status %q", res.Get("grpc-status"))
	}
	close(release)
	for i := range uint32(50) {
		p.WantResponse(2*i + 1)
	}
}

func TestSendWithoutWindow(t *testing.T) {
	for _, tc := range []struct {
		name    string
		changes []string
		end     func(p *peer.T)
		entry   *fault.Entry
	}{
		{"reset", nil, func(p *peer.T) { p.SendRST(1, http2.ErrCodeCancel) }, fault.CallCancelled},
		{"deadline", []string{"grpc-timeout", "30m"}, func(p *peer.T) { p.WantRST(1, http2.ErrCodeCancel) }, fault.CallDeadline},
		{"gone", nil, func(p *peer.T) { p.Cut() }, fault.HTTP2ConnectionLost},
	} {
		t.Run(tc.name, func(t *testing.T) {
			sent := make(chan error, 1)
			r := newRig(t, Config{}, &testService{
				output: func(_ *testpb.StreamingOutputCallRequest, s testpb.TestService_StreamingOutputCallServer) error {
					err := s.Send(&testpb.StreamingOutputCallResponse{Payload: &testpb.Payload{Body: make([]byte, 100000)}})
					sent <- err
					return err
				},
			})
			p := r.peer(peer.Options{NoCredit: true, Skip: []http2.FrameType{http2.FrameData, http2.FrameHeaders, http2.FrameSettings, http2.FrameWindowUpdate}})
			p.SendRequest(1, false, outputs, tc.changes...)
			p.SendData(1, peer.Message(nil), true)
			p.Want(http2.FrameData)
			tc.end(p)
			if err := <-sent; !tc.entry.Is(err) {
				t.Errorf("Send = %v, want %s", err, tc.entry.ID)
			}
		})
	}
}

func TestUnaryAnswerWithoutWindow(t *testing.T) {
	r := newRig(t, Config{}, &testService{unary: func(context.Context, *testpb.SimpleRequest) (*testpb.SimpleResponse, error) {
		return &testpb.SimpleResponse{Payload: &testpb.Payload{Body: make([]byte, 100000)}}, nil
	}})
	p := r.peer(peer.Options{NoCredit: true, Skip: []http2.FrameType{http2.FrameData, http2.FrameHeaders, http2.FrameSettings, http2.FrameWindowUpdate}})
	p.SendRequest(1, false, unaryCall, "grpc-timeout", "30m")
	p.SendData(1, peer.Message(nil), true)
	p.WantRST(1, http2.ErrCodeCancel) // the deadline ends the wait
}

func TestHeadersTooLargeForTheClient(t *testing.T) {
	large := metadata.Pairs("large", strings.Repeat("x", 2000))
	r := newRig(t, Config{}, &testService{
		empty: func(c context.Context, _ *testpb.Empty) (*testpb.Empty, error) {
			return &testpb.Empty{}, grpc.SetTrailer(c, large)
		},
		unary: func(c context.Context, m *testpb.SimpleRequest) (*testpb.SimpleResponse, error) {
			err := grpc.SendHeader(c, large)
			return &testpb.SimpleResponse{}, err
		},
	})
	p := r.peer(peer.Options{Settings: []http2.Setting{{ID: http2.SettingMaxHeaderListSize, Val: 1000}}})
	for i, path := range []string{emptyCall, unaryCall} {
		res, err := p.Call(uint32(2*i+1), path, nil)
		p.OK(err)
		if got := res.Get("grpc-message"); res.Get("grpc-status") != "13" || !strings.HasPrefix(got, "http2.header-list: ") {
			t.Errorf("%s: status %q %q", path, res.Get("grpc-status"), got)
		}
	}
}

// A client that takes few header fields gets the beginning of a long message,
// and of a message for which it takes none at least the code.
func TestMessageTooLargeForTheClient(t *testing.T) {
	r := newRig(t, Config{}, &testService{empty: func(c context.Context, _ *testpb.Empty) (*testpb.Empty, error) {
		_ = grpc.SetTrailer(c, metadata.Pairs("k", "v"))
		return nil, status.Error(codes.NotFound, "no "+strings.Repeat("ä", 50000))
	}})
	for size, want := range map[uint32]string{8 << 10: "no " + strings.Repeat("%C3%A4", 1022) + "...", 1000: ""} {
		p := r.peer(peer.Options{Settings: []http2.Setting{{ID: http2.SettingMaxHeaderListSize, Val: size}}})
		res, err := p.Call(1, emptyCall, nil)
		p.OK(err)
		if got := res.Get("grpc-message"); res.Get("grpc-status") != "5" || got != want {
			t.Errorf("limit %d: status %q, message of %d bytes, want %d", size, res.Get("grpc-status"), len(got), len(want))
		}
	}
}

func TestCallDuringTheStop(t *testing.T) {
	r := newRig(t, Config{MaxHandlers: 5}, &testService{})
	r.stopped.Store(true) // what Stop does first; it closes the connections next
	_, err := r.stub().EmptyCall(ctx(t), &testpb.Empty{})
	wantStatus(t, err, codes.Unavailable, "server.draining: "+fault.ServerDraining.Summary)
	if n := r.running.Load(); n != 0 {
		t.Errorf("%d handlers are counted", n)
	}
}

func TestOverloadedWhileTheHandlerIgnoresIt(t *testing.T) {
	started := make(chan struct{}, 1)
	r := newRig(t, Config{MaxUndelivered: 100}, &testService{duplex: func(s testpb.TestService_FullDuplexCallServer) error {
		started <- struct{}{}
		<-s.Context().Done()
		return errors.Join(errors.New("secret"), s.Context().Err())
	}})
	p := r.peer()
	p.SendRequest(1, false, duplex)
	<-started
	p.SendData(1, peer.Message(make([]byte, 200)), false)
	p.WantHeaders(1, "grpc-status", "8", "grpc-message", "server.overloaded: requests of 100 bytes wait for their handlers, which is this server's limit MaxUndeliveredBytes")
}

// TestGracefulStopLosesNothing stops the server under load: each call that a
// handler has answered reaches its caller, the others are refused.
func TestGracefulStopLosesNothing(t *testing.T) {
	var handled, answered atomic.Int64
	r := newRig(t, Config{}, &testService{empty: func(context.Context, *testpb.Empty) (*testpb.Empty, error) {
		handled.Add(1)
		return &testpb.Empty{}, nil
	}})
	var wg sync.WaitGroup
	for range 4 {
		cc := r.stub()
		for range 8 {
			wg.Go(func() {
				for {
					_, err := cc.EmptyCall(context.Background(), &testpb.Empty{})
					if err != nil {
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
	for answered.Load() < 1000 {
		runtime.Gosched()
	}
	r.GracefulStop()
	wg.Wait()
	if handled.Load() != answered.Load() {
		t.Errorf("%d calls were handled, %d answered", handled.Load(), answered.Load())
	}
}
