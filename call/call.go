// SPDX-License-Identifier: Apache-2.0

package call

import (
	"context"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"

	"github.com/faultline-rpc/faultline/fault"
	"github.com/faultline-rpc/faultline/h2/hpack"
	"github.com/faultline-rpc/faultline/wire"
)

// call is what unary calls and streams have in common. Unary calls take it
// from the Caller's pool.
type call struct {
	caller *Caller
	ctx    context.Context
	method string
	opts   []grpc.CallOption
	options
	start    time.Time
	deadline time.Time
	timed    bool          // there is a deadline
	md       []hpack.Field // the program's metadata
	watch    *watch        // the stats handlers' view, nil without any

	attempt
	repeated bool // an attempt that the peer saw was repeated; that is done once
	tries    []fault.Attempt
	number   int // of the running attempt

	fields []hpack.Field      // storage: metadata of the running attempt
	req    wire.Request       // storage
	spare  *wire.ClientStream // storage: a stream that ended in order
}

// begin reads what the program asks for. It fails before anything is sent.
func (c *call) begin(ctx context.Context, method string, opts []grpc.CallOption, desc *grpc.StreamDesc) *fault.Fault {
	c.ctx, c.method, c.opts = ctx, method, opts
	c.start = time.Now()
	c.deadline, c.timed = ctx.Deadline()
	if f := c.resolve(opts); f != nil {
		c.after = true // OnFinish may be among those not read
		return f
	}
	if method == "" || method[0] != '/' {
		return misuse("malformed method name %q, expected /package.Service/Method", method)
	}
	if ctx.Err() != nil || c.timed && !c.start.Before(c.deadline) {
		return c.early()
	}
	if len(c.caller.cfg.StatsHandlers) > 0 {
		c.watch = newWatch(c, desc)
	}
	if md, ok := metadata.FromOutgoingContext(ctx); ok && len(md) > 0 {
		fields, err := wire.AppendMetadata(c.md[:0], md)
		if err != nil {
			return local(err)
		}
		c.md = fields
	}
	return nil
}

// next returns the call anew, for an attempt beside the one that c keeps.
func (c *call) next(desc *grpc.StreamDesc) *call {
	n := &call{caller: c.caller, ctx: c.ctx, method: c.method, opts: c.opts, options: c.options, start: c.start,
		deadline: c.deadline, timed: c.timed, md: c.md, repeated: c.repeated, tries: c.tries, number: c.number}
	n.req.Unary = c.req.Unary
	if c.watch != nil {
		n.watch = newWatch(n, desc)
	}
	return n
}

// local returns a floor's fault for something that failed before it was sent.
func local(err error) *fault.Fault {
	f, ok := fault.From(err)
	if !ok {
		return misuse("%v", err)
	}
	return f.WithProcessed(fault.No)
}

// end serves the options that want to know, once the call is over.
func (c *call) end(err error) {
	if !c.after {
		return
	}
	for _, opt := range c.opts {
		switch opt := opt.(type) {
		case grpc.HeaderCallOption:
			*opt.HeaderAddr = c.header()
		case grpc.TrailerCallOption:
			*opt.TrailerAddr = c.trailer()
		case grpc.PeerCallOption:
			if c.picked.Peer != nil {
				*opt.PeerAddr = *c.picked.Peer
			}
		case grpc.OnFinishCallOption:
			opt.OnFinish(err)
		}
	}
}

// noWait is a done channel for looking without waiting.
var noWait = func() chan struct{} {
	ch := make(chan struct{})
	close(ch)
	return ch
}()

// head returns the response headers if they have arrived, or nil.
func (c *call) head() *wire.ResponseHead {
	if c.s == nil {
		return nil
	}
	h, _ := c.s.Head(noWait)
	return h
}

// header returns a copy of the response headers' metadata.
func (c *call) header() metadata.MD {
	h := c.head()
	if h == nil {
		return nil
	}
	return copied(h.MD)
}

// trailer returns a copy of the trailing metadata.
func (c *call) trailer() metadata.MD {
	if c.s == nil {
		return nil
	}
	return copied(c.s.Trailer())
}

func copied(md metadata.MD) metadata.MD {
	if md == nil {
		return metadata.MD{}
	}
	return md.Copy()
}

// acquire takes a call from the pool.
func (c *Caller) acquire() *call { return c.calls.Get().(*call) }

// release gives a call back, of which nobody else knows any more.
func (c *Caller) release(u *call) {
	*u = call{caller: c, md: emptied(u.md), fields: emptied(u.fields), spare: u.spare}
	c.calls.Put(u)
}

// maxFields bounds the metadata storage that is kept.
const maxFields = 64

// emptied returns f's storage without what it held: tokens must not outlive
// their call.
func emptied(f []hpack.Field) []hpack.Field {
	if cap(f) > maxFields {
		return nil
	}
	clear(f[:cap(f)])
	return f[:0]
}
