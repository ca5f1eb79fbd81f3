// SPDX-License-Identifier: Apache-2.0

package channel

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/resolver"

	"github.com/faultline-rpc/faultline/fault"
)

// Every error number reaches its circumstance through a call, whatever wraps
// it, with the number at the end of the chain.
func TestDialRows(t *testing.T) {
	op := func(err error) error {
		return &net.OpError{Op: "dial", Net: "tcp", Err: os.NewSyscallError("connect", err)}
	}
	row := func(e *fault.Entry, s fault.Side) expect { return expect{e, s, fault.PickNoReady} }
	tests := []struct {
		name   string
		target string
		err    error
		want   expect
	}{
		{"refused", "", op(syscall.ECONNREFUSED), row(fault.DialRefused, fault.Remote)},
		{"refused on windows", "", op(syscall.Errno(10061)), row(fault.DialRefused, fault.Remote)},
		{"wrapped", "", fmt.Errorf("my dialer: %w", op(syscall.ECONNREFUSED)), row(fault.DialRefused, fault.Remote)},
		{"no network", "", op(syscall.ENETUNREACH), row(fault.DialUnreachable, fault.Between)},
		{"no host", "", op(syscall.EHOSTUNREACH), row(fault.DialUnreachable, fault.Between)},
		{"a blackhole route", "", op(syscall.EINVAL), row(fault.DialUnreachable, fault.Between)},
		{"no network on windows", "", op(syscall.Errno(10051)), row(fault.DialUnreachable, fault.Between)},
		{"no host on windows", "", op(syscall.Errno(10065)), row(fault.DialUnreachable, fault.Between)},
		{"kernel time-out", "", op(syscall.ETIMEDOUT), row(fault.DialTimeout, fault.Between)},
		{"time-out on windows", "", op(syscall.Errno(10060)), row(fault.DialTimeout, fault.Between)},
		{"net time-out", "", &net.OpError{Op: "dial", Err: os.ErrDeadlineExceeded}, row(fault.DialTimeout, fault.Between)},
		{"permission", "", op(syscall.EACCES), row(fault.DialPermission, fault.Local)},
		{"not permitted", "", op(syscall.EPERM), row(fault.DialPermission, fault.Local)},
		{"access on windows", "", op(syscall.Errno(10013)), row(fault.DialPermission, fault.Local)},
		{"no socket", "unix:/no/such", op(syscall.ENOENT), row(fault.DialMissing, fault.Local)},
		{"no directory", "unix:/no/such", op(syscall.ENOTDIR), row(fault.DialMissing, fault.Local)},
		{"a file is missing", "", op(syscall.ENOENT), row(fault.DialFailed, fault.Local)},
		{"name in dial", "", &net.OpError{Op: "dial", Err: &net.DNSError{Name: "x", IsNotFound: true}}, row(fault.ResolveNotFound, fault.Remote)},
		{"anything", "", errCustom, row(fault.DialFailed, fault.Local)},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := &farm{refuse: func(string) error { return tt.err }}
				if tt.target == "" {
					tt.target = "passthrough:///svc:1"
				}
				c := newChannel(t, tt.target, Config{Dialer: f.dial})
				got := wantFault(t, pickFault(t, c), tt.want)
				if !errors.Is(got, tt.err) {
					t.Errorf("cause %v is cut off", tt.err)
				}
				if ev := got.Evidence(); ev.Address == "" || ev.Network == "" || ev.Target != tt.target {
					t.Errorf("evidence %+v", ev)
				}
			})
		})
	}
}

var errCustom = errors.New("custom dialer's own reason")

func TestDialRefused(t *testing.T) {
	noLeaks(t)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := l.Addr().String()
	l.Close()
	c := newChannel(t, addr, Config{})
	f := wantFault(t, pickFault(t, c), expect{fault.DialRefused, fault.Remote, fault.PickNoReady})
	if !asError[*net.OpError](f) || f.Evidence().Address != addr || f.Evidence().Network != "tcp" {
		t.Errorf("%v: %+v", f, f.Evidence())
	}
	if runtime.GOOS != "windows" && !errors.Is(f, syscall.ECONNREFUSED) {
		t.Errorf("%v: ECONNREFUSED is not in the chain", f)
	}
	wantState(t, c, connectivity.TransientFailure)
}

func TestDialUnix(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Log("unix sockets are tested on unix")
		return
	}
	noLeaks(t)
	dir := t.TempDir()
	path := filepath.Join(dir, "s")
	c := newChannel(t, "unix://"+path, Config{})
	f := wantFault(t, pickFault(t, c), expect{fault.DialMissing, fault.Local, fault.PickNoReady})
	if !errors.Is(f, fs.ErrNotExist) || f.Evidence().Address != path || f.Evidence().Network != "unix" {
		t.Errorf("%v: %+v", f, f.Evidence())
	}

	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		nc, err := l.Accept()
		if err == nil {
			goodPeer("", nc)
		}
	}()
	defer l.Close()
	c.ResetConnectBackoff()
	p := mustPick(t, c)
	if p.Peer.Addr.String() != path || p.Authority != "localhost" {
		t.Errorf("peer %v authority %q", p.Peer.Addr, p.Authority)
	}
}

