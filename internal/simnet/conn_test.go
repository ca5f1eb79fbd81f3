// SPDX-License-Identifier: Apache-2.0

package simnet

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

// wantOp fails unless err is a *net.OpError of that operation around target.
func wantOp(t *testing.T, err error, op string, target error) {
	t.Helper()
	var oe *net.OpError
	if !errors.As(err, &oe) || oe.Op != op || !errors.Is(err, target) {
		t.Fatalf("got %#v, want a *net.OpError of %q around %v", err, op, target)
	}
}

func write(t *testing.T, c net.Conn, s string) {
	t.Helper()
	if n, err := io.WriteString(c, s); n != len(s) || err != nil {
		t.Fatalf("Write(%q) = %d, %v", s, n, err)
	}
}

func TestFaultAtEveryByte(t *testing.T) {
	const text = "0123456789"
	tests := []struct {
		name  string
		fault func(int64) Fault
		end   func(t *testing.T, client, server *Conn, err error)
	}{
		{"cut", CutAfter, func(t *testing.T, client, server *Conn, err error) {
			wantOp(t, err, "read", syscall.ECONNRESET)
			_, err = server.Write([]byte("x"))
			wantOp(t, err, "write", syscall.EPIPE)
			_, err = client.Write([]byte("x"))
			wantOp(t, err, "write", syscall.EPIPE)
			_, err = client.Read(make([]byte, 1))
			wantOp(t, err, "read", syscall.ECONNRESET)
		}},
		{"fin", FINAfter, func(t *testing.T, client, server *Conn, err error) {
			if err != io.EOF {
				t.Fatalf("got %v, want io.EOF", err)
			}
			write(t, client, "lost")
			write(t, server, "still")
			b := make([]byte, 9)
			if n, err := client.Read(b); string(b[:n]) != "still" || err != nil {
				t.Fatalf("the other direction: %q, %v", b[:n], err)
			}
		}},
		{"stall", StallAfter, func(t *testing.T, client, server *Conn, err error) {
			wantOp(t, err, "read", os.ErrDeadlineExceeded)
			write(t, client, "!")
			client.CloseWrite()
			client.Resume()
			server.SetDeadline(time.Time{})
			rest, err := io.ReadAll(server)
			if err != nil || !bytes.HasSuffix([]byte(text+"!"), rest) || len(rest) == 0 {
				t.Fatalf("after Resume: %q, %v", rest, err)
			}
		}},
	}
	for _, tt := range tests {
		for _, latency := range []time.Duration{0, time.Second} {
			for n := range len(text) + 1 {
				for _, chunk := range []int{1, 3, len(text)} {
					t.Run(fmt.Sprintf("%s after %d, %v, by %d", tt.name, n, latency, chunk), func(t *testing.T) {
						synctest.Test(t, func(t *testing.T) {
							client, server := Pipe(Options{Latency: latency, ToServer: []Fault{tt.fault(int64(n))}})
							for rest := text; rest != ""; rest = rest[min(chunk, len(rest)):] {
								if _, err := io.WriteString(client, rest[:min(chunk, len(rest))]); err != nil {
									wantOp(t, err, "write", syscall.EPIPE)
									break
								}
							}
							server.SetDeadline(time.Now().Add(time.Minute))
							got, err := io.ReadAll(server)
							if string(got) != text[:n] {
								t.Fatalf("received %q, want %q", got, text[:n])
							}
							if err == nil {
								err = io.EOF
							}
							tt.end(t, client, server, err)
						})
					})
				}
			}
		}
	}
}

func TestCorruptAt(t *testing.T) {
	client, server := Pipe(Options{ToClient: []Fault{CorruptAt(4, 0x20), CorruptAt(0, 0xff)}})
	write(t, server, "abc")
	write(t, server, "def")
	server.Close()
	got, err := io.ReadAll(client)
	if want := "\x9ebcdEf"; string(got) != want || err != nil {
		t.Fatalf("got %q, %v, want %q", got, err, want)
	}
}

func TestFailedOperations(t *testing.T) {
	mine := errors.New("mine")
	client, server := Pipe(Options{Client: []OpFault{FailWrite(2, mine)}, Server: []OpFault{FailRead(1, syscall.ETIMEDOUT)}})
	write(t, client, "a")
	n, err := client.Write([]byte("b"))
	if n != 0 {
		t.Fatalf("the failed write took %d bytes", n)
	}
	wantOp(t, err, "write", mine)
	write(t, client, "c")
	_, err = server.Read(make([]byte, 1))
	wantOp(t, err, "read", syscall.ETIMEDOUT)
	b := make([]byte, 3)
	if n, err := server.Read(b); string(b[:n]) != "ac" || err != nil {
		t.Fatalf("read %q, %v, want \"ac\"", b[:n], err)
	}
}

