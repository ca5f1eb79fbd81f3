// SPDX-License-Identifier: Apache-2.0

package call

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	testgrpc "google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/stats"
	"google.golang.org/grpc/status"

	"github.com/faultline-rpc/faultline/fault"
)

// Calls that are canceled at any moment never disturb their neighbors: storage
// is used again only where nothing refers to it. Run it with -race.
func TestCanceledCallsDisturbNobody(t *testing.T) {
	before := runtime.NumGoroutine()
	t.Run("calls", func(t *testing.T) {
		c, _ := client(t, serve(t, &service{
			unary: func(_ context.Context, r *testgrpc.SimpleRequest) (*testgrpc.SimpleResponse, error) {
				return &testgrpc.SimpleResponse{Payload: r.Payload}, nil
			},
			duplex: func(st testgrpc.TestService_FullDuplexCallServer) error {
				for {
					r, err := st.Recv()
					if err != nil {
						return nil
					}
					if err := st.Send(&testgrpc.StreamingOutputCallResponse{Payload: r.Payload}); err != nil {
						return err
					}
				}
			},
		}), Config{})
		var wg sync.WaitGroup
		for g := range 16 {
			wg.Go(func() {
				for i := range 100 {
					want := strings.Repeat(fmt.Sprint(g, ".", i, " "), 1+rand.IntN(500))
					ctx, cancel := context.Background(), context.CancelFunc(func() {})
					hasty := rand.IntN(2) == 0
					if hasty {
						ctx, cancel = context.WithTimeout(ctx, time.Duration(rand.IntN(2000))*time.Microsecond)
					}
					got, err := "", error(nil)
					if i%3 == 0 {
						got, err = echoStream(ctx, stub(c), want)
					} else {
						var r *testgrpc.SimpleResponse
						if r, err = stub(c).UnaryCall(ctx, &testgrpc.SimpleRequest{Payload: body(want)}); err == nil {
							got = string(r.Payload.Body)
						}
					}
					cancel()
					f, _ := fault.From(err)
					switch {
					case err == nil && got != want:
						t.Errorf("got %.40q, want %.40q", got, want)
					case err != nil && (!hasty || f == nil || f.Code() != codes.DeadlineExceeded || !errors.Is(err, context.DeadlineExceeded) && f.Entry() != fault.HandlerStatus):
						t.Errorf("%+v", err)
					}
				}
			})
		}
		wg.Wait()
	})
	settled(t, before)
}

// settled waits until no more goroutines run than before.
func settled(t *testing.T, before int) {
	t.Helper()
	for range 1000 {
		if runtime.NumGoroutine() <= before {
			return
		}
		runtime.Gosched()
		runtime.GC()
	}
	buf := make([]byte, 1<<16)
	t.Errorf("%d goroutines before, %d after:\n%s", before, runtime.NumGoroutine(), buf[:runtime.Stack(buf, true)])
}

// echoStream sends s in pieces on one goroutine and receives on another.
func echoStream(ctx context.Context, stub testgrpc.TestServiceClient, s string) (string, error) {
	st, err := stub.FullDuplexCall(ctx)
	if err != nil {
		return "", err
	}
	pieces := strings.SplitAfter(s, " ")
	if len(pieces) > 20 {
		pieces = append(pieces[:19:19], strings.Join(pieces[19:], ""))
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		for _, p := range pieces {
			if st.Send(&testgrpc.StreamingOutputCallRequest{Payload: body(p)}) != nil {
				return
			}
		}
		_ = st.CloseSend()
	})
	defer wg.Wait()
	var got strings.Builder
	for {
		r, err := st.Recv()
		if err == io.EOF {
			return got.String(), nil
		}
		if err != nil {
			return "", err
		}
		got.Write(r.GetPayload().GetBody())
	}
}

