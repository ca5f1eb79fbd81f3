// SPDX-License-Identifier: Apache-2.0

package simnet

import (
	"io"
	"net"
	"os"
	"syscall"
	"time"
)

// Conn is one end of a simulated connection, a net.Conn with the half-close of
// *net.TCPConn. Its methods may be called from several goroutines.
type Conn struct {
	link          *link
	end           int // 0 client, 1 server
	local, remote net.Addr
}

var _ net.Conn = (*Conn)(nil)

// Pipe makes a connection and returns its two ends.
func Pipe(o Options) (client, server *Conn) {
	if o.Buffer <= 0 {
		o.Buffer = defaultBuffer
	}
	if o.ClientAddr == nil {
		o.ClientAddr = &net.TCPAddr{IP: net.IPv4(10, 0, 0, 1), Port: 40000}
	}
	if o.ServerAddr == nil {
		o.ServerAddr = &net.TCPAddr{IP: net.IPv4(10, 0, 0, 2), Port: 443}
	}
	l := &link{}
	for end, faults := range [][]Fault{o.ToServer, o.ToClient} {
		l.dir[end] = direction{latency: o.Latency, bandwidth: o.Bandwidth, buffer: o.Buffer, maxRead: o.MaxRead, faults: faults}
	}
	l.end[0].faults, l.end[1].faults = o.Client, o.Server
	l.applyLimits(0)
	l.applyLimits(1)
	return &Conn{link: l, end: 0, local: o.ClientAddr, remote: o.ServerAddr},
		&Conn{link: l, end: 1, local: o.ServerAddr, remote: o.ClientAddr}
}

// Read reads bytes that have arrived. It blocks until there are some, or the
// stream's end (io.EOF), a reset (ECONNRESET), the deadline, or Close.
func (c *Conn) Read(p []byte) (int, error) {
	l := c.link
	l.mu.Lock()
	defer l.mu.Unlock()
	e, d := &l.end[c.end], &l.dir[1-c.end]
	if err := e.opFault(opRead); err != nil {
		return 0, c.opError("read", err)
	}
	for {
		now := time.Now()
		if e.closed {
			return 0, c.opError("read", net.ErrClosed)
		}
		if due(e.deadline[opRead], now) {
			return 0, c.opError("read", os.ErrDeadlineExceeded)
		}
		if len(p) == 0 {
			return 0, nil
		}
		if n := d.take(p, now); n > 0 {
			l.wake()
			return n, nil
		}
		if e.reset && due(e.resetAt, now) {
			return 0, c.opError("read", syscall.ECONNRESET)
		}
		var finAt time.Time
		if d.fin && d.size == 0 && !d.holdsFIN() {
			if due(d.finAt, now) {
				return 0, io.EOF
			}
			finAt = d.finAt
		}
		_, next := d.ready(now)
		l.wait(next, finAt, e.resetAt, e.deadline[opRead])
	}
}

// holdsFIN reports whether a stall keeps the stream's end from arriving.
func (d *direction) holdsFIN() bool { return d.stalled && d.read >= d.stallAt }

// Write sends p. It blocks while the buffer is full. After a reset, after
// CloseWrite, and once the other end's Close has been felt, it fails with EPIPE.
func (c *Conn) Write(p []byte) (int, error) {
	l := c.link
	l.mu.Lock()
	defer l.mu.Unlock()
	e := &l.end[c.end]
	if err := e.opFault(opWrite); err != nil {
		return 0, c.opError("write", err)
	}
	sent := 0
	for {
		now := time.Now()
		var goneAt time.Time
		if e.gone && !l.dir[1-c.end].stalled {
			goneAt = e.goneAt
		}
		switch {
		case e.closed:
			return sent, c.opError("write", net.ErrClosed)
		case due(e.deadline[opWrite], now):
			return sent, c.opError("write", os.ErrDeadlineExceeded)
		case e.writeClosed, e.reset && due(e.resetAt, now), due(goneAt, now):
			return sent, c.opError("write", syscall.EPIPE)
		}
		if n := l.admit(c.end, p[sent:]); n > 0 {
			sent += n
			l.wake()
		}
		if sent == len(p) {
			return sent, nil
		}
		l.wait(goneAt, e.resetAt, e.deadline[opWrite])
	}
}

// Close closes the end: the other reads what is under way and then io.EOF, and
// its writes fail once it can have felt it. A second Close fails with net.ErrClosed.
func (c *Conn) Close() error {
	l := c.link
	l.mu.Lock()
	defer l.mu.Unlock()
	e := &l.end[c.end]
	if e.closed {
		return c.opError("close", net.ErrClosed)
	}
	e.closed = true
	l.dir[c.end].finish()
	incoming := &l.dir[1-c.end]
	incoming.queue, incoming.size = nil, 0
	other := &l.end[1-c.end]
	other.gone, other.goneAt = true, time.Now().Add(l.dir[c.end].latency)
	l.wake()
	return nil
}

// CloseWrite ends the stream of bytes sent; reading goes on.
func (c *Conn) CloseWrite() error {
	l := c.link
	l.mu.Lock()
	defer l.mu.Unlock()
	e := &l.end[c.end]
	if e.closed {
		return c.opError("close", net.ErrClosed)
	}
	e.writeClosed = true
	l.dir[c.end].finish()
	l.wake()
	return nil
}

// Cut resets the connection at both ends now. Bytes under way are lost, those
// that have arrived can still be read.
func (c *Conn) Cut() {
	l := c.link
	l.mu.Lock()
	defer l.mu.Unlock()
	now := time.Now()
	l.reset(0, now)
	l.reset(1, now)
	l.wake()
}

// Stall keeps whatever this end sends from now on from arriving.
func (c *Conn) Stall() {
	c.link.mu.Lock()
	defer c.link.mu.Unlock()
	c.link.dir[c.end].stall()
}

// Resume ends a stall of what this end sends.
func (c *Conn) Resume() {
	c.link.mu.Lock()
	defer c.link.mu.Unlock()
	c.link.dir[c.end].stalled = false
	c.link.wake()
}

// Sent is how many bytes this end has written so far.
func (c *Conn) Sent() int64 {
	c.link.mu.Lock()
	defer c.link.mu.Unlock()
	return c.link.dir[c.end].sent
}

// LocalAddr is the end's own address.
func (c *Conn) LocalAddr() net.Addr { return c.local }

// RemoteAddr is the other end's address.
func (c *Conn) RemoteAddr() net.Addr { return c.remote }

// SetDeadline bounds reads and writes, those that wait now too.
func (c *Conn) SetDeadline(t time.Time) error { return c.setDeadline(t, opRead, opWrite) }

// SetReadDeadline bounds reads, one that waits now too. The zero time lifts the bound.
func (c *Conn) SetReadDeadline(t time.Time) error { return c.setDeadline(t, opRead) }

// SetWriteDeadline bounds writes, one that waits now too. The zero time lifts the bound.
func (c *Conn) SetWriteDeadline(t time.Time) error { return c.setDeadline(t, opWrite) }

func (c *Conn) setDeadline(t time.Time, ops ...int) error {
	l := c.link
	l.mu.Lock()
	defer l.mu.Unlock()
	e := &l.end[c.end]
	if e.closed {
		return c.opError("set", net.ErrClosed)
	}
	for _, op := range ops {
		e.deadline[op] = t
	}
	l.wake()
	return nil
}

// opFault counts an operation and returns the error it is to fail with, if any.
func (e *endState) opFault(op int) error {
	e.ops[op]++
	for _, f := range e.faults {
		if f.write == (op == opWrite) && f.nth == e.ops[op] {
			return f.err
		}
	}
	return nil
}
