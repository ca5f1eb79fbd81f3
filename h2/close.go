// SPDX-License-Identifier: Apache-2.0

package h2

import (
	"time"

	"github.com/faultline-rpc/faultline/event"
	"github.com/faultline-rpc/faultline/h2/frame"
)

// How a connection ends (RFC 9113 section 6.8):
//
//	           Drain (server)              PING answered, or drainWait
//	+--------+ ------------------> +----------+ ----------> +--------+
//	| active |                     | draining |             | ending |
//	+--------+ ------------------------------------------>  +--------+
//	    |       Drain (client), GOAWAY received                 | last stream done
//	    |                                                       v
//	    |   Close, violation found, SETTINGS timeout        +---------+
//	    +-------------------------------------------------> | closing |
//	    |                                                   +---------+
//	    |   read or write failed, Abort                         | flushed, or closeTimeout
//	    v                                                       v
//	+------+                                                    |
//	| dead | <--------------------------------------------------+
//	+------+
//
// draining: GOAWAY with id 2^31-1 is out; streams that are under way to us are
// still served. ending: no new streams. closing: the last GOAWAY waits to be
// written. dead: keeps its cause in err; the reader tears down.
type phase uint8

const (
	active phase = iota
	draining
	ending
	closing
	dead
)

const (
	// drainWait is how long a peer may take to answer the PING between the two
	// GOAWAYs.
	drainWait = 5 * time.Second
	// lingerTime is how long the last GOAWAY of an error may take to be read:
	// closing a socket with unread input would destroy it on its way.
	lingerTime = 250 * time.Millisecond
)

// life is a connection's way to its end. It is guarded by the connection's lock.
type life struct {
	phase        phase
	err          *ConnError    // why, from closing on
	goAway       *GoAwayError  // the last one received
	debug        string        // for the second GOAWAY of a drain
	lastGoAway   uint32        // the last id of the last one sent; 2^31-1 before
	linger       bool          // the reader reads on while the last frames travel
	ackBy        time.Duration // our SETTINGS have to be acknowledged, once theirs have come
	prefaceTimer *time.Timer
	drainTimer   *time.Timer
	closeTimer   *time.Timer
}

func (l *life) writable() bool { return l.phase != dead }

// flushed reports whether the writer's work is over.
func (l *life) flushed(empty bool) bool {
	return l.phase == dead || l.phase == closing && empty
}

// openable says why no stream can be opened, or nil.
func (l *life) openable() error {
	switch {
	case l.phase == active:
		return nil
	case l.err != nil:
		return l.err
	case l.goAway != nil:
		return l.goAway
	}
	return &GoAwayError{Local: true}
}

// Drain retires the connection without harm to the streams it carries. A
// server sends GOAWAY twice with a PING between, so that requests under way
// are served; debug travels with it. A client opens no more streams. Either
// closes after the last stream.
func (c *Conn) Drain(debug string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.life.phase != active {
		return
	}
	c.life.debug = debug
	if !c.server {
		c.endLocked()
		return
	}
	if !c.peer.ready {
		// One step, since an answer to a PING may never come: whoever drains would
		// wait for each connection on which nobody speaks. A request that comes
		// after it provably was not processed, and clients repeat it.
		c.sendGoAwayLocked(c.lastID, codeNo, debug)
		c.endLocked()
		return
	}
	c.life.phase = draining
	c.sendGoAwayLocked(1<<31-1, codeNo, debug)
	c.pingLocked(func() { c.drained(true) })
	c.life.drainTimer = time.AfterFunc(drainWait, func() { c.drained(false) })
	c.wakeWriterLocked()
}

// drained is the second step: whatever the peer sent before it read the first
// GOAWAY has arrived, if it answered.
func (c *Conn) drained(answered bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.life.phase != draining {
		return
	}
	c.sendGoAwayLocked(c.lastID, codeNo, c.life.debug)
	c.wakeWriterLocked()
	c.endLocked()
	if answered && c.life.phase == closing {
		c.life.linger = false // nothing is on its way, in either direction
	}
}

// endLocked lets no stream in any more, and closes if none is left.
func (c *Conn) endLocked() {
	c.life.phase = ending
	c.dismissSlotsLocked()
	c.closeIfDoneLocked()
}

