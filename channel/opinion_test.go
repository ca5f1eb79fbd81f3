// SPDX-License-Identifier: Apache-2.0

package channel

import (
	"crypto/tls"
	"io"
	"net"
	"testing"
)

func TestFirstBytes(t *testing.T) {
	a, b := net.Pipe()
	defer a.Close()
	go func() {
		for range 5 {
			b.Write([]byte("abc"))
		}
		b.Close()
	}()
	r := &firstBytes{Conn: a}
	buf := make([]byte, 2)
	for {
		if _, err := r.Read(buf); err != nil {
			break
		}
	}
	if string(r.first) != "abcabcab" {
		t.Errorf("the first bytes are %q", r.first)
	}
}

// TestOutgoing: what a client writes tells whether it presented a certificate,
// whatever the version and the key exchange.
func TestOutgoing(t *testing.T) {
	ca := newAuthority(t)
	own := ca.issue(nil)
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		for _, curve := range []tls.CurveID{tls.X25519MLKEM768, tls.X25519, tls.CurveP521} { // the last asks for another ClientHello
			for _, gives := range []bool{false, true} {
				a, b := tcpPair(t)
				go func() {
					_ = tls.Server(b, &tls.Config{Certificates: []tls.Certificate{own}, ClientAuth: tls.RequestClientCert, MaxVersion: version, CurvePreferences: []tls.CurveID{curve}}).Handshake()
				}()
				rec := &outgoing{Conn: a}
				cfg := &tls.Config{RootCAs: ca.pool, ServerName: "svc.test"}
				if gives {
					cfg.GetClientCertificate = always(own)
				}
				conn := tls.Client(rec, cfg)
				if err := conn.Handshake(); err != nil && version == tls.VersionTLS12 && curve != tls.X25519MLKEM768 {
					t.Errorf("%s, %v: %v", tls.VersionName(version), curve, err)
				} else if err == nil && rec.certificate() != gives {
					t.Errorf("%s, %v: certificate sent: %v, seen: %+v", tls.VersionName(version), curve, gives, rec)
				}
			}
		}
	}
}

// TestOutgoingLate: credentials that are out of time return, and leave a
// handshake behind that still writes (grpc-go's do).
func TestOutgoingLate(t *testing.T) {
	a, b := net.Pipe()
	go func() { _, _ = io.Copy(io.Discard, b) }()
	rec, done := &outgoing{Conn: a}, make(chan struct{})
	go func() {
		defer close(done)
		_, _ = rec.Write(append([]byte{recordApplication, 3, 3, 1, 0}, make([]byte, 256)...))
	}()
	_ = rec.certificate() // at whatever moment
	<-done
	if !rec.certificate() {
		t.Error("256 encrypted bytes count as no certificate")
	}
	a.Close()
}

// tcpPair is a connection and its other end; both are closed with the test.
func tcpPair(t *testing.T) (a, b net.Conn) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if a, err = net.Dial("tcp", l.Addr().String()); err != nil {
		t.Fatal(err)
	}
	if b, err = l.Accept(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { a.Close(); b.Close() })
	return a, b
}
