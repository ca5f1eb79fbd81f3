// SPDX-License-Identifier: Apache-2.0

package doctor

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/net/http2"

	"github.com/faultline-rpc/faultline/codes"
	"github.com/faultline-rpc/faultline/fault"
	"github.com/faultline-rpc/faultline/internal/peer"
	"github.com/faultline-rpc/faultline/internal/simnet"
)

// TestTimes has peers that fall silent, in fake time: what is said, and when.
func TestTimes(t *testing.T) {
	tests := []struct {
		name    string
		host    host
		id      fault.ID
		message string
		took    time.Duration
	}{
		{"accepts and says nothing", saying(peer.Mute()), "http2.preface-timeout", "", 7 * time.Second}, // with a second opinion's two
		{"does not answer PINGs", serving(well, peer.Options{NoPingAck: true}), "http2.keepalive",
			"http2.keepalive: 10.0.0.1:1 sent nothing for 5s and did not answer a keepalive ping within 5s", 5 * time.Second},
		{"does not acknowledge SETTINGS", serving(well, peer.Options{NoSettingsAck: true}), "http2.settings-timeout",
			"http2.settings-timeout: 10.0.0.1:1 answered a PING but did not acknowledge SETTINGS within 5s", 5 * time.Second},
		{"does not answer the call", serving(noAnswer), "call.deadline",
			"call.deadline: the deadline of 5s expired while /grpc.health.v1.Health/Check waited for response headers; the peer answers PINGs: it is slow, or stuck", 5 * time.Second},
		{"freezes under the call", serving(freeze), "call.deadline",
			"call.deadline: the deadline of 5s expired while /grpc.health.v1.Health/Check waited for response headers; nor does the peer answer a PING any more: it, or the network, is dead", 6 * time.Second},
		{"sends headers and no message", serving(peer.Each(func(p *peer.Peer, s uint32) error {
			return p.SendHeaders(s, false, ":status", "200", "content-type", "application/grpc")
		})), "call.deadline",
			"call.deadline: the deadline of 5s expired while /grpc.health.v1.Health/Check waited for a response message; the peer answers PINGs: it is slow, or stuck", 5 * time.Second},
		{"allows no stream", serving(well, peer.Options{Settings: []http2.Setting{{ID: http2.SettingMaxConcurrentStreams}}}), "call.deadline",
			"call.deadline: the deadline of 5s expired while /grpc.health.v1.Health/Check waited for a free stream (MAX_CONCURRENT_STREAMS); the peer answers PINGs: it is slow, or stuck", 5 * time.Second},
		{"gives no window", serving(well, peer.Options{Settings: []http2.Setting{{ID: http2.SettingInitialWindowSize}}}), "call.deadline",
			"call.deadline: the deadline of 5s expired while /grpc.health.v1.Health/Check waited for the server to take the request (its flow-control window is used up); the peer answers PINGs: it is slow, or stuck", 5 * time.Second},
		{"is slow", serving(peer.Each(peer.After(2*time.Second, peer.OK([]byte{8, 1})))), "", "", 4 * time.Second},
		{"swallows packets", failing(nil), "dial.timeout", "", 5 * time.Second},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				start := time.Now()
				r := Examine(t.Context(), Config{Target: "passthrough:///10.0.0.1:1", Dialer: network(t, map[string]host{"10.0.0.1:1": tt.host})})
				if took := time.Since(start); r.Verdict.ID != tt.id || tt.message != "" && r.Verdict.Message != tt.message || took.Round(10*time.Millisecond) != tt.took {
					t.Errorf("%q after %v: %s\nwant %q after %v: %s", r.Verdict.ID, took, r.Verdict.Message, tt.id, tt.took, tt.message)
				}
			})
		})
	}
}

// freeze answers PINGs until a call comes.
func freeze(p *peer.Peer) error {
	if _, err := p.Handshake(); err != nil {
		return err
	}
	for {
		f, err := p.Next()
		if err != nil {
			return err
		}
		if f.End {
			p.Conn().(*simnet.Conn).Stall()
		}
	}
}

