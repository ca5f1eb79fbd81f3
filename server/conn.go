// SPDX-License-Identifier: Apache-2.0

package server

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"sync/atomic"
	"time"

	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/peer"

	"github.com/faultline-rpc/faultline/event"
	"github.com/faultline-rpc/faultline/fault"
	"github.com/faultline-rpc/faultline/h2"
	"github.com/faultline-rpc/faultline/internal/sockopt"
	"github.com/faultline-rpc/faultline/wire"
)

// conn is one served connection:
//
//	accepted -> handshake -> serving -> (draining) -> gone
//
// The goroutine that accepted it makes the handshake and is its reader.
type conn struct {
	srv  *Server
	id   uint64 // in events
	raw  net.Conn
	h2   *h2.Conn // guarded by srv.mu; nil during the handshake
	peer *peer.Peer
	base context.Context // what the stats handlers made for it; nil without

	trusted bool // the peer may see trails

	batch   []*call       // the reader's own: what this read brought
	clock   time.Duration // the reader's own: when the batch began, as Server.now has it
	waiting int           // the reader's own: calls opened, and not dispatched yet
	running atomic.Int64  // calls that workers have or get, and whose handlers have not returned
	parking parking

	enforcer enforcer // the reader's own
}

var _ wire.ServerHandler = (*conn)(nil)

// serve is the connection's life.
func (c *conn) serve() {
	defer c.srv.removeConn(c)
	start := time.Now()
	if kp := c.srv.cfg.Keepalive; kp.Time < never {
		sockopt.LimitSilence(c.raw, kp.Timeout)
	}
	nc, auth, err := c.handshake(start)
	if err != nil {
		c.handshakeFailed(err)
		return
	}
	c.peer = &peer.Peer{Addr: nc.RemoteAddr(), LocalAddr: nc.LocalAddr(), AuthInfo: auth}
	c.trusted = trusts(c.srv.cfg.Trusted, c.peer)
	left := max(c.srv.cfg.ConnectionTimeout-time.Since(start), time.Millisecond)
	if len(c.srv.cfg.StatsHandlers) > 0 {
		defer c.tag()()
	}
	cfg := c.srv.cfg.h2(c.id, left)
	cfg.Pinged = c.pinged
	if c.srv.journal != nil {
		cfg.Refused = c.refused
	}
	c.enforcer.policy = c.srv.cfg.Enforcement
	conn := wire.NewServerConn(nc, cfg, c, c.srv.budget)
	if !c.srv.adopt(c, conn) {
		conn.Abort(net.ErrClosed)
	}
	defer c.keep().stop()
	c.logEnd(conn.Run()) // why it ended is an event as well, and each call's fault
}

// handshake secures the connection, if there are credentials.
func (c *conn) handshake(start time.Time) (net.Conn, credentials.AuthInfo, error) {
	creds := c.srv.cfg.Creds
	if creds == nil {
		return c.raw, nil, nil
	}
	if err := c.raw.SetDeadline(start.Add(c.srv.cfg.ConnectionTimeout)); err != nil {
		return nil, nil, err
	}
	nc, auth, err := creds.ServerHandshake(c.raw)
	if err != nil {
		return nil, nil, err
	}
	return nc, auth, nc.SetDeadline(time.Time{})
}

func (c *conn) handshakeFailed(err error) {
	if errors.Is(err, credentials.ErrConnDispatched) {
		return // somebody else serves the connection, and closes it
	}
	c.raw.Close()
	s := c.srv
	level := slog.LevelWarn
	if errors.Is(err, io.EOF) || s.stopping.Load() {
		level = slog.LevelDebug // a probe that only connects, or our own doing
	}
	f := fault.TLSHandshake.Newf(fault.Args{Side: fault.Remote, Processed: fault.No, Cause: err,
		Evidence: &fault.Evidence{Address: addr(c.raw.RemoteAddr()), Local: addr(c.raw.LocalAddr())}},
		"the handshake with %s failed: %v", addr(c.raw.RemoteAddr()), err)
	c.between().Failed(s.cfg.Logger, level, "a connection was not secured", f)
	if s.cfg.Sink != nil {
		s.cfg.Sink.Record(event.ConnClosed{Conn: c.id, Role: event.Server, Err: f})
	}
}

// evidence says between whom the connection is.
func (c *conn) evidence() *fault.Evidence {
	return &fault.Evidence{Address: addr(c.peer.Addr), Local: addr(c.peer.LocalAddr)}
}

func addr(a net.Addr) string {
	if a == nil {
		return ""
	}
	return a.String()
}

// Ready implements wire.ServerHandler. h2 has told observers.
func (c *conn) Ready() {}

// GoAway implements wire.ServerHandler: a client that says goodbye still gets
// the answers it waits for.
func (c *conn) GoAway(*h2.GoAwayError) {}

// Closed implements wire.ServerHandler. What arrived in the same read as the
// connection's end still goes to the workers, which end it. Those that wait
// were answered by [conn.interrupt]: no worker ends them.
func (c *conn) Closed(*h2.ConnError) {
	c.BatchEnd()
	for ; c.waiting > 0; c.waiting-- {
		c.srv.callEnded()
	}
}
