// SPDX-License-Identifier: Apache-2.0

package fault

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	grpcstatus "google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/anypb"
)

func TestNewFallsBackAndSaysSo(t *testing.T) {
	for _, tc := range []struct {
		e         *Entry
		asked     codes.Code
		want      codes.Code
		misplaced bool
	}{
		{DialRefused, codes.OK, codes.Unavailable, false},
		{DialRefused, codes.Unavailable, codes.Unavailable, false},
		{DialRefused, codes.NotFound, codes.Unavailable, true},
		{DialRefused, 99, codes.Unavailable, true},
		{HTTP2RSTOther, codes.OK, codes.Internal, false},
		{HTTP2RSTOther, codes.Unknown, codes.Unknown, false},
		{HTTP2RSTOther, codes.ResourceExhausted, codes.Internal, true},
		{HandlerStatus, codes.NotFound, codes.NotFound, false},
		{HandlerStatus, codes.OK, codes.Unknown, false},
		{HandlerStatus, 99, 99, false},
	} {
		f := tc.e.New(Args{Code: tc.asked})
		if f.Code() != tc.want || f.Misplaced() != tc.misplaced {
			t.Errorf("%s.New(%v): code %v, misplaced %v; want %v, %v", tc.e, tc.asked, f.Code(), f.Misplaced(), tc.want, tc.misplaced)
		}
		if said := strings.Contains(fmt.Sprintf("%+v", f), "does not carry"); said != tc.misplaced {
			t.Errorf("%s.New(%v): the ladder says that the code is misplaced: %v", tc.e, tc.asked, said)
		}
		// The mistake survives whatever is added above.
		if g := f.Above(PickNoReady, "").WithProcessed(No).WithAttempts(nil); g.Misplaced() != tc.misplaced {
			t.Errorf("%s: copies lose the mistake", tc.e)
		}
	}
}

func TestMessage(t *testing.T) {
	cause := errors.New("connect: connection refused")
	for _, tc := range []struct {
		args Args
		want string
	}{
		{Args{}, "dial.refused: nothing listens at the address"},
		{Args{Cause: cause}, "dial.refused: nothing listens at the address: connect: connection refused"},
		{Args{Message: "port 1", Cause: cause}, "dial.refused: port 1"},
		{Args{Message: "as told", Verbatim: true}, "as told"},
		{Args{Verbatim: true, Cause: cause}, ""},
	} {
		f := DialRefused.New(tc.args)
		if f.Message() != tc.want {
			t.Errorf("message %q, want %q", f.Message(), tc.want)
		}
		if want := "rpc error: code = Unavailable desc = " + tc.want; f.Error() != want {
			t.Errorf("Error() = %q, want %q", f.Error(), want)
		}
	}
	if f := DialRefused.Newf(Args{}, "port %d", 7); f.Message() != "dial.refused: port 7" {
		t.Errorf("Newf: %q", f.Message())
	}
}

func TestCausesAreReached(t *testing.T) {
	refused := &net.OpError{Op: "dial", Net: "tcp", Err: os.NewSyscallError("connect", syscall.ECONNREFUSED)}
	f := DialRefused.New(Args{Cause: refused})
	var op *net.OpError
	if !errors.Is(f, syscall.ECONNREFUSED) || !errors.As(f, &op) || op != refused {
		t.Error("the cause is not reached through the fault")
	}
	for _, end := range []error{context.Canceled, context.DeadlineExceeded} {
		f := CallDeadline.New(Args{Cause: fmt.Errorf("waiting for headers: %w", end)})
		if !errors.Is(fmt.Errorf("get user: %w", f), end) {
			t.Errorf("%v is not reached through the fault", end)
		}
	}
	if errors.Is(CallDeadline.New(Args{}), context.DeadlineExceeded) {
		t.Error("a fault without that cause claims it")
	}
	wrapped := fmt.Errorf("a: %w", errors.Join(errors.New("other"), f))
	if got, ok := From(wrapped); !ok || got != f || !DialRefused.Is(wrapped) || DialTimeout.Is(wrapped) {
		t.Errorf("From = %v, %v", got, ok)
	}
	for _, err := range []error{nil, errors.New("plain"), (*Fault)(nil)} {
		if f, ok := From(err); ok || f != nil {
			t.Errorf("From(%T) = %v, %v", err, f, ok)
		}
	}
}

