// SPDX-License-Identifier: Apache-2.0

package status

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"reflect"

	spb "google.golang.org/genproto/googleapis/rpc/status"
	grpccodes "google.golang.org/grpc/codes"
	grpcstatus "google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/faultline-rpc/faultline/codes"
	"github.com/faultline-rpc/faultline/fault"
)

// Error returns an error with the code c and the message msg; nil if c is OK.
func Error(c codes.Code, msg string) error { return New(c, msg).Err() }

// Errorf is [Error] with a formatted message. What %w wraps is the error's
// cause.
func Errorf(c codes.Code, format string, a ...any) error { return Newf(c, format, a...).Err() }

// ErrorProto returns an error with the status p; nil if its code is OK.
func ErrorProto(p *spb.Status) error { return FromProto(p).Err() }

// Wrap returns an error with the code c and the message msg whose cause is
// err. Callers of this service see code and message only, this process reaches
// the cause with errors.Is and errors.As. It returns nil if err is nil. An
// error cannot be a success: the code OK becomes UNKNOWN.
func Wrap(err error, c codes.Code, msg string) error {
	if err == nil {
		return nil
	}
	if c == codes.OK {
		c = codes.Unknown
	}
	return New(c, msg).WithCause(err).Err()
}

// Wrapf is [Wrap] with a formatted message.
func Wrapf(err error, c codes.Code, format string, a ...any) error {
	if err == nil {
		return nil
	}
	return Wrap(err, c, fmt.Sprintf(format, a...))
}

// FromError returns the status of err, and whether it has one.
//
//   - nil has the status OK: a nil Status, and true.
//   - An error of this package, of grpc-go's status package, a fault, or any
//     with a method GRPCStatus that returns a *Status of either package, has
//     that status. So has an error that wraps one, at any depth and also
//     through errors.Join: the first found counts, in the order of errors.As.
//     The message is that of the status found; grpc-go puts the whole text of
//     a wrapping error in its place.
//   - Any other error, and one whose GRPCStatus returns nil, gives UNKNOWN with
//     the error's text, and false.
//
// err stays the cause of what is returned, so nothing is lost by a round trip
// through a Status.
func FromError(err error) (s *Status, ok bool) {
	if err == nil {
		return nil, true
	}
	if e, ok := err.(*statusError); ok {
		return e.s, true
	}
	s, ok = search(err)
	if s == nil {
		return &Status{p: New(codes.Unknown, err.Error()).p, cause: err}, false
	}
	return &Status{p: s.p, cause: err}, ok
}

// Convert is [FromError] without the second result.
func Convert(err error) *Status {
	s, _ := FromError(err)
	return s
}

// Code returns the code of err's status as [FromError] finds it: OK for nil,
// UNKNOWN for an error without a status.
func Code(err error) codes.Code {
	if err == nil {
		return codes.OK
	}
	if s, _ := search(err); s != nil {
		return s.Code()
	}
	return codes.Unknown
}

// FromContextError returns CANCELLED for context.Canceled, DEADLINE_EXCEEDED
// for context.DeadlineExceeded, UNKNOWN for any other error, each also when
// wrapped, with err's text as message and err as cause. nil gives OK.
func FromContextError(err error) *Status {
	if err == nil {
		return nil
	}
	c := codes.Unknown
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		c = codes.DeadlineExceeded
	case errors.Is(err, context.Canceled):
		c = codes.Canceled
	}
	return New(c, err.Error()).WithCause(err)
}

// The two kinds of errors that carry a status.
type (
	carriesOurs interface{ GRPCStatus() *Status }
	carriesGRPC interface{ GRPCStatus() *grpcstatus.Status }
)

// search finds the first status in err's tree, in the order of errors.As. It
// returns nil and true for an error that has the method but no status.
func search(err error) (*Status, bool) {
	for err != nil {
		switch e := err.(type) {
		case *statusError:
			return e.s, true
		case carriesOurs:
			return e.GRPCStatus(), true
		case carriesGRPC:
			return fromGRPC(e), true
		}
		if e, ok := err.(interface{ As(any) bool }); ok {
			var ours carriesOurs
			var grpc carriesGRPC
			if e.As(&ours) {
				return ours.GRPCStatus(), true
			} else if e.As(&grpc) {
				return fromGRPC(grpc), true
			}
		}
		switch e := err.(type) {
		case interface{ Unwrap() error }:
			err = e.Unwrap()
		case interface{ Unwrap() []error }:
			for _, branch := range e.Unwrap() {
				if s, ok := search(branch); ok {
					return s, true
				}
			}
			return nil, false
		default:
			return nil, false
		}
	}
	return nil, false
}

func fromGRPC(e carriesGRPC) *Status {
	g := e.GRPCStatus()
	if g == nil {
		return nil
	}
	return &Status{p: g.Proto()} // a copy
}

// statusError is the error of a Status whose code is not OK.
type statusError struct{ s *Status }

// grpcError is the type of grpc-go's own status errors.
var grpcError = reflect.TypeOf(grpcstatus.Error(grpccodes.Unknown, ""))

// Error reads like grpc-go's errors.
func (e *statusError) Error() string { return e.s.String() }

// GRPCStatus makes grpc-go's status package see the same status.
func (e *statusError) GRPCStatus() *grpcstatus.Status { return e.s.GRPCStatus() }

// Unwrap returns the cause.
func (e *statusError) Unwrap() error { return e.s.cause }

// Is reports whether target is a status error, of this package or grpc-go's,
// with the same code, message and details. Causes are not compared.
func (e *statusError) Is(target error) bool {
	if t, ok := target.(*statusError); ok {
		return proto.Equal(e.s.p, t.s.p)
	}
	if t, ok := target.(carriesGRPC); ok && reflect.TypeOf(target) == grpcError {
		return proto.Equal(e.s.p, t.GRPCStatus().Proto())
	}
	return false
}

// Format prints what Error returns; %+v adds the cause, and the whole ladder
// of a fault.
func (e *statusError) Format(s fmt.State, verb rune) {
	if verb != 'v' || !s.Flag('+') {
		fmt.Fprintf(s, fmt.FormatString(s, verb), e.Error())
		return
	}
	f := e.s.Fault()
	switch {
	case f != nil && f.Error() == e.Error():
		fmt.Fprintf(s, "%+v", f)
	case f != nil:
		fmt.Fprintf(s, "%s\ncaused by: %+v", e.Error(), f)
	case e.s.cause != nil && e.s.cause.Error() != e.Error():
		fmt.Fprintf(s, "%s\ncaused by: %+v", e.Error(), e.s.cause)
	default:
		fmt.Fprint(s, e.Error())
	}
}

// LogValue makes slog write code, message, cause and fault as a group. Details
// stay out: what they hold is the application's.
func (e *statusError) LogValue() slog.Value {
	attrs := []slog.Attr{slog.String("code", codes.Name(e.s.Code())), slog.String("message", e.s.Message())}
	if f, ok := fault.From(e.s.cause); ok {
		attrs = append(attrs, slog.Any("fault", f))
	} else if e.s.cause != nil {
		attrs = append(attrs, slog.String("cause", e.s.cause.Error()))
	}
	return slog.GroupValue(attrs...)
}
