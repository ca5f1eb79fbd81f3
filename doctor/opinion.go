// SPDX-License-Identifier: Apache-2.0

package doctor

import (
	"context"
	"net"
	"time"

	"github.com/faultline-rpc/faultline/channel"
	"github.com/faultline-rpc/faultline/fault"
)

// opinionTime bounds a second opinion.
const opinionTime = 2 * time.Second

// secondOpinion asks a peer with which nothing could be agreed whether it
// expects the other kind of connection: TLS in place of cleartext, or the
// reverse. Servers that hang up, fall silent or answer in HTTP/1 do not tell
// by themselves. It sends the start of such a connection, no request.
func (x *exam) secondOpinion(ctx context.Context, r *route, n *Finding) *Finding {
	ctx, cancel := context.WithTimeout(ctx, min(opinionTime, x.cfg.ConnectTimeout))
	defer cancel()
	switch n.ID {
	case "tls.handshake":
		// An alert, or a certificate that is refused here, is TLS.
		if n.waiting == fault.PhaseHandshake && x.speaks(ctx, r, channel.AnswersCleartext) {
			return named("tls.plaintext-peer").says(fault.Remote, fault.No, "%s does not answer a TLS handshake, but does answer in cleartext", r.addr.Addr)
		}
	case "http2.connection-lost", "http2.preface-timeout", "http2.http1-peer":
		if x.cfg.TLS == nil && x.speaks(ctx, r, channel.AnswersTLS) {
			return named("http2.tls-peer").says(fault.Remote, fault.No, "%s does not speak cleartext HTTP/2, but does answer a TLS handshake", r.addr.Addr)
		}
	}
	return n
}

// speaks opens a connection and reports what try finds on it.
func (x *exam) speaks(ctx context.Context, r *route, try func(context.Context, net.Conn) bool) bool {
	nc, f := x.steps.Dial(ctx, r.addr)
	if f != nil {
		return false
	}
	defer nc.Close()
	defer context.AfterFunc(ctx, func() { nc.Close() })()
	return try(ctx, nc)
}
