// SPDX-License-Identifier: Apache-2.0

package call

import (
	"context"
	"io"
	"sync"
	"sync/atomic"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/stats"

	"github.com/faultline-rpc/faultline/codec"
	"github.com/faultline-rpc/faultline/fault"
	"github.com/faultline-rpc/faultline/wire"
)

// stream is a grpc.ClientStream. One goroutine may send while another
// receives. Whatever ends it first, the peer, the context or a failure here,
// decides its outcome:
//
//	running --(repeat: the attempt was not processed)--> running
//	running --(finish)--> over, with its outcome
type stream struct {
	links
	first call
	room  wire.ClientStream // storage of the first attempt

	// sending is held while a message is sent, and while an attempt is
	// repeated. It is taken before mu.
	sending sync.Mutex

	// ending is held, from when the outcome is there, until everybody who asked
	// for it has learned of it.
	ending sync.Mutex

	// steady is cur while the stream is committed to it and not over: what most
	// sends and receives find, without the lock. It is written under mu.
	steady atomic.Pointer[call]

	mu        sync.Mutex
	cur       *call       // guarded by mu; what it points to does not change until it is repeated
	kept      []message   // guarded by mu: what was sent, for a repetition
	keptSize  int         // guarded by mu
	committed bool        // guarded by mu: there will be no repetition
	closed    bool        // guarded by sending: the program closed its side
	complete  bool        // guarded by mu: the whole request was sent
	streaming bool        // the program may send several messages
	hedging   bool        // the service config asks for it; set before others know the stream
	repeating bool        // guarded by mu: an attempt is being made, which settles itself
	over      bool        // guarded by mu
	outcome   error       // guarded by mu: nil for OK
	stop      func() bool // guarded by mu: ends the watch over the context
	view      *view       // guarded by mu: made when the program asks
}

// view is a stream's own context.
type view struct {
	ctx    context.Context
	cancel context.CancelFunc
}

// stream opens a stream.
func (c *Caller) stream(ctx context.Context, desc *grpc.StreamDesc, method string, opts []grpc.CallOption) (grpc.ClientStream, error) {
	s := &stream{streaming: desc.ClientStreams}
	r := c.acquire()
	s.first.caller, s.first.spare, s.first.scratch = c, &s.room, &r.scratch
	s.cur = &s.first
	f := s.cur.begin(ctx, method, opts, desc, nil)
	if f == nil {
		f = s.cur.run(nil, false)
	}
	s.hedging = s.cur.hedged()
	s.first.scratch = nil
	c.release(r)
	if f != nil {
		f = s.cur.billed(f)
		s.cur.settle(f)
		s.cur.answered()
		s.cur.end(f)
		s.cur.log(f)
		return nil, f
	}
	s.attend()
	return s, nil
}

// attend sees to it that the stream ends even if its program never looks at it
// again.
func (s *stream) attend() {
	c := s.cur
	if !c.caller.live.add(s) {
		s.channelClosed()
		return
	}
	if c.ctx.Done() != nil {
		s.mu.Lock()
		if !s.over { // the client may have been closed
			s.stop = context.AfterFunc(c.ctx, s.contextEnded)
		}
		s.mu.Unlock()
	}
}

// contextEnded ends a stream whose program may never look at it again. An
// attempt that is being made ends by itself.
func (s *stream) contextEnded() {
	if c, ok := s.settleFor(); ok {
		_ = s.abort(c, c.interrupted(streamWait(c.s)))
	}
}

// settleFor commits a running stream to its attempt, which then stays as it is.
// It reports false if the stream is over, or if an attempt is being made: of
// that nobody but its goroutine knows.
func (s *stream) settleFor() (*call, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.repeating || s.over {
		return nil, false
	}
	s.commitLocked()
	return s.cur, true
}

// waitEnded ends a stream whose receiver's context has ended, and returns the
// outcome.
func (s *stream) waitEnded() error {
	s.contextEnded()
	s.sending.Lock() // if an attempt is being made, until it has ended
	defer s.sending.Unlock()
	s.contextEnded()
	_, end := s.state()
	return s.told(end)
}

