// SPDX-License-Identifier: Apache-2.0

package status

import (
	"errors"
	"fmt"

	spb "google.golang.org/genproto/googleapis/rpc/status"
	grpcstatus "google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/faultline-rpc/faultline/codes"
	"github.com/faultline-rpc/faultline/fault"
)

// Status is a code, a message and details, as calls end with
// (google.rpc.Status). It is immutable and safe for concurrent use; make one
// with [New], [Newf], [FromProto] or [FromError]. A nil *Status is OK.
type Status struct {
	p     *spb.Status // never changed; nil means OK
	cause error       // of this process only
}

// New returns a Status with the code c and the message msg.
func New(c codes.Code, msg string) *Status {
	return &Status{p: &spb.Status{Code: int32(c), Message: msg}}
}

// Newf is [New] with a formatted message. Like fmt.Errorf it keeps what %w
// wraps as the cause.
func Newf(c codes.Code, format string, a ...any) *Status {
	err := fmt.Errorf(format, a...)
	s := New(c, err.Error())
	switch err.(type) {
	case interface{ Unwrap() error }, interface{ Unwrap() []error }:
		s.cause = err
	}
	return s
}

// FromProto returns a Status with a copy of p. nil gives OK.
func FromProto(p *spb.Status) *Status {
	if p == nil {
		return &Status{}
	}
	return &Status{p: clone(p)}
}

// Code returns the code.
func (s *Status) Code() codes.Code {
	if s == nil {
		return codes.OK
	}
	return codes.Code(s.p.GetCode())
}

// Message returns the message.
func (s *Status) Message() string {
	if s == nil {
		return ""
	}
	return s.p.GetMessage()
}

// Proto returns the status as a google.rpc.Status, which is the caller's to
// change; nil for a nil Status or that of FromProto(nil).
func (s *Status) Proto() *spb.Status {
	if s == nil || s.p == nil {
		return nil
	}
	return clone(s.p)
}

// GRPCStatus returns the same status as a Status of grpc-go. An error type of
// your own may hand it out from its method GRPCStatus, and both packages
// understand it.
func (s *Status) GRPCStatus() *grpcstatus.Status {
	if s == nil {
		return nil
	}
	return grpcstatus.FromProto(s.p) // which clones
}

// Err returns an error with this status, nil if the code is OK. errors.Is and
// errors.As reach the cause through it.
func (s *Status) Err() error {
	if s.Code() == codes.OK {
		return nil
	}
	return &statusError{s}
}

// Cause returns the error behind the status, or nil. It is the whole error for
// a Status that [FromError] made.
func (s *Status) Cause() error {
	if s == nil {
		return nil
	}
	return s.cause
}

// WithCause returns the status with err as its cause: Err's error unwraps to
// it. The cause stays in this process. An OK status is returned as it is.
func (s *Status) WithCause(err error) *Status {
	if s.Code() == codes.OK {
		return s
	}
	return &Status{p: s.p, cause: err}
}

// Fault returns what went wrong and where, if the status comes from a fault
// that this process stamped; else nil.
func (s *Status) Fault() *fault.Fault {
	f, _ := fault.From(s.Cause())
	return f
}

// WithDetails returns the status with details added to those it has. It
// fails, and returns a nil Status, for a status that is OK and for a detail
// that does not marshal. A detail that is an *anypb.Any, as [Status.Details]
// returns those of unknown types, is attached as it is.
//
// The With methods of this type make the standard details, and cannot fail.
func (s *Status) WithDetails(details ...proto.Message) (*Status, error) {
	if s.Code() == codes.OK {
		return nil, errors.New("status: details were given for a status with code OK: expected an error code, only errors carry details")
	}
	p := clone(s.p)
	for i, d := range details {
		packed, isAny := d.(*anypb.Any)
		if isAny && packed != nil {
			packed = proto.Clone(packed).(*anypb.Any)
		} else {
			var err error
			if packed, err = anypb.New(d); err != nil {
				return nil, fmt.Errorf("status: detail %d (%T) does not marshal: %w", i, d, err)
			}
		}
		p.Details = append(p.Details, packed)
	}
	return &Status{p: p, cause: s.cause}, nil
}

// Details returns the details, each as the message that was attached: a
// *errdetails.BadRequest, say. A detail whose type is not linked into this
// program, or whose bytes do not parse, is returned as the *anypb.Any that
// came, with its type's name and bytes; grpc-go returns an error in its place.
// The messages are the caller's to change.
func (s *Status) Details() []any {
	if s == nil || s.p == nil {
		return nil
	}
	details := make([]any, 0, len(s.p.Details))
	for _, d := range s.p.Details {
		if m, err := d.UnmarshalNew(); err == nil {
			details = append(details, m)
		} else {
			details = append(details, proto.Clone(d))
		}
	}
	return details
}

// String reads like the error's text.
func (s *Status) String() string {
	return fmt.Sprintf("rpc error: code = %s desc = %s", s.Code(), s.Message())
}

func clone(p *spb.Status) *spb.Status { return proto.Clone(p).(*spb.Status) }
