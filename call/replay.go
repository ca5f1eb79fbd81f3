// SPDX-License-Identifier: Apache-2.0

package call

import (
	"google.golang.org/grpc/stats"

	"github.com/faultline-rpc/faultline/fault"
	"github.com/faultline-rpc/faultline/wire"
)

// message is a message on its way out. Attempts that repeat it send it again.
type message struct {
	wire []byte            // with its prefix
	told *stats.OutPayload // what the stats handlers learn of it; nil without any
}

// keep remembers a message until the answer begins, so that an attempt which
// was not processed can be repeated. It reports whether it did: the bytes are
// then not the sender's to free.
func (s *stream) keep(c *call, m message) bool {
	if s.steady.Load() != nil {
		return false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.committed || s.over {
		return false
	}
	if s.keptSize+len(m.wire) > c.replay || c.s.Progress().Headers {
		s.commitLocked()
		return false
	}
	s.kept = append(s.kept, m)
	s.keptSize += len(m.wire)
	return true
}

// commit settles for the running attempt (gRFC A6: "when the response headers
// are received").
func (s *stream) commit() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.commitLocked()
}

func (s *stream) commitLocked() {
	s.committed, s.kept = true, nil
	if !s.over && !s.repeating {
		s.steady.Store(s.cur)
	}
}

// repeat makes another attempt in the place of c, which has ended, if that is
// right. It reports whether there is a stream to go on with; the verdict is why
// not.
func (s *stream) repeat(c *call) (bool, verdict) {
	s.sending.Lock()
	defer s.sending.Unlock()
	return s.repeatHeld(c)
}

// repeatHeld is repeat with sending held.
func (s *stream) repeatHeld(c *call) (bool, verdict) {
	s.mu.Lock()
	if s.over || s.cur != c {
		defer s.mu.Unlock()
		return !s.over, verdict{} // another goroutine was first
	}
	f, ok := fault.From(c.s.Outcome())
	if !ok {
		s.mu.Unlock()
		return false, verdict{}
	}
	v := c.judge(c.late(f), s.committed || c.s.Progress().Headers)
	if !v.again {
		s.mu.Unlock()
		return false, v
	}
	s.repeating = true
	kept := s.kept
	s.mu.Unlock()

	next, f := s.replay(c, f, kept)
	return s.take(c, next, f), verdict{}
}

// take goes on with next, in the place of c, or ends the stream if making it
// failed. It reports whether there is a stream to go on with.
func (s *stream) take(c, next *call, f *fault.Fault) bool {
	if f != nil {
		f = next.billed(f)
	}
	s.mu.Lock()
	s.repeating = f != nil // until finish: nobody else may end the stream with less than f
	if next.s != nil {
		s.cur = next
	}
	s.mu.Unlock()
	switch {
	case f != nil:
		_ = s.finish(f)
		return false
	case c.ctx.Err() != nil: // whoever watches the context left this to us
		s.contextEnded()
		return false
	case c.caller.live.closed(): // so did who closed the client
		s.channelClosed()
		return false
	}
	return true
}

// replay makes attempts, and sends what is kept, until one is under way.
func (s *stream) replay(c *call, f *fault.Fault, kept []message) (*call, *fault.Fault) {
	if f = c.failed(f, false); f != nil {
		return c, f
	}
	next := c.next()
	r := c.caller.acquire()
	defer c.caller.release(r)
	next.scratch = &r.scratch
	defer func() { next.scratch = nil }()
	if f = next.readMetadata(next.ctx); f != nil {
		return next, f
	}
	for {
		if f = next.run(nil, false); f != nil {
			return next, f
		}
		err := s.resend(next, kept)
		if err == nil {
			return next, nil
		}
		if err == wire.ErrDone {
			f = next.interrupted(fault.PhaseSend)
			next.s.Cancel()
		} else if f, _ = fault.From(next.s.Outcome()); f == nil || !next.judge(next.late(f), next.s.Progress().Headers).again {
			return next, nil // RecvMsg finds out how it ended
		}
		if f = next.failed(f, false); f != nil {
			return next, f
		}
	}
}

func (s *stream) resend(c *call, kept []message) error {
	for i, m := range kept {
		if err := c.s.Send(m.wire, s.closed && i == len(kept)-1, c.ctx.Done()); err != nil {
			return err
		}
		c.watch.sent(m)
	}
	if s.closed && len(kept) == 0 {
		return c.s.CloseSend()
	}
	return nil
}

// completed says that the whole request was sent.
func (s *stream) completed() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.complete = true
}

// accept commits the stream to c, whose answer has begun. It reports false if
// another attempt was faster.
func (s *stream) accept(c *call) bool {
	if s.steady.Load() == c {
		return true
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.repeating { // another goroutine runs a race, and decides
		s.mu.Unlock()
		s.sending.Lock()
		defer s.sending.Unlock()
		s.mu.Lock()
	}
	if s.cur.s != c.s {
		return false
	}
	s.commitLocked()
	return true
}

// gone reports whether a wait ended because another attempt took the place of
// c, or the stream is over: and not because its context ended.
func (s *stream) gone(c *call) bool {
	if c.ctx.Err() != nil {
		return false
	}
	s.sending.Lock()
	defer s.sending.Unlock()
	cur, end := s.state()
	return cur != c || end != nil
}

// hedge runs several attempts of a stream whose request is complete, and kept,
// until one is answered. It reports whether state may have changed.
func (s *stream) hedge(c *call) bool {
	if !s.hedging || !s.raceable() {
		return false
	}
	s.sending.Lock() // soon: nobody sends any more
	defer s.sending.Unlock()
	s.mu.Lock()
	if s.over || s.cur != c {
		defer s.mu.Unlock()
		return true // another goroutine was first
	}
	if s.committed || !c.hedged() {
		defer s.mu.Unlock()
		return false
	}
	s.repeating = true
	kept := s.kept
	s.mu.Unlock()
	next, f := c.race(kept)
	if s.take(c, next, f) {
		s.commit()
	}
	return true
}

// raceable reports whether there may be several attempts at a time.
func (s *stream) raceable() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.complete && !s.committed && !s.over
}
