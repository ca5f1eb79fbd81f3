// SPDX-License-Identifier: Apache-2.0

package channel

import (
	"context"
	"errors"
	"net"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc/resolver"
	"google.golang.org/grpc/serviceconfig"

	"github.com/faultline-rpc/faultline/fault"
)

// fakeNames is a name server.
type fakeNames struct {
	answer func(host string) ([]string, error)

	mu    sync.Mutex
	bad   bool        // guarded by mu: answer SERVFAIL
	asked []time.Time // guarded by mu
}

func (n *fakeNames) lookup(ctx context.Context, host string) ([]string, error) {
	n.mu.Lock()
	n.asked = append(n.asked, time.Now())
	bad := n.bad
	n.mu.Unlock()
	if bad {
		return nil, &net.DNSError{Err: "server misbehaving", IsTemporary: true}
	}
	if n.answer == nil {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	return n.answer(host)
}

func (n *fakeNames) times() []time.Time {
	n.mu.Lock()
	defer n.mu.Unlock()
	return slices.Clone(n.asked)
}

func TestDNSRows(t *testing.T) {
	tests := []struct {
		name   string
		answer func(string) ([]string, error)
		want   expect
		flag   func(*net.DNSError) bool
	}{
		{"nxdomain", func(h string) ([]string, error) {
			return nil, &net.DNSError{Err: "no such host", Name: h, IsNotFound: true}
		}, expect{fault.ResolveNotFound, fault.Remote, fault.PickNoReady}, func(e *net.DNSError) bool { return e.IsNotFound }},
		{"empty answer", func(string) ([]string, error) { return nil, nil },
			expect{fault.ResolveNotFound, fault.Remote, fault.PickNoReady}, func(e *net.DNSError) bool { return e.IsNotFound }},
		{"servfail", func(h string) ([]string, error) {
			return nil, &net.DNSError{Err: "server misbehaving", Name: h, IsTemporary: true}
		}, expect{fault.ResolveFailed, fault.Remote, fault.PickNoReady}, func(e *net.DNSError) bool { return e.IsTemporary }},
		{"time-out", func(h string) ([]string, error) {
			return nil, &net.DNSError{Err: "i/o timeout", Name: h, IsTimeout: true}
		}, expect{fault.ResolveFailed, fault.Between, fault.PickNoReady}, func(e *net.DNSError) bool { return e.IsTimeout }},
		{"untyped", func(string) ([]string, error) { return nil, errors.New("odd") },
			expect{fault.ResolveFailed, fault.Remote, fault.PickNoReady}, func(e *net.DNSError) bool { return e.Err == "odd" }},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				n := &fakeNames{answer: tt.answer}
				c := newChannel(t, "svc.test:1", Config{Resolvers: []resolver.Builder{&dnsBuilder{lookup: n.lookup}}, NoProxy: true})
				f := wantFault(t, pickFault(t, c), tt.want)
				var dns *net.DNSError
				if !errors.As(f, &dns) || !tt.flag(dns) {
					t.Errorf("cause %#v", f.Unwrap())
				}
				if ev := f.Evidence(); ev.Host != "svc.test" || ev.Target != "svc.test:1" {
					t.Errorf("evidence %+v", ev)
				}
			})
		})
	}
}

// A look-up follows a request, but 30 s apart; failures are repeated with
// backoff, unasked.
func TestDNSPace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		begin := time.Now()
		n := &fakeNames{answer: func(string) ([]string, error) {
			return []string{"192.0.2.1", "2001:db8::1"}, nil
		}}
		cc := &recorder{}
		r, err := (&dnsBuilder{lookup: n.lookup}).Build(target(t, "dns:///svc.test:50051"), cc, resolver.BuildOptions{})
		if err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if got, _ := cc.seen(); !slices.Equal(got, []string{"192.0.2.1:50051", "[2001:db8::1]:50051"}) {
			t.Fatalf("addresses %q", got)
		}
		for range 5 {
			r.ResolveNow(resolver.ResolveNowOptions{})
		}
		time.Sleep(29 * time.Second)
		synctest.Wait()
		if asked := n.times(); len(asked) != 1 {
			t.Fatalf("asked %d times within 30 s", len(asked))
		}
		n.mu.Lock()
		n.bad = true
		n.mu.Unlock()
		time.Sleep(time.Second)
		synctest.Wait()
		if asked := n.times(); len(asked) != 2 || asked[1].Sub(begin) != dnsMinInterval {
			t.Fatalf("asked at %v, want once more after 30 s", asked)
		}
		time.Sleep(1200 * time.Millisecond) // 1 s +-20 %
		synctest.Wait()
		if asked := n.times(); len(asked) != 3 {
			t.Fatalf("asked %d times, want a third look-up after 1 s", len(asked))
		}
		time.Sleep(2 * time.Second) // 1.6 s +-20 %
		synctest.Wait()
		if asked := n.times(); len(asked) != 4 {
			t.Fatalf("asked %d times, want a fourth look-up", len(asked))
		}
		if _, errs := cc.seen(); len(errs) != 3 || !asError[*net.DNSError](errs[0]) {
			t.Errorf("errors %v", errs)
		}
		r.Close()
	})
}

