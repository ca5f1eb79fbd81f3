// SPDX-License-Identifier: Apache-2.0

package call

import (
	"bytes"
	"context"
	"errors"
	"net"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/net/http2"
	"google.golang.org/grpc"
	grpcbackoff "google.golang.org/grpc/backoff"
	"google.golang.org/grpc/balancer"
	"google.golang.org/grpc/balancer/base"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	testgrpc "google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/resolver"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/faultline-rpc/faultline/channel"
	"github.com/faultline-rpc/faultline/fault"
	"github.com/faultline-rpc/faultline/internal/peer"
	"github.com/faultline-rpc/faultline/internal/simnet"
)

const ms = time.Millisecond

// scene is a call whose time runs out, and the account of it.
type scene struct {
	name    string
	channel channel.Config
	target  string // default passthrough
	config  string // service config
	caller  Config
	script  func(*peer.Peer) error // nil: nobody answers the connection
	server  peer.Options
	lead    time.Duration // between Connect and the call; 0: the call connects
	refuse  int           // connections that are refused before, after 3 ms each
	before  func(t *testing.T, c *Caller)
	do      func(t *testing.T, c *Caller, ctx context.Context) error // default a unary call
	cancel  bool                                                     // the program cancels, and gives no deadline

	want    []fault.Phase
	waiting string
	pulse   fault.PulseState // "" if there is no connection
	says    string
	remedy  string
	none    fault.Processed
}

const budget = 250 * ms

func phase(name string, spent time.Duration) fault.Phase {
	return fault.Phase{Name: name, Spent: spent}
}

func of(attempt int, name string, spent time.Duration) fault.Phase {
	return fault.Phase{Name: name, Spent: spent, Attempt: attempt}
}

// slowNames is a resolver that takes its time.
type slowNames struct{ after time.Duration }

func (slowNames) Scheme() string                        { return "slow" }
func (slowNames) ResolveNow(resolver.ResolveNowOptions) {}
func (slowNames) Close()                                {}

func (s slowNames) Build(_ resolver.Target, cc resolver.ClientConn, _ resolver.BuildOptions) (resolver.Resolver, error) {
	time.AfterFunc(s.after, func() { _ = cc.UpdateState(resolver.State{Addresses: []resolver.Address{{Addr: "server"}}}) })
	return s, nil
}

// slowToken is a credential that takes its time.
type slowToken struct{ after time.Duration }

func (slowToken) RequireTransportSecurity() bool { return false }

