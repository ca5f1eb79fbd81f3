// SPDX-License-Identifier: Apache-2.0

package sockopt

import (
	"net"
	"syscall"
	"time"
)

// tcpUserTimeout is TCP_USER_TIMEOUT (tcp(7)), which package syscall lacks on
// some architectures.
const tcpUserTimeout = 18

// LimitSilence lets the kernel give a connection up whose data stays
// unacknowledged for d: a keepalive ping that lies in the send queue would not
// be noticed missing
// (https://github.com/grpc/proposal/blob/master/A18-tcp-user-timeout.md). What
// is no TCP connection, or a kernel that refuses, is left as it is.
func LimitSilence(nc net.Conn, d time.Duration) {
	tcp, ok := nc.(*net.TCPConn)
	if !ok {
		return
	}
	raw, err := tcp.SyscallConn()
	if err != nil {
		return
	}
	_ = raw.Control(func(fd uintptr) {
		_ = syscall.SetsockoptInt(int(fd), syscall.IPPROTO_TCP, tcpUserTimeout, int(min(d.Milliseconds(), 1<<31-1)))
	})
}

// SilenceLimit returns the connection's limit, 0 for the system's default.
func SilenceLimit(tcp *net.TCPConn) (time.Duration, error) {
	raw, err := tcp.SyscallConn()
	if err != nil {
		return 0, err
	}
	ms := 0
	if refused := raw.Control(func(fd uintptr) {
		ms, err = syscall.GetsockoptInt(int(fd), syscall.IPPROTO_TCP, tcpUserTimeout)
	}); refused != nil {
		return 0, refused
	}
	return time.Duration(ms) * time.Millisecond, err
}
