// SPDX-License-Identifier: Apache-2.0

package channel

import (
	"strings"
	"testing"

	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/resolver"

	"github.com/faultline-rpc/faultline/fault"
)

// stubBuilder is a program's resolver.
type stubBuilder struct {
	scheme string
	build  func(resolver.Target, resolver.ClientConn) (resolver.Resolver, error)
}

func (b stubBuilder) Scheme() string { return b.scheme }
func (b stubBuilder) Build(t resolver.Target, cc resolver.ClientConn, _ resolver.BuildOptions) (resolver.Resolver, error) {
	return b.build(t, cc)
}

func TestTargets(t *testing.T) {
	own := stubBuilder{scheme: "own"}
	tests := []struct {
		target, scheme, endpoint, authority string
	}{
		{"localhost:50051", "dns", "localhost:50051", "localhost:50051"},
		{"example.com", "dns", "example.com", "example.com"},
		{":50051", "dns", ":50051", "localhost:50051"},
		{"[::1]:50051", "dns", "[::1]:50051", "[::1]:50051"},
		{"dns:///example.com:443", "dns", "example.com:443", "example.com:443"},
		{"dns:example.com:443", "dns", "example.com:443", "example.com:443"},
		{"dns://8.8.8.8/example.com", "dns", "example.com", "example.com"},
		{"passthrough:///a b", "passthrough", "a b", "a%20b"},
		{"passthrough:///bufnet", "passthrough", "bufnet", "bufnet"},
		{"unix:rel/sock", "unix", "rel/sock", "localhost"},
		{"unix:///tmp/sock", "unix", "tmp/sock", "localhost"},
		{"unix-abstract:name", "unix-abstract", "name", "localhost"},
		{"ipv4:127.0.0.1:50051,127.0.0.2", "ipv4", "127.0.0.1:50051,127.0.0.2", "127.0.0.1:50051"},
		{"ipv4:///127.0.0.1", "ipv4", "127.0.0.1", "127.0.0.1:443"},
		{"ipv6:[::1]:50051", "ipv6", "[::1]:50051", "[::1]:50051"},
		{"ipv6:fe80::1", "ipv6", "fe80::1", "[fe80::1]:443"},
		{"own:///any/thing?q=1", "own", "any/thing", "any%2Fthing"},
	}
	for _, tt := range tests {
		t.Run(tt.target, func(t *testing.T) {
			c := newChannel(t, tt.target, Config{NoProxy: true, Resolvers: []resolver.Builder{own}})
			if c.parsed.URL.Scheme != tt.scheme || c.parsed.Endpoint() != tt.endpoint {
				t.Errorf("scheme %q endpoint %q, want %q %q", c.parsed.URL.Scheme, c.parsed.Endpoint(), tt.scheme, tt.endpoint)
			}
			if c.Authority() != tt.authority {
				t.Errorf("authority %q, want %q", c.Authority(), tt.authority)
			}
			if c.Target() != tt.target {
				t.Errorf("target %q, want %q", c.Target(), tt.target)
			}
			wantState(t, c, connectivity.Idle)
		})
	}
}

func TestBadTargets(t *testing.T) {
	tests := []struct {
		target, says string
	}{
		{"", "expected host:port"},
		{"dns:///", "expected host:port"},
		{"localhost:", "missing port"},
		{"localhost:99999", "bad port"},
		{"localhost:5 1", "bad port"},
		{"::::", "expected host:port"},
		{"bogus://x/y", `no resolver for scheme "bogus"`},
		{"dns://:/host", "bad name server"},
		{"dns:///%zz", "expected host:port or scheme"},
		{"passthrough:///", "empty address"},
		{"ipv4:", "expected host:port"},
		{"ipv4:localhost:1", "no address of ipv4"},
		{"ipv4:[::1]:1", "no address of ipv4"},
		{"ipv4:127.0.0.1:1,", "expected host:port"},
		{"ipv6:127.0.0.1:1", "no address of ipv6"},
		{"ipv6:[::1]:99999", "bad port"},
		{"ipv4://127.0.0.1:50051", "authority"},
		{"unix:", "empty path"},
		{"unix://host/path", "authority"},
	}
	for _, tt := range tests {
		t.Run(tt.target, func(t *testing.T) {
			_, err := New(tt.target, Config{Creds: insecure.NewCredentials()})
			f := wantFault(t, err, expect{fault.ResolveBadTarget, fault.Local, nil})
			if !strings.Contains(f.Message(), tt.says) || !strings.Contains(f.Message(), `"`+tt.target+`"`) {
				t.Errorf("%q does not name the target and say %q", f.Message(), tt.says)
			}
			if f.Evidence().Target != tt.target {
				t.Errorf("evidence %+v", f.Evidence())
			}
		})
	}
	if _, err := New("localhost:1", Config{}); err == nil || !strings.Contains(err.Error(), "Creds") {
		t.Errorf("New without credentials: %v", err)
	}
}

func TestAuthority(t *testing.T) {
	named := func(name string) credentials.TransportCredentials {
		creds := credentials.NewTLS(nil)
		if err := creds.OverrideServerName(name); err != nil { //nolint:staticcheck // programs still use it
			t.Fatal(err)
		}
		return creds
	}
	if c := newChannel(t, "localhost:1", Config{Authority: "option"}); c.Authority() != "option" {
		t.Errorf("option: %q", c.Authority())
	}
	if c := newChannel(t, "unix:/x", Config{Creds: named("cert.name")}); c.Authority() != "cert.name" {
		t.Errorf("credentials: %q", c.Authority())
	}
	if c := newChannel(t, "localhost:1", Config{Creds: named("same"), Authority: "same"}); c.Authority() != "same" {
		t.Errorf("both: %q", c.Authority())
	}
	_, err := New("localhost:1", Config{Creds: named("one"), Authority: "other"})
	wantFault(t, err, expect{fault.ResolveBadTarget, fault.Local, nil})
}

func TestDefaultScheme(t *testing.T) {
	c := newChannel(t, "anything", Config{DefaultScheme: "passthrough"})
	if c.parsed.URL.Scheme != "passthrough" {
		t.Errorf("scheme %q", c.parsed.URL.Scheme)
	}
	_, err := New("anything", Config{DefaultScheme: "nope", Creds: insecure.NewCredentials()})
	wantFault(t, err, expect{fault.ResolveBadTarget, fault.Local, nil})
}

func FuzzTarget(f *testing.F) {
	for _, s := range []string{"", "localhost:50051", "dns:///a:1", "unix:///x", "unix-abstract:x", "dns://[::1]:53/h", "passthrough:///%41", ":1", "a:b:c", "[::1%25eth0]:1", "ipv4:1.2.3.4:5,6.7.8.9", "ipv6:[fe80::1%25eth0]:1,::2", "ipv6:[::%\xff]"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, target string) {
		c, err := New(target, Config{Creds: insecure.NewCredentials(), NoProxy: true})
		if err != nil {
			if !fault.ResolveBadTarget.Is(err) {
				t.Fatalf("%q: %v is no resolve.bad-target", target, err)
			}
			return
		}
		defer c.Close()
		for i := 0; i < len(c.Authority()); i++ {
			if b := c.Authority()[i]; b <= ' ' || b >= 0x7f || b == '/' {
				t.Fatalf("%q: authority %q", target, c.Authority())
			}
		}
		if _, ok := c.builder.(*dnsBuilder); ok {
			host, port, err := splitEndpoint(c.parsed.Endpoint())
			if err != nil || host == "" || port == "" {
				t.Fatalf("%q: %q %q %v", target, host, port, err)
			}
		}
	})
}
