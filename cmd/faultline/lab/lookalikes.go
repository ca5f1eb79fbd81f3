// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"crypto/tls"
	"io"
	"net"
	"sync"

	"golang.org/x/net/http2"
	"google.golang.org/grpc/codes"

	"github.com/faultline-rpc/faultline/doctor"
	"github.com/faultline-rpc/faultline/internal/peer"
)

// lookalikes look like something else at first sight.
var lookalikes = []Patient{
	{Name: "cleartext to a TLS port that answers in HTTP/1 (nginx)", want: "http2.tls-peer", show: func(w *ward) (doctor.Config, error) {
		return w.twoFaced(func(nc net.Conn) {
			_, _ = io.WriteString(nc, "HTTP/1.1 400 Bad Request\r\nServer: nginx\r\n\r\n<html>")
		},
			func(nc net.Conn) { _ = tls.Server(nc, good()).Handshake() })
	}},
	{Name: "TLS to a cleartext server that hangs up", want: "tls.plaintext-peer", show: overTLS(func(w *ward) (doctor.Config, error) {
		return w.twoFaced(speaking(well), func(net.Conn) {})
	})},
	{Name: "a certificate for clients only, on a port that knows HTTP/1 (nginx)", want: "tls.handshake", show: overTLS(func(w *ward) (doctor.Config, error) {
		cfg := good()
		cfg.Certificates[0] = clientOnly()
		return w.twoFaced(func(nc net.Conn) {
			_, _ = io.WriteString(nc, "HTTP/1.1 400 Bad Request\r\nServer: nginx\r\n\r\n<html>")
		}, func(nc net.Conn) { _ = tls.Server(nc, cfg).Handshake() })
	})},
	{Name: "a client certificate is required, and missed without an alert (C-core)", want: "tls.client-cert-required", show: hangingUp(false)},
	{Name: "a client certificate is refused without an alert (Node)", want: "tls.client-cert-rejected", show: hangingUp(true)},
	{Name: "a client certificate is refused without an alert, and missed with one (Node)", want: "tls.client-cert-rejected", show: choosy},
	{Name: "GOAWAY at once, and again (a PROXY protocol header is expected)", want: "http2.goaway", show: scripted(func(p *peer.Peer) error {
		return p.SendGoAway(0, http2.ErrCodeProtocol, "")
	})},
	{Name: "a server that is draining and still listens", want: "http2.goaway", show: scripted(func(p *peer.Peer) error {
		return p.SendGoAway(0, http2.ErrCodeNo, "")
	})},
	{Name: "a peer that hangs up after its SETTINGS", want: "http2.connection-lost", show: scripted(func(p *peer.Peer) error { return nil })},
	{Name: "an HTTP/1 server that answers without a header (HTTP/0.9)", want: "http2.http1-peer",
		show: raw(peer.Raw{Wait: true, Answer: []byte("<!DOCTYPE HTML>\n<html lang=\"en\">\n<title>Error response</title>")})},
	{Name: "GOAWAY in place of SETTINGS", want: "http2.protocol", code: codes.Unavailable,
		show: raw(peer.Raw{Wait: true, Answer: []byte("\x00\x00\x08\x07\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x01")})},
	{Name: "SETTINGS with a frame size that is not allowed", want: "http2.protocol", code: codes.Unavailable,
		show: with(http2.Setting{ID: http2.SettingMaxFrameSize, Val: 100})},
	{Name: "headers of 2 MB", want: "http2.header-list", show: answering(peer.HugeHeaders(2 << 20))},
	{Name: "HTTP 000 by nginx with proxy_pass", want: "wire.http-status", code: codes.Unknown,
		show: answering(peer.Full([]string{":status", "000", "server", "nginx"}, []byte("\x00\x00\x06\x04"), []string{"x-end", "1"}))},
	{Name: "HTTP 502 that is cut off", want: "wire.http-status", code: codes.Unavailable, show: answering(peer.Then(func(p *peer.Peer, s uint32) error {
		return p.SendHeaders(s, false, ":status", "502", "content-type", "text/html")
	}, peer.RST(http2.ErrCodeInternal)))},
	{Name: "a content-type that a proxy rewrote, and OK", want: "wire.content-type",
		show: answering(peer.Full([]string{":status", "200", "content-type", "text/plain"}, peer.Message(serving), []string{"grpc-status", "0"}))},
	{Name: "a gRPC-Web server", want: "wire.content-type",
		show: answering(peer.Full([]string{":status", "200", "content-type", "application/grpc-web+proto"}, peer.Message(serving), nil))},
	{Name: "HTTP 301", want: "wire.http-status", code: codes.Unknown, show: page(301)},
	{Name: "HTTP 415 (a REST or Connect server)", want: "wire.http-status", code: codes.Unknown, show: page(415)},
	{Name: "a connection that breaks after the message", want: "http2.connection-lost", show: answering(peer.Then(func(p *peer.Peer, s uint32) error {
		if err := p.SendHeaders(s, false, ":status", "200", "content-type", "application/grpc"); err != nil {
			return err
		}
		return p.SendData(s, peer.Message(serving), false)
	}, peer.HangUp()))},
	{Name: "informational answers before the answer", want: Healthy, show: answering(peer.Then(func(p *peer.Peer, s uint32) error {
		if err := p.SendHeaders(s, false, ":status", "100"); err != nil {
			return err
		}
		return p.SendHeaders(s, false, ":status", "103", "link", "</x>; rel=preload")
	}, peer.OK(serving)))},
	{Name: "padding everywhere", want: Healthy, show: answering(padded)},
	{Name: "a grpc-status of 00", want: Healthy, show: answering(peer.Body(peer.Message(serving), "grpc-status", "00"))},
	{Name: "a grpc-message with broken percent signs", want: Healthy, show: answering(peer.Body(peer.Message(serving), "grpc-status", "0", "grpc-message", "100%zz%"))},
	{Name: "an encoding that is named and not used", want: Healthy,
		show: answering(peer.Full([]string{":status", "200", "content-type", "application/grpc", "grpc-encoding", "snappy"}, peer.Message(serving), []string{"grpc-status", "0"}))},
}

