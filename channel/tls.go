// SPDX-License-Identifier: Apache-2.0

package channel

import (
	"bytes"
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"reflect"
	"strings"
	"syscall"

	"google.golang.org/grpc/credentials"

	"github.com/faultline-rpc/faultline/fault"
)

// handshake secures nc, which it closes on failure.
func (c *Channel) handshake(ctx context.Context, nc net.Conn, name string, ev fault.Evidence) (net.Conn, credentials.AuthInfo, *fault.Fault) {
	// Credentials need not watch ctx.
	stop := context.AfterFunc(ctx, func() { nc.Close() })
	secured, info, err := c.cfg.Creds.ClientHandshake(ctx, name, nc)
	if !stop() && err == nil {
		secured.Close()
		err = ctx.Err()
	}
	if err == nil {
		return secured, info, nil
	}
	nc.Close()
	if ctx.Err() != nil {
		err = ctx.Err() // the rest is the echo of our closing
	}
	ev.Host = hostOf(name)
	return nil, nil, tlsFault(err, ev)
}

// hostOf takes a port off a name.
func hostOf(name string) string {
	if host, _, err := net.SplitHostPort(name); err == nil {
		return host
	}
	return name
}

// tlsFault stamps a failed handshake: by types, then by the number of a remote
// alert, last by text where crypto/tls and grpc-go's credentials have no type.
func tlsFault(err error, ev fault.Evidence) *fault.Fault {
	a := fault.Args{Side: fault.Local, Processed: fault.No, Evidence: &ev, Cause: err}
	var (
		record    tls.RecordHeaderError
		authority x509.UnknownAuthorityError
		host      x509.HostnameError
		invalid   x509.CertificateInvalidError
		timeout   net.Error
	)
	switch {
	case errors.As(err, &record):
		a.Side = fault.Remote
		if looksLikeTLS(record.RecordHeader[:]) {
			return fault.TLSHandshake.New(a)
		}
		first := record.RecordHeader[:]
		ev.Sample = sample(first)
		f := fault.TLSPlaintextPeer.Newf(a, "the server answered the TLS handshake with %q, which is %s", first, spoken(first))
		if spoken(first) == spokenOther {
			return f.WithRemedy(remedyStranger)
		}
		return f
	case errors.As(err, &authority):
		return fault.TLSUnknownAuthority.Newf(a, "certificate signed by unknown authority: this client does not trust the issuer of the server's certificate%s", issuer(authority.Cert))
	case errors.As(err, &host):
		ev.Host = host.Host
		return fault.TLSHostname.Newf(a, "the server's certificate is for another name: %s", strings.TrimPrefix(host.Error(), "x509: "))
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired:
		return fault.TLSExpired.Newf(a, "a certificate of the server's is out of date or not yet valid: %s", cmp.Or(invalid.Detail, "its dates exclude today"))
	case errors.As(err, &invalid):
		return fault.TLSHandshake.Newf(a, "a certificate of the server's does not serve for this: %s", strings.TrimPrefix(invalid.Error(), "x509: ")).WithRemedy(remedyUnfit)
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, os.ErrDeadlineExceeded), errors.As(err, &timeout) && timeout.Timeout():
		a.Side, ev.Waiting = fault.Remote, fault.PhaseHandshake
		return fault.TLSHandshake.Newf(a, "the TLS handshake did not end in time: the server was silent").WithRemedy(remedyMute)
	case hungUp(err):
		a.Side, ev.Waiting = fault.Remote, fault.PhaseHandshake
		return fault.TLSHandshake.Newf(a, "the server ended the connection during the TLS handshake: %v", err).WithRemedy(remedyHandshakeEnded)
	}
	if n, ok := remoteAlert(err); ok {
		a.Side = fault.Remote
		ev.TLSAlert = alertName(n)
		e := alertEntry(n)
		if n == alertHandshakeFailure {
			return e.Newf(a, "the server sent the alert %s: no TLS version or cipher suite in common, or a client certificate is missing", ev.TLSAlert)
		}
		f := e.Newf(a, "%s: the server sent the alert %s", e.Summary, ev.TLSAlert)
		if r := alertRemedy[n]; r != "" {
			return f.WithRemedy(r)
		}
		if e == fault.TLSHandshake {
			return f.WithRemedy(remedyAlert)
		}
		return f
	}
	e, side := textEntry(err.Error())
	a.Side = side
	if e == fault.TLSNoALPN {
		// The cause's text ends in advice to users of grpc-go; it stays the cause.
		ev.ALPN = []string{"h2"}
		return e.Newf(a, "%s did not choose h2, which gRPC needs, by ALPN", ev.Address)
	}
	return e.New(a)
}

// Advice for failures of a handshake of which more is known than that it
// failed.
const (
	remedyUnfit = "Have the server's certificate reissued: as one for servers (extended key usage serverAuth, not clientAuth alone), for this name, by a certificate that may sign others (CA:TRUE, its name constraints). " +
		"openssl s_client -connect HOST:PORT -showcerts | openssl x509 -noout -text shows what it is for."
	remedyStranger = "Correct host or port of the target: these are no bytes of a gRPC server, another service listens there (ssh, mail, a database). Where it is one all the same, connect in plaintext: " +
		"WithTransportCredentials(insecure.NewCredentials())."
	remedyMute = "The server accepts connections and does not answer the TLS handshake: check that its process is alive (not frozen, stopped or overloaded), that the port speaks TLS at all, " +
		"and, behind a TCP load balancer, that a backend runs. openssl s_client -connect HOST:PORT -alpn h2 shows the same from outside. More time (MinConnectTimeout of WithConnectParams) helps only if it is merely slow."
	remedyHandshakeEnded = "Check that this port speaks TLS (for cleartext: insecure.NewCredentials()) and that its server is alive. Its log says more: it crashed, has no certificate for this name, or access rules or a firewall refuse this client. " +
		"A TCP load balancer or proxy does so when its backend is down, or when it expects a PROXY protocol header. openssl s_client -connect HOST:PORT -alpn h2 shows the same from outside."
	remedyAlert = "The server broke the handshake off: the alert says what about, and the server's log says more. internal_error is mostly a certificate or key that it could not load or has none of for this name (SNI); " +
		"decode_error, illegal_parameter or unexpected_message a defect of its TLS library or of a middlebox between. openssl s_client -connect HOST:PORT -alpn h2 shows the same handshake from outside."
)

