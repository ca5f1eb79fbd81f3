// SPDX-License-Identifier: Apache-2.0

package server

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/tap"

	"github.com/faultline-rpc/faultline/codec"
	"github.com/faultline-rpc/faultline/event"
	"github.com/faultline-rpc/faultline/fault"
	"github.com/faultline-rpc/faultline/status"
	"github.com/faultline-rpc/faultline/wire"
)

// From a request's headers to the queue of the workers. All of it runs on the
// connection's reader:
//
//  1. NewStream gives storage.
//  2. Open finds the method, codec and compressor, and makes the context. A
//     request that cannot be served goes the same way: what it takes to word
//     the refusal is a worker's work, not the reader's.
//  3. Dispatch, when the request may start, adds it to the batch, or parks it:
//     too many handlers run.
//  4. BatchEnd hands the batch to the workers.
//
// A stream may be reset at any point; a call that no worker has yet ends here.

// events is a call as its connection's reader sees it.
type events call

var _ wire.CallHandler = (*events)(nil)

// NewStream implements wire.ServerHandler. How many streams there may be, h2
// has seen to.
func (c *conn) NewStream() *wire.ServerStream {
	k := c.srv.newCall()
	k.conn = c
	k.ctx = &callContext{base: c.base, peer: c.peer}
	return &k.ServerStream
}

// Open implements wire.CallHandler.
func (e *events) Open() wire.Dispatch {
	k := (*call)(e)
	c, h, s := k.conn, k.Head(), k.conn.srv
	k.opened = true
	c.waiting++
	s.calls.Add(1)
	k.MaxRecv = s.recvMax
	x := k.ctx
	x.md, x.path = h.MD, h.Path
	if h.HasTimeout {
		x.timeout = h.Timeout
		x.deadline = time.Now().Add(h.Timeout)
	}
	if len(c.batch) == 0 {
		c.clock = s.now() // that of the whole batch is near enough
	}
	k.arrived = c.clock
	k.user = x
	if len(s.cfg.StatsHandlers) > 0 {
		k.watch = &watch{handlers: s.cfg.StatsHandlers}
	}
	k.method = (*s.methods.Load())[h.Path]
	if k.method == nil {
		k.method = s.unknown
	}
	when := wire.Now
	if s.cfg.Tap != nil {
		k.refusal = k.tap()
	}
	if k.method != nil && k.refusal == nil {
		k.refusal = k.negotiate(h)
		if k.refusal == nil && !k.method.clientStreams() {
			when = wire.Whole
		}
	}
	x.open(k)
	return when
}

// tap asks the program whether it wants the call, or says why it does not.
func (k *call) tap() *fault.Fault {
	ctx, err := k.conn.srv.cfg.Tap(k.ctx, &tap.Info{FullMethodName: k.ctx.path, Header: k.ctx.md.Copy()})
	if err == nil {
		if ctx != nil {
			k.user = ctx
		}
		return nil
	}
	a := fault.Args{Side: fault.Local, Processed: fault.No, Cause: err, Evidence: &fault.Evidence{Method: clip(k.ctx.path), Option: "InTapHandle"}}
	if s, ok := status.FromError(err); ok && s.Code() != codes.OK {
		a.Code, a.Message, a.Verbatim = s.Code(), s.Message(), true
		return fault.HandlerStatus.New(a).WithDetails(s.Proto().GetDetails())
	}
	a.Message = fault.PolicyPermission.Summary // the cause may say anything
	return fault.PolicyPermission.New(a)
}

// negotiate finds codec and compressors, or says why there are none.
func (k *call) negotiate(h *wire.RequestHead) *fault.Fault {
	if forced := k.conn.srv.cfg.ForceCodec; forced != nil {
		k.codec, k.subtype = *forced, h.Subtype
	} else if found, ok := codec.Lookup(h.Subtype); ok {
		k.codec, k.subtype = found, h.Subtype
	} else {
		return fault.CodecSubtype.Newf(fault.Args{Side: fault.Local, Processed: fault.No, Evidence: &fault.Evidence{Content: clip(h.ContentType)}},
			"no codec is registered for content-subtype %q", clip(h.Subtype))
	}
	if own := k.conn.srv.deflate; own != nil {
		k.answer, k.encoding = own, own.Name()
	}
	if h.Encoding == "" {
		return nil
	}
	comp, ok := codec.LookupCompressor(h.Encoding, k.conn.srv.inflate)
	if !ok {
		return fault.CodecCompressorUnsupported.Newf(fault.Args{Side: fault.Local, Processed: fault.No, Evidence: &fault.Evidence{Encoding: clip(h.Encoding)}},
			"no decompressor is registered for grpc-encoding %q", clip(h.Encoding))
	}
	if k.comp = comp; k.answer != nil {
		return nil
	}
	if comp, _ = codec.LookupCompressor(h.Encoding, nil); comp != nil && accepts(h.AcceptEncoding, h.Encoding) {
		k.answer, k.encoding = comp, h.Encoding
	}
	return nil
}

