// SPDX-License-Identifier: Apache-2.0

package channel

import (
	"net"
	"syscall"
	"testing"
	"time"

	"google.golang.org/grpc/keepalive"
)

// Keepalive's timeout is TCP_USER_TIMEOUT too; without keepalive the system's
// default stays (gRFC A18).
func TestUserTimeout(t *testing.T) {
	noLeaks(t)
	addr := listen(t, func(nc net.Conn) { goodPeer("", nc) })
	for _, tt := range []struct {
		kp   keepalive.ClientParameters
		want int
	}{{keepalive.ClientParameters{}, 0}, {keepalive.ClientParameters{Time: time.Minute}, 20000}, {keepalive.ClientParameters{Time: time.Minute, Timeout: 3 * time.Second}, 3000}} {
		c := newChannel(t, "passthrough:///"+addr, Config{NoProxy: true, Keepalive: tt.kp})
		raw, err := mustPick(t, c).Conn.NetConn().(*net.TCPConn).SyscallConn()
		if err != nil {
			t.Fatal(err)
		}
		var got int
		if err := raw.Control(func(fd uintptr) {
			got, err = syscall.GetsockoptInt(int(fd), syscall.IPPROTO_TCP, 18 /* TCP_USER_TIMEOUT, tcp(7) */)
		}); err != nil {
			t.Fatal(err)
		}
		if err != nil || got != tt.want {
			t.Errorf("%+v: TCP_USER_TIMEOUT is %d ms, %v; want %d", tt.kp, got, err, tt.want)
		}
	}
}