func (c *Conn) closeIfDoneLocked() {
	if c.life.phase == ending && c.streams.n == 0 {
		err := &ConnError{Kind: Closed, By: Local, Reason: "drained"}
		if c.life.goAway != nil {
			err.By = Peer
		}
		// Closing a socket with unread input resets it, and what the peer has not
		// received yet is lost: wait for its FIN, at most closeTimeout.
		c.life.linger = true
		c.closeLocked(err, !c.server)
	}
}

// Close ends the connection now: GOAWAY with code and debug, a flush, then the
// socket, which a server closes when the client has, so that what was sent last
// arrives. All within a second, and a client's end within a tenth: somebody
// waits for it, and a socket that has no room for GOAWAY may not have any soon.
// Open streams get a *ConnError of kind Closed.
func (c *Conn) Close(code Code, debug string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.life.phase < closing {
		c.life.linger = c.server
	}
	c.closeLocked(&ConnError{Kind: Closed, By: Local, Code: code, Reason: debug}, true)
	if !c.server && c.life.phase == closing {
		c.life.closeTimer.Reset(flushTimeout)
	}
}

// Abort gives the connection up without a word to the peer: streams get a
// *ConnError of kind Aborted with err as its cause.
func (c *Conn) Abort(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.failLocked(&ConnError{Kind: Aborted, By: Local, Err: err})
}

// closeLocked begins the orderly end for which err is the reason.
func (c *Conn) closeLocked(err *ConnError, sayGoAway bool) {
	if c.life.phase >= closing {
		return
	}
	err.GoAway = c.life.goAway
	err.Ready = c.peer.ready
	c.life.err = err
	c.life.phase = closing
	if sayGoAway {
		c.sendGoAwayLocked(c.lastID, err.Code, err.Reason)
	}
	c.dismissSlotsLocked()
	c.life.closeTimer = time.AfterFunc(closeTimeout, func() { c.nc.Close() })
	c.wakeWriterLocked()
}

// failLocked ends the connection with no more words.
func (c *Conn) failLocked(err *ConnError) {
	if c.life.phase == dead {
		return
	}
	if c.life.err == nil {
		err.GoAway = c.life.goAway
		err.Ready = c.peer.ready
		c.life.err = err
	}
	c.life.phase = dead
	c.dismissSlotsLocked()
	go c.nc.Close() // a TLS connection may take its time; the lock is held here
}

// writeFailedLocked ends the connection because nothing can be sent any more.
// What the peer has said before may still arrive, answers and the GOAWAY that
// says why: the reader goes on for a moment.
func (c *Conn) writeFailedLocked(err error) {
	if c.life.phase == dead {
		return
	}
	if c.life.err == nil {
		c.life.err = &ConnError{Kind: Lost, By: Peer, Err: err, GoAway: c.life.goAway, Ready: c.peer.ready}
	}
	c.life.phase = dead
	c.life.linger = true
	c.dismissSlotsLocked()
	if c.nc.SetReadDeadline(time.Now().Add(lingerTime)) != nil {
		go c.nc.Close() // it has no deadlines, as tunnels within ssh do not; or is closed
	}
}

// finishWriting runs on the writer when nothing is left to write.
func (c *Conn) finishWriting() {
	c.mu.Lock()
	c.out.awake, c.out.wake = true, nil // nobody may wake this goroutine again, or another
	linger, phase := c.life.linger, c.life.phase
	c.mu.Unlock()
	half, ok := c.nc.(interface{ CloseWrite() error })
	switch {
	case linger && phase == dead: // writing failed
	case linger && ok:
		_ = half.CloseWrite() // the reader lingers, then closes
	default:
		c.nc.Close()
	}
}

// fatal is the reader's end for a violation: GOAWAY says why, and the socket
// stays open for a moment so that the peer can read it.
func (c *Conn) fatal(err *ConnError) {
	if err.Kind == NotHTTP2 && !c.server {
		return // who answers something else would not understand it
	}
	c.mu.Lock()
	c.life.linger = true
	if !c.server {
		c.withdrawLocked()
		if c.life.phase == closing { // it may have been among them
			c.sendGoAwayLocked(c.lastID, c.life.err.Code, c.life.err.Reason)
		}
	}
	c.closeLocked(err, true)
	c.mu.Unlock()
	c.tellStreams()
	_ = c.nc.SetReadDeadline(time.Now().Add(lingerTime))
	var scrap [1024]byte
	for i := 0; i < 1024; i++ { // a peer that floods us is not read for long
		if _, err := c.nc.Read(scrap[:]); err != nil {
			return
		}
	}
}

