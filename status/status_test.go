// SPDX-License-Identifier: Apache-2.0

package status_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"testing"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	spb "google.golang.org/genproto/googleapis/rpc/status"
	grpcstatus "google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/faultline-rpc/faultline/codes"
	"github.com/faultline-rpc/faultline/fault"
	"github.com/faultline-rpc/faultline/status"
)

// unlinked is a detail of a type that this program does not know, and broken
// one whose bytes are not of its type.
var (
	unlinked = &anypb.Any{TypeUrl: "type.example.com/shop.Unlinked", Value: []byte{8, 1}}
	broken   = &anypb.Any{TypeUrl: "type.googleapis.com/google.rpc.ErrorInfo", Value: []byte{0xff}}
)

func TestCreate(t *testing.T) {
	for _, tc := range []struct {
		err  error
		code codes.Code
		msg  string
	}{
		{status.New(codes.NotFound, "gone").Err(), codes.NotFound, "gone"},
		{status.Newf(codes.NotFound, "user %d", 7).Err(), codes.NotFound, "user 7"},
		{status.Error(codes.Internal, ""), codes.Internal, ""},
		{status.Errorf(codes.Internal, "%s: %w", "read", io.ErrUnexpectedEOF), codes.Internal, "read: unexpected EOF"},
		{status.ErrorProto(&spb.Status{Code: 5, Message: "p"}), codes.NotFound, "p"},
		{status.Error(77, "odd"), 77, "odd"},
		{status.Wrap(io.EOF, codes.DataLoss, "cut"), codes.DataLoss, "cut"},
		{status.Wrapf(io.EOF, codes.DataLoss, "cut at %d", 3), codes.DataLoss, "cut at 3"},
		{status.Wrap(io.EOF, codes.OK, "no success"), codes.Unknown, "no success"},
	} {
		s, ok := status.FromError(tc.err)
		if !ok || s.Code() != tc.code || s.Message() != tc.msg || status.Code(tc.err) != tc.code {
			t.Errorf("%v: code %v, message %q, ok %v; want %v, %q", tc.err, s.Code(), s.Message(), ok, tc.code, tc.msg)
		}
		want := fmt.Sprintf("rpc error: code = %s desc = %s", tc.code, tc.msg)
		if tc.err.Error() != want || s.String() != want {
			t.Errorf("reads %q and %q, want %q", tc.err, s, want)
		}
		if g := grpcstatus.Convert(tc.err); g.Code() != tc.code || g.Message() != tc.msg {
			t.Errorf("%v: grpc-go sees %v", tc.err, g)
		}
	}
	for _, err := range []error{
		status.Error(codes.OK, "x"), status.Errorf(codes.OK, "x"), status.New(codes.OK, "x").Err(), status.ErrorProto(nil), status.ErrorProto(&spb.Status{}),
		status.Wrap(nil, codes.Internal, "x"), status.Wrapf(nil, codes.Internal, "x"), status.New(codes.OK, "").WithCause(io.EOF).Err(),
	} {
		if err != nil {
			t.Errorf("got %v, want nil", err)
		}
	}
}

func TestNilStatusIsOK(t *testing.T) {
	for _, s := range []*status.Status{nil, {}, status.FromProto(nil), status.Convert(nil), status.FromContextError(nil)} {
		if s.Code() != codes.OK || s.Message() != "" || s.Details() != nil || s.Proto() != nil || s.Err() != nil || s.Cause() != nil || s.Fault() != nil {
			t.Errorf("%v is not a plain OK", s)
		}
		if s.String() != "rpc error: code = OK desc = " || s.GRPCStatus().Code() != codes.OK || s.WithCause(io.EOF).Cause() != nil {
			t.Errorf("%v is not a plain OK", s)
		}
		if got := s.WithFieldViolation("a", "b").WithRetryDelay(1).WithLocalizedMessage("en", "x"); got.Details() != nil {
			t.Errorf("OK got details: %v", got.Details())
		}
		if d, err := s.WithDetails(&errdetails.Help{}); d != nil || err == nil || !strings.Contains(err.Error(), "code OK") {
			t.Errorf("WithDetails on OK: %v, %v", d, err)
		}
		if i, ok := status.Detail[*errdetails.Help](s); ok || i != nil {
			t.Errorf("OK has a detail: %v", i)
		}
	}
}

func TestStatusIsImmutable(t *testing.T) {
	p := &spb.Status{Code: 3, Message: "m", Details: []*anypb.Any{proto.Clone(unlinked).(*anypb.Any)}}
	s := status.FromProto(p)
	p.Message, p.Details[0].TypeUrl = "changed", "changed"
	s.Proto().Message = "changed"
	s.Proto().Details[0].TypeUrl = "changed"
	s.Details()[0].(*anypb.Any).TypeUrl = "changed"
	if _, err := s.WithDetails(&errdetails.Help{}); err != nil {
		t.Fatal(err)
	}
	s.WithFieldViolation("f", "d")
	s.WithCause(io.EOF)
	want := &spb.Status{Code: 3, Message: "m", Details: []*anypb.Any{unlinked}}
	if !proto.Equal(s.Proto(), want) || s.Cause() != nil {
		t.Errorf("status became %v", s.Proto())
	}
}

