// SPDX-License-Identifier: Apache-2.0

package provoked_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"math/big"
	"net"
	"sync"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/faultline-rpc/faultline"
	"github.com/faultline-rpc/faultline/fault"
	"github.com/faultline-rpc/faultline/internal/peer"
)

// The handshake, and what answers instead of HTTP/2.

// The days of certificates: bubbles begin on 2000-01-01.
var (
	long  = time.Date(1999, 1, 1, 0, 0, 0, 0, time.UTC)
	until = time.Date(2001, 1, 1, 0, 0, 0, 0, time.UTC)
)

// pair is a certificate with its key.
type pair struct {
	leaf *x509.Certificate
	key  *ecdsa.PrivateKey
}

// issue makes a certificate for names, signed by itself if there is no
// authority.
func issue(by *pair, subject string, from, to time.Time, names ...string) *pair {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		panic(err)
	}
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: subject}, NotBefore: from, NotAfter: to, DNSNames: names,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}}
	parent, signer := tmpl, key
	if by == nil {
		tmpl.IsCA, tmpl.BasicConstraintsValid, tmpl.KeyUsage, tmpl.ExtKeyUsage = true, true, x509.KeyUsageCertSign|x509.KeyUsageDigitalSignature, nil
	} else {
		parent, signer = by.leaf, by.key
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, parent, key.Public(), signer)
	if err != nil {
		panic(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		panic(err)
	}
	return &pair{leaf, key}
}

func (p *pair) tls() tls.Certificate {
	return tls.Certificate{Certificate: [][]byte{p.leaf.Raw}, PrivateKey: p.key, Leaf: p.leaf}
}

func (p *pair) pool() *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AddCert(p.leaf)
	return pool
}

// papers are made once: the shop's authority, and another.
var papers = sync.OnceValue(func() (p struct{ own, stranger *pair }) {
	p.own, p.stranger = issue(nil, "The shop's authority", long, until), issue(nil, "A stranger's authority", long, until)
	return p
})

// proper is the configuration of a server with nothing wrong.
func proper() *tls.Config {
	return &tls.Config{Certificates: []tls.Certificate{issue(papers().own, "orders", long, until, "orders").tls()}, NextProtos: []string{"h2"}}
}

func trusting() *tls.Config { return &tls.Config{RootCAs: papers().own.pool()} }

func withTLS(c *tls.Config) faultline.DialOption {
	return faultline.WithTransportCredentials(credentials.NewTLS(c))
}

// secure is a TLS listener that makes the handshake before anybody reads and
// writes: of two who wait for it one waits for a lock, which stops fake time.
type secure struct {
	net.Listener
	cfg *tls.Config
}

// Accept implements net.Listener.
func (s secure) Accept() (net.Conn, error) {
	c, err := s.Listener.Accept()
	if err != nil {
		return nil, err
	}
	t := tls.Server(c, s.cfg)
	_ = t.Handshake() // an error comes again with the first read
	return t, nil
}

// secured provokes with a TLS server whose configuration is spoiled, or with a
// client whose configuration is: what spoil and heal do to them.
func secured(change func(mended bool, server, client *tls.Config)) func(*world, bool) error {
	return func(w *world, mended bool) error {
		s, c := proper(), trusting()
		change(mended, s, c)
		w.scriptOn(secure{w.listen(), s}, peer.Each(ok))
		return w.call(withTLS(c))
	}
}

// badServer spoils the server's configuration; the remedy leaves it proper.
func badServer(spoil func(*tls.Config)) func(*world, bool) error {
	return secured(func(mended bool, s, _ *tls.Config) {
		if !mended {
			spoil(s)
		}
	})
}

var tlsEvidence = []string{"address: " + server}

