// SPDX-License-Identifier: Apache-2.0

package channel

import (
	"bytes"
	"context"
	"errors"
	"strconv"
	"strings"

	"github.com/faultline-rpc/faultline/fault"
	"github.com/faultline-rpc/faultline/h2"
)

// maxSample bounds the first bytes of a peer kept as evidence.
const maxSample = 128

// prefaceFault says why a connection ended before the peer's SETTINGS.
func (l *link) prefaceFault(err error) *fault.Fault {
	f := prefaceFault(err, l.evidence(), l.plain, errors.Is(l.attempt.ctx.Err(), context.DeadlineExceeded))
	var ce *h2.ConnError
	if l.plain && f.Entry() == fault.HTTP2ConnectionLost && errors.As(err, &ce) && ce.Kind == h2.Lost && len(ce.First) == 0 {
		return l.hungUp(f)
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
		return fault.HTTP2PrefaceTimeout.New(a)
	}
	// With TLS 1.3 the server's verdict on the client's certificate arrives
	// after the handshake.
	if _, alert := remoteAlert(err); alert {
		return tlsFault(err, ev)
	}
	if len(ce.First) > 0 && !startsHTTP2(ce.First) {
		return strangerFault(ce.First, a)
	}
	if ce.Kind == h2.Violation {
		return fault.HTTP2NotHTTP2.Newf(a, "the peer's first frames break RFC 9113: %v", err)
	}
	if ce.Kind == h2.Lost && len(ce.First) == 0 && plain {
		return fault.HTTP2ConnectionLost.Newf(a, "the peer hung up on the HTTP/2 preface without a word, as a TLS server may do with a plaintext client: %v", err)
	}
	return fault.HTTP2ConnectionLost.New(a)
}

// strangerFault says what kind of peer begins with the bytes first.
func strangerFault(first []byte, a fault.Args) *fault.Fault {
	ev := a.Evidence
	switch {
	case looksLikeTLS(first):
		return fault.HTTP2TLSPeer.New(a)
	case bytes.HasPrefix(first, []byte("HTTP/1.")):
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
