// SPDX-License-Identifier: Apache-2.0

package server

import (
	"context"
	"time"

	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/stats"

	"github.com/faultline-rpc/faultline/codec"
)

// watch tells the stats handlers about one call, in grpc-go's order: TagRPC,
// InHeader, Begin, then payloads, OutHeader and OutTrailer as they happen, and
// End. A call whose method is not registered has neither Begin nor End, and one
// that was refused or reset before a worker had it is not seen.
type watch struct {
	handlers        []stats.Handler
	ctx             context.Context // what TagRPC returned
	started         time.Time
	begun           bool
	err             error       // what the call ended with, nil for OK
	header, trailer metadata.MD // guarded by the call's ctx.mu, until they are sent
}

// tag has the stats handlers see the connection begin; the func returned has
// them see it end.
func (c *conn) tag() func() {
	ctx := peer.NewContext(context.Background(), c.peer)
	list := c.srv.cfg.StatsHandlers
	for _, h := range list {
		ctx = h.TagConn(ctx, &stats.ConnTagInfo{RemoteAddr: c.peer.Addr, LocalAddr: c.peer.LocalAddr})
	}
	c.base = ctx
	for _, h := range list {
		h.HandleConn(ctx, &stats.ConnBegin{})
	}
	return func() {
		for _, h := range list {
			h.HandleConn(ctx, &stats.ConnEnd{})
		}
	}
}

func (w *watch) tell(s stats.RPCStats) {
	for _, h := range w.handlers {
		h.HandleRPC(w.ctx, s)
	}
}

// begin makes the handler's context.
func (w *watch) begin(k *call) {
	w.ctx = k.user
	for _, h := range w.handlers {
		w.ctx = h.TagRPC(w.ctx, &stats.RPCTagInfo{FullMethodName: k.ctx.path})
	}
	k.user = w.ctx
	w.tell(&stats.InHeader{
		FullMethod: k.ctx.path, RemoteAddr: k.conn.peer.Addr, LocalAddr: k.conn.peer.LocalAddr,
		WireLength: k.Head().WireSize, Compression: k.Head().Encoding, Header: k.ctx.md.Copy(),
	})
	if k.method == nil {
		return
	}
	w.started, w.begun = time.Now(), true
	w.tell(&stats.Begin{BeginTime: w.started, IsClientStream: k.method.clientStreams(), IsServerStream: k.method.serverStreams()})
}

func (w *watch) in(m any, length, compressed int) {
	w.tell(&stats.InPayload{Payload: m, Length: length, CompressedLength: compressed, WireLength: compressed + codec.PrefixLen, RecvTime: time.Now()})
}

func (w *watch) out(m any, n codec.Sizes) {
	w.tell(&stats.OutPayload{Payload: m, Length: n.Length, CompressedLength: n.CompressedLength, WireLength: n.WireLength, SentTime: time.Now()})
}

func (w *watch) outHeader(encoding string) {
	w.tell(&stats.OutHeader{Compression: encoding, Header: w.header.Copy()})
}

func (w *watch) outTrailer() { w.tell(&stats.OutTrailer{Trailer: w.trailer.Copy()}) }

func (w *watch) end() {
	if w.begun {
		w.tell(&stats.End{BeginTime: w.started, EndTime: time.Now(), Error: w.err})
	}
}

// othersTell leaves the stats handlers' last word to a goroutine of the handler's
// that met the call's end, if it is about to tell them of that.
func (k *call) othersTell() bool {
	k.ctx.mu.Lock()
	defer k.ctx.mu.Unlock()
	k.released = true
	return k.telling
}

// told ends what finish tells the stats handlers.
func (k *call) told() {
	k.ctx.mu.Lock()
	k.telling = false
	last := k.released
	k.ctx.mu.Unlock()
	if last {
		k.watch.end()
	}
}