func TestDNSSilence(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := &fakeNames{}
		cc := &recorder{}
		r, err := (&dnsBuilder{lookup: n.lookup}).Build(target(t, "dns:///svc.test"), cc, resolver.BuildOptions{})
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(dnsTimeout)
		synctest.Wait()
		var dns *net.DNSError
		if _, errs := cc.seen(); len(errs) != 1 || !errors.As(errs[0], &dns) || !dns.IsTimeout || !errors.Is(dns, context.DeadlineExceeded) {
			t.Errorf("errors %v", errs)
		}
		r.Close()
	})
}

func TestDNSLiterals(t *testing.T) {
	for in, want := range map[string]string{
		"127.0.0.1:80": "127.0.0.1:80", "127.0.0.1": "127.0.0.1:443", "[::1]": "[::1]:443", "::1": "[::1]:443", "[fe80::1]:7": "[fe80::1]:7",
	} {
		cc := &recorder{}
		r, err := (&dnsBuilder{}).Build(target(t, "dns:///"+in), cc, resolver.BuildOptions{})
		if err != nil || !slices.Equal(cc.addrs, []string{want}) {
			t.Errorf("%s: %q, %v; want %q", in, cc.addrs, err, want)
			continue
		}
		r.Close()
	}
}

// A name server in the authority is the one asked.
func TestDNSServer(t *testing.T) {
	pc, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	asked := make(chan struct{}, 16)
	done := make(chan struct{})
	go func() {
		defer close(done)
		buf := make([]byte, 512)
		for {
			n, from, err := pc.ReadFrom(buf)
			if err != nil {
				return
			}
			select {
			case asked <- struct{}{}:
			default:
			}
			buf[2], buf[3] = 0x81, 0x83 // response, NXDOMAIN
			_, _ = pc.WriteTo(buf[:n], from)
		}
	}()
	defer func() { pc.Close(); <-done }()
	noLeaks(t)
	c := newChannel(t, "dns://"+pc.LocalAddr().String()+"/nowhere.test.:1", Config{NoProxy: true})
	f := wantFault(t, pickFault(t, c), expect{fault.ResolveNotFound, fault.Remote, fault.PickNoReady})
	if !asError[*net.DNSError](f) {
		t.Errorf("cause %v", f.Unwrap())
	}
	<-asked
}

// A name server that says nothing holds up nobody who has given up.
func TestDNSCloseWhileSilent(t *testing.T) {
	pc, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer pc.Close()
	noLeaks(t)
	cc := &recorder{}
	r, err := new(dnsBuilder).Build(target(t, "dns://"+pc.LocalAddr().String()+"/nowhere.test.:1"), cc, resolver.BuildOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := pc.ReadFrom(make([]byte, 1500)); err != nil { // the question
		t.Fatal(err)
	}
	begin := time.Now()
	r.Close()
	if took := time.Since(begin); took > 2*time.Second {
		t.Errorf("Close took %v", took)
	}
	if _, errs := cc.seen(); len(errs) > 0 {
		t.Errorf("it reported %v after Close", errs)
	}
}

// target parses without New.
func target(t *testing.T, s string) resolver.Target {
	t.Helper()
	parsed, _, err := parseTarget(s, &Config{})
	if err != nil {
		t.Fatal(err)
	}
	return parsed
}

// recorder is a resolver.ClientConn that keeps what it is told.
type recorder struct {
	resolver.ClientConn
	mu    sync.Mutex
	addrs []string // guarded by mu
	errs  []error  // guarded by mu
}

func (r *recorder) seen() ([]string, []error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.addrs, r.errs
}

func (r *recorder) UpdateState(s resolver.State) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.addrs = nil
	for _, a := range s.Addresses {
		r.addrs = append(r.addrs, a.Addr)
	}
	return nil
}
func (r *recorder) ReportError(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.errs = append(r.errs, err)
}
func (r *recorder) ParseServiceConfig(string) *serviceconfig.ParseResult {
	return &serviceconfig.ParseResult{}
}
