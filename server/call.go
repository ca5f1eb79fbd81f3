// SPDX-License-Identifier: Apache-2.0

package server

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/faultline-rpc/faultline/codec"
	"github.com/faultline-rpc/faultline/fault"
	"github.com/faultline-rpc/faultline/h2"
	"github.com/faultline-rpc/faultline/h2/hpack"
	"github.com/faultline-rpc/faultline/wire"
)

// largeReply is the size above which a unary answer heeds the call's deadline
// while it waits for window: what is smaller is not worth a timer, and goes or
// ends with its stream.
const largeReply = 16 << 10

// call is one call, from its request's headers to the end of its handler. That
// of a unary call that ended in order is used again.
type call struct {
	wire.ServerStream

	conn     *conn
	method   *method         // nil: not registered
	refusal  *fault.Fault    // why no handler may run, or nil
	ctx      *callContext    // this call's alone
	user     context.Context // what the handler gets: ctx, or what a stats handler made of it
	watch    *watch          // for the stats handlers; nil without
	codec    codec.Codec
	comp     codec.Compressor        // of the request, or nil
	answer   codec.Compressor        // of the answer, or nil
	subtype  string                  // the answer's content-subtype
	encoding string                  // the answer's grpc-encoding, "" without compression
	decode   func(message any) error // k.decodeUnary, made once

	opened     bool          // the reader's own: it counts as a call
	dispatched bool          // the reader's own: a worker ends it
	counted    bool          // the worker's own, once dispatched: it is among those that limits count
	arrived    time.Duration // as Server.now has it
	place      place

	stage    stage        // how near it is to its handler
	outgoing sync.Mutex   // held while a message of a stream is sent
	sending  atomic.Bool  // a message is on its way out: trailers now would cut it off
	sent     atomic.Int64 // messages of a stream that were sent, for the log

	// Guarded by ctx.mu:
	header     []hpack.Field
	trailer    []hpack.Field
	headerSent bool
	started    bool         // a worker has begun with the method's code
	returned   bool         // a stream's handler has
	over       bool         // the answer is complete, or given up
	telling    bool         // the stats handlers learn of the end that finish makes
	released   bool         // the worker was done before they had
	raised     *fault.Fault // the last fault that this call's own methods returned
	badTrailer *fault.Fault // what is wrong with the trailers that the handler set
	passed     []string     // of a trail, that the handler set as trailers
	// interrupted is why the server answered in the handler's place.
	interrupted *fault.Fault
}

// newCall takes a call from the pool.
func (s *Server) newCall() *call {
	if k, ok := s.pool.Get().(*call); ok {
		return k
	}
	k := new(call)
	k.Owner = (*events)(k)
	return k
}

// run serves the call on a worker. However its handler ends, the call does.
func (k *call) run() {
	returned := false
	defer func() {
		if !returned { // a panic, or runtime.Goexit, which recover does not tell
			k.handled()
			err := k.crashed(recover())
			k.lastSend()
			k.finish(err)
		}
		k.release()
	}()
	k.serve()
	returned = true
}

func (k *call) serve() {
	if k.watch != nil {
		k.watch.begin(k)
	}
	reply, err := k.handle()
	k.handled()
	if err == nil && k.method.unary != nil {
		k.reply(reply)
		return
	}
	k.lastSend()
	k.finish(err)
}

// lastSend waits for the message that a goroutine of a stream's handler, which
// has ended, is sending still: trailers would cut it off. No other follows.
func (k *call) lastSend() {
	k.ctx.mu.Lock()
	k.returned = true
	k.ctx.mu.Unlock()
	k.outgoing.Lock()
	defer k.outgoing.Unlock()
}

