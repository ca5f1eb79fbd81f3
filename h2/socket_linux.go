// SPDX-License-Identifier: Apache-2.0

//go:build linux && !race && !386 && !s390x

package h2

import (
	"syscall"
	"unsafe"
)

// MSG_DONTWAIT keeps these calls from blocking even on a socket that somebody
// put into blocking mode, as os.File.Fd does to all descriptors of one.

// readOnce does not tell the scheduler, which costs more than a small read.
func readOnce(fd uintptr, b []byte) (int, error) {
	for {
		n, _, e := syscall.RawSyscall6(syscall.SYS_RECVFROM, fd, uintptr(unsafe.Pointer(unsafe.SliceData(b))), uintptr(len(b)), syscall.MSG_DONTWAIT, 0, 0)
		if e != syscall.EINTR {
			return transferred(n, e)
		}
	}
}

// writeOnce tells the scheduler only of the write of a lone stream: where the
// program is idle otherwise this keeps its threads awake, and the answer is
// noticed a tenth sooner. Under load it costs a twentieth.
func writeOnce(fd uintptr, b []byte, alone bool) (int, error) {
	const flags = syscall.MSG_DONTWAIT | syscall.MSG_NOSIGNAL
	var n uintptr
	var e syscall.Errno
	for {
		if alone {
			n, _, e = syscall.Syscall6(syscall.SYS_SENDTO, fd, uintptr(unsafe.Pointer(unsafe.SliceData(b))), uintptr(len(b)), flags, 0, 0)
		} else {
			n, _, e = syscall.RawSyscall6(syscall.SYS_SENDTO, fd, uintptr(unsafe.Pointer(unsafe.SliceData(b))), uintptr(len(b)), flags, 0, 0)
		}
		if e != syscall.EINTR {
			return transferred(n, e)
		}
	}
}

func transferred(n uintptr, e syscall.Errno) (int, error) {
	if e != 0 {
		return 0, e
	}
	return int(n), nil
}
