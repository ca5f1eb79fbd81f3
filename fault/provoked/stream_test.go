// SPDX-License-Identifier: Apache-2.0

package provoked_test

import (
	"context"
	"net"
	"strings"
	"time"

	"golang.org/x/net/http2"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/keepalive"

	"github.com/faultline-rpc/faultline"
	"github.com/faultline-rpc/faultline/fault"
	"github.com/faultline-rpc/faultline/internal/peer"
	"github.com/faultline-rpc/faultline/internal/simnet"
)

// The connection and its streams. A row without a name is the client's view.

var onStream = []string{"address: 10.1.0.1:50051", "method: " + place, "stream: 1"}

func with(more ...string) []string { return append(append([]string(nil), onStream...), more...) }

// underway starts a scripted call on a shop whose handlers hold on for a
// minute, and returns when its handler runs.
func underway(w *world, o peer.Options, opts ...faultline.ServerOption) (*shop, *peer.T) {
	w.Helper()
	s := w.serve(holding(time.Minute), opts...)
	p := w.scriptedClient(o)
	p.SendRequest(1, false, place)
	p.SendBody(1, peer.Message(text("tea")), true)
	next(w, s.began, "the handler to start")
	return s, p
}

// broken provokes with what a scripted client does while a handler runs; the
// remedy is a client that does not.
func broken(do func(*peer.T)) func(*world, bool) error {
	return func(w *world, mended bool) error {
		s, p := underway(w, peer.Options{})
		if !mended {
			do(p)
		}
		return next(w, s.causes, "the end of the handler's context")
	}
}

var connectionRows = []row{
	{entry: fault.HTTP2GoAway, code: codes.Unavailable, side: fault.Remote, processed: fault.No,
		evidence: with("http2_code: NO_ERROR", "debug: restarting"), remedy: "It is always safe to call again",
		run: func(w *world, mended bool) error {
			// The client repeats the call by itself, once: two connections end so.
			bad, served := peer.GoAway(-2, http2.ErrCodeNo, "restarting"), 0
			w.script(peer.Each(func(p *peer.Peer, stream uint32) error {
				if served++; served > 2 {
					return ok(p, stream)
				}
				return bad(p, stream)
			}))
			cc := w.client()
			err := order(context.Background(), cc)
			if mended {
				err = order(context.Background(), cc)
			}
			return err
		}},
	{entry: fault.HTTP2GoAwayError, code: codes.Unavailable, side: fault.Remote, processed: fault.Maybe,
		evidence: with("http2_code: INTERNAL_ERROR", "debug: out of memory"), remedy: "look into its log for a crash or panic",
		run: answers(peer.Then(peer.GoAway(0, http2.ErrCodeInternal, "out of memory"), peer.HangUp()))},
	{entry: fault.HTTP2GoAwayCalm, code: codes.Unavailable, side: fault.Remote, processed: fault.Maybe,
		evidence: with("http2_code: ENHANCE_YOUR_CALM", "debug: too_many_pings"), remedy: "lower MinTime and set PermitWithoutStream in the server's KeepaliveEnforcementPolicy",
		run: func(w *world, mended bool) error {
			var policy keepalive.EnforcementPolicy
			if mended {
				policy = keepalive.EnforcementPolicy{MinTime: 5 * time.Second, PermitWithoutStream: true}
			}
			w.serve(holding(5*time.Minute), faultline.KeepaliveEnforcementPolicy(policy))
			return w.call(faultline.WithKeepaliveParams(keepalive.ClientParameters{Time: 10 * time.Second}))
		}},
	{entry: fault.HTTP2ConnectionLost, code: codes.Unavailable, side: fault.Between, processed: fault.Maybe,
		evidence: with("sent: true"), remedy: "See whether the peer restarted", run: answers(peer.Cut())},
	{entry: fault.HTTP2ConnectionLost, name: "(hangs up on the preface)", code: codes.Unavailable, side: fault.Remote, processed: fault.No,
		evidence: []string{"address: " + server}, remedy: "Check that host and port are the gRPC server's, and whether they want TLS", run: speaking(peer.Raw{Wait: true})},
	{entry: fault.HTTP2ConnectionLost, name: "(idle for 50 s)", code: codes.Unavailable, side: fault.Between, processed: fault.Maybe,
		evidence: with("sent: true"), remedy: "WithKeepaliveParams below its timeout",
		run: func(w *world, mended bool) error {
			// The middlebox of the network cuts what was silent for 50 s.
			w.serve(holding(2*time.Minute), faultline.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: 5 * time.Second}))
			opts := []faultline.DialOption{faultline.WithContextDialer(func(ctx context.Context, addr string) (net.Conn, error) {
				c, err := w.net.Dial(ctx, addr)
				if err != nil {
					return nil, err
				}
				box := &middlebox{Conn: c.(*simnet.Conn)}
				box.timer = time.AfterFunc(50*time.Second, box.Cut)
				return box, nil
			})}
			if mended {
				opts = append(opts, faultline.WithKeepaliveParams(keepalive.ClientParameters{Time: 30 * time.Second}))
			}
			return w.call(opts...)
		}},
	{entry: fault.HTTP2ConnectionLost, name: "(server)", code: codes.Unavailable, side: fault.Between, processed: fault.Yes,
		evidence: []string{"address: 10."}, remedy: "See whether the peer restarted", run: broken(func(p *peer.T) { p.Cut() })},
	{entry: fault.HTTP2Keepalive, code: codes.Unavailable, side: fault.Between, processed: fault.Maybe,
		evidence: with("waiting: keepalive ping"), remedy: "raise Timeout in keepalive.ClientParameters",
		run: func(w *world, mended bool) error {
			w.net = simnet.NewNetwork(simnet.Options{Latency: 2 * time.Second}) // a ping takes four
			w.serve(holding(time.Minute), faultline.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: 5 * time.Second}))
			p := keepalive.ClientParameters{Time: 10 * time.Second, Timeout: time.Second}
			if mended {
				p.Timeout = 20 * time.Second
			}
			return w.call(faultline.WithKeepaliveParams(p))
		}},
	{entry: fault.HTTP2Keepalive, name: "(server)", code: codes.Unavailable, side: fault.Between, processed: fault.Yes,
		evidence: []string{"address: 10.", "option: KeepaliveParams"}, remedy: "Check the peer",
		run: func(w *world, mended bool) error {
			s, _ := underway(w, peer.Options{NoPingAck: !mended, Timeout: time.Hour}, faultline.KeepaliveParams(keepalive.ServerParameters{Time: 10 * time.Second, Timeout: time.Second}))
			return next(w, s.causes, "the end of the handler's context")
		}},
	{entry: fault.HTTP2SettingsTimeout, code: codes.Unavailable, side: fault.Remote, processed: fault.Maybe,
		evidence: with("sent: true"), remedy: "Look at what answers at that address",
		run: func(w *world, mended bool) error {
			w.script(peer.Each(peer.After(time.Minute, ok)), peer.Options{NoSettingsAck: !mended, Timeout: time.Hour})
			return w.call()
		}},
	{entry: fault.HTTP2SettingsTimeout, name: "(server)", code: codes.Unavailable, side: fault.Remote, processed: fault.Yes,
		evidence: []string{"address: 10."}, remedy: "Look at what answers at that address",
		run: func(w *world, mended bool) error {
			s, _ := underway(w, peer.Options{NoSettingsAck: !mended, Timeout: time.Hour}, faultline.ConnectionTimeout(10*time.Second))
			return next(w, s.causes, "the end of the handler's context")
		}},
}

