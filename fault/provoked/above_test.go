// SPDX-License-Identifier: Apache-2.0

package provoked_test

import (
	"context"
	"errors"
	"io"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/net/http2"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/tap"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/faultline-rpc/faultline"
	"github.com/faultline-rpc/faultline/fault"
	"github.com/faultline-rpc/faultline/internal/peer"
	"github.com/faultline-rpc/faultline/status"
)

// The call, the server and its handlers.

// token is a per-call credential.
type token struct {
	err    error
	secure bool
}

// GetRequestMetadata implements credentials.PerRPCCredentials.
func (t token) GetRequestMetadata(context.Context, ...string) (map[string]string, error) {
	return map[string]string{"authorization": "Bearer x"}, t.err
}

// RequireTransportSecurity implements credentials.PerRPCCredentials.
func (t token) RequireTransportSecurity() bool { return t.secure }

var errStop = errors.New("the customer left the page")

var callRows = []row{
	{entry: fault.CallCancelled, code: codes.Canceled, side: fault.Local, processed: fault.Maybe,
		evidence: with("waiting: "), remedy: "check that a stream's cancel does not run while the stream is still read",
		run: func(w *world, mended bool) error {
			w.serve(holding(time.Minute))
			ctx, cancel := context.WithCancelCause(context.Background())
			defer cancel(nil)
			if !mended {
				time.AfterFunc(time.Second, func() { cancel(errStop) })
			}
			return order(ctx, w.client())
		}},
	{entry: fault.CallCancelled, name: "(before)", code: codes.Canceled, side: fault.Local, processed: fault.No,
		evidence: []string{"method: " + place}, remedy: "use context.WithCancelCause",
		run: func(w *world, mended bool) error {
			w.serve(nil)
			ctx, cancel := context.WithCancelCause(context.Background())
			defer cancel(nil)
			if !mended {
				cancel(errStop)
			}
			return order(ctx, w.client())
		}},
	{entry: fault.CallCancelled, name: "(server)", code: codes.Canceled, side: fault.Remote, processed: fault.Yes,
		evidence: []string{"http2_code: CANCEL", "address: 10."}, remedy: "Usually nothing", run: broken(func(p *peer.T) { p.SendRST(1, http2.ErrCodeCancel) })},
	{entry: fault.CallDeadline, code: codes.DeadlineExceeded, side: fault.Local, processed: fault.Maybe,
		evidence: with("waiting: ", "sent: true"), remedy: "give the call more time (context.WithTimeout)",
		run: func(w *world, mended bool) error {
			w.serve(holding(3 * time.Second))
			limit := 2 * time.Second
			if mended {
				limit = 5 * time.Second
			}
			ctx, cancel := context.WithTimeout(context.Background(), limit)
			defer cancel()
			return order(ctx, w.client())
		}},
	{entry: fault.CallDeadline, name: "(no server)", code: codes.DeadlineExceeded, side: fault.Local, processed: fault.No,
		evidence: []string{"method: " + place, "waiting: connect"}, remedy: "the latest failure is in the rungs, remedy that",
		run: func(w *world, mended bool) error {
			if mended {
				w.serve(nil)
			}
			ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
			defer cancel()
			return order(ctx, w.client(), grpc.WaitForReady(true))
		}},
	{entry: fault.CallDeadline, name: "(server)", code: codes.DeadlineExceeded, side: fault.Local, processed: fault.Yes,
		evidence: []string{"method: " + place}, remedy: "a server inherits the caller's remaining budget",
		run: func(w *world, mended bool) error {
			s, limit := w.serve(holding(3*time.Second)), "2S"
			if mended {
				limit = "5S"
			}
			p := w.scriptedClient()
			p.SendRequest(1, false, place, "grpc-timeout", limit)
			p.SendBody(1, peer.Message(text("tea")), true)
			return next(w, s.causes, "the end of the handler's context")
		}},
	{entry: fault.CallDeadlinePast, code: codes.DeadlineExceeded, side: fault.Local, processed: fault.No,
		evidence: []string{"method: " + place}, remedy: "Make a context per operation with context.WithTimeout",
		run: func(w *world, mended bool) error {
			w.serve(nil)
			ctx, cancel := context.WithTimeout(context.Background(), time.Second)
			defer cancel()
			pause(3 * time.Second)
			if mended {
				ctx, cancel = context.WithTimeout(context.Background(), time.Second)
				defer cancel()
			}
			return order(ctx, w.client())
		}},
	{entry: fault.CallClosed, code: codes.Canceled, side: fault.Local, processed: fault.No,
		evidence: []string{"method: " + place}, remedy: "Close the ClientConn when the program ends",
		run: func(w *world, mended bool) error {
			w.serve(nil)
			cc := w.client()
			if !mended {
				_ = cc.Close()
			}
			return order(context.Background(), cc)
		}},
	{entry: fault.CallClosed, name: "(meanwhile)", code: codes.Canceled, side: fault.Local, processed: fault.Maybe,
		evidence: onStream, remedy: "not after each use",
		run: func(w *world, mended bool) error {
			w.serve(holding(time.Minute))
			cc := w.client()
			if !mended {
				time.AfterFunc(time.Second, func() { _ = cc.Close() })
			}
			return order(context.Background(), cc)
		}},
	{entry: fault.CallCredentials, code: codes.Unauthenticated, side: fault.Local, processed: fault.No,
		evidence: []string{"method: " + place}, remedy: "try the token source by itself",
		run: func(w *world, mended bool) error {
			w.serve(nil)
			t := token{err: errors.New("the token endpoint answers 500")}
			if mended {
				t.err = nil
			}
			return order(context.Background(), w.client(), grpc.PerRPCCredentials(t))
		}},
	{entry: fault.CallInsecureCredentials, code: codes.Unauthenticated, side: fault.Local, processed: fault.No,
		evidence: []string{"method: " + place}, remedy: "use credentials whose RequireTransportSecurity returns false",
		run: func(w *world, mended bool) error {
			w.serve(nil)
			return order(context.Background(), w.client(), grpc.PerRPCCredentials(token{secure: !mended}))
		}},
	{entry: fault.CallMisuse, code: codes.Internal, side: fault.Local, processed: fault.No,
		evidence: nil, remedy: "Correct the program at the place the message names",
		run: func(w *world, mended bool) error {
			w.serve(nil)
			name := "squeeze"
			if mended {
				name = "gzip"
			}
			return order(context.Background(), w.client(), grpc.UseCompressor(name))
		}},
	{entry: fault.CallMisuse, name: "(SendMsg after CloseSend)", code: codes.Internal, side: fault.Local, processed: fault.Maybe,
		evidence: []string{"method: " + upload}, remedy: "Correct the program at the place the message names",
		run: func(w *world, mended bool) error {
			w.serve(&shop{stream: func(st grpc.ServerStream) error {
				for {
					if err := st.RecvMsg(new(wrapperspb.StringValue)); err == io.EOF {
						return st.SendMsg(wrapperspb.String("done"))
					}
				}
			}})
			st, err := w.client().NewStream(w.Context(), &grpc.StreamDesc{ClientStreams: true}, upload)
			w.must(err)
			if mended {
				w.must(st.SendMsg(wrapperspb.String("tea")))
			}
			w.must(st.CloseSend())
			if !mended {
				return st.SendMsg(wrapperspb.String("tea"))
			}
			return st.RecvMsg(new(wrapperspb.StringValue))
		}},
	{entry: fault.CallMisuse, name: "(server)", code: codes.Internal, side: fault.Local, processed: fault.Yes,
		evidence: []string{"method: " + place}, remedy: "Correct the program at the place the message names",
		run: answering(func(ctx context.Context, mended bool) (*wrapperspb.StringValue, error) {
			if !mended {
				_ = grpc.SendHeader(ctx, metadata.Pairs("x-first", "1"))
			}
			return wrapperspb.String("done"), grpc.SetHeader(ctx, metadata.Pairs("x-second", "2"))
		})},
}

