// SPDX-License-Identifier: Apache-2.0

package server

import (
	"context"
	"errors"
	"runtime"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/net/http2"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	testpb "google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"

	"github.com/faultline-rpc/faultline/fault"
	wirepeer "github.com/faultline-rpc/faultline/internal/peer"
)

func TestContextAlone(t *testing.T) {
	t.Run("deadline", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			x := &callContext{path: "/a.B/C", timeout: time.Second, deadline: time.Now().Add(time.Second)}
			if x.Err() != nil || context.Cause(x) != nil {
				t.Fatal("ended before its time")
			}
			before := runtime.NumGoroutine()
			child, cancel := context.WithCancel(x)
			defer cancel()
			hour, cancelHour := context.WithTimeout(x, time.Hour)
			defer cancelHour()
			ran := make(chan struct{})
			context.AfterFunc(x, func() { close(ran) })
			if n := runtime.NumGoroutine(); n > before {
				t.Errorf("derived contexts need %d goroutines", n-before)
			}
			<-child.Done()
			<-ran
			for _, c := range []context.Context{x, child, hour} {
				if c.Err() != context.DeadlineExceeded {
					t.Errorf("Err = %v, want DeadlineExceeded", c.Err())
				}
				wantCause(t, c, fault.CallDeadline, codes.DeadlineExceeded)
			}
		})
	})
	t.Run("deadline that nobody waits for", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			x := &callContext{path: "/a.B/C", timeout: time.Second, deadline: time.Now().Add(time.Second)}
			time.Sleep(time.Second)
			if x.std != nil || x.Err() != context.DeadlineExceeded || x.std != nil {
				t.Fatal("Err needs no standard context")
			}
			wantCause(t, x, fault.CallDeadline, codes.DeadlineExceeded)
			<-x.Done()
		})
	})
	t.Run("canceled before the deadline", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			for _, early := range []bool{true, false} {
				x := &callContext{timeout: time.Second, deadline: time.Now().Add(time.Second)}
				if early {
					x.Done()
				}
				x.cancel(fault.ServerStopped.New(fault.Args{}))
				x.cancel(fault.CallCancelled.New(fault.Args{}))
				time.Sleep(2 * time.Second)
				<-x.Done()
				if x.Err() != context.Canceled {
					t.Errorf("Err = %v, want Canceled", x.Err())
				}
				wantCause(t, x, fault.ServerStopped, codes.Unavailable)
			}
		})
	})
	t.Run("values", func(t *testing.T) {
		x := &callContext{path: "/a.B/C", md: metadata.Pairs("k", "v"), peer: &peer.Peer{}}
		if md, ok := metadata.FromIncomingContext(x); !ok || md["k"][0] != "v" {
			t.Error("no metadata")
		}
		if p, ok := peer.FromContext(x); !ok || p != x.peer {
			t.Error("no peer")
		}
		if m, ok := grpc.Method(x); !ok || m != "/a.B/C" {
			t.Errorf("Method = %q", m)
		}
		if x.Value([]int(nil)) != nil || x.Value("k") != nil {
			t.Error("answers unknown keys")
		}
		if err := grpc.SetHeader(x, metadata.Pairs("k", "v")); !fault.CallMisuse.Is(err) {
			t.Errorf("SetHeader after the end = %v", err)
		}
	})
}

func wantCause(t *testing.T, c context.Context, e *fault.Entry, code codes.Code) {
	t.Helper()
	f, ok := fault.From(context.Cause(c))
	if !ok || f.Entry() != e || f.Code() != code {
		t.Errorf("Cause = %v, want %s", context.Cause(c), e.ID)
	}
}

// waiting is a service whose handlers report their context's end.
func waiting() (svc *testService, started chan struct{}, ended chan context.Context) {
	started, ended = make(chan struct{}, 10), make(chan context.Context, 10)
	wait := func(c context.Context) error {
		started <- struct{}{}
		<-c.Done()
		ended <- c
		return c.Err()
	}
	return &testService{
		empty:  func(c context.Context, _ *testpb.Empty) (*testpb.Empty, error) { return nil, wait(c) },
		duplex: func(s testpb.TestService_FullDuplexCallServer) error { return wait(s.Context()) },
	}, started, ended
}

