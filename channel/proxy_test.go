// SPDX-License-Identifier: Apache-2.0

package channel

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/faultline-rpc/faultline/fault"
)

// proxyPeer answers one CONNECT.
func proxyPeer(answer func(nc net.Conn, r *http.Request)) func(net.Conn) {
	return func(nc net.Conn) {
		r, err := http.ReadRequest(bufio.NewReader(nc))
		if err == nil {
			answer(nc, r)
		}
	}
}

func proxyEnv(t *testing.T, proxy, no string) {
	t.Setenv("HTTPS_PROXY", proxy)
	t.Setenv("https_proxy", "")
	t.Setenv("NO_PROXY", no)
	t.Setenv("no_proxy", "")
	t.Setenv("REQUEST_METHOD", "")
}

func TestProxyTunnel(t *testing.T) {
	noLeaks(t)
	asked := make(chan *http.Request, 1)
	addr := listen(t, proxyPeer(func(nc net.Conn, r *http.Request) {
		asked <- r
		// The target's SETTINGS travel in the same packet as the answer.
		_, _ = io.WriteString(nc, "HTTP/1.1 200 Connection established\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00")
		_, _ = io.Copy(io.Discard, nc)
	}))
	proxyEnv(t, "http://user:secret@"+addr, "")
	c := newChannel(t, "svc.test", Config{UserAgent: "faultline-test"})
	mustPick(t, c)
	r := <-asked
	if r.Method != "CONNECT" || r.Host != "svc.test:443" || r.UserAgent() != "faultline-test" {
		t.Errorf("%s %s by %s", r.Method, r.Host, r.UserAgent())
	}
	if got := r.Header.Get("Proxy-Authorization"); got != "Basic dXNlcjpzZWNyZXQ=" {
		t.Errorf("authorization %q", got)
	}
}

func TestProxyRows(t *testing.T) {
	refusal := "HTTP/1.1 407 Proxy Authentication Required\r\nServer: squid\r\nContent-Type: text/html\r\n\r\n<html>"
	tests := []struct {
		name   string
		answer func(net.Conn, *http.Request)
		says   string
		status int
	}{
		{"refuses", func(nc net.Conn, _ *http.Request) { _, _ = io.WriteString(nc, refusal) }, "refused CONNECT svc.test:1: 407", 407},
		{"no http", func(nc net.Conn, _ *http.Request) { _, _ = io.WriteString(nc, "SSH-2.0-OpenSSH\r\n") }, "did not answer", 0},
		{"hangs up", func(net.Conn, *http.Request) {}, "did not answer", 0},
		{"floods", func(nc net.Conn, _ *http.Request) {
			_, err := io.WriteString(nc, "HTTP/1.1 200 OK\r\n")
			for err == nil {
				_, err = io.WriteString(nc, "X-Fill: "+strings.Repeat("x", 8000)+"\r\n")
			}
		}, "larger than 64 KiB", 0},
		{"silent", func(nc net.Conn, _ *http.Request) { _, _ = io.Copy(io.Discard, nc) }, "deadline exceeded", 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			noLeaks(t)
			addr := listen(t, proxyPeer(tt.answer))
			proxyEnv(t, "http://user:secret@"+addr, "")
			cfg := Config{MinConnectTimeout: 10 * time.Second}
			if tt.name == "silent" {
				cfg.MinConnectTimeout = 50 * time.Millisecond
				cfg.Backoff.BaseDelay = time.Millisecond
			}
			f := wantFault(t, pickFault(t, newChannel(t, "svc.test:1", cfg)), expect{fault.DialProxy, fault.Between, fault.PickNoReady})
			if !strings.Contains(f.Message(), tt.says) {
				t.Errorf("%q does not say %q", f.Message(), tt.says)
			}
			ev := f.Evidence()
			if ev.Proxy != addr || ev.Address != "svc.test:1" || ev.HTTPStatus != tt.status {
				t.Errorf("evidence %+v", ev)
			}
			if tt.status != 0 && (ev.HTTPServer != "squid" || ev.Sample != "HTTP/1.1 407 Proxy Authentication Required") {
				t.Errorf("evidence %+v", ev)
			}
			wantNoSecret(t, f)
		})
	}
}

func wantNoSecret(t *testing.T, f *fault.Fault) {
	t.Helper()
	ev, err := json.Marshal(f.Evidence())
	if err != nil {
		t.Fatal(err)
	}
	if all := fmt.Sprintf("%v %s %v %v", f, ev, f.Rungs(), f.Unwrap()); strings.Contains(all, "secret") {
		t.Errorf("the proxy's password is in %q", all)
	}
}

func TestProxyAbsent(t *testing.T) {
	noLeaks(t)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := l.Addr().String()
	l.Close()
	proxyEnv(t, "http://user:secret@"+addr, "")
	f := wantFault(t, pickFault(t, newChannel(t, "svc.test:1", Config{})), expect{fault.DialProxy, fault.Between, fault.PickNoReady})
	if !asError[*net.OpError](f) {
		t.Errorf("cause %v", f.Unwrap())
	}
	wantNoSecret(t, f)
}

func TestProxyBadEnvironment(t *testing.T) {
	for _, env := range []string{"socks5://user:secret@proxy.test:1", "https://user:secret@proxy.test:1", "http://user:secret@pro xy:%zz", "http://user:secret@"} {
		noLeaks(t)
		proxyEnv(t, env, "")
		f := wantFault(t, pickFault(t, newChannel(t, "svc.test:1", Config{})), expect{fault.DialProxy, fault.Local, fault.PickNoReady})
		if !strings.Contains(f.Message(), "expected http://host:port") {
			t.Errorf("%q does not say what was expected", f.Message())
		}
		wantNoSecret(t, f)
	}
}

// Who reaches its target without the proxy.
func TestProxyNotUsed(t *testing.T) {
	proxyEnv(t, "http://proxy.test:1", "svc.test")
	f := &farm{}
	for _, tt := range []struct {
		target string
		cfg    Config
	}{
		{"svc.test:1", Config{}},
		{"localhost:1", Config{}},
		{"127.0.0.1:1", Config{}},
		{"other.test:1", Config{NoProxy: true}},
		{"other.test:1", Config{Dialer: f.dial}},
	} {
		if c := newChannel(t, tt.target, tt.cfg); c.proxy != nil {
			t.Errorf("%s %+v: goes through a proxy", tt.target, tt.cfg)
		}
	}
	c := newChannel(t, "other.test", Config{})
	if c.proxy == nil || c.proxy.address != "proxy.test:1" || c.proxiedTarget() != "other.test:443" {
		t.Errorf("other.test: %+v", c.proxy)
	}
	c = newChannel(t, "other.test", Config{LocalDNSResolution: true})
	if c.proxy == nil || c.proxiedTarget() != "" {
		t.Errorf("local resolution: %+v", c.proxy)
	}
}
