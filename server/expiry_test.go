// SPDX-License-Identifier: Apache-2.0

package server

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc/codes"
	testpb "google.golang.org/grpc/interop/grpc_testing"

	"github.com/faultline-rpc/faultline/event"
	"github.com/faultline-rpc/faultline/fault"
)

// How much of the budget was left when the call arrived, and what it went to
// from then on, is in the cause of the handler's context, in what observers see
// of the handler's error, and in an event.
func TestDeadlineOnTheServer(t *testing.T) {
	for name, ended := range map[string]func(context.Context) error{
		"Done": func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() },
		"Err": func(ctx context.Context) error {
			<-time.After(200 * time.Millisecond)
			return ctx.Err()
		},
		"wrapped": func(ctx context.Context) error { <-ctx.Done(); return fmt.Errorf("query: %w", ctx.Err()) },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var cause error
				events := &event.Buffer{}
				r := newRig(t, Config{Sink: events}, &testService{empty: func(ctx context.Context, _ *testpb.Empty) (*testpb.Empty, error) {
					err := ended(ctx)
					cause = context.Cause(ctx)
					return nil, err
				}})
				p := r.peer()
				res, err := p.Call(1, emptyCall, nil, "grpc-timeout", "150m")
				p.OK(err)
				if got := res.Get("grpc-status"); got != "4" {
					t.Errorf("grpc-status %s, want 4", got)
				}
				if got := res.Get("grpc-message"); !strings.Contains(got, "the deadline expired, 150ms after the request arrived") {
					t.Errorf("grpc-message %q", got)
				}
				f, ok := fault.From(cause)
				if !ok || f.Entry() != fault.CallDeadline || f.Code() != codes.DeadlineExceeded || f.Processed() != fault.Yes || !errors.Is(cause, context.DeadlineExceeded) {
					t.Fatalf("cause %+v", cause)
				}
				want := []fault.Phase{{Name: fault.PhaseHandler, Spent: 150 * time.Millisecond}}
				if l := f.Ledger(); l == nil || l.Budget != 150*time.Millisecond || l.Elapsed != l.Budget || !slices.Equal(l.Phases, want) {
					t.Errorf("ledger %+v", l)
				}
				if cause.Error() != f.Error() || fmt.Sprintf("%+v", cause) != fmt.Sprintf("%+v", f) {
					t.Errorf("the cause prints as %+v", cause)
				}
				took := 150 * time.Millisecond
				if name == "Err" {
					took = 200 * time.Millisecond
				}
				synctest.Wait()
				all := event.All[event.DeadlineExpired](events)
				once := event.DeadlineExpired{Method: emptyCall, Conn: 1, Stream: 1, Budget: 150 * time.Millisecond, Elapsed: took}
				if len(all) != 1 || all[0] != once {
					t.Errorf("events %+v, want %+v", all, once)
				}
			})
		})
	}
}
