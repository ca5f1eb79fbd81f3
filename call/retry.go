// SPDX-License-Identifier: Apache-2.0

package call

import (
	"fmt"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/faultline-rpc/faultline/channel"
	"github.com/faultline-rpc/faultline/event"
	"github.com/faultline-rpc/faultline/fault"
)

// maxTries bounds how many attempts are remembered, the latest.
const maxTries = 16

// policy is the service config's word on more attempts, and what became of it.
type policy struct {
	retry   *channel.RetryPolicy // at most one of the two
	hedging *channel.HedgingPolicy
	bucket  *bucket // nil: not throttled
	made    int     // attempts that count
	pauses  int     // backoffs since the server chose one
	judged  int16   // the attempt of verdict
	verdict verdict
	settled bool // the running attempt was chosen among several
	large   bool // the request is not kept for attempts that count
}

// max returns how many attempts are permitted; 0 without policy.
func (p *policy) max() int {
	switch {
	case p.retry != nil:
		return p.retry.MaxAttempts
	case p.hedging != nil:
		return p.hedging.MaxAttempts
	}
	return 0
}

// follows reports whether a failure with this code asks for another attempt.
func (p *policy) follows(c codes.Code) bool {
	if p.retry != nil {
		return p.retry.Retryable.Has(c)
	}
	return p.hedging.NonFatal.Has(c)
}

// verdict is what follows upon an attempt that failed.
type verdict struct {
	again  bool
	unseen bool          // gRFC A6 does not count it
	wait   time.Duration // before the next attempt
	// Why a failure that the policy covers is the last: the rung above it.
	entry *fault.Entry
	text  string
}

// run makes attempts until one is under way, or fails for good. The fault is
// the call's.
func (c *call) run(msg []byte, end bool) *fault.Fault {
	for {
		f := c.try(msg, end)
		if f == nil {
			return nil
		}
		if f = c.failed(f, false); f != nil {
			return f
		}
	}
}

// failed settles an attempt that failed. It returns nil when the time has come
// to try again, else the call's fault. committed says that there must be no
// other attempt.
func (c *call) failed(f *fault.Fault, committed bool) *fault.Fault {
	f = c.late(f)
	v := c.judge(f, committed)
	if !v.again {
		f = c.lastly(f, v)
		c.settle(f)
		return f
	}
	c.remember(f, v)
	c.spend(c.stage())
	c.settle(f)
	if g := c.pause(v, f); g != nil {
		return g
	}
	c.resume(v, f)
	return nil
}

// judge decides whether an attempt is followed by another. The answer on an
// attempt stays the same.
func (c *call) judge(f *fault.Fault, committed bool) verdict {
	if c.more == nil || c.more.max() == 0 {
		return verdict{again: !committed && c.unprocessed(f), unseen: true}
	}
	p := &c.more.policy
	if p.judged != c.number {
		p.judged = c.number
		if !committed && !p.settled && c.unprocessed(f) {
			p.verdict = verdict{again: true, unseen: true}
		} else {
			p.verdict = c.consult(p, f, committed || p.settled || p.large)
		}
	}
	return p.verdict
}

// unprocessed decides on a transparent retry (gRFC A6): an attempt that never
// left this process is always repeated, one that the peer saw and promises not
// to have processed, once, or until a connection retires after it.
func (c *call) unprocessed(f *fault.Fault) bool {
	if f.Processed() != fault.No {
		return false
	}
	ev := f.Evidence()
	switch {
	case f.Entry() == fault.HTTP2HeaderList, ev.Answered:
		return false
	case f.Entry() == fault.CallClosed: // the connection's end; a closed channel says so at the next pick
		return c.open
	case f.Layer() != fault.LayerHTTP2 || !c.open:
		return false // nothing went out over this connection's streams
	}
	return !ev.Sent || !c.repeated || int(c.number) < maxRetired && retired(f)
}

// maxRetired bounds the attempts of a call that meets nothing but connections
// that retire.
const maxRetired = 1000

// retired reports whether the attempt came too late for a connection that took
// others before it and then retired in order. Proxies do that after a number
// of requests (nginx's keepalive_requests), which fewer callers than use the
// connection get: by "once" the unlucky would lose their calls. A6 fears load
// that comes to nothing; here each refusal goes with calls that were served,
// and the connection is not used again.
func retired(f *fault.Fault) bool {
	ev := f.Evidence()
	return f.Entry() == fault.HTTP2GoAway && ev.HTTP2Code == "NO_ERROR" && ev.LastStream > 0
}

