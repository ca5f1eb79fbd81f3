// SPDX-License-Identifier: Apache-2.0

package doctor

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/faultline-rpc/faultline/fault"
)

// expiryNotice is how long before its end a certificate is worth a note.
const expiryNotice = 14 * 24 * time.Hour

// sight is what the handshakes of an examination show, the last one's at a
// time.
type sight struct {
	config *tls.Config

	mu    sync.Mutex
	asked bool                // guarded by mu: the server asked for a client certificate
	gave  bool                // guarded by mu: and got one
	state tls.ConnectionState // guarded by mu
}

// watchTLS returns a copy of cfg that shows what happens.
func watchTLS(cfg *tls.Config) *sight {
	s := &sight{config: cfg.Clone()}
	own := cfg.Certificates
	s.config.GetClientCertificate = func(info *tls.CertificateRequestInfo) (*tls.Certificate, error) {
		cert := new(tls.Certificate)
		for i := range own {
			if info.SupportsCertificate(&own[i]) == nil {
				cert = &own[i]
				break
			}
		}
		if len(cert.Certificate) == 0 && len(own) > 0 {
			cert = &own[0] // the server may know an authority that it does not name
		}
		s.mu.Lock()
		defer s.mu.Unlock()
		s.asked, s.gave = true, len(cert.Certificate) > 0
		return cert, nil
	}
	s.config.VerifyConnection = func(st tls.ConnectionState) error {
		s.mu.Lock()
		s.state = st
		s.mu.Unlock()
		if cfg.VerifyConnection != nil {
			return cfg.VerifyConnection(st)
		}
		return nil
	}
	return s
}

// forget begins a new handshake.
func (s *sight) forget() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.asked, s.gave, s.state = false, false, tls.ConnectionState{}
}

// certificate reports whether the server asked for a client certificate, and
// got one.
func (s *sight) certificate() (asked, gave bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.asked, s.gave
}

// finding is what a failed connection means, given what the handshake showed.
// Servers refuse a missing client certificate with the alerts of a bad one, or
// of a handshake without anything in common; C-core and Node hang up without
// one. What they had asked for tells.
func (s *sight) finding(f *fault.Fault) *Finding {
	ev := f.Evidence()
	asked, gave := s.certificate()
	ended := ""
	switch {
	case ev.TLSAlert != "":
		ended = "the alert " + ev.TLSAlert
	case f.ID() == "http2.connection-lost", ev.Waiting == fault.PhaseHandshake && !silent(f):
		ended = "no alert" // TLS 1.3: the handshake was over for the client when the server looked
	}
	switch {
	case !asked || ended == "":
	case !gave:
		return named("tls.client-cert-required").says(fault.Remote, fault.No,
			"the server asked for a client certificate, got none, and ended the connection with %s: %s", ended, f.Message())
	case ev.TLSAlert == "":
		return named("tls.client-cert-rejected").says(fault.Remote, fault.No,
			"the server asked for a client certificate, got one, and ended the connection at once, with no alert: %s", f.Message())
	}
	return found(f)
}

// silent reports whether it was this side that gave a peer up.
func silent(f *fault.Fault) bool {
	var t interface{ Timeout() bool }
	return errors.As(f.Cause(), &t) && t.Timeout()
}

// evidence describes the handshake, of which f is the failure if it failed.
func (s *sight) evidence(f *fault.Fault) []Fact {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []Fact
	st := s.state
	if st.Version != 0 {
		out = append(out, fact("version", "%s, %s", tls.VersionName(st.Version), tls.CipherSuiteName(st.CipherSuite)))
		out = append(out, fact("alpn", "%s", orNone(st.NegotiatedProtocol)))
	}
	chain := st.PeerCertificates
	var bad *tls.CertificateVerificationError
	if f != nil && errors.As(f, &bad) && len(chain) == 0 {
		chain = bad.UnverifiedCertificates
	}
	out = append(out, certificates(chain)...)
	if f != nil && f.Evidence().TLSAlert != "" {
		out = append(out, fact("alert", "%s", f.Evidence().TLSAlert))
	}
	switch {
	case s.asked && s.gave:
		out = append(out, fact("client certificate", "asked for and sent"))
	case s.asked:
		out = append(out, fact("client certificate", "asked for, none given"))
	case st.Version != 0:
		out = append(out, fact("client certificate", "not asked for"))
	}
	return out
}

func orNone(s string) string {
	if s == "" {
		return "none"
	}
	return s
}

// certificates describes a chain.
func certificates(chain []*x509.Certificate) []Fact {
	if len(chain) == 0 {
		return nil
	}
	leaf := chain[0]
	out := []Fact{
		fact("certificate", "%s", orNone(leaf.Subject.String())),
		fact("names", "%s", orNone(strings.Join(names(leaf), ", "))),
	}
	var issuers []string
	for _, c := range chain {
		issuers = append(issuers, orNone(c.Issuer.String()))
	}
	out = append(out, fact("issued by", "%s", strings.Join(issuers, ", issued by ")))
	return append(out, fact("valid", "%s to %s (%s)", leaf.NotBefore.UTC().Format(time.DateOnly), leaf.NotAfter.UTC().Format(time.DateOnly), left(leaf)))
}

// maxNames bounds the names shown.
const maxNames = 8

func names(c *x509.Certificate) []string {
	all := append([]string(nil), c.DNSNames...)
	for _, ip := range c.IPAddresses {
		all = append(all, ip.String())
	}
	if n := len(all); n > maxNames {
		all = append(all[:maxNames:maxNames], fmt.Sprintf("and %d more", n-maxNames))
	}
	return all
}

// left says how long a certificate is valid yet.
func left(c *x509.Certificate) string {
	now := time.Now()
	switch d := c.NotAfter.Sub(now); {
	case now.Before(c.NotBefore):
		return "not valid yet"
	case d <= 0:
		return fmt.Sprintf("expired %s ago", days(-d))
	default:
		return days(d) + " left"
	}
}

func days(d time.Duration) string {
	if n := int(d / (24 * time.Hour)); n != 1 && d >= 24*time.Hour {
		return fmt.Sprintf("%d days", n)
	} else if n == 1 {
		return "1 day"
	}
	return d.Round(time.Minute).String()
}

// notice says what is not well about a handshake that succeeded, or "".
func (s *sight) notice(server string) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.state.PeerCertificates) == 0 {
		return ""
	}
	leaf := s.state.PeerCertificates[0]
	if s.config.InsecureSkipVerify {
		pool := x509.NewCertPool()
		for _, c := range s.state.PeerCertificates[1:] {
			pool.AddCert(c)
		}
		if _, err := leaf.Verify(x509.VerifyOptions{Roots: s.config.RootCAs, Intermediates: pool, DNSName: server}); err != nil {
			return fmt.Sprintf("not verified, as asked; it would have failed: %v", err)
		}
		return ""
	}
	if d := time.Until(leaf.NotAfter); d < expiryNotice {
		return fmt.Sprintf("the certificate expires in %s", days(d))
	}
	return ""
}
