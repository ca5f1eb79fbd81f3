// SPDX-License-Identifier: Apache-2.0

package channel

import (
	"sync"
	"time"

	"google.golang.org/grpc/balancer"
	"google.golang.org/grpc/connectivity"
)

// session is a channel's stay out of IDLE: a resolver and a balancer at work.
//
//	+------+  start: a call, or Connect         +---------+
//	| IDLE | ---------------------------------> | session |
//	+------+ <--------------------------------- +---------+
//	           sleep: no call for IdleTimeout        | Close
//	                                                 v
//	                                            +----------+
//	                                            | SHUTDOWN |
//	                                            +----------+
//
// A new session has nothing of the one before but the last good service
// config.
type session struct {
	c        *Channel
	resolver resolverHost
	balancer balancerHost

	tick  *time.Timer // guarded by Channel.mu: looks for calls; nil if the channel never sleeps
	quiet int         // guarded by Channel.mu: ticks without one
}

// start begins to resolve. It reports whether it was the first to ask.
func (c *Channel) start() bool {
	c.mu.Lock()
	if c.live != nil || c.closed {
		c.mu.Unlock()
		return false
	}
	s := &session{c: c}
	s.resolver.session, s.balancer.session = s, s
	c.live = s
	if c.cfg.IdleTimeout > 0 {
		s.tick = time.AfterFunc(c.cfg.IdleTimeout/idleTicks, func() { c.lookForCalls(s) })
	}
	c.stages.resolved(false)
	c.publishLocked(connectivity.Connecting, queuePicker{})
	c.mu.Unlock()
	s.resolver.start()
	return true
}

// close ends the resolver and the balancer with its subchannels, and waits for
// both. Connections that carry no stream end with them.
func (s *session) close() {
	s.resolver.close()
	s.balancer.close()
}

// publish shows a new state and picker to calls, unless the session is over.
func (s *session) publish(state connectivity.State, p balancer.Picker) {
	s.c.mu.Lock()
	defer s.c.mu.Unlock()
	if !s.c.closed && s.c.live == s {
		s.c.publishLocked(state, p)
	}
}

const (
	// defaultIdleTimeout is grpc-go's.
	defaultIdleTimeout = 30 * time.Minute
	// idleTicks is how often in an idle time-out calls are looked for. A channel
	// sleeps after that many ticks without one: calls need not note when they
	// end, and what it costs them is one load of a word that seldom changes.
	idleTicks = 8
	// minIdleTimeout keeps ticks from following one another without pause.
	minIdleTimeout = 10 * time.Millisecond
)

// lookForCalls is the tick of a session.
func (c *Channel) lookForCalls(s *session) {
	busy := c.used.Swap(false) || c.waiting.Load() > 0 || int64(c.streams()) > c.background.Load()
	c.mu.Lock()
	if c.live != s || c.closed {
		c.mu.Unlock()
		return
	}
	if s.quiet++; busy {
		s.quiet = 0
	}
	if s.quiet < idleTicks || c.used.Load() || c.waiting.Load() > 0 {
		s.tick.Reset(c.cfg.IdleTimeout / idleTicks)
		c.mu.Unlock()
		return
	}
	c.sleepLocked()
	c.leaving.Add(1)
	c.mu.Unlock()
	s.close()
	c.leaving.Done()
}

// sleepLocked is the way back to IDLE. A call that comes meanwhile begins a new
// session, beside the old one's end.
func (c *Channel) sleepLocked() {
	c.live = nil
	c.stages.resolved(false)
	c.cause.Store(nil)
	if c.config.Swap(nil) == nil {
		close(c.configured) // who has just begun to wait for this session's begins another
	}
	c.configured = make(chan struct{})
	c.publishLocked(connectivity.Idle, startPicker{c})
}

// Background says that the caller is about to open a stream on the subchannel
// that shall not keep the channel awake, such as a load report. end must be
// called when it is over.
func (s *Subchannel) Background() (end func()) {
	s.c.background.Add(1)
	return sync.OnceFunc(func() { s.c.background.Add(-1) })
}

// streams counts the streams on all connections, draining ones too.
func (c *Channel) streams() (n int) {
	c.mu.Lock()
	links := make([]*link, 0, len(c.links))
	for l := range c.links {
		links = append(links, l)
	}
	c.mu.Unlock()
	for _, l := range links {
		n += l.conn.Active()
	}
	return n
}
