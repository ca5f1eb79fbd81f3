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
// service's own client in err's chain, or of a network operation.
func Repeats(text string, err error) bool {
	for _, c := range causes(err) {
		said := ""
		switch c := c.(type) {
		case *Fault:
			if c.verbatim || c.entry.By == ByServer { // another program's words, or made for callers
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
	return false
}

// NamesAddress reports whether text has a network address in it, or a host's
// name, as the texts of gRPC libraries do that could not reach a server. It
// recognizes what is meant to be recognized by people, and errs on the safe
// side.
func NamesAddress(text string) bool {
	for _, mark := range []string{"dial tcp", "dial udp", "dial unix", "read tcp", "write tcp", "read unix", "write unix", "unix:", ": no such host"} {
		if strings.Contains(text, mark) {
			return true
		}
	}
	for _, token := range strings.FieldsFunc(text, func(r rune) bool {
		return !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune(".:-_[]%", r))
	}) {
		if isAddress(strings.Trim(token, ".:-_")) || isAddress(strings.Trim(token, ".:-_[]")) {
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
