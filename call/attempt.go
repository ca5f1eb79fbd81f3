// SPDX-License-Identifier: Apache-2.0

package call

import (
	"context"
	"strconv"
	"time"

	"google.golang.org/grpc/balancer"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/peer"

	"github.com/faultline-rpc/faultline/channel"
	"github.com/faultline-rpc/faultline/fault"
	"github.com/faultline-rpc/faultline/h2/hpack"
	"github.com/faultline-rpc/faultline/wire"
)

// attempt is one try of a call:
//
//	pick -> credentials -> open (free stream, window) -> answer -> settled
//
// Its phases are in ledger.go.
type attempt struct {
	began    time.Duration
	pickedAt time.Duration           // 0 before; not after began unless the clock was read
	peer     *peer.Peer              // nil before; shared
	done     func(balancer.DoneInfo) // the balancer's, or nil
	s        *wire.ClientStream      // nil before
	asked    uint32                  // microseconds that the credentials took
	number   int16                   // 1 is the first
	open     bool                    // a connection was picked, and the attempt is not settled
}

// try makes one attempt: it opens a stream with msg as its first message, if
// that is not nil. end closes the sending side.
func (c *call) try(msg []byte, end bool) *fault.Fault {
	now := c.start
	if c.number > 0 {
		now = c.caller.now()
	}
	c.attempt = attempt{began: now, number: c.number + 1}
	ctx := c.ctx
	if c.watch != nil {
		ctx = c.watch.begin(c.unseen)
	}
	p, err := c.pick(ctx)
	if err != nil {
		return c.pickFault(err)
	}
	c.open, c.peer, c.done = true, p.Peer, p.Done
	c.pickedAt = now
	if c.timed || c.number > 1 || p.Waited {
		c.pickedAt = c.caller.now()
	}
	host, f := c.prepare(ctx, &p)
	if f != nil {
		return f
	}
	if c.watch != nil {
		c.watch.outHeader(&p, host)
	}
	return c.launch(&p, msg, end)
}

func (c *call) pick(ctx context.Context) (channel.Picked, error) {
	if c.watch != nil {
		return c.watch.pick(ctx)
	}
	return c.caller.cfg.Channel.Pick(ctx, c.method, c.waitForReady)
}

// prepare makes the request, now that the connection is known. It returns the
// :authority.
func (c *call) prepare(ctx context.Context, p *channel.Picked) (string, *fault.Fault) {
	host, f := c.host(p)
	if f != nil {
		return "", c.unsendable(f)
	}
	if c.watch != nil { // its handlers may have added some, such as a trace's context
		if f := c.readMetadata(ctx); f != nil {
			return "", f
		}
	}
	fields := c.scratch.md
	if len(p.Metadata) > 0 || len(c.caller.cfg.Creds) > 0 || c.creds != nil {
		// Credentials first, as in grpc-go: servers look at a key's first value.
		if fields, f = c.credentials(ctx, p, host, c.scratch.fields[:0]); f != nil {
			return "", f
		}
		fields = append(fields, c.scratch.md...)
		var err error
		if fields, err = wire.AppendMetadata(fields, p.Metadata); err != nil {
			return "", c.unsendable(err)
		}
		c.scratch.fields = fields
	}
	if c.before > 0 { // gRFC A6, "Exposed Retry Metadata"
		fields = append(c.scratch.fields[:0], fields...) // which may be there already
		fields = append(fields, hpack.Field{Name: "grpc-previous-rpc-attempts", Value: strconv.Itoa(int(c.before)), Index: hpack.Literal})
		c.scratch.fields = fields
	}
	tmpl, f := c.caller.templates.get(templateKey{c.method, host, c.subtype, c.encoding})
	if f != nil {
		return "", c.unsendable(f)
	}
	r := &c.scratch.req
	r.Template, r.Metadata, r.MaxRecv, r.Unary, r.Timeout = tmpl, fields, c.maxRecv, c.single, 0
	if c.timed {
		left := c.deadline - c.pickedAt - time.Duration(c.asked)*time.Microsecond
		if left <= 0 {
			return "", c.interrupted(c.stage())
		}
		r.Timeout = left
		p.Expect(left)
	}
	return host, nil
}

// host is the :authority. One that the program or the balancer chose must be
// vouched for by the credentials, as in grpc-go: else a server that was
// authenticated under one name could be addressed by another.
func (c *call) host(p *channel.Picked) (string, *fault.Fault) {
	name := c.authority
	if name == "" && len(p.Metadata) > 0 { // gRFC A81
		if v := p.Metadata.Get(":authority"); len(v) > 0 {
			name = v[0]
		}
	}
	if name == "" {
		return p.Authority, nil
	}
	v, ok := p.Security.(credentials.AuthorityValidator)
	if !ok {
		return "", wire.RefuseAuthority(name, "the connection's credentials cannot validate it, expected an AuthInfo that is a credentials.AuthorityValidator", nil)
	}
	if err := v.ValidateAuthority(name); err != nil {
		return "", wire.RefuseAuthority(name, err.Error(), err)
	}
	return name, nil
}

// launch opens the stream.
func (c *call) launch(p *channel.Picked, msg []byte, end bool) *fault.Fault {
	if c.s = c.spare; c.s == nil {
		c.s = new(wire.ClientStream)
	}
	c.spare = nil
	if g := c.scratch.gate; g != nil && !g.pass() {
		return c.interrupted(fault.PhaseQuota)
	}
	c.scratch.conn = p.Conn
	err := c.s.Start(p.Conn, &c.scratch.req, msg, end, c.ctx.Done())
	if err == nil {
		return nil
	}
	if err == wire.ErrDone {
		waiting := fault.PhaseQuota
		if c.s.ID() != 0 {
			waiting = fault.PhaseSend
		}
		f := c.interrupted(waiting)
		c.s.Cancel()
		return f
	}
	// The connection takes no streams any more.
	if f, ok := fault.From(err); ok {
		if f.Entry() != fault.HTTP2HeaderList {
			p.Lost()
		}
		return f
	}
	return local(err)
}

// settle ends the attempt: the balancer learns how it went. It may be called
// again.
func (c *call) settle(err error) {
	if c.watch != nil {
		c.watch.end(err)
	}
	if !c.open {
		return
	}
	c.open = false
	if c.done == nil {
		return
	}
	info := balancer.DoneInfo{Err: err}
	if c.s != nil {
		p := c.s.Progress()
		info.BytesSent, info.BytesReceived = p.Sent, p.Headers || p.Trailers
		info.Trailer = c.trailer()
		info.ServerLoad = serverLoad(info.Trailer)
	}
	c.done(info)
}
