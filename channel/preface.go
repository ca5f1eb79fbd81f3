// SPDX-License-Identifier: Apache-2.0

package channel

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"strconv"
	"strings"

	"google.golang.org/grpc/codes"

	"github.com/faultline-rpc/faultline/fault"
	"github.com/faultline-rpc/faultline/h2"
)

// maxSample bounds the first bytes of a peer kept as evidence.
const maxSample = 128

// prefaceFault says why a connection ended before the peer's SETTINGS.
func (l *link) prefaceFault(err error) *fault.Fault {
	f := prefaceFault(err, l.evidence(), l.plain, errors.Is(l.attempt.ctx.Err(), context.DeadlineExceeded))
	var ce *h2.ConnError
	if !errors.As(err, &ce) {
		return f
	}
	wordless := f.Entry() == fault.HTTP2ConnectionLost && ce.Kind == h2.Lost && len(ce.First) == 0
	switch {
	case l.plain && (wordless || f.Entry() == fault.HTTP2HTTP1Peer):
		return l.afterPreface(f)
	case !l.plain && (wordless || f.Layer() == fault.LayerTLS):
		return l.sub.withoutCertificate(l.attempt.ctx, l.plan, f, hostOf(l.sub.c.serverName(l.addr)))
	}
	return f
}

// prefaceFault says why a connection ended before the peer's SETTINGS: late
// means that the time for them was up, plain that there is no TLS.
func prefaceFault(err error, ev fault.Evidence, plain, late bool) *fault.Fault {
	var ce *h2.ConnError
	if !errors.As(err, &ce) {
		ce = &h2.ConnError{Err: err}
	}
	a := fault.Args{Side: fault.Remote, Processed: fault.No, Evidence: &ev, Cause: err}
	if ce.Kind == h2.PrefaceTimeout || late {
		return fault.HTTP2PrefaceTimeout.Newf(a, "the peer accepted the connection and then said nothing, no HTTP/2 SETTINGS came in time")
	}
	// With TLS 1.3 the server's verdict on the client's certificate arrives
	// after the handshake.
	if _, alert := remoteAlert(err); alert {
		return tlsFault(err, ev)
	}
	if len(ce.First) > 0 && !startsHTTP2(ce.First) {
		if name := startsAmiss(ce.First); name != "" {
			a.Code = codes.Unavailable
			return fault.HTTP2Protocol.Newf(a, "%s began with %s, and SETTINGS must come first", ev.Address, name)
		}
		return strangerFault(ce.First, a)
	}
	if ce.Kind == h2.NotHTTP2 && ce.Err == nil { // SETTINGS, but none to begin with
		a.Code = codes.Unavailable
		return fault.HTTP2Protocol.Newf(a, "%s began with SETTINGS that are too long", ev.Address)
	}
	if ce.Kind == h2.Violation { // no call was under way: it is but a connection that did not come about
		a.Code = codes.Unavailable
		return fault.HTTP2Protocol.Newf(a, "%s began with frames that break a rule of HTTP/2: %s", ev.Address, ce.Reason)
	}
	ev.Waiting = fault.PhaseSettings
	if ce.Kind == h2.Lost && len(ce.First) == 0 && plain {
		return hungUpOnPreface(fault.HTTP2ConnectionLost.Newf(a, "the peer hung up on the HTTP/2 preface without a word, as a TLS server may do with a plaintext client"))
	}
	return hungUpOnPreface(fault.HTTP2ConnectionLost.New(a))
}

// hungUpOnPreface adds the advice for a peer that ends connections before
// HTTP/2 has begun.
func hungUpOnPreface(f *fault.Fault) *fault.Fault {
	if f.Evidence().Proxy != "" {
		return f.WithRemedy(remedyTunnelEnded)
	}
	return f.WithRemedy(remedyHungUp)
}

const (
	remedyHungUp = "What listens there hangs up before HTTP/2 begins. Check that host and port are the gRPC server's, and whether they want TLS. A TCP load balancer, proxy or port-forward does so when its backend is down, " +
		"or when it expects a PROXY protocol header (accept-proxy, proxy_protocol). Otherwise see the server's log: it crashes, is at its limit, or access rules or a firewall refuse this client."
	remedyTunnelEnded = "The HTTP CONNECT proxy opened a tunnel, which then ended: check that the proxy can reach the target's host and port, or go without it (NO_PROXY, WithNoProxy). The target itself may hang up too: try it directly."
)

