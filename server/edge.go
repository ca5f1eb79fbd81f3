// SPDX-License-Identifier: Apache-2.0

package server

import (
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	spb "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc/codes"
	grpcstatus "google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/faultline-rpc/faultline/fault"
	"github.com/faultline-rpc/faultline/status"
	"github.com/faultline-rpc/faultline/wire"
)

// edge is where an error leaves a service, for one call that failed. What
// passes:
//
//	                                    any caller          a trusted one, besides
//	a status the handler made           as it is
//	a status from another service       as it is, but *     as it is
//	a failure of the service's client   code, id, reference text and address, in the trail
//	the context's errors                handler.context
//	any other error, a panic            UNKNOWN, reference  the error's text, in the trail
//	the trail                           own circumstance    all hops
//
// (*) without DebugInfo; and where a library may have written the text, and it
// names an address, a host or a service behind this one, a reference stands in
// its place.
type edge struct {
	method          string
	trusted         bool
	ran             fault.Processed // whether a handler did: yes or maybe
	sealed          bool            // an interceptor answered, and no handler will run any more
	elapsed, budget time.Duration
	timed           bool
	passed          []string  // trail that the handler passed on by hand, with SetTrailer
	hop             fault.Hop // what this service says of the failure, once it is judged

	// mask logs what the caller must not see, and returns the reference it gets.
	mask func(err error, what string) string
	// context is the fault for the context's errors, nil for others.
	context func(err error) *fault.Fault
}

// own is a failure of this very call that the engine met: the caller may read it.
func (e *edge) own(f *fault.Fault) wire.Status {
	st := statusOfFault(f)
	hop := fault.NewHop(e.method, f)
	hop.Processed = e.processed(f)
	if e.sealed && f.Entry() == fault.HandlerPanic { // an interceptor's
		hop.Processed = e.ran
	}
	st.Trail = e.trail(hop, nil, "")
	return st
}

// processed is what f says, or if it does not know, what this call does.
func (e *edge) processed(f *fault.Fault) fault.Processed {
	if f.Processed() == fault.Maybe {
		return e.ran
	}
	return f.Processed()
}

// judge is for what handlers and interceptors return. raised is a failure of
// this very call, which err may wrap, or nil. The error returned is for
// observers on this side.
func (e *edge) judge(err error, raised *fault.Fault) (wire.Status, error) {
	s, ok := status.FromError(err)
	if !ok || s.Code() == codes.OK {
		return e.unplanned(err)
	}
	hop := fault.Hop{ID: fault.HandlerStatus.ID, Layer: fault.LayerHandler, Code: s.Code(), Side: fault.Local, Processed: e.ran}
	if e.sealed && s.Cause() == nil { // any other status may come from where the interceptor had the call handled
		hop.Processed = fault.No
	}
	f := s.Fault()
	same := f != nil && f.Code() == s.Code() && f.Message() == s.Message()
	behind := f
	switch {
	case f == nil:
	case f == raised, !f.Verbatim() && f.Entry().By == fault.ByServer: // made here, for callers
		behind = nil
		if same {
			hop.ID, hop.Layer = f.ID(), f.Layer()
			if f == raised || e.ran == fault.Maybe {
				hop.Processed = e.processed(f)
			}
		}
	case same:
		hop.ID = fault.HandlerUpstream.ID
	}
	p := s.Proto()
	if what := e.secret(s, f, behind, err); what != "" {
		hop.Reference = e.mask(err, what)
		p.Message = masked(behind, hop.Reference)
		if !same {
			hop.Text = s.Message()
		}
	}
	if !e.trusted && behind != nil && behind.Verbatim() {
		withoutDebugInfo(p)
	}
	st := wire.Status{Code: s.Code(), Message: p.GetMessage()}
	if len(p.GetDetails()) > 0 {
		st.Details, _ = proto.Marshal(p) // a status that was read, or made, marshals
	}
	st.Trail = e.trail(hop, behind, st.Message)
	return st, err
}

// secret says why the caller must not read the status's message, "" if it may.
func (e *edge) secret(s *status.Status, f, behind *fault.Fault, err error) string {
	switch {
	case behind == nil && f != nil: // made for callers
	case fault.Repeats(s.Message(), err):
		return "a handler returned a failure of its own client"
	case !e.trusted && libraryText(s, f, err):
		return "a handler passed on a status that names an address"
	case !e.trusted && e.namesBehind(s, behind, err):
		return "a handler passed on a status that names a service behind it"
	}
	return ""
}

