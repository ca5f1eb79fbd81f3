// SPDX-License-Identifier: Apache-2.0

package server

import (
	"github.com/faultline-rpc/faultline/fault"
	"github.com/faultline-rpc/faultline/wire"
)

// interrupt answers the connection's calls before it is closed under them:
// those whose handlers run with running, whose contexts end with it, the
// others, whose handlers will not start, with waiting: see [stage]. It never
// waits.
func (c *conn) interrupt(running, waiting *fault.Fault) {
	var open []*callContext
	wire.EachOpen(c.h2, func(h wire.CallHandler) {
		// A stream that is open has not been used again: its context is its own.
		open = append(open, h.(*events).ctx)
	})
	for _, x := range open {
		x.interrupt(running, waiting)
	}
}

func (c *callContext) interrupt(running, waiting *fault.Fault) {
	c.mu.Lock()
	k := c.call
	if k == nil || k.over {
		c.mu.Unlock()
		return // not open yet, and refused when it is; or answered
	}
	f := waiting
	if !k.started {
		k.recordRefusal(f)
	} else {
		switch k.stage.bar() {
		case fault.Yes:
			f = running.WithProcessed(k.ran())
		case fault.Maybe:
			f = running.WithProcessed(fault.Maybe)
		default:
			k.recordRefusal(f)
		}
	}
	k.over, k.interrupted = true, f
	first := !k.headerSent && len(k.header) > 0
	k.headerSent = true
	// Where a message is half sent the connection's end has to say it: clients
	// take a message that is cut off for a broken server.
	answered := false
	if !k.sending.Load() {
		// Under the lock, which keeps the call from being used again. It does not wait.
		answered = k.conclude(k.answeredFor(f), first, k.header, k.trailer) == nil
	}
	stop := c.cancelLocked(f)
	log := k.logger(f, answered)
	c.mu.Unlock()
	if stop != nil {
		stop(f)
	}
	log()
}

// answered reports whether the call was.
func (c *callContext) answered() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.call == nil || c.call.over
}

// interruption says why the server answered in the handler's place, nil if it
// did not.
func (c *callContext) interruption() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.call == nil || c.call.interrupted == nil {
		return nil
	}
	return c.call.interrupted
}