// strangerFault says what kind of peer begins with the bytes first.
func strangerFault(first []byte, a fault.Args) *fault.Fault {
	ev := a.Evidence
	switch {
	case looksLikeTLS(first):
		return fault.HTTP2TLSPeer.Newf(a, "the client speaks cleartext, the server answered with a TLS record")
	case isHTTP1(first):
		ev.Sample = sample(first)
		head, _, _ := strings.Cut(ev.Sample, "\n")
		line := strings.TrimRight(head, "\r")
		if f := strings.Fields(line); len(f) > 1 {
			ev.HTTPStatus, _ = strconv.Atoi(f[1])
		}
		ev.HTTPServer = headerValue(first, "server")
		ev.Content = headerValue(first, "content-type")
		return fault.HTTP2HTTP1Peer.Newf(a, "the peer answered %q, which is HTTP/1", line)
	}
	ev.Sample = sample(first)
	if isHTML(first) {
		return fault.HTTP2HTTP1Peer.Newf(a, "the peer answered with an HTML page and no header, as HTTP/1 servers do that cannot read the request: %q", ev.Sample)
	}
	return fault.HTTP2NotHTTP2.Newf(a, "the peer began with %q, which is no HTTP/2", ev.Sample)
}

// startsHTTP2 reports whether first can be the start of a SETTINGS frame on
// stream 0 (RFC 9113, section 3.4).
func startsHTTP2(first []byte) bool {
	want := []struct{ at, value byte }{{3, 4}, {5, 0}, {6, 0}, {7, 0}, {8, 0}}
	for _, w := range want {
		if int(w.at) < len(first) && first[w.at] != w.value {
			return false
		}
	}
	return first[0] == 0
}

// startsAmiss names the frame that first begins with, if it is one of HTTP/2
// that may not come first (RFC 9113 sections 4.1 and 6).
func startsAmiss(first []byte) string {
	if len(first) < 9 || first[0] != 0 {
		return ""
	}
	length, whole := int(first[1])<<8|int(first[2]), binary.BigEndian.Uint32(first[5:9]) == 0
	asked := first[5] < 0x80 && first[8]&1 == 1 // a stream of the client's
	switch typ := first[3]; {
	case length > 1<<14:
	case typ == 0 && asked:
		return "DATA"
	case typ == 1 && asked && length > 0:
		return "HEADERS"
	case typ == 3 && asked && length == 4:
		return "RST_STREAM"
	case typ == 4 && asked && length%6 == 0:
		return "SETTINGS on a stream"
	case typ == 6 && whole && length == 8:
		return "PING"
	case typ == 7 && whole && length >= 8:
		return "GOAWAY"
	case typ == 8 && (whole || asked) && length == 4:
		return "WINDOW_UPDATE"
	}
	return ""
}

// isHTTP1 reports whether p is the start of an HTTP/1 answer, of which a peer
// that is slow to write has sent a few letters only.
func isHTTP1(p []byte) bool {
	const start = "HTTP/1."
	return bytes.HasPrefix(p, []byte(start)) || len(p) >= 4 && strings.HasPrefix(start, string(p))
}

// isHTML reports whether p is the start of a page.
func isHTML(p []byte) bool {
	p = bytes.ToLower(bytes.TrimSpace(p))
	return bytes.HasPrefix(p, []byte("<!doctype html")) || bytes.HasPrefix(p, []byte("<html"))
}

// headerValue finds a header in the bytes of an HTTP/1 answer, which may be
// cut off.
func headerValue(head []byte, name string) string {
	for _, line := range strings.Split(string(head), "\n") {
		k, v, ok := strings.Cut(line, ":")
		if ok && strings.EqualFold(k, name) {
			return clip(strings.TrimSpace(v), maxSample)
		}
	}
	return ""
}

// sample is the start of what a peer sent, as text.
func sample(p []byte) string { return clip(string(p), maxSample) }
