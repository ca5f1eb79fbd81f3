// SPDX-License-Identifier: Apache-2.0

package call

import (
	"context"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/stats"

	"github.com/faultline-rpc/faultline/channel"
	"github.com/faultline-rpc/faultline/codec"
)

// watch tells the stats handlers what happens, attempt by attempt, in
// grpc-go's order: Begin, DelayedPickComplete, OutHeader, OutPayload, InHeader,
// InPayload, InTrailer, End.
type watch struct {
	c        *call
	desc     *grpc.StreamDesc
	handlers []stats.Handler
	ctx      context.Context // with the handlers' tags
	began    time.Time
	running  atomic.Bool
	headSeen atomic.Bool
	resolved bool // the call waited for the name to be resolved
}

func newWatch(c *call, desc *grpc.StreamDesc) *watch {
	return &watch{c: c, desc: desc, handlers: c.caller.cfg.StatsHandlers}
}

// begin opens an attempt. The context has every handler's tags.
func (w *watch) begin(again bool) context.Context {
	w.began = time.Now()
	w.running.Store(true)
	w.headSeen.Store(false)
	failFast := !w.c.waitForReady
	ctx := w.c.ctx
	for _, h := range w.handlers {
		ctx = h.TagRPC(ctx, &stats.RPCTagInfo{FullMethodName: w.c.method, FailFast: failFast, NameResolutionDelay: w.resolved})
	}
	w.ctx = ctx
	w.handle(&stats.Begin{Client: true, BeginTime: w.began, FailFast: failFast, IsClientStream: w.desc.ClientStreams,
		IsServerStream: w.desc.ServerStreams, IsTransparentRetryAttempt: again})
	return ctx
}

func (w *watch) handle(s stats.RPCStats) {
	for _, h := range w.handlers {
		h.HandleRPC(w.ctx, s)
	}
}

// waiting is a context that remembers whether anybody waited for its end: the
// channel does when the balancer has no connection yet.
type waiting struct {
	context.Context
	waited atomic.Bool
}

// Done implements context.Context.
func (w *waiting) Done() <-chan struct{} {
	w.waited.Store(true)
	return w.Context.Done()
}

func (w *watch) pick(ctx context.Context) (channel.Picked, error) {
	wc := &waiting{Context: ctx}
	p, err := w.c.caller.cfg.Channel.Pick(wc, w.c.method, w.c.waitForReady)
	if err == nil && wc.waited.Load() {
		w.handle(&stats.DelayedPickComplete{})
	}
	return p, err
}

func (w *watch) outHeader(picked *channel.Picked, host string) {
	md, _ := metadata.FromOutgoingContext(w.ctx)
	if p := picked.Metadata; len(p) > 0 {
		md = metadata.Join(md, p)
	}
	if md == nil {
		md = metadata.MD{}
	}
	md.Set("user-agent", w.c.caller.cfg.UserAgent)
	h := &stats.OutHeader{Client: true, Compression: w.c.encoding, Header: md, FullMethod: w.c.method, Authority: host}
	if p := picked.Peer; p != nil {
		h.RemoteAddr, h.LocalAddr = p.Addr, p.LocalAddr
	}
	w.handle(h)
}

// payload is what the handlers will learn of a message. w may be nil, and so is
// then what it returns.
func (w *watch) payload(m any, n codec.Sizes) *stats.OutPayload {
	if w == nil {
		return nil
	}
	return &stats.OutPayload{Client: true, Payload: m, Length: n.Length, CompressedLength: n.CompressedLength, WireLength: n.WireLength}
}

// sent reports a message that this attempt has sent. w may be nil.
func (w *watch) sent(m message) {
	if w == nil {
		return
	}
	told := *m.told
	told.SentTime = time.Now()
	w.handle(&told)
}

// inHeader reports the response headers, once, if they have arrived.
func (w *watch) inHeader() {
	h := w.c.head()
	if h == nil || w.headSeen.Swap(true) {
		return
	}
	w.handle(&stats.InHeader{Client: true, WireLength: h.WireSize, Compression: h.Encoding, Header: copied(h.MD)})
}

// end closes the attempt.
func (w *watch) end(err error) {
	if !w.running.Swap(false) {
		return
	}
	w.inHeader()
	end := &stats.End{Client: true, BeginTime: w.began, EndTime: time.Now(), Error: err}
	if s := w.c.s; s != nil && s.Ended() {
		end.Trailer = w.c.trailer()
		if s.Progress().Trailers {
			w.handle(&stats.InTrailer{Client: true, WireLength: s.TrailerSize(), Trailer: w.c.trailer()})
		}
	}
	w.handle(end)
}
