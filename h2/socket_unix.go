// SPDX-License-Identifier: Apache-2.0

//go:build unix

package h2

import (
	"errors"
	"io"
	"net"
	"os"
	"syscall"
)

// socket is a connection's descriptor, for reads and writes that never wait in
// the kernel. One goroutine may read while another writes.
type socket struct {
	nc net.Conn
	rc syscall.RawConn
	in transfer
	to transfer
}

// transfer is a read or a write under way. What the runtime calls is made
// once: a closure each time would be an allocation.
type transfer struct {
	b    []byte
	n    int
	err  error
	once func(fd uintptr) (done bool)
	// alone is of a write that is for the only stream there is.
	alone bool
}

// newSocket returns nil if nc is not a socket of the net package itself. A
// type that embeds one may have methods of its own.
func newSocket(nc net.Conn) *socket {
	var sc syscall.Conn
	switch nc := nc.(type) {
	case *net.TCPConn:
		sc = nc
	case *net.UnixConn:
		sc = nc
	default:
		return nil
	}
	rc, err := sc.SyscallConn()
	if err != nil {
		return nil
	}
	s := &socket{nc: nc, rc: rc}
	s.in.once = func(fd uintptr) bool {
		s.in.n, s.in.err = readOnce(fd, s.in.b)
		return s.in.err != syscall.EAGAIN
	}
	s.to.once = func(fd uintptr) bool {
		s.to.n, s.to.err = writeOnce(fd, s.to.b, s.to.alone)
		return true
	}
	return s
}

// read is the Read of a net.Conn.
func (s *socket) read(b []byte) (int, error) {
	t := &s.in
	t.b = b
	err := s.rc.Read(t.once)
	t.b = nil
	switch {
	case err != nil: // closed, or late
		var op *net.OpError
		if errors.As(err, &op) {
			err = op.Err
		}
		return 0, s.failed("read", err)
	case t.err != nil:
		return 0, s.failed("read", os.NewSyscallError("read", t.err))
	case t.n == 0 && len(b) > 0:
		return 0, io.EOF
	}
	return t.n, nil
}

func (s *socket) failed(op string, err error) error {
	return &net.OpError{Op: op, Net: s.nc.LocalAddr().Network(), Source: s.nc.LocalAddr(), Addr: s.nc.RemoteAddr(), Err: err}
}

// tryWrite returns how many bytes of b the socket took; alone says that they
// are for the only stream there is. Errors are left to the
// writer goroutine, which meets them again.
func (s *socket) tryWrite(b []byte, alone bool) int {
	t := &s.to
	t.b, t.n, t.err, t.alone = b, 0, nil, alone
	err := s.rc.Write(t.once)
	t.b = nil
	if err != nil || t.err != nil {
		return 0
	}
	return t.n
}
