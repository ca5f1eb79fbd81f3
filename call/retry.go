// SPDX-License-Identifier: Apache-2.0

package call

import (
	"github.com/faultline-rpc/faultline/event"
	"github.com/faultline-rpc/faultline/fault"
)

// maxTries bounds how many attempts are remembered, the latest.
const maxTries = 16

// run makes attempts until one is under way, or fails for good. The fault is
// the call's.
func (c *call) run(msg []byte, end bool) *fault.Fault {
	for {
		f := c.try(msg, end)
		if f == nil {
			return nil
		}
		if f = c.failed(f); f != nil {
			return f
		}
	}
}

// failed settles an attempt that failed. It returns nil if the call is to be
// tried again, else the call's fault.
func (c *call) failed(f *fault.Fault) *fault.Fault {
	f = c.lastly(f)
	again := c.again(f)
	if again && f.Evidence().Sent {
		c.repeated = true
	}
	if again && c.ctx.Err() != nil {
		c.remember(f)
		c.settle(f)
		return c.interrupted("another attempt").WithAttempts(c.more.tries).WithProcessed(fault.No)
	}
	c.settle(f)
	if again {
		c.remember(f)
		return nil
	}
	return f
}

// lastly is the fault of an attempt that is not repeated, as the call's.
func (c *call) lastly(f *fault.Fault) *fault.Fault {
	f = c.late(f)
	if c.more != nil && len(c.more.tries) > 0 {
		f = f.WithAttempts(c.more.tries)
	}
	return f
}

// again decides on a transparent retry (gRFC A6): an attempt that never left
// this process is always repeated, one that the peer saw and promises not to
// have processed, once.
func (c *call) again(f *fault.Fault) bool {
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
	return !ev.Sent || !c.repeated
}

// remember keeps what is known of an attempt that is repeated.
func (c *call) remember(f *fault.Fault) {
	a := fault.Attempt{ID: f.ID(), Code: f.Code(), Processed: f.Processed(), Elapsed: c.caller.now() - c.began, Transparent: true}
	if c.peer != nil && c.peer.Addr != nil {
		a.Peer = c.peer.Addr.String()
	}
	m := c.need(nil)
	if len(m.tries) == maxTries {
		m.tries = append(m.tries[:0:0], m.tries[1:]...)
	}
	m.tries = append(m.tries, a)
	c.unseen = true
	if sink := c.caller.cfg.Sink; sink != nil {
		sink.Record(event.CallRetried{Method: c.method, Attempt: int(c.number) + 1, Transparent: true, Err: f})
	}
}
