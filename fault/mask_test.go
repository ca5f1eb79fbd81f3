// SPDX-License-Identifier: Apache-2.0

package fault

import (
	"errors"
	"fmt"
	"net"
	"testing"

	"google.golang.org/grpc/codes"
)

func TestNamesAddress(t *testing.T) {
	for text, want := range map[string]bool{
		`connection error: desc = "transport: Error while dialing: dial tcp 10.0.0.3:443: connect: connection refused"`: true,
		`name resolver error: dns: A record lookup error: lookup db.internal: no such host`:                             true,
		`error reading from server: read unix @->/run/x.sock: EOF`:                                                      true,
		`upstream at 10.0.0.3`:                                         true,
		`upstream (10.0.0.3).`:                                         true,
		`upstream [fd00::3]:443, sorry`:                                true,
		`upstream fe80::1%eth0`:                                        true,
		`upstream db.internal:5432 failed`:                             true,
		`localhost:50051 is down`:                                      true,
		`unix:///run/x.sock`:                                           true,
		`last error: UNKNOWN: ipv6:%5B::1%5D:50051: Failed to connect`: true,
		`transport: authentication handshake failed: tls: failed to verify certificate: x509: certificate is valid for books, not store`:   true,
		`name resolver error: dns: A record lookup error: lookup books: i/o timeout`:                                                       true,
		`Name resolution failed for target dns:books:50051`:                                                                                true,
		`DNS resolution failed for books:50051: C-ares status is not ARES_SUCCESS qtype=A name=books is_balancer=0: Domain name not found`: true,
		`Unable to resolve host books`: true,
		`getaddrinfo ENOTFOUND books`:  true,
		`Error connecting to subchannel. SocketException: No such host is known. (books:5001)`:                     true,
		`Hostname/IP does not match certificate's altnames: Host: books. is not in the cert's altnames: DNS:store`: true,
		`books-0.books.shop.svc.cluster.local is full`:                                                             true,
		`books.shop.svc:443 is full`:          true,
		`see https://docs.example.com/errors`: false,
		``:                                    false,
		`the index is being rebuilt`:          false,
		`quota of 10.5 requests per 1.0 s`:    false,
		`user lookup failed at 12:30:45`:      false,
		`line:42 of order.go: bad ratio 3:1, version 1.2.3`: false,
		`std::vector overflow; a.b.C/D`:                     false,
	} {
		if got := NamesAddress(text); got != want {
			t.Errorf("%q: %v, want %v", text, got, want)
		}
	}
}

func TestRepeats(t *testing.T) {
	op := &net.OpError{Op: "dial", Net: "tcp", Addr: &net.TCPAddr{IP: net.IPv4(10, 0, 0, 3), Port: 443}, Err: errors.New("connection refused")}
	refused := DialRefused.New(Args{Message: "nobody at 10.0.0.3:443", Cause: op})
	received := HandlerStatus.New(Args{Code: codes.Internal, Message: "their words", Verbatim: true})
	for _, tc := range []struct {
		text string
		err  error
		want bool
	}{
		{refused.Message(), refused, true},
		{"cannot place: " + refused.Error(), fmt.Errorf("cannot place: %w", refused), true},
		{"cannot place", fmt.Errorf("cannot place: %w", refused), false},
		{"redis: " + op.Error(), fmt.Errorf("redis: %w", op), true},
		{"redis: " + op.Error(), errors.Join(errors.New("x"), op), true},
		{"dns: " + (&net.DNSError{Name: "db.internal"}).Error(), &net.DNSError{Name: "db.internal"}, true},
		{fmt.Sprintf("cannot place: %v", refused), nil, true},
		{"dial.refused is what it was", nil, false},
		{"dial.refused: " + DialRefused.Summary + "; reference 0123456789abcdef", nil, false},
		{"their dial.refused: nobody at 10.0.0.3:443", HandlerStatus.New(Args{Message: "their dial.refused: nobody at 10.0.0.3:443", Verbatim: true}), false},
		{"their words", received, false},
		{"slow down", PolicyRateLimit.New(Args{Message: "slow down"}), false},
		{"", errors.New("x"), false},
	} {
		if got := Repeats(tc.text, tc.err); got != tc.want {
			t.Errorf("%q of %v: %v, want %v", tc.text, tc.err, got, tc.want)
		}
	}
}

func TestNamesService(t *testing.T) {
	for text, want := range map[string]bool{
		"unknown service inner.Books":                                      true,
		"unknown method Find for service inner.Books":                      true,
		"unknown method Find for service shop.Orders":                      false,
		"Method not found: inner.Books/Find":                               true,
		"The server does not implement the method /inner.Books/Find":       true,
		"method Find not implemented":                                      false,
		"unknown service shop.Orders; the nearest registered name is x.Or": false,
	} {
		if got := NamesService(text, "shop.Orders"); got != want {
			t.Errorf("%q: %v, want %v", text, got, want)
		}
	}
}
