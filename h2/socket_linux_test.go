// SPDX-License-Identifier: Apache-2.0

//go:build linux && !race && !386 && !s390x

package h2

import (
	"io"
	"net"
	"testing"
)

// A socket that somebody put into blocking mode does not make the connection's
// reads and writes block.
func TestSocketInBlockingMode(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	near, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer near.Close()
	far, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer far.Close()
	f, err := near.(*net.TCPConn).File()
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	f.Fd() // shares its mode with near, and makes it blocking

	s := newSocket(near)
	read := make(chan error, 1)
	go func() { // it waits in the runtime, not in the kernel, or the rest of this test would hang
		var b [8]byte
		n, err := io.ReadFull(readerOf(s.read), b[:5])
		if err == nil && string(b[:n]) != "hello" {
			t.Errorf("read %q", b[:n])
		}
		read <- err
	}()
	sent, chunk := 0, make([]byte, 1<<20)
	for n := len(chunk); n == len(chunk); sent += n { // until the socket has no room
		n = s.tryWrite(chunk, sent == 0)
	}
	if sent < len(chunk)/100 {
		t.Errorf("the socket took %d bytes", sent)
	}
	if _, err := far.Write([]byte("hello")); err != nil {
		t.Fatal(err)
	}
	if err := <-read; err != nil {
		t.Error(err)
	}
}

type readerOf func([]byte) (int, error)

func (r readerOf) Read(b []byte) (int, error) { return r(b) }