// TestAddresses has targets with several addresses.
func TestAddresses(t *testing.T) {
	refused, noRoute := failing(syscall.ECONNREFUSED), failing(syscall.ENETUNREACH)
	good := func() host { return serving(well) }
	tests := []struct {
		name  string
		hosts []host // [::1]:1, 10.0.0.1:1, ...
		id    fault.ID
		rung  string // that has something to say
		note  fault.ID
		want  string // in its summary
	}{
		{"both well", []host{good(), good()}, "", "addresses", "", "all 2 addresses answer alike"},
		{"IPv6 without a route", []host{noRoute, good()}, "", "dial", "dial.unreachable", "1 of 2 addresses connected; [::1]:1: dial.unreachable"},
		{"IPv6 refused", []host{refused, good()}, "", "dial", "dial.refused", "1 of 2 addresses connected; [::1]:1: dial.refused"},
		{"IPv6 swallowed", []host{failing(nil), good()}, "", "dial", "dial.timeout", "1 of 2 addresses connected; [::1]:1: dial.timeout"},
		{"no route, and refused", []host{noRoute, refused}, "dial.refused", "dial", "dial.refused", "nothing listens"},
		{"refused, and no route", []host{refused, noRoute}, "dial.refused", "dial", "dial.refused", "nothing listens"},
		{"swallowed, and no route", []host{failing(nil), noRoute}, "dial.timeout", "dial", "dial.timeout", ""},
		{"another service first", []host{saying(peer.HTTP1()), good()}, "", "addresses", "http2.http1-peer", "1 of 2 addresses differ: [::1]:1: http2.http1-peer"},
		{"two other services", []host{saying(peer.SSH()), saying(peer.HTTP1())}, "http2.http1-peer", "http2", "http2.http1-peer", "HTTP/1"},
		{"one of three not serving", []host{good(), serving(peer.Each(peer.OK([]byte{8, 2}))), good()}, "", "addresses", "pick.unhealthy", "1 of 3 addresses differ: 10.0.0.1:1: pick.unhealthy"},
		{"one of three broken", []host{good(), good(), serving(peer.Each(peer.HTTPStatus(502, "text/html", "")))}, "", "addresses", "wire.http-status", "1 of 3 addresses differ: 10.0.0.2:1: wire.http-status"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				addrs := []string{"[::1]:1", "10.0.0.1:1", "10.0.0.2:1"}[:len(tt.hosts)]
				hosts := map[string]host{}
				for i, a := range addrs {
					hosts[a] = tt.hosts[i]
				}
				r := Examine(t.Context(), Config{Target: "listed:///" + strings.Join(addrs, ","), Dialer: network(t, hosts)})
				p := rung(t, r, tt.rung)
				var note fault.ID
				if p.Finding != nil {
					note = p.Finding.ID
				}
				if r.Verdict.ID != tt.id || r.Healthy != (tt.id == "") || note != tt.note || !strings.Contains(p.Summary, tt.want) {
					t.Errorf("verdict %q, rung %+v with %q; want %q, %q in %q", r.Verdict.ID, p, note, tt.id, tt.note, tt.want)
				}
			})
		})
	}
}

