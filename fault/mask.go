// SPDX-License-Identifier: Apache-2.0

package fault

import (
	"net"
	"net/netip"
	"strconv"
	"strings"

	"google.golang.org/grpc/codes"
)

// OnlyApplications reports the seven codes that no gRPC library generates
// (doc/statuscodes.md of grpc/grpc): a program chose them on purpose.
func OnlyApplications(c codes.Code) bool {
	switch c {
	case codes.InvalidArgument, codes.NotFound, codes.AlreadyExists, codes.FailedPrecondition,
		codes.Aborted, codes.OutOfRange, codes.DataLoss:
		return true
	}
	return false
}

// Repeats reports whether text, which a handler wants to send, repeats what
// callers of a service must not see: the description of a failure of the
// service's own client, in err's chain or printed into the text, or of a network
// operation.
func Repeats(text string, err error) bool {
	own := text // without what other programs said
	for _, c := range causes(err) {
		said := ""
		switch c := c.(type) {
		case *Fault:
			if c.verbatim || c.entry.By == ByServer { // another program's words, or made for callers
				own = strings.ReplaceAll(own, c.message, "")
				continue
			}
			said = c.message
		case *net.OpError, *net.DNSError, *net.AddrError:
			said = c.Error()
		}
		if said != "" && strings.Contains(text, said) {
			return true
		}
	}
	return quotesConnecting(own)
}

// quotesConnecting reports whether text has the words of a fault of this module
// in it that a connection to another service met: they begin with its id, and
// name an address. Those that were masked name none.
func quotesConnecting(text string) bool {
	if !NamesAddress(text) {
		return false
	}
	for id, e := range catalogue {
		if e.Layer >= LayerResolve && e.Layer <= LayerHTTP2 && strings.Contains(text, string(id)+": ") {
			return true
		}
	}
	return false
}

// marks are of texts that name a host or an address, as libraries write them.
var marks = []string{
	"dial tcp", "dial udp", "dial unix", "read tcp", "write tcp", "read unix", "write unix", "unix:", "ipv6:", ": no such host",
	"transport: ", `connection error: desc = "`, "x509: ", "record lookup error", // grpc-go
	"DNS resolution failed", "in peer certificate", // C-core
	"Name resolution failed for target", "getaddrinfo", "ENOTFOUND", "certificate's altnames", // grpc-js
	"Unable to resolve host", "UnknownHostException", // grpc-java
	"No such host is known", "Error getting DNS hosts", // grpc-dotnet
}

// NamesAddress reports whether text has a network address in it, or a host's
// name, as the texts of gRPC libraries do that could not reach a server. It
// recognizes what is meant to be recognized by people, and errs on the safe
// side.
func NamesAddress(text string) bool {
	for _, mark := range marks {
		if strings.Contains(text, mark) {
			return true
		}
	}
	for _, token := range strings.FieldsFunc(text, func(r rune) bool {
		return !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune(".:-_[]%", r))
	}) {
		if isAddress(strings.Trim(token, ".:-_")) || isAddress(strings.Trim(token, ".:-_[]")) || isInternal(strings.Trim(token, ".:-_")) {
			return true
		}
	}
	return false
}

// isInternal reports a host's name in a domain that exists only inside.
func isInternal(token string) bool {
	token, _, _ = strings.Cut(token, ":")
	for _, domain := range []string{".svc", ".local", ".internal", ".localdomain", ".lan", ".corp", ".intranet"} {
		if strings.HasSuffix(token, domain) {
			return true
		}
	}
	return false
}

// NamesService reports whether text, with which a library answered UNIMPLEMENTED,
// names a service other than own, "package.Service".
func NamesService(text, own string) bool {
	for _, mark := range []string{"unknown service ", "unknown method ", "Method not found: ", "does not implement the method "} {
		if _, rest, ok := strings.Cut(text, mark); ok && (own == "" || !strings.Contains(rest, own)) {
			return true
		}
	}
	return false
}

// isAddress reports an IP address, with or without port, and a host's name with
// a port.
func isAddress(token string) bool {
	if _, err := netip.ParseAddrPort(token); err == nil {
		return true
	}
	if _, err := netip.ParseAddr(token); err == nil {
		return true
	}
	i := strings.LastIndexByte(token, ':')
	if i <= 0 {
		return false
	}
	host, port := token[:i], token[i+1:]
	if _, err := strconv.ParseUint(port, 10, 16); err != nil {
		return false
	}
	return host == "localhost" || strings.ContainsRune(host, '.')
}
