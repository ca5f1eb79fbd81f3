// SPDX-License-Identifier: Apache-2.0

package call

import (
	"context"
	"slices"
	"sync/atomic"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/faultline-rpc/faultline/event"
	"github.com/faultline-rpc/faultline/fault"
	"github.com/faultline-rpc/faultline/wire"
)

// race is one call with several attempts at a time (gRFC A6, "Hedging Policy").
// Its first attempt is under way when it begins, and its request is complete:
//
//	hedgingDelay passes, or an attempt fails with a non-fatal code -> another attempt
//	an attempt's response headers come, or OK                      -> that one is the call
//	an attempt fails with any other code, or the last one fails    -> so does the call
//
// Attempts run on goroutines of their own. What they have in common, call.more
// above all, belongs to the goroutine of the race.
type race struct {
	call    *call
	msgs    []message // the request
	running []*runner
	stopped bool // the server asked for no more attempts
	results chan result
	over    chan struct{}
}

// runner is a running attempt. Its call belongs to the attempt's goroutine
// until the result is there.
type runner struct {
	call   *call
	gate   gate
	since  time.Duration
	cancel context.CancelFunc
}

// gate decides, once, whether an attempt goes out or is given up before: then
// no server has seen it.
type gate struct{ state atomic.Int32 }

const (
	undecided = iota
	passed
	shut
)

func (g *gate) pass() bool { return g.state.CompareAndSwap(undecided, passed) }
func (g *gate) shut() bool { return g.state.CompareAndSwap(undecided, shut) }

// result is how an attempt went: no fault means that it was answered.
type result struct {
	*runner
	fault *fault.Fault
}

// hedged reports whether a call may have several attempts at a time.
func (c *call) hedged() bool {
	return c.more != nil && c.more.hedging != nil && !c.more.settled && !c.more.large
}

// race runs attempts beside the one that c has under way. It returns the one
// that was answered first; or the call's fault, and the attempt it came from.
func (c *call) race(msgs []message) (*call, *fault.Fault) {
	r := &race{call: c, msgs: msgs, results: make(chan result), over: make(chan struct{})}
	defer r.stop()
	c.more.lent = true
	c.spend(streamWait(c.s))
	first := c.next()
	first.attempt, first.watch = c.attempt, c.watch
	if first.watch != nil {
		first.watch.c = first
	}
	c.open = false
	r.enter(first, c.began)
	timer := time.NewTimer(c.more.hedging.Delay - (c.caller.now() - c.began))
	defer timer.Stop()
	closing := c.caller.live.over
	for {
		select {
		case <-closing: // the next attempt will say so
			closing = nil
			timer.Reset(0)
		case <-timer.C:
			if p := &c.more.policy; p.made < p.max() && !r.stopped && p.bucket.open() {
				r.launch(verdict{}, nil)
				timer.Reset(p.hedging.Delay)
			}
		case res := <-r.results:
			if n, f, done := r.ended(res, timer); done {
				return n, f
			}
		case <-c.ctx.Done():
			return c, r.interrupted()
		}
	}
}

// enter starts an attempt's goroutine.
func (r *race) enter(n *call, since time.Duration) {
	run := &runner{call: n, since: since}
	n.more = nil
	if n.s != nil {
		run.gate.pass()
	}
	n.ctx, run.cancel = context.WithCancel(r.call.ctx)
	r.running = append(r.running, run)
	go r.run(run)
}

// launch makes another attempt. f is why, or nil if only time has passed.
func (r *race) launch(v verdict, f *fault.Fault) {
	c := r.call
	if !v.unseen {
		c.more.made++
	}
	c.unseen, c.before = v.unseen, int32(c.more.made-1)
	n := c.next() // with the number of the one before
	c.number++
	if sink := c.caller.cfg.Sink; sink != nil {
		e := event.CallRetried{Method: c.method, Attempt: int(c.number), Transparent: v.unseen}
		if f != nil {
			e.Err = f
		}
		sink.Record(e)
	}
	r.enter(n, c.caller.now())
}

// run makes the attempt, and waits for its response headers or its end.
func (r *race) run(run *runner) {
	n, f := run.call, (*fault.Fault)(nil)
	if n.s == nil {
		f = n.request(r.msgs, &run.gate)
	}
	if f == nil {
		h, err := n.s.Head(n.ctx.Done())
		switch {
		case err != nil:
			f = n.interrupted(fault.PhaseHeaders)
		case h == nil:
			f, _ = fault.From(n.s.Outcome())
		}
	}
	select {
	case r.results <- result{run, f}:
	case <-r.over:
		n.drop()
	}
}

