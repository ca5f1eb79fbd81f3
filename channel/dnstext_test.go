// SPDX-License-Identifier: Apache-2.0

package channel

import (
	"context"
	"errors"
	"net"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/net/dns/dnsmessage"
	"google.golang.org/grpc/resolver"

	"github.com/faultline-rpc/faultline/fault"
)

func TestChooseConfig(t *testing.T) {
	me := client{host: "web1", percent: 49}
	for in, want := range map[string]string{
		``:                                   ``,
		`other=[{"serviceConfig":{}}]`:       ``,
		`grpc_config=[]`:                     ``,
		`grpc_config=[{"serviceConfig":{}}]`: `{}`,
		`grpc_config=[{"clientLanguage":["java","GO"],"serviceConfig":{"a":1}}]`:                       `{"a":1}`,
		`grpc_config=[{"clientLanguage":["java"],"serviceConfig":{}},{"serviceConfig":{"b":1}}]`:       `{"b":1}`,
		`grpc_config=[{"clientHostName":["web2"],"serviceConfig":{}}]`:                                 ``,
		`grpc_config=[{"clientHostName":["web1"],"serviceConfig":{}}]`:                                 `{}`,
		`grpc_config=[{"percentage":49,"serviceConfig":{}},{"percentage":50,"serviceConfig":{"c":1}}]`: `{"c":1}`,
		`grpc_config=[{"percentage":100}]`:                                                             ``,
	} {
		if got, err := chooseConfig([]string{"v=spf1", in}, me); got != want || err != nil {
			t.Errorf("%s: %q, %v; want %q", in, got, err, want)
		}
	}
	for in, want := range map[string]string{
		`grpc_config={}`:                                         `the TXT record holds {}; expected a list`,
		`grpc_config=[1]`:                                        `the TXT record[0] holds 1; expected an object`,
		`grpc_config=[{"percentage":101}]`:                       `the TXT record[0].percentage holds 101; expected a whole number, 0 to 100`,
		`grpc_config=[{"clientLanguage":"go"}]`:                  `the TXT record[0].clientLanguage holds "go"; expected a list`,
		`grpc_config=[{"clientHostName":[1]}]`:                   `the TXT record[0].clientHostName[0] holds 1; expected a string`,
		`grpc_config=` + strings.Repeat(" ", maxServiceConfig+1): `expected at most 1048576`,
	} {
		var ce *ConfigError
		if got, err := chooseConfig([]string{in}, me); got != "" || !errors.As(err, &ce) || !strings.Contains(err.Error(), want) {
			t.Errorf("%.60s: %q, %v; want %s", in, got, err, want)
		}
	}
}

func FuzzChooseConfig(f *testing.F) {
	f.Add(`grpc_config=[{"percentage":50,"clientLanguage":["go"],"clientHostName":["a"],"serviceConfig":{"a":1}}]`)
	f.Add(`grpc_config=[{}]`)
	f.Add(`grpc_config=`)
	f.Fuzz(func(t *testing.T, record string) {
		js, err := chooseConfig([]string{record}, client{"a", 3})
		if err != nil && js != "" {
			t.Fatalf("%q and %v", js, err)
		}
		if js != "" && !strings.Contains(record, js) {
			t.Fatalf("%q is not from %q", js, record)
		}
	})
}

