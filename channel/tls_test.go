// SPDX-License-Identifier: Apache-2.0

package channel

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"io"
	"math/big"
	"net"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/credentials"

	"github.com/faultline-rpc/faultline/fault"
)

// authority signs certificates for a test.
type authority struct {
	t    *testing.T
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	pool *x509.CertPool
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	a := &authority{t: t, pool: x509.NewCertPool()}
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test authority"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}
	a.cert, a.key = a.sign(tmpl, tmpl, nil)
	a.pool.AddCert(a.cert)
	return a
}

func (a *authority) sign(tmpl, parent *x509.Certificate, by *ecdsa.PrivateKey) (*x509.Certificate, *ecdsa.PrivateKey) {
	a.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		a.t.Fatal(err)
	}
	if by == nil {
		by = key
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, parent, &key.PublicKey, by)
	if err != nil {
		a.t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		a.t.Fatal(err)
	}
	return cert, key
}

// issue makes a certificate for svc.test, changed by the given function.
func (a *authority) issue(change func(*x509.Certificate)) tls.Certificate {
	a.t.Helper()
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(2), DNSNames: []string{"svc.test"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		KeyUsage:    x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}}
	if change != nil {
		change(tmpl)
	}
	cert, key := a.sign(tmpl, a.cert, a.key)
	return tls.Certificate{Certificate: [][]byte{cert.Raw}, PrivateKey: key}
}

// serveTLS speaks HTTP/2 over TLS. After a failed handshake it reads on, as
// closing at once could destroy the alert on its way.
func serveTLS(cfg *tls.Config) func(net.Conn) {
	return func(nc net.Conn) {
		conn := tls.Server(nc, cfg)
		if err := conn.Handshake(); err != nil {
			if tc, ok := nc.(*net.TCPConn); ok {
				_ = tc.CloseWrite()
			}
			_, _ = io.Copy(io.Discard, nc)
			return
		}
		goodPeer("", conn)
	}
}

