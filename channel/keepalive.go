// SPDX-License-Identifier: Apache-2.0

package channel

import (
	"math"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc/keepalive"

	"github.com/faultline-rpc/faultline/fault"
	"github.com/faultline-rpc/faultline/h2"
)

// tooManyPings is the debug data of a GOAWAY against keepalive (gRFC A8).
const tooManyPings = "too_many_pings"

// Client-side keepalive
// (https://github.com/grpc/proposal/blob/master/A8-client-side-keepalive.md).
const (
	minKeepaliveTime        = 10 * time.Second
	defaultKeepaliveTimeout = 20 * time.Second
	// keepaliveTicks is how often within the keepalive time a connection is
	// looked at: a ping is late by an eighth of the time at most, never early.
	keepaliveTicks = 8
)

// keepaliveDefaults returns the parameters that apply. Time 0 is off.
func keepaliveDefaults(p keepalive.ClientParameters) keepalive.ClientParameters {
	if p.Time <= 0 {
		return keepalive.ClientParameters{}
	}
	p.Time = max(p.Time, minKeepaliveTime)
	if p.Timeout <= 0 {
		p.Timeout = defaultKeepaliveTimeout
	}
	return p
}

// pulse is the arithmetic of keepalive: it is told what a connection did and
// says what to do. It holds no clock.
type pulse struct {
	every   time.Duration // without a read before a ping is sent
	timeout time.Duration // after a ping, for anything to be read
	always  bool          // also without a stream

	activity uint64    // the connection's, when last looked at
	heard    time.Time // when activity last had changed
	pinged   time.Time // when the ping was sent that is not answered; zero if none
	dormant  bool      // a ping is due that has to wait for a stream
}

// beat is what a pulse asks for.
type beat uint8

const (
	rest beat = iota
	ping
	dead
)

// step looks at a connection at the time now. It returns what to do and when to
// look again.
func (p *pulse) step(now time.Time, activity uint64, streams int) (beat, time.Duration) {
	tick := p.every / keepaliveTicks
	p.dormant = false
	if activity != p.activity || p.heard.IsZero() {
		p.activity, p.heard, p.pinged = activity, now, time.Time{}
		return rest, tick
	}
	if !p.pinged.IsZero() {
		left := p.timeout - now.Sub(p.pinged)
		if left <= 0 {
			return dead, 0
		}
		return rest, min(left, tick)
	}
	if left := p.every - now.Sub(p.heard); left > 0 {
		return rest, min(left, tick)
	}
	if streams == 0 && !p.always {
		p.dormant = true
		return rest, tick // dormant: servers count such pings as abuse (gRFC A9)
	}
	p.pinged = now
	return ping, min(p.timeout, tick)
}

// keeper keeps one connection's pulse.
type keeper struct {
	l     *link
	every time.Duration // never changes
	mu    sync.Mutex
	p     pulse       // guarded by mu
	timer *time.Timer // guarded by mu; nil after stop

	dormant atomic.Bool // p.dormant, for calls to see
}

// keepAlive begins to watch the connection, if the channel is to.
func (l *link) keepAlive() {
	every := time.Duration(l.sub.c.pingEvery.Load())
	if every <= 0 {
		return
	}
	kp := l.sub.c.cfg.Keepalive
	k := &keeper{l: l, every: every, p: pulse{every: every, timeout: kp.Timeout, always: kp.PermitWithoutStream}}
	k.mu.Lock()
	defer k.mu.Unlock()
	_, wait := k.p.step(time.Now(), l.conn.Activity(), 0)
	k.timer = time.AfterFunc(wait, k.look)
	l.keeper.Store(k)
}

func (k *keeper) look() { k.beat(k.l.conn.Activity(), k.l.conn.Active()) }

// wake is told that a call is about to use the connection. After dormancy the
// ping goes before it: "if a new stream is created and there has been greater
// than 'keepalive time' since the last read byte, then a keepalive PING should
// be sent (ideally before the HEADERS frame)" (gRFC A8).
func (k *keeper) wake() {
	if k != nil && k.dormant.Load() {
		k.beat(k.l.conn.Activity(), k.l.conn.Active()+1)
	}
}

// beat does what the pulse asks for.
func (k *keeper) beat(activity uint64, streams int) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.timer == nil {
		return
	}
	do, wait := k.p.step(time.Now(), activity, streams)
	k.dormant.Store(k.p.dormant)
	switch do {
	case dead:
		k.timer = nil
		k.l.conn.Abort(k.silent())
		return
	case ping:
		// It is not sent if sixteen before were not answered: then the next read
		// or the timeout decides as well.
		_ = k.l.conn.Ping(nil)
	}
	k.timer.Reset(wait)
}

// stop ends the watch.
func (k *keeper) stop() {
	if k == nil {
		return
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.timer != nil {
		k.timer.Stop()
		k.timer = nil
	}
}

// silent is the fault of a connection whose ping was not answered.
func (k *keeper) silent() *fault.Fault {
	return silentFault(k.l.evidence(), k.every, k.l.sub.c.cfg.Keepalive.Timeout)
}

func silentFault(ev fault.Evidence, every, timeout time.Duration) *fault.Fault {
	ev.Waiting, ev.Option = "keepalive ping", "WithKeepaliveParams"
	return fault.HTTP2Keepalive.Newf(fault.Args{Side: fault.Between, Evidence: &ev},
		"%s sent nothing for %v and did not answer a keepalive ping within %v", ev.Address, every, timeout)
}

// calm doubles the keepalive time of later connections after a server has
// complained of too many pings.
func (l *link) calm(g *h2.GoAwayError) {
	k := l.keeper.Load()
	if k == nil || g.Code != h2.EnhanceYourCalm || g.Debug != tooManyPings {
		return
	}
	doubled := int64(min(k.every, math.MaxInt64/2) * 2)
	for {
		now := l.sub.c.pingEvery.Load()
		if now >= doubled || l.sub.c.pingEvery.CompareAndSwap(now, doubled) {
			return
		}
	}
}
