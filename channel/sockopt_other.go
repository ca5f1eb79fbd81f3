// SPDX-License-Identifier: Apache-2.0

//go:build !linux

package channel

import (
	"net"
	"time"
)

// limitSilence needs TCP_USER_TIMEOUT, which only Linux has.
func limitSilence(net.Conn, time.Duration) {}