func TestDialAbstract(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Log("abstract sockets are Linux's")
		return
	}
	noLeaks(t)
	name := "faultline-" + filepath.Base(t.TempDir()) + strconv.Itoa(os.Getpid())
	l, err := net.Listen("unix", "@"+name)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		if nc, err := l.Accept(); err == nil {
			goodPeer("", nc)
		}
	}()
	if p := mustPick(t, newChannel(t, "unix-abstract:"+name, Config{})); p.Peer.Addr.String() != "@"+name {
		t.Errorf("peer %v", p.Peer.Addr)
	}
}

// A dial that gets no answer ends with the connect deadline.
func TestDialTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newChannel(t, "passthrough:///svc:1", Config{Dialer: func(ctx context.Context, _ string) (net.Conn, error) {
			<-ctx.Done()
			return nil, ctx.Err()
		}})
		begin := time.Now()
		f := wantFault(t, pickFault(t, c), expect{fault.DialTimeout, fault.Between, fault.PickNoReady})
		if spent := time.Since(begin); spent != 20*time.Second {
			t.Errorf("gave up after %v, want 20 s", spent)
		}
		if !errors.Is(f, context.DeadlineExceeded) {
			t.Errorf("cause %v", f.Unwrap())
		}
	})
}

// A dialer that ignores its context does not hold the channel in CONNECTING;
// the connection it makes too late is closed.
func TestDialerOverdue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		late := make(chan net.Conn)
		c := newChannel(t, "passthrough:///svc:1", Config{Dialer: func(context.Context, string) (net.Conn, error) {
			return <-late, nil
		}})
		wantFault(t, pickFault(t, c), expect{fault.DialTimeout, fault.Local, fault.PickNoReady})
		here, there := net.Pipe()
		c.Close()
		late <- here
		drain(there)
		close(late) // for the attempts that followed
	})
}

func TestDialerAddress(t *testing.T) {
	for target, want := range map[string]string{
		"unix:///abs":            "unix:///abs",
		"unix:rel":               "unix:rel",
		"unix-abstract:name":     "unix:@name",
		"passthrough:///bufnet":  "bufnet",
		"passthrough:///unix:/x": "unix:///x",
	} {
		synctest.Test(t, func(t *testing.T) {
			f := &farm{refuse: func(string) error { return errCustom }}
			c := newChannel(t, target, Config{Dialer: f.dial})
			_ = pickFault(t, c)
			if got := f.seen(); got[0].addr != want {
				t.Errorf("%s: dialer got %q, want %q", target, got[0].addr, want)
			}
		})
	}
	synctest.Test(t, func(t *testing.T) {
		c := newChannel(t, "passthrough:///x", Config{Dialer: func(context.Context, string) (net.Conn, error) { return nil, nil }})
		wantFault(t, pickFault(t, c), expect{fault.DialFailed, fault.Local, fault.PickNoReady})
	})
}

func TestPlan(t *testing.T) {
	c := newChannel(t, "passthrough:///x", Config{NoProxy: true})
	for in, want := range map[string]dialPlan{
		"host:1":    {network: "tcp", address: "host:1"},
		"unix:/x":   {network: "unix", address: "/x"},
		"unix:///x": {network: "unix", address: "/x"},
		"unix:x":    {network: "unix", address: "x"},
	} {
		if got := c.plan(resolver.Address{Addr: in}); got != want {
			t.Errorf("%s: %+v, want %+v", in, got, want)
		}
	}
}

// A reset that comes before the dial has returned is that of what follows.
func TestResetAtOnce(t *testing.T) {
	reset := &net.OpError{Op: "dial", Err: os.NewSyscallError("connect", syscall.ECONNRESET)}
	for _, tt := range []struct {
		creds credentials.TransportCredentials
		want  *fault.Entry
	}{
		{insecure.NewCredentials(), fault.HTTP2ConnectionLost},
		{credentials.NewTLS(nil), fault.TLSHandshake},
	} {
		c := &Channel{cfg: Config{Creds: tt.creds}}
		f := c.resetAtOnce(reset, fault.Evidence{Address: "192.0.2.1:443"})
		if f.Entry() != tt.want || f.Processed() != fault.No || f.Side() != fault.Remote || !errors.Is(f, syscall.ECONNRESET) {
			t.Errorf("%+v, want %s", f, tt.want.ID)
		}
	}
}