// padded answers with padding and a priority (RFC 9113 sections 6.1 and 6.2).
func padded(p *peer.Peer, stream uint32) error {
	if err := p.SendHeaders(stream, false, ":status", "200", "content-type", "application/grpc"); err != nil {
		return err
	}
	body := peer.Message(serving)
	for _, part := range [][]byte{body[:3], nil, body[3:]} {
		err := p.Send("DATA with padding", func(fr *http2.Framer) error { return fr.WriteDataPadded(stream, false, part, make([]byte, 200)) })
		if err != nil {
			return err
		}
	}
	return p.SendHeaders(stream, true, "grpc-status", "0")
}

// speaking serves a script on a connection.
func speaking(s peer.Script) func(net.Conn) {
	return func(nc net.Conn) {
		p := peer.NewServer(nc, peer.Options{})
		defer p.Close()
		_ = s(p) // ends as the doctor hangs up
	}
}

// twoFaced serves connections that begin with the cleartext preface in one
// way, others in another.
func (w *ward) twoFaced(clear, other func(net.Conn)) (doctor.Config, error) {
	l, err := net.Listen("tcp", loopback)
	if err != nil {
		return doctor.Config{}, err
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			nc, err := l.Accept()
			if err != nil {
				return
			}
			wg.Go(func() {
				defer nc.Close()
				first := make([]byte, 4096)
				n, err := nc.Read(first)
				switch {
				case err != nil:
				case first[0] == 'P':
					clear(&begun{nc, first[:n]})
				default:
					other(&begun{nc, first[:n]})
				}
			})
		}
	})
	w.onClose(func() error { err := l.Close(); wg.Wait(); return err })
	return at(l.Addr().String()), nil
}

// begun is a connection of which the first bytes have been read.
type begun struct {
	net.Conn
	first []byte
}

func (b *begun) Read(p []byte) (int, error) {
	if len(b.first) == 0 {
		return b.Conn.Read(p)
	}
	n := copy(p, b.first)
	b.first = b.first[n:]
	return n, nil
}

// hangingUp is a server that asks for a client certificate and does not say
// what it dislikes about the one it gets, or about none.
func hangingUp(given bool) func(*ward) (doctor.Config, error) {
	return func(w *ward) (doctor.Config, error) {
		server := good()
		server.ClientAuth = tls.RequestClientCert
		cfg, err := w.twoFaced(func(net.Conn) {}, func(nc net.Conn) { _ = tls.Server(nc, server).Handshake() })
		cfg.TLS = trusting()
		if given {
			cfg.TLS.Certificates = []tls.Certificate{certificate(authorities().stranger, -1, 30)}
		}
		return cfg, err
	}
}

// choosy refuses a stranger's certificate without an alert, and says what is
// wrong to clients without any.
func choosy(w *ward) (doctor.Config, error) {
	server := good()
	server.ClientAuth = tls.RequireAnyClientCert
	cfg, err := w.twoFaced(func(net.Conn) {}, func(nc net.Conn) { _ = tls.Server(nc, server).Handshake() })
	cfg.TLS = trusting()
	cfg.TLS.Certificates = []tls.Certificate{certificate(authorities().stranger, -1, 30)}
	return cfg, err
}

// scripted runs a script after the SETTINGS of each connection.
func scripted(then func(*peer.Peer) error) func(*ward) (doctor.Config, error) {
	return func(w *ward) (doctor.Config, error) {
		return w.scripted(func(p *peer.Peer) error {
			if _, err := p.Handshake(); err != nil {
				return err
			}
			return then(p)
		})
	}
}