func TestTLSRows(t *testing.T) {
	ca, stranger := newAuthority(t), newAuthority(t)
	good := ca.issue(nil)
	h2 := []string{"h2"}
	row := func(e *fault.Entry, s fault.Side) expect { return expect{e, s, fault.PickNoReady} }
	client := func(change func(*tls.Config)) *tls.Config {
		c := &tls.Config{RootCAs: ca.pool}
		if change != nil {
			change(c)
		}
		return c
	}
	tests := []struct {
		name   string
		server *tls.Config // nil: see raw
		raw    func(net.Conn)
		client *tls.Config
		want   expect
		cause  func(error) bool
		check  func(fault.Evidence) bool
		remedy string // how it begins
	}{
		{name: "unknown authority", server: &tls.Config{Certificates: []tls.Certificate{stranger.issue(nil)}, NextProtos: h2},
			want: row(fault.TLSUnknownAuthority, fault.Local), cause: asError[x509.UnknownAuthorityError]},
		{name: "hostname", server: &tls.Config{Certificates: []tls.Certificate{ca.issue(func(c *x509.Certificate) { c.DNSNames = []string{"other.test"} })}, NextProtos: h2},
			want: row(fault.TLSHostname, fault.Local), cause: asError[x509.HostnameError], check: func(e fault.Evidence) bool { return e.Host == "svc.test" }},
		{name: "expired", server: &tls.Config{Certificates: []tls.Certificate{ca.issue(func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Minute) })}, NextProtos: h2},
			want: row(fault.TLSExpired, fault.Local), cause: asError[x509.CertificateInvalidError]},
		{name: "not yet valid", server: &tls.Config{Certificates: []tls.Certificate{ca.issue(func(c *x509.Certificate) { c.NotBefore = time.Now().Add(time.Minute) })}, NextProtos: h2},
			want: row(fault.TLSExpired, fault.Local), cause: asError[x509.CertificateInvalidError]},
		{name: "no alpn", server: &tls.Config{Certificates: []tls.Certificate{good}}, want: row(fault.TLSNoALPN, fault.Remote)},
		{name: "other alpn", server: &tls.Config{Certificates: []tls.Certificate{good}, NextProtos: []string{"http/1.1"}},
			want: row(fault.TLSNoALPN, fault.Remote), check: func(e fault.Evidence) bool { return strings.Contains(e.TLSAlert, "(120)") }},
		{name: "server too old", server: &tls.Config{Certificates: []tls.Certificate{good}, NextProtos: h2, MaxVersion: tls.VersionTLS12},
			client: client(func(c *tls.Config) { c.MinVersion = tls.VersionTLS13 }),
			want:   row(fault.TLSVersion, fault.Remote), check: func(e fault.Evidence) bool { return strings.Contains(e.TLSAlert, "(70)") }},
		{name: "client too old", server: &tls.Config{Certificates: []tls.Certificate{good}, NextProtos: h2, MinVersion: tls.VersionTLS13},
			client: client(func(c *tls.Config) { c.MaxVersion = tls.VersionTLS12 }), want: row(fault.TLSVersion, fault.Remote)},
		{name: "no common cipher", server: &tls.Config{Certificates: []tls.Certificate{good}, NextProtos: h2, MaxVersion: tls.VersionTLS12, CipherSuites: []uint16{tls.TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384}},
			client: client(func(c *tls.Config) { c.CipherSuites = []uint16{tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256} }),
			want:   row(fault.TLSVersion, fault.Remote), check: func(e fault.Evidence) bool { return strings.Contains(e.TLSAlert, "(40)") }},
		{name: "client certificate required, 1.3", server: &tls.Config{Certificates: []tls.Certificate{good}, NextProtos: h2, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: ca.pool},
			want: row(fault.TLSClientCertRequired, fault.Remote), check: func(e fault.Evidence) bool { return strings.Contains(e.TLSAlert, "(116)") }},
		{name: "client certificate rejected, 1.3", server: &tls.Config{Certificates: []tls.Certificate{good}, NextProtos: h2, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: ca.pool},
			client: client(func(c *tls.Config) { c.GetClientCertificate = always(stranger.issue(nil)) }),
			want:   row(fault.TLSClientCertRejected, fault.Remote)},
		{name: "client certificate expired, 1.2", server: &tls.Config{Certificates: []tls.Certificate{good}, NextProtos: h2, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: ca.pool, MaxVersion: tls.VersionTLS12},
			client: client(func(c *tls.Config) {
				c.GetClientCertificate = always(ca.issue(func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Minute) }))
			}),
			want: row(fault.TLSClientCertRejected, fault.Remote)},
		{name: "client certificate required, 1.2", server: &tls.Config{Certificates: []tls.Certificate{good}, NextProtos: h2, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: ca.pool, MaxVersion: tls.VersionTLS12},
			want: row(fault.TLSClientCertRequired, fault.Remote), check: func(e fault.Evidence) bool { return strings.Contains(e.TLSAlert, "(40)") }},
		{name: "client certificate missed by the application, 1.2", server: &tls.Config{Certificates: []tls.Certificate{good}, NextProtos: h2, ClientAuth: tls.RequestClientCert, VerifyConnection: wantsCertificate, MaxVersion: tls.VersionTLS12},
			want: row(fault.TLSClientCertRequired, fault.Remote), check: func(e fault.Evidence) bool { return strings.Contains(e.TLSAlert, "(42)") }},
		{name: "client certificate missed by the application, 1.3", server: &tls.Config{Certificates: []tls.Certificate{good}, NextProtos: h2, ClientAuth: tls.RequestClientCert, VerifyConnection: wantsCertificate},
			want: row(fault.TLSClientCertRequired, fault.Remote), check: func(e fault.Evidence) bool { return strings.Contains(e.TLSAlert, "(42)") }},
		{name: "client certificate not admitted by the application", server: &tls.Config{Certificates: []tls.Certificate{good}, NextProtos: h2, ClientAuth: tls.RequireAnyClientCert,
			VerifyPeerCertificate: func([][]byte, [][]*x509.Certificate) error { return errors.New("not on the list") }},
			client: client(func(c *tls.Config) { c.GetClientCertificate = always(ca.issue(nil)) }), want: row(fault.TLSClientCertRejected, fault.Remote)},
		{name: "hangs up without a client certificate", raw: hangUpWithoutCertificate(&tls.Config{Certificates: []tls.Certificate{good}, NextProtos: h2, ClientAuth: tls.RequestClientCert}),
			want: row(fault.TLSClientCertRequired, fault.Remote)},
		{name: "hangs up within the handshake without a client certificate", raw: hangUpInside(&tls.Config{Certificates: []tls.Certificate{good}, NextProtos: h2, ClientAuth: tls.RequestClientCert, MaxVersion: tls.VersionTLS12}),
			want: row(fault.TLSClientCertRequired, fault.Remote)},
		{name: "a client's certificate", server: &tls.Config{Certificates: []tls.Certificate{ca.issue(func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth} })}, NextProtos: h2},
			want: row(fault.TLSHandshake, fault.Local), cause: asError[x509.CertificateInvalidError]},
		{name: "hangs up, and speaks cleartext", raw: firstByte('P', func(nc net.Conn) { goodPeer("", nc) }, func(nc net.Conn) { _ = nc.(*replayed).CloseWrite(); drain(nc) }),
			want: row(fault.TLSPlaintextPeer, fault.Remote)},
		{name: "plaintext http peer", raw: func(nc net.Conn) { _, _ = io.WriteString(nc, "HTTP/1.0 400 Bad Request\r\n\r\n"); drain(nc) },
			want: row(fault.TLSPlaintextPeer, fault.Remote), cause: asError[tls.RecordHeaderError], check: func(e fault.Evidence) bool { return e.Sample == "HTTP/" }, remedy: "Connect in plaintext"},
		{name: "plaintext http2 peer", raw: func(nc net.Conn) { _, _ = nc.Write([]byte{0, 0, 0, 4, 0, 0, 0, 0, 0}); drain(nc) },
			want: row(fault.TLSPlaintextPeer, fault.Remote), cause: asError[tls.RecordHeaderError]},
		{name: "plaintext peer of another kind", raw: func(nc net.Conn) { _, _ = io.WriteString(nc, "SSH-2.0-OpenSSH_9.2\r\n"); drain(nc) },
			want: row(fault.TLSPlaintextPeer, fault.Remote), cause: asError[tls.RecordHeaderError], check: func(e fault.Evidence) bool { return e.Sample == "SSH-2" }, remedy: "Correct host or port"},
		{name: "hangs up", raw: func(nc net.Conn) { var b [1]byte; _, _ = nc.Read(b[:]); _ = nc.(*net.TCPConn).CloseWrite(); drain(nc) },
			want: row(fault.TLSHandshake, fault.Remote), cause: func(err error) bool { return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) }},
		{name: "silent", raw: drain, want: row(fault.TLSHandshake, fault.Remote)},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			noLeaks(t)
			serve := tt.raw
			if serve == nil {
				serve = serveTLS(tt.server)
			}
			addr := listen(t, serve)
			if tt.client == nil {
				tt.client = client(nil)
			}
			cfg := Config{Creds: credentials.NewTLS(tt.client), Authority: "svc.test"}
			if tt.name == "silent" {
				cfg.MinConnectTimeout = 50 * time.Millisecond
				cfg.Backoff.BaseDelay = time.Millisecond
			}
			f := wantFault(t, pickFault(t, newChannel(t, addr, cfg)), tt.want)
			if n := len(f.Remedy()); n > 400 || !strings.HasPrefix(f.Remedy(), tt.remedy) {
				t.Errorf("the remedy has %d bytes: %s; want it to begin with %q", n, f.Remedy(), tt.remedy)
			}
			if tt.cause != nil && !tt.cause(f.Cause()) {
				t.Errorf("cause %#v", f.Cause())
			}
			if ev := f.Evidence(); ev.Address != addr || tt.check != nil && !tt.check(ev) {
				t.Errorf("evidence %+v", ev)
			}
		})
	}
}

