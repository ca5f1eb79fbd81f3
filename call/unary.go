// SPDX-License-Identifier: Apache-2.0

package call

import (
	"context"

	"google.golang.org/grpc"

	"github.com/faultline-rpc/faultline/fault"
	"github.com/faultline-rpc/faultline/wire"
)

var unaryDesc = &grpc.StreamDesc{}

// unary makes a unary call: encode, then attempts until one is answered, then
// decode, on the caller's goroutine from beginning to end.
func (c *Caller) unary(ctx context.Context, method string, args, reply any, opts []grpc.CallOption) error {
	r := c.acquire()
	u := &r.call
	u.scratch = &r.scratch
	err := error(nil)
	f := u.begin(ctx, method, opts, unaryDesc, r)
	if f == nil {
		f = u.exchange(args, reply)
	}
	if f != nil {
		f = u.billed(f)
		err = f
	} else {
		c.succeeded()
	}
	u.settle(err)
	u.answered()
	u.end(err)
	u.log(f)
	if u.more != nil && u.more.lent {
		return err
	}
	u.recycle()
	c.release(r)
	return err
}

func (c *call) exchange(args, reply any) *fault.Fault {
	buf, sizes, err := c.codec.Encode(args, c.comp, c.maxSend)
	if err != nil {
		if c.watch != nil { // a call that failed, though there was no attempt
			c.watch.begin(false)
		}
		return c.unsendable(err)
	}
	if c.more != nil && len(buf.B) > c.replay {
		// "New RPCs which do not fit in the available buffer space [...] will not
		// be retryable" (gRFC A6). Transparent retries need no buffer here.
		c.more.large = true
	}
	f := c.answer(message{buf.B, c.watch.payload(args, sizes)}, reply)
	// The connection is done with the bytes when Start has returned.
	if c.more == nil || !c.more.lent {
		buf.Free()
	}
	return f
}

func (c *call) answer(msg message, reply any) *fault.Fault {
	for {
		if f := c.run(msg.wire, true); f != nil {
			return f
		}
		c.watch.sent(msg)
		if c.hedged() {
			n, f := c.race([]message{msg})
			if c.adopt(n); f != nil {
				return f
			}
		}
		m, err := c.s.RecvUnaryInto(c.ctx.Done(), c.direct(reply))
		if err == nil {
			if c.watch != nil {
				c.watch.inHeader()
			}
			return c.deliver(&m, reply)
		}
		if f := c.failed(c.recvFault(err), c.s.Progress().Headers); f != nil {
			return f
		}
	}
}

// recvFault is what ended the wait for a message.
func (c *call) recvFault(err error) *fault.Fault {
	if err == wire.ErrDone {
		f := c.interrupted(streamWait(c.s))
		c.s.Cancel()
		return f
	}
	if f, ok := fault.From(err); ok {
		return f
	}
	return fault.CallMisuse.Newf(c.received(err), "the stream ended without a fault: %v", err)
}

// recycle keeps the stream for another call if nothing else refers to it.
func (c *call) recycle() {
	if c.s != nil && c.s.ID() != 0 && c.s.Recyclable() {
		c.s.Renew()
		c.spare = c.s
	}
}
