// SPDX-License-Identifier: Apache-2.0

package channel

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/faultline-rpc/faultline/fault"
)

// opinionTime bounds a second opinion.
const opinionTime = 2 * time.Second

// opinions are second looks at a peer with which no connection came about, each
// on a connection of its own, and taken once by a subchannel: some mistakes
// look the same from one side. Custom dialers and proxies are not asked again.
type opinions struct {
	tls, clear, asks, gives opinion
	alike                   bool // set by asks: a client without a certificate fares just so
}

type opinion struct {
	once sync.Once
	yes  bool // set by once
}

// opinion reports what try finds on another connection by the same plan.
func (s *Subchannel) opinion(ctx context.Context, d dialPlan, o *opinion, try func(context.Context, net.Conn) bool) bool {
	if s.c.cfg.Dialer != nil || d.proxy != nil {
		return false
	}
	o.once.Do(func() {
		ctx, cancel := context.WithTimeout(ctx, opinionTime)
		defer cancel()
		nc, failed := d.open(ctx, s.c)
		if failed != nil {
			return
		}
		defer nc.Close()
		defer context.AfterFunc(ctx, func() { nc.Close() })()
		o.yes = try(ctx, nc)
	})
	return o.yes
}

// afterHandshake looks again at a peer with which a TLS handshake failed: a
// cleartext server may hang up on it without a word.
func (s *Subchannel) afterHandshake(ctx context.Context, d dialPlan, f *fault.Fault, name string) *fault.Fault {
	if _, alerted := remoteAlert(f); !alerted && f.Entry() == fault.TLSHandshake && f.Side() == fault.Remote {
		if s.opinion(ctx, d, &s.opinions.clear, AnswersCleartext) {
			ev := f.Evidence()
			return fault.TLSPlaintextPeer.Newf(fault.Args{Side: fault.Remote, Processed: fault.No, Evidence: &ev, Cause: f.Cause()},
				"%s hung up on the TLS handshake, and answers in cleartext", ev.Address)
		}
	}
	return s.withoutCertificate(ctx, d, f, name)
}

// withoutCertificate looks again at a server that ended a TLS connection in a
// way that servers use for clients without a certificate, too: some hang up,
// some send the alert of a bad certificate, or, before TLS 1.3, of no cipher
// suite in common. If it asks for a certificate and treats a client without
// one just so, that is the reason, unless this client gives one: then servers
// that hang up (C-core, Node) do not want it.
func (s *Subchannel) withoutCertificate(ctx context.Context, d dialPlan, f *fault.Fault, name string) *fault.Fault {
	alert, alerted := remoteAlert(f)
	switch {
	case f.Entry() == fault.TLSClientCertRejected:
	case alerted && alert == alertHandshakeFailure:
	case f.Entry() == fault.HTTP2ConnectionLost, !alerted && f.Side() == fault.Remote && hungUp(f.Cause()): // a fault itself is no io.EOF
	default:
		return f
	}
	asks := func(ctx context.Context, nc net.Conn) (asked bool) {
		asked, s.opinions.alike = missesCertificate(ctx, nc, name, alert, alerted)
		return asked
	}
	if !s.opinion(ctx, d, &s.opinions.asks, asks) {
		return f
	}
	gives := func(ctx context.Context, nc net.Conn) bool {
		rec := &outgoing{Conn: nc}
		_, _, _ = s.c.cfg.Creds.ClientHandshake(ctx, name, rec) // what it sent is what counts
		return rec.certificate()
	}
	ev := f.Evidence()
	a := fault.Args{Side: fault.Remote, Processed: fault.No, Evidence: &ev, Cause: f.Cause()}
	switch given := s.opinion(ctx, d, &s.opinions.gives, gives); {
	case given && alerted:
		return f
	case given:
		return fault.TLSClientCertRejected.Newf(a, "the server asks for a client certificate, got one, and hung up without an alert")
	case !s.opinions.alike:
		return f
	case !alerted:
		return fault.TLSClientCertRequired.Newf(a, "the server asks for a client certificate, and hangs up on clients that give none")
	}
	ev.TLSAlert = alertName(alert)
	return fault.TLSClientCertRequired.Newf(a, "the server asks for a client certificate, and ended the connection with the alert %s, as it does with clients that give none", ev.TLSAlert)
}

