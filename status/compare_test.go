// SPDX-License-Identifier: Apache-2.0

package status_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"testing"

	spb "google.golang.org/genproto/googleapis/rpc/status"
	grpccodes "google.golang.org/grpc/codes"
	grpcstatus "google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/faultline-rpc/faultline/codes"
	"github.com/faultline-rpc/faultline/fault"
	"github.com/faultline-rpc/faultline/status"
)

// theirs and ours are errors of a user's, with the Status of either package.
type theirs struct{ s *grpcstatus.Status }

func (e theirs) Error() string                  { return "theirs" }
func (e theirs) GRPCStatus() *grpcstatus.Status { return e.s }

type ours struct{ s *status.Status }

func (e ours) Error() string              { return "ours" }
func (e ours) GRPCStatus() *status.Status { return e.s }

// delegate hides an error that errors.As alone reaches.
type delegate struct{ err error }

func (delegate) Error() string        { return "delegate" }
func (d delegate) As(target any) bool { return errors.As(d.err, target) }

// TestAgreesWithGRPCGo runs the same errors through both packages. Where the
// message differs on purpose, the row says what ours is.
func TestAgreesWithGRPCGo(t *testing.T) {
	notFound := grpcstatus.Error(grpccodes.NotFound, "gone")
	mine := status.Error(codes.NotFound, "gone")
	broken := fault.HTTP2ConnectionLost.New(fault.Args{Cause: io.EOF})
	for name, tc := range map[string]struct {
		err     error
		message string // ours, where it is not grpc-go's
	}{
		"nil":                    {err: nil},
		"plain":                  {err: errors.New("plain")},
		"wrapped plain":          {err: fmt.Errorf("x: %w", io.EOF)},
		"canceled":               {err: context.Canceled},
		"deadline":               {err: context.DeadlineExceeded},
		"grpc-go's":              {err: notFound},
		"ours":                   {err: mine},
		"ours with cause":        {err: status.Wrap(io.EOF, codes.Aborted, "lost")},
		"a fault":                {err: broken},
		"user's type":            {err: theirs{grpcstatus.New(grpccodes.Aborted, "m")}},
		"user's type, nil":       {err: theirs{nil}},
		"user's type, OK":        {err: theirs{grpcstatus.New(grpccodes.OK, "fine")}},
		"wrapped user's nil":     {err: fmt.Errorf("x: %w", theirs{nil})},
		"odd code":               {err: grpcstatus.Error(99, "odd")},
		"joined plain":           {err: errors.Join(io.EOF, context.Canceled)},
		"first in tree is nil":   {err: errors.Join(theirs{nil}, notFound)},
		"wrapped grpc-go's":      {err: fmt.Errorf("x: %w", notFound), message: "gone"},
		"wrapped ours":           {err: fmt.Errorf("x: %w", mine), message: "gone"},
		"wrapped twice":          {err: fmt.Errorf("y: %w", fmt.Errorf("x: %w", notFound)), message: "gone"},
		"wrapped fault":          {err: fmt.Errorf("x: %w", broken), message: broken.Message()},
		"joined":                 {err: errors.Join(io.EOF, notFound, grpcstatus.Error(grpccodes.Aborted, "second")), message: "gone"},
		"tree":                   {err: fmt.Errorf("%w and %w", errors.Join(io.EOF), fmt.Errorf("x: %w", errors.Join(io.EOF, mine))), message: "gone"},
		"through an As method":   {err: delegate{theirs{grpcstatus.New(grpccodes.DataLoss, "as")}}, message: "as"},
		"wrapped user's":         {err: fmt.Errorf("x: %w", theirs{grpcstatus.New(grpccodes.Aborted, "m")}), message: "m"},
		"user's, in ours":        {err: status.Wrap(theirs{grpcstatus.New(grpccodes.Aborted, "m")}, codes.Internal, "outer")},
		"grpc-go's, from ours":   {err: status.Convert(notFound).Err()},
		"grpc-go's, from proto":  {err: grpcstatus.ErrorProto(&spb.Status{Code: 8, Message: "quota"})},
		"ours, from a fault":     {err: status.Convert(broken).Err()},
		"ours, from plain error": {err: status.Convert(io.EOF).Err()},
	} {
		t.Run(name, func(t *testing.T) {
			g, gok := grpcstatus.FromError(tc.err)
			s, ok := status.FromError(tc.err)
			want := g.Message()
			if tc.message != "" {
				if want == tc.message {
					t.Errorf("grpc-go has no other message: %q", want)
				}
				want = tc.message
			}
			if ok != gok || s.Code() != g.Code() || s.Message() != want {
				t.Errorf("FromError: %v %q %v; grpc-go: %v %q %v; want the message %q", s.Code(), s.Message(), ok, g.Code(), g.Message(), gok, want)
			}
			if (s == nil) != (g == nil) {
				t.Errorf("FromError is nil: %v; grpc-go: %v", s == nil, g == nil)
			}
			if got, want := status.Code(tc.err), grpcstatus.Code(tc.err); got != want {
				t.Errorf("Code: %v; grpc-go: %v", got, want)
			}
			if (s.Err() == nil) != (g.Err() == nil) {
				t.Errorf("Err: %v; grpc-go: %v", s.Err(), g.Err())
			}
			if got := grpcstatus.Convert(s.Err()); s.Code() != codes.OK && (got.Code() != s.Code() || got.Message() != s.Message()) {
				t.Errorf("grpc-go reads our error as %v", got)
			}
			if c, g := status.FromContextError(tc.err), grpcstatus.FromContextError(tc.err); c.Code() != g.Code() || c.Message() != g.Message() {
				t.Errorf("FromContextError: %v; grpc-go: %v", c, g)
			} else if tc.err != nil && !errors.Is(c.Err(), tc.err) {
				t.Errorf("FromContextError drops the error")
			}
		})
	}
}