// The service config of a TXT record applies; without one, and with one that
// cannot be looked up, calls go on.
func TestTXTServiceConfig(t *testing.T) {
	const record = `grpc_config=[{"serviceConfig":{"methodConfig":[{"name":[{}],"timeout":"7s"}]}}]`
	tests := []struct {
		name     string
		answer   []string
		err      error
		off      bool
		env      string
		want     time.Duration
		fault    *fault.Entry
		silently bool // nobody may ask
	}{
		{name: "there", answer: []string{record}, want: 7 * time.Second},
		{name: "absent", err: &net.DNSError{IsNotFound: true}},
		{name: "servfail", err: &net.DNSError{IsTemporary: true}},
		{name: "bad", answer: []string{"grpc_config=?"}, fault: fault.ResolveBadServiceConfig},
		{name: "disabled", answer: []string{record}, off: true, silently: true},
		{name: "disabled by environment", answer: []string{record}, env: "false", silently: true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if tt.env != "" {
				t.Setenv("GRPC_ENABLE_TXT_SERVICE_CONFIG", tt.env)
			}
			synctest.Test(t, func(t *testing.T) {
				f := &farm{serve: goodPeer}
				b := &dnsBuilder{lookup: func(context.Context, string) ([]string, error) { return []string{"192.0.2.1"}, nil }}
				b.text = func(_ context.Context, name string) ([]string, error) {
					if name != "_grpc_config.svc.test" || tt.silently {
						t.Errorf("asked for %q", name)
					}
					return tt.answer, tt.err
				}
				c := newChannel(t, "svc.test:1", Config{Dialer: f.dial, NoProxy: true, DisableServiceConfig: tt.off, Resolvers: []resolver.Builder{b}})
				if tt.fault != nil {
					wantFault(t, pickFault(t, c), expect{tt.fault, fault.Remote, fault.PickNoReady})
					return
				}
				mustPick(t, c)
				mc := c.MethodConfig("/s/M")
				if (mc != nil) != (tt.want > 0) || mc != nil && *mc.Timeout != tt.want {
					t.Errorf("method config %+v", mc)
				}
			})
		})
	}
}

// nameServer answers on a UDP socket.
func nameServer(t *testing.T, answer func(q dnsmessage.Question) (dnsmessage.RCode, []dnsmessage.ResourceBody)) string {
	t.Helper()
	pc, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		buf := make([]byte, 1500)
		for {
			n, from, err := pc.ReadFrom(buf)
			if err != nil {
				return
			}
			var m dnsmessage.Message
			if m.Unpack(buf[:n]) != nil || len(m.Questions) == 0 {
				continue
			}
			q := m.Questions[0]
			code, bodies := answer(q)
			out := dnsmessage.Message{Header: dnsmessage.Header{ID: m.ID, Response: true, RecursionAvailable: true, RCode: code}, Questions: m.Questions}
			for _, b := range bodies {
				out.Answers = append(out.Answers, dnsmessage.Resource{Header: dnsmessage.ResourceHeader{Name: q.Name, Class: q.Class, TTL: 60}, Body: b})
			}
			if packed, err := out.Pack(); err == nil {
				_, _ = pc.WriteTo(packed, from)
			}
		}
	})
	t.Cleanup(func() { pc.Close(); wg.Wait() })
	return pc.LocalAddr().String()
}

// A real name server of one's own: addresses and service config, SERVFAIL, and
// silence of the network (nothing listens).
func TestNameServer(t *testing.T) {
	noLeaks(t)
	addr := listen(t, func(nc net.Conn) { goodPeer("", nc) })
	_, port, _ := net.SplitHostPort(addr)
	ns := nameServer(t, func(q dnsmessage.Question) (dnsmessage.RCode, []dnsmessage.ResourceBody) {
		name := q.Name.String()
		switch {
		case strings.HasPrefix(name, "broken."):
			return dnsmessage.RCodeServerFailure, nil
		case q.Type == dnsmessage.TypeTXT && name == "_grpc_config.svc.test.":
			return 0, []dnsmessage.ResourceBody{&dnsmessage.TXTResource{TXT: []string{`grpc_config=[{"serviceConfig":`, `{"methodConfig":[{"name":[{}],"waitForReady":true}]}}]`}}}
		case q.Type == dnsmessage.TypeA:
			return 0, []dnsmessage.ResourceBody{&dnsmessage.AResource{A: [4]byte{127, 0, 0, 1}}}
		}
		return 0, nil
	})
	c := newChannel(t, "dns://"+ns+"/svc.test.:"+port, Config{NoProxy: true})
	if p := mustPick(t, c); p.link.addr.Addr != addr {
		t.Errorf("connected to %s, want %s", p.link.addr.Addr, addr)
	}
	if mc := c.MethodConfig("/s/M"); mc == nil || !*mc.WaitForReady {
		t.Errorf("method config %+v", mc)
	}
	c = newChannel(t, "dns://"+ns+"/broken.test.:1", Config{NoProxy: true})
	f := wantFault(t, pickFault(t, c), expect{fault.ResolveFailed, fault.Remote, fault.PickNoReady})
	var dns *net.DNSError
	if !errors.As(f, &dns) || !dns.IsTemporary || dns.IsNotFound || f.Evidence().Host != "broken.test." || dns.Server != ns {
		t.Errorf("SERVFAIL: %#v, %+v", dns, f.Evidence())
	}
}