func (s slowToken) GetRequestMetadata(ctx context.Context, _ ...string) (map[string]string, error) {
	select {
	case <-time.After(s.after):
		return map[string]string{"x-token": "1"}, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// silent answers no request, but PINGs.
var silent = (&parallel{answers: []at{never}}).script

func answering(answers ...at) func(*peer.Peer) error { return (&parallel{answers: answers}).script }

var answerHeaders = []string{":status", "200", "content-type", "application/grpc"}

// headersOnly begins an answer.
func headersOnly(p *peer.Peer, stream uint32) error {
	return p.SendHeaders(stream, false, answerHeaders...)
}

// connected is what it takes to connect over 1 ms of network.
var connected = []fault.Phase{phase(fault.PhaseConnect, 2*ms), phase(fault.PhaseSettings, 1*ms)}

func after(phases []fault.Phase, more ...fault.Phase) []fault.Phase {
	return slices.Concat(phases, more)
}

func tried(attempt int, phases []fault.Phase) []fault.Phase {
	all := slices.Clone(phases)
	for i := range all {
		all[i].Attempt = attempt
	}
	return all
}

var bigMessage = wrapperspb.Bytes(bytes.Repeat([]byte("x"), 100_000))

// scenes returns the table; servers in it keep what was asked.
func scenes() []scene {
	return []scene{
		{name: "the resolver is slow", target: "slow:///x", channel: channel.Config{Resolvers: []resolver.Builder{slowNames{time.Hour}}},
			want: []fault.Phase{phase(fault.PhaseResolve, budget)}, waiting: fault.PhaseResolve, none: fault.No,
			says: "context deadline exceeded after 250ms: 250ms resolving the name", remedy: "name was not resolved"},
		{name: "the resolver takes half of it", target: "slow:///x", channel: channel.Config{Resolvers: []resolver.Builder{slowNames{100 * ms}}}, script: silent,
			want: after([]fault.Phase{phase(fault.PhaseResolve, 100*ms)}, after(connected, phase(fault.PhaseHeaders, 147*ms))...), waiting: fault.PhaseHeaders, pulse: fault.PulseAlive,
			says: "100ms resolving the name, 147ms waiting for response headers (10.0.0.2:443); peer answered a PING "},
		{name: "nothing answers the dial", channel: channel.Config{Dialer: func(ctx context.Context, _ string) (net.Conn, error) { <-ctx.Done(); return nil, ctx.Err() }},
			want: []fault.Phase{phase(fault.PhaseConnect, budget)}, waiting: fault.PhaseConnect, none: fault.No,
			says: "250ms connecting (server)", remedy: "firewall"},
		{name: "the TLS handshake is stuck", channel: channel.Config{Creds: credentials.NewTLS(nil)},
			want: []fault.Phase{phase(fault.PhaseConnect, 2*ms), phase(fault.PhaseHandshake, 248*ms)}, waiting: fault.PhaseHandshake, none: fault.No,
			says: "248ms in the TLS handshake", remedy: "TLS handshake"},
		{name: "SETTINGS do not come",
			want: []fault.Phase{phase(fault.PhaseConnect, 2*ms), phase(fault.PhaseSettings, 248*ms)}, waiting: fault.PhaseSettings, none: fault.No,
			says: "248ms waiting for the server's SETTINGS", remedy: "SETTINGS"},
		{name: "connections are refused", channel: channel.Config{Dialer: refuse(3 * ms)},
			do:   func(_ *testing.T, c *Caller, ctx context.Context) error { return say(c, ctx, grpc.WaitForReady(true)) },
			want: []fault.Phase{phase(fault.PhaseConnect, 3*ms), phase(fault.PhaseConnectBackoff, 247*ms)}, waiting: fault.PhaseConnectBackoff, none: fault.No,
			says: "3ms connecting, 247ms waiting to connect again (server); latest failure: dial.refused", remedy: "latest failure is in the rungs"},
		{name: "the token is slow", caller: Config{Creds: []credentials.PerRPCCredentials{slowToken{time.Hour}}}, script: silent,
			want: after(connected, phase(fault.PhaseCredentials, 247*ms)), waiting: fault.PhaseCredentials, none: fault.No, remedy: "token endpoint"},
		{name: "the token takes some of it", caller: Config{Creds: []credentials.PerRPCCredentials{slowToken{100 * ms}}}, script: silent,
			want: after(connected, phase(fault.PhaseCredentials, 100*ms), phase(fault.PhaseHeaders, 147*ms)), waiting: fault.PhaseHeaders, pulse: fault.PulseAlive},
		{name: "the streams are used up", script: silent, server: oneStream, before: occupy(time.Hour), lead: 10 * ms,
			want: []fault.Phase{phase(fault.PhaseQuota, budget)}, waiting: fault.PhaseQuota, pulse: fault.PulseAlive, none: fault.No,
			says: "250ms waiting for a free stream (10.0.0.2:443); peer answered a PING 165ms ago", remedy: "MAX_CONCURRENT_STREAMS"},
		{name: "a stream is free late", script: silent, server: oneStream, before: occupy(100 * ms), lead: 10 * ms,
			want: []fault.Phase{phase(fault.PhaseQuota, 87*ms), phase(fault.PhaseHeaders, 163*ms)}, waiting: fault.PhaseHeaders, pulse: fault.PulseAlive},
		{name: "the window is closed", script: silent, server: peer.Options{NoCredit: true}, lead: 10 * ms,
			do: func(_ *testing.T, c *Caller, ctx context.Context) error {
				return c.Invoke(ctx, method, bigMessage, new(wrapperspb.BytesValue))
			},
			want: []fault.Phase{phase(fault.PhaseSend, budget)}, waiting: fault.PhaseSend, pulse: fault.PulseAlive, remedy: "did not take the request"},
		{name: "a stream's window is closed", script: silent, server: peer.Options{NoCredit: true}, lead: 10 * ms, do: sendLater(100 * ms),
			want: []fault.Phase{phase(fault.PhaseSend, 150*ms), phase(fault.PhaseHeaders, 100*ms)}, waiting: fault.PhaseSend, pulse: fault.PulseAlive},
		{name: "the window opens late", script: openLate(100 * ms), server: peer.Options{NoCredit: true}, lead: 10 * ms,
			do: func(_ *testing.T, c *Caller, ctx context.Context) error {
				return c.Invoke(ctx, method, bigMessage, new(wrapperspb.BytesValue))
			},
			want: []fault.Phase{phase(fault.PhaseSend, 102*ms), phase(fault.PhaseHeaders, 148*ms)}, waiting: fault.PhaseHeaders, pulse: fault.PulseAlive},
		{name: "the server is slow", script: silent,
			want: after(connected, phase(fault.PhaseHeaders, 247*ms)), waiting: fault.PhaseHeaders, pulse: fault.PulseAlive,
			says: "247ms waiting for response headers (10.0.0.2:443); peer answered a PING 80.3ms ago", remedy: "The server is alive"},
		{name: "the server is frozen", script: silent, server: peer.Options{NoPingAck: true},
			want: after(connected, phase(fault.PhaseHeaders, 247*ms)), waiting: fault.PhaseHeaders, pulse: fault.PulseSilent,
			says: "peer did not answer a PING sent 82.3ms ago, last heard 245ms ago", remedy: "did not answer a PING either"},
		{name: "the server is slow after headers", script: answering(at{100 * ms, headersOnly}), lead: 10 * ms,
			want: []fault.Phase{phase(fault.PhaseHeaders, 102*ms), phase(fault.PhaseMessage, 148*ms)}, waiting: fault.PhaseMessage, pulse: fault.PulseAlive,
			says: "102ms waiting for response headers, 148ms waiting for the next message"},
		{name: "the server is slow between messages", lead: 10 * ms, none: fault.Yes,
			script: answering(at{50 * ms, peer.Then(headersOnly, func(p *peer.Peer, s uint32) error { return p.SendData(s, peer.Message(text("one")), false) })}),
			do: func(t *testing.T, c *Caller, ctx context.Context) error {
				_, err := viaStream(c, ctx, &grpc.StreamDesc{ServerStreams: true})
				return err
			},
			want: []fault.Phase{phase(fault.PhaseHeaders, 52*ms), phase(fault.PhaseMessage, 198*ms)}, waiting: fault.PhaseMessage, pulse: fault.PulseAlive, remedy: "between messages"},
		{name: "the program cancels", script: silent, cancel: true,
			want: after(connected, phase(fault.PhaseHeaders, 247*ms)), waiting: fault.PhaseHeaders, pulse: fault.PulseUnknown,
			says: "call.cancelled: context canceled by the program after 250ms: 247ms waiting for response headers (10.0.0.2:443)"},
		{name: "back-off between attempts", script: answering(at{50 * ms, down}), config: retrying(3, ""), lead: 10 * ms,
			want: []fault.Phase{of(1, fault.PhaseHeaders, 52*ms), of(2, fault.PhaseBackoff, 198*ms)}, waiting: fault.PhaseBackoff,
			says: "52ms waiting for response headers, 198ms backing off before another attempt", remedy: "back-off"},
		{name: "several attempts", script: answering(at{20 * ms, down}, at{30 * ms, down}, never),
			config: strings.ReplaceAll(retrying(4, ""), `"1s"`, `"0.02s"`), lead: 10 * ms,
			want: []fault.Phase{of(1, fault.PhaseHeaders, 22*ms), of(2, fault.PhaseBackoff, 16*ms), of(2, fault.PhaseHeaders, 32*ms),
				of(3, fault.PhaseBackoff, 32*ms), of(3, fault.PhaseHeaders, 148*ms)}, waiting: fault.PhaseHeaders, pulse: fault.PulseAlive,
			says: "202ms waiting for response headers, 48ms backing off before another attempt"},
		{name: "hedges", script: answering(never), config: hedging(3, "0.1s", ""),
			want: after(tried(1, connected), phase(fault.PhaseHedges, 247*ms)), waiting: fault.PhaseHedges, pulse: fault.PulseAlive,
			says: "247ms waiting for one of the hedged attempts"},
		{name: "the resolver takes half of it, and TLS is stuck", target: "slow:///x",
			channel: channel.Config{Resolvers: []resolver.Builder{slowNames{100 * ms}}, Creds: credentials.NewTLS(nil)},
			want:    []fault.Phase{phase(fault.PhaseResolve, 100*ms), phase(fault.PhaseConnect, 2*ms), phase(fault.PhaseHandshake, 148*ms)}, waiting: fault.PhaseHandshake, none: fault.No,
			says: "100ms resolving the name, 148ms in the TLS handshake", remedy: "TLS handshake"},
		{name: "the policy does not choose", config: `{"loadBalancingConfig": [{"call_test_unsure": {}}]}`, script: silent,
			want: after(connected, phase(fault.PhasePick, 247*ms)), waiting: fault.PhasePick, none: fault.No,
			says: "247ms waiting for the balancer to pick a connection"},
		{name: "connections are refused, and then made", script: silent,
			channel: channel.Config{Backoff: grpcbackoff.Config{BaseDelay: 50 * ms, Multiplier: 1, MaxDelay: 50 * ms}},
			refuse:  2,
			do:      func(_ *testing.T, c *Caller, ctx context.Context) error { return say(c, ctx, grpc.WaitForReady(true)) },
			want:    []fault.Phase{phase(fault.PhaseConnect, 2*3*ms+2*ms), phase(fault.PhaseConnectBackoff, 2*47*ms), phase(fault.PhaseSettings, 1*ms), phase(fault.PhaseHeaders, 147*ms)},
			waiting: fault.PhaseHeaders, pulse: fault.PulseAlive},
		{name: "the program cancels while it sends", script: silent, server: peer.Options{NoCredit: true}, lead: 10 * ms, cancel: true,
			do: func(_ *testing.T, c *Caller, ctx context.Context) error {
				return c.Invoke(ctx, method, bigMessage, new(wrapperspb.BytesValue))
			},
			want: []fault.Phase{phase(fault.PhaseSend, budget)}, waiting: fault.PhaseSend, pulse: fault.PulseUnknown,
			says: "call.cancelled: context canceled by the program after 250ms: 250ms waiting for the server to take the request"},
		{name: "the program cancels a stream while it sends", script: silent, server: peer.Options{NoCredit: true}, lead: 10 * ms, cancel: true, do: sendLater(100 * ms),
			want: []fault.Phase{phase(fault.PhaseSend, 150*ms), phase(fault.PhaseHeaders, 100*ms)}, waiting: fault.PhaseSend, pulse: fault.PulseUnknown},
		{name: "the program cancels between attempts", script: answering(at{50 * ms, down}), config: retrying(3, ""), lead: 10 * ms, cancel: true,
			want: []fault.Phase{of(1, fault.PhaseHeaders, 52*ms), of(2, fault.PhaseBackoff, 198*ms)}, waiting: fault.PhaseBackoff},
		{name: "the program cancels hedges", script: answering(never), config: hedging(3, "0.1s", ""), lead: 10 * ms, cancel: true,
			want: []fault.Phase{phase(fault.PhaseHedges, budget)}, waiting: fault.PhaseHedges, pulse: fault.PulseAlive},
		{name: "the program cancels while it connects", cancel: true, none: fault.No,
			channel: channel.Config{Dialer: func(ctx context.Context, _ string) (net.Conn, error) { <-ctx.Done(); return nil, ctx.Err() }},
			want:    []fault.Phase{phase(fault.PhaseConnect, budget)}, waiting: fault.PhaseConnect},
		{name: "many messages, slowly", lead: 10 * ms, none: fault.Yes, script: answering(at{10 * ms, trickle(30 * ms)}),
			do: func(t *testing.T, c *Caller, ctx context.Context) error {
				st, err := c.NewStream(ctx, &grpc.StreamDesc{ServerStreams: true}, method)
				if err == nil {
					err = errors.Join(st.SendMsg(wrapperspb.String("ping")), st.CloseSend())
				}
				for err == nil {
					if err = st.RecvMsg(new(wrapperspb.StringValue)); err == nil {
						<-time.After(7 * ms) // the program has something else to do
					}
				}
				return err
			},
			want: []fault.Phase{phase(fault.PhaseHeaders, 12*ms), phase(fault.PhaseMessage, 238*ms)}, waiting: fault.PhaseMessage, pulse: fault.PulseAlive, remedy: "between messages"},
		{name: "the second attempt has to connect", script: answering(at{50 * ms, peer.Cut()}, never), lead: 10 * ms,
			config: strings.ReplaceAll(retrying(3, ""), `"1s"`, `"0.02s"`), channel: channel.Config{Backoff: grpcbackoff.Config{BaseDelay: 40 * ms, Multiplier: 1, MaxDelay: 40 * ms}},
			want: []fault.Phase{of(1, fault.PhaseHeaders, 51*ms), of(2, fault.PhaseBackoff, 16*ms), of(2, fault.PhaseConnect, 2*ms), of(2, fault.PhaseSettings, 1*ms), of(2, fault.PhaseHeaders, 180*ms)}, waiting: fault.PhaseHeaders, pulse: fault.PulseAlive},
		{name: "a hedge is answered, and not to its end", script: answering(never, at{20 * ms, headersOnly}), config: hedging(3, "0.1s", ""), lead: 10 * ms,
			want: []fault.Phase{phase(fault.PhaseHedges, 122*ms), of(2, fault.PhaseMessage, 128*ms)}, waiting: fault.PhaseMessage, pulse: fault.PulseAlive},
	}
}

var oneStream = peer.Options{Settings: []http2.Setting{{ID: http2.SettingMaxConcurrentStreams, Val: 1}}}

func say(c *Caller, ctx context.Context, opts ...grpc.CallOption) error {
	return c.Invoke(ctx, method, wrapperspb.String("ping"), new(wrapperspb.StringValue), opts...)
}

// refuse is a dialer.
func refuse(after time.Duration) func(context.Context, string) (net.Conn, error) {
	l := simnet.Listen(simnet.Options{Latency: after / 2})
	return func(ctx context.Context, addr string) (net.Conn, error) {
		_ = l.Close()
		nc, err := l.Dial(ctx, addr)
		return nc, err
	}
}

// occupy holds a stream for so long.
func occupy(d time.Duration) func(t *testing.T, c *Caller) {
	return func(t *testing.T, c *Caller) {
		ctx, cancel := context.WithTimeout(context.Background(), d)
		t.Cleanup(cancel)
		if _, err := c.NewStream(ctx, &grpc.StreamDesc{ClientStreams: true}, method); err != nil {
			t.Fatal(err)
		}
	}
}

// sendLater opens a stream, and sends more than the window takes after a time.
func sendLater(d time.Duration) func(*testing.T, *Caller, context.Context) error {
	return func(t *testing.T, c *Caller, ctx context.Context) error {
		st, err := c.NewStream(ctx, &grpc.StreamDesc{ClientStreams: true}, method)
		if err != nil {
			t.Fatal(err)
		}
		<-time.After(d)
		if err := st.SendMsg(bigMessage); err == nil || err.Error() != "EOF" {
			t.Fatalf("SendMsg: %v, want io.EOF", err)
		}
		return st.RecvMsg(new(wrapperspb.BytesValue))
	}
}

// trickle answers with headers, and then with a message every d.
func trickle(d time.Duration) peer.Answer {
	return peer.Then(headersOnly, func(p *peer.Peer, stream uint32) error {
		var next func()
		next = func() {
			if p.SendData(stream, peer.Message(text("one")), false) == nil {
				time.AfterFunc(d, next)
			}
		}
		next()
		return nil
	})
}

// unsure is a balancing policy that connects, and chooses no connection.
type unsure struct{}

func (unsure) Build(base.PickerBuildInfo) balancer.Picker { return unsure{} }

func (unsure) Pick(balancer.PickInfo) (balancer.PickResult, error) {
	return balancer.PickResult{}, balancer.ErrNoSubConnAvailable
}

func init() {
	balancer.Register(base.NewBalancerBuilder("call_test_unsure", unsure{}, base.Config{}))
}

// openLate opens the windows after a time, and answers nothing.
func openLate(d time.Duration) func(*peer.Peer) error {
	return func(p *peer.Peer) error {
		_, err := p.Handshake()
		for err == nil {
			var f peer.Frame
			if f, err = p.Next(); err == nil && f.Kind == http2.FrameHeaders {
				time.AfterFunc(d, func() {
					_ = p.SendWindowUpdate(0, 1<<20)
					_ = p.SendWindowUpdate(f.Stream, 1<<20)
				})
			}
		}
		if p.Ended(err) {
			return nil
		}
		return err
	}
}

// The account of every phase is exact, in fake time: no phase is missing or
// counted twice.
func TestLedger(t *testing.T) {
	for _, s := range scenes() {
		t.Run(s.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { s.play(t) })
		})
	}
}

