// SPDX-License-Identifier: Apache-2.0

//go:build !race

package call

import (
	"bufio"
	"context"
	"io"
	"net"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	grpcpeer "google.golang.org/grpc/peer"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/faultline-rpc/faultline/channel"
)

// What a call costs on the client: the server here allocates nothing.
func TestUnaryAllocs(t *testing.T) {
	c, stop := echoServer(t)
	defer stop()
	req, reply := wrapperspb.Int64(7), new(wrapperspb.Int64Value)
	deadline, cancel := context.WithTimeout(context.Background(), time.Hour)
	defer cancel()
	for name, ctx := range map[string]context.Context{"background": context.Background(), "deadline": deadline} {
		n := testing.AllocsPerRun(500, func() {
			if err := c.Invoke(ctx, method, req, reply); err != nil {
				t.Fatal(err)
			}
		})
		t.Logf("%s: %v allocations", name, n)
		if n > 1 {
			t.Errorf("%s: %v allocations per call, want at most 1", name, n)
		}
	}
}

func TestResolveAllocs(t *testing.T) {
	opts := []grpc.CallOption{grpc.StaticMethod(), grpc.WaitForReady(true)}
	var o options
	if n := testing.AllocsPerRun(500, func() {
		if f := o.resolve(opts, nil); f != nil {
			t.Fatal(f)
		}
	}); n > 0 {
		t.Errorf("reading options allocates %v times", n)
	}
}

// echoServer answers in bytes that were made before: it reads frame headers
// alone, and allocates nothing for a request.
func echoServer(t *testing.T) (*Caller, func()) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		nc, err := l.Accept()
		if err != nil {
			return
		}
		defer nc.Close()
		quickAnswers(nc)
	}()
	c, ch := client(t, func(ctx context.Context, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "tcp", l.Addr().String())
	}, Config{})
	return c, func() { ch.Close(); l.Close(); <-done }
}

// quickAnswers answers each request with an empty message. The first answer
// enters its fields into the HPACK table, the others refer to them, as servers do.
func quickAnswers(nc net.Conn) {
	const preface = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
	r := bufio.NewReaderSize(nc, 64<<10)
	if _, err := io.ReadFull(r, make([]byte, len(preface))); err != nil {
		return
	}
	settings := []byte{0, 0, 0, 4, 0, 0, 0, 0, 0}
	ack := []byte{0, 0, 0, 4, 1, 0, 0, 0, 0}
	window := []byte{0, 0, 4, 8, 0, 0, 0, 0, 0, 0x7f, 0, 0, 0} // of the connection: enough for good
	if _, err := nc.Write(append(settings, window...)); err != nil {
		return
	}
	blocks := [][2]string{
		{"\x88\x5f\x10application/grpc", "\x40\x0bgrpc-status\x010"},
		{"\x88\xbf", "\xbe"},
	}
	payload, out := make([]byte, 1<<20), make([]byte, 0, 256)
	var head [9]byte
	for n := 0; ; {
		if _, err := io.ReadFull(r, head[:]); err != nil {
			return
		}
		length := int(head[0])<<16 | int(head[1])<<8 | int(head[2])
		if _, err := io.ReadFull(r, payload[:length]); err != nil {
			return
		}
		switch typ, flags := head[3], head[4]; {
		case typ == 4 && flags == 0:
			out = append(out[:0], ack...)
		case typ == 0 && flags&1 != 0:
			b := blocks[min(n, 1)]
			n++
			out = out[:0]
			for _, f := range [...]struct {
				typ, flags byte
				body       string
			}{{1, 4, b[0]}, {0, 0, "\x00\x00\x00\x00\x00"}, {1, 5, b[1]}} {
				out = append(out, 0, 0, byte(len(f.body)), f.typ, f.flags, head[5], head[6], head[7], head[8])
				out = append(out, f.body...)
			}
		default:
			continue
		}
		if _, err := nc.Write(out); err != nil {
			return
		}
	}
}

// What a service config and options say costs nothing while calls succeed.
func TestMethodConfigAllocs(t *testing.T) {
	c, stop := echoServer(t)
	defer stop()
	req, reply := wrapperspb.Int64(7), new(wrapperspb.Int64Value)
	wait, size := true, 1000
	for name, mc := range map[string]*channel.MethodConfig{
		"retry":  {Retry: &channel.RetryPolicy{MaxAttempts: 3, Retryable: 1 << codes.Unavailable}},
		"limits": {WaitForReady: &wait, MaxReq: &size, MaxResp: &size},
	} {
		c.cfg.Methods = said{mc, &channel.RetryThrottling{MaxTokens: 10, TokenRatio: 0.1}}
		p := new(grpcpeer.Peer)
		opts := []grpc.CallOption{grpc.Peer(p), grpc.WaitForReady(true)}
		n := testing.AllocsPerRun(500, func() {
			if err := c.Invoke(context.Background(), method, req, reply, opts...); err != nil {
				t.Fatal(err)
			}
		})
		if n > 0 {
			t.Errorf("%s: %v allocations per call, want none", name, n)
		}
	}
}

// said is a service config for all methods.
type said struct {
	method     *channel.MethodConfig
	throttling *channel.RetryThrottling
}

func (said) WaitForConfig(context.Context) error         { return nil }
func (s said) MethodConfig(string) *channel.MethodConfig { return s.method }
func (s said) RetryThrottling() *channel.RetryThrottling { return s.throttling }
