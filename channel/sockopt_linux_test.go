// SPDX-License-Identifier: Apache-2.0

package channel

import (
	"net"
	"testing"
	"time"

	"google.golang.org/grpc/keepalive"

	"github.com/faultline-rpc/faultline/internal/sockopt"
)

// Keepalive's timeout is TCP_USER_TIMEOUT too; without keepalive the system's
// default stays (gRFC A18).
func TestUserTimeout(t *testing.T) {
	noLeaks(t)
	addr := listen(t, func(nc net.Conn) { goodPeer("", nc) })
	for _, tt := range []struct {
		kp   keepalive.ClientParameters
		want time.Duration
	}{{keepalive.ClientParameters{}, 0}, {keepalive.ClientParameters{Time: time.Minute}, 20 * time.Second}, {keepalive.ClientParameters{Time: time.Minute, Timeout: 3 * time.Second}, 3 * time.Second}} {
		c := newChannel(t, "passthrough:///"+addr, Config{NoProxy: true, Keepalive: tt.kp})
		got, err := sockopt.SilenceLimit(mustPick(t, c).Conn.NetConn().(*net.TCPConn))
		if err != nil || got != tt.want {
			t.Errorf("%+v: TCP_USER_TIMEOUT is %v, %v; want %v", tt.kp, got, err, tt.want)
		}
	}
}
