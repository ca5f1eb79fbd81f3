// SPDX-License-Identifier: Apache-2.0

package h2

import "time"

// What a connection keeps for the account of a call's time: when its peer was
// last heard, and what its streams waited for. Moments are offsets from the
// connection's birth. Waiting reads the clock, going ahead does not.

// Pulse is what is known of the peer's life. Zero times are "never".
type Pulse struct {
	Heard    time.Time // the last read that brought bytes; clients know it
	Pinged   time.Time // the last PING of ours
	Answered time.Time // the last answer to one
}

// Pulse returns what is known of the peer's life.
func (c *Conn) Pulse() Pulse {
	c.mu.Lock()
	defer c.mu.Unlock()
	return Pulse{Heard: c.at(time.Duration(c.heard.Load())), Pinged: c.at(c.pings.sentAt), Answered: c.at(c.pings.answeredAt)}
}

// clock is this moment, never 0.
func (c *Conn) clock() time.Duration { return time.Since(c.born) }

// at is the time of a moment.
func (c *Conn) at(d time.Duration) time.Time {
	if d == 0 {
		return time.Time{}
	}
	return c.born.Add(d)
}

// HeardAt is the moment of the read whose frames are being delivered, for
// [Conn.At]. It is meant for a client's handlers, which run on the reader.
func (c *Conn) HeardAt() time.Duration { return time.Duration(c.heard.Load()) }

// At is the time of a moment that HeardAt returned.
func (c *Conn) At(d time.Duration) time.Time { return c.at(d) }

// States of a connection's PINGs, for [Conn.Probe].
const (
	pingFree     = iota // another one is no abuse
	pingAsked           // one is not answered
	pingAnswered        // and no HEADERS or DATA have come since the answer
)

// Probe sends a PING, unless a server could count it as abuse: servers forgive
// PINGs once they have sent HEADERS or DATA
// (https://github.com/grpc/proposal/blob/master/A8-client-side-keepalive.md),
// so between two of them some must have come. What came after the answer to
// the first was sent after it had been seen. It reports whether one was sent.
func (c *Conn) Probe() bool {
	if c.pinging.Load() != pingFree {
		return false
	}
	return c.Ping(nil)
}

// forgiven takes note of HEADERS or DATA received.
func (c *Conn) forgiven() {
	if c.pinging.Load() == pingAnswered {
		c.pinging.Store(pingFree)
	}
}

// span is a sum of waiting times in units of 10 microseconds, 11 hours at most.
// It wraps around: while a wait is under way it lacks the moment of its end.
type span uint32

const spanUnit = 10 * time.Microsecond

func toSpan(d time.Duration) span { return span(d / spanUnit) }

func (s span) duration() time.Duration { return time.Duration(s) * spanUnit }

// Blocked is for how long a stream had to wait before it could send.
type Blocked struct {
	Quota  time.Duration // for one of the peer's MAX_CONCURRENT_STREAMS
	Window time.Duration // for flow control, and for room in the write buffer
	Now    bool          // it waits for Window at this moment, or did until it was given up
}

// Blocked returns for how long the stream has waited. Waits shorter than 10
// microseconds do not count.
func (s *Stream) Blocked(c *Conn) Blocked {
	c.mu.Lock()
	defer c.mu.Unlock()
	b := Blocked{Quota: s.quota.duration(), Now: s.wait.stage != notWaiting}
	w := s.wait.spent
	if s.wait.stage == waiting {
		w += toSpan(c.clock())
	}
	b.Window = w.duration()
	return b
}

// pauseLocked and resumeLocked enclose a wait for window.
func (w *waiter) pauseLocked(c *Conn) {
	w.stage = waiting
	w.spent -= toSpan(c.clock())
}

func (w *waiter) resumeLocked(c *Conn) {
	w.stage = notWaiting
	w.spent += toSpan(c.clock())
}
