// SPDX-License-Identifier: Apache-2.0

package server

import (
	"context"
	"errors"
	"io"
	"sync/atomic"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"

	"github.com/faultline-rpc/faultline/fault"
	"github.com/faultline-rpc/faultline/h2"
	"github.com/faultline-rpc/faultline/wire"
)

// transportStream is a call as grpc.SetHeader, SendHeader, SetTrailer and
// Method find it in the handler's context. Like the context it outlives the
// call, and then refuses.
type transportStream callContext

var _ grpc.ServerTransportStream = (*transportStream)(nil)

// Method implements grpc.ServerTransportStream.
func (t *transportStream) Method() string { return t.path }

// SetHeader implements grpc.ServerTransportStream.
func (t *transportStream) SetHeader(md metadata.MD) error {
	if len(md) == 0 {
		return nil
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.addHeaderLocked(md)
}

func (t *transportStream) addHeaderLocked(md metadata.MD) error {
	k := t.call
	if k == nil || k.over || k.headerSent {
		return t.misuseLocked("SetHeader: the headers were sent already, with SendHeader, the first message or the end of the call")
	}
	fields, err := wire.AppendMetadata(k.header, md)
	if err != nil {
		return t.raiseLocked(err)
	}
	k.header = fields
	if k.watch != nil {
		k.watch.header = metadata.Join(k.watch.header, md)
	}
	return nil
}

// SendHeader implements grpc.ServerTransportStream.
func (t *transportStream) SendHeader(md metadata.MD) error {
	t.mu.Lock()
	k := t.call
	if k == nil || k.over || k.headerSent {
		defer t.mu.Unlock()
		return t.misuseLocked("SendHeader: the headers were sent already, with SendHeader, the first message or the end of the call")
	}
	err := error(nil)
	if len(md) > 0 {
		err = t.addHeaderLocked(md)
	}
	if err == nil {
		err = t.sendHeaderLocked()
	}
	w, encoding := k.watch, k.encoding
	t.mu.Unlock()
	if err == nil && w != nil {
		w.outHeader(encoding)
	}
	return err
}

func (t *transportStream) sendHeaderLocked() error {
	k := t.call
	k.headerSent = true
	if err := k.ServerStream.SendHeader(k.subtype, k.encoding, k.header); err != nil {
		if f, ok := fault.From(err); ok && f.Entry() == fault.HTTP2HeaderList {
			k.headerSent = false // nothing was sent
			clear(k.header)
			k.header = k.header[:0]
		}
		return t.raiseLocked(err)
	}
	return nil
}

// SetTrailer implements grpc.ServerTransportStream.
func (t *transportStream) SetTrailer(md metadata.MD) error {
	if len(md) == 0 {
		return nil
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	k := t.call
	if k == nil || k.over {
		return t.misuseLocked("SetTrailer: the call is over")
	}
	if v := md[fault.TrailKey]; len(v) > 0 { // AppendMetadata leaves it out: it is for those who may read it
		k.passed = append(k.passed[:len(k.passed):len(k.passed)], v...)
	}
	fields, err := wire.AppendMetadata(k.trailer, md)
	if err != nil {
		// A stream's SetTrailer cannot return it: a call that would succeed
		// without the trailers that its program set fails instead.
		f, _ := fault.From(err)
		k.badTrailer = f.WithProcessed(fault.Yes)
		return t.raiseLocked(err)
	}
	k.trailer = fields
	if k.watch != nil {
		k.watch.trailer = metadata.Join(k.watch.trailer, md)
	}
	return nil
}

func (t *transportStream) misuse(what string) *fault.Fault {
	return fault.CallMisuse.New(fault.Args{Side: fault.Local, Processed: fault.Yes, Message: what,
		Evidence: &fault.Evidence{Method: clip(t.path)}})
}

func (t *transportStream) misuseLocked(what string) error { return t.raiseLocked(t.misuse(what)) }

// raiseLocked is [call.raise] for metadata: a handler is running, whatever
// wire may think.
func (t *transportStream) raiseLocked(err error) error {
	f, ok := err.(*fault.Fault)
	if !ok {
		return err
	}
	f = f.WithProcessed(fault.Yes)
	if t.call != nil {
		f = t.call.located(f)
		t.call.raised = f
	}
	return f
}

// serverStream is a streaming call as its handler sees it. One goroutine may
// send while another receives.
type serverStream struct {
	k        *call
	ctx      context.Context
	done     <-chan struct{}
	late     <-chan struct{} // done if there is a deadline: every other end of the call ends a wait for messages by itself
	received atomic.Bool     // the one message of a request that does not stream
}

var _ grpc.ServerStream = (*serverStream)(nil)

// serveStream runs a streaming handler behind its interceptors.
func (k *call) serveStream() error {
	s, m := &serverStream{k: k, ctx: k.user, done: k.ctx.Done()}, k.method
	if !k.ctx.deadline.IsZero() {
		s.late = s.done
	}
	if k.conn.srv.strInt == nil {
		return m.stream.Handler(m.impl, s)
	}
	info := &grpc.StreamServerInfo{FullMethod: k.ctx.path, IsClientStream: m.clientStreams(), IsServerStream: m.serverStreams()}
	return k.conn.srv.strInt(m.impl, s, info, k.gatedStream())
}

// Context implements grpc.ServerStream.
func (s *serverStream) Context() context.Context { return s.ctx }

// SetHeader implements grpc.ServerStream.
func (s *serverStream) SetHeader(md metadata.MD) error {
	return (*transportStream)(s.k.ctx).SetHeader(md)
}

// SendHeader implements grpc.ServerStream.
func (s *serverStream) SendHeader(md metadata.MD) error {
	return (*transportStream)(s.k.ctx).SendHeader(md)
}

// SetTrailer implements grpc.ServerStream.
func (s *serverStream) SetTrailer(md metadata.MD) { _ = (*transportStream)(s.k.ctx).SetTrailer(md) }

// RecvMsg implements grpc.ServerStream: io.EOF at the end of the request. Any
// other error has ended the call.
func (s *serverStream) RecvMsg(m any) error {
	k := s.k
	if k.method.clientStreams() {
		msg, err := k.RecvInto(s.late, k.direct(m))
		if err == io.EOF {
			return err
		}
		if err != nil {
			return s.fail(claiming(err, k.ran()))
		}
		return s.ended(k.unmarshal(&msg, m))
	}
	if s.received.Swap(true) {
		return io.EOF
	}
	k.stage.decode() // if the call was answered, there is nothing to receive
	msg, err := k.RecvUnary()
	if err != nil {
		return s.fail(claiming(err, fault.No)) // as in decodeUnary
	}
	if err = k.unmarshal(&msg, m); err == nil {
		err = k.begin()
	}
	return s.ended(err)
}

// SendMsg implements grpc.ServerStream. An error has ended the call.
func (s *serverStream) SendMsg(m any) error {
	k := s.k
	buf, sizes, err := k.codec.Encode(m, k.answer, k.conn.srv.sendMax)
	if err != nil {
		return s.fail(k.own(err))
	}
	defer buf.Free()
	switch err := s.send(buf.B); err {
	case nil:
	case errReturned: // not raised: how the call ends is what the handler returned
		return k.located((*transportStream)(k.ctx).misuse("SendMsg: the handler has returned"))
	default:
		return s.fail(err)
	}
	if k.conn.srv.journal != nil {
		k.sent.Add(1)
	}
	if k.watch != nil {
		k.watch.out(m, sizes)
	}
	return nil
}

// errReturned ends a send that begins after the handler has returned.
var errReturned = errors.New("server: the handler has returned")

// send sends one message, after the headers. Those of several goroutines follow
// one another, though none may count on that: in each other's midst they would
// garble the stream, and take turns from the connection's other streams.
func (s *serverStream) send(msg []byte) (err error) {
	k, x := s.k, s.k.ctx
	k.outgoing.Lock()
	defer k.outgoing.Unlock()
	x.mu.Lock()
	first := !k.headerSent
	switch {
	case k.returned:
		err = errReturned
	case k.over && k.raised != nil:
		err = k.raised
	case k.over:
		err = (*transportStream)(x).misuseLocked("SendMsg: the call is over")
	case first:
		err = (*transportStream)(x).sendHeaderLocked()
	}
	k.sending.Store(err == nil)
	x.mu.Unlock()
	if err != nil {
		return err
	}
	if first && k.watch != nil {
		k.watch.outHeader(k.encoding)
	}
	err = k.Send(msg, s.done)
	k.sending.Store(false)
	if err == nil {
		return nil
	}
	if err == wire.ErrDone && x.interruption() == nil {
		// Part of the message may be out: trailers would call it truncated.
		k.Reset(h2.Cancel)
	}
	return claiming(err, k.ran())
}

// fail ends the call with the error that a method of its stream returns, as
// grpc-go does: a request that cannot be read has no answer but that.
func (s *serverStream) fail(err error) error {
	k := s.k
	if f := k.ctx.interruption(); f != nil {
		return f
	}
	if err == wire.ErrDone {
		if err = k.ctx.why(); err == nil || err == context.Canceled {
			// Only the end of the handler leaves no other reason.
			err = fault.CallMisuse.Newf(fault.Args{Side: fault.Local, Processed: fault.Yes}, "the call is over: its handler has returned")
		}
	}
	return s.ended(k.raise(err))
}

func (s *serverStream) ended(err error) error {
	if err != nil {
		s.k.finish(err)
	}
	return err
}
