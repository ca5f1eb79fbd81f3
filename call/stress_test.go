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
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	testgrpc "google.golang.org/grpc/interop/grpc_testing"

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
