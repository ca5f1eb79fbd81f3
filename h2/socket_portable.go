// SPDX-License-Identifier: Apache-2.0

//go:build unix && (!linux || race || 386 || s390x)

package h2

import "syscall"

// What the race detector knows of order between two ends of a socket in one
// program it knows from these calls.

func readOnce(fd uintptr, b []byte) (n int, err error) {
	for {
		if n, err = syscall.Read(int(fd), b); err != syscall.EINTR {
			return max(n, 0), err
		}
	}
}

func writeOnce(fd uintptr, b []byte, _ bool) (n int, err error) {
	for {
		if n, err = syscall.Write(int(fd), b); err != syscall.EINTR {
			return max(n, 0), err
		}
	}
}
