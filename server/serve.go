// SPDX-License-Identifier: Apache-2.0

package server

import (
	"net"
	"time"

	"google.golang.org/grpc"

	"github.com/faultline-rpc/faultline/h2"
)

const (
	minAcceptWait = 5 * time.Millisecond
	maxAcceptWait = time.Second
)

// Serve accepts connections on lis and serves them, until lis fails, or until
// Stop, GracefulStop or Shutdown, for which it waits and then returns nil. It
// closes lis. After one of these it returns grpc.ErrServerStopped.
//
// A temporary error of Accept is waited out, 5 ms at first and twice as long
// each time, up to 1 s.
func (s *Server) Serve(lis net.Listener) error {
	s.mu.Lock()
	s.sealLocked()
	if s.phase != serving {
		s.mu.Unlock()
		lis.Close()
		return grpc.ErrServerStopped
	}
	s.listeners[lis] = struct{}{}
	s.mu.Unlock()
	err := s.accept(lis)
	s.mu.Lock()
	_, open := s.listeners[lis] // those of programs may take one Close only
	delete(s.listeners, lis)
	stopping := s.phase != serving
	s.mu.Unlock()
	if open {
		lis.Close()
	}
	if stopping {
		<-s.done
		return nil
	}
	return err
}

// accept returns what Accept failed with.
func (s *Server) accept(lis net.Listener) error {
	wait := time.Duration(0)
	for {
		raw, err := lis.Accept()
		if err == nil {
			wait = 0
			s.start(raw)
			continue
		}
		temporary, ok := err.(interface{ Temporary() bool })
		if !ok || !temporary.Temporary() || s.stopping.Load() {
			return err
		}
		wait = min(max(2*wait, minAcceptWait), maxAcceptWait)
		timer := time.NewTimer(wait)
		select {
		case <-timer.C:
		case <-s.quit:
			timer.Stop()
			return err
		}
	}
}

// start serves a connection just accepted.
func (s *Server) start(raw net.Conn) {
	c := &conn{srv: s, id: s.connID(), raw: raw}
	if !s.admit(c) {
		raw.Close()
		return
	}
	go c.serve()
}

// admit counts c among the server's connections; false means that the server
// is stopping.
func (s *Server) admit(c *conn) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.sealLocked()
	if s.phase != serving {
		return false
	}
	s.conns[c] = struct{}{}
	return true
}

// adopt notes that c has made its handshake; false means that the server is
// stopping.
func (s *Server) adopt(c *conn, conn *h2.Conn) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	c.h2 = conn
	return s.phase == serving
}

func (s *Server) removeConn(c *conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.conns, c)
	s.settleLocked()
}