// state returns the current attempt, and the stream's end: io.EOF for OK. A
// context that has ended ends the stream, even if the watch over it has yet to
// run.
func (s *stream) state() (c *call, end error) {
	if c = s.steady.Load(); c == nil {
		c, end = s.current()
	}
	if end != nil || c.ctx.Err() == nil {
		return c, end
	}
	s.contextEnded()
	return s.current()
}

func (s *stream) current() (c *call, end error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.over {
		if end = s.outcome; end == nil {
			end = io.EOF
		}
	}
	return s.cur, end
}

// finish ends the stream with err, unless it has ended, and returns its
// outcome. No attempt is being made.
func (s *stream) finish(err error) error { return s.decide(err, nil) }

// decide is finish; given is the attempt that this side gives up with it, or
// nil. What comes for that later is no part of the answer.
func (s *stream) decide(err error, given *call) error {
	if f, ok := err.(*fault.Fault); ok && f.Ledger() == nil {
		err = s.billed(f)
	}
	s.mu.Lock()
	if s.over {
		s.mu.Unlock()
		return s.told(s.outcome) // which does not change any more
	}
	s.over, s.outcome, s.repeating = true, err, false
	s.ending.Lock() // at once: nobody else has a reason to yet
	defer s.ending.Unlock()
	s.steady.Store(nil)
	c, stop := s.cur, s.stop
	s.kept = nil
	if s.view != nil {
		s.view.cancel()
	}
	if given != nil {
		given.s.Cancel()
	}
	c.answered() // under the lock: whoever sees the end sees this too
	s.mu.Unlock()
	if stop != nil {
		stop()
	}
	c.caller.live.remove(s)
	if err == nil {
		c.caller.succeeded()
	}
	c.settle(err)
	c.end(err)
	f, _ := err.(*fault.Fault)
	c.log(f)
	return err
}

// told returns the outcome when options, stats handlers and the log know of it.
// Whoever they call in turn must not wait for that.
func (s *stream) told(outcome error) error {
	s.ending.Lock()
	defer s.ending.Unlock()
	return outcome
}

// billed is call.billed for a stream that is about to end.
func (s *stream) billed(f *fault.Fault) *fault.Fault {
	if c, ok := s.settleFor(); ok {
		return c.billed(f)
	}
	return f
}

// abort finishes the stream for a failure on this side, and tells the peer.
func (s *stream) abort(c *call, f *fault.Fault) error {
	return s.decide(f, c)
}

// SendMsg implements grpc.ClientStream. It returns when the message has been
// handed to the connection. io.EOF means that the stream is over: RecvMsg says
// why. Any other error is a *fault.Fault, and ends the stream.
func (s *stream) SendMsg(m any) error {
	s.sending.Lock()
	defer s.sending.Unlock()
	c, end := s.state()
	if s.closed {
		ev, processed := c.observed()
		f := c.billed(c.withAttempts(fault.CallMisuse.Newf(fault.Args{Side: fault.Local, Processed: processed, Evidence: ev},
			"SendMsg was called after CloseSend, or a second time for a method that takes one message")))
		_ = s.abort(c, f)
		return f
	}
	if end != nil {
		return s.sendEnd()
	}
	buf, sizes, err := c.codec.Encode(m, c.comp, c.maxSend)
	if err != nil {
		_, processed := c.observed()
		f := c.billed(c.withAttempts(c.unsendable(err).WithProcessed(processed)))
		_ = s.abort(c, f)
		return f
	}
	s.closed = !s.streaming
	if !s.send(c, buf, c.watch.payload(m, sizes), s.closed) {
		return s.sendEnd()
	}
	if s.closed {
		s.completed()
	}
	return nil
}

// sendEnd is what SendMsg returns on a stream that is over. Generated code of
// methods that take one message has no use for io.EOF.
func (s *stream) sendEnd() error {
	if s.streaming {
		return io.EOF
	}
	return nil
}