// policy is a client's retry policy: three attempts, for UNAVAILABLE.
func policy(more string) faultline.DialOption {
	return faultline.WithDefaultServiceConfig(`{` + more + `"methodConfig": [{"name": [{}], "retryPolicy": {"maxAttempts": 3,
		"initialBackoff": "1s", "maxBackoff": "1s", "backoffMultiplier": 1, "retryableStatusCodes": ["UNAVAILABLE"]}}]}`)
}

// attempts provokes with a server that is ill for so many attempts of calls;
// with the remedy it is ill for fewer.
func attempts(ill, mendedIll int, bad peer.Answer, opt faultline.DialOption) func(*world, bool) error {
	return func(w *world, mended bool) error {
		left := ill
		if mended {
			left = mendedIll
		}
		w.script(peer.Each(func(p *peer.Peer, stream uint32) error {
			if left--; left >= 0 {
				return bad(p, stream)
			}
			return ok(p, stream)
		}))
		return w.call(opt)
	}
}

var away = peer.TrailersOnly(int(codes.Unavailable), "the store room is locked")

var attemptRows = []row{
	{entry: fault.CallRetriesExhausted, above: fault.HandlerStatus, code: codes.Unavailable, side: fault.Remote, processed: fault.Maybe,
		evidence: onStream[:2], remedy: "only help against short outages", run: attempts(3, 2, away, policy(""))},
	{entry: fault.CallRetryThrottled, above: fault.HandlerStatus, code: codes.Unavailable, side: fault.Remote, processed: fault.Maybe,
		evidence: onStream[:2], remedy: "Adjust maxTokens and tokenRatio",
		run: func(w *world, mended bool) error {
			throttle := `"retryThrottling": {"maxTokens": 2, "tokenRatio": 0.1}, `
			if mended {
				throttle = `"retryThrottling": {"maxTokens": 10, "tokenRatio": 0.1}, `
			}
			return attempts(2, 2, away, policy(throttle))(w, mended)
		}},
	{entry: fault.CallRetryPushback, above: fault.HandlerStatus, code: codes.Unavailable, side: fault.Remote, processed: fault.Maybe,
		evidence: onStream[:2], remedy: "send a non-negative number of milliseconds",
		run: func(w *world, mended bool) error {
			ms := "-1"
			if mended {
				ms = "100"
			}
			return attempts(1, 1, peer.TrailersOnly(int(codes.Unavailable), "closing time", "grpc-retry-pushback-ms", ms), policy(""))(w, mended)
		}},
}

