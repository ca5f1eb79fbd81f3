// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"crypto/tls"
	"errors"
	"net"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/net/http2"
	"google.golang.org/grpc/codes"

	"github.com/faultline-rpc/faultline/doctor"
	"github.com/faultline-rpc/faultline/internal/peer"
)

// hard are peers that tell what they are slowly, late, or not at all.
var hard = []Patient{
	{Name: "a TLS alert that comes byte by byte", want: "http2.tls-peer", show: byBytes("\x15\x03\x01\x00\x02\x02\x46")},
	{Name: "an HTTP/1 answer that comes byte by byte", want: "http2.http1-peer", show: byBytes("HTTP/1.1 400 Bad Request\r\n\r\n")},
	{Name: "an ssh banner that comes byte by byte", want: "http2.not-http2", show: byBytes("SSH-2.0-OpenSSH_9.6\r\n")},
	{Name: "SETTINGS that come byte by byte", want: Healthy, show: func(w *ward) (doctor.Config, error) {
		return w.twoFaced(func(nc net.Conn) { speaking(well)(slow{nc}) }, func(net.Conn) {})
	}},
	{Name: "HEADERS in place of SETTINGS", want: "http2.protocol", code: codes.Unavailable, show: byBytes("\x00\x00\x01\x01\x05\x00\x00\x00\x01\x88")},
	{Name: "SETTINGS on a stream", want: "http2.protocol", code: codes.Unavailable, show: byBytes("\x00\x00\x00\x04\x00\x00\x00\x00\x01")},
	{Name: "HTTP 502 that never ends", want: "wire.http-status", code: codes.Unavailable, show: answering(unending("502"))},
	{Name: "a web page that never ends", want: "wire.content-type", show: answering(unending("200"))},
	{Name: "a window that stays shut", want: "call.deadline", show: silent(with(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 0}))},
	{Name: "a client certificate that the application misses (TLS 1.3)", want: "tls.client-cert-required", show: tlsServer(func() *tls.Config { return missing(tls.VersionTLS13) })},
	{Name: "a client certificate that the application misses (TLS 1.2)", want: "tls.client-cert-required", show: tlsServer(func() *tls.Config { return missing(tls.VersionTLS12) })},
	{Name: "a server that hangs up on clients without a certificate", want: "tls.client-cert-required", show: overTLS(func(w *ward) (doctor.Config, error) {
		return w.twoFaced(func(net.Conn) {}, func(nc net.Conn) {
			cfg := good()
			cfg.ClientAuth = tls.RequestClientCert
			_ = tls.Server(nc, cfg).Handshake() // and no more
		})
	})},
	{Name: "a unix socket that a dead server left behind", want: "dial.refused", show: leftBehind},
	{Name: "GOAWAY ENHANCE_YOUR_CALM for another reason than pings", want: "http2.goaway-error",
		show: answering(peer.Then(peer.GoAway(0, http2.ErrCodeEnhanceYourCalm, "too_many_internal_resets"), peer.HangUp()))},
	{Name: "a call for each connection", want: Healthy, show: answering(peer.Then(peer.OK(serving), peer.HangUp()))},
	{Name: "an answer before the request has ended", want: Healthy, show: func(w *ward) (doctor.Config, error) {
		return w.scripted(peer.EachAtOnce(peer.Then(peer.OK(serving), peer.RST(http2.ErrCodeNo))))
	}},
}

// drip is the time between the bytes of a peer that is slow.
const drip = 2 * time.Millisecond

// slow writes byte by byte.
type slow struct{ net.Conn }

func (s slow) Write(p []byte) (int, error) {
	for i := range p {
		if _, err := s.Conn.Write(p[i : i+1]); err != nil {
			return i, err
		}
		time.Sleep(drip)
	}
	return len(p), nil
}

// byBytes is a patient that answers the preface so, slowly, and waits.
func byBytes(text string) func(*ward) (doctor.Config, error) {
	return func(w *ward) (doctor.Config, error) {
		return w.twoFaced(func(nc net.Conn) {
			_, _ = slow{nc}.Write([]byte(text)) // the doctor may hang up first
			for p := make([]byte, 512); ; {
				if _, err := nc.Read(p); err != nil {
					return
				}
			}
		}, func(net.Conn) {})
	}
}

// unending begins a page with that HTTP status.
func unending(status string) peer.Answer {
	return func(p *peer.Peer, s uint32) error {
		if err := p.SendHeaders(s, false, ":status", status, "content-type", "text/html"); err != nil {
			return err
		}
		return p.SendData(s, []byte("<html>"), false)
	}
}

// missing is a server that asks for a client certificate, and refuses clients
// without one by its own code, as Java's do: with the alert of a bad one.
func missing(version uint16) *tls.Config {
	cfg := good()
	cfg.ClientAuth, cfg.MinVersion, cfg.MaxVersion = tls.RequestClientCert, version, version
	cfg.VerifyConnection = func(st tls.ConnectionState) error {
		if len(st.PeerCertificates) == 0 {
			return errors.New("the client has no certificate")
		}
		return nil
	}
	return cfg
}

// leftBehind is the socket of a server that died.
func leftBehind(w *ward) (doctor.Config, error) {
	dir, err := os.MkdirTemp("", "lab")
	if err != nil {
		return doctor.Config{}, err
	}
	w.onClose(func() error { return os.RemoveAll(dir) })
	path := filepath.Join(dir, "peer.sock")
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		return doctor.Config{}, err
	}
	l.SetUnlinkOnClose(false)
	return doctor.Config{Target: "unix://" + path}, l.Close()
}