func TestWhyAContextEnds(t *testing.T) {
	for _, tc := range []struct {
		name    string
		changes []string
		end     func(r *rig, p *wirepeer.T)
		err     error
		entry   *fault.Entry
		code    codes.Code
	}{
		{"reset", nil, func(_ *rig, p *wirepeer.T) { p.SendRST(1, http2.ErrCodeCancel) }, context.Canceled, fault.CallCancelled, codes.Canceled},
		{"connection lost", nil, func(_ *rig, p *wirepeer.T) { p.Cut() }, context.Canceled, fault.HTTP2ConnectionLost, codes.Unavailable},
		{"stopped", nil, func(r *rig, _ *wirepeer.T) { r.Stop() }, context.Canceled, fault.ServerStopped, codes.Unavailable},
		{"deadline", []string{"grpc-timeout", "20m"}, func(*rig, *wirepeer.T) {}, context.DeadlineExceeded, fault.CallDeadline, codes.DeadlineExceeded},
	} {
		for _, path := range []string{emptyCall, duplex} {
			t.Run(tc.name+path, func(t *testing.T) {
				svc, started, ended := waiting()
				r := newRig(t, Config{}, svc)
				p := r.peer()
				p.SendRequest(1, false, path, tc.changes...)
				p.SendData(1, wirepeer.Message(nil), true)
				<-started
				tc.end(r, p)
				c := <-ended
				if c.Err() != tc.err {
					t.Errorf("Err = %v, want %v", c.Err(), tc.err)
				}
				wantCause(t, c, tc.entry, tc.code)
			})
		}
	}
}

func TestContextEndsWithItsHandler(t *testing.T) {
	var kept context.Context
	r := newRig(t, Config{}, &testService{empty: func(c context.Context, _ *testpb.Empty) (*testpb.Empty, error) {
		kept = c
		return &testpb.Empty{}, nil
	}})
	if _, err := r.stub().EmptyCall(ctx(t), &testpb.Empty{}); err != nil {
		t.Fatal(err)
	}
	<-kept.Done()
	if kept.Err() != context.Canceled || context.Cause(kept) != context.Canceled {
		t.Errorf("Err = %v, cause %v", kept.Err(), context.Cause(kept))
	}
}

func TestDeadlinePastBeforeTheHandler(t *testing.T) {
	ran := false
	r := newRig(t, Config{}, &testService{empty: func(context.Context, *testpb.Empty) (*testpb.Empty, error) {
		ran = true
		return &testpb.Empty{}, nil
	}})
	p := r.peer()
	res, err := p.Call(1, emptyCall, nil, "grpc-timeout", "0n")
	p.OK(err)
	if got := res.Get("grpc-status"); got != "4" {
		t.Errorf("grpc-status = %q, want 4", got)
	}
	want := "call.deadline: the caller's deadline, 0s after the request arrived, passed before the handler started"
	if got := res.Get("grpc-message"); got != want {
		t.Errorf("grpc-message = %q,\nwant %q", got, want)
	}
	if ran {
		t.Error("the handler ran")
	}
}

func TestDeadlineEndsRecv(t *testing.T) {
	got := make(chan error, 1)
	r := newRig(t, Config{}, &testService{duplex: func(s testpb.TestService_FullDuplexCallServer) error {
		_, err := s.Recv()
		got <- err
		return err
	}})
	p := r.peer()
	p.SendRequest(1, false, duplex, "grpc-timeout", "30m")
	f := p.WantHeaders(1, "grpc-status", "4", "grpc-message", "call.deadline: the caller's deadline, 30ms after the request arrived, has passed")
	if !f.End {
		t.Error("the stream goes on")
	}
	err := <-got
	if !fault.CallDeadline.Is(err) || !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Recv = %v", err)
	}
}