// TestWatch holds connections in fake time.
func TestWatch(t *testing.T) {
	const watch = 5 * time.Minute
	after := func(d time.Duration, a peer.Answer) host {
		return serving(func(p *peer.Peer) error {
			if _, err := p.Handshake(); err != nil {
				return err
			}
			paths := map[uint32]string{}
			for {
				f, err := p.Next()
				if err != nil {
					return err
				}
				if v := f.Get(":path"); v != "" {
					paths[f.Stream] = v
				}
				switch {
				case !f.End:
				case paths[f.Stream] != watchPath:
					err = peer.TrailersOnly(12, "")(p, f.Stream)
				case a != nil:
					go peer.After(d, a)(p, f.Stream)
				}
				if err != nil {
					return err
				}
			}
		}, peer.Options{Timeout: time.Hour})
	}
	tests := []struct {
		name   string
		host   host
		ping   time.Duration
		status Status
		id     fault.ID
		want   string
		took   time.Duration
	}{
		{"nothing happens", after(0, nil), 0, OK, "", "held for 5m0s, and the peer still answers", watch},
		{"pings are tolerated", after(0, nil), 70 * time.Second, OK, "", "4 PINGs every 1m10s were tolerated", watch},
		{"retired for its age", after(2*time.Minute, peer.GoAway(0, noError, "max_age")), 0, Note, "server.max-age", "after 2m0s", 2 * time.Minute},
		{"retired for idleness", after(time.Minute, peer.GoAway(0, noError, "max_idle")), 0, Note, "server.max-idle", "after 1m0s", time.Minute},
		{"retired without a reason", after(time.Minute, peer.GoAway(0, noError, "")), 0, Note, "http2.goaway", "after 1m0s", time.Minute},
		{"too many pings", after(time.Minute, peer.GoAway(0, http2.ErrCodeEnhanceYourCalm, "too_many_pings")), 0, Failed, "http2.goaway-calm", "after 1m0s", time.Minute},
		{"given up", after(time.Minute, peer.GoAway(0, http2.ErrCodeInternal, "bug")), 0, Failed, "http2.goaway-error", "bug", time.Minute},
		{"cut by a middlebox", after(4*time.Minute, peer.Cut()), 0, Failed, "http2.connection-lost", "", 4 * time.Minute},
		{"ended by the server", after(4*time.Minute, peer.HangUp()), 0, Failed, "http2.connection-lost", "", 4 * time.Minute},
		{"a stream's time-out", after(time.Minute, peer.RST(http2.ErrCodeCancel)), 0, Failed, "http2.rst-cancel", "CANCEL", time.Minute},
		{"forgotten without a word", after(time.Minute, stall), 0, Failed, "http2.keepalive", "did not answer a keepalive ping", watch + 5*time.Second},
		{"forgotten, and noticed by pings", after(90*time.Second, stall), time.Minute, Failed, "http2.keepalive", "did not answer a keepalive ping", 2*time.Minute + 5*time.Second},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				start := time.Now()
				r := Examine(t.Context(), Config{Target: "passthrough:///10.0.0.1:1", Watch: watch, Ping: tt.ping,
					Dialer: network(t, map[string]host{"10.0.0.1:1": tt.host})})
				took := time.Since(start)
				p := rung(t, r, "watch")
				var id fault.ID
				if p.Finding != nil {
					id = p.Finding.ID
				}
				if p.Status != tt.status || id != tt.id || !strings.Contains(p.Summary, tt.want) || took.Round(time.Second) != tt.took || r.Healthy != (tt.status != Failed) {
					t.Errorf("%v %q after %v, healthy %v: %s\n%v\nwant %v %q after %v: %s", p.Status, id, took, r.Healthy, p.Summary, p.Evidence, tt.status, tt.id, tt.took, tt.want)
				}
			})
		})
	}
}

func stall(p *peer.Peer, _ uint32) error {
	p.Conn().(*simnet.Conn).Stall()
	return nil
}

// TestSecondOpinion has peers that say nothing about what they expect.
func TestSecondOpinion(t *testing.T) {
	picky := func(s peer.Script) host { // hangs up on TLS
		var l *simnet.Listener
		return func(t *testing.T, ctx context.Context) (net.Conn, error) {
			if l == nil {
				l = simnet.Listen(simnet.Options{})
				sorted := &sorter{Listener: l}
				svc := peer.Serve(sorted, s)
				t.Cleanup(func() { _ = svc.Close() })
			}
			return l.Dial(ctx, "")
		}
	}
	synctest.Test(t, func(t *testing.T) {
		r := Examine(t.Context(), Config{Target: "passthrough:///10.0.0.1:1", TLS: new(tls.Config),
			Dialer: network(t, map[string]host{"10.0.0.1:1": picky(well)})})
		if want := "tls.plaintext-peer: 10.0.0.1:1 does not answer a TLS handshake, but does answer in cleartext"; r.Verdict.Message != want {
			t.Errorf("%s\nwant %s", r.Verdict.Message, want)
		}
	})
}

// sorter hangs up on connections that begin with a TLS record.
type sorter struct{ *simnet.Listener }

func (s *sorter) Accept() (net.Conn, error) {
	for {
		c, err := s.Listener.Accept()
		if err != nil {
			return nil, err
		}
		var first [1]byte
		if _, err := io.ReadFull(c, first[:]); err == nil && first[0] != 22 {
			return &early{Conn: c, first: first[:]}, nil
		}
		c.Close()
	}
}

type early struct {
	net.Conn
	first []byte
}

func (e *early) Read(p []byte) (int, error) {
	if len(e.first) > 0 {
		n := copy(p, e.first)
		e.first = e.first[n:]
		return n, nil
	}
	return e.Conn.Read(p)
}

