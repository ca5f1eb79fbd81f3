// SPDX-License-Identifier: Apache-2.0

package channel

import (
	"context"
	"errors"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"google.golang.org/grpc/resolver"

	"github.com/faultline-rpc/faultline/fault"
)

// dialPlan is how an address is to be reached.
type dialPlan struct {
	network string // "tcp" or "unix"
	address string
	proxy   *proxy // nil: directly
}

// plan reads an address: our unix resolvers mark theirs, other resolvers may
// write "unix:path" or "unix:///path".
func (c *Channel) plan(a resolver.Address) dialPlan {
	if n := networkOf(a); n != "" {
		return dialPlan{network: n, address: a.Addr}
	}
	if path, ok := strings.CutPrefix(a.Addr, "unix:"); ok {
		return dialPlan{network: "unix", address: strings.TrimPrefix(path, "//")}
	}
	d := dialPlan{network: "tcp", address: a.Addr}
	if c.proxy != nil && c.proxy.covers(a.Addr) {
		d.proxy = c.proxy
	}
	return d
}

func (d dialPlan) evidence(c *Channel) fault.Evidence {
	ev := fault.Evidence{Target: c.target, Address: d.address, Network: d.network}
	if d.proxy != nil {
		ev.Proxy = d.proxy.address
	}
	return ev
}

// open dials.
func (d dialPlan) open(ctx context.Context, c *Channel) (net.Conn, *fault.Fault) {
	var nc net.Conn
	var err error
	switch {
	case c.cfg.Dialer != nil:
		nc, err = c.cfg.Dialer(ctx, d.forDialer())
		if err == nil && nc == nil {
			err = errors.New("the custom dialer returned neither a connection nor an error")
		}
	case d.proxy != nil:
		return d.proxy.open(ctx, d.address, c.cfg.UserAgent, d.evidence(c))
	default:
		nc, err = netDialer().DialContext(ctx, d.network, d.address)
		if errors.Is(err, syscall.ECONNRESET) || errors.Is(err, wsaECONNRESET) {
			return nil, c.resetAtOnce(err, d.evidence(c))
		}
	}
	if err != nil {
		return nil, dialFault(err, d.evidence(c))
	}
	return nc, nil
}

// resetAtOnce is the fault of a peer that accepted the connection and reset it
// before the dial had returned: had it waited a moment, the reset would have
// met what comes after the dial.
func (c *Channel) resetAtOnce(err error, ev fault.Evidence) *fault.Fault {
	a := fault.Args{Side: fault.Remote, Processed: fault.No, Evidence: &ev, Cause: err}
	e := fault.TLSHandshake
	ev.Waiting = fault.PhaseHandshake
	if c.cfg.Creds.Info().SecurityProtocol == "insecure" {
		e, ev.Waiting = fault.HTTP2ConnectionLost, fault.PhaseSettings
	}
	f := e.Newf(a, "%s accepted the connection and reset it at once: %v", ev.Address, err)
	if e == fault.TLSHandshake {
		return f.WithRemedy(remedyHandshakeEnded)
	}
	return f.WithRemedy(remedyHungUp)
}

// netDialer leaves TCP keepalive on with the system's own parameters: Go's
// defaults would be more eager than most networks are configured for.
func netDialer() *net.Dialer {
	return &net.Dialer{KeepAliveConfig: net.KeepAliveConfig{Enable: true, Idle: -1, Interval: -1, Count: -1}}
}

// forDialer is the address as custom dialers know it from grpc-go: unix
// addresses are given as targets.
func (d dialPlan) forDialer() string {
	switch {
	case d.network != "unix" || strings.HasPrefix(d.address, "\x00"):
		return d.address
	case filepath.IsAbs(d.address):
		return "unix://" + d.address
	}
	return "unix:" + d.address
}

// Windows' socket errors (winsock2.h). Package syscall's names for these are
// invented numbers there, which the system never returns.
const (
	wsaEACCES       = syscall.Errno(10013)
	wsaENETUNREACH  = syscall.Errno(10051)
	wsaETIMEDOUT    = syscall.Errno(10060)
	wsaECONNREFUSED = syscall.Errno(10061)
	wsaEHOSTUNREACH = syscall.Errno(10065)
	wsaECONNRESET   = syscall.Errno(10054)
)

// dialFault stamps a dial's error by its type: what was dialed, in ev, only
// matters where one error number means two things.
func dialFault(err error, ev fault.Evidence) *fault.Fault {
	a := fault.Args{Processed: fault.No, Evidence: &ev, Cause: err}
	var dns *net.DNSError
	if errors.As(err, &dns) { // a passthrough target's name is resolved by the dial
		a.Side = fault.Remote
		return dnsFault(dns, a)
	}
	is := func(targets ...error) bool {
		for _, t := range targets {
			if errors.Is(err, t) {
				return true
			}
		}
		return false
	}
	var timeout net.Error
	switch {
	case is(syscall.ECONNREFUSED, wsaECONNREFUSED):
		a.Side = fault.Remote
		return fault.DialRefused.New(a)
	case is(syscall.ENETUNREACH, syscall.EHOSTUNREACH, syscall.ENETDOWN, syscall.EHOSTDOWN, wsaENETUNREACH, wsaEHOSTUNREACH):
		a.Side = fault.Between
		return fault.DialUnreachable.New(a)
	case ev.Network == "tcp" && is(syscall.EINVAL): // a blackhole route, or a link-local address without its zone
		a.Side = fault.Between
		return fault.DialUnreachable.New(a)
	case is(syscall.ETIMEDOUT, wsaETIMEDOUT, context.DeadlineExceeded, os.ErrDeadlineExceeded),
		errors.As(err, &timeout) && timeout.Timeout():
		a.Side = fault.Between
		return fault.DialTimeout.New(a)
	case is(syscall.EACCES, syscall.EPERM, fs.ErrPermission, wsaEACCES):
		a.Side = fault.Local
		return fault.DialPermission.New(a)
	case ev.Network == "unix" && is(syscall.ENOENT, syscall.ENOTDIR, fs.ErrNotExist):
		a.Side = fault.Local
		return fault.DialMissing.New(a)
	}
	a.Side = fault.Local
	f := fault.DialFailed.New(a)
	for _, r := range dialRemedies {
		if (r.network == "" || r.network == ev.Network) && is(r.cause) {
			return f.WithRemedy(r.text)
		}
	}
	return f
}

// dialRemedies is the advice by what the system said.
var dialRemedies = []struct {
	cause   error
	network string // empty: any
	text    string
}{
	{syscall.EPROTOTYPE, "unix", "The path is a unix socket of another type, such as datagram, and not the gRPC server's: correct the path (ss -x shows the sockets and their types)."},
	{syscall.EINVAL, "unix", "Correct the path: a unix socket's has at most 107 bytes (103 on macOS). Use a shorter one, or one relative to the working directory (unix:relative/path)."},
	{syscall.EMFILE, "", "This process has too many open files: raise its limit (ulimit -n, LimitNOFILE in systemd), and look for clients and connections that are never closed. One client serves any number of calls."},
	{syscall.ENFILE, "", "This machine has too many open files: raise fs.file-max, and look for the process that leaks them (lsof)."},
	{syscall.EADDRNOTAVAIL, "", "This machine has no local address or port left for that connection: make one client and keep it, in place of one for each call, or widen net.ipv4.ip_local_port_range. A remote address that cannot be dialed at all also fails so."},
}
