// SPDX-License-Identifier: Apache-2.0

package server

import (
	"net"
	"syscall"
	"testing"
	"time"

	"google.golang.org/grpc/keepalive"

	"github.com/faultline-rpc/faultline/internal/peer"
)

// Keepalive's timeout is TCP_USER_TIMEOUT too; without keepalive the system's
// default stays (gRFC A18).
func TestUserTimeout(t *testing.T) {
	for _, tt := range []struct {
		kp   keepalive.ServerParameters
		want int
	}{
		{keepalive.ServerParameters{}, 20000},
		{keepalive.ServerParameters{Timeout: 3 * time.Second}, 3000},
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
		raw, err := (<-accepted.conns).SyscallConn()
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
