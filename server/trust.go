// SPDX-License-Identifier: Apache-2.0

package server

import (
	"net"
	"net/netip"

	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/peer"
)

// trusts reports whether one of these says that p may see trails.
func trusts(any []func(*peer.Peer) bool, p *peer.Peer) bool {
	for _, trusted := range any {
		if trusted != nil && trusted(p) {
			return true
		}
	}
	return false
}

// VerifiedPeer reports whether the peer showed a certificate that the server
// verified: mutual TLS, with tls.RequireAndVerifyClientCert or
// tls.VerifyClientCertIfGiven.
func VerifiedPeer(p *peer.Peer) bool {
	switch info := p.AuthInfo.(type) {
	case credentials.TLSInfo:
		return len(info.State.VerifiedChains) > 0
	case *credentials.TLSInfo:
		return info != nil && len(info.State.VerifiedChains) > 0
	}
	return false
}

// LocalPeer reports whether the peer is on this machine: it comes from a
// loopback address, or through a unix socket.
func LocalPeer(p *peer.Peer) bool {
	if _, ok := p.Addr.(*net.UnixAddr); ok {
		return true
	}
	ip, ok := addrOf(p.Addr)
	return ok && ip.IsLoopback()
}

// PeersIn returns a predicate for peers whose address is in one of the prefixes.
func PeersIn(prefixes ...netip.Prefix) func(*peer.Peer) bool {
	return func(p *peer.Peer) bool {
		ip, ok := addrOf(p.Addr)
		for _, prefix := range prefixes {
			if ok && prefix.Contains(ip) {
				return true
			}
		}
		return false
	}
}

// addrOf returns an address's IP; an IPv4 address within IPv6 as IPv4.
func addrOf(a net.Addr) (netip.Addr, bool) {
	if a == nil {
		return netip.Addr{}, false
	}
	ap, err := netip.ParseAddrPort(a.String())
	return ap.Addr().Unmap().WithZone(""), err == nil
}
