// SPDX-License-Identifier: Apache-2.0

package status_test

import (
	"errors"
	"fmt"
	"io"
	"testing"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	grpcstatus "google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/faultline-rpc/faultline/codes"
	"github.com/faultline-rpc/faultline/status"
)

// Every standard detail: how it is made, and the message that leaves.
func TestStandardDetails(t *testing.T) {
	base := status.New(codes.FailedPrecondition, "m")
	for _, tc := range []struct {
		s    *status.Status
		want []proto.Message
	}{
		{base.WithFieldViolation("email", "bad").WithFieldViolation("age", "\xffneg"), []proto.Message{&errdetails.BadRequest{FieldViolations: []*errdetails.BadRequest_FieldViolation{
			{Field: "email", Description: "bad"}, {Field: "age", Description: "\uFFFDneg"},
		}}}},
		{base.WithRetryDelay(time.Second).WithRetryDelay(2 * time.Second), []proto.Message{&errdetails.RetryInfo{RetryDelay: durationpb.New(2 * time.Second)}}},
		{base.WithRetryDelay(-1), []proto.Message{&errdetails.RetryInfo{RetryDelay: durationpb.New(0)}}},
		{base.WithQuotaViolation("a", "b").WithQuotaViolation("c", "d"), []proto.Message{&errdetails.QuotaFailure{Violations: []*errdetails.QuotaFailure_Violation{
			{Subject: "a", Description: "b"}, {Subject: "c", Description: "d"},
		}}}},
		{base.WithReason("OLD", "x", map[string]string{"gone": "1"}).WithReason("R", "d", map[string]string{"k": "v"}), []proto.Message{&errdetails.ErrorInfo{Reason: "R", Domain: "d", Metadata: map[string]string{"k": "v"}}}},
		{base.WithReason("R", "d", nil), []proto.Message{&errdetails.ErrorInfo{Reason: "R", Domain: "d"}}},
		{base.WithRequestID("id", "data"), []proto.Message{&errdetails.RequestInfo{RequestId: "id", ServingData: "data"}}},
		{base.WithPreconditionViolation("TOS", "user", "accept"), []proto.Message{&errdetails.PreconditionFailure{Violations: []*errdetails.PreconditionFailure_Violation{
			{Type: "TOS", Subject: "user", Description: "accept"},
		}}}},
		{base.WithResource("user", "u1", "ann", "gone"), []proto.Message{&errdetails.ResourceInfo{ResourceType: "user", ResourceName: "u1", Owner: "ann", Description: "gone"}}},
		{base.WithHelpLink("docs", "https://example.com"), []proto.Message{&errdetails.Help{Links: []*errdetails.Help_Link{{Description: "docs", Url: "https://example.com"}}}}},
		{base.WithLocalizedMessage("de", "kaputt").WithLocalizedMessage("en", "broken"), []proto.Message{
			&errdetails.LocalizedMessage{Locale: "de", Message: "kaputt"}, &errdetails.LocalizedMessage{Locale: "en", Message: "broken"},
		}},
		{base.WithDebug([]string{"a.go:1", "b.go:2"}, "x"), []proto.Message{&errdetails.DebugInfo{StackEntries: []string{"a.go:1", "b.go:2"}, Detail: "x"}}},
		{base.WithRequestID("id", "").WithFieldViolation("f", "d").WithRequestID("id2", ""), []proto.Message{ // each keeps its place
			&errdetails.RequestInfo{RequestId: "id2"}, &errdetails.BadRequest{FieldViolations: []*errdetails.BadRequest_FieldViolation{{Field: "f", Description: "d"}}},
		}},
	} {
		got := tc.s.Details()
		grpc := tc.s.GRPCStatus().Details()
		if len(got) != len(tc.want) || len(grpc) != len(tc.want) || tc.s.Code() != codes.FailedPrecondition || tc.s.Message() != "m" {
			t.Errorf("%v has details %v, want %v", tc.s, got, tc.want)
			continue
		}
		for i := range got {
			if !proto.Equal(got[i].(proto.Message), tc.want[i]) || !proto.Equal(grpc[i].(proto.Message), tc.want[i]) {
				t.Errorf("detail %d is %v, grpc-go reads %v, want %v", i, got[i], grpc[i], tc.want[i])
			}
		}
	}
	if len(base.Details()) != 0 {
		t.Errorf("the original got details: %v", base.Details())
	}
}

// A detail that does not parse is left where it stands, and another is made.
func TestBrokenDetailIsNotLost(t *testing.T) {
	s, err := status.New(codes.Aborted, "m").WithDetails(broken)
	if err != nil {
		t.Fatal(err)
	}
	d := s.WithReason("R", "d", nil).Details()
	if len(d) != 2 || !proto.Equal(d[0].(proto.Message), broken) || !proto.Equal(d[1].(proto.Message), &errdetails.ErrorInfo{Reason: "R", Domain: "d"}) {
		t.Errorf("details %v", d)
	}
}