func (s *scene) play(t *testing.T) {
	l := simnet.Listen(simnet.Options{Latency: ms})
	closeServer := l.Close
	if s.script != nil {
		closeServer = peer.Serve(l, s.script, s.server).Close
	}
	cfg := s.channel
	cfg.DefaultServiceConfig = s.config
	if cfg.Creds == nil {
		cfg.Creds = insecure.NewCredentials()
	}
	if cfg.Dialer == nil {
		cfg.Dialer = l.Dial
	}
	if dial, refused := cfg.Dialer, refuse(3*ms); s.refuse > 0 {
		left := s.refuse
		cfg.Dialer = func(ctx context.Context, addr string) (net.Conn, error) {
			if left--; left >= 0 {
				return refused(ctx, addr)
			}
			return dial(ctx, addr)
		}
	}
	target := s.target
	if target == "" {
		target = "passthrough:///server"
	}
	ch, err := channel.New(target, cfg)
	if err != nil {
		t.Fatal(err)
	}
	callCfg := s.caller
	callCfg.Channel, callCfg.Methods, callCfg.UserAgent = ch, ch, "test"
	c := New(callCfg)
	c.random = func() float64 { return 0 }
	if s.before != nil {
		s.before(t, c)
	}
	if s.lead > 0 {
		ch.Connect()
		<-time.After(s.lead)
	}
	ctx, cancel := context.WithTimeout(context.Background(), budget)
	if s.cancel {
		ctx, cancel = context.WithCancel(context.Background())
		time.AfterFunc(budget, cancel)
	}
	do := s.do
	if do == nil {
		do = func(_ *testing.T, c *Caller, ctx context.Context) error { return say(c, ctx) }
	}
	began := time.Now()
	err = do(t, c, ctx)
	took := time.Since(began)
	cancel()
	s.judge(t, err, took)
	ch.Close()
	c.Close()
	synctest.Wait()
	_ = closeServer()
}

