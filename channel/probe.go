// SPDX-License-Identifier: Apache-2.0

package channel

import (
	"sync"
	"sync/atomic"
	"time"
)

// A call whose deadline expires says whether its server was alive meanwhile. So
// that this is known by then, a connection that is silent for a third of a
// call's time is asked for a sign of life with a PING, at most one until the
// server has sent HEADERS or DATA again (h2.Conn.Probe). One timer per
// connection looks after all its calls, and only while there are any.
const (
	// probeShare is the part of a call's time after which silence is noticed.
	probeShare = 3
	// minProbe is the shortest time between looks: calls with less than three
	// times as much are over before an answer could come.
	minProbe = 5 * time.Millisecond
	// maxProbe bounds the time between looks.
	maxProbe = time.Hour
)

// prober looks for signs of life.
type prober struct {
	every atomic.Int64 // nanoseconds between looks; 0: nobody waits

	mu    sync.Mutex
	timer *time.Timer // guarded by mu; nil before the first call and after stop
	over  bool        // guarded by mu
	seen  uint64      // guarded by mu: the connection's activity at the last look
	looks int         // guarded by mu: since a call asked for this pace
}

// Expect says that a call has so much time left when its stream is about to be
// opened. For all but the first of many calls it is one load.
func (p *Picked) Expect(left time.Duration) {
	if p.link == nil {
		return
	}
	share := left / probeShare
	if every := p.link.probe.every.Load(); (every == 0 || time.Duration(every) > share) && share >= minProbe {
		p.link.startProbe(min(share, maxProbe))
	}
}

func (l *link) startProbe(every time.Duration) {
	p := &l.probe
	p.mu.Lock()
	defer p.mu.Unlock()
	if last := time.Duration(p.every.Load()); p.over || last != 0 && last <= every {
		return
	}
	p.every.Store(int64(every))
	p.seen, p.looks = l.conn.Activity(), 0
	if p.timer == nil {
		p.timer = time.AfterFunc(every, l.look)
		return
	}
	p.timer.Reset(every)
}

// look asks a silent peer, and slows down when no call has asked for this pace
// for as long as it was meant to help.
func (l *link) look() {
	p := &l.probe
	activity, streams := l.conn.Activity(), l.conn.Active()
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case p.over:
		return
	case streams == 0:
		p.every.Store(0) // the next call starts it again
		return
	case activity == p.seen:
		l.conn.Probe()
	}
	p.seen = activity
	if p.looks++; p.looks > probeShare {
		p.looks = 0
		p.every.Store(min(2*p.every.Load(), int64(maxProbe)))
	}
	p.timer.Reset(time.Duration(p.every.Load()))
}

// stop ends the looks.
func (p *prober) stop() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.over = true
	if p.timer != nil {
		p.timer.Stop()
	}
}
