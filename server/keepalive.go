// SPDX-License-Identifier: Apache-2.0

package server

import (
	"math/rand/v2"
	"sync"
	"time"

	"github.com/faultline-rpc/faultline/fault"
	"github.com/faultline-rpc/faultline/h2"
)

// keeper looks after one connection's lifetime.
type keeper struct {
	c     *conn
	mu    sync.Mutex
	life  *lifetime   // guarded by mu
	timer *time.Timer // guarded by mu; nil after stop
}

// keep begins to look after the connection, which has been adopted.
func (c *conn) keep() *keeper {
	k := &keeper{c: c}
	k.mu.Lock()
	defer k.mu.Unlock()
	now := time.Now()
	k.life = newLifetime(c.srv.cfg.Keepalive, rand.Float64(), now, c.h2.Tally())
	k.timer = time.AfterFunc(k.life.next(now), k.look)
	return k
}

func (k *keeper) look() {
	t := k.c.h2.Tally()
	k.mu.Lock()
	if k.timer == nil {
		k.mu.Unlock()
		return
	}
	do, wait := k.life.look(time.Now(), t)
	if wait < never {
		k.timer.Reset(wait)
	}
	k.mu.Unlock()
	k.c.obey(do)
}

// stop ends the care.
func (k *keeper) stop() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.timer.Stop()
	k.timer = nil
}

// obey does what the connection's lifetime demands.
func (c *conn) obey(v verdict) {
	p := &c.srv.cfg.Keepalive
	switch v {
	case sendPing:
		// It is not sent if sixteen before were not answered: the timeout decides.
		_ = c.h2.Ping(nil)
	case giveUp:
		peer := addr(c.peer.Addr)
		c.h2.Abort(fault.HTTP2Keepalive.Newf(fault.Args{Side: fault.Between,
			Evidence: &fault.Evidence{Address: peer, Local: addr(c.peer.LocalAddr), Waiting: "keepalive ping", Option: "KeepaliveParams"}},
			"%s sent nothing for %v and did not answer a keepalive ping within %v", peer, p.Time, p.Timeout))
	case retireIdle:
		c.h2.Drain("max_idle")
	case retireOld:
		c.h2.Drain("max_age")
	case cutOff:
		a := fault.Args{Side: fault.Local, Processed: fault.Maybe, Evidence: c.evidence()}
		a.Evidence.Option = "MaxConnectionAgeGrace"
		f := fault.ServerMaxAge.New(a)
		c.interrupt(f, f.WithProcessed(fault.No))
		c.h2.Close(h2.NoError, "max_age")
	}
}

// pinged takes a PING of the peer's. It runs on the reader.
func (c *conn) pinged() {
	if c.enforcer.ping(time.Now(), c.h2.Tally()) {
		c.h2.Close(h2.EnhanceYourCalm, "too_many_pings")
	}
}
