// SPDX-License-Identifier: Apache-2.0

package status

import (
	"strings"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/faultline-rpc/faultline/codes"
)

// The methods here attach the standard details of
// https://github.com/googleapis/googleapis/blob/master/google/rpc/error_details.proto.
// Each returns a new Status and leaves the old one alone, so they chain. Bytes
// that are no valid UTF-8, which protobuf does not carry, become U+FFFD. An OK
// status has no details and is returned as it is.

// WithFieldViolation adds to the status's BadRequest: field, a path such as
// "user.emails[0]", is not acceptable, and description says why. Read it with
// [FieldViolations]; the usual code is INVALID_ARGUMENT.
func (s *Status) WithFieldViolation(field, description string) *Status {
	return amend(s, func(d *errdetails.BadRequest) {
		d.FieldViolations = append(d.FieldViolations, &errdetails.BadRequest_FieldViolation{Field: valid(field), Description: valid(description)})
	})
}

// WithRetryDelay sets the status's RetryInfo: callers should wait for at least
// d before they call again. A negative d counts as 0. Read it with
// [RetryDelay]; the usual codes are UNAVAILABLE and RESOURCE_EXHAUSTED.
func (s *Status) WithRetryDelay(d time.Duration) *Status {
	return amend(s, func(i *errdetails.RetryInfo) { i.RetryDelay = durationpb.New(max(d, 0)) })
}

// WithQuotaViolation adds to the status's QuotaFailure: subject, such as
// "project:p1" or "clientip:10.0.0.1", used up the quota that description
// names. Read it with [QuotaViolations]; the usual code is RESOURCE_EXHAUSTED.
func (s *Status) WithQuotaViolation(subject, description string) *Status {
	return amend(s, func(d *errdetails.QuotaFailure) {
		d.Violations = append(d.Violations, &errdetails.QuotaFailure_Violation{Subject: valid(subject), Description: valid(description)})
	})
}

// WithReason sets the status's ErrorInfo, which programs decide by: reason, an
// UPPER_SNAKE_CASE constant that is unique in domain, such as "CARD_EXPIRED"
// in "payments.example.com", with metadata that may be nil. Read it with
// [Reason].
func (s *Status) WithReason(reason, domain string, metadata map[string]string) *Status {
	return amend(s, func(d *errdetails.ErrorInfo) {
		d.Reason, d.Domain, d.Metadata = valid(reason), valid(domain), nil
		if len(metadata) > 0 {
			d.Metadata = make(map[string]string, len(metadata))
		}
		for k, v := range metadata {
			d.Metadata[valid(k)] = valid(v)
		}
	})
}

// WithRequestID sets the status's RequestInfo: the id under which the service
// finds the call in its logs, and servingData, which may be empty and means
// something to the service alone. Read it with [RequestID].
func (s *Status) WithRequestID(id, servingData string) *Status {
	return amend(s, func(d *errdetails.RequestInfo) { d.RequestId, d.ServingData = valid(id), valid(servingData) })
}

// WithPreconditionViolation adds to the status's PreconditionFailure: kind,
// such as "TOS", names the sort of precondition, subject what breaks it, and
// description what to do. Read it with [PreconditionViolations]; the usual
// code is FAILED_PRECONDITION.
func (s *Status) WithPreconditionViolation(kind, subject, description string) *Status {
	return amend(s, func(d *errdetails.PreconditionFailure) {
		d.Violations = append(d.Violations, &errdetails.PreconditionFailure_Violation{Type: valid(kind), Subject: valid(subject), Description: valid(description)})
	})
}

// WithResource sets the status's ResourceInfo: the resource of that kind, such
// as "sql table", and name to which the error refers, its owner if that is
// known, and what is wrong. Read it with [Resource]; the usual codes are
// NOT_FOUND, ALREADY_EXISTS and PERMISSION_DENIED.
func (s *Status) WithResource(kind, name, owner, description string) *Status {
	return amend(s, func(d *errdetails.ResourceInfo) {
		d.ResourceType, d.ResourceName, d.Owner, d.Description = valid(kind), valid(name), valid(owner), valid(description)
	})
}

// WithHelpLink adds to the status's Help: what the page at url offers. Read it
// with [HelpLinks].
func (s *Status) WithHelpLink(description, url string) *Status {
	return amend(s, func(d *errdetails.Help) {
		d.Links = append(d.Links, &errdetails.Help_Link{Description: valid(description), Url: valid(url)})
	})
}

// WithLocalizedMessage adds a LocalizedMessage: a text to show to the user, in
// the language of locale (BCP 47, such as "de-CH"). Read it with
// [LocalizedMessage].
func (s *Status) WithLocalizedMessage(locale, message string) *Status {
	return attach(s, -1, &errdetails.LocalizedMessage{Locale: valid(locale), Message: valid(message)})
}

// WithDebug sets the status's DebugInfo. It reaches every caller: attach it
// only where all callers may see the server's inside. Read it with [Debug].
func (s *Status) WithDebug(stack []string, detail string) *Status {
	return amend(s, func(d *errdetails.DebugInfo) {
		d.StackEntries, d.Detail = make([]string, len(stack)), valid(detail)
		for i, line := range stack {
			d.StackEntries[i] = valid(line)
		}
	})
}

// amend changes the first detail of the type of M, or a new one.
func amend[M any, P interface {
	*M
	proto.Message
}](s *Status, change func(P)) *Status {
	at, d := -1, P(new(M))
	for i, packed := range s.details() {
		if packed.UnmarshalTo(d) == nil {
			at = i
			break
		}
		proto.Reset(d)
	}
	change(d)
	return attach(s, at, d)
}

// attach puts d in the place of detail number at, or after the last if at is
// negative. Standard details with valid text always marshal.
func attach(s *Status, at int, d proto.Message) *Status {
	packed, err := anypb.New(d)
	if err != nil || s.Code() == codes.OK {
		return s
	}
	p := clone(s.p)
	if at < 0 {
		p.Details = append(p.Details, packed)
	} else {
		p.Details[at] = packed
	}
	return &Status{p: p, cause: s.cause}
}

func (s *Status) details() []*anypb.Any {
	if s == nil {
		return nil
	}
	return s.p.GetDetails()
}

func valid(s string) string { return strings.ToValidUTF8(s, "\uFFFD") }
