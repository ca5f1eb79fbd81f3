// SPDX-License-Identifier: Apache-2.0

//go:build linux && !race

package h2

import (
	"syscall"
	"unsafe"
)

// The scheduler is not told of these calls, which do not block: telling it
// costs more than a small read, and wakes a thread of its own where the program
// was idle.

func readOnce(fd uintptr, b []byte) (int, error) { return once(syscall.SYS_READ, fd, b) }

func writeOnce(fd uintptr, b []byte) (int, error) { return once(syscall.SYS_WRITE, fd, b) }

func once(trap, fd uintptr, b []byte) (int, error) {
	for {
		n, _, e := syscall.RawSyscall(trap, fd, uintptr(unsafe.Pointer(unsafe.SliceData(b))), uintptr(len(b)))
		switch e {
		case 0:
			return int(n), nil
		case syscall.EINTR:
			continue
		}
		return 0, e
	}
}