// wantsCertificate is a server's own verification, as of Java's servers, that
// is answered by the alert of a bad certificate.
func wantsCertificate(st tls.ConnectionState) error {
	if len(st.PeerCertificates) == 0 {
		return errors.New("there is no certificate")
	}
	return nil
}

// hangUpWithoutCertificate is a server that ends connections of clients
// without a certificate, and says nothing.
func hangUpWithoutCertificate(cfg *tls.Config) func(net.Conn) {
	return func(nc net.Conn) {
		c := tls.Server(nc, cfg)
		if c.Handshake() == nil && len(c.ConnectionState().PeerCertificates) == 0 {
			_ = nc.(*net.TCPConn).CloseWrite()
		}
		drain(nc)
	}
}

// hangUpInside is a server that ends each connection when it has seen the
// client's certificate, or that there is none.
func hangUpInside(cfg *tls.Config) func(net.Conn) {
	return func(nc net.Conn) {
		cfg := cfg.Clone()
		cfg.VerifyConnection = func(tls.ConnectionState) error {
			_ = nc.(*net.TCPConn).CloseWrite()
			return io.EOF
		}
		_ = tls.Server(nc, cfg).Handshake()
		drain(nc)
	}
}

func always(c tls.Certificate) func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
	return func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &c, nil }
}

