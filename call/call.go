// SPDX-License-Identifier: Apache-2.0

package call

import (
	"context"
	"math"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"

	"github.com/faultline-rpc/faultline/fault"
	"github.com/faultline-rpc/faultline/h2"
	"github.com/faultline-rpc/faultline/h2/hpack"
	"github.com/faultline-rpc/faultline/wire"
)

// call is what unary calls and streams have in common. Open streams are many:
// what few of them need is behind pointers, and moments are offsets.
type call struct {
	caller   *Caller
	ctx      context.Context
	method   string
	*options                    // shared: see Caller.plain
	more     *more              // nil for most
	watch    *watch             // the stats handlers' view, nil without any
	scratch  *scratch           // while attempts are being opened
	spare    *wire.ClientStream // storage for an attempt
	start    time.Duration      // as Caller.now has it
	deadline time.Duration      // if timed

	attempt
	before   int32 // attempts before it that gRFC A6 counts
	timed    bool  // there is a deadline
	single   bool  // one message is the answer
	repeated bool  // an attempt that the peer saw was repeated; that is done once
	unseen   bool  // the running attempt is a repetition that gRFC A6 does not count
}

// more is what few calls need.
type more struct {
	policy
	opts      []grpc.CallOption // to be served when the call has ended
	cancel    func()            // ends contexts made for the call, or nil
	lent      bool              // goroutines of attempts may use the call's storage
	tries     []fault.Attempt   // that failed and were followed by another
	processed fault.Processed   // what holds for all of tries
	spent     spent             // the time before the running attempt
}

// after has cancel called at the end of the call.
func (m *more) after(cancel func()) {
	if last := m.cancel; last != nil {
		m.cancel = func() { last(); cancel() }
		return
	}
	m.cancel = cancel
}

// scratch is what is needed while a request is made.
type scratch struct {
	req    wire.Request
	md     []hpack.Field // the program's metadata
	fields []hpack.Field // storage: the metadata of an attempt
	gate   *gate         // of an attempt in a race that has to pass it, or nil
	conn   *h2.Conn      // on which a stream is being opened
}

// room is a unary call's storage, which the Caller's pool keeps. Streams
// borrow it for its scratch.
type room struct {
	call    call
	scratch scratch
	options options
	more    more
}

// begin reads what the program asks for. It fails before anything is sent. r
// is storage, or nil.
func (c *call) begin(ctx context.Context, method string, opts []grpc.CallOption, desc *grpc.StreamDesc, r *room) *fault.Fault {
	c.ctx, c.method, c.single = ctx, method, !desc.ServerStreams
	c.start = c.caller.now()
	c.began = c.start
	if f := c.readOptions(opts, r); f != nil {
		return c.unsendable(f)
	}
	if method == "" || method[0] != '/' {
		return misuse("malformed method name %q, expected /package.Service/Method", method)
	}
	if d, ok := ctx.Deadline(); ok {
		c.timed, c.deadline = true, later(c.start, time.Until(d))
	}
	if ctx.Err() != nil || c.timed && c.deadline <= c.start {
		return c.early()
	}
	if len(c.caller.cfg.StatsHandlers) > 0 {
		c.watch = newWatch(c, desc)
	}
	if f := c.configure(r); f != nil {
		return c.unsendable(f)
	}
	return c.readMetadata(c.ctx)
}

// later is d after now, or as late as there is.
func later(now, d time.Duration) time.Duration {
	if d > math.MaxInt64-now {
		return math.MaxInt64
	}
	return now + d
}

// readMetadata reads the metadata of ctx, which is the program's or has the
// stats handlers' besides, into the scratch.
func (c *call) readMetadata(ctx context.Context) *fault.Fault {
	c.scratch.md = c.scratch.md[:0]
	md, ok := metadata.FromOutgoingContext(ctx)
	if !ok || len(md) == 0 {
		return nil
	}
	fields, err := wire.AppendMetadata(c.scratch.md[:0], md)
	if err != nil {
		return c.unsendable(err)
	}
	c.scratch.md = fields
	return nil
}

// need returns the call's more, made if it has none. r is storage, or nil.
func (c *call) need(r *room) *more {
	switch {
	case c.more != nil:
	case r != nil:
		c.more = &r.more
	default:
		c.more = new(more)
	}
	return c.more
}

// next returns the call anew, for an attempt beside the one that c keeps.
func (c *call) next() *call {
	n := &call{caller: c.caller, ctx: c.ctx, method: c.method, options: c.options, more: c.more, start: c.start,
		deadline: c.deadline, before: c.before, timed: c.timed, single: c.single, repeated: c.repeated, unseen: c.unseen}
	n.number = c.number
	if c.watch != nil {
		n.watch = newWatch(n, c.watch.desc)
		n.watch.resolved = c.watch.resolved
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

// unsendable is [local] with the method whose call it was.
func (c *call) unsendable(err error) *fault.Fault {
	f := local(err)
	ev := f.Evidence()
	ev.Method = c.method
	if ev.Address == "" && c.peer != nil && c.peer.Addr != nil { // it was for that server
		ev.Address, ev.Network = c.peer.Addr.String(), c.peer.Addr.Network()
	}
	return f.WithEvidence(ev)
}

// answered fills in what options want to know of the answer, once the call is
// over, and before the program learns that.
func (c *call) answered() {
	if c.more == nil {
		return
	}
	for _, opt := range c.more.opts {
		switch opt := opt.(type) {
		case grpc.HeaderCallOption:
			*opt.HeaderAddr = c.header()
		case grpc.TrailerCallOption:
			*opt.TrailerAddr = c.trailer()
		case grpc.PeerCallOption:
			if c.peer != nil {
				*opt.PeerAddr = *c.peer
			}
		}
	}
}

// end gives up what belonged to the call, and has options learn of its end.
func (c *call) end(err error) {
	if c.more == nil {
		return
	}
	if c.more.cancel != nil {
		c.more.cancel()
	}
	for _, opt := range c.more.opts {
		if opt, ok := opt.(grpc.OnFinishCallOption); ok {
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

// acquire takes a room from the pool.
func (c *Caller) acquire() *room { return c.rooms.Get().(*room) }

// release gives a room back, of which nobody else knows any more.
func (c *Caller) release(r *room) {
	if r.call.options == &r.options {
		r.options = options{}
	}
	if r.call.more == &r.more {
		r.more = more{}
	}
	r.call = call{caller: c, spare: r.call.spare}
	s := &r.scratch
	s.req.Template, s.req.Metadata, s.gate, s.conn = nil, nil, nil, nil
	s.md, s.fields = emptied(s.md), emptied(s.fields)
	c.rooms.Put(r)
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