func (s *scene) judge(t *testing.T, err error, took time.Duration) {
	f, ok := fault.From(err)
	if !ok || f.Ledger() == nil {
		t.Fatalf("no ledger: %+v", err)
	}
	entry, given := fault.CallDeadline, budget
	if s.cancel {
		entry, given = fault.CallCancelled, 0
	}
	got, sum := f.Ledger(), time.Duration(0)
	for _, p := range got.Phases {
		sum += p.Spent
	}
	if f.Entry() != entry || f.Processed() != s.none || got.Budget != given || got.Elapsed != budget || took != budget || sum != budget {
		t.Errorf("%s, processed %v, after %v; budget %v, elapsed %v, sum %v", f.ID(), f.Processed(), took, got.Budget, got.Elapsed, sum)
	}
	if !slices.Equal(got.Phases, s.want) {
		t.Errorf("phases %v, want %v", got.Phases, s.want)
	}
	if f.Evidence().Waiting != s.waiting {
		t.Errorf("waiting %q, want %q", f.Evidence().Waiting, s.waiting)
	}
	if got.Peer == nil && s.pulse != "" || got.Peer != nil && got.Peer.State != s.pulse {
		t.Errorf("peer %+v, want %q", got.Peer, s.pulse)
	}
	if !strings.Contains(err.Error(), s.says) || !strings.Contains(f.Remedy(), s.remedy) {
		t.Errorf("says %s\nremedy %s", err, f.Remedy())
	}
}

