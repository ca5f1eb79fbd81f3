// SPDX-License-Identifier: Apache-2.0

package channel

import (
	"context"
	"errors"
	"net"
	"sync/atomic"
	"time"

	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/resolver"
	"google.golang.org/grpc/stats"

	"github.com/faultline-rpc/faultline/fault"
	"github.com/faultline-rpc/faultline/h2"
	"github.com/faultline-rpc/faultline/internal/sockopt"
)

// link is one connection, from the dial to its end:
//
//	dial (dial.go, proxy.go) -> handshake (tls.go) -> the peer's SETTINGS,
//	or what came instead (preface.go) -> ready -> GOAWAY or the end
//
// It is the connection's h2.ConnHandler.
type link struct {
	sub     *Subchannel
	attempt *attempt
	addr    resolver.Address
	conn    *h2.Conn
	peer    peer.Peer
	plan    dialPlan
	plain   bool        // there is no transport security
	disarm  func() bool // stops the connect deadline; nil once ready
	isReady atomic.Bool
	born    time.Time              // before isReady
	keeper  atomic.Pointer[keeper] // nil without keepalive
	probe   prober
}

// errGivenUp aborts a connection whose attempt ended before it was ready.
var errGivenUp = errors.New("the connection attempt is over")

// dial opens a connection to addr and shakes hands over it. The fault is
// returned if the attempt may go on with the next address.
func (s *Subchannel) dial(a *attempt, addr resolver.Address) (*link, *fault.Fault) {
	c := s.c
	ctx := withHandshakeInfo(a.ctx, credentials.ClientHandshakeInfo{Attributes: addr.Attributes})
	d := c.plan(addr)
	nc, f := d.open(ctx, c)
	if f != nil {
		return nil, f
	}
	if c.cfg.Creds.Info().SecurityProtocol != "insecure" {
		s.advance(a, stageHandshake)
	}
	if kp := c.cfg.Keepalive; kp.Time > 0 {
		sockopt.LimitSilence(nc, kp.Timeout)
	}
	ev := d.evidence(c)
	ev.Local = addrString(nc.LocalAddr())
	nc, info, f := c.handshake(ctx, nc, c.serverName(addr), ev)
	if f != nil {
		return nil, s.afterHandshake(ctx, d, f, f.Evidence().Host)
	}
	s.advance(a, stageSettings)
	l := &link{sub: s, attempt: a, addr: addr, plan: d,
		peer:  peer.Peer{Addr: nc.RemoteAddr(), LocalAddr: nc.LocalAddr(), AuthInfo: info},
		plain: info == nil || info.AuthType() == "insecure"}
	cfg := c.cfg.H2
	cfg.Sink = c.cfg.Sink
	cfg.ConnID = c.connID()
	armed := make(chan struct{})
	l.disarm = context.AfterFunc(a.ctx, func() {
		<-armed
		l.conn.Abort(errGivenUp)
	})
	l.conn = h2.NewClient(nc, cfg, l)
	close(armed)
	if !c.track(l) {
		l.conn.Abort(errGivenUp)
	}
	return l, nil
}

// evidence is what is known of the connection.
func (l *link) evidence() fault.Evidence {
	ev := l.plan.evidence(l.sub.c)
	ev.Local = addrString(l.peer.LocalAddr)
	return ev
}

// serverName is what the handshake verifies, and the :authority of calls: the
// authority option, the address's own name, the channel's authority.
func (c *Channel) serverName(a resolver.Address) string {
	if c.cfg.Authority == "" && a.ServerName != "" {
		return a.ServerName
	}
	return c.authority
}

// tag has the stats handlers see the connection begin; the func returned has
// them see it end.
func (l *link) tag() (end func()) {
	list := l.sub.c.cfg.StatsHandlers
	ctx := peer.NewContext(context.Background(), &l.peer)
	for _, h := range list {
		ctx = h.TagConn(ctx, &stats.ConnTagInfo{RemoteAddr: l.peer.Addr, LocalAddr: l.peer.LocalAddr})
	}
	for _, h := range list {
		h.HandleConn(ctx, &stats.ConnBegin{Client: true})
	}
	return func() {
		for _, h := range list {
			h.HandleConn(ctx, &stats.ConnEnd{Client: true})
		}
	}
}

// serve reads until the connection ends. It returns nil if it had been ready.
func (l *link) serve() *fault.Fault {
	if len(l.sub.c.cfg.StatsHandlers) > 0 {
		defer l.tag()()
	}
	err := l.conn.Run()
	if l.disarm != nil {
		l.disarm()
	}
	l.keeper.Load().stop()
	l.probe.stop()
	l.sub.c.untrack(l)
	l.sub.lost(l, partUnknown)
	if l.isReady.Load() {
		l.logEnd(err)
		return nil
	}
	return l.prefaceFault(err)
}

// Ready implements h2.ConnHandler.
func (l *link) Ready() {
	if !l.disarm() {
		return // the deadline was first: the connection is being aborted
	}
	l.born = time.Now()
	if !l.sub.becameReady(l.attempt, l) {
		l.conn.Abort(errGivenUp)
		return
	}
	l.isReady.Store(true)
	l.sub.c.measures.connected(l)
	l.attempt, l.disarm = nil, nil // over: contexts and timers need not stay
	l.keepAlive()
}

// NewStream implements h2.ConnHandler: servers open no streams.
func (l *link) NewStream(*h2.Block) *h2.Stream { return nil }

// BatchEnd implements h2.ConnHandler.
func (l *link) BatchEnd() {}

// GoAway implements h2.ConnHandler: the connection lives on for the streams it
// carries.
func (l *link) GoAway(g *h2.GoAwayError) {
	l.calm(g)
	l.sub.lived(l, l.retired(g))
	l.sub.lost(l, partGoAway(g))
	l.logGoAway(g)
}

// Closed implements h2.ConnHandler.
func (l *link) Closed(e *h2.ConnError) {
	l.sub.lived(l, l.broke(e))
	l.sub.lost(l, partBroken(e))
}

func addrString(a net.Addr) string {
	if a == nil {
		return ""
	}
	return a.String()
}
