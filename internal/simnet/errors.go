// SPDX-License-Identifier: Apache-2.0

package simnet

import (
	"context"
	"errors"
	"net"
	"os"
	"syscall"
)

// opError dresses err as the net package does for a connected TCP socket.
func (c *Conn) opError(op string, err error) error {
	var number syscall.Errno
	if errors.As(err, &number) {
		err = os.NewSyscallError(op, number)
	}
	return &net.OpError{Op: op, Net: "tcp", Source: c.local, Addr: c.remote, Err: err}
}

// dialError dresses err as net.Dialer does; the source is unknown while dialing.
func dialError(to net.Addr, err error) error {
	var number syscall.Errno
	if errors.As(err, &number) {
		err = os.NewSyscallError("connect", number)
	}
	return &net.OpError{Op: "dial", Net: "tcp", Addr: to, Err: err}
}

// dialEnded is the end of a dial's context in the words of the net package.
type dialEnded struct{ ctx error }

func (e dialEnded) Error() string {
	if e.Timeout() {
		return "i/o timeout"
	}
	return "operation was canceled"
}

func (e dialEnded) Timeout() bool        { return errors.Is(e.ctx, context.DeadlineExceeded) }
func (e dialEnded) Temporary() bool      { return e.Timeout() }
func (e dialEnded) Is(target error) bool { return errors.Is(e.ctx, target) }