func TestFaultsAreImmutable(t *testing.T) {
	f := DialRefused.New(Args{Processed: No})
	a, b := f.Above(PickNoReady, "a"), f.Above(PickUnhealthy, "b")
	c, d := a.Above(CallRetryThrottled, "c"), a.Above(CallRetryPushback, "d")
	l := &Ledger{Budget: time.Second}
	any := []*anypb.Any{{TypeUrl: "x/y"}}
	g := f.WithLedger(l).WithAttempts([]Attempt{{ID: "dial.timeout"}}).WithDetails(any).WithProcessed(Yes)
	if len(f.Rungs()) != 0 || f.Ledger() != nil || f.Attempts() != nil || f.Details() != nil || f.Processed() != No {
		t.Errorf("the original changed: %+v", f)
	}
	if a.Rungs()[0].ID != "pick.no-ready" || b.Rungs()[0].ID != "pick.unhealthy" || c.Rungs()[1].Text != "c" || d.Rungs()[1].Text != "d" {
		t.Error("copies share their rungs")
	}
	if g.Ledger() != l || len(g.Attempts()) != 1 || len(g.Details()) != 1 || g.Processed() != Yes || g.WithProcessed(Yes) != g {
		t.Errorf("what was added is missing: %+v", g)
	}
	if h := f.WithEvidence(Evidence{Address: "a:1"}); h.Evidence().Address != "a:1" || f.Evidence().Address != "" {
		t.Error("evidence was added to the original, or not at all")
	}
	if len(f.Evidence().fields()) != 0 {
		t.Error("a fault without evidence shows some")
	}
}

func TestGRPCStatusAgrees(t *testing.T) {
	detail, err := anypb.New(&errdetails.RequestInfo{RequestId: "r1"})
	if err != nil {
		t.Fatal(err)
	}
	f := HandlerStatus.New(Args{Code: codes.NotFound, Message: "no user", Verbatim: true}).WithDetails([]*anypb.Any{detail})
	st, ok := grpcstatus.FromError(f)
	if !ok || st.Code() != codes.NotFound || st.Message() != "no user" || len(st.Details()) != 1 {
		t.Errorf("grpc-go sees %v, %v", st, ok)
	}
	f.Proto().Details[0].TypeUrl = "changed"
	if f.Details()[0].TypeUrl == "changed" {
		t.Error("Proto shares the details")
	}
	if c := grpcstatus.Code(fmt.Errorf("x: %w", DialRefused.New(Args{}))); c != codes.Unavailable {
		t.Errorf("grpc-go sees %v through a wrapped fault", c)
	}
	if m := WireContentType.New(Args{Message: "got \xff\xfe"}).Proto().Message; m != "wire.content-type: got \uFFFD" {
		t.Errorf("message %q is no valid UTF-8", m)
	}
}

func TestEnumNames(t *testing.T) {
	for want, got := range map[string]fmt.Stringer{
		"http2": LayerHTTP2, "policy": LayerPolicy, "unknown": LayerUnknown, "between": Between, "local": Local, "remote": Remote,
		"maybe": Maybe, "no": No, "yes": Yes, "client": ByClient, "client and server": ByBoth, "server": ByServer,
		"invalid(200)": Layer(200), "invalid(99)": Side(99), "invalid(98)": Processed(98), "who(0)": Who(0), "dial.refused": DialRefused,
	} {
		if got.String() != want {
			t.Errorf("%T %v, want %q", got, got, want)
		}
	}
	var p Processed
	if p != Maybe {
		t.Error("the zero Processed is not Maybe")
	}
}

// TestFaultIsNotEOF: a connection's end does not look like a stream's good one.
func TestFaultIsNotEOF(t *testing.T) {
	broke := &net.OpError{Op: "read", Err: fmt.Errorf("%w, %w", io.EOF, syscall.ECONNRESET)}
	f := HTTP2ConnectionLost.New(Args{Side: Remote, Cause: broke})
	var op *net.OpError
	switch {
	case errors.Is(f, io.EOF), errors.Is(fmt.Errorf("call: %w", f), io.EOF):
		t.Errorf("errors.Is(%v, io.EOF)", f)
	case !errors.Is(f, syscall.ECONNRESET):
		t.Errorf("%v is not ECONNRESET", f)
	case !errors.As(f, &op) || op != broke:
		t.Errorf("%v is not as its cause", f)
	case errors.Unwrap(f).Error() != broke.Error():
		t.Errorf("unwraps to %q, want %q", errors.Unwrap(f), broke)
	}
	if f := DialRefused.New(Args{Cause: syscall.ECONNREFUSED}); errors.Unwrap(f) != error(syscall.ECONNREFUSED) {
		t.Errorf("unwraps to %v, want the cause itself", errors.Unwrap(f))
	}
}