func TestLatencyAndBandwidth(t *testing.T) {
	tests := []struct {
		name      string
		o         Options
		size      int
		first, in time.Duration
	}{
		{"latency", Options{Latency: 30 * time.Millisecond}, 5000, 30 * time.Millisecond, 30 * time.Millisecond},
		{"bandwidth", Options{Bandwidth: 1460}, 2920, time.Second, 2 * time.Second},
		{"both", Options{Bandwidth: 1000, Latency: time.Second}, 500, 1500 * time.Millisecond, 1500 * time.Millisecond},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				client, server := Pipe(tt.o)
				start := time.Now()
				write(t, client, string(make([]byte, tt.size)))
				client.Close()
				if _, err := server.Read(make([]byte, 1)); err != nil || time.Since(start) != tt.first {
					t.Fatalf("first byte after %v, %v, want %v", time.Since(start), err, tt.first)
				}
				rest, err := io.ReadAll(server)
				if len(rest) != tt.size-1 || err != nil || time.Since(start) != tt.in {
					t.Fatalf("%d bytes more after %v, %v, want %d after %v", len(rest), time.Since(start), err, tt.size-1, tt.in)
				}
			})
		})
	}
}

func TestBufferBoundsWrites(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client, server := Pipe(Options{Buffer: 10, MaxRead: 3})
		client.SetWriteDeadline(time.Now().Add(time.Minute))
		n, err := client.Write(make([]byte, 25))
		wantOp(t, err, "write", os.ErrDeadlineExceeded)
		if ne, ok := err.(net.Error); n != 10 || !ok || !ne.Timeout() {
			t.Fatalf("wrote %d, %v, want 10 and a timeout", n, err)
		}
		client.SetWriteDeadline(time.Time{})
		go func() {
			client.Write(make([]byte, 25))
			client.CloseWrite()
		}()
		if n, _ := server.Read(make([]byte, 9)); n != 3 {
			t.Fatalf("read %d bytes at once, want MaxRead", n)
		}
		rest, err := io.ReadAll(server)
		if len(rest) != 32 || err != nil {
			t.Fatalf("read %d, %v, want 32", len(rest), err)
		}
		if client.Sent() != 35 {
			t.Fatalf("Sent() = %d, want 35", client.Sent())
		}
		if _, err := client.Write([]byte("x")); !errors.Is(err, syscall.EPIPE) {
			t.Fatalf("write after CloseWrite: %v, want EPIPE", err)
		}
	})
}

func TestWhatEndsABlockedOperation(t *testing.T) {
	past := time.Unix(1, 0)
	tests := []struct {
		name        string
		end         func(own, other *Conn)
		read, write error // of the own end
	}{
		{"own Close", func(own, _ *Conn) { own.Close() }, net.ErrClosed, net.ErrClosed},
		{"other's Close", func(_, other *Conn) { other.Close() }, io.EOF, syscall.EPIPE},
		{"cut", func(own, _ *Conn) { own.Cut() }, syscall.ECONNRESET, syscall.EPIPE},
		{"cut by the other", func(_, other *Conn) { other.Cut() }, syscall.ECONNRESET, syscall.EPIPE},
		{"deadline", func(own, _ *Conn) { own.SetDeadline(past) }, os.ErrDeadlineExceeded, os.ErrDeadlineExceeded},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				own, other := Pipe(Options{Buffer: 1})
				write(t, own, "x")
				read, wrote := make(chan error, 1), make(chan error, 1)
				go func() { _, err := own.Read(make([]byte, 1)); read <- err }()
				go func() { _, err := own.Write([]byte("y")); wrote <- err }()
				synctest.Wait()
				if len(read)+len(wrote) != 0 {
					t.Fatal("an operation did not block")
				}
				tt.end(own, other)
				if err := <-read; !errors.Is(err, tt.read) {
					t.Errorf("read: %v, want %v", err, tt.read)
				}
				if err := <-wrote; !errors.Is(err, tt.write) {
					t.Errorf("write: %v, want %v", err, tt.write)
				}
			})
		})
	}
}

func TestCutLosesWhatIsUnderWay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client, server := Pipe(Options{Latency: time.Second})
		write(t, client, "arrived")
		time.Sleep(1500 * time.Millisecond)
		write(t, client, " lost")
		client.Cut()
		got, err := io.ReadAll(server)
		if string(got) != "arrived" {
			t.Errorf("read %q, want %q", got, "arrived")
		}
		wantOp(t, err, "read", syscall.ECONNRESET)
		if want := "read tcp 10.0.0.2:443->10.0.0.1:40000: read: connection reset by peer"; err.Error() != want {
			t.Errorf("got %q, want %q", err, want)
		}
	})
}

func TestClosedFails(t *testing.T) {
	client, _ := Pipe(Options{})
	if err := client.Close(); err != nil {
		t.Fatal(err)
	}
	wantOp(t, client.Close(), "close", net.ErrClosed)
	wantOp(t, client.CloseWrite(), "close", net.ErrClosed)
	wantOp(t, client.SetDeadline(time.Now()), "set", net.ErrClosed)
}