// alertRemedy is the advice for an alert of the server's, where it says more
// than its circumstance does.
var alertRemedy = map[uint8]string{
	alertUnrecognizedName: "The server serves no such name (SNI): dial a host name that it has a certificate for, or set it with WithAuthority or ServerName in the tls.Config. " +
		"Otherwise add the name to the server, or to the proxy in front of it (server_name, host rules), with a certificate whose SANs have it.",
	alertBadCertificate: "The server does not admit the client's certificate, or got none: give the client one that an authority in the server's tls.Config.ClientCAs has signed, with the extended key usage clientAuth. " +
		"The server's log usually says more.",
	alertCertificateRevoked: "The client's certificate is revoked: get a new one from its authority.",
	alertCertificateExpired: "Renew the client's certificate: it has expired. If it has not, the server's clock is wrong.",
	alertUnknownCA: "Have the client's certificate signed by an authority in the server's tls.Config.ClientCAs (nginx: ssl_client_certificate), or add its authority there, and send its intermediates along. " +
		"Servers say the same where they got no certificate at all.",
}

// spoken names what a cleartext server answered a ClientHello with.
func spoken(first []byte) string {
	switch {
	case bytes.HasPrefix(first, []byte("HTTP/")):
		return "HTTP/1 in cleartext"
	case len(first) > 3 && startsHTTP2(first):
		return "HTTP/2 in cleartext"
	}
	return spokenOther
}

const spokenOther = "no TLS"

// issuer says who issued a certificate, if it says so itself.
func issuer(c *x509.Certificate) string {
	if c == nil || c.Issuer.CommonName == "" {
		return ""
	}
	return fmt.Sprintf(", %q", clip(c.Issuer.CommonName, maxSample))
}

// hungUp reports whether the peer ended the connection.
func hungUp(err error) bool {
	const wsaECONNABORTED = syscall.Errno(10053)
	for _, e := range []error{io.EOF, io.ErrUnexpectedEOF, syscall.ECONNRESET, syscall.EPIPE, wsaECONNRESET, wsaECONNABORTED} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

// remoteAlert finds the number of an alert that the peer sent. crypto/tls
// wraps its unexported alert type, a uint8, in a net.OpError.
func remoteAlert(err error) (uint8, bool) {
	var op *net.OpError
	if !errors.As(err, &op) || op.Op != "remote error" || op.Err == nil {
		return 0, false
	}
	v := reflect.ValueOf(op.Err)
	if v.Kind() != reflect.Uint8 || v.Type().PkgPath() != "crypto/tls" {
		return 0, false
	}
	return uint8(v.Uint()), true
}

// Alerts of RFC 8446, section 6, that have a circumstance of their own.
const (
	alertHandshakeFailure       = 40
	alertBadCertificate         = 42
	alertUnsupportedCertificate = 43
	alertCertificateRevoked     = 44
	alertCertificateExpired     = 45
	alertCertificateUnknown     = 46
	alertUnknownCA              = 48
	alertAccessDenied           = 49
	alertProtocolVersion        = 70
	alertInsufficientSecurity   = 71
	alertUnrecognizedName       = 112
	alertCertificateRequired    = 116
	alertNoApplicationProtocol  = 120
)

// alertEntry says what a peer's alert means to a client.
func alertEntry(n uint8) *fault.Entry {
	switch n {
	case alertCertificateRequired:
		return fault.TLSClientCertRequired
	case alertBadCertificate, alertUnsupportedCertificate, alertCertificateRevoked, alertCertificateExpired,
		alertCertificateUnknown, alertUnknownCA, alertAccessDenied:
		return fault.TLSClientCertRejected
	case alertHandshakeFailure, alertProtocolVersion, alertInsufficientSecurity:
		return fault.TLSVersion
	case alertUnrecognizedName:
		return fault.TLSHostname
	case alertNoApplicationProtocol:
		return fault.TLSNoALPN
	}
	return fault.TLSHandshake
}

func alertName(n uint8) string {
	return fmt.Sprintf("%s (%d)", strings.TrimPrefix(tls.AlertError(n).Error(), "tls: "), n)
}

// textEntry is the one place that reads an error's text. What it looks for is
// pinned by a test to the versions in go.mod.
func textEntry(text string) (*fault.Entry, fault.Side) {
	has := func(s string) bool { return strings.Contains(text, s) }
	switch {
	case has("missing selected ALPN property"), // google.golang.org/grpc/credentials
		has("server selected unadvertised ALPN protocol"):
		return fault.TLSNoALPN, fault.Remote
	case has("server selected unsupported protocol version"),
		has("no supported versions satisfy MinVersion and MaxVersion"),
		has("server chose an unconfigured cipher suite"):
		return fault.TLSVersion, fault.Local
	}
	return fault.TLSHandshake, fault.Local
}

// looksLikeTLS reports whether p begins with a TLS record's header: a content
// type and a version 3.x (RFC 8446, section 5.1).
func looksLikeTLS(p []byte) bool {
	return len(p) >= 2 && p[0] >= 20 && p[0] <= 24 && p[1] == 3
}