// request makes an attempt and sends a whole request, if the gate is open.
func (c *call) request(msgs []message, g *gate) *fault.Fault {
	r := c.caller.acquire()
	defer c.caller.release(r)
	c.scratch = &r.scratch
	c.scratch.gate = g
	defer func() { c.scratch = nil }()
	if f := c.readMetadata(c.ctx); f != nil {
		return f
	}
	if len(msgs) == 1 {
		f := c.try(msgs[0].wire, true)
		if f == nil {
			c.watch.sent(msgs[0])
		}
		return f
	}
	if f := c.try(nil, len(msgs) == 0); f != nil {
		return f
	}
	for i, m := range msgs {
		switch c.s.Send(m.wire, i == len(msgs)-1, c.ctx.Done()) {
		case nil:
			c.watch.sent(m)
		case wire.ErrDone:
			return c.interrupted(fault.PhaseSend)
		default: // it has ended
			return nil
		}
	}
	return nil
}

// drop ends an attempt that is of no use any more.
func (c *call) drop() {
	ev, processed := c.observed()
	if c.s != nil {
		c.s.Cancel()
	}
	c.settle(fault.CallCancelled.New(fault.Args{Side: fault.Local, Processed: processed, Evidence: ev, Message: "the call was decided by another of its attempts"}))
}

// ended takes an attempt's result. done says that it is the call's.
func (r *race) ended(res result, timer *time.Timer) (n *call, f *fault.Fault, done bool) {
	c := r.call
	n, f = res.call, res.fault
	c.spend(fault.PhaseHedges)
	r.running = slices.DeleteFunc(r.running, func(run *runner) bool { return run == res.runner })
	n.more = c.more
	if f == nil {
		c.more.settled, c.more.judged = true, 0
		c.more.after(res.cancel) // contexts made from it live as long as the call
		return n, nil, true
	}
	f = n.late(f)
	v := n.judge(f, n.s != nil && n.s.Progress().Headers)
	if v.again && !v.unseen && r.stopped {
		v = verdict{entry: fault.CallRetryPushback, text: noMoreHedges}
	}
	res.cancel()
	last := !v.again && (v.entry == nil || len(r.running) == 0)
	if last {
		r.abandon(fault.CallCancelled.ID, codes.Canceled)
		f = n.lastly(f, v)
	} else {
		n.remember(f, v)
	}
	n.settle(f)
	switch {
	case last:
		return n, f, true
	case v.unseen:
		c.repeated = n.repeated
		r.launch(v, f)
	case v.again && v.wait > 0: // the server said when
		timer.Reset(v.wait)
	case v.again:
		r.launch(v, f)
		timer.Reset(c.more.hedging.Delay)
	case v.entry == fault.CallRetryPushback:
		r.stopped = true
	}
	return nil, nil, false
}

const noMoreHedges = "the server asked for no more attempts (" + pushbackKey + ")"

// interrupted is the fault of a call whose context ended first.
func (r *race) interrupted() *fault.Fault {
	c, m := *r.call, r.call.more
	c.more = &more{spent: m.spent}
	code, _ := endOf(c.ctx)
	entry := fault.CallDeadline
	if code == codes.Canceled {
		entry = fault.CallCancelled
	}
	out := r.abandon(entry.ID, code)
	if !out { // none is out there
		c.attempt = attempt{began: c.began, number: c.number}
	}
	f := c.interrupted(fault.PhaseHedges)
	if len(m.tries) > 1 || !out {
		f = f.WithAttempts(m.tries).WithProcessed(m.processed)
	}
	return f
}

// abandon ends what is still running, for a reason of this side's, and
// remembers it. It reports whether any of it had gone out. It waits for those
// that have, which nothing but their contexts can hold.
func (r *race) abandon(id fault.ID, code codes.Code) (out bool) {
	claims := make(map[*runner]fault.Processed, len(r.running))
	waiting := 0
	for _, run := range r.running {
		run.cancel()
		if claims[run] = fault.No; !run.gate.shut() {
			waiting++
		}
	}
	for waiting > 0 {
		res := <-r.results
		if res.gate.state.Load() == passed {
			waiting--
			ev, processed := res.call.observed()
			out, claims[res.runner] = out || ev.Sent, processed
		}
		res.call.drop()
	}
	c := r.call
	for _, run := range r.running {
		c.more.add(fault.Attempt{ID: id, Code: code, Processed: claims[run], Elapsed: c.caller.now() - run.since})
	}
	r.running = nil
	return out
}

// stop ends what is running.
func (r *race) stop() {
	close(r.over)
	for _, run := range r.running {
		run.cancel()
	}
}

// adopt makes the attempt of n c's own.
func (c *call) adopt(n *call) {
	if n == c {
		return
	}
	c.attempt = n.attempt
	if c.watch = n.watch; c.watch != nil {
		c.watch.c = c
	}
}
