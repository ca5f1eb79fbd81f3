// SPDX-License-Identifier: Apache-2.0

package call

import (
	"context"
	"time"

	"google.golang.org/grpc/balancer"
	"google.golang.org/grpc/credentials"

	"github.com/faultline-rpc/faultline/channel"
	"github.com/faultline-rpc/faultline/fault"
	"github.com/faultline-rpc/faultline/wire"
)

// attempt is one try of a call:
//
//	pick -> credentials -> open (free stream, window) -> answer -> settled
type attempt struct {
	began    time.Time
	pickedAt time.Time // zero before
	sentAt   time.Time // zero before the request, or a stream's headers, were handed over
	picked   channel.Picked
	sentTo   string             // the :authority
	open     bool               // picked.Done has to be called
	s        *wire.ClientStream // nil before
}

// try makes one attempt: it opens a stream with msg as its first message, if
// that is not nil. end closes the sending side.
func (c *call) try(msg []byte, end bool) *fault.Fault {
	now := c.start
	if c.number++; c.number > 1 {
		now = time.Now()
	}
	c.attempt = attempt{began: now}
	ctx := c.ctx
	if c.watch != nil {
		ctx = c.watch.begin(c.number > 1)
	}
	var err error
	if c.picked, err = c.pick(ctx); err != nil {
		return c.pickFault(err)
	}
	c.open = true
	c.pickedAt = c.start
	if c.timed || c.number > 1 {
		c.pickedAt = time.Now()
	}
	if f := c.prepare(ctx); f != nil {
		return f
	}
	if c.watch != nil {
		c.watch.outHeader()
	}
	return c.launch(msg, end)
}

func (c *call) pick(ctx context.Context) (channel.Picked, error) {
	if c.watch != nil {
		return c.watch.pick(ctx)
	}
	return c.caller.cfg.Channel.Pick(ctx, c.method, c.waitForReady)
}

// prepare makes the request, now that the connection is known.
func (c *call) prepare(ctx context.Context) *fault.Fault {
	var f *fault.Fault
	if c.sentTo, f = c.host(); f != nil {
		return f
	}
	fields := c.md
	if len(c.picked.Metadata) > 0 || len(c.caller.cfg.Creds) > 0 || c.creds != nil {
		fields = append(c.fields[:0], c.md...)
		var err error
		if fields, err = wire.AppendMetadata(fields, c.picked.Metadata); err != nil {
			return local(err)
		}
		if fields, f = c.credentials(ctx, fields); f != nil {
			return f
		}
		c.fields = fields
	}
	tmpl, f := c.caller.templates.get(templateKey{c.method, c.sentTo, c.subtype, c.encoding})
	if f != nil {
		return f
	}
	c.req = wire.Request{Template: tmpl, Metadata: fields, MaxRecv: c.maxRecv, Unary: c.req.Unary}
	if c.timed {
		if c.req.Timeout = time.Until(c.deadline); c.req.Timeout <= 0 {
			return c.interrupted(waitStream)
		}
	}
	return nil
}

// host is the :authority. One that the program or the balancer chose must be
// vouched for by the credentials, as in grpc-go: else a server that was
// authenticated under one name could be addressed by another.
func (c *call) host() (string, *fault.Fault) {
	name := c.authority
	if name == "" && len(c.picked.Metadata) > 0 { // gRFC A81
		if v := c.picked.Metadata.Get(":authority"); len(v) > 0 {
			name = v[0]
		}
	}
	if name == "" {
		return c.picked.Authority, nil
	}
	v, ok := c.picked.Security.(credentials.AuthorityValidator)
	if !ok {
		return "", authority(name, "the connection's credentials cannot validate it, expected an AuthInfo that is a credentials.AuthorityValidator", nil)
	}
	if err := v.ValidateAuthority(name); err != nil {
		return "", authority(name, err.Error(), err)
	}
	return name, nil
}

// launch opens the stream.
func (c *call) launch(msg []byte, end bool) *fault.Fault {
	if c.s = c.spare; c.s == nil {
		c.s = new(wire.ClientStream)
	}
	c.spare = nil
	err := c.s.Start(c.picked.Conn, &c.req, msg, end, c.ctx.Done())
	if err == nil {
		if c.timed {
			c.sentAt = time.Now()
		}
		return nil
	}
	if err == wire.ErrDone {
		waiting := waitStream
		if c.s.ID() != 0 {
			waiting = waitWindow
		}
		f := c.interrupted(waiting)
		c.s.Cancel()
		return f
	}
	// The connection takes no streams any more.
	if f, ok := fault.From(err); ok {
		if f.Entry() != fault.HTTP2HeaderList {
			c.picked.Lost()
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
	if c.picked.Done == nil {
		return
	}
	info := balancer.DoneInfo{Err: err}
	if c.s != nil {
		p := c.s.Progress()
		info.BytesSent, info.BytesReceived = p.Sent, p.Headers
		info.Trailer = c.trailer()
	}
	c.picked.Done(info)
}