// afterPreface looks again at a peer that did not answer the cleartext preface
// in HTTP/2. Most TLS servers hang up on it, some explain themselves in HTTP/1;
// but so do others.
func (l *link) afterPreface(f *fault.Fault) *fault.Fault {
	if !l.sub.opinion(l.attempt.ctx, l.plan, &l.sub.opinions.tls, AnswersTLS) {
		return f
	}
	ev := f.Evidence()
	a := fault.Args{Side: fault.Remote, Processed: fault.No, Evidence: &ev, Cause: f.Cause()}
	if f.Entry() == fault.HTTP2HTTP1Peer {
		return fault.HTTP2TLSPeer.Newf(a, "%s refused the cleartext preface with HTTP/1 status %d, and answers a TLS handshake", ev.Address, ev.HTTPStatus)
	}
	return fault.HTTP2TLSPeer.Newf(a, "%s hung up on the HTTP/2 preface, and answers a TLS handshake", ev.Address)
}

// AnswersTLS begins a TLS handshake on nc and reports whether the answer is a
// TLS record (RFC 8446 section 5.1), an alert for instance. Nothing is
// verified; nc is of no other use afterwards.
func AnswersTLS(ctx context.Context, nc net.Conn) bool {
	rec := &firstBytes{Conn: nc}
	err := tls.Client(rec, &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"h2"}, MinVersion: tls.VersionTLS10}).HandshakeContext(ctx)
	return err == nil || len(rec.first) >= 2 && looksLikeTLS(rec.first)
}

// AnswersCleartext sends the preface and an empty SETTINGS frame on nc and
// reports whether the answer is HTTP/2 (SETTINGS on stream 0: RFC 9113 section
// 3.4) or HTTP/1. Closing nc ends it; nc is of no other use afterwards.
func AnswersCleartext(_ context.Context, nc net.Conn) bool {
	if _, err := io.WriteString(nc, start); err != nil {
		return false
	}
	head := make([]byte, 9)
	n, err := io.ReadFull(nc, head)
	if err != nil && !errors.Is(err, io.ErrUnexpectedEOF) {
		return false
	}
	return bytes.HasPrefix(head, []byte("HTTP/1.")) || n == len(head) && startsHTTP2(head)
}

// missesCertificate shakes hands as a client without a certificate and reports
// whether the server asked for one and then ended the connection, and whether
// it did so with that alert, or without any.
func missesCertificate(ctx context.Context, nc net.Conn, name string, alert uint8, alerted bool) (asked, alike bool) {
	c := tls.Client(nc, &tls.Config{ServerName: name, InsecureSkipVerify: true, NextProtos: []string{"h2"},
		GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
			asked = true
			return new(tls.Certificate), nil
		}})
	err := c.HandshakeContext(ctx)
	if err == nil && asked { // with TLS 1.3 the server's verdict comes after it
		_, _ = io.WriteString(c, start) // reading says why it failed
		_, err = c.Read(make([]byte, 1))
	}
	n, ok := remoteAlert(err)
	return asked && err != nil && ctx.Err() == nil, ok == alerted && n == alert
}

// start is the client's preface and an empty SETTINGS frame (RFC 9113 section
// 3.4).
const start = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00"

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

// outgoing reads along what a client writes in a TLS handshake.
type outgoing struct {
	net.Conn
	// Credentials that are out of time may leave a goroutine behind that writes.
	named  atomic.Bool  // a Certificate message that is not empty went out
	sealed atomic.Int64 // bytes of encrypted records
}

// The TLS records and messages that matter (RFC 8446 sections 4 and 5.1).
const (
	recordHandshake    = 22
	recordApplication  = 23 // of TLS 1.3: whatever is encrypted
	messageCertificate = 11
	emptyCertificate   = 4 + 3 // the message's header, and a list without entries (RFC 5246 section 7.4.2)
	// mostFinished is more than a client without a certificate encrypts in a
	// handshake: an empty Certificate and Finished are some 100 bytes, while a
	// certificate and its proof are several hundred.
	mostFinished = 200
)

// certificate reports whether the client presented one.
func (o *outgoing) certificate() bool { return o.named.Load() || o.sealed.Load() > mostFinished }

func (o *outgoing) Write(p []byte) (int, error) {
	for rest := p; len(rest) >= 5; {
		kind, size := rest[0], int(rest[3])<<8|int(rest[4])
		body := rest[5:min(5+size, len(rest))]
		switch {
		case kind == recordApplication:
			o.sealed.Add(int64(size))
		case kind == recordHandshake && len(body) > emptyCertificate && body[0] == messageCertificate:
			o.named.Store(true)
		}
		rest = rest[5+len(body):]
	}
	return o.Conn.Write(p)
}
