// SPDX-License-Identifier: Apache-2.0

package server

import (
	"sync"
	"sync/atomic"
)

// parking is a connection's waiting room. The handlers of streams that were
// reset run on, and count against MaxConcurrentStreams until they return: so
// resetting streams does not pile handlers up (CVE-2023-44487). A client that
// gives up calls and makes others keeps within the limit that it was told all
// the same, so its new calls are not refused: they wait here for handlers to
// return. Only open streams wait, and h2 bounds those.
type parking struct {
	n           atomic.Int64
	mu          sync.Mutex
	first, last *call // guarded by mu
}

// place is a call's own part of the list it waits in.
type place struct {
	prev, next *call // guarded by parking.mu
	parked     bool  // guarded by parking.mu
}

// room counts one more handler, if the connection may have it.
func (c *conn) room() bool { return below(&c.running, int64(c.srv.cfg.MaxConcurrentStreams)) }

// below adds one to n, unless that would make it more than limit. Who is turned
// away is at no moment counted: it must not be in the way of others.
func below(n *atomic.Int64, limit int64) bool {
	for now := n.Load(); now < limit; now = n.Load() {
		if n.CompareAndSwap(now, now+1) {
			return true
		}
	}
	return false
}

// park has k wait for a handler to return.
func (c *conn) park(k *call) {
	p := &c.parking
	p.mu.Lock()
	k.place = place{prev: p.last, parked: true}
	if p.last == nil {
		p.first = k
	} else {
		p.last.place.next = k
	}
	p.last = k
	p.n.Add(1)
	p.mu.Unlock()
	c.unpark() // a handler may have returned since room said no
}

// unpark hands calls that wait to the workers, as many as may run.
func (c *conn) unpark() {
	p := &c.parking
	var ready []*call
	p.mu.Lock()
	for p.first != nil && c.room() {
		k := p.first
		p.removeLocked(k)
		ready = append(ready, k)
	}
	p.mu.Unlock()
	if len(ready) > 0 {
		c.srv.work.submit(ready)
	}
}

// withdraw takes back a call that waits. It reports false if k does not.
func (c *conn) withdraw(k *call) bool {
	p := &c.parking
	p.mu.Lock()
	defer p.mu.Unlock()
	if !k.place.parked {
		return false
	}
	p.removeLocked(k)
	return true
}

func (p *parking) removeLocked(k *call) {
	at := k.place
	if at.prev == nil {
		p.first = at.next
	} else {
		at.prev.place.next = at.next
	}
	if at.next == nil {
		p.last = at.prev
	} else {
		at.next.place.prev = at.prev
	}
	k.place = place{}
	p.n.Add(-1)
}

// returned makes room for another call.
func (c *conn) returned() {
	c.running.Add(-1)
	if c.parking.n.Load() > 0 {
		c.unpark()
	}
}
