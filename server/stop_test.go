// SPDX-License-Identifier: Apache-2.0

package server

import (
	"context"
	"errors"
	"net"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/net/http2"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	testpb "google.golang.org/grpc/interop/grpc_testing"

	"github.com/faultline-rpc/faultline/fault"
	"github.com/faultline-rpc/faultline/internal/peer"
	"github.com/faultline-rpc/faultline/internal/simnet"
	"github.com/faultline-rpc/faultline/status"
)

// blocking is a service whose handlers wait for release.
func blocking() (svc *testService, started chan struct{}, release chan struct{}) {
	started, release = make(chan struct{}, 10), make(chan struct{})
	return &testService{empty: func(context.Context, *testpb.Empty) (*testpb.Empty, error) {
		started <- struct{}{}
		<-release
		return &testpb.Empty{}, nil
	}}, started, release
}

func begin(p *peer.T, stream uint32) {
	p.SendRequest(stream, false, emptyCall)
	p.SendData(stream, peer.Message(nil), true)
}

// onceListener does not bear a second Close.
type onceListener struct {
	net.Listener
	closed chan struct{}
}

func (l *onceListener) Close() error {
	close(l.closed)
	return l.Listener.Close()
}

func TestListenersAreClosedOnce(t *testing.T) {
	for name, end := range map[string]func(*Server, net.Listener){
		"Stop":         func(s *Server, _ net.Listener) { s.Stop() },
		"GracefulStop": func(s *Server, _ net.Listener) { s.GracefulStop() },
		"listener":     func(_ *Server, l net.Listener) { l.(*onceListener).Listener.Close() },
	} {
		t.Run(name, func(t *testing.T) {
			s := New(Config{})
			lis := &onceListener{simnet.Listen(simnet.Options{}), make(chan struct{})}
			served := make(chan error, 1)
			go func() { served <- s.Serve(lis) }()
			for listening := 0; listening == 0; runtime.Gosched() {
				s.mu.Lock()
				listening = len(s.listeners)
				s.mu.Unlock()
			}
			end(s, lis)
			<-served
			<-lis.closed
			s.Stop()
		})
	}
}

func TestGracefulStop(t *testing.T) {
	svc, started, release := blocking()
	r := newRig(t, Config{}, svc)
	p := r.peer(peer.Options{NoPingAck: true, Interleave: true})
	begin(p, 1)
	<-started
	stopped := make(chan struct{})
	go func() { r.GracefulStop(); close(stopped) }()
	f := p.WantGoAway(http2.ErrCodeNo)
	if f.Last != 1<<31-1 || f.Debug != "graceful_stop" {
		t.Errorf("first GOAWAY: %v", f)
	}
	begin(p, 3) // under way when the GOAWAY came: it is served
	<-started
	p.SendPing(true, [8]byte(p.WantPing(false).Data))
	if f = p.WantGoAway(http2.ErrCodeNo); f.Last != 3 {
		t.Errorf("second GOAWAY: %v", f)
	}
	select {
	case <-stopped:
		t.Fatal("GracefulStop did not wait")
	default:
	}
	close(release)
	for _, id := range []uint32{1, 3} {
		if res := p.WantResponse(id); res.Get("grpc-status") != "0" {
			t.Errorf("stream %d: status %q", id, res.Get("grpc-status"))
		}
	}
	p.WantClosed()
	<-stopped
	if err := r.Serve(simnet.Listen(simnet.Options{})); err != grpc.ErrServerStopped {
		t.Errorf("Serve after the end = %v", err)
	}
	r.GracefulStop() // again
}

func TestStopHastensGracefulStop(t *testing.T) {
	svc, started, ended := waiting()
	r := newRig(t, Config{}, svc)
	p := r.peer()
	begin(p, 1)
	<-started
	stopped := make(chan struct{})
	go func() { r.GracefulStop(); close(stopped) }()
	p.WantGoAway(http2.ErrCodeNo)
	r.Stop()
	<-ended
	<-stopped
}

func TestShutdown(t *testing.T) {
	t.Run("in time", func(t *testing.T) {
		r := newRig(t, Config{}, &testService{})
		if _, err := r.stub().EmptyCall(ctx(t), &testpb.Empty{}); err != nil {
			t.Fatal(err)
		}
		if err := r.Shutdown(ctx(t)); err != nil {
			t.Errorf("Shutdown = %v", err)
		}
	})
	t.Run("late", func(t *testing.T) {
		svc, started, ended := waiting()
		r := newRig(t, Config{}, svc)
		done := make(chan error, 1)
		go func() {
			_, err := r.stub().EmptyCall(context.Background(), &testpb.Empty{})
			done <- err
		}()
		<-started
		c, cancel := context.WithTimeout(context.Background(), 20*time.Millisecond)
		defer cancel()
		if err := r.Shutdown(c); err != context.DeadlineExceeded {
			t.Errorf("Shutdown = %v", err)
		}
		<-ended
		if err := <-done; status.Code(err) != codes.Unavailable {
			t.Errorf("the call: %v", err)
		}
	})
}

// A context that has ended is no failure of a server that has nothing to do.
func TestShutdownOfAnIdleServer(t *testing.T) {
	c, cancel := context.WithCancel(context.Background())
	cancel()
	for range 100 {
		if err := New(Config{}).Shutdown(c); err != nil {
			t.Fatalf("Shutdown = %v", err)
		}
	}
}

