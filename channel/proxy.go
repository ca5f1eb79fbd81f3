// SPDX-License-Identifier: Apache-2.0

package channel

import (
	"bufio"
	"context"
	"encoding/base64"
	"errors"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"

	"golang.org/x/net/http/httpproxy"

	"github.com/faultline-rpc/faultline/fault"
)

// maxProxyHead bounds a proxy's answer to CONNECT, in bytes.
const maxProxyHead = 64 << 10

// proxy is the HTTP CONNECT proxy of a channel
// (https://github.com/grpc/proposal/blob/master/A1-http-connect-proxy-support.md).
type proxy struct {
	choose  func(*url.URL) (*url.URL, error)
	address string // host:port
	auth    string // Proxy-Authorization, or empty
	bad     string // what is wrong with the environment, or empty
}

// findProxy reads HTTPS_PROXY and NO_PROXY for the channel's target.
func findProxy(c *Channel) *proxy {
	if c.cfg.NoProxy || c.cfg.Dialer != nil {
		return nil
	}
	env := httpproxy.FromEnvironment()
	malformed := env.HTTPSProxy != "" && !proxyURL(env.HTTPSProxy)
	if malformed {
		env.HTTPSProxy = "http://malformed.invalid" // package httpproxy would ignore it
	}
	p := &proxy{choose: env.ProxyFunc()}
	u, err := p.choose(&url.URL{Scheme: "https", Host: c.endpointAddress()})
	switch {
	case u == nil && err == nil:
		return nil
	case malformed || err != nil:
		// Neither value nor error is quoted: they hold the password.
		p.bad = "HTTPS_PROXY is no proxy's URL; expected http://host:port"
	case u.Scheme != "http" || u.Hostname() == "":
		p.bad = "HTTPS_PROXY names a proxy of scheme " + u.Scheme + "; expected http://host:port"
	default:
		port := u.Port()
		if port == "" {
			port = "80"
		}
		p.address = net.JoinHostPort(u.Hostname(), port)
		if u.User != nil {
			password, _ := u.User.Password()
			p.auth = "Basic " + base64.StdEncoding.EncodeToString([]byte(u.User.Username()+":"+password))
		}
	}
	return p
}

// proxyURL reports whether s names a proxy: a URL, or host:port.
func proxyURL(s string) bool {
	if !strings.Contains(s, "://") {
		s = "http://" + s
	}
	u, err := url.Parse(s)
	return err == nil && u.Hostname() != ""
}

// endpointAddress is the target's endpoint, with its port where it is a name
// for dns.
func (c *Channel) endpointAddress() string {
	endpoint := c.parsed.Endpoint()
	if c.parsed.URL.Scheme == "dns" {
		if host, port, err := splitEndpoint(endpoint); err == nil {
			return net.JoinHostPort(host, port)
		}
	}
	return endpoint
}

// proxiedTarget returns the address that the proxy is to resolve, or empty
// where the target's resolver does.
func (c *Channel) proxiedTarget() string {
	if c.proxy == nil || c.cfg.LocalDNSResolution || c.parsed.URL.Scheme != "dns" {
		return ""
	}
	return c.endpointAddress()
}

// covers reports whether addr is reached through the proxy.
func (p *proxy) covers(addr string) bool {
	u, err := p.choose(&url.URL{Scheme: "https", Host: addr})
	return u != nil || err != nil
}

// open connects to addr through the proxy.
func (p *proxy) open(ctx context.Context, addr, userAgent string, ev fault.Evidence) (net.Conn, *fault.Fault) {
	a := fault.Args{Side: fault.Between, Processed: fault.No, Evidence: &ev}
	if p.bad != "" {
		a.Side = fault.Local
		return nil, fault.DialProxy.Newf(a, "%s", p.bad)
	}
	nc, err := netDialer().DialContext(ctx, "tcp", p.address)
	if err != nil {
		a.Cause = err
		return nil, fault.DialProxy.Newf(a, "proxy %s could not be reached: %v", p.address, err)
	}
	stop := context.AfterFunc(ctx, func() { nc.Close() })
	tunnel, status, err := p.connect(nc, addr, userAgent, &ev)
	if !stop() && err == nil {
		err = ctx.Err()
	}
	if err == nil && status == "" {
		return tunnel, nil
	}
	nc.Close()
	if ctx.Err() != nil {
		err = ctx.Err()
	}
	if err != nil {
		a.Cause = err
		return nil, fault.DialProxy.Newf(a, "proxy %s did not answer CONNECT %s with HTTP: %v", p.address, addr, err)
	}
	return nil, fault.DialProxy.Newf(a, "proxy %s refused CONNECT %s: %s", p.address, addr, status)
}

// connect asks for a tunnel. It returns a status unless the proxy agreed.
func (p *proxy) connect(nc net.Conn, addr, userAgent string, ev *fault.Evidence) (tunnel net.Conn, status string, err error) {
	req := &http.Request{Method: http.MethodConnect, URL: &url.URL{Host: addr}, Host: addr, Header: http.Header{}}
	req.Header.Set("User-Agent", userAgent)
	if p.auth != "" {
		req.Header.Set("Proxy-Authorization", p.auth)
	}
	if err := req.Write(nc); err != nil {
		return nil, "", err
	}
	head := &io.LimitedReader{R: nc, N: maxProxyHead}
	r := bufio.NewReader(head)
	resp, err := http.ReadResponse(r, req)
	if err != nil {
		if head.N <= 0 {
			err = errors.New("its answer's head is larger than 64 KiB")
		}
		return nil, "", err
	}
	if resp.StatusCode != http.StatusOK {
		ev.HTTPStatus = resp.StatusCode
		ev.HTTPServer = clip(resp.Header.Get("Server"), 128)
		ev.Content = clip(resp.Header.Get("Content-Type"), 128)
		ev.Sample = clip(resp.Proto+" "+resp.Status, 128)
		return nil, clip(resp.Status, 128), nil
	}
	if n := r.Buffered(); n > 0 { // the target spoke first
		early, _ := r.Peek(n)
		return &prefixedConn{Conn: nc, early: early}, "", nil
	}
	return nc, "", nil
}

// prefixedConn is a connection of which some bytes have been read already.
type prefixedConn struct {
	net.Conn
	early []byte // the reader's
}

func (c *prefixedConn) Read(p []byte) (int, error) {
	if len(c.early) > 0 {
		n := copy(p, c.early)
		c.early = c.early[n:]
		return n, nil
	}
	return c.Conn.Read(p)
}

// clip bounds a peer's text.
func clip(s string, n int) string {
	if len(s) > n {
		s = s[:n]
	}
	return strings.ToValidUTF8(s, "\uFFFD")
}