var tlsRows = []row{
	{entry: fault.TLSPlaintextPeer, code: codes.Unavailable, side: fault.Remote, processed: fault.No,
		evidence: tlsEvidence, remedy: "WithTransportCredentials(insecure.NewCredentials())",
		run: func(w *world, mended bool) error {
			w.serve(nil)
			if mended {
				return w.call(faultline.WithTransportCredentials(insecure.NewCredentials()))
			}
			return w.call(withTLS(trusting()))
		}},
	{entry: fault.TLSUnknownAuthority, code: codes.Unavailable, side: fault.Local, processed: fault.No,
		evidence: append(tlsEvidence, "host: orders"), remedy: "RootCAs in its tls.Config",
		run: secured(func(mended bool, s, c *tls.Config) {
			s.Certificates[0] = issue(papers().stranger, "orders", long, until, "orders").tls()
			if mended {
				c.RootCAs.AddCert(papers().stranger.leaf)
			}
		})},
	{entry: fault.TLSHostname, code: codes.Unavailable, side: fault.Local, processed: fault.No,
		evidence: append(tlsEvidence, "host: orders"), remedy: "WithAuthority",
		run: func(w *world, mended bool) error {
			s := proper()
			s.Certificates[0] = issue(papers().own, "tea", long, until, "tea.example").tls()
			w.scriptOn(secure{w.listen(), s}, peer.Each(ok))
			if mended {
				return w.call(withTLS(trusting()), faultline.WithAuthority("tea.example"))
			}
			return w.call(withTLS(trusting()))
		}},
	{entry: fault.TLSExpired, code: codes.Unavailable, side: fault.Local, processed: fault.No,
		evidence: tlsEvidence, remedy: "Renew",
		run: badServer(func(s *tls.Config) {
			s.Certificates[0] = issue(papers().own, "orders", long, long.AddDate(0, 1, 0), "orders").tls()
		})},
	{entry: fault.TLSExpired, name: "(not valid yet)", code: codes.Unavailable, side: fault.Local, processed: fault.No,
		evidence: tlsEvidence, remedy: "this machine's clock",
		run: badServer(func(s *tls.Config) {
			s.Certificates[0] = issue(papers().own, "orders", until.AddDate(0, -1, 0), until, "orders").tls()
		})},
	{entry: fault.TLSClientCertRequired, name: "(TLS 1.3)", code: codes.Unavailable, side: fault.Remote, processed: fault.No,
		evidence: append(tlsEvidence, "tls_alert: "), remedy: "credentials.NewTLS(&tls.Config{Certificates: ",
		run: mutual(tls.VersionTLS13, false)},
	{entry: fault.TLSVersion, name: "(TLS 1.2, certificate required)", code: codes.Unavailable, side: fault.Remote, processed: fault.No,
		evidence: append(tlsEvidence, "tls_alert: handshake failure (40)"), remedy: "a TLS 1.2 server that requires a client certificate",
		run: mutual(tls.VersionTLS12, false)},
	{entry: fault.TLSClientCertRejected, code: codes.Unavailable, side: fault.Remote, processed: fault.No,
		evidence: append(tlsEvidence, "tls_alert: "), remedy: "signed by an authority in the server's tls.Config.ClientCAs",
		run: mutual(tls.VersionTLS13, true)},
	{entry: fault.TLSNoALPN, code: codes.Unavailable, side: fault.Remote, processed: fault.No,
		evidence: tlsEvidence, remedy: "NextProtos [\"h2\"]",
		run: badServer(func(s *tls.Config) { s.NextProtos = nil })},
	{entry: fault.TLSNoALPN, name: "(HTTP/1.1 only)", code: codes.Unavailable, side: fault.Remote, processed: fault.No,
		evidence: tlsEvidence, remedy: "NextProtos [\"h2\"]",
		run: badServer(func(s *tls.Config) { s.NextProtos = []string{"http/1.1"} })},
	{entry: fault.TLSVersion, code: codes.Unavailable, side: fault.Remote, processed: fault.No,
		evidence: tlsEvidence, remedy: "Enable TLS 1.2 or 1.3 on the server",
		run: badServer(func(s *tls.Config) { s.MinVersion, s.MaxVersion = tls.VersionTLS10, tls.VersionTLS11 })},
	{entry: fault.TLSHandshake, name: "(hangs up)", code: codes.Unavailable, side: fault.Remote, processed: fault.No,
		evidence: tlsEvidence, remedy: "Check that this port speaks TLS",
		run: func(w *world, mended bool) error {
			if mended {
				w.scriptOn(secure{w.listen(), proper()}, peer.Each(ok))
			} else {
				w.raw(peer.Raw{Wait: true})
			}
			return w.call(withTLS(trusting()))
		}},
	{entry: fault.TLSHandshake, name: "(silent)", code: codes.Unavailable, side: fault.Remote, processed: fault.No,
		evidence: tlsEvidence, remedy: "check that its process is alive",
		run: func(w *world, mended bool) error {
			if mended {
				w.scriptOn(secure{w.listen(), proper()}, peer.Each(ok))
			} else {
				w.raw(peer.Mute())
			}
			return w.call(withTLS(trusting()))
		}},
	{entry: fault.TLSHandshake, name: "(server)", code: codes.Unavailable, side: fault.Remote, processed: fault.No,
		evidence: []string{"address: 10.", "local: 10.1.0.1:50051"}, remedy: "clients that speak cleartext to a TLS port",
		run: func(w *world, mended bool) error {
			s := w.serve(nil, faultline.Creds(credentials.NewTLS(proper())))
			if mended {
				return w.call(withTLS(trusting()))
			}
			_ = w.call()
			return next(w, s.closed, "the end of the connection")
		}},
}