var attemptsCommitted = row{entry: fault.CallRetryCommitted, above: fault.HandlerStatus, code: codes.Unavailable, side: fault.Remote, processed: fault.Maybe,
	evidence: onStream[:2], remedy: "sends no headers before it knows that it can answer",
	run: func(w *world, mended bool) error {
		bad := peer.Then(func(p *peer.Peer, stream uint32) error {
			return p.SendHeaders(stream, false, ":status", "200", "content-type", "application/grpc")
		}, func(p *peer.Peer, stream uint32) error {
			return p.SendHeaders(stream, true, "grpc-status", "14", "grpc-message", "the store room is locked")
		})
		if mended {
			bad = away
		}
		return attempts(1, 1, bad, policy(""))(w, mended)
	}}

// An idle connection that its server retires fails no call: server.max-idle is
// what servers' logs and GOAWAY's debug data call it.
func TestIdleConnectionsFailNoCall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		s := w.serve(nil, faultline.KeepaliveParams(keepalive.ServerParameters{MaxConnectionIdle: time.Minute}))
		cc := w.client()
		for range 3 {
			w.must(order(context.Background(), cc))
			pause(2 * time.Minute)
			if len(s.away) == 0 {
				t.Error("the connection was not retired")
			}
			for range len(s.away) { // the client may leave at the first of two
				if e := <-s.away; e.Debug != "max_idle" || e.Code != "NO_ERROR" {
					t.Errorf("the connection was retired with %+v", e)
				}
			}
		}
	})
}

var serverRows = []row{
	{entry: fault.ServerDraining, code: codes.Unavailable, side: fault.Local, processed: fault.No,
		evidence: []string{"address: 10.", "method: " + place}, remedy: "It is safe to call again",
		run: func(w *world, mended bool) error {
			s := w.serve(nil)
			p := w.scriptedClient()
			p.SendRequest(1, false, place) // and its message is yet to come
			pause(time.Second)
			if mended {
				p.SendBody(1, peer.Message(text("tea")), true)
				return next(w, s.ended, "the call's end")
			}
			s.Stop()
			return next(w, s.refused, "the call's refusal")
		}},
	{entry: fault.ServerStopped, code: codes.Unavailable, side: fault.Local, processed: fault.Yes,
		evidence: nil, remedy: "Use GracefulStop or Shutdown",
		run: func(w *world, mended bool) error {
			s, _ := underway(w, peer.Options{})
			if mended {
				s.GracefulStop()
			} else {
				s.Stop()
			}
			return next(w, s.causes, "the end of the handler's context")
		}},
	{entry: fault.ServerOverloaded, code: codes.ResourceExhausted, side: fault.Local, processed: fault.No,
		evidence: []string{"option: MaxHandlers", "limit: 1"}, remedy: "raise the limit that the evidence names",
		run: func(w *world, mended bool) error {
			limit := 1
			if mended {
				limit = 2
			}
			s, p := underway(w, peer.Options{Interleave: true}, faultline.MaxHandlers(limit))
			p.SendRequest(3, false, watch)
			p.SendBody(3, peer.Message(nil), true)
			select {
			case err := <-s.refused:
				return err
			case err := <-s.ended:
				return err
			}
		}},
	{entry: fault.ServerOverloaded, name: "(bytes)", code: codes.ResourceExhausted, side: fault.Local, processed: fault.No,
		evidence: []string{"option: MaxUndeliveredBytes", "limit: 1000"}, remedy: "raise the limit that the evidence names",
		run: func(w *world, mended bool) error {
			limit := int64(1000)
			if mended {
				limit = 10_000
			}
			s := w.serve(nil, faultline.MaxUndeliveredBytes(limit))
			return request(w, w.scriptedClient(), s, place, peer.Message(append([]byte{0x0a, 0xd0, 0x0f}, long2000...)))
		}},
	{entry: fault.ServerMaxAge, code: codes.Unavailable, side: fault.Local, processed: fault.Yes,
		evidence: []string{"option: MaxConnectionAgeGrace"}, remedy: "Raise MaxConnectionAgeGrace",
		run: func(w *world, mended bool) error {
			p := keepalive.ServerParameters{MaxConnectionAge: 10 * time.Second, MaxConnectionAgeGrace: 5 * time.Second}
			if mended {
				p.MaxConnectionAgeGrace = 2 * time.Minute
			}
			s, _ := underway(w, peer.Options{Timeout: time.Hour}, faultline.KeepaliveParams(p))
			return next(w, s.causes, "the end of the handler's context")
		}},
}