func TestFromContextError(t *testing.T) {
	for _, err := range []error{context.Canceled, context.DeadlineExceeded} {
		wrapped := fmt.Errorf("query: %w", err)
		s, g := status.FromContextError(wrapped), grpcstatus.FromContextError(wrapped)
		if s.Code() != g.Code() || s.Message() != g.Message() || !errors.Is(s.Err(), err) {
			t.Errorf("%v; grpc-go: %v", s, g)
		}
	}
}

// Errors whose GRPCStatus returns our Status are for our functions what those
// with grpc-go's are for grpc-go's.
func TestOwnTypesWithOurStatus(t *testing.T) {
	for name, tc := range map[string]struct {
		err     error
		code    codes.Code
		message string
		ok      bool
	}{
		"direct":      {ours{status.New(codes.Aborted, "m")}, codes.Aborted, "m", true},
		"wrapped":     {fmt.Errorf("x: %w", ours{status.New(codes.Aborted, "m")}), codes.Aborted, "m", true},
		"joined":      {errors.Join(io.EOF, ours{status.New(codes.Aborted, "m")}), codes.Aborted, "m", true},
		"first wins":  {errors.Join(ours{status.New(codes.Aborted, "m")}, theirs{grpcstatus.New(grpccodes.NotFound, "n")}), codes.Aborted, "m", true},
		"other first": {errors.Join(theirs{grpcstatus.New(grpccodes.NotFound, "n")}, ours{status.New(codes.Aborted, "m")}), codes.NotFound, "n", true},
		"nil":         {ours{nil}, codes.Unknown, "ours", false},
		"wrapped nil": {fmt.Errorf("x: %w", ours{nil}), codes.Unknown, "x: ours", false},
		"OK":          {ours{status.New(codes.OK, "fine")}, codes.OK, "fine", true},
	} {
		s, ok := status.FromError(tc.err)
		if ok != tc.ok || s.Code() != tc.code || s.Message() != tc.message || status.Code(tc.err) != tc.code {
			t.Errorf("%s: %v %q %v; want %v %q %v", name, s.Code(), s.Message(), ok, tc.code, tc.message, tc.ok)
		}
		var o ours
		if s.Code() != codes.OK && errors.As(tc.err, &o) && !errors.As(s.Err(), &o) {
			t.Errorf("%s: the user's own type is lost", name)
		}
	}
}

func TestProtoAgreesWithGRPCGo(t *testing.T) {
	for _, p := range []*spb.Status{nil, {}, {Code: 3}, {Code: -1, Message: "negative"}, {Code: 0, Message: "OK with text"}} {
		s, g := status.FromProto(p), grpcstatus.FromProto(p)
		if s.Code() != g.Code() || s.Message() != g.Message() || s.String() != g.String() || !proto.Equal(s.Proto(), g.Proto()) || len(s.Details()) != len(g.Details()) {
			t.Errorf("FromProto(%v): %v; grpc-go: %v", p, s, g)
		}
		if e, ge := status.ErrorProto(p), grpcstatus.ErrorProto(p); fmt.Sprint(e) != fmt.Sprint(ge) {
			t.Errorf("ErrorProto(%v): %v; grpc-go: %v", p, e, ge)
		}
	}
}
