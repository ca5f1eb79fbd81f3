// SPDX-License-Identifier: Apache-2.0

package call

import (
	"math"
	"slices"
	"time"

	"github.com/faultline-rpc/faultline/fault"
	"github.com/faultline-rpc/faultline/h2"
)

// What a call's time went to is reckoned up when the call has failed, from
// what is known anyway: the moments at which it began and had a connection,
// the channel's record of its way to connections, what h2 kept of the waits
// for streams and windows, the moment at which the response headers came, and,
// of a call with several attempts, the phases of those before (more.spent). A
// call that succeeds reads no clock for it.

// accountant is a Picker that knows what its calls waited for; *[channel.Channel]
// is one.
type accountant interface {
	Account(l *fault.Ledger, from, to time.Time, attempt int) bool
}

// spent is what the time before the running attempt went to.
type spent struct {
	phases []fault.Phase
	until  time.Duration // the end of the last of them; 0: there are none
}

// maxPhases bounds what is remembered of earlier attempts.
const maxPhases = 64

// keep replaces what is known by the phases of l, which end at until. Too many
// become one.
func (s *spent) keep(l *fault.Ledger, until time.Duration) {
	if n := len(l.Phases); n > maxPhases {
		sum := fault.Phase{Name: fault.PhaseEarlier}
		for _, p := range l.Phases[:n-maxPhases/2] {
			sum.Spent += p.Spent
		}
		l.Phases = append([]fault.Phase{sum}, l.Phases[n-maxPhases/2:]...)
	}
	s.phases, s.until = l.Phases, until
}

// ledger reckons up the call's time; waiting is the phase it is in.
func (c *call) ledger(waiting string) *fault.Ledger {
	now := c.caller.now()
	l := &fault.Ledger{Budget: c.budget(), Elapsed: now - c.start}
	c.reckon(l, now, waiting, 0)
	if len(l.Phases) == 0 {
		l.Phases = []fault.Phase{{Name: waiting}}
	}
	return l
}

// spend reckons up the time until now, for an attempt that is followed by
// something else.
func (c *call) spend(waiting string) {
	now := c.caller.now()
	var l fault.Ledger
	c.reckon(&l, now, waiting, int(c.number))
	c.need(nil).spent.keep(&l, now)
}

// reckon adds the phases until now to l, which is empty. attempt is the running
// one's number if it counts although none came before it.
func (c *call) reckon(l *fault.Ledger, now time.Duration, waiting string, attempt int) {
	from := c.start
	if m := c.more; m != nil && m.spent.until != 0 {
		l.Phases, from, attempt = slices.Clone(m.spent.phases), m.spent.until, int(c.number)
	}
	if waiting == fault.PhaseHedges {
		attempt = 0
	}
	add := func(name string, d time.Duration) {
		d = max(min(d, now-from), 0)
		l.Add(fault.Phase{Name: name, Spent: d, Attempt: attempt})
		from += d
	}
	switch {
	case c.began < from: // only its last wait is not accounted for
	case waiting == fault.PhaseBackoff, waiting == fault.PhaseHedges: // no attempt's
	case c.pickedAt == 0:
		c.picking(l, from, now, attempt, waiting)
		return
	default:
		if at := min(c.pickedAt, now); at > from {
			c.picking(l, from, at, attempt, fault.PhasePick)
			from = at
		}
		add(fault.PhaseCredentials, time.Duration(c.asked)*time.Microsecond)
		if conn := c.conn(); conn != nil {
			waiting = c.streaming(conn, add, func() time.Duration { return from }, now, waiting)
		}
	}
	add(waiting, now-from)
}

// streaming adds what the attempt's stream on conn waited for, and returns what
// the rest of the time until now was. A sender may wait while the answer is
// awaited as well: that counts as sending.
func (c *call) streaming(conn *h2.Conn, add func(string, time.Duration), at func() time.Duration, now time.Duration, waiting string) string {
	t := c.s.Times(conn)
	add(fault.PhaseQuota, t.Quota)
	rest := fault.PhaseHeaders
	if !t.Head.IsZero() {
		head := t.Head.Sub(c.caller.epoch)
		sending := max(min(t.Window, head-at()), 0)
		add(fault.PhaseSend, sending)
		add(fault.PhaseHeaders, head-at())
		t.Window -= sending
		rest = fault.PhaseMessage
	}
	add(fault.PhaseSend, t.Window)
	if waiting == fault.PhaseSend { // whatever was not the wait for window, which h2 knows
		return rest
	}
	return waiting
}

// picking adds the phases of finding a connection; without a record of it,
// only the one named.
func (c *call) picking(l *fault.Ledger, from, to time.Duration, attempt int, name string) {
	if a, ok := c.caller.cfg.Channel.(accountant); ok && a.Account(l, c.caller.epoch.Add(from), c.caller.epoch.Add(to), attempt) {
		return
	}
	l.Add(fault.Phase{Name: name, Spent: to - from, Attempt: attempt})
}

// conn is the connection of the running attempt, nil before there is one.
func (c *call) conn() *h2.Conn {
	if c.s == nil {
		return nil
	}
	if conn := c.s.Conn(); conn != nil {
		return conn
	}
	if c.scratch == nil {
		return nil
	}
	return c.scratch.conn // it waits for a free stream
}

// askedFor is a time as attempt.asked has it: in microseconds, an hour at most.
func askedFor(d time.Duration) uint32 {
	return uint32(max(min(d/time.Microsecond, math.MaxUint32), 0))
}

// pulse says whether the peer was alive while the attempt waited for it. Heard
// in the last three quarters of the wait, it was; a PING that it has not
// answered for a quarter of the wait says that it was not.
func (c *call) pulse(now time.Duration) *fault.Pulse {
	conn := c.conn()
	if conn == nil {
		return nil
	}
	known, end, wait := conn.Pulse(), c.caller.epoch.Add(now), now-c.pickedAt
	ago := func(t time.Time) time.Duration {
		if t.IsZero() {
			return 0
		}
		return max(end.Sub(t), 1)
	}
	p := &fault.Pulse{State: fault.PulseUnknown, Heard: ago(known.Heard), Pinged: ago(known.Pinged), Answered: ago(known.Answered)}
	due := !known.Pinged.IsZero() && known.Answered.Before(known.Pinged)
	switch {
	case due && !known.Heard.After(known.Pinged) && p.Pinged >= wait/4:
		p.State = fault.PulseSilent
	case p.Heard > 0 && p.Heard <= wait-wait/4:
		p.State = fault.PulseAlive
	}
	return p
}

// billed adds the ledger to a fault of the call that has none.
func (c *call) billed(f *fault.Fault) *fault.Fault {
	if f.Ledger() != nil || c.number == 0 {
		return f
	}
	return f.WithLedger(c.ledger(c.stage()))
}

// stage is the phase that the running attempt is in.
func (c *call) stage() string {
	switch {
	case c.pickedAt == 0:
		return fault.PhasePick
	case c.s == nil:
		return fault.PhaseCredentials
	case c.s.ID() == 0:
		return fault.PhaseQuota
	}
	return streamWait(c.s)
}
