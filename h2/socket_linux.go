// SPDX-License-Identifier: Apache-2.0

//go:build linux && !race && !386 && !s390x

package h2

import (
	"syscall"
	"unsafe"
)

// The scheduler is not told of these calls, which do not block: telling it
// costs more than a small read, and wakes a thread of its own where the program
// was idle. MSG_DONTWAIT keeps that true for a socket that somebody put into
// blocking mode, as os.File.Fd does to all descriptors of one: a call that
// waited here would stop the whole program.

func readOnce(fd uintptr, b []byte) (int, error) {
	return once(syscall.SYS_RECVFROM, fd, b, syscall.MSG_DONTWAIT)
}

func writeOnce(fd uintptr, b []byte) (int, error) {
	return once(syscall.SYS_SENDTO, fd, b, syscall.MSG_DONTWAIT|syscall.MSG_NOSIGNAL)
}

func once(trap, fd uintptr, b []byte, flags uintptr) (int, error) {
	for {
		n, _, e := syscall.RawSyscall6(trap, fd, uintptr(unsafe.Pointer(unsafe.SliceData(b))), uintptr(len(b)), flags, 0, 0)
		switch e {
		case 0:
			return int(n), nil
		case syscall.EINTR:
			continue
		}
		return 0, e
	}
}