// handle runs the handler, if it may. reply is a unary handler's.
func (k *call) handle() (reply any, err error) {
	if k.method == nil && k.refusal == nil {
		k.refusal = k.conn.srv.unknownMethod(k.Head())
	}
	if k.refusal != nil {
		return nil, k.refusal
	}
	if err := k.ctx.late(); err != nil {
		return nil, k.raise(err)
	}
	if k.method.unary == nil {
		return nil, k.serveStream()
	}
	if k.decode == nil {
		k.decode = k.decodeUnary
	}
	return k.method.unary.Handler(k.method.impl, k.user, k.decode, k.conn.srv.unaryInt)
}

// handled makes room for another call. It comes before the answer: whoever
// gets that may call again at once, and must not find its own call in the way.
func (k *call) handled() {
	if !k.counted {
		return
	}
	k.counted = false
	if k.conn.srv.cfg.MaxHandlers > 0 {
		k.conn.srv.running.Add(-1)
	}
	k.conn.returned()
}

// late says why the handler need not start any more: the call waited longer
// than its deadline, its caller is gone, or the server is stopping.
func (c *callContext) late() error {
	c.mu.Lock()
	if !c.deadline.IsZero() {
		now := time.Now()
		c.queued = c.timeout - c.deadline.Sub(now)
		c.expireLocked(now)
	}
	err, over := c.err, c.call.over
	if c.std != nil {
		err = c.std.Err()
	}
	if k := c.call; err == nil && !over {
		k.started = true
		if k.stage.set(stageEntered); k.method.clientStreams() {
			k.stage.set(stageBegun)
		}
	}
	c.mu.Unlock()
	switch {
	case over: // answered by interrupt
		return context.Canceled
	case err == nil:
		return nil
	case err == context.DeadlineExceeded:
		return fault.CallDeadline.Newf(fault.Args{Side: fault.Local, Processed: fault.No, Cause: context.DeadlineExceeded,
			Evidence: &fault.Evidence{Method: clip(c.path)}}, "the caller's deadline, %v after the request arrived, passed before the handler started", c.timeout).WithLedger(c.ledger(c.elapsed(), false))
	}
	cause := c.why()
	if f, ok := cause.(*fault.Fault); ok {
		return f.WithProcessed(fault.No)
	}
	return cause
}

// ran is what is known of a call that a worker has begun to handle: its
// handler runs, unless an interceptor keeps it from that.
func (k *call) ran() fault.Processed {
	srv := k.conn.srv
	if k.method == nil || k.method.unary != nil && srv.unaryInt != nil || k.method.unary == nil && srv.strInt != nil {
		return k.ctx.gate.passed()
	}
	return fault.Yes
}

// decodeUnary is what generated code calls to get the request.
func (k *call) decodeUnary(m any) error {
	if !k.stage.decode() {
		if f := k.ctx.interruption(); f != nil {
			return f
		}
		return k.raise(fault.CallMisuse.Newf(fault.Args{Side: fault.Local}, "the request of a unary call was decoded twice"))
	}
	msg, err := k.RecvUnary()
	if err != nil {
		return k.raise(claiming(err, fault.No)) // generated code calls the handler with the request
	}
	if err := k.unmarshal(&msg, m); err != nil {
		return err
	}
	return k.begin()
}

// begin is the last step before the handler of a method that takes one message.
func (k *call) begin() error {
	if k.stage.begin() {
		return nil
	}
	if f := k.ctx.interruption(); f != nil { // it was answered while the request was decoded
		return f
	}
	return context.Canceled
}

// claiming returns err, where it is a fault that leaves it open, with what is
// known of the call's handler.
func claiming(err error, p fault.Processed) error {
	if f, ok := err.(*fault.Fault); ok && f.Processed() == fault.Maybe {
		return f.WithProcessed(p)
	}
	return err
}

// direct returns m for the reader to decode, if nobody wants to see the bytes.
func (k *call) direct(m any) codec.Direct {
	if k.watch != nil {
		return codec.Direct{}
	}
	return k.codec.Direct(m)
}