// TestProxy has a proxy that refuses, in the environment.
func TestProxy(t *testing.T) {
	s, err := peer.ListenRaw("127.0.0.1:0", peer.Raw{Wait: true, Answer: []byte("HTTP/1.1 407 Proxy Authentication Required\r\nServer: squid\r\nContent-Length: 0\r\n\r\n")})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	t.Setenv("HTTPS_PROXY", "http://user:secret@"+s.Addr())
	t.Setenv("NO_PROXY", "")
	r := Examine(t.Context(), Config{Target: "api.example:443", Timeout: 3 * time.Second})
	b, err := json.Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	if r.Verdict.ID != "dial.proxy" || r.Verdict.Code != codes.Unavailable || !strings.Contains(r.Verdict.Message, "407") {
		t.Errorf("%s", b)
	}
	if got := value(rung(t, r, "name"), "proxy"); got != s.Addr()+", from HTTPS_PROXY" {
		t.Errorf("the proxy is %q", got)
	}
	if strings.Contains(string(b), "secret") {
		t.Errorf("the password is in the report: %s", b)
	}
}

// TestBefore are examinations that end before anything is opened.
func TestBefore(t *testing.T) {
	tests := []struct {
		cfg  Config
		id   fault.ID
		want string
	}{
		{Config{Target: "nosuch:///x"}, "resolve.bad-target", "nosuch"},
		{Config{Target: ""}, "resolve.bad-target", "expected"},
		{Config{Target: "a b:1"}, "resolve.bad-target", "expected"},
		{Config{Target: "passthrough:///x", Metadata: map[string][]string{"a b": {"1"}}}, "wire.illegal-metadata", "a b"},
		{Config{Target: "passthrough:///x", Authority: "http://a/b"}, "wire.authority", "http://a/b"},
		{Config{Target: "passthrough:///10.0.0.1:1", Dialer: func(context.Context, string) (net.Conn, error) {
			return nil, &net.OpError{Op: "dial", Net: "tcp", Err: syscall.EACCES}
		}}, "dial.permission", ""},
	}
	for _, tt := range tests {
		r := Examine(t.Context(), tt.cfg)
		if r.Healthy || r.Verdict.ID != tt.id || !strings.Contains(r.Verdict.Message, tt.want) {
			t.Errorf("%q: %q %s, want %q %s", tt.cfg.Target, r.Verdict.ID, r.Verdict.Message, tt.id, tt.want)
		}
		if last := r.Probes[len(r.Probes)-1]; last.Name != "reflection" || last.Status != Skipped {
			t.Errorf("%q: the last rung is %+v", tt.cfg.Target, last)
		}
	}
}

// TestJSON is a report as machines see it.
func TestJSON(t *testing.T) {
	r := &Report{Target: "x:1", Elapsed: 1500 * time.Microsecond, Verdict: *named("dial.refused").says(fault.Remote, fault.No, "nobody at %s", "x:1"),
		Probes: []Probe{{Name: "name", Status: OK, Elapsed: time.Millisecond, Summary: "1 address", Evidence: []Fact{{"a", `"1"`}, {"b", "2"}, {"a", "3"}}},
			{Name: "dial", Status: Skipped, Summary: "not reached"}}}
	b, err := json.Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	e := fault.Lookup("dial.refused")
	want := fmt.Sprintf(`{"target":"x:1","healthy":false,"verdict":{"id":"dial.refused","layer":"dial","code":"UNAVAILABLE","summary":%s,"remedy":%s,`+
		`"side":"remote","processed":"no","message":"dial.refused: nobody at x:1","spec":%s},"probes":[`+
		`{"name":"name","status":"ok","elapsed_ms":1,"summary":"1 address","evidence":{"a":"\"1\"","b":"2","a 2":"3"}},`+
		`{"name":"dial","status":"skipped","elapsed_ms":0,"summary":"not reached"}],"elapsed_ms":1.5}`, quoted(e.Summary), quoted(e.Remedy), quoted(e.Spec))
	if string(b) != want {
		t.Errorf("got  %s\nwant %s", b, want)
	}
	b, err = json.Marshal(&Report{Target: "x:1", Healthy: true, Verdict: Finding{Summary: "healthy"}, Probes: []Probe{}})
	if want := `{"target":"x:1","healthy":true,"verdict":{"id":"","layer":"","code":"OK","summary":"healthy","remedy":""},"probes":[],"elapsed_ms":0}`; err != nil || string(b) != want {
		t.Errorf("got  %s, %v\nwant %s", b, err, want)
	}
}

func quoted(s string) string {
	b, _ := json.Marshal(s) // a string always marshals
	return string(b)
}