var handlerRows = []row{
	{entry: fault.HandlerStatus, code: codes.NotFound, side: fault.Remote, processed: fault.Yes,
		evidence: onStream, remedy: "Read the message and the details",
		run: func(w *world, mended bool) error {
			w.serve(&shop{place: func(_ context.Context, in *wrapperspb.StringValue) (*wrapperspb.StringValue, error) {
				if mended {
					return in, nil
				}
				return nil, status.Errorf(codes.NotFound, "no such tea")
			}})
			return w.call()
		}},
	{entry: fault.HandlerUnknownService, code: codes.Unimplemented, side: fault.Local, processed: fault.No,
		evidence: []string{"method: /shop.Order/Place", "nearest: shop.Orders"}, remedy: "The evidence names the nearest registered name", run: asked("/shop.Order/Place", peer.Message(nil))},
	{entry: fault.HandlerUnknownMethod, code: codes.Unimplemented, side: fault.Local, processed: fault.No,
		evidence: []string{"method: /shop.Orders/Plase", "nearest: "}, remedy: "the evidence names the nearest one", run: asked("/shop.Orders/Plase", peer.Message(nil))},
	{entry: fault.HandlerUnknownMethod, name: "(malformed)", code: codes.Unimplemented, side: fault.Remote, processed: fault.No,
		evidence: []string{"method: Place"}, remedy: "Compare names", run: asked("Place", peer.Message(nil))},
	{entry: fault.HandlerNotStatus, code: codes.Unknown, side: fault.Local, processed: fault.Yes,
		evidence: []string{"method: " + place, "reference: "}, remedy: "status.Errorf(code, ...)",
		run: answering(func(_ context.Context, mended bool) (*wrapperspb.StringValue, error) {
			if mended {
				return wrapperspb.String("done"), nil
			}
			return nil, errors.New("disk 7 is full")
		})},
	{entry: fault.HandlerPanic, code: codes.Unknown, side: fault.Local, processed: fault.Yes,
		evidence: []string{"method: " + place, "reference: "}, remedy: "fix the panic",
		run: answering(func(_ context.Context, mended bool) (*wrapperspb.StringValue, error) {
			if mended {
				return wrapperspb.String("done"), nil
			}
			panic("the kettle is empty")
		})},
	{entry: fault.HandlerContext, code: codes.DeadlineExceeded, side: fault.Local, processed: fault.Yes,
		evidence: []string{"method: " + place}, remedy: "the handler's own timeout is too short",
		run: answering(func(ctx context.Context, mended bool) (*wrapperspb.StringValue, error) {
			own := time.Second
			if mended {
				own = 5 * time.Second
			}
			ctx, cancel := context.WithTimeout(ctx, own)
			defer cancel()
			select { // a database
			case <-ctx.Done():
				return nil, ctx.Err()
			case <-time.After(3 * time.Second):
				return wrapperspb.String("done"), nil
			}
		})},
	{entry: fault.PolicyPermission, code: codes.PermissionDenied, side: fault.Local, processed: fault.No,
		evidence: []string{"method: " + place, "option: InTapHandle"}, remedy: "correct the server's rules",
		run: func(w *world, mended bool) error {
			s := w.serve(nil, faultline.InTapHandle(func(ctx context.Context, _ *tap.Info) (context.Context, error) {
				if mended {
					return ctx, nil
				}
				return nil, errors.New("tenant 7 is barred")
			}))
			return request(w, w.scriptedClient(), s, place, peer.Message(text("tea")))
		}},
}
