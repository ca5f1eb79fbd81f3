// SPDX-License-Identifier: Apache-2.0

package simnet

import (
	"sync"
	"time"
)

// The journey of a byte: Conn.Write takes it into its direction's queue when
// there is room (admit), which stamps it with its time of arrival and applies
// the faults due at its offset; Conn.Read hands it out once that time has come.

// link is what the two ends share.
type link struct {
	mu      sync.Mutex
	changed chan struct{} // closed when anything below changes; nil if nobody waits; guarded by mu
	dir     [2]direction  // by sending end; guarded by mu
	end     [2]endState   // guarded by mu
}

// endState is what one end knows of its connection's end.
type endState struct {
	closed      bool      // Close was called here
	writeClosed bool      // CloseWrite was called here
	reset       bool      // a reset is on its way here or has come
	resetAt     time.Time // when it comes
	gone        bool      // the other end was closed
	goneAt      time.Time // when that is felt here
	deadline    [2]time.Time
	ops         [2]int // calls so far
	faults      []OpFault
}

// Indexes of deadline and ops.
const (
	opRead = iota
	opWrite
)

// segment is a run of bytes that arrives at once.
type segment struct {
	at time.Time
	b  []byte
}

// direction is one way of a link.
type direction struct {
	latency   time.Duration
	bandwidth int
	buffer    int
	maxRead   int
	faults    []Fault
	queue     []segment
	size      int       // bytes in queue
	sent      int64     // bytes taken from the writer
	read      int64     // bytes handed to the reader
	lineFree  time.Time // when the line has sent what it was given
	fin       bool
	finAt     time.Time
	stalled   bool
	stallAt   int64 // bytes that may still be read while stalled
}

// wait releases mu until something changes or the earliest of the given times
// that is set has come, and takes it again.
func (l *link) wait(times ...time.Time) {
	if l.changed == nil {
		l.changed = make(chan struct{})
	}
	changed := l.changed
	var first time.Time
	for _, t := range times {
		if !t.IsZero() && (first.IsZero() || t.Before(first)) {
			first = t
		}
	}
	l.mu.Unlock()
	defer l.mu.Lock()
	if first.IsZero() {
		<-changed
		return
	}
	timer := time.NewTimer(time.Until(first))
	defer timer.Stop()
	select {
	case <-changed:
	case <-timer.C:
	}
}

// wake lets every waiter look again.
func (l *link) wake() {
	if l.changed != nil {
		close(l.changed)
		l.changed = nil
	}
}

// admit takes from p what fits into the queue of the end's direction, and
// applies the faults due. It returns how many bytes it took.
func (l *link) admit(end int, p []byte) int {
	d := &l.dir[end]
	n := min(len(p), d.buffer-d.size)
	for taken := 0; taken < n; {
		run := n - taken
		if limit, ok := d.nextLimit(); ok {
			run = int(min(int64(run), limit-d.sent))
		}
		lost := d.fin || l.end[end].reset || l.end[1-end].closed && !d.stalled
		if !lost {
			d.enqueue(p[taken : taken+run])
		}
		d.sent += int64(run)
		taken += run
		l.applyLimits(end)
	}
	return n
}

// nextLimit is the nearest offset ahead at which a fault is due.
func (d *direction) nextLimit() (at int64, ok bool) {
	for _, f := range d.faults {
		if f.kind != faultCorrupt && f.at > d.sent && (!ok || f.at < at) {
			at, ok = f.at, true
		}
	}
	return at, ok
}

// applyLimits makes happen what is due at the present offset.
func (l *link) applyLimits(end int) {
	d := &l.dir[end]
	for _, f := range d.faults {
		if f.at != d.sent {
			continue
		}
		switch f.kind {
		case faultCut:
			now := time.Now()
			l.reset(1-end, later(now.Add(d.latency), d.lastArrival()))
			l.reset(end, now)
		case faultStall:
			d.stall()
		case faultFIN:
			d.finish()
		}
	}
}

// enqueue copies p into the queue, corrupted where due, with arrival times.
func (d *direction) enqueue(p []byte) {
	b := append([]byte(nil), p...)
	for _, f := range d.faults {
		if f.kind == faultCorrupt && f.at >= d.sent && f.at < d.sent+int64(len(b)) {
			b[f.at-d.sent] ^= f.mask
		}
	}
	d.size += len(b)
	for d.bandwidth > 0 && len(b) > segmentSize {
		d.queue = append(d.queue, segment{d.arrival(segmentSize), b[:segmentSize]})
		b = b[segmentSize:]
	}
	if len(b) > 0 {
		d.queue = append(d.queue, segment{d.arrival(len(b)), b})
	}
}

// arrival is when n bytes sent now will be at the other end.
func (d *direction) arrival(n int) time.Time {
	now := time.Now()
	if d.bandwidth > 0 {
		d.lineFree = later(now, d.lineFree).Add(time.Duration(n) * time.Second / time.Duration(d.bandwidth))
		return d.lineFree.Add(d.latency)
	}
	return now.Add(d.latency)
}

func (d *direction) lastArrival() time.Time {
	if len(d.queue) == 0 {
		return time.Time{}
	}
	return d.queue[len(d.queue)-1].at
}

// finish ends the direction behind what was sent.
func (d *direction) finish() {
	if !d.fin {
		d.fin, d.finAt = true, later(time.Now().Add(d.latency), d.lastArrival())
	}
}

// stall holds back what is sent from here on.
func (d *direction) stall() {
	if !d.stalled && !d.fin {
		d.stalled, d.stallAt = true, d.sent
	}
}

// reset makes a reset reach an end at the given time. What would arrive later is lost.
func (l *link) reset(end int, at time.Time) {
	e := &l.end[end]
	if e.reset && !at.Before(e.resetAt) {
		return
	}
	e.reset, e.resetAt = true, at
	d := &l.dir[1-end]
	for len(d.queue) > 0 && d.lastArrival().After(at) {
		last := len(d.queue) - 1
		d.size -= len(d.queue[last].b)
		d.queue = d.queue[:last]
	}
}

// ready is the bytes that a read may take now. If there are none, next is when
// there may be some; zero if only a change can tell.
func (d *direction) ready(now time.Time) (b []byte, next time.Time) {
	if len(d.queue) == 0 {
		return nil, time.Time{}
	}
	b = d.queue[0].b
	if d.stalled {
		b = b[:min(int64(len(b)), max(0, d.stallAt-d.read))]
		if len(b) == 0 {
			return nil, time.Time{}
		}
	}
	if d.queue[0].at.After(now) {
		return nil, d.queue[0].at
	}
	return b, time.Time{}
}

// take moves arrived bytes to p, across segments.
func (d *direction) take(p []byte, now time.Time) (n int) {
	if d.maxRead > 0 && len(p) > d.maxRead {
		p = p[:d.maxRead]
	}
	for n < len(p) {
		b, _ := d.ready(now)
		if len(b) == 0 {
			break
		}
		k := copy(p[n:], b)
		n += k
		d.read += int64(k)
		d.size -= k
		if d.queue[0].b = d.queue[0].b[k:]; len(d.queue[0].b) == 0 {
			d.queue = d.queue[1:]
		}
	}
	return n
}

func later(a, b time.Time) time.Time {
	if b.After(a) {
		return b
	}
	return a
}

// due reports whether a time that was set has come.
func due(t, now time.Time) bool { return !t.IsZero() && !t.After(now) }