// Other failures have a ledger too, the server's own words and all.
func TestLedgerOfOtherFaults(t *testing.T) {
	for _, tc := range []struct {
		name   string
		answer at
		entry  *fault.Entry
		want   []fault.Phase
	}{
		{"a status", at{100 * ms, peer.TrailersOnly(5, "no such thing")}, fault.HandlerStatus, after(connected, phase(fault.PhaseHeaders, 102*ms))},
		{"a reset", at{100 * ms, peer.RST(http2.ErrCodeInternal)}, fault.HTTP2RSTOther, after(connected, phase(fault.PhaseHeaders, 102*ms))},
		{"the connection's end", at{100 * ms, peer.Cut()}, fault.HTTP2ConnectionLost, after(connected, phase(fault.PhaseHeaders, 101*ms))},
		{"no message", at{100 * ms, peer.Then(headersOnly, peer.After(50*ms, func(p *peer.Peer, s uint32) error { return p.SendHeaders(s, true, "grpc-status", "0") }))},
			fault.WireCardinality, after(connected, phase(fault.PhaseHeaders, 102*ms), phase(fault.PhaseMessage, 50*ms))},
	} {
		for form, do := range forms {
			if form == "server stream" {
				continue // no message is as good as any
			}
			t.Run(tc.name+"/"+form, func(t *testing.T) {
				against(t, answering(tc.answer), Config{}, func(t *testing.T, c *Caller) {
					began := time.Now()
					_, err := do(c, context.Background())
					f, ok := fault.From(err)
					if !ok || f.Entry() != tc.entry || f.Ledger() == nil {
						t.Fatalf("%+v", err)
					}
					if l := f.Ledger(); l.Budget != 0 || l.Elapsed != time.Since(began) || !slices.Equal(l.Phases, tc.want) || l.Peer != nil {
						t.Errorf("ledger %+v, want %v", l, tc.want)
					}
				})
			})
		}
	}
}