func drain(nc net.Conn) { _, _ = io.Copy(io.Discard, nc) }

func TestTLSPeer(t *testing.T) {
	noLeaks(t)
	ca := newAuthority(t)
	addr := listen(t, serveTLS(&tls.Config{Certificates: []tls.Certificate{ca.issue(nil)}, NextProtos: []string{"h2"}}))
	c := newChannel(t, addr, Config{Creds: credentials.NewTLS(&tls.Config{RootCAs: ca.pool}), Authority: "svc.test"})
	p := mustPick(t, c)
	info, ok := p.Security.(credentials.TLSInfo)
	if !ok || info.State.NegotiatedProtocol != "h2" || p.Peer.AuthInfo.AuthType() != "tls" {
		t.Errorf("security %T %+v", p.Security, p.Peer)
	}
	if p.Peer.Addr.String() != addr || p.Peer.LocalAddr == nil || p.Authority != "svc.test" {
		t.Errorf("peer %+v", p.Peer)
	}
}

// The texts that have no type must stay as go.mod's versions of the Go library
// and grpc-go write them; when this fails, textEntry needs a new look.
func TestTextsPinned(t *testing.T) {
	ca := newAuthority(t)
	good := ca.issue(nil)
	handshake := func(server, client *tls.Config) error {
		here, there := net.Pipe()
		defer here.Close()
		go func() {
			conn := tls.Server(there, server)
			_ = conn.Handshake()
			drain(there)
			there.Close()
		}()
		_, _, err := credentials.NewTLS(client).ClientHandshake(t.Context(), "svc.test", here)
		if err == nil {
			t.Fatal("handshake succeeded")
		}
		return err
	}
	if err := handshake(&tls.Config{Certificates: []tls.Certificate{good}}, &tls.Config{RootCAs: ca.pool}); !strings.Contains(err.Error(), "missing selected ALPN property") {
		t.Errorf("grpc-go's text on ALPN is %q now", err)
	}
	err := handshake(&tls.Config{}, &tls.Config{RootCAs: ca.pool, MinVersion: tls.VersionTLS13, MaxVersion: tls.VersionTLS12})
	if !strings.Contains(err.Error(), "no supported versions satisfy MinVersion and MaxVersion") {
		t.Errorf("crypto/tls's text on versions is %q now", err)
	}
	if e, _ := textEntry(err.Error()); e != fault.TLSVersion {
		t.Errorf("it is classified as %s", e.ID)
	}
	for n, name := range map[uint8]string{42: "bad certificate (42)", 70: "protocol version not supported (70)", 116: "certificate required (116)", 200: "alert(200) (200)"} {
		if got := alertName(n); got != name {
			t.Errorf("alert %d is called %q, want %q", n, got, name)
		}
	}
}
