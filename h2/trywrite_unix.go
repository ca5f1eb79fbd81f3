// SPDX-License-Identifier: Apache-2.0

//go:build unix

package h2

import (
	"net"
	"syscall"
)

// tryWriter writes to a socket without ever waiting for room in it.
type tryWriter struct {
	rc   syscall.RawConn
	b    []byte
	n    int
	once func(fd uintptr) bool // made once: a closure per write would be an allocation
}

// newTryWriter returns nil if nc is not a socket of the net package itself. A
// type that embeds one may have a Write of its own.
func newTryWriter(nc net.Conn) *tryWriter {
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
	w := &tryWriter{rc: rc}
	w.once = func(fd uintptr) bool {
		if n, err := syscall.Write(int(fd), w.b); err == nil {
			w.n = n
		}
		return true
	}
	return w
}

// write returns how many bytes of b the socket took. Errors are left to the
// writer goroutine, which meets them again.
func (w *tryWriter) write(b []byte) int {
	w.b, w.n = b, 0
	_ = w.rc.Write(w.once)
	w.b = nil
	return w.n
}