// lateTimer is a context whose timer has yet to run.
type lateTimer struct {
	context.Context
	at time.Time
}

func (l lateTimer) Deadline() (time.Time, bool) { return l.at, true }

// A server's word that the time is up is not the caller's error, but above it.
func TestLateAnswerIsARung(t *testing.T) {
	against(t, answering(at{budget, peer.TrailersOnly(4, "context deadline exceeded in the database")}), Config{}, func(t *testing.T, c *Caller) {
		err := say(c, lateTimer{context.Background(), time.Now().Add(budget)})
		f, _ := fault.From(err)
		if !fault.CallDeadline.Is(err) || strings.Contains(err.Error(), "database") || f.Ledger() == nil ||
			len(f.Rungs()) != 1 || f.Rungs()[0] != (fault.Rung{ID: fault.HandlerStatus.ID, Text: "context deadline exceeded in the database"}) {
			t.Errorf("%+v", err)
		}
	})
}

// A server whose clock is a little ahead says so before the deadline; one that
// says it long before means a time of its own.
func TestEarlyAnswerIsLate(t *testing.T) {
	for early, want := range map[time.Duration]*fault.Entry{2 * ms: fault.CallDeadline, 40 * ms: fault.HandlerStatus} {
		against(t, answering(at{budget - early, peer.TrailersOnly(4, "Deadline Exceeded")}), Config{}, func(t *testing.T, c *Caller) {
			ctx, cancel := context.WithTimeout(context.Background(), budget)
			defer cancel()
			f, ok := fault.From(say(c, ctx))
			if !ok || f.Entry() != want || f.Code() != codes.DeadlineExceeded {
				t.Errorf("%v before the deadline: %+v", early, f)
			}
		})
	}
}

