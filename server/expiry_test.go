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
	"github.com/faultline-rpc/faultline/internal/peer"
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

// A request that comes in pieces waits for its rest: that is not the handler's
// time.
func TestDeadlineOfARequestInPieces(t *testing.T) {
	for _, tc := range []struct {
		rest time.Duration
		want []fault.Phase
		runs bool
	}{
		{100 * time.Millisecond, []fault.Phase{{Name: fault.PhaseQueue, Spent: 100 * time.Millisecond}, {Name: fault.PhaseHandler, Spent: 50 * time.Millisecond}}, true},
		{149 * time.Millisecond, []fault.Phase{{Name: fault.PhaseQueue, Spent: 149 * time.Millisecond}, {Name: fault.PhaseHandler, Spent: time.Millisecond}}, true},
		{151 * time.Millisecond, nil, false},
	} {
		t.Run(tc.rest.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				causes := make(chan error, 1)
				events := &event.Buffer{}
				r := newRig(t, Config{Sink: events}, &testService{empty: func(ctx context.Context, _ *testpb.Empty) (*testpb.Empty, error) {
					<-ctx.Done()
					causes <- context.Cause(ctx)
					return nil, ctx.Err()
				}})
				p := r.peer()
				p.SendRequest(1, false, emptyCall, "grpc-timeout", "150m")
				<-time.After(tc.rest)
				p.SendBody(1, peer.Message(nil), true)
				p.WantTrailers(1, "grpc-status", "4")
				synctest.Wait()
				all := event.All[event.DeadlineExpired](events)
				if !tc.runs {
					if len(causes) != 0 || len(all) != 0 {
						t.Errorf("the handler ran; events %+v", all)
					}
					return
				}
				f, _ := fault.From(<-causes)
				if l := f.Ledger(); l == nil || l.Budget != 150*time.Millisecond || l.Elapsed != l.Budget || !slices.Equal(l.Phases, tc.want) {
					t.Errorf("ledger %+v, want %v", l, tc.want)
				}
				if len(all) != 1 || all[0].Queued != tc.rest || all[0].Elapsed != 150*time.Millisecond {
					t.Errorf("events %+v", all)
				}
			})
		})
	}
}