// consult asks the policy. What failed for a reason of the call's own, and not
// of the attempt's, is not repeated.
func (c *call) consult(p *policy, f *fault.Fault, committed bool) verdict {
	if c.ctx.Err() != nil {
		return verdict{}
	}
	switch f.Entry() {
	case fault.CallMisuse, fault.CallClosed, fault.CallCancelled, fault.CallDeadline, fault.PickDropped, fault.HTTP2HeaderList:
		return verdict{}
	}
	covered := p.follows(f.Code())
	switch {
	case committed && covered:
		return p.bound(c.head() != nil)
	case committed:
		return verdict{}
	}
	wait, said, stop := readPushback(c.trailer())
	if covered || stop {
		p.bucket.failure()
	}
	switch {
	case !covered:
		return verdict{}
	case p.made >= p.max():
		return p.exhausted()
	case stop:
		return verdict{entry: fault.CallRetryPushback, text: fmt.Sprintf("after attempt %d of %d the server asked for no other (%s)", p.made, p.max(), pushbackKey)}
	case !p.bucket.open():
		return verdict{entry: fault.CallRetryThrottled, text: fmt.Sprintf("after attempt %d of %d there was no other: at most half of the service config's %g tokens are left", p.made, p.max(), p.bucket.of.MaxTokens)}
	case said:
		p.pauses = 0
	case p.retry != nil:
		wait = backoff(p.retry, p.pauses, c.caller.random)
		p.pauses++
	}
	return verdict{again: true, wait: wait}
}

// bound is the verdict on an attempt that the call was committed to.
func (p *policy) bound(answered bool) verdict {
	if p.made >= p.max() {
		return p.exhausted()
	}
	why := "the request is too large to be kept for another, or the program looked at the stream's Context"
	if answered {
		why = "its answer had begun"
	}
	return verdict{entry: fault.CallRetryCommitted, text: fmt.Sprintf("attempt %d of %d was the last: the call is committed to it, since %s", p.made, p.max(), why)}
}

func (p *policy) exhausted() verdict {
	return verdict{entry: fault.CallRetriesExhausted, text: fmt.Sprintf("%d attempts were made, as many as the service config permits", p.made)}
}

// lastly is the fault of an attempt that is not repeated, as the call's.
func (c *call) lastly(f *fault.Fault, v verdict) *fault.Fault {
	f = c.late(f)
	if ev := f.Evidence(); ev.Method == "" { // a connection's fault, which many calls share
		ev.Method = c.method
		f = f.WithEvidence(ev)
	}
	if v.entry != nil {
		f = f.Above(v.entry, v.text)
	}
	return c.withAttempts(f)
}

// withAttempts adds to an attempt's fault all attempts, this one included, if
// there were several and it has them not. The call was processed if one was.
func (c *call) withAttempts(f *fault.Fault) *fault.Fault {
	if c.more == nil || len(c.more.tries) == 0 || len(f.Attempts()) > 0 {
		return f
	}
	tries := c.more.tries
	return f.WithAttempts(append(tries[:len(tries):len(tries)], c.account(f, false))).WithProcessed(worse(c.more.processed, f.Processed()))
}

// worse returns the claim that holds for two attempts together.
func worse(a, b fault.Processed) fault.Processed {
	switch {
	case a == fault.Yes || b == fault.Yes:
		return fault.Yes
	case a == fault.Maybe || b == fault.Maybe:
		return fault.Maybe
	}
	return fault.No
}

// account is what is known of an attempt that failed.
func (c *call) account(f *fault.Fault, unseen bool) fault.Attempt {
	a := fault.Attempt{ID: f.ID(), Code: f.Code(), Processed: f.Processed(), Elapsed: c.caller.now() - c.began, Transparent: unseen}
	if c.peer != nil && c.peer.Addr != nil {
		a.Peer = c.peer.Addr.String()
	}
	return a
}

// remember keeps what is known of an attempt that is repeated.
func (c *call) remember(f *fault.Fault, v verdict) {
	c.need(nil).add(c.account(f, v.unseen))
	if v.unseen && f.Evidence().Sent {
		c.repeated = true
	}
}

// add keeps an attempt's account.
func (m *more) add(a fault.Attempt) {
	if len(m.tries) == 0 {
		m.processed = fault.No
	}
	if len(m.tries) == maxTries {
		m.tries = append(m.tries[:0:0], m.tries[1:]...)
	}
	m.tries = append(m.tries, a)
	m.processed = worse(m.processed, a.Processed)
}

// pause waits until the next attempt is due. The fault says that the context
// ended first.
func (c *call) pause(v verdict, f *fault.Fault) *fault.Fault {
	if v.wait > 0 {
		t := time.NewTimer(v.wait)
		select {
		case <-t.C:
		case <-c.ctx.Done():
		case <-c.caller.live.over: // the next attempt will say so
		}
		t.Stop()
	}
	idle := *c // between attempts
	idle.attempt = attempt{began: c.more.spent.until, number: c.number + 1}
	if c.ctx.Err() == nil {
		if v.wait > 0 {
			idle.spend(fault.PhaseBackoff)
		}
		return nil
	}
	g := idle.interrupted(fault.PhaseBackoff)
	return g.Above(f.Entry(), f.Message())
}

// resume begins another attempt.
func (c *call) resume(v verdict, f *fault.Fault) {
	if c.unseen = v.unseen; !v.unseen {
		c.more.made++
		c.before = int32(c.more.made - 1)
	}
	if sink := c.caller.cfg.Sink; sink != nil {
		sink.Record(event.CallRetried{Method: c.method, Attempt: int(c.number) + 1, Transparent: v.unseen, Err: f})
	}
}
