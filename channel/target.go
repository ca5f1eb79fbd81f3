// SPDX-License-Identifier: Apache-2.0

package channel

import (
	"fmt"
	"net"
	"net/url"
	"reflect"
	"strconv"
	"strings"

	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/resolver"

	"github.com/faultline-rpc/faultline/fault"
)

// defaultPort is the port of a dns target that names none.
const defaultPort = "443"

// badTarget stamps resolve.bad-target.
func badTarget(target, format string, args ...any) error {
	return fault.ResolveBadTarget.Newf(fault.Args{Side: fault.Local, Processed: fault.No,
		Evidence: &fault.Evidence{Target: target}}, "target %q: "+format, append([]any{target}, args...)...)
}

// parseTarget finds the resolver of a target as grpc.NewClient does: a target
// whose scheme no resolver has is a name for the default scheme, "dns"
// (https://github.com/grpc/grpc/blob/master/doc/naming.md).
func parseTarget(target string, cfg *Config) (resolver.Target, resolver.Builder, error) {
	if u, err := url.Parse(target); err == nil {
		if b := findResolver(u.Scheme, cfg); b != nil {
			return checkTarget(target, resolver.Target{URL: *u}, b, cfg)
		}
		if u.Scheme != "" && strings.Contains(target, "://") {
			return resolver.Target{}, nil, badTarget(target,
				"no resolver for scheme %q; expected dns, passthrough, unix, unix-abstract, ipv4, ipv6, or the scheme of a registered resolver", u.Scheme)
		}
	}
	scheme := defaultScheme(cfg)
	u, err := url.Parse(scheme + ":///" + target)
	if err != nil {
		return resolver.Target{}, nil, badTarget(target, "%v; expected host:port or scheme:///name", err)
	}
	b := findResolver(u.Scheme, cfg)
	if b == nil {
		return resolver.Target{}, nil, badTarget(target, "no resolver for the default scheme %q", scheme)
	}
	return checkTarget(target, resolver.Target{URL: *u}, b, cfg)
}

// defaultScheme is "dns", unless the program chose another with
// resolver.SetDefaultScheme; that package starts with "passthrough", which
// grpc.NewClient does not follow either.
func defaultScheme(cfg *Config) string {
	if cfg.DefaultScheme != "" {
		return cfg.DefaultScheme
	}
	if s := resolver.GetDefaultScheme(); s != "passthrough" {
		return s
	}
	return "dns"
}

// findResolver returns the builder for scheme: the one passed, else the one
// registered, else ours. grpc-go registers resolvers for our schemes when its
// root package is linked in: those are not the program's choice.
func findResolver(scheme string, cfg *Config) resolver.Builder {
	for _, b := range cfg.Resolvers {
		if b.Scheme() == scheme {
			return b
		}
	}
	own := ownResolver(scheme)
	b := resolver.Get(scheme)
	if b == nil || own != nil && isGRPCGo(b) {
		if own == nil {
			return nil
		}
		return own
	}
	return b
}

// isGRPCGo tells grpc-go's built-in resolvers from the program's by where
// their type is declared.
func isGRPCGo(b resolver.Builder) bool {
	t := reflect.TypeOf(b)
	if t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	return strings.HasPrefix(t.PkgPath(), "google.golang.org/grpc/internal/")
}

// checkTarget reports what is wrong with a target of a built-in resolver, so
// that New says it instead of the first call.
func checkTarget(target string, t resolver.Target, b resolver.Builder, cfg *Config) (resolver.Target, resolver.Builder, error) {
	var err error
	switch own := b.(type) {
	case *dnsBuilder:
		if _, _, err = splitEndpoint(t.Endpoint()); err == nil && t.URL.Host != "" {
			_, err = dnsServer(t.URL.Host)
		}
	case passthroughBuilder:
		if t.Endpoint() == "" && cfg.Dialer == nil {
			err = fmt.Errorf("empty address; expected passthrough:///host:port")
		}
	case ipBuilder:
		if t.URL.Host != "" {
			err = fmt.Errorf("authority %q; expected %s:address:port", t.URL.Host, own)
		} else {
			_, err = own.addresses(t)
		}
	case unixBuilder:
		if t.URL.Host != "" {
			err = fmt.Errorf("authority %q; expected %s:path or %s:///absolute/path", t.URL.Host, own, own)
		} else if unixPath(t) == "" {
			err = fmt.Errorf("empty path; expected %s:path or %s:///absolute/path", own, own)
		}
	}
	if err != nil {
		return resolver.Target{}, nil, badTarget(target, "%v", err)
	}
	return t, b, nil
}

// splitEndpoint splits "host", "host:port", "[v6]:port", "v6" or ":port" into
// a host, by default "localhost", and a port, by default 443.
func splitEndpoint(endpoint string) (host, port string, err error) {
	if endpoint == "" {
		return "", "", fmt.Errorf("empty name; expected host:port")
	}
	if ip := net.ParseIP(strings.Trim(endpoint, "[]")); ip != nil {
		return strings.Trim(endpoint, "[]"), defaultPort, nil
	}
	host, port, err = net.SplitHostPort(endpoint)
	if err != nil {
		if host, port, err = net.SplitHostPort(endpoint + ":" + defaultPort); err != nil {
			return "", "", fmt.Errorf("%q is no address; expected host:port or [ipv6]:port", endpoint)
		}
	}
	switch {
	case port == "":
		return "", "", fmt.Errorf("missing port after the colon in %q; expected host:port", endpoint)
	case !validPort(port):
		return "", "", fmt.Errorf("bad port %q in %q; expected 1 to 65535 or a service name", port, endpoint)
	case strings.ContainsAny(host, " /\t\r\n\x00"):
		return "", "", fmt.Errorf("bad host %q in %q; expected a name or an IP address", host, endpoint)
	case host == "":
		host = "localhost"
	}
	return host, port, nil
}

func validPort(port string) bool {
	if n, err := strconv.ParseUint(port, 10, 64); err == nil {
		return n >= 1 && n <= 65535
	}
	for i := 0; i < len(port); i++ {
		c := port[i] | 0x20
		if (c < 'a' || c > 'z') && (i == 0 || port[i] != '-' && (port[i] < '0' || port[i] > '9')) {
			return false
		}
	}
	return true
}

// findAuthority returns :authority, in grpc-go's order of precedence: the
// option, the credentials' server name, the resolver, the target's endpoint.
func findAuthority(target string, t resolver.Target, b resolver.Builder, option string, creds credentials.TransportCredentials) (string, error) {
	name := creds.Info().ServerName
	if name != "" && option != "" && name != option {
		return "", badTarget(target, "the credentials' server name %q and the authority option %q differ; expected one of them, or the same twice", name, option)
	}
	if option != "" {
		return option, nil
	}
	if name != "" {
		return name, nil
	}
	if o, ok := b.(resolver.AuthorityOverrider); ok {
		return o.OverrideAuthority(t), nil
	}
	endpoint := encodeAuthority(t.Endpoint())
	if strings.HasPrefix(endpoint, ":") {
		endpoint = "localhost" + endpoint
	}
	return endpoint, nil
}

// encodeAuthority percent-encodes what RFC 3986, section 3.2, does not allow
// in an authority.
func encodeAuthority(s string) string {
	const plain = "-_.~!$&'()*+,;=:[]@"
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		c := s[i]
		switch {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9', strings.IndexByte(plain, c) >= 0:
			b.WriteByte(c)
		default:
			fmt.Fprintf(&b, "%%%02X", c)
		}
	}
	return b.String()
}
