// SPDX-License-Identifier: Apache-2.0

package server

import (
	"context"

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

// Stop closes listeners and connections at once. The contexts of handlers end
// with the cause server.stopped; their callers see the connection close. It
// waits for handlers only if Config.WaitForHandlers is set.
func (s *Server) Stop() {
	s.advance(halted)
	<-s.connsGone
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
	s.Stop()
	return ctx.Err()
}

// advance moves on to a later phase, and has connections and listeners follow.
func (s *Server) advance(to phase) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.sealLocked()
	if s.phase >= to {
		return
	}
	if s.phase == serving {
		close(s.quit)
	}
	s.phase = to
	s.stopping.Store(true)
	s.stopped.Store(to == halted)
	for lis := range s.listeners {
		lis.Close()
	}
	for c := range s.conns {
		switch {
		case c.h2 == nil: // in its handshake: it has no calls yet
			go c.raw.Close() // a custom connection may take its time; the lock is held here
		case to == halted:
			c.h2.Close(h2.NoError, "server stopped")
		default:
			c.h2.Drain("graceful_stop")
		}
	}
	s.settleLocked()
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