// mutual provokes with a server that wants a client's certificate, and a
// client that has none, or a stranger's.
func mutual(version uint16, stranger bool) func(*world, bool) error {
	return secured(func(mended bool, s, c *tls.Config) {
		s.ClientAuth, s.ClientCAs, s.MinVersion, s.MaxVersion = tls.RequireAndVerifyClientCert, papers().own.pool(), version, version
		switch {
		case mended:
			c.Certificates = []tls.Certificate{issue(papers().own, "a client", long, until).tls()}
		case stranger:
			// Certificates alone would not be sent: the server names its authorities.
			cert := issue(papers().stranger, "a client", long, until).tls()
			c.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &cert, nil }
		}
	})
}

// speaking provokes with a peer that speaks something else, in cleartext.
func speaking(r peer.Raw) func(*world, bool) error {
	return func(w *world, mended bool) error {
		if mended {
			w.serve(nil)
		} else {
			w.raw(r)
		}
		return w.call()
	}
}

var prefaceRows = []row{
	{entry: fault.HTTP2TLSPeer, code: codes.Unavailable, side: fault.Remote, processed: fault.No,
		evidence: tlsEvidence, remedy: "NewClientTLSFromFile for a private authority",
		run: func(w *world, mended bool) error {
			if mended {
				w.serve(nil, faultline.Creds(credentials.NewTLS(proper())))
				return w.call(withTLS(trusting()))
			}
			w.raw(peer.TLSAlert())
			return w.call()
		}},
	{entry: fault.HTTP2TLSPeer, name: "(hangs up)", code: codes.Unavailable, side: fault.Remote, processed: fault.No, real: true,
		evidence: []string{"address: 127.0.0.1:"}, remedy: "NewClientTLSFromFile for a private authority",
		run: func(w *world, mended bool) error {
			now := time.Now() // the certificates of the bubbles are out of date
			authority := issue(nil, "The shop's authority", now.Add(-time.Hour), now.Add(time.Hour))
			cert := issue(authority, "orders", now.Add(-time.Hour), now.Add(time.Hour), "orders").tls()
			l, err := net.Listen("tcp", "127.0.0.1:0")
			w.must(err)
			w.serveOn(l, nil, faultline.Creds(credentials.NewTLS(&tls.Config{Certificates: []tls.Certificate{cert}})))
			target := "passthrough:///" + l.Addr().String()
			if mended {
				return order(context.Background(), w.clientOf(target, withTLS(&tls.Config{RootCAs: authority.pool(), ServerName: "orders"})))
			}
			return order(context.Background(), w.clientOf(target))
		}},
	{entry: fault.HTTP2HTTP1Peer, code: codes.Unavailable, side: fault.Remote, processed: fault.No,
		evidence: append(tlsEvidence, "sample: HTTP/1.1 400"), remedy: "Check the port", run: speaking(peer.HTTP1())},
	{entry: fault.HTTP2NotHTTP2, code: codes.Unavailable, side: fault.Remote, processed: fault.No,
		evidence: append(tlsEvidence, "sample: SSH-2.0"), remedy: "Correct host or port of the target", run: speaking(peer.SSH())},
	{entry: fault.HTTP2PrefaceTimeout, code: codes.Unavailable, side: fault.Remote, processed: fault.No,
		evidence: tlsEvidence, remedy: "the server process is alive and accepting", run: speaking(peer.Mute())},
}