// Attempts that run side by side, end at any moment and are given up at any
// moment disturb nobody, and leave nothing behind. Run it with -race.
func TestPoliciesUnderStress(t *testing.T) {
	before := runtime.NumGoroutine()
	for name, config := range map[string]string{
		"retry": `{"methodConfig":[{"name":[{}],"timeout":"5s","retryPolicy":{"maxAttempts":4,"initialBackoff":"0.001s","maxBackoff":"0.002s",
			"backoffMultiplier":2,"retryableStatusCodes":["UNAVAILABLE"]}}]}`,
		"hedging": `{"methodConfig":[{"name":[{}],"timeout":"5s","hedgingPolicy":{"maxAttempts":4,"hedgingDelay":"0.001s","nonFatalStatusCodes":["UNAVAILABLE"]}}]}`,
	} {
		t.Run(name, func(t *testing.T) {
			flaky := func() error {
				switch rand.IntN(4) {
				case 0:
					return status.Error(codes.Unavailable, "down")
				case 1:
					runtime.Gosched()
				}
				return nil
			}
			dial := serve(t, &service{
				unary: func(_ context.Context, r *testgrpc.SimpleRequest) (*testgrpc.SimpleResponse, error) {
					return &testgrpc.SimpleResponse{Payload: r.Payload}, flaky()
				},
				input: func(st testgrpc.TestService_StreamingInputCallServer) error {
					n := int32(0)
					for {
						r, err := st.Recv()
						if err == io.EOF {
							break
						}
						if err != nil {
							return err
						}
						n += int32(len(r.Payload.Body))
					}
					if err := flaky(); err != nil {
						return err
					}
					return st.SendAndClose(&testgrpc.StreamingInputCallResponse{AggregatedPayloadSize: n})
				},
				output: func(r *testgrpc.StreamingOutputCallRequest, st testgrpc.TestService_StreamingOutputCallServer) error {
					if err := flaky(); err != nil {
						return err
					}
					return st.Send(&testgrpc.StreamingOutputCallResponse{Payload: r.Payload})
				},
			})
			c, ch := clientWith(t, dial, config, Config{StatsHandlers: []stats.Handler{&attemptStats{}}})
			var wg sync.WaitGroup
			for g := range 8 {
				wg.Go(func() {
					for i := range 60 {
						want := strings.Repeat(fmt.Sprint(g, ".", i, " "), 1+rand.IntN(50))
						ctx, cancel := context.WithCancel(context.Background())
						hasty := rand.IntN(3) == 0
						if hasty {
							time.AfterFunc(time.Duration(rand.IntN(2000))*time.Microsecond, cancel)
						}
						got, err := policyCall(ctx, stub(c), i, want)
						cancel()
						f, _ := fault.From(err)
						switch {
						case err == nil && got != want:
							t.Errorf("got %.40q, want %.40q", got, want)
						case err != nil && (f == nil || f.Code() != codes.Unavailable && (!hasty || f.Code() != codes.Canceled)):
							t.Errorf("%+v", err)
						}
					}
				})
			}
			wg.Wait()
			if c.live.first != nil {
				t.Error("streams are left")
			}
			ch.Close()
		})
	}
	settled(t, before)
}

// policyCall makes one of three kinds of call.
func policyCall(ctx context.Context, c testgrpc.TestServiceClient, i int, text string) (string, error) {
	switch i % 3 {
	case 0:
		r, err := c.UnaryCall(ctx, &testgrpc.SimpleRequest{Payload: body(text)})
		return string(r.GetPayload().GetBody()), err
	case 1:
		st, err := c.StreamingOutputCall(ctx, &testgrpc.StreamingOutputCallRequest{Payload: body(text)})
		if err != nil {
			return "", err
		}
		r, err := st.Recv()
		if err != nil {
			return "", err
		}
		if _, err = st.Recv(); err == io.EOF {
			err = nil
		}
		return string(r.Payload.Body), err
	}
	st, err := c.StreamingInputCall(ctx)
	if err != nil {
		return "", err
	}
	for range 3 {
		if err := st.Send(&testgrpc.StreamingInputCallRequest{Payload: body(text)}); err != nil {
			break // CloseAndRecv says why
		}
	}
	r, err := st.CloseAndRecv()
	if err == nil && int(r.AggregatedPayloadSize) != 3*len(text) {
		return fmt.Sprint(r.AggregatedPayloadSize, " bytes"), nil
	}
	return text, err
}

// Clients that are closed while their streams make other attempts: every stream
// ends once, and so does whatever it had under way. Run it with -race.
func TestCloseAmongAttempts(t *testing.T) {
	before := runtime.NumGoroutine()
	t.Run("clients", func(t *testing.T) {
		dial := serve(t, &service{duplex: func(st testgrpc.TestService_FullDuplexCallServer) error {
			r, err := st.Recv()
			if err == nil && len(r.GetPayload().GetBody()) > 0 {
				err = status.Error(codes.Unavailable, "again")
			}
			if err != nil {
				return err
			}
			select {
			case <-st.Context().Done():
				return st.Context().Err()
			case <-time.After(time.Duration(rand.IntN(4000)) * time.Microsecond):
				return st.Send(&testgrpc.StreamingOutputCallResponse{})
			}
		}})
		for _, config := range []string{"",
			`{"methodConfig":[{"name":[{}],"retryPolicy":{"maxAttempts":5,"initialBackoff":"0.0001s","maxBackoff":"60s","backoffMultiplier":1000,"retryableStatusCodes":["UNAVAILABLE"]}}]}`,
			`{"methodConfig":[{"name":[{}],"hedgingPolicy":{"maxAttempts":5,"hedgingDelay":"0.0002s","nonFatalStatusCodes":["UNAVAILABLE"]}}]}`} {
			for range 60 {
				c, ch := clientWith(t, dial, config, Config{})
				var wg sync.WaitGroup
				for i := range 8 {
					wg.Go(func() {
						var finished atomic.Int32
						st, err := stub(c).FullDuplexCall(context.Background(), grpc.OnFinish(func(error) { finished.Add(1) }))
						if err == nil {
							_ = st.Send(&testgrpc.StreamingOutputCallRequest{Payload: body(strings.Repeat("x", i%2))})
							_ = st.CloseSend()
							_, err = st.Recv()
						}
						f, ok := fault.From(err)
						if err != nil && !ok || ok && f.Entry() != fault.CallClosed && f.Code() != codes.Unavailable {
							t.Errorf("%+v", err)
						}
						if n := finished.Load(); err != nil && n != 1 {
							t.Errorf("OnFinish ran %d times", n)
						}
					})
				}
				<-time.After(time.Duration(rand.IntN(2000)) * time.Microsecond) // any moment
				ch.Close()
				c.Close()
				wg.Wait()
			}
		}
	})
	settled(t, before)
}
