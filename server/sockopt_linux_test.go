// SPDX-License-Identifier: Apache-2.0

package server

import (
	"net"
	"testing"
	"time"

	"google.golang.org/grpc/keepalive"

	"github.com/faultline-rpc/faultline/internal/peer"
	"github.com/faultline-rpc/faultline/internal/sockopt"
)

// Keepalive's timeout is TCP_USER_TIMEOUT too; without keepalive the system's
// default stays (gRFC A18).
func TestUserTimeout(t *testing.T) {
	for _, tt := range []struct {
		kp   keepalive.ServerParameters
		want time.Duration
	}{
		{keepalive.ServerParameters{}, 20 * time.Second},
		{keepalive.ServerParameters{Timeout: 3 * time.Second}, 3 * time.Second},
		{keepalive.ServerParameters{Time: never}, 0},
	} {
		s := New(Config{Keepalive: tt.kp})
		lis, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		accepted := &keeping{lis, make(chan *net.TCPConn, 1)}
		served := make(chan error, 1)
		go func() { served <- s.Serve(accepted) }()
		nc, err := net.Dial("tcp", lis.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		p := peer.Client(t, nc, peer.Options{})
		p.Handshake() // it is served by now
		got, err := sockopt.SilenceLimit(<-accepted.conns)
		if err != nil || got != tt.want {
			t.Errorf("%+v: TCP_USER_TIMEOUT is %v, %v; want %v", tt.kp, got, err, tt.want)
		}
		p.Close()
		s.Stop()
		if err := <-served; err != nil {
			t.Error(err)
		}
	}
}

// keeping is a listener that shows what it accepted.
type keeping struct {
	net.Listener
	conns chan *net.TCPConn
}

func (k *keeping) Accept() (net.Conn, error) {
	nc, err := k.Listener.Accept()
	if err == nil {
		k.conns <- nc.(*net.TCPConn)
	}
	return nc, err
}