// accepts reports whether a client that compresses with name understands it as
// well: it does, unless it lists what it understands and name is not there.
func accepts(list, name string) bool {
	if list == "" {
		return true
	}
	return slices.ContainsFunc(strings.Split(list, ","), func(s string) bool { return strings.Trim(s, " \t") == name })
}

// Dispatch implements wire.CallHandler.
func (e *events) Dispatch() {
	k := (*call)(e)
	c, s := k.conn, k.conn.srv
	if limit := s.cfg.MaxHandlers; limit > 0 && !below(&s.running, int64(limit)) {
		c.refuse(k, fault.ServerOverloaded.Newf(fault.Args{Side: fault.Local, Processed: fault.No,
			Evidence: &fault.Evidence{Option: "MaxHandlers", Limit: int64(limit)}},
			"as many handlers run as this server's limit MaxHandlers allows: %d", limit))
		return
	}
	if s.stopped.Load() {
		if s.cfg.MaxHandlers > 0 {
			s.running.Add(-1)
		}
		c.refuse(k, fault.ServerDraining.New(fault.Args{Side: fault.Local, Processed: fault.No}))
		return
	}
	k.dispatched, k.counted = true, true
	c.waiting--
	if !c.room() {
		c.park(k)
		return
	}
	c.batch = append(c.batch, k)
}

// recall takes a call back that no worker has: it was never dispatched, or it
// is parked. It reports false if a worker has it, and ends it.
func (k *call) recall() bool {
	c := k.conn
	if !k.dispatched {
		return true
	}
	if !c.withdraw(k) {
		return false
	}
	k.dispatched, k.counted = false, false
	c.waiting++
	if c.srv.cfg.MaxHandlers > 0 {
		c.srv.running.Add(-1)
	}
	return true
}

// BatchEnd implements wire.ServerHandler.
func (c *conn) BatchEnd() {
	if len(c.batch) == 0 {
		return
	}
	c.srv.work.submit(c.batch)
	clear(c.batch)
	c.batch = c.batch[:0]
}

// Overloaded implements wire.CallHandler.
func (e *events) Overloaded() *fault.Fault {
	k := (*call)(e)
	c := k.conn
	limit, reserve := c.srv.budget.Limit()
	but := ""
	if reserve > 0 {
		but = fmt.Sprintf(", but for %d bytes that are kept for connections with less to wait for", reserve)
	}
	f := fault.ServerOverloaded.Newf(fault.Args{Side: fault.Local, Processed: fault.No,
		Evidence: &fault.Evidence{Option: "MaxUndeliveredBytes", Limit: limit}},
		"requests of %d bytes wait for their handlers, which is this server's limit MaxUndeliveredBytes%s", limit-reserve, but)
	if k.recall() {
		c.refuse(k, f)
		return f
	}
	// Its handler runs: it learns from the context, or from RecvMsg, which also
	// ends the call.
	f = f.WithProcessed(k.ran())
	k.ctx.cancel(f)
	return f
}

// refuse answers a call that no worker has.
func (c *conn) refuse(k *call, f *fault.Fault) {
	k.refusal, k.watch = f, nil
	k.finish(f)
	c.forget(k)
}

// Reset implements wire.CallHandler.
func (e *events) Reset(f *fault.Fault) {
	k := (*call)(e)
	if !k.opened {
		return // refused by wire, or malformed from the start
	}
	if k.recall() {
		k.ctx.cancel(claiming(f, fault.No))
		if !k.ctx.answered() {
			k.logFault(f.WithProcessed(fault.No))
		}
		k.conn.forget(k)
		return
	}
	k.ctx.cancel(claiming(f, k.ran()))
}

// Refused implements wire.CallHandler.
func (e *events) Refused(f *fault.Fault) {
	(*call)(e).recordRefusal(f)
	(*call)(e).logFault(f)
}

// recordRefusal has observers learn of an answer given without a handler.
func (k *call) recordRefusal(f *fault.Fault) {
	if sink := k.conn.srv.cfg.Sink; sink != nil {
		sink.Record(event.CallRefused{Method: clip(k.Head().Path), Conn: k.conn.id, Stream: k.ID(), Err: k.located(f)})
	}
}

// forget ends a call that no worker has. It is not used again: wire may still
// be looking at it.
func (c *conn) forget(k *call) {
	if !k.opened {
		return
	}
	k.opened = false
	c.waiting--
	k.ctx.end()
	c.srv.callEnded()
}

var _ grpc.ServiceRegistrar = (*Server)(nil)