// middlebox forgets a connection that is silent.
type middlebox struct {
	*simnet.Conn
	timer *time.Timer
}

// Write implements net.Conn.
func (m *middlebox) Write(p []byte) (int, error) {
	m.timer.Reset(50 * time.Second)
	return m.Conn.Write(p)
}

// Close implements net.Conn.
func (m *middlebox) Close() error {
	m.timer.Stop()
	return m.Conn.Close()
}

// reset provokes with RST_STREAM.
func reset(code http2.ErrCode) func(*world, bool) error { return answers(peer.RST(code)) }

var streamRows = []row{
	{entry: fault.HTTP2RefusedStream, code: codes.Unavailable, side: fault.Remote, processed: fault.No,
		evidence: append(onStream[:2:2], "http2_code: REFUSED_STREAM"), remedy: "It is safe to call again",
		run: func(w *world, mended bool) error {
			refused := 0
			w.script(peer.Each(func(p *peer.Peer, stream uint32) error {
				if refused++; refused > 2 {
					return ok(p, stream)
				}
				return p.SendRST(stream, http2.ErrCodeRefusedStream)
			}))
			cc := w.client()
			err := order(context.Background(), cc)
			if mended {
				err = order(context.Background(), cc)
			}
			return err
		}},
	{entry: fault.HTTP2RSTCancel, code: codes.Canceled, side: fault.Remote, processed: fault.Maybe,
		evidence: with("http2_code: CANCEL"), remedy: "a timeout shorter than the call in a proxy", run: reset(http2.ErrCodeCancel)},
	{entry: fault.HTTP2RSTCalm, code: codes.ResourceExhausted, side: fault.Remote, processed: fault.Maybe,
		evidence: with("http2_code: ENHANCE_YOUR_CALM"), remedy: "Send less or more slowly", run: reset(http2.ErrCodeEnhanceYourCalm)},
	{entry: fault.HTTP2RSTInadequateSecurity, code: codes.PermissionDenied, side: fault.Remote, processed: fault.Maybe,
		evidence: with("http2_code: INADEQUATE_SECURITY"), remedy: "offer TLS 1.3", run: reset(http2.ErrCodeInadequateSecurity)},
	{entry: fault.HTTP2RSTOther, code: codes.Internal, side: fault.Remote, processed: fault.Maybe,
		evidence: with("http2_code: INTERNAL_ERROR"), remedy: "the log of the server and of each proxy", run: reset(http2.ErrCodeInternal)},
	{entry: fault.HTTP2RSTOther, name: "(unknown code)", code: codes.Unknown, side: fault.Remote, processed: fault.Maybe,
		evidence: with("http2_code: "), remedy: "the log of the server and of each proxy", run: reset(0xbeef)},
}

