// SPDX-License-Identifier: Apache-2.0

package faultline_test

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"golang.org/x/net/http2"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	testgrpc "google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/metadata"

	"github.com/faultline-rpc/faultline"
	"github.com/faultline-rpc/faultline/internal/peer"
	"github.com/faultline-rpc/faultline/internal/simnet"
	"github.com/faultline-rpc/faultline/status"
)

// desk answers as told.
type desk struct {
	testgrpc.UnimplementedTestServiceServer
	unary  func(context.Context) error
	stream func(grpc.ServerStream) error
}

func (d *desk) UnaryCall(ctx context.Context, in *testgrpc.SimpleRequest) (*testgrpc.SimpleResponse, error) {
	_ = grpc.SetTrailer(ctx, metadata.Pairs("x-name", secret))
	if d.unary != nil {
		if err := d.unary(ctx); err != nil {
			return nil, err
		}
	}
	return &testgrpc.SimpleResponse{Payload: in.Payload}, nil
}

func (d *desk) FullDuplexCall(s testgrpc.TestService_FullDuplexCallServer) error { return d.stream(s) }

func (d *desk) StreamingOutputCall(_ *testgrpc.StreamingOutputCallRequest, s testgrpc.TestService_StreamingOutputCallServer) error {
	return d.stream(s)
}

func fails(err error) *desk { return &desk{unary: func(context.Context) error { return err }} }

func waits(d time.Duration) *desk {
	return &desk{unary: func(ctx context.Context) error {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(d):
			return nil
		}
	}}
}

// sends sends n messages and ends with err.
func sends(n int, err error) *desk {
	return &desk{stream: func(s grpc.ServerStream) error {
		for range n {
			if err := s.SendMsg(&testgrpc.StreamingOutputCallResponse{Payload: hushed().Payload}); err != nil {
				return err
			}
		}
		return err
	}}
}

// dozes does not look at its context; it belongs in a bubble.
func dozes(d time.Duration) *desk {
	return &desk{unary: func(context.Context) error { time.Sleep(d); return nil }}
}

// canceled is a context that ends after d.
func canceled(d time.Duration) context.Context {
	ctx, cancel := context.WithCancel(within(time.Minute))
	time.AfterFunc(d, cancel)
	return ctx
}

// listens ends with its context.
func listens() *desk {
	return &desk{stream: func(s grpc.ServerStream) error {
		<-s.Context().Done()
		return s.Context().Err()
	}}
}

func call(c testgrpc.TestServiceClient, ctx context.Context, opts ...grpc.CallOption) {
	_, _ = c.UnaryCall(ctx, hushed(), opts...)
}

// readAll receives to the end of a stream that the server alone sends on.
func readAll(c testgrpc.TestServiceClient, ctx context.Context) {
	s, err := c.StreamingOutputCall(ctx, &testgrpc.StreamingOutputCallRequest{})
	for err == nil {
		_, err = s.Recv()
	}
}

// down answers attempts with UNAVAILABLE until the n-th, and says when the next
// is welcome: back-off would be random.
func down(n int) *desk {
	return &desk{unary: func(ctx context.Context) error {
		if n--; n > 0 {
			_ = grpc.SetTrailer(ctx, metadata.Pairs("grpc-retry-pushback-ms", "100"))
			return status.Error(codes.Unavailable, "the store room is locked")
		}
		return nil
	}}
}

func policy(p string) faultline.DialOption {
	return faultline.WithDefaultServiceConfig(`{"methodConfig":[{"name":[{}],` + p + `}]}`)
}

// refuses is an interceptor that lets nobody in.
func refuses(context.Context, any, *grpc.UnaryServerInfo, grpc.UnaryHandler) (any, error) {
	return nil, status.Error(codes.Unauthenticated, "who are you?")
}

// journalScene is one call, or what there is instead.
type journalScene struct {
	name string
	play func(e *ends)
}

