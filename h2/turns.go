// SPDX-License-Identifier: Apache-2.0

package h2

// turns is the queue of streams that have data and window but find the
// connection's window or its write buffer used up. One at a time gets the
// turn, first come first served; who is done with it passes it on. So a
// hundred bulk streams do not stampede for each window update, and none
// starves.
//
// A stream that lacks window of its own is not in the queue; its
// WINDOW_UPDATE puts it there.
type turns struct {
	head, tail *Stream
	taken      bool // a stream was signalled and has not run yet
}

// idle reports whether nobody waits, so that a sender may go ahead at once.
// Who was given the turn and has not run yet still waits: overtaking it would
// send it to the end of the queue, again and again.
func (t *turns) idle() bool { return t.head == nil && !t.taken }

func (t *turns) push(s *Stream) {
	s.wait.queued = true
	s.wait.next, s.wait.prev = nil, t.tail
	if t.tail == nil {
		t.head = s
	} else {
		t.tail.wait.next = s
	}
	t.tail = s
}

func (t *turns) remove(s *Stream) {
	if !s.wait.queued {
		return
	}
	s.wait.queued = false
	if s.wait.prev == nil {
		t.head = s.wait.next
	} else {
		s.wait.prev.wait.next = s.wait.next
	}
	if s.wait.next == nil {
		t.tail = s.wait.prev
	} else {
		s.wait.next.wait.prev = s.wait.prev
	}
	s.wait.next, s.wait.prev = nil, nil
}

// waiter is a stream's part in the queue. All of it is guarded by the
// connection's lock.
type waiter struct {
	next, prev *Stream
	queued     bool
	blocked    bool // waits for window of its own
	hasTurn    bool
	stage      waitStage
	spent      span          // in waits
	ch         chan struct{} // made at the first wait; one token
}

// waitStage is where a stream is with respect to awaitLocked.
type waitStage uint8

const (
	notWaiting waitStage = iota
	waiting
	gaveUp // it left because done was closed: the stream has no future
)

func (w *waiter) signal() {
	select {
	case w.ch <- struct{}{}:
	default:
	}
}

// passTurnLocked gives the turn to the first in the queue, if there is
// anything to be had.
func (c *Conn) passTurnLocked() {
	t := &c.turns
	if t.taken || t.head == nil || c.peer.connWindow <= 0 || c.out.full() {
		return
	}
	s := t.head
	t.remove(s)
	t.taken = true
	s.wait.hasTurn = true
	s.wait.signal()
}

// awaitLocked waits until s may try to send again: nil, or ErrDone, or
// ErrEnded. It lets go of the lock meanwhile.
func (c *Conn) awaitLocked(s *Stream, done <-chan struct{}) error {
	if s.wait.ch == nil {
		s.wait.ch = make(chan struct{}, 1)
	}
	if s.sendWindow <= 0 {
		s.wait.blocked = true
	} else {
		c.turns.push(s)
		c.passTurnLocked()
	}
	c.wakeWriterLocked()
	s.wait.pauseLocked(c)
	c.mu.Unlock()
	var err error
	select {
	case <-s.wait.ch:
	case <-done:
		err = ErrDone
	}
	c.mu.Lock()
	s.wait.resumeLocked(c)
	s.wait.blocked = false
	c.turns.remove(s)
	if err != nil {
		s.wait.stage = gaveUp
		c.endTurnLocked(s)
		select { // a token that crossed with done must not wake the next wait
		case <-s.wait.ch:
		default:
		}
	}
	return err
}

// endTurnLocked passes the turn on if s has it.
func (c *Conn) endTurnLocked(s *Stream) {
	if s.wait.hasTurn {
		s.wait.hasTurn = false
		c.turns.taken = false
		c.passTurnLocked()
	}
}

// releaseWaitLocked wakes s, whose stream has ended, from a wait.
func (c *Conn) releaseWaitLocked(s *Stream) {
	if s.wait.queued || s.wait.blocked {
		c.turns.remove(s)
		s.wait.blocked = false
		s.wait.signal()
	}
}

// slotQueue is the queue of calls that wait for a stream because the peer's
// MAX_CONCURRENT_STREAMS are in use (RFC 9113 section 5.1.2).
type slotQueue struct {
	q        []*slotWaiter
	reserved int // granted to calls that have not run yet
}

type slotWaiter struct {
	ch      chan struct{}
	granted bool
}

func (c *Conn) freeSlotsLocked() int64 {
	return int64(c.peer.maxStreams) - int64(c.streams.n) - int64(c.slots.reserved)
}

// takeSlotLocked waits until the peer allows one more stream, letting go of
// the lock meanwhile. After it the caller has to look at the connection's life.
func (c *Conn) takeSlotLocked(s *Stream, done <-chan struct{}) error {
	if len(c.slots.q) == 0 && c.freeSlotsLocked() > 0 {
		return nil
	}
	w := &slotWaiter{ch: make(chan struct{})}
	c.slots.q = append(c.slots.q, w)
	since := c.clock()
	c.mu.Unlock()
	var err error
	select {
	case <-w.ch:
	case <-done:
		err = ErrDone
	}
	c.mu.Lock()
	s.quota += toSpan(c.clock() - since)
	if w.granted {
		c.slots.reserved--
	}
	if err == nil {
		return nil
	}
	for i, x := range c.slots.q {
		if x == w {
			c.slots.q = append(c.slots.q[:i], c.slots.q[i+1:]...)
			break
		}
	}
	c.grantSlotsLocked()
	return err
}

// grantSlotsLocked wakes as many waiting calls as there are free streams.
func (c *Conn) grantSlotsLocked() {
	for len(c.slots.q) > 0 && c.freeSlotsLocked() > 0 {
		w := c.slots.q[0]
		c.slots.q = c.slots.q[1:]
		w.granted = true
		c.slots.reserved++
		close(w.ch)
	}
}

// dismissSlotsLocked wakes all waiting calls: the connection opens no more streams.
func (c *Conn) dismissSlotsLocked() {
	for _, w := range c.slots.q {
		close(w.ch)
	}
	c.slots.q = nil
}
