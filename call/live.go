// SPDX-License-Identifier: Apache-2.0

package call

import (
	"sync"

	"github.com/faultline-rpc/faultline/fault"
)

// live is the list of a client's open streams: their programs may never look
// at them again, and yet somebody wants to know that they ended.
type live struct {
	mu    sync.Mutex
	first *stream       // guarded by mu
	over  chan struct{} // closed under mu, for good
}

// links are a stream's neighbors in the list.
type links struct {
	prev, next *stream // guarded by live.mu
}

// add enters a stream. It reports false after close.
func (l *live) add(s *stream) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed() {
		return false
	}
	if s.next = l.first; s.next != nil {
		s.next.prev = s
	}
	l.first = s
	return true
}

// remove takes a stream out, if it is in.
func (l *live) remove(s *stream) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.removeLocked(s)
}

func (l *live) removeLocked(s *stream) {
	switch {
	case s.prev != nil:
		s.prev.next = s.next
	case l.first == s:
		l.first = s.next
	default: // it is not in
		return
	}
	if s.next != nil {
		s.next.prev = s.prev
	}
	s.links = links{}
}

// closed reports whether close was called.
func (l *live) closed() bool {
	select {
	case <-l.over:
		return true
	default:
		return false
	}
}

// close empties the list for good, and returns what was in it.
func (l *live) close() []*stream {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.closed() {
		close(l.over)
	}
	var all []*stream
	for l.first != nil {
		all = append(all, l.first)
		l.removeLocked(l.first)
	}
	return all
}

// Close ends the streams that are open, also those that their programs have
// forgotten: options, stats handlers and balancers learn of the end. Call it
// when the channel is closed, which makes all other calls fail.
func (c *Caller) Close() {
	for _, s := range c.live.close() {
		s.channelClosed()
	}
}

// channelClosed ends a stream whose channel is closed. An attempt that is being
// made ends by itself.
func (s *stream) channelClosed() {
	c, ok := s.settleFor()
	if !ok {
		return
	}
	f, ok := fault.From(c.s.Outcome())
	if !ok {
		a := fault.Args{Side: fault.Local}
		a.Evidence, a.Processed = c.observed()
		f = fault.CallClosed.Newf(a, "the client was closed while the call ran")
	}
	_ = s.abort(c, c.withAttempts(f))
}
