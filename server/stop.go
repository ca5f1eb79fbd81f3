// SPDX-License-Identifier: Apache-2.0

package server

import (
	"context"
	"net"
	"time"

	"github.com/faultline-rpc/faultline/fault"
	"github.com/faultline-rpc/faultline/h2"
)

// How a server ends:
//
//	+---------+  GracefulStop, Shutdown  +----------+
//	| serving | -----------------------> | draining |
//	+---------+                          +----------+
//	     |                                    | Stop, or Shutdown's context ends
//	     |              Stop                  v
//	     +------------------------------> +--------+
//	                                      | halted |
//	                                      +--------+
//
// draining: listeners are closed, connections say GOAWAY and end after their
// last call. halted: connections are closed under their calls.
type phase uint8

const (
	serving phase = iota
	draining
	halted
)

// stopTime bounds the wait for clients that do not read, or do not close, when
// the server stops.
const stopTime = 250 * time.Millisecond

// Stop closes listeners and connections at once. Calls that are not answered
// are, with UNAVAILABLE: server.stopped if their handlers run, whose contexts
// end with that as their cause, else server.draining, which promises that no
// handler ran. A client has a quarter of a second to take the answers. Stop
// waits for handlers only if Config.WaitForHandlers is set.
func (s *Server) Stop() {
	s.advance(halted)
	timer := time.AfterFunc(stopTime, s.abort)
	<-s.connsGone
	timer.Stop()
	if s.cfg.WaitForHandlers {
		<-s.callsGone
	}
	s.finished()
}

// GracefulStop lets the calls in flight finish, takes no new ones, and returns
// when all handlers and connections have ended. A Stop meanwhile hastens it.
func (s *Server) GracefulStop() {
	s.advance(draining)
	<-s.connsGone
	<-s.callsGone
	s.finished()
}

// Shutdown is GracefulStop until ctx ends, then Stop. It returns nil if every
// call could finish, and otherwise ctx's error.
func (s *Server) Shutdown(ctx context.Context) error {
	s.advance(draining)
	select {
	case <-s.callsGone:
		s.finished()
		return nil
	case <-ctx.Done():
	}
	select {
	case <-s.callsGone: // both had happened
		s.finished()
		return nil
	default:
	}
	s.Stop()
	return ctx.Err()
}

// advance moves on to a later phase, and has connections and listeners follow.
func (s *Server) advance(to phase) {
	for _, c := range s.enter(to) {
		running := fault.ServerStopped.New(fault.Args{Side: fault.Local, Processed: fault.Maybe, Evidence: c.evidence()})
		waiting := fault.ServerDraining.New(fault.Args{Side: fault.Local, Processed: fault.No, Evidence: c.evidence()})
		c.interrupt(running, waiting)
		c.h2.Close(h2.NoError, "server stopped")
	}
}

// enter changes the phase and returns the connections to halt.
func (s *Server) enter(to phase) (halt []*conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.sealLocked()
	if s.phase >= to {
		return nil
	}
	if s.phase == serving {
		close(s.quit)
	}
	s.phase = to
	s.stopping.Store(true)
	s.stopped.Store(to == halted)
	for lis := range s.listeners {
		lis.Close()
		delete(s.listeners, lis)
	}
	for c := range s.conns {
		switch {
		case c.h2 == nil: // in its handshake: it has no calls yet
			go c.raw.Close() // a custom connection may take its time; the lock is held here
		case to == halted:
			halt = append(halt, c)
		default:
			c.h2.Drain("graceful_stop")
		}
	}
	s.settleLocked()
	return halt
}

// abort gives up the connections that are left.
func (s *Server) abort() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for c := range s.conns {
		if c.h2 != nil {
			c.h2.Abort(net.ErrClosed)
		}
	}
}

// settleLocked tells those who wait what has ended.
func (s *Server) settleLocked() {
	if s.phase == serving || len(s.conns) > 0 {
		return
	}
	closeOnce(s.connsGone)
	if s.calls.Load() == 0 {
		closeOnce(s.callsGone)
	}
}

// closeOnce closes ch unless it is closed; the caller holds the server's lock.
func closeOnce(ch chan struct{}) {
	select {
	case <-ch:
	default:
		close(ch)
	}
}

// callEnded uncounts a call. Whichever comes second, the last call's end or
// the server's phase, sees the other.
func (s *Server) callEnded() {
	if s.calls.Add(-1) == 0 && s.stopping.Load() {
		s.mu.Lock()
		s.settleLocked()
		s.mu.Unlock()
	}
}

// finished is the end of each way to stop.
func (s *Server) finished() {
	s.work.stop()
	s.doneOnce.Do(func() { close(s.done) })
}