func TestWaitForHandlers(t *testing.T) {
	for _, wait := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			svc, started, release := blocking()
			r := newRig(t, Config{WaitForHandlers: wait}, svc)
			p := r.peer()
			begin(p, 1)
			<-started
			stopped := false
			go func() { r.Stop(); stopped = true }()
			p.WantTrailers(1, "grpc-status", "14", "grpc-message", "server.stopped: "+fault.ServerStopped.Summary)
			p.WantGoAway(http2.ErrCodeNo)
			p.WantClosed()
			p.Close()
			synctest.Wait()
			if stopped == wait {
				t.Errorf("WaitForHandlers %v: Stop returned %v", wait, stopped)
			}
			close(release)
			synctest.Wait()
			if !stopped {
				t.Error("Stop did not return")
			}
		})
	}
}

func TestQueueStaysSmall(t *testing.T) {
	var w workers
	w.searching = true // a worker is on its way, says the test, and plays it
	w.submit(make([]*call, 10))
	for range 100000 {
		w.submit(make([]*call, 1))
		w.head++
	}
	if n := len(w.queue) - w.head; n != 10 || cap(w.queue) > 1000 {
		t.Errorf("%d calls wait in room for %d", n, cap(w.queue))
	}
}

func TestStopClosesHandshakes(t *testing.T) {
	r := newRig(t, Config{Creds: stuckCreds{}}, &testService{})
	nc, err := r.lis.Dial(context.Background(), "")
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	r.GracefulStop()
	if _, err := nc.Read(make([]byte, 1)); err == nil {
		t.Error("the connection is open")
	}
}

func TestPrefaceTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, Config{ConnectionTimeout: 3 * time.Second}, &testService{})
		nc, err := r.lis.Dial(context.Background(), "")
		if err != nil {
			t.Fatal(err)
		}
		defer nc.Close()
		start := time.Now()
		for err = nil; err == nil; {
			_, err = nc.Read(make([]byte, 1000))
		}
		if d := time.Since(start); d != 3*time.Second {
			t.Errorf("closed after %v", d)
		}
	})
}

func TestIdleWorkersGoHome(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, Config{}, &testService{empty: func(context.Context, *testpb.Empty) (*testpb.Empty, error) {
			time.Sleep(time.Millisecond)
			return &testpb.Empty{}, nil
		}})
		p := r.peer()
		for id := uint32(1); id < 40; id += 2 {
			begin(p, id)
		}
		synctest.Wait()
		idle := func() int {
			r.work.mu.Lock()
			defer r.work.mu.Unlock()
			return len(r.work.idle)
		}
		time.Sleep(time.Second)
		if n := idle(); n < 10 {
			t.Errorf("%d workers wait, want those of 20 calls at once", n)
		}
		time.Sleep(2*idleWorkerTime + time.Second)
		if n := idle(); n != 0 {
			t.Errorf("%d workers are left", n)
		}
		begin(p, 41)
		time.Sleep(time.Second)
		if n := idle(); n != 1 {
			t.Errorf("%d workers wait after one call", n)
		}
	})
}

// flaky fails to accept at first.
type flaky struct {
	net.Listener
	left atomic.Int32
}

type temporary struct{ error }

func (temporary) Temporary() bool { return true }

func (f *flaky) Accept() (net.Conn, error) {
	if f.left.Add(-1) >= 0 {
		return nil, temporary{errors.New("too many open files")}
	}
	return f.Listener.Accept()
}

func TestAcceptBacksOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sim := simnet.Listen(simnet.Options{})
		lis := &flaky{Listener: sim}
		lis.left.Store(10)
		s := New(Config{})
		served := make(chan error)
		start := time.Now()
		go func() { served <- s.Serve(lis) }()
		nc, err := sim.Dial(context.Background(), "")
		if err != nil {
			t.Fatal(err)
		}
		nc.Read(make([]byte, 1)) // SETTINGS
		// 5+10+20+40+80+160+320+640+1000+1000 ms
		if d := time.Since(start); d != 3275*time.Millisecond {
			t.Errorf("served after %v", d)
		}
		nc.Close()
		s.Stop()
		if err := <-served; err != nil {
			t.Errorf("Serve = %v", err)
		}
	})
}

func TestServeFails(t *testing.T) {
	s, lis := New(Config{}), simnet.Listen(simnet.Options{})
	served := make(chan error)
	go func() { served <- s.Serve(lis) }()
	lis.Close()
	if err := <-served; !errors.Is(err, net.ErrClosed) {
		t.Errorf("Serve = %v", err)
	}
	s.Stop()
	s.Stop()
	s.GracefulStop()
	if err := s.Shutdown(context.Background()); err != nil {
		t.Errorf("Shutdown = %v", err)
	}
}

func TestRegisterService(t *testing.T) {
	desc := &testpb.TestService_ServiceDesc
	for _, tc := range []struct {
		want string
		do   func(s *Server)
	}{
		{"is registered already", func(s *Server) { s.RegisterService(desc, &testService{}); s.RegisterService(desc, &testService{}) }},
		{"does not implement", func(s *Server) { s.RegisterService(desc, "a string") }},
		{"before Serve", func(s *Server) {
			s.Stop()
			s.Serve(simnet.Listen(simnet.Options{}))
			s.RegisterService(desc, &testService{})
		}},
	} {
		func() {
			defer func() {
				if text, _ := recover().(string); !strings.Contains(text, tc.want) || !strings.Contains(text, "grpc.testing.TestService") {
					t.Errorf("panic %q, want %q", text, tc.want)
				}
			}()
			tc.do(New(Config{}))
		}()
	}
	s := New(Config{})
	s.RegisterService(desc, nil)
	info := s.GetServiceInfo()["grpc.testing.TestService"]
	if len(info.Methods) != len(desc.Methods)+len(desc.Streams) || info.Metadata != desc.Metadata {
		t.Errorf("info = %+v", info)
	}
}