func TestDetailsOfUnknownTypesAreKept(t *testing.T) {
	known := &errdetails.ErrorInfo{Reason: "R"}
	s, err := status.New(codes.Aborted, "m").WithDetails(unlinked, known, broken)
	if err != nil {
		t.Fatal(err)
	}
	d := s.Details()
	if len(d) != 3 || !proto.Equal(d[0].(proto.Message), unlinked) || !proto.Equal(d[1].(proto.Message), known) || !proto.Equal(d[2].(proto.Message), broken) {
		t.Fatalf("details %v", d)
	}
	if d[0].(*anypb.Any) == unlinked {
		t.Error("the detail is shared with the caller")
	}
	// Readers pass over what they cannot read.
	if r, _, _, ok := status.Reason(s.Err()); !ok || r != "R" {
		t.Errorf("Reason = %q, %v", r, ok)
	}
	if again, err := status.New(codes.Aborted, "m").WithDetails(d[0].(proto.Message)); err != nil || !proto.Equal(again.Proto().Details[0], unlinked) {
		t.Errorf("a detail of an unknown type does not travel on: %v, %v", again, err)
	}
	for _, bad := range []proto.Message{nil, (*anypb.Any)(nil), &errdetails.RequestInfo{RequestId: "\xff"}} {
		s, err := status.New(codes.Aborted, "m").WithDetails(known, bad)
		if bad == (*anypb.Any)(nil) { // a typed nil is an empty message, as for grpc-go
			if err != nil || len(s.Details()) != 2 {
				t.Errorf("typed nil: %v, %v", s, err)
			}
			continue
		}
		if s != nil || err == nil || !strings.Contains(err.Error(), "detail 1") {
			t.Errorf("WithDetails(%v) = %v, %v; want an error that names detail 1", bad, s, err)
		}
	}
}

func TestCauses(t *testing.T) {
	err := fmt.Errorf("place order: %w", status.Wrap(fmt.Errorf("read: %w", io.ErrUnexpectedEOF), codes.Unavailable, "store is down"))
	if !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Error("the cause is not reached")
	}
	s := status.Convert(err)
	if s.Message() != "store is down" || !errors.Is(s.Err(), io.ErrUnexpectedEOF) || s.Cause() != err {
		t.Errorf("a round trip loses the cause: %v, %v", s, s.Cause())
	}
	// A second round trip does not make the chain longer.
	if again := status.Convert(s.Err()); again != s {
		t.Error("the Status of its own error is another")
	}
	if strings.Contains(s.Proto().String(), "EOF") {
		t.Errorf("the cause would be sent: %v", s.Proto())
	}
	if errors.Unwrap(status.Error(codes.Internal, "x")) != nil || errors.Unwrap(status.Errorf(codes.Internal, "x %v", io.EOF)) != nil {
		t.Error("an error without a cause unwraps")
	}
	if e := status.Errorf(codes.Internal, "%w and %w", io.EOF, context.Canceled); !errors.Is(e, context.Canceled) || !errors.Is(e, io.EOF) {
		t.Error("Errorf drops what %w wraps")
	}
	withDetail := status.New(codes.Internal, "x").WithCause(io.EOF).WithRetryDelay(1)
	if d, err := withDetail.WithDetails(&errdetails.Help{}); err != nil || d.Cause() != io.EOF || withDetail.Cause() != io.EOF {
		t.Error("adding details drops the cause")
	}
}

func TestFaultAccess(t *testing.T) {
	f := fault.DialRefused.New(fault.Args{Side: fault.Remote, Processed: fault.No, Cause: io.ErrUnexpectedEOF})
	for _, err := range []error{f, fmt.Errorf("get: %w", f), errors.Join(io.EOF, f), status.Convert(f).Err(), status.Convert(fmt.Errorf("x: %w", f)).Err()} {
		s, ok := status.FromError(err)
		if !ok || s.Code() != codes.Unavailable || s.Message() != f.Message() || s.Fault() != f || !errors.Is(s.Err(), io.ErrUnexpectedEOF) {
			t.Errorf("%v: %v, %v, fault %v", err, s, ok, s.Fault())
		}
		if got, ok := fault.From(s.Err()); !ok || got != f {
			t.Errorf("%v: the error of its status has the fault %v", err, got)
		}
	}
	hidden := status.Wrap(f, codes.Internal, "backend")
	if s := status.Convert(hidden); s.Code() != codes.Internal || s.Fault() != f {
		t.Errorf("wrapped under another code: %v, %v", s, s.Fault())
	}
	detailed := fault.HandlerStatus.New(fault.Args{Code: codes.NotFound, Message: "m", Verbatim: true}).WithDetails([]*anypb.Any{unlinked})
	if s := status.Convert(detailed); s.Code() != codes.NotFound || s.Message() != "m" || len(s.Details()) != 1 {
		t.Errorf("%v %v", s, s.Details())
	}
	if status.Convert(io.EOF).Fault() != nil || status.New(codes.Internal, "").Fault() != nil {
		t.Error("a fault out of nothing")
	}
}