// teardown runs on the reader, last: every stream learns why, then the handler.
func (c *Conn) teardown(err *ConnError) {
	c.mu.Lock()
	c.failLocked(err)
	if e := *c.life.err; e.GoAway != c.life.goAway || e.Kind == PrefaceTimeout {
		e.GoAway, e.First = c.life.goAway, c.rd.first // known to the reader only, or since
		c.life.err = &e
	}
	if !c.out.awake {
		c.out.awake = true // nobody may wake a writer again
		c.dismissWriterLocked()
	}
	for _, t := range []*time.Timer{c.life.prefaceTimer, c.life.drainTimer, c.life.closeTimer} {
		if t != nil {
			t.Stop()
		}
	}
	c.out.b, c.out.spare = nil, nil
	err = c.life.err
	c.mu.Unlock()
	c.nc.Close()
	c.tellStreams()
	close(c.done)
	if c.cfg.Sink != nil {
		c.cfg.Sink.Record(event.ConnClosed{Conn: c.cfg.ConnID, Role: c.role(), Err: err})
	}
	c.h.Closed(err)
}

// tellStreams ends all streams with the connection's error. It runs on the
// reader.
func (c *Conn) tellStreams() {
	var orphans []*Stream
	c.mu.Lock()
	err := c.life.err
	c.streams.each(func(s *Stream) {
		s.state.abort()
		s.end = endConn
		c.releaseWaitLocked(s)
		orphans = append(orphans, s)
	})
	c.streams.clear()
	c.mu.Unlock()
	for _, s := range orphans {
		s.h.OnClose(err)
	}
}

// sendGoAwayLocked appends GOAWAY. The last id never rises from one to the next
// (section 6.8).
func (c *Conn) sendGoAwayLocked(last uint32, code Code, debug string) {
	last = min(last, c.life.lastGoAway)
	c.life.lastGoAway = last
	c.out.b = frame.AppendGoAway(c.out.b, last, code, debug)
	if c.cfg.Sink != nil {
		c.cfg.Sink.Record(event.GoAwaySent{Conn: c.cfg.ConnID, LastStream: last, Code: code.String(), Debug: debug})
	}
}

// onGoAway takes a GOAWAY received.
func (c *Conn) onGoAway(p []byte) *ConnError {
	g := &GoAwayError{LastID: be32(p) & (1<<31 - 1), Code: Code(be32(p[4:])), Debug: string(p[8:min(len(p), 8+1024)])}
	if c.cfg.Sink != nil {
		c.cfg.Sink.Record(event.GoAwayReceived{Conn: c.cfg.ConnID, LastStream: g.LastID, Code: g.Code.String(), Debug: g.Debug})
	}
	if err := c.wasteful(10, "GOAWAY"); err != nil {
		return err
	}
	var refused []*Stream
	c.mu.Lock()
	c.life.goAway = g
	if !c.server {
		c.streams.each(func(s *Stream) {
			if s.id > g.LastID {
				refused = append(refused, s)
			}
		})
		for _, s := range refused {
			c.resets.add(s.id) // what still comes for it is ignored
			s.end = endGoAway
			c.removeLocked(s)
		}
		if c.life.phase < ending {
			c.endLocked()
		}
	}
	c.mu.Unlock()
	c.h.GoAway(g) // first: who repeats a refused call must not get this connection again
	for _, s := range refused {
		s.h.OnClose(g)
	}
	return nil
}

// settingsLate runs when SettingsTimeout has passed.
func (c *Conn) settingsLate() {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case !c.peer.ready:
		c.failLocked(&ConnError{Kind: PrefaceTimeout, By: Peer})
	case !c.peer.acked && c.clock() >= c.life.ackBy: // else the timer and the SETTINGS have crossed
		c.closeLocked(&ConnError{Kind: SettingsTimeout, By: Local, Code: codeSettings, Reason: "SETTINGS were not acknowledged"}, true)
	}
}
