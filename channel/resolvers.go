// SPDX-License-Identifier: Apache-2.0

package channel

import (
	"fmt"
	"net"
	"strings"

	"google.golang.org/grpc/resolver"
)

// ownResolver returns the built-in resolver for scheme, or nil.
func ownResolver(scheme string) resolver.Builder {
	switch scheme {
	case "dns":
		return &dnsBuilder{}
	case "passthrough":
		return passthroughBuilder{}
	case "unix", "unix-abstract":
		return unixBuilder(scheme)
	case "ipv4", "ipv6":
		return ipBuilder(scheme)
	}
	return nil
}

// staticResolver is the resolver of a target that is its own address.
type staticResolver struct{}

func (staticResolver) ResolveNow(resolver.ResolveNowOptions) {}
func (staticResolver) Close()                                {}

// passthroughBuilder hands the endpoint to the dialer as it is.
type passthroughBuilder struct{}

func (passthroughBuilder) Scheme() string { return "passthrough" }

func (passthroughBuilder) Build(t resolver.Target, cc resolver.ClientConn, _ resolver.BuildOptions) (resolver.Resolver, error) {
	// A balancer's refusal changes nothing: there is no other address.
	_ = cc.UpdateState(resolver.State{Addresses: []resolver.Address{{Addr: t.Endpoint()}}})
	return staticResolver{}, nil
}

// unixBuilder resolves "unix" and "unix-abstract" targets
// (https://github.com/grpc/grpc/blob/master/doc/naming.md).
type unixBuilder string

func (b unixBuilder) Scheme() string { return string(b) }

func (b unixBuilder) Build(t resolver.Target, cc resolver.ClientConn, _ resolver.BuildOptions) (resolver.Resolver, error) {
	addr := resolver.Address{Addr: unixPath(t)}
	if b == "unix-abstract" {
		addr.Addr = "@" + addr.Addr // net's spelling of a leading NUL
	}
	addr.Attributes = addr.Attributes.WithValue(networkKey{}, "unix")
	_ = cc.UpdateState(resolver.State{Addresses: []resolver.Address{addr}})
	return staticResolver{}, nil
}

// OverrideAuthority implements resolver.AuthorityOverrider: a path is no
// authority.
func (unixBuilder) OverrideAuthority(resolver.Target) string { return "localhost" }

// unixPath returns the path of "unix:path" and "unix:///path". Endpoint would
// lose the leading slash.
func unixPath(t resolver.Target) string {
	if t.URL.Path != "" {
		return t.URL.Path
	}
	return t.URL.Opaque
}

// ipBuilder resolves "ipv4:address[:port][,address[:port]...]" targets, and
// "ipv6" ones (https://github.com/grpc/grpc/blob/master/doc/naming.md).
type ipBuilder string

func (b ipBuilder) Scheme() string { return string(b) }

func (b ipBuilder) Build(t resolver.Target, cc resolver.ClientConn, _ resolver.BuildOptions) (resolver.Resolver, error) {
	all, err := b.addresses(t)
	if err != nil {
		return nil, err
	}
	_ = cc.UpdateState(resolver.State{Addresses: all})
	return staticResolver{}, nil
}

// OverrideAuthority implements resolver.AuthorityOverrider: of several
// addresses the first is the authority.
func (b ipBuilder) OverrideAuthority(t resolver.Target) string {
	all, err := b.addresses(t)
	if err != nil {
		return t.Endpoint()
	}
	return encodeAuthority(all[0].Addr) // a zone may hold anything
}

func (b ipBuilder) addresses(t resolver.Target) ([]resolver.Address, error) {
	var all []resolver.Address
	for text := range strings.SplitSeq(t.Endpoint(), ",") {
		host, port, err := splitEndpoint(text)
		if err != nil {
			return nil, err
		}
		zoneless, _, _ := strings.Cut(host, "%")
		ip := net.ParseIP(zoneless)
		if ip == nil || (ip.To4() != nil) != (b == "ipv4") {
			return nil, fmt.Errorf("%q is no address of %s; expected %s:address:port, and more after commas", host, b, b)
		}
		all = append(all, resolver.Address{Addr: net.JoinHostPort(host, port)})
	}
	return all, nil
}

// networkKey is the attribute that names the network of an address.
type networkKey struct{}

// networkName is comparable, as attributes ask for.
func networkOf(a resolver.Address) string {
	s, _ := a.Attributes.Value(networkKey{}).(string)
	return s
}
