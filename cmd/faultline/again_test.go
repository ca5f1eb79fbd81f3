// SPDX-License-Identifier: Apache-2.0

package main

import (
	"crypto/tls"
	"encoding/json"
	"strings"
	"sync"
	"testing"

	"golang.org/x/net/http2"

	"github.com/faultline-rpc/faultline/internal/peer"
)

// choosy answers connections that begin with the byte first as told, and is
// silent to others.
func choosy(t *testing.T, first byte, answer string) string {
	t.Helper()
	lis := loopback(t)
	var open sync.WaitGroup
	done := make(chan struct{})
	t.Cleanup(func() { close(done); lis.Close(); open.Wait() })
	open.Go(func() {
		for {
			nc, err := lis.Accept()
			if err != nil {
				return
			}
			open.Go(func() {
				defer nc.Close()
				var b [1]byte
				if _, err := nc.Read(b[:]); err == nil && b[0] == first {
					_, _ = nc.Write([]byte(answer))
				}
				<-done
			})
		}
	})
	return lis.Addr().String()
}

// calls makes a call that fails, and returns how.
func calls(t *testing.T, args ...string) (int, failure) {
	t.Helper()
	o := command(t, "", append([]string{"call", "--json"}, args...)...)
	var f failure
	if err := json.Unmarshal([]byte(o.stdout), &f); err != nil {
		t.Fatalf("%q: %v: %s%s", args, err, o.stdout, o.stderr)
	}
	return o.status, f
}

// TestSilentPeers: a peer that waits for the other kind of connection says
// nothing to this one. Call finds it, as the doctor does.
func TestSilentPeers(t *testing.T) {
	t.Parallel()
	alert := choosy(t, 22, "\x15\x03\x03\x00\x02\x02\x28")
	settings := choosy(t, 'P', "\x00\x00\x00\x04\x00\x00\x00\x00\x00")
	mute := choosy(t, 0, "")
	for _, tc := range []struct {
		id, hint string
		args     []string
	}{
		{"http2.tls-peer", "drop --plaintext", []string{"--plaintext", alert}},
		{"tls.plaintext-peer", "add --plaintext", []string{settings}},
		{"http2.preface-timeout", "", []string{"--plaintext", mute}},
		{"tls.handshake", "", []string{mute}},
	} {
		t.Run(tc.id, func(t *testing.T) {
			t.Parallel()
			args := append(tc.args, "grpc.health.v1.Health/Check", "--timeout", "2s", "--connect-timeout", "300ms")
			status, f := calls(t, args...)
			e := f.Error
			if status != 78 || e.ID != tc.id || e.Code != "UNAVAILABLE" || e.Side != "remote" || e.Processed != "no" || !strings.Contains(e.Remedy, tc.hint) {
				t.Errorf("call %q: status %d, %+v, want %s UNAVAILABLE remote no", args, status, e, tc.id)
			}
			o := command(t, "", append([]string{"doctor", "--json", "--timeout", "2s", "--connect-timeout", "300ms"}, tc.args...)...)
			if !strings.Contains(o.stdout, `"id": "`+tc.id+`"`) {
				t.Errorf("doctor %q: want %s, got %s", tc.args, tc.id, o.stdout)
			}
			if o := command(t, "", append([]string{"list", "--json", "--timeout", "2s", "--connect-timeout", "300ms"}, tc.args...)...); o.status != 78 || !strings.Contains(o.stdout, `"id":"`+tc.id+`"`) {
				t.Errorf("list %q: status %d, want %s, got %s", tc.args, o.status, tc.id, o.stdout)
			}
		})
	}
}

// TestCertificateMissedByHTTP: nginx ends the handshake in peace and answers
// requests without a client certificate with HTTP 400. The call fails as every
// client's does, and says why.
func TestCertificateMissedByHTTP(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name   string
		ask    tls.ClientAuthType
		own    bool
		remedy string
		hint   string
	}{
		{"asked", tls.RequestClientCert, false, "The server asked for a client certificate in the handshake, got none,", "give a client certificate"},
		{"given", tls.RequestClientCert, true, "The server asked for a client certificate in the handshake, and answers HTTP 400 to the one", "give another client certificate"},
		{"not asked", tls.NoClientCert, false, "The proxy finds the request malformed", ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			cert, key := pair(t, t.TempDir(), "server")
			both, err := tls.LoadX509KeyPair(cert, key)
			if err != nil {
				t.Fatal(err)
			}
			lis, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{both}, NextProtos: []string{http2.NextProtoTLS}, ClientAuth: tc.ask})
			if err != nil {
				t.Fatal(err)
			}
			svc := peer.Serve(lis, peer.Each(peer.HTTPStatus(400, "text/html", "<html>no</html>")))
			t.Cleanup(func() { svc.Close() })
			args := []string{svc.Addr(), "grpc.health.v1.Health/Check", "--insecure"}
			if tc.own {
				args = append(args, "--cert", cert, "--key", key)
			}
			status, f := calls(t, args...)
			e := f.Error
			if status != 77 || e.ID != "wire.http-status" || e.Code != "INTERNAL" || e.Side != "between" || e.Processed != "maybe" {
				t.Errorf("status %d, %+v, want wire.http-status INTERNAL between maybe", status, e)
			}
			if !strings.HasPrefix(e.Remedy, tc.remedy) || !strings.Contains(e.Remedy, tc.hint) {
				t.Errorf("the remedy is %q, want it to begin with %q and to contain %q", e.Remedy, tc.remedy, tc.hint)
			}
		})
	}
}

// TestKnownService: gRPC's health service is called with its types though there
// is no reflection.
func TestKnownService(t *testing.T) {
	t.Parallel()
	serving := []byte{8, 1}
	for _, tc := range []struct {
		name   string
		answer peer.Answer
		status int
		want   string
	}{
		{"one message", peer.OK(serving), 0, `{"status":"SERVING"}`},
		{"two messages", peer.OK(serving, serving), 76, `"id":"wire.cardinality"`},
		{"none", peer.OK(), 76, `"id":"wire.cardinality"`},
		{"another type", peer.OK([]byte("\x0a\xff")), 77, `"id":"codec.response-parse"`},
	} {
		svc, err := peer.Listen("127.0.0.1:0", peer.Each(func(p *peer.Peer, stream uint32) error {
			if stream < 5 { // reflection, in two versions
				return peer.TrailersOnly(12, "")(p, stream)
			}
			return tc.answer(p, stream)
		}))
		if err != nil {
			t.Fatal(err)
		}
		o := command(t, "", "call", "--json", "--plaintext", svc.Addr(), "grpc.health.v1.Health/Check", "-d", `{"service": "x"}`)
		if o.status != tc.status || !strings.Contains(o.stdout, tc.want) {
			t.Errorf("%s: status %d, %s%s, want %d and %s", tc.name, o.status, o.stdout, o.stderr, tc.status, tc.want)
		}
		svc.Close()
	}
}

// TestUnsendable: what this side does not send is no matter of the server's
// reflection.
func TestUnsendable(t *testing.T) {
	t.Parallel()
	addr := testServer(t, loopback(t), true)
	o := command(t, "", "call", "--plaintext", addr, service+"/EmptyCall", "--authority", "a b")
	if o.status != 80 || !strings.HasPrefix(o.stderr, "rpc error: code = Unauthenticated desc = wire.authority: ") || !strings.Contains(o.stderr, "--authority takes a host") {
		t.Errorf("status %d, %s, want wire.authority and no word of reflection", o.status, o.stderr)
	}
}