// unmarshal turns msg, which it frees, into m.
func (k *call) unmarshal(msg *wire.Message, m any) error {
	if msg.Decoded {
		return nil
	}
	defer msg.Free()
	data := msg.Data
	processed := fault.No
	if k.method.clientStreams() { // its handler runs before its messages have come
		processed = fault.Yes
	}
	if msg.Compressed {
		if k.comp == nil {
			return k.raise(fault.CodecResponseCompressor.Newf(fault.Args{Side: fault.Remote, Processed: processed},
				"a message of the request is marked as compressed, but grpc-encoding names no compression"))
		}
		b, err := codec.Decompress(k.comp, data, k.conn.srv.recvMax)
		if err != nil {
			return k.raise(k.decompressFault(err).WithProcessed(processed))
		}
		defer b.Free()
		data = b.B
	}
	if err := k.codec.Decode(data, m); err != nil {
		return k.raise(fault.CodecRequestParse.Newf(fault.Args{Side: fault.Remote, Processed: processed, Cause: err},
			"error unmarshalling request: codec %q, %T: %v", k.codec, m, err))
	}
	if k.watch != nil {
		k.watch.in(m, len(data), len(msg.Data))
	}
	return nil
}

func (k *call) decompressFault(err error) *fault.Fault {
	if f, ok := fault.From(err); ok { // codec.too-large
		return f
	}
	return fault.CodecDecompress.Newf(fault.Args{Side: fault.Remote, Cause: err,
		Evidence: &fault.Evidence{Encoding: k.comp.Name()}}, "failed to decompress the message: %q cannot read the request: %v", k.comp.Name(), err)
}

// reply sends a unary call's answer.
func (k *call) reply(m any) {
	buf, sizes, err := k.codec.Encode(m, k.answer, k.conn.srv.sendMax)
	if err != nil {
		k.finish(k.raise(k.own(err)))
		return
	}
	defer buf.Free()
	x := k.ctx
	x.mu.Lock()
	if k.over || k.badTrailer != nil {
		x.mu.Unlock()
		k.finish(nil)
		return
	}
	k.over = true
	first := !k.headerSent
	k.headerSent = true
	header, trailer := k.header, k.trailer
	x.mu.Unlock()
	var done <-chan struct{}
	if len(buf.B) > largeReply && !x.deadline.IsZero() {
		done = x.Done()
	}
	// Not under the lock: it may wait for window, and the reader takes the lock.
	err = k.Respond(k.subtype, k.encoding, header, buf.B, trailer, done)
	if w := k.watch; w != nil && err == nil {
		if first {
			w.outHeader(k.encoding)
		}
		w.out(m, sizes)
		w.outTrailer()
	}
	if err != nil {
		k.unsent(err)
	}
	k.logReply(first, err)
}

// unsent ends a stream whose answer could not be sent as a whole.
func (k *call) unsent(err error) {
	if f, ok := fault.From(err); ok && f.Entry() == fault.HTTP2HeaderList {
		// The program's metadata is too much for the client, and was not sent.
		_ = k.Finish(k.answeredFor(f), nil)
		return
	}
	k.Reset(h2.Cancel) // does nothing if the stream is over
}

// finish ends the call with what the handler returned. Only the first end counts.
func (k *call) finish(err error) {
	x := k.ctx
	x.mu.Lock()
	if k.over {
		x.mu.Unlock()
		return
	}
	k.over = true
	if err == nil && k.badTrailer != nil {
		err = k.badTrailer
		k.raised = k.badTrailer
	}
	raised := k.raised
	first, header, trailer := !k.headerSent && len(k.header) > 0, k.header, k.trailer
	k.headerSent = true
	w := k.watch
	k.telling = w != nil
	x.mu.Unlock()
	if w != nil {
		defer k.told()
	}
	st, hop, err := k.statusOf(err, raised)
	if f, ok := err.(*fault.Fault); ok && (f == raised || f == k.refusal) && f.Processed() == fault.No && f.Entry() != fault.CallCancelled {
		k.recordRefusal(f)
	}
	if k.refusal != nil && k.refusal.Entry() == fault.CodecCompressorUnsupported {
		// "the response must have the UNIMPLEMENTED status and must have
		// grpc-accept-encoding" (doc/compression.md of grpc/grpc)
		trailer = append(trailer, hpack.Field{Name: "grpc-accept-encoding", Value: codec.Supported(k.conn.srv.inflate)})
	}
	unsent := k.conclude(st, first, header, trailer)
	k.logEnd(st.Code, hop, err, unsent)
	if w != nil {
		if w.err = err; err == error(raised) {
			w.err = claiming(err, k.handlerRan())
		}
		if first && unsent == nil {
			w.outHeader(k.encoding)
		}
		if unsent == nil {
			w.outTrailer()
		}
	}
}

