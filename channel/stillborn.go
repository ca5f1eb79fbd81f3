// SPDX-License-Identifier: Apache-2.0

package channel

import (
	"time"

	"github.com/faultline-rpc/faultline/fault"
	"github.com/faultline-rpc/faultline/h2"
)

// A connection that the server ends as soon as it is ready, before a call has
// left, is none. Calls that wait for it would meet the next one, and the next:
// without pause, and until their deadlines, for what never left is always
// repeated (gRFC A6). After maxStillborn of them in a row the attempt counts as
// failed, with its backoff.
const (
	maxStillborn = 8
	// firstBreath is how soon a connection ends that never lived. One that
	// retires in order has less: servers may set a short age or idle time.
	firstBreath        = time.Second
	firstBreathInOrder = 50 * time.Millisecond
)

// stillborn counts the connections that ended so, in a row.
type stillborn struct {
	n    int
	why  *fault.Fault // why the next attempt fails, or nil
	last *link        // the connection counted last: it ends by a GOAWAY, and again
}

// lived notes how a connection ended: why is nil if it lived.
func (s *Subchannel) lived(l *link, why *fault.Fault) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch b := &s.unlived; {
	case b.last == l:
	case why == nil:
		*b = stillborn{}
	default:
		b.last = l
		if b.n++; b.n >= maxStillborn {
			b.why = why
		}
	}
}

// take returns why the attempt that begins fails, or nil if it may try.
func (s *stillborn) take() *fault.Fault {
	f := s.why
	s.why = nil
	return f
}

// failures is how many failed attempts the backoff is for.
func (s *stillborn) failures(before int) int { return max(before, s.n-maxStillborn) }

// retired is why a connection was stillborn that the server's GOAWAY ends, or
// nil if it was not.
func (l *link) retired(g *h2.GoAwayError) *fault.Fault {
	soon := firstBreath
	if g.Code == h2.NoError {
		soon = firstBreathInOrder
	}
	if g.Local || !l.unused(soon) {
		return nil
	}
	ev := l.evidence()
	ev.HTTP2Code, ev.LastStream, ev.Debug = g.Code.String(), g.LastID, g.Debug
	entry := fault.HTTP2GoAway
	if g.Code == h2.EnhanceYourCalm && g.Debug == tooManyPings {
		entry = fault.HTTP2GoAwayCalm
	}
	return entry.Newf(fault.Args{Side: fault.Remote, Processed: fault.No, Evidence: &ev, Cause: g},
		"%s ends each connection before a call can be sent: %v", ev.Address, g)
}

// broke is retired for a connection that ended without a GOAWAY.
func (l *link) broke(e *h2.ConnError) *fault.Fault {
	if e.Kind != h2.Lost || !l.unused(firstBreath) {
		return nil
	}
	ev := l.evidence()
	return fault.HTTP2ConnectionLost.Newf(fault.Args{Side: fault.Remote, Processed: fault.No, Evidence: &ev, Cause: e},
		"%s ends each connection after its SETTINGS, before a call can be sent: %v", ev.Address, e).WithRemedy(remedyHungUp)
}

// unused reports whether the connection became ready that little ago, and no
// call has left on it.
func (l *link) unused(soon time.Duration) bool {
	return l.isReady.Load() && time.Since(l.born) < soon && l.conn.Tally().Sent == 0
}
