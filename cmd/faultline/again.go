// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"net"
	"time"

	"github.com/faultline-rpc/faultline/channel"
	"github.com/faultline-rpc/faultline/fault"
)

// againTime bounds a second look.
const againTime = time.Second

// again looks a second time at a peer that let the time for a connection pass
// in silence: it may wait for the other kind of connection, TLS in place of
// cleartext or the reverse. It sends the start of one, as the doctor does, where
// a client that has other addresses to try has no time to.
func (f *connFlags) again(ctx context.Context, err error) error {
	flt, ok := fault.From(err)
	if !ok || flt.Evidence().Proxy != "" || flt.Evidence().Address == "" {
		return err
	}
	ev := flt.Evidence()
	switch {
	case flt.ID() == fault.HTTP2PrefaceTimeout.ID && f.plaintext && looks(ctx, ev, channel.AnswersTLS):
		return otherwise(flt, "http2.tls-peer", ev.Address+" does not speak cleartext HTTP/2, but does answer a TLS handshake")
	case flt.ID() == fault.TLSHandshake.ID && ev.Waiting == fault.PhaseHandshake && looks(ctx, ev, channel.AnswersCleartext):
		return otherwise(flt, "tls.plaintext-peer", ev.Address+" does not answer a TLS handshake, but does answer in cleartext")
	}
	return err
}

// looks opens another connection to where a failed one led, and reports what
// try finds on it.
func looks(ctx context.Context, ev fault.Evidence, try func(context.Context, net.Conn) bool) bool {
	ctx, cancel := context.WithTimeout(ctx, againTime)
	defer cancel()
	network := ev.Network
	if network == "" {
		network = "tcp"
	}
	nc, err := new(net.Dialer).DialContext(ctx, network, ev.Address)
	if err != nil {
		return false
	}
	defer nc.Close()
	defer context.AfterFunc(ctx, func() { nc.Close() })()
	return try(ctx, nc)
}

// otherwise is a failure of the same attempt under another id.
func otherwise(f *fault.Fault, id fault.ID, message string) *fault.Fault {
	ev := f.Evidence()
	g := fault.Lookup(id).New(fault.Args{Side: fault.Remote, Processed: f.Processed(), Message: message, Evidence: &ev, Cause: f.Cause()})
	if l := f.Ledger(); l != nil {
		g = g.WithLedger(l)
	}
	return g
}

// advised puts first what the handshake tells of a failure: servers that want a
// client certificate may end the handshake in peace, and answer requests with
// HTTP 400 (nginx). The failure stays the HTTP answer's, which every client gets.
func (f *connFlags) advised(flt *fault.Fault) *fault.Fault {
	if flt.Evidence().HTTPStatus != 400 || !f.asked.Load() {
		return flt
	}
	if f.cert == "" {
		return flt.WithRemedy("The server asked for a client certificate in the handshake, got none, and answers HTTP 400. " + fault.TLSClientCertRequired.Remedy)
	}
	return flt.WithRemedy("The server asked for a client certificate in the handshake, and answers HTTP 400 to the one it got: " +
		"check that it is in date, has the extended key usage clientAuth and is signed by an authority that the server knows (nginx: ssl_client_certificate), and send its intermediates along.")
}