// unplanned is an error that is no status.
func (e *edge) unplanned(err error) (wire.Status, error) {
	f, text := e.context(err), ""
	if f == nil {
		ref := e.mask(err, "a handler returned an error that is no status")
		text = err.Error()
		f = fault.HandlerNotStatus.Newf(fault.Args{Side: fault.Local, Cause: err, Evidence: &fault.Evidence{Method: clip(e.method), Reference: ref}},
			"%s; reference %s", fault.HandlerNotStatus.Summary, ref)
	}
	hop := fault.NewHop(e.method, f)
	hop.Text, hop.Processed = text, e.ran
	st := statusOfFault(f)
	st.Trail = e.trail(hop, nil, st.Message)
	if e.sealed { // here none did
		return st, f.WithProcessed(fault.No)
	}
	return st, f.WithProcessed(e.ran)
}

// trail is what the caller gets of the trail. behind is where the error came
// from, or nil; said is the message.
func (e *edge) trail(own fault.Hop, behind *fault.Fault, said string) []string {
	own = own.On(e.method)
	own.Elapsed, own.Budget, own.Timed = e.elapsed, e.budget, e.timed
	e.hop = own
	if !e.trusted {
		return fault.WriteTrail(own.Masked(), nil)
	}
	var rest []fault.Hop
	if behind != nil {
		rest = behind.Onward(said)
	}
	if len(rest) <= 1 && len(e.passed) > 0 {
		rest = fault.ReadTrail(e.passed, "")
	}
	return fault.WriteTrail(own, rest)
}

// masked is the message in the place of one that callers must not see.
func masked(f *fault.Fault, ref string) string {
	if f != nil && !f.Verbatim() {
		return fmt.Sprintf("%s: %s; reference %s", f.ID(), f.Entry().Summary, ref)
	}
	return fmt.Sprintf("%s; reference %s", fault.HandlerUpstream.Summary, ref)
}

// goStatus is the type of grpc-go's status errors, those of its clients too.
var goStatus = reflect.TypeOf(grpcstatus.Error(codes.Unknown, ""))

// libraryText reports whether a gRPC library, and no handler, may have written
// a status that names an address: it was received, or made by grpc-go's status
// package as also its clients do, with a code that libraries use. What has
// details was made on purpose.
func libraryText(s *status.Status, f *fault.Fault, err error) bool {
	if fault.OnlyApplications(s.Code()) || !fault.NamesAddress(s.Message()) || len(s.Proto().GetDetails()) > 0 {
		return false
	}
	if f != nil {
		return f.Verbatim() && strings.Contains(s.Message(), f.Message())
	}
	return ofGo(err)
}

// namesBehind reports whether a library may have written a status that names a
// service behind this one, as servers do that do not have it.
func (e *edge) namesBehind(s *status.Status, behind *fault.Fault, err error) bool {
	own := fault.Hop{}.On(e.method).Service
	switch {
	case fault.OnlyApplications(s.Code()) || len(s.Proto().GetDetails()) > 0:
		return false
	case behind == nil:
		return s.Code() == codes.Unimplemented && ofGo(err) && fault.NamesService(s.Message(), own)
	case !behind.Verbatim() || !strings.Contains(s.Message(), behind.Message()):
		return false
	}
	if s.Code() == codes.Unimplemented && fault.NamesService(s.Message(), own) {
		return true
	}
	for _, h := range append(behind.Trail(), fault.Hop{}.On(behind.Evidence().Method)) {
		if h.Service != "" && h.Service != own && strings.Contains(s.Message(), h.Service) {
			return true
		}
	}
	return false
}

// ofGo reports whether a status in err is of grpc-go's making.
func ofGo(err error) bool {
	var carrier interface {
		GRPCStatus() *grpcstatus.Status
	}
	return errors.As(err, &carrier) && reflect.TypeOf(carrier) == goStatus
}

// withoutDebugInfo takes out what google.rpc has for the inside of services.
func withoutDebugInfo(p *spb.Status) {
	p.Details = slices.DeleteFunc(p.Details, func(d *anypb.Any) bool { return d.MessageIs((*errdetails.DebugInfo)(nil)) })
}