// Servers count PINGs that come without data: grpc-go's allows two, and hangs
// up at the third. Deadlines that expire one after the other do not get there.
func TestProbesAreNoAbuse(t *testing.T) {
	dials := 0
	hold := make(chan struct{})
	dial := serve(t, &service{unary: func(ctx context.Context, r *testgrpc.SimpleRequest) (*testgrpc.SimpleResponse, error) {
		if r.ResponseSize > 0 {
			<-hold
		}
		return &testgrpc.SimpleResponse{}, nil
	}})
	t.Cleanup(func() { close(hold) })
	c, ch := client(t, func(ctx context.Context, addr string) (net.Conn, error) { dials++; return dial(ctx, addr) }, Config{})
	alive := 0
	for i := range 60 {
		given := 30 * ms
		if i%4 == 0 {
			given = time.Minute // it is answered at once
		}
		ctx, cancel := context.WithTimeout(context.Background(), given)
		_, err := stub(c).UnaryCall(ctx, &testgrpc.SimpleRequest{ResponseSize: int32(min(i%4, 1))})
		cancel()
		f, ok := fault.From(err)
		if ok != (i%4 > 0) || ok && f.Entry() != fault.CallDeadline {
			t.Fatalf("call %d: %+v", i, err)
		}
		if ok && f.Ledger().Peer != nil && f.Ledger().Peer.State == fault.PulseAlive {
			alive++
		}
	}
	p, err := ch.Pick(context.Background(), method, false)
	if err != nil || dials != 1 || p.Conn.Err() != nil {
		t.Errorf("%d connections, %v", dials, err)
	}
	if alive == 0 {
		t.Error("no PING was answered in time")
	}
}
