// SPDX-License-Identifier: Apache-2.0

package channel

import (
	"bytes"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/faultline-rpc/faultline/fault"
	"github.com/faultline-rpc/faultline/h2"
)

func TestPrefaceRows(t *testing.T) {
	says := func(s string) func(net.Conn) {
		return func(nc net.Conn) {
			var preface [24]byte
			_, _ = io.ReadFull(nc, preface[:])
			_, _ = io.WriteString(nc, s)
			_ = nc.(interface{ CloseWrite() error }).CloseWrite()
			drain(nc)
		}
	}
	ca := newAuthority(t)
	row := func(e *fault.Entry) expect { return expect{e, fault.Remote, fault.PickNoReady} }
	tests := []struct {
		name  string
		serve func(net.Conn)
		want  expect
		check func(fault.Evidence) bool
	}{
		{"http/1", says("HTTP/1.1 400 Bad Request\r\nServer: nginx\r\nContent-Type: text/html\r\n\r\n<html>"), row(fault.HTTP2HTTP1Peer), func(e fault.Evidence) bool {
			return e.HTTPStatus == 400 && e.HTTPServer == "nginx" && e.Content == "text/html" && strings.HasPrefix(e.Sample, "HTTP/1.1 400")
		}},
		{"ssh", says("SSH-2.0-OpenSSH_9.7\r\n"), row(fault.HTTP2NotHTTP2), func(e fault.Evidence) bool { return strings.HasPrefix(e.Sample, "SSH-2.0") }},
		{"redis", says("-ERR unknown command 'PRI'\r\n"), row(fault.HTTP2NotHTTP2), func(e fault.Evidence) bool { return strings.HasPrefix(e.Sample, "-ERR") }},
		{"short", says("x"), row(fault.HTTP2NotHTTP2), func(e fault.Evidence) bool { return e.Sample == "x" }},
		{"tls handshake", says("\x16\x03\x03\x00\x7a\x02"), row(fault.HTTP2TLSPeer), nil},
		// Go's TLS server hangs up on what is no TLS, and is asked again; others send an alert.
		{"go's tls server", serveTLS(&tls.Config{Certificates: []tls.Certificate{ca.issue(nil)}}), row(fault.HTTP2TLSPeer), nil},
		{"tls alert", says("\x15\x03\x01\x00\x02\x02\x46"), row(fault.HTTP2TLSPeer), nil},
		{"bad settings", says("\x00\x00\x06\x04\x00\x00\x00\x00\x00\x00\x04\xff\xff\xff\xff"), row(fault.HTTP2Protocol), nil},
		{"GOAWAY first", says("\x00\x00\x08\x07\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x01"), row(fault.HTTP2Protocol), nil},
		{"SETTINGS on a stream", says("\x00\x00\x00\x04\x00\x00\x00\x00\x01"), row(fault.HTTP2Protocol), nil},
		{"HEADERS first", says("\x00\x00\x01\x01\x05\x00\x00\x00\x01\x88"), row(fault.HTTP2Protocol), nil},
		{"far too many SETTINGS", says("\x00\x03\x00\x04\x00\x00\x00\x00\x00"), row(fault.HTTP2Protocol), nil},
		{"zeros", says(strings.Repeat("\x00", 32)), row(fault.HTTP2NotHTTP2), nil},
		{"a few letters of HTTP/1", says("HTTP"), row(fault.HTTP2HTTP1Peer), nil},
		{"http/0.9", says("<!DOCTYPE HTML>\n<html lang=en>"), row(fault.HTTP2HTTP1Peer), func(e fault.Evidence) bool { return strings.HasPrefix(e.Sample, "<!DOCTYPE") }},
		// nginx says in HTTP/1 what it thinks of cleartext on its TLS port.
		{"nginx's tls port", firstByte('P', says("HTTP/1.1 400 Bad Request\r\n\r\n"), serveTLS(&tls.Config{Certificates: []tls.Certificate{ca.issue(nil)}})), row(fault.HTTP2TLSPeer),
			func(e fault.Evidence) bool { return e.HTTPStatus == 400 }},
		{"hangs up", says(""), row(fault.HTTP2ConnectionLost), nil},
		{"half a SETTINGS frame", says("\x00\x00\x06\x04"), row(fault.HTTP2ConnectionLost), nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			noLeaks(t)
			addr := listen(t, tt.serve)
			f := wantFault(t, pickFault(t, newChannel(t, addr, Config{})), tt.want)
			if !asError[*h2.ConnError](f) {
				t.Errorf("cause %#v", f.Cause())
			}
			if ev := f.Evidence(); ev.Address != addr || ev.Local == "" || tt.check != nil && !tt.check(ev) {
				t.Errorf("evidence %+v", ev)
			}
		})
	}
}

// firstByte serves connections that begin with b by one function, others by
// the other.
func firstByte(b byte, with, without func(net.Conn)) func(net.Conn) {
	return func(nc net.Conn) {
		var first [1]byte
		if _, err := io.ReadFull(nc, first[:]); err != nil {
			return
		}
		again := &replayed{nc.(*net.TCPConn), io.MultiReader(bytes.NewReader(first[:]), nc)}
		if first[0] == b {
			with(again)
		} else {
			without(again)
		}
	}
}

type replayed struct {
	*net.TCPConn
	r io.Reader
}

func (r *replayed) Read(p []byte) (int, error) { return r.r.Read(p) }

// A peer that accepts and says nothing has the connect deadline, dial included.
func TestPrefaceTimeout(t *testing.T) {
	for _, limit := range []time.Duration{0, 5 * time.Second, time.Minute} {
		synctest.Test(t, func(t *testing.T) {
			want := limit
			if limit == 0 {
				want = 20 * time.Second
			}
			f := &farm{serve: func(_ string, nc net.Conn) { drain(nc); nc.Close() }}
			c := newChannel(t, "passthrough:///svc:1", Config{Dialer: f.dial, MinConnectTimeout: limit})
			begin := time.Now()
			got := wantFault(t, pickFault(t, c), expect{fault.HTTP2PrefaceTimeout, fault.Remote, fault.PickNoReady})
			if spent := time.Since(begin); spent != want {
				t.Errorf("gave up after %v, want %v", spent, want)
			}
			var ce *h2.ConnError
			if !errors.As(got, &ce) {
				t.Errorf("cause %#v", got.Unwrap())
			}
		})
	}
}
