// SPDX-License-Identifier: Apache-2.0

package simnet

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"sync"
	"syscall"
	"time"
)

const backlog = 128 // connections that may wait for Accept

// Health is how an address answers to dialing.
type Health uint8

const (
	// Healthy addresses connect if there is a listener and refuse (ECONNREFUSED) otherwise.
	Healthy Health = iota
	// Refused addresses refuse even if there is a listener.
	Refused
	// Blackholed addresses never answer: dialing waits for its context to end.
	Blackholed
	// Unreachable addresses fail with EHOSTUNREACH.
	Unreachable
)

// Network holds listeners under addresses such as "server:443". A host that is
// no IP address gets one of its own when first used. Its methods may be called
// from several goroutines.
type Network struct {
	options Options
	mu      sync.Mutex
	places  map[string]*place // guarded by mu
	hosts   map[string]net.IP // guarded by mu
}

// place is an address that somebody has named.
type place struct {
	addr     *net.TCPAddr
	health   Health
	options  func(dial int) Options
	dials    int
	listener *Listener
	conns    []*Conn
}

// NewNetwork makes a network whose connections have the given options. The
// addresses in them are ignored.
func NewNetwork(o Options) *Network {
	return &Network{options: o, places: map[string]*place{}, hosts: map[string]net.IP{}}
}

// placeLocked finds or makes the place of addr; n.mu is held.
func (n *Network) placeLocked(addr string) (*place, error) {
	if p := n.places[addr]; p != nil {
		return p, nil
	}
	host, portText, err := net.SplitHostPort(addr)
	if err != nil {
		return nil, err
	}
	port, err := strconv.ParseUint(portText, 10, 16)
	if err != nil {
		return nil, &net.AddrError{Err: "invalid port", Addr: addr}
	}
	ip, known := n.hosts[host]
	if parsed, err := netip.ParseAddr(host); err == nil {
		ip, known = net.IP(parsed.AsSlice()), true
	}
	if !known {
		k := len(n.hosts) + 1
		ip = net.IPv4(10, 1, byte(k>>8), byte(k))
		n.hosts[host] = ip
	}
	p := &place{addr: &net.TCPAddr{IP: ip, Port: int(port)}}
	n.places[addr] = p
	return p, nil
}

// Listen starts to listen on addr. It fails with EADDRINUSE if another listener does.
func (n *Network) Listen(addr string) (*Listener, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	p, err := n.placeLocked(addr)
	if err != nil {
		return nil, &net.OpError{Op: "listen", Net: "tcp", Err: err}
	}
	if p.listener != nil {
		return nil, &net.OpError{Op: "listen", Net: "tcp", Addr: p.addr, Err: syscall.EADDRINUSE}
	}
	l := newListener(p.addr, n.options)
	l.release = func() {
		n.mu.Lock()
		defer n.mu.Unlock()
		p.listener = nil
	}
	p.listener = l
	return l, nil
}

// SetHealth sets how addr answers to dialing from now on.
func (n *Network) SetHealth(addr string, h Health) error {
	return n.change(addr, func(p *place) { p.health = h })
}

// SetOptions sets the options of connections to addr, by the number of the
// dial, counted from 1: so the first can break and the second hold.
func (n *Network) SetOptions(addr string, options func(dial int) Options) error {
	return n.change(addr, func(p *place) { p.options = options })
}

func (n *Network) change(addr string, f func(*place)) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	p, err := n.placeLocked(addr)
	if err != nil {
		return fmt.Errorf("simnet: %w", err)
	}
	f(p)
	return nil
}

// Conns returns the client ends of all connections made to addr so far, in
// order, so that a test can cut or stall them.
func (n *Network) Conns(addr string) []*Conn {
	n.mu.Lock()
	defer n.mu.Unlock()
	if p := n.places[addr]; p != nil {
		return append([]*Conn(nil), p.conns...)
	}
	return nil
}

// Dials is how often addr was dialed, with or without success.
func (n *Network) Dials(addr string) int {
	n.mu.Lock()
	defer n.mu.Unlock()
	if p := n.places[addr]; p != nil {
		return p.dials
	}
	return 0
}

// Dial connects to addr; its shape is that of gRPC's WithContextDialer. It
// takes a round trip. Errors are those of net.Dialer.
func (n *Network) Dial(ctx context.Context, addr string) (net.Conn, error) {
	c, err := n.dial(ctx, addr)
	if err != nil {
		return nil, err // and not a nil *Conn in an interface
	}
	return c, nil
}

// DialContext is Dial in the shape of net.Dialer's method; network is ignored.
func (n *Network) DialContext(ctx context.Context, network, addr string) (net.Conn, error) {
	return n.Dial(ctx, addr)
}

func (n *Network) dial(ctx context.Context, addr string) (*Conn, error) {
	n.mu.Lock()
	p, err := n.placeLocked(addr)
	if err != nil {
		n.mu.Unlock()
		return nil, dialError(nil, err)
	}
	p.dials++
	health, o := p.health, n.options
	if p.options != nil {
		o = p.options(p.dials)
	}
	n.mu.Unlock()

	if health == Blackholed {
		<-ctx.Done()
		return nil, dialError(p.addr, dialEnded{ctx.Err()})
	}
	if err := sleep(ctx, 2*o.Latency); err != nil {
		return nil, dialError(p.addr, dialEnded{err})
	}
	n.mu.Lock()
	l := p.listener
	n.mu.Unlock()
	switch {
	case health == Unreachable:
		return nil, dialError(p.addr, syscall.EHOSTUNREACH)
	case health == Refused, l == nil:
		return nil, dialError(p.addr, syscall.ECONNREFUSED)
	}
	c, err := l.connect(ctx, o)
	if err != nil {
		return nil, err
	}
	n.mu.Lock()
	p.conns = append(p.conns, c)
	n.mu.Unlock()
	return c, nil
}

// sleep waits for d or the end of ctx.
func sleep(ctx context.Context, d time.Duration) error {
	if d <= 0 || ctx.Err() != nil {
		return ctx.Err()
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