// send sends one message and frees it. It reports false if the stream is over.
// sending is held.
func (s *stream) send(c *call, buf *codec.Buffer, told *stats.OutPayload, end bool) bool {
	msg := message{buf.B, told}
	if !s.keep(c, msg) {
		defer buf.Free()
	}
	switch c.s.Send(buf.B, end, c.ctx.Done()) {
	case nil:
		c.watch.sent(msg)
		return true
	case wire.ErrDone:
		_ = s.abort(c, c.interrupted(fault.PhaseSend))
		return false
	}
	again, _ := s.repeatHeld(c) // which sends again what is kept, this message too
	return again
}

// CloseSend implements grpc.ClientStream. It returns nil.
func (s *stream) CloseSend() error {
	s.sending.Lock()
	defer s.sending.Unlock()
	if s.closed {
		return nil
	}
	s.closed = true
	if c, end := s.state(); end == nil {
		_ = c.s.CloseSend() // on a stream that is over, RecvMsg says why
		s.completed()
	}
	return nil
}

// RecvMsg implements grpc.ClientStream. It returns io.EOF at the end of an OK
// stream, else a *fault.Fault. For a method that answers with one message it
// returns at the end of the stream.
func (s *stream) RecvMsg(m any) error {
	for {
		c, end := s.state()
		if end != nil {
			return s.told(end)
		}
		if s.hedge(c) {
			continue
		}
		msg, err := s.recv(c, m)
		switch err {
		case nil:
			if !s.accept(c) {
				msg.Free()
				continue
			}
			if c.watch != nil {
				c.watch.inHeader()
			}
			if f := c.deliver(&msg, m); f != nil {
				return s.abort(c, f)
			}
			if c.single {
				return s.finish(nil)
			}
			return nil
		case io.EOF:
			if !s.accept(c) {
				continue
			}
			if err := s.finish(nil); err != nil {
				return err
			}
			return io.EOF
		case wire.ErrDone:
			if s.gone(c) {
				continue
			}
			return s.waitEnded()
		}
		again, v := s.repeat(c)
		if again {
			continue
		}
		f, ok := fault.From(err)
		if !ok { // the attempt was given up elsewhere, and state says why
			f = c.recvFault(err)
		}
		return s.finish(c.lastly(f, v))
	}
}

// recv waits for a message. When the context ends, contextEnded ends the wait.
func (s *stream) recv(c *call, m any) (wire.Message, error) {
	into := codec.Direct{}
	if !s.hedging { // else another goroutine may run a race, and the answer be another attempt's
		into = c.direct(m)
	}
	if !c.single {
		return c.s.RecvInto(nil, into)
	}
	return c.s.RecvUnaryInto(nil, into)
}

// Header implements grpc.ClientStream. It waits for the response headers; nil
// and no error mean that the stream ended without: RecvMsg says why.
func (s *stream) Header() (metadata.MD, error) {
	for {
		c, end := s.state()
		if end != nil {
			return c.header(), nil
		}
		if s.hedge(c) {
			continue
		}
		h, err := c.s.Head(c.ctx.Done())
		switch {
		case err != nil:
			if s.gone(c) {
				continue
			}
			_ = s.waitEnded()
			return nil, nil
		case h != nil:
			if !s.accept(c) {
				continue
			}
			if c.watch != nil {
				c.watch.inHeader()
			}
			return copied(h.MD), nil
		}
		again, v := s.repeat(c)
		if again {
			continue
		}
		if f, ok := fault.From(c.s.Outcome()); ok {
			_ = s.finish(c.lastly(f, v))
		}
		return nil, nil
	}
}

// Trailer implements grpc.ClientStream; it is nil before the end.
func (s *stream) Trailer() metadata.MD {
	c, _ := s.state()
	if !c.s.Ended() {
		return nil
	}
	return c.trailer()
}

// Context implements grpc.ClientStream. The context ends with the stream, and
// has the peer of the running attempt, which is not repeated then: "Once
// called, subsequent client-side retries are disabled."
func (s *stream) Context() context.Context {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.commitLocked()
	if s.view == nil {
		ctx := s.cur.ctx
		if s.cur.watch != nil {
			ctx = s.cur.watch.ctx
		}
		s.view = new(view)
		s.view.ctx, s.view.cancel = context.WithCancel(peer.NewContext(ctx, s.cur.peer))
		if s.over {
			s.view.cancel()
		}
	}
	return s.view.ctx
}
