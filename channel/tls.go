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
	if host, _, e := net.SplitHostPort(name); e == nil {
		name = host
	}
	ev.Host = name
	return nil, nil, tlsFault(err, ev)
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
		ev.Sample = sample(record.RecordHeader[:])
		return fault.TLSPlaintextPeer.Newf(a, "the server answered the TLS handshake with %q, which is %s", record.RecordHeader[:], spoken(record.RecordHeader[:]))
	case errors.As(err, &authority):
		return fault.TLSUnknownAuthority.Newf(a, "the server's certificate%s is signed by an authority this client does not trust", issuer(authority.Cert))
	case errors.As(err, &host):
		ev.Host = host.Host
		return fault.TLSHostname.Newf(a, "the server's certificate is for another name: %s", strings.TrimPrefix(host.Error(), "x509: "))
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired:
		return fault.TLSExpired.Newf(a, "a certificate of the server's is out of date or not yet valid: %s", cmp.Or(invalid.Detail, "its dates exclude today"))
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, os.ErrDeadlineExceeded), errors.As(err, &timeout) && timeout.Timeout():
		a.Side = fault.Remote
		return fault.TLSHandshake.Newf(a, "the TLS handshake did not end in time: the server was silent")
	case hungUp(err):
		a.Side = fault.Remote
		return fault.TLSHandshake.Newf(a, "the server ended the connection during the TLS handshake: %v", err)
	}
	if n, ok := remoteAlert(err); ok {
		a.Side = fault.Remote
		ev.TLSAlert = alertName(n)
		e := alertEntry(n)
		if n == alertHandshakeFailure {
			return e.Newf(a, "the server sent the alert %s: no TLS version or cipher suite in common, or a client certificate is missing", ev.TLSAlert)
		}
		return e.Newf(a, "%s: the server sent the alert %s", e.Summary, ev.TLSAlert)
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

// spoken names what a cleartext server answered a ClientHello with.
func spoken(first []byte) string {
	switch {
	case bytes.HasPrefix(first, []byte("HTTP/")):
		return "HTTP/1 in cleartext"
	case len(first) > 3 && startsHTTP2(first):
		return "HTTP/2 in cleartext"
	}
	return "no TLS"
}

// issuer says who issued a certificate, if it says so itself.
func issuer(c *x509.Certificate) string {
	if c == nil || c.Issuer.CommonName == "" {
		return ""
	}
	return fmt.Sprintf(", issued by %q,", clip(c.Issuer.CommonName, maxSample))
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