var violationRows = []row{
	{entry: fault.HTTP2FlowControl, code: codes.Internal, side: fault.Remote, processed: fault.Maybe,
		evidence: with("http2_code: FLOW_CONTROL_ERROR"), remedy: "update it", run: answers(peer.OverflowWindow(false))},
	{entry: fault.HTTP2FlowControl, name: "(of the connection)", code: codes.Internal, side: fault.Remote, processed: fault.Maybe,
		evidence: with("http2_code: FLOW_CONTROL_ERROR"), remedy: "update it", run: answers(peer.OverflowWindow(true))},
	{entry: fault.HTTP2FlowControl, name: "(server)", code: codes.Internal, side: fault.Remote, processed: fault.Yes,
		evidence: []string{"address: 10.", "http2_code: FLOW_CONTROL_ERROR"}, remedy: "update it", run: broken(func(p *peer.T) { p.OverflowWindow(1) })},
	{entry: fault.HTTP2Protocol, code: codes.Internal, side: fault.Remote, processed: fault.Maybe,
		evidence: with("http2_code: PROTOCOL_ERROR"), remedy: "Update the peer", run: answers(peer.BadFrame())},
	{entry: fault.HTTP2Protocol, name: "(server)", code: codes.Internal, side: fault.Remote, processed: fault.Yes,
		evidence: []string{"address: 10.", "http2_code: PROTOCOL_ERROR"}, remedy: "Update the peer", run: broken(func(p *peer.T) { p.SendData(0, []byte("x"), false) })},
	{entry: fault.HTTP2Compression, code: codes.Internal, side: fault.Remote, processed: fault.Maybe,
		evidence: with("http2_code: COMPRESSION_ERROR"), remedy: "update it", run: answers(peer.BadBlock())},
	{entry: fault.HTTP2Compression, name: "(server)", code: codes.Internal, side: fault.Remote, processed: fault.Yes,
		evidence: []string{"address: 10.", "http2_code: COMPRESSION_ERROR"}, remedy: "update it", run: broken(func(p *peer.T) { p.SendBlock(3, true, []byte{0xff, 0xff, 0xff, 0xff, 0xff}) })},
	{entry: fault.HTTP2HeaderList, code: codes.Internal, side: fault.Local, processed: fault.Maybe,
		evidence: with("answered: true"), remedy: "WithMaxHeaderListSize on the client",
		run: func(w *world, mended bool) error {
			w.script(peer.Each(peer.Then(func(p *peer.Peer, stream uint32) error {
				return p.SendHeaders(stream, false, ":status", "200", "content-type", "application/grpc", "x-trace", strings.Repeat("x", 100_000))
			}, func(p *peer.Peer, stream uint32) error {
				if err := p.SendData(stream, peer.Message(text("done")), false); err != nil {
					return err
				}
				return p.SendHeaders(stream, true, "grpc-status", "0")
			})))
			if mended {
				return w.call(faultline.WithMaxHeaderListSize(1 << 20))
			}
			return w.call()
		}},
	{entry: fault.HTTP2HeaderList, name: "(server)", code: codes.Internal, side: fault.Remote, processed: fault.No,
		evidence: []string{"method: " + place}, remedy: "MaxHeaderListSize on the server",
		run: func(w *world, mended bool) error {
			limit := uint32(16 << 10)
			if mended {
				limit = 64 << 10
			}
			s := w.serve(nil, faultline.MaxHeaderListSize(limit))
			return request(w, w.scriptedClient(), s, place, peer.Message(text("tea")), "x-token", strings.Repeat("x", 20_000))
		}},
}
