// SPDX-License-Identifier: Apache-2.0

package call

import (
	"context"
	"errors"

	"github.com/faultline-rpc/faultline/channel"
	"github.com/faultline-rpc/faultline/codec"
	"github.com/faultline-rpc/faultline/fault"
)

// Methods is what a service config says of methods. *[channel.Channel] is one;
// its methods describe the results.
type Methods interface {
	WaitForConfig(context.Context) error
	MethodConfig(method string) *channel.MethodConfig
	RetryThrottling() *channel.RetryThrottling
}

// configure applies the service config, for which it waits. The price of a
// method of which nothing is said is two atomic loads.
func (c *call) configure(r *room) *fault.Fault {
	methods := c.caller.cfg.Methods
	if methods == nil {
		return nil
	}
	if err := c.waitForConfig(methods); err != nil {
		return c.pickFault(err)
	}
	mc := methods.MethodConfig(c.method)
	if mc == nil {
		return nil
	}
	c.limit(mc, r)
	if (mc.Retry != nil || mc.Hedging != nil) && !c.caller.cfg.DisableRetry {
		p := &c.need(r).policy
		p.retry, p.hedging, p.made = mc.Retry, mc.Hedging, 1
		p.bucket = c.caller.bucket(methods.RetryThrottling())
	}
	if mc.Timeout == nil {
		return nil
	}
	end := later(c.caller.now(), *mc.Timeout)
	if c.timed && c.deadline <= end {
		return nil
	}
	c.timed, c.deadline = true, end
	if *mc.Timeout <= 0 {
		return c.early()
	}
	ctx, cancel := context.WithTimeoutCause(c.ctx, *mc.Timeout, errMethodTimeout)
	c.ctx = ctx
	c.need(r).after(cancel)
	return nil
}

// waitForConfig notes for the stats handlers whether it waited.
func (c *call) waitForConfig(methods Methods) error {
	if c.watch == nil {
		return methods.WaitForConfig(c.ctx)
	}
	wc := &waiting{Context: c.ctx}
	err := methods.WaitForConfig(wc)
	c.watch.resolved = wc.waited.Load()
	return err
}

// errMethodTimeout is why a call's context ended that has less time from the
// service config than from its program.
var errMethodTimeout = errors.New("the service config's timeout")

// limit applies what the service config says of what options say too: a
// call's own word on waiting counts, and the smaller size.
func (c *call) limit(mc *channel.MethodConfig, r *room) {
	o := *c.options
	if mc.WaitForReady != nil && !o.waitSaid {
		o.waitForReady = *mc.WaitForReady
	}
	lower(&o.maxSend, o.sendSaid, mc.MaxReq, "maxRequestMessageBytes of the service config")
	lower(&o.maxRecv, o.recvSaid, mc.MaxResp, "maxResponseMessageBytes of the service config")
	if o.waitForReady == c.waitForReady && o.maxSend == c.maxSend && o.maxRecv == c.maxRecv {
		return
	}
	c.options = r.own()
	*c.options = o
}

// lower gives limit the service config's value, unless the call's own, if it
// said one, is smaller.
func lower(limit *codec.Limit, said bool, configured *int, name string) {
	if configured != nil && (!said || *configured < limit.Bytes) {
		*limit = codec.Limit{Bytes: *configured, Option: name}
	}
}