// What was made is read back, through wrapping and from grpc-go's errors.
func TestReaders(t *testing.T) {
	s := status.New(codes.Unavailable, "m").
		WithFieldViolation("f1", "d1").WithRetryDelay(1500*time.Millisecond).WithQuotaViolation("qs", "qd").
		WithReason("R", "dom", map[string]string{"k": "v"}).WithRequestID("id", "").WithPreconditionViolation("p", "s", "d").
		WithResource("t", "n", "o", "d").WithHelpLink("h", "u").WithLocalizedMessage("de-CH", "Grüezi").WithLocalizedMessage("fr", "Salut").WithDebug(nil, "dbg")
	s, err := s.WithDetails(unlinked, &errdetails.BadRequest{FieldViolations: []*errdetails.BadRequest_FieldViolation{{Field: "f2"}}})
	if err != nil {
		t.Fatal(err)
	}
	for _, err := range []error{s.Err(), fmt.Errorf("x: %w", s.Err()), errors.Join(io.EOF, s.GRPCStatus().Err()), ours{s}, grpcstatus.ErrorProto(s.Proto())} {
		if v := status.FieldViolations(err); len(v) != 2 || v[0].Field != "f1" || v[0].Description != "d1" || v[1].Field != "f2" {
			t.Errorf("FieldViolations = %v", v)
		}
		if d, ok := status.RetryDelay(err); !ok || d != 1500*time.Millisecond {
			t.Errorf("RetryDelay = %v, %v", d, ok)
		}
		if v := status.QuotaViolations(err); len(v) != 1 || v[0].Subject != "qs" {
			t.Errorf("QuotaViolations = %v", v)
		}
		if r, d, m, ok := status.Reason(err); !ok || r != "R" || d != "dom" || m["k"] != "v" {
			t.Errorf("Reason = %q, %q, %v, %v", r, d, m, ok)
		}
		if id, ok := status.RequestID(err); !ok || id != "id" {
			t.Errorf("RequestID = %q, %v", id, ok)
		}
		if v := status.PreconditionViolations(err); len(v) != 1 || v[0].Type != "p" {
			t.Errorf("PreconditionViolations = %v", v)
		}
		if r, ok := status.Resource(err); !ok || r.ResourceName != "n" {
			t.Errorf("Resource = %v, %v", r, ok)
		}
		if l := status.HelpLinks(err); len(l) != 1 || l[0].Url != "u" {
			t.Errorf("HelpLinks = %v", l)
		}
		if d, ok := status.Debug(err); !ok || d.Detail != "dbg" {
			t.Errorf("Debug = %v, %v", d, ok)
		}
		for locale, want := range map[string]string{"de-CH": "Grüezi", "DE-ch": "Grüezi", "de": "Grüezi", "de-AT": "Grüezi", "fr-CA": "Salut", "en": "", "": ""} {
			if m, ok := status.LocalizedMessage(err, locale); m != want || ok != (want != "") {
				t.Errorf("LocalizedMessage(%q) = %q, %v", locale, m, ok)
			}
		}
	}
}

func TestReadersWithoutDetails(t *testing.T) {
	for _, err := range []error{nil, io.EOF, status.Error(codes.Internal, "m"), grpcstatus.Error(codes.Internal, "m")} {
		_, delay := status.RetryDelay(err)
		_, _, _, reason := status.Reason(err)
		_, id := status.RequestID(err)
		_, resource := status.Resource(err)
		_, debug := status.Debug(err)
		_, localized := status.LocalizedMessage(err, "en")
		if delay || reason || id || resource || debug || localized {
			t.Errorf("%v has details: %v %v %v %v %v %v", err, delay, reason, id, resource, debug, localized)
		}
		if status.FieldViolations(err) != nil || status.QuotaViolations(err) != nil || status.PreconditionViolations(err) != nil || status.HelpLinks(err) != nil {
			t.Errorf("%v has violations or links", err)
		}
	}
	// A peer may send any delay.
	for _, d := range []*durationpb.Duration{nil, {Seconds: -5}, {Seconds: 1 << 62, Nanos: -1}} {
		s, err := status.New(codes.Unavailable, "m").WithDetails(&errdetails.RetryInfo{RetryDelay: d})
		if err != nil {
			t.Fatal(err)
		}
		if got, ok := status.RetryDelay(s.Err()); !ok || got < 0 {
			t.Errorf("RetryDelay of %v = %v, %v", d, got, ok)
		}
	}
}