func TestIs(t *testing.T) {
	a := status.Error(codes.NotFound, "m")
	detailed := status.New(codes.NotFound, "m").WithReason("R", "d", nil).Err()
	for _, tc := range []struct {
		err, target error
		want        bool
	}{
		{a, a, true},
		{a, status.Error(codes.NotFound, "m"), true},
		{fmt.Errorf("x: %w", a), status.Error(codes.NotFound, "m"), true},
		{status.Wrap(io.EOF, codes.NotFound, "m"), a, true}, // causes are not compared
		{a, status.Error(codes.NotFound, "other"), false},
		{a, status.Error(codes.Internal, "m"), false},
		{a, detailed, false},
		{detailed, status.New(codes.NotFound, "m").WithReason("R", "d", nil).Err(), true},
		{a, grpcstatus.Error(codes.NotFound, "m"), true},
		{a, grpcstatus.Error(codes.NotFound, "other"), false},
		{a, theirs{grpcstatus.New(codes.NotFound, "m")}, false}, // another type's identity is its own
		{a, io.EOF, false},
		{a, nil, false},
		// A Status of grpc-go's error keeps it as cause, so that is reached too.
		{status.Convert(grpcstatus.Error(codes.NotFound, "m")).Err(), grpcstatus.Error(codes.NotFound, "m"), true},
	} {
		if got := errors.Is(tc.err, tc.target); got != tc.want {
			t.Errorf("errors.Is(%v, %v) = %v", tc.err, tc.target, got)
		}
	}
}

func TestFormat(t *testing.T) {
	f := fault.DialRefused.New(fault.Args{Processed: fault.No})
	plain := "rpc error: code = Internal desc = m"
	for _, tc := range []struct {
		err    error
		format string
		want   string
	}{
		{status.Error(codes.Internal, "m"), "%v", plain},
		{status.Error(codes.Internal, "m"), "%+v", plain},
		{status.Error(codes.Internal, "m"), "%q", `"` + plain + `"`},
		{status.Wrap(io.EOF, codes.Internal, "m"), "%s", plain},
		{status.Wrap(io.EOF, codes.Internal, "m"), "%+v", plain + "\ncaused by: EOF"},
		{status.Wrap(f, codes.Internal, "m"), "%+v", plain + "\ncaused by: " + fmt.Sprintf("%+v", f)},
		{status.Convert(f).Err(), "%+v", fmt.Sprintf("%+v", f)},
	} {
		if got := fmt.Sprintf(tc.format, tc.err); got != tc.want {
			t.Errorf("%s prints %q, want %q", tc.format, got, tc.want)
		}
	}
}

func TestLogValue(t *testing.T) {
	for want, err := range map[string]error{
		`err.code=NOT_FOUND err.message=m`:                                                     status.New(codes.NotFound, "m").WithReason("SECRET", "d", nil).Err(),
		`err.code=INTERNAL err.message=m err.cause=EOF`:                                        status.Wrap(io.EOF, codes.Internal, "m"),
		`err.code=INTERNAL err.message=m err.fault.code=UNAVAILABLE err.fault.id=dial.refused`: status.Wrap(fault.DialRefused.New(fault.Args{}), codes.Internal, "m"),
	} {
		var b bytes.Buffer
		slog.New(slog.NewTextHandler(&b, nil)).Info("x", "err", err)
		if !strings.Contains(b.String(), want) || strings.Contains(b.String(), "SECRET") {
			t.Errorf("logged %s, want %s", b.String(), want)
		}
	}
}

func TestGRPCStatusCarriesDetails(t *testing.T) {
	err := status.New(codes.ResourceExhausted, "m").WithQuotaViolation("user:1", "calls").WithCause(io.EOF).Err()
	g := grpcstatus.Convert(fmt.Errorf("x: %w", err))
	if g.Code() != codes.ResourceExhausted || len(g.Details()) != 1 || g.Details()[0].(*errdetails.QuotaFailure).Violations[0].Subject != "user:1" {
		t.Errorf("grpc-go sees %v, %v", g, g.Details())
	}
}