// journalScenes are what TestJournal plays, each in a bubble.
func journalScenes() []journalScene {
	return []journalScene{
		{"a call succeeds", func(e *ends) { e.serve(&desk{}); call(e.dial(), within(time.Second)) }},
		{"a call without deadline is answered NOT_FOUND", func(e *ends) {
			e.serve(fails(status.Error(codes.NotFound, "no such tea")))
			call(e.dial(), context.Background())
		}},
		{"a handler returns an error that is no status", func(e *ends) {
			e.serve(fails(errors.New("sql: database is closed")))
			call(e.dial(), within(time.Second))
		}},
		{"a handler returns INTERNAL, with its cause", func(e *ends) {
			e.serve(fails(status.Wrap(errors.New("sql: database is closed"), codes.Internal, "database error")))
			call(e.dial(), within(time.Second))
		}},
		{"a handler panics", func(e *ends) {
			e.serve(&desk{unary: func(context.Context) error { panic("index out of range") }})
			call(e.dial(), within(time.Second))
		}},
		{"a handler returns a failure of its own client", func(e *ends) {
			_ = e.net.SetHealth("stock:443", simnet.Refused)
			cc, _ := faultline.NewClient("passthrough:///stock:443", faultline.WithTransportCredentials(insecure.NewCredentials()), faultline.WithContextDialer(e.net.Dial))
			e.Cleanup(func() { cc.Close() })
			behind := testgrpc.NewTestServiceClient(cc)
			e.serve(&desk{unary: func(ctx context.Context) error {
				_, err := behind.UnaryCall(ctx, hushed())
				return err
			}})
			call(e.dial(), within(time.Second))
		}},
		{"no such method", func(e *ends) {
			e.serve(&desk{})
			e.dial()
			_ = e.cc.Invoke(within(time.Second), "/grpc.testing.TestService/UnaryCal", hushed(), new(testgrpc.SimpleResponse))
		}},
		{"an interceptor of the server refuses", func(e *ends) {
			e.serve(&desk{}, faultline.UnaryInterceptor(refuses))
			call(e.dial(), within(time.Second))
		}},
		// Both ends notice a deadline in the same millisecond: handlers here do not look.
		{"a deadline passes in the handler", func(e *ends) { e.serve(dozes(400 * time.Millisecond)); call(e.dial(), within(300*time.Millisecond)) }},
		{"a handler has less time than its caller", func(e *ends) {
			e.serve(&desk{unary: func(ctx context.Context) error {
				ctx, cancel := context.WithTimeout(ctx, 100*time.Millisecond)
				defer cancel()
				<-ctx.Done()
				return ctx.Err()
			}})
			call(e.dial(), within(time.Second))
		}},
		{"the program cancels", func(e *ends) { e.serve(waits(time.Minute)); call(e.dial(), canceled(100*time.Millisecond)) }},
		{"a call is made too late", func(e *ends) {
			e.serve(&desk{})
			ctx := within(time.Second)
			time.Sleep(2 * time.Second)
			call(e.dial(), ctx)
		}},
		{"a stream of three messages", func(e *ends) { e.serve(sends(3, nil)); readAll(e.dial(), within(time.Second)) }},
		{"a stream fails after two messages", func(e *ends) {
			e.serve(sends(2, status.Error(codes.DataLoss, "the reel is torn")))
			readAll(e.dial(), within(time.Second))
		}},
		{"a stream is forgotten, and its context ends", func(e *ends) {
			e.serve(listens())
			_, _ = e.dial().FullDuplexCall(canceled(time.Second))
		}},
		{"a stream is forgotten, and the client closed", func(e *ends) {
			e.serve(listens())
			_, _ = e.dial().FullDuplexCall(context.Background())
			time.Sleep(time.Second)
			e.cc.Close()
		}},
		{"a stream is canceled while messages wait", func(e *ends) {
			e.serve(sends(2, nil))
			ctx, cancel := context.WithCancel(context.Background())
			s, _ := e.dial().FullDuplexCall(ctx)
			_, _ = s.Recv()
			cancel()
		}},
		{"two attempts fail, the third succeeds", func(e *ends) {
			e.serve(down(3))
			call(e.dial(policy(`"retryPolicy":{"maxAttempts":4,"initialBackoff":"0.1s","maxBackoff":"0.1s","backoffMultiplier":1,"retryableStatusCodes":["UNAVAILABLE"]}`)), context.Background())
		}},
		{"all attempts fail", func(e *ends) {
			e.serve(down(9))
			call(e.dial(policy(`"retryPolicy":{"maxAttempts":2,"initialBackoff":"0.1s","maxBackoff":"0.1s","backoffMultiplier":1,"retryableStatusCodes":["UNAVAILABLE"]}`)), context.Background())
		}},
		{"the second hedge is faster", func(e *ends) {
			var n atomic.Int32
			e.serve(&desk{unary: func(ctx context.Context) error {
				if n.Add(1) == 1 {
					<-ctx.Done()
				}
				return ctx.Err()
			}})
			call(e.dial(policy(`"hedgingPolicy":{"maxAttempts":3,"hedgingDelay":"0.05s"}`)), within(time.Second))
		}},
		{"an interceptor of the client makes no call", func(e *ends) {
			e.serve(&desk{})
			call(e.dial(faultline.WithUnaryInterceptor(func(context.Context, string, any, any, *grpc.ClientConn, grpc.UnaryInvoker, ...grpc.CallOption) error {
				return status.Error(codes.ResourceExhausted, "ten calls a second are enough")
			})), within(time.Second))
		}},
		{"an interceptor of the client fails a call that succeeded", func(e *ends) {
			e.serve(&desk{})
			call(e.dial(faultline.WithUnaryInterceptor(func(ctx context.Context, m string, in, out any, cc *grpc.ClientConn, next grpc.UnaryInvoker, opts ...grpc.CallOption) error {
				_ = next(ctx, m, in, out, cc, opts...)
				return errors.New("the answer is not signed")
			})), within(time.Second))
		}},
		{"an interceptor of the client wraps an error", func(e *ends) {
			e.serve(fails(status.Error(codes.NotFound, "no such tea")))
			call(e.dial(faultline.WithUnaryInterceptor(func(ctx context.Context, m string, in, out any, cc *grpc.ClientConn, next grpc.UnaryInvoker, opts ...grpc.CallOption) error {
				return fmt.Errorf("order: %w", next(ctx, m, in, out, cc, opts...))
			})), within(time.Second))
		}},
		{"an interceptor of the client opens no stream", func(e *ends) {
			e.serve(&desk{})
			c := e.dial(faultline.WithStreamInterceptor(func(context.Context, *grpc.StreamDesc, *grpc.ClientConn, string, grpc.Streamer, ...grpc.CallOption) (grpc.ClientStream, error) {
				return nil, status.Error(codes.PermissionDenied, "not on Sundays")
			}))
			_, _ = c.FullDuplexCall(within(time.Second))
		}},
		{"a server is overloaded", func(e *ends) {
			e.serve(waits(time.Minute), faultline.MaxHandlers(1))
			c := e.dial()
			go call(c, canceled(2*time.Second))
			time.Sleep(time.Second)
			call(c, within(time.Second))
		}},
		{"a server stops while a handler runs", func(e *ends) {
			e.serve(waits(time.Minute))
			go call(e.dial(), context.Background())
			time.Sleep(time.Second)
			e.s.Stop()
		}},
		{"a server stops while a request is half sent", func(e *ends) {
			e.serve(&desk{})
			e.raw().SendRequest(1, false, unaryCall)
			time.Sleep(time.Second)
			e.s.Stop()
		}},
		{"a client speaks cleartext to TLS", func(e *ends) {
			secured, _ := certificates(e)
			e.serve(&desk{}, faultline.Creds(credentials.NewTLS(secured)))
			call(e.dial(), within(time.Second))
			e.cc.Close()
		}},
		{"a request is half sent and given up", func(e *ends) {
			e.serve(&desk{})
			p := e.raw()
			p.SendRequest(1, false, unaryCall, "grpc-timeout", "5S")
			time.Sleep(time.Second)
			p.SendRST(1, http2.ErrCodeCancel)
		}},
		{"a request is no gRPC", func(e *ends) {
			e.serve(&desk{})
			e.raw().SendRequest(1, true, unaryCall, "content-type", "application/json", "x-name", secret)
		}},
		{"a request has a broken timeout", func(e *ends) {
			e.serve(&desk{})
			e.raw().SendRequest(1, true, unaryCall, "grpc-timeout", "soon", "x-name", secret)
		}},
		{"a request breaks a rule of HTTP/2", func(e *ends) {
			e.serve(&desk{})
			e.raw().SendRequest(1, true, unaryCall, "te", "gzip", "x-name", secret)
		}},
		{"a connection has too many calls", func(e *ends) {
			e.serve(waits(time.Minute), faultline.MaxConcurrentStreams(1))
			p := e.raw()
			p.SendRequest(1, false, unaryCall)
			p.SendRequest(3, false, unaryCall)
		}},
		{"a client breaks a rule of HTTP/2", func(e *ends) {
			e.serve(waits(time.Minute))
			p := e.raw()
			p.SendRequest(1, false, unaryCall)
			_ = p.Peer.SendBody(0, []byte("x"), false)
		}},
		{"a client pings too often", func(e *ends) {
			e.serve(waits(time.Minute))
			p := e.raw()
			for range 5 {
				_ = p.Peer.SendPing(false, [8]byte{1})
			}
		}},
		{"nothing listens", func(e *ends) {
			_ = e.net.SetHealth(logged, simnet.Refused)
			call(e.dial(), within(time.Second))
			e.cc.Close() // else it tries again
		}},
		{"a server retires the connection", func(e *ends) {
			e.script(peer.Each(peer.Then(peer.OK(nil), peer.GoAway(0, http2.ErrCodeNo, "max_age"))))
			call(e.dial(), within(time.Second))
		}},
		{"a server complains and closes the connection", func(e *ends) {
			e.script(peer.Each(peer.Then(peer.GoAway(0, http2.ErrCodeEnhanceYourCalm, "too_many_pings"), peer.HangUp())))
			call(e.dial(), within(time.Second))
		}},
		{"a server resets the stream after the headers", func(e *ends) {
			e.script(peer.Each(peer.Then(func(p *peer.Peer, stream uint32) error {
				return p.SendHeaders(stream, false, ":status", "200", "content-type", "application/grpc")
			}, peer.RST(http2.ErrCodeInternal))))
			call(e.dial(), within(time.Second))
		}},
		{"a connection falls silent", func(e *ends) {
			e.net = simnet.NewNetwork(simnet.Options{Latency: 2 * time.Second})
			e.serve(waits(time.Minute))
			call(e.dial(faultline.WithKeepaliveParams(keepalive.ClientParameters{Time: 10 * time.Second, Timeout: time.Second})), context.Background())
		}},
	}
}
