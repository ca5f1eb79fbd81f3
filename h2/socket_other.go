// SPDX-License-Identifier: Apache-2.0

//go:build !unix

package h2

import "net"

// socket is where a system offers no reads and writes that do not block.
type socket struct{}

func newSocket(net.Conn) *socket { return nil }

func (*socket) read([]byte) (int, error) { return 0, nil }

func (*socket) tryWrite([]byte, bool) int { return 0 }
