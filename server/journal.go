// SPDX-License-Identifier: Apache-2.0

package server

import (
	"context"
	"errors"
	"fmt"
	"log/slog"

	"google.golang.org/grpc/codes"

	"github.com/faultline-rpc/faultline/event"
	"github.com/faultline-rpc/faultline/fault"
	"github.com/faultline-rpc/faultline/h2"
	"github.com/faultline-rpc/faultline/journal"
	"github.com/faultline-rpc/faultline/wire"
)

// What the log is told of a call: one line when it has been answered, or when
// its caller is gone before anybody took it up. A handler may run on.

// logEnd tells of a call that ended with code. hop and err are what observers
// see of a failure; unsent says why the caller does not get the answer, or is nil.
func (k *call) logEnd(code codes.Code, hop fault.Hop, err, unsent error) {
	l := k.conn.srv.journal
	switch {
	case l == nil:
	case code != codes.OK:
		j := k.line(unsent == nil)
		j.Code, j.Err, j.Reference = code, err, hop.Reference
		j.Failure = journal.Failure{ID: hop.ID, Layer: hop.Layer, Side: hop.Side, Processed: hop.Processed}
		if j.Processed == fault.Maybe {
			j.Processed = k.handlerRan()
		}
		j.Log(k.user, l)
	case unsent != nil || journal.Wanted(k.user, l):
		k.logSuccess(l, k.line(unsent == nil), unsent)
	}
}

// logReply tells of a unary call that succeeded; unsent is as for logEnd. whole
// says that the headers were to go with the message.
func (k *call) logReply(whole bool, unsent error) {
	l := k.conn.srv.journal
	if l == nil || unsent == nil && !journal.Wanted(k.user, l) {
		return
	}
	j := k.line(unsent == nil)
	switch {
	case unsent == nil:
		j.Sent = 1
	case whole:
		j.State = journal.Request
	}
	k.logSuccess(l, j, unsent)
}

// logSuccess writes the line of a call whose handler succeeded.
func (k *call) logSuccess(l *slog.Logger, j *journal.Call, unsent error) {
	if unsent != nil {
		k.blame(j, unsent)
	}
	j.Log(k.user, l)
}

// blame fills in why an answer did not reach the caller.
func (k *call) blame(j *journal.Call, err error) {
	f, ok := fault.From(err)
	if !ok { // the deadline came first
		f, ok = fault.From(k.ctx.why())
	}
	if !ok {
		j.Code, j.Err = codes.Canceled, err
		j.Failure = journal.Failure{Layer: fault.LayerCall, Side: fault.Local, Processed: fault.Yes}
		return
	}
	k.fail(j, f.WithProcessed(fault.Yes))
}

// fail fills in that the call failed with f.
func (k *call) fail(j *journal.Call, f *fault.Fault) {
	f = k.located(f)
	j.Code, j.Err, j.Failure, j.Reference = f.Code(), f, journal.Of(f), f.Evidence().Reference
}

// logFault tells of a call that failed with f before anybody took it up.
func (k *call) logFault(f *fault.Fault) {
	if l := k.conn.srv.journal; l != nil {
		j := k.line(false)
		k.fail(j, f)
		j.Log(k.ctx, l)
	}
}

// logger is logFault for a call that may be used again before it can be told of:
// what it returns does it.
func (k *call) logger(f *fault.Fault, answered bool) func() {
	l, ctx := k.conn.srv.journal, k.ctx
	if l == nil {
		return func() {}
	}
	j := k.line(answered)
	k.fail(j, f)
	return func() { j.Log(ctx, l) }
}

// line is what is known of every call. answered says that its status was sent.
func (k *call) line(answered bool) *journal.Call {
	x := k.ctx
	j := &journal.Call{Role: event.Server, Method: clip(k.Head().Path), Peer: addr(k.conn.peer.Addr),
		Stream: k.ID(), State: journal.Request, Received: k.Received(), Sent: k.sent.Load()}
	switch {
	case answered:
		j.State = journal.Trailers
	case j.Sent > 0:
		j.State = journal.Messages
	case k.HeaderSent():
		j.State = journal.Headers
	}
	if x.path != "" { // else it was refused before its arrival was noted
		j.Elapsed = k.conn.srv.now() - k.arrived
	}
	if !x.deadline.IsZero() {
		j.Timed, j.Budget = true, x.timeout
	}
	return j
}

// refused tells of a request that opened no stream: it breaks a rule of HTTP/2,
// or the connection has as many calls as it may. It runs on the reader.
func (c *conn) refused(b *h2.Block, id uint32, code h2.Code, why string) {
	j := &journal.Call{Role: event.Server, Peer: addr(c.peer.Addr), Stream: id, State: journal.Request}
	for _, f := range b.Fields {
		if f.Name == ":path" {
			j.Method = clip(f.Value)
		}
	}
	_, j.Code = wire.ForReset(code)
	j.Failure = journal.Failure{ID: fault.HTTP2Protocol.ID, Layer: fault.LayerHTTP2, Side: fault.Remote, Processed: fault.No}
	j.Err = fmt.Errorf("the request breaks a rule of HTTP/2: %s", why)
	if why == "" {
		j.ID, j.Side = fault.HTTP2RefusedStream.ID, fault.Local
		j.Err = fmt.Errorf("the connection has no room for another call; MaxConcurrentStreams is %d", c.srv.cfg.MaxConcurrentStreams)
	}
	j.Log(context.Background(), c.srv.journal)
}

// between says between whom the connection is.
func (c *conn) between() journal.Conn {
	return journal.Conn{Role: event.Server, Peer: addr(c.raw.RemoteAddr()), Local: addr(c.raw.LocalAddr())}
}

// logEnd tells of the connection's end.
func (c *conn) logEnd(err error) {
	if l := c.srv.journal; l != nil {
		var ce *h2.ConnError
		c.between().Ended(l, errors.As(err, &ce) && ce.Orderly(), err)
	}
}
