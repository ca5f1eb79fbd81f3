// SPDX-License-Identifier: Apache-2.0

package channel

import (
	"context"
	"crypto/tls"
	"net"
	"time"

	"github.com/faultline-rpc/faultline/fault"
)

// opinionTime bounds a second opinion.
const opinionTime = time.Second

// hungUp is the fault of a plaintext connection that the peer ended without a
// word. Most TLS servers do that when they read the preface, but so do others:
// a subchannel asks once, with a ClientHello on a connection of its own. Custom
// dialers and proxies are not asked again.
func (l *link) hungUp(f *fault.Fault) *fault.Fault {
	s, c := l.sub, l.sub.c
	if c.cfg.Dialer != nil || l.plan.proxy != nil {
		return f
	}
	s.asked.Do(func() {
		ctx, cancel := context.WithTimeout(l.attempt.ctx, opinionTime)
		defer cancel()
		nc, failed := l.plan.open(ctx, c)
		if failed != nil {
			return
		}
		defer nc.Close()
		defer context.AfterFunc(ctx, func() { nc.Close() })()
		s.tlsPeer = AnswersTLS(ctx, nc)
	})
	if !s.tlsPeer {
		return f
	}
	ev := f.Evidence()
	return fault.HTTP2TLSPeer.Newf(fault.Args{Side: fault.Remote, Processed: fault.No, Evidence: &ev, Cause: f.Unwrap()},
		"%s hung up on the HTTP/2 preface, and answers a TLS handshake", ev.Address)
}

// AnswersTLS begins a TLS handshake on nc and reports whether the answer is a
// TLS record (RFC 8446 section 5.1), an alert for instance. Nothing is
// verified; nc is of no other use afterwards.
func AnswersTLS(ctx context.Context, nc net.Conn) bool {
	rec := &firstBytes{Conn: nc}
	err := tls.Client(rec, &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"h2"}, MinVersion: tls.VersionTLS10}).HandshakeContext(ctx)
	return err == nil || len(rec.first) >= 2 && looksLikeTLS(rec.first)
}

// firstBytes keeps the first bytes read.
type firstBytes struct {
	net.Conn
	first []byte // the reader's
}

func (r *firstBytes) Read(p []byte) (int, error) {
	n, err := r.Conn.Read(p)
	r.first = append(r.first, p[:min(n, 8-min(8, len(r.first)))]...)
	return n, err
}
