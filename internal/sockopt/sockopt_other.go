// SPDX-License-Identifier: Apache-2.0

//go:build !linux

package sockopt

import (
	"net"
	"time"
)

// LimitSilence needs TCP_USER_TIMEOUT, which only Linux has.
func LimitSilence(net.Conn, time.Duration) {}