// conclude sends the end of a call, after the headers that its handler set but
// has not sent. The error says why the caller does not get it.
func (k *call) conclude(st wire.Status, headers bool, header, trailer []hpack.Field) error {
	if headers {
		// What it has to say, Finish has too: the stream is over.
		_ = k.ServerStream.SendHeader(k.subtype, k.encoding, header)
	}
	return k.Finish(st, trailer)
}

// raise remembers a fault that this call's own methods return: the caller may
// read it as it is.
func (k *call) raise(err error) error {
	f, ok := err.(*fault.Fault)
	if !ok {
		return err
	}
	f = k.located(f)
	k.ctx.mu.Lock()
	k.raised = f
	k.ctx.mu.Unlock()
	return f
}

// own adds to a fault of the handler's own answer that it ran.
func (k *call) own(err error) error {
	if f, ok := err.(*fault.Fault); ok {
		return f.WithProcessed(k.ran())
	}
	return err
}

// located adds whose call it was, for observers on this side.
func (k *call) located(f *fault.Fault) *fault.Fault {
	ev := f.Evidence()
	if ev.Address != "" && ev.Method != "" {
		return f
	}
	ev.Address, ev.Local, ev.Stream = addr(k.conn.peer.Addr), addr(k.conn.peer.LocalAddr), k.ID()
	if ev.Method == "" {
		ev.Method = clip(k.Head().Path)
	}
	return f.WithEvidence(ev)
}

// release ends the call's life on its worker.
func (k *call) release() {
	x, c := k.ctx, k.conn
	k.recordExpiry()
	x.end()
	if w := k.watch; w != nil && !k.othersTell() {
		if k.interrupted != nil {
			w.err = claiming(k.interrupted, k.handlerRan())
		}
		w.end()
	}
	if k.method != nil && k.method.unary != nil && k.Recyclable() {
		k.recycle()
	}
	c.srv.callEnded()
}

func (k *call) recycle() {
	s := k.conn.srv
	k.Renew()
	clear(k.header)
	clear(k.trailer)
	k.conn, k.method, k.refusal, k.ctx, k.user, k.watch = nil, nil, nil, nil, nil, nil
	k.codec, k.comp, k.answer, k.encoding = codec.Codec{}, nil, nil, ""
	k.subtype = ""
	k.opened, k.dispatched = false, false
	k.stage.set(stageWaiting)
	k.header, k.trailer = k.header[:0], k.trailer[:0]
	k.headerSent, k.started, k.returned, k.over, k.released = false, false, false, false, false
	k.sent.Store(0)
	k.raised, k.badTrailer, k.interrupted, k.passed = nil, nil, nil, nil
	s.pool.Put(k)
}

// open parts the time in which the reader alone knows the call from that in
// which others may.
func (c *callContext) open(k *call) {
	c.mu.Lock()
	c.call = k
	c.mu.Unlock()
}

// end parts the context from its call, which may serve another from now on.
func (c *callContext) end() {
	c.mu.Lock()
	if c.call != nil && (c.std != nil || c.err != nil) {
		c.ran = c.call.ran()
	}
	c.call = nil
	stop := c.cancelLocked(context.Canceled)
	c.mu.Unlock()
	if stop != nil {
		stop(context.Canceled)
	}
}
