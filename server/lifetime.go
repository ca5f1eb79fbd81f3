// SPDX-License-Identifier: Apache-2.0

package server

import (
	"math"
	"time"

	"google.golang.org/grpc/keepalive"

	"github.com/faultline-rpc/faultline/h2"
)

// The arithmetic of a connection's lifetime
// (https://github.com/grpc/proposal/blob/master/A9-server-side-conn-mgt.md).
// It holds no clock: time is an argument.
const (
	defaultPingTime    = 2 * time.Hour
	defaultPingTimeout = 20 * time.Second
	minPingTime        = time.Second // as in grpc-go
	defaultMinTime     = 5 * time.Minute
	// maxStrikes is how many bad pings are forgiven.
	maxStrikes = 2
	// lookEvery is how often within the shortest time set a connection is looked
	// at: what depends on silence is late by an eighth at most, never early.
	lookEvery = 8

	never = time.Duration(math.MaxInt64)
)

// keepaliveDefaults returns the parameters that apply.
func keepaliveDefaults(p keepalive.ServerParameters) keepalive.ServerParameters {
	set := func(d *time.Duration, def time.Duration) {
		if *d <= 0 {
			*d = def
		}
	}
	set(&p.MaxConnectionIdle, never)
	set(&p.MaxConnectionAge, never)
	set(&p.MaxConnectionAgeGrace, never)
	set(&p.Time, defaultPingTime)
	set(&p.Timeout, defaultPingTimeout)
	p.Time = max(p.Time, minPingTime)
	return p
}

// jittered spreads an age by 10 % to either side, so that connections which
// were made together do not end together. r is random, from 0 up to 1.
func jittered(age time.Duration, r float64) time.Duration {
	if age == never {
		return never
	}
	return age + time.Duration((2*r-1)*float64(age)/10)
}

// lifetime is told what a connection did, and says what to do with it.
type lifetime struct {
	p     keepalive.ServerParameters // all of them set
	age   time.Duration              // its own, jittered
	born  time.Time
	heard time.Time // when a look last found that something had been read
	quiet time.Time // when a look last found a stream, or that there had been one
	ping  time.Time // when the ping was sent that is not answered; zero if none
	left  time.Time // when the connection was retired for its age; zero before
	seen  h2.Tally  // of the last look
	idle  bool      // retired for its idleness
	gone  bool      // nothing is left to do but to wait for its end
}

// verdict is what to do with a connection.
type verdict uint8

const (
	carryOn  verdict = iota
	sendPing         // to hear whether the peer lives
	giveUp           // it does not
	retireIdle
	retireOld
	cutOff // the grace is over
)

func newLifetime(p keepalive.ServerParameters, r float64, now time.Time, t h2.Tally) *lifetime {
	return &lifetime{p: p, age: jittered(p.MaxConnectionAge, r), born: now, heard: now, quiet: now, seen: t}
}

// look returns what to do now, and when to look again.
func (l *lifetime) look(now time.Time, t h2.Tally) (verdict, time.Duration) {
	if t.Reads != l.seen.Reads {
		l.heard, l.ping = now, time.Time{}
	}
	if t.Open > 0 || l.seen.Open > 0 || t.LastID != l.seen.LastID {
		l.quiet = now
	}
	l.seen = t
	v := l.judge(now, t)
	return v, l.next(now)
}

// judge says what is due; of several things the gravest.
func (l *lifetime) judge(now time.Time, t h2.Tally) verdict {
	switch {
	case l.gone:
		return carryOn
	case !l.ping.IsZero() && now.Sub(l.ping) >= l.p.Timeout:
		l.gone = true
		return giveUp
	case !l.left.IsZero() && now.Sub(l.left) >= l.p.MaxConnectionAgeGrace:
		l.gone = true
		return cutOff
	case l.left.IsZero() && now.Sub(l.born) >= l.age:
		l.left = now
		return retireOld
	case l.left.IsZero() && !l.idle && t.Open == 0 && now.Sub(l.quiet) >= l.p.MaxConnectionIdle:
		l.idle = true
		return retireIdle
	case l.ping.IsZero() && now.Sub(l.heard) >= l.p.Time:
		l.ping = now
		return sendPing
	}
	return carryOn
}

// next is the time until something may be due; never if nothing will be.
func (l *lifetime) next(now time.Time) time.Duration {
	if l.gone {
		return never
	}
	until := func(from time.Time, d time.Duration) time.Duration {
		if d == never {
			return never
		}
		return max(d-now.Sub(from), 0)
	}
	wait := never
	if l.p.Time != never {
		wait = min(until(l.heard, l.p.Time), l.p.Time/lookEvery)
	}
	if !l.ping.IsZero() {
		wait = min(until(l.ping, l.p.Timeout), l.p.Time/lookEvery)
	}
	if l.left.IsZero() {
		wait = min(wait, until(l.born, l.age))
	} else {
		wait = min(wait, until(l.left, l.p.MaxConnectionAgeGrace))
	}
	if idle := l.p.MaxConnectionIdle; idle != never && l.left.IsZero() && !l.idle {
		wait = min(wait, idle/lookEvery, until(l.quiet, idle))
	}
	return max(wait, time.Millisecond)
}

// enforcer counts the pings of a peer that come too often.
type enforcer struct {
	policy  keepalive.EnforcementPolicy
	sent    uint64    // HEADERS and DATA when last looked at
	last    time.Time // the last ping that counts; zero if any may come
	strikes int
}

// enforcementDefaults returns the policy that applies.
func enforcementDefaults(p keepalive.EnforcementPolicy) keepalive.EnforcementPolicy {
	if p.MinTime <= 0 {
		p.MinTime = defaultMinTime
	}
	return p
}

// ping takes a ping and reports whether the peer has gone too far. Pings after
// HEADERS or DATA that this side sent are free, and so are those with which
// peers measure the connection (BDP), as they follow DATA.
func (e *enforcer) ping(now time.Time, t h2.Tally) bool {
	if t.Sent != e.sent {
		e.sent, e.strikes, e.last = t.Sent, 0, time.Time{}
		return false
	}
	least := e.policy.MinTime
	if t.Open == 0 && !e.policy.PermitWithoutStream {
		least = defaultPingTime // gRFC A9: the peer's TCP keepalive, at most
	}
	if !e.last.IsZero() && now.Sub(e.last) < least {
		e.strikes++
	}
	e.last = now
	return e.strikes > maxStrikes
}
