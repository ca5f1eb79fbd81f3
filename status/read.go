// SPDX-License-Identifier: Apache-2.0

package status

import (
	"strings"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/protobuf/proto"
)

// Detail returns the first detail of type T:
//
//	info, ok := status.Detail[*errdetails.ErrorInfo](status.Convert(err))
//
// The message is the caller's to change.
func Detail[T proto.Message](s *Status) (T, bool) {
	for _, d := range s.details() {
		m, err := d.UnmarshalNew()
		if err != nil {
			continue
		}
		if t, ok := m.(T); ok {
			return t, true
		}
	}
	var none T
	return none, false
}

// The functions here read the standard details of the status that
// [FromError] finds in an error. Those that return a slice gather from all
// details of their type; nil means there are none.

// FieldViolations returns what is wrong with the request's fields
// (BadRequest).
func FieldViolations(err error) []*errdetails.BadRequest_FieldViolation {
	return gather(err, (*errdetails.BadRequest).GetFieldViolations)
}

// QuotaViolations returns which quotas are used up (QuotaFailure).
func QuotaViolations(err error) []*errdetails.QuotaFailure_Violation {
	return gather(err, (*errdetails.QuotaFailure).GetViolations)
}

// PreconditionViolations returns which preconditions do not hold
// (PreconditionFailure).
func PreconditionViolations(err error) []*errdetails.PreconditionFailure_Violation {
	return gather(err, (*errdetails.PreconditionFailure).GetViolations)
}

// HelpLinks returns pages that help with the error (Help).
func HelpLinks(err error) []*errdetails.Help_Link {
	return gather(err, (*errdetails.Help).GetLinks)
}

// RetryDelay returns how long to wait at least before calling again
// (RetryInfo). It is never negative; false means that the server said nothing.
func RetryDelay(err error) (time.Duration, bool) {
	i, ok := Detail[*errdetails.RetryInfo](Convert(err))
	return max(i.GetRetryDelay().AsDuration(), 0), ok
}

// Reason returns the constant that programs decide by, the domain in which it
// is unique, and its metadata (ErrorInfo).
func Reason(err error) (reason, domain string, metadata map[string]string, ok bool) {
	i, ok := Detail[*errdetails.ErrorInfo](Convert(err))
	return i.GetReason(), i.GetDomain(), i.GetMetadata(), ok
}

// RequestID returns the id under which the service finds the call in its logs
// (RequestInfo).
func RequestID(err error) (string, bool) {
	i, ok := Detail[*errdetails.RequestInfo](Convert(err))
	return i.GetRequestId(), ok
}

// Resource returns which resource the error is about (ResourceInfo).
func Resource(err error) (*errdetails.ResourceInfo, bool) {
	return Detail[*errdetails.ResourceInfo](Convert(err))
}

// Debug returns the server's debugging information, if it gives any
// (DebugInfo).
func Debug(err error) (*errdetails.DebugInfo, bool) {
	return Detail[*errdetails.DebugInfo](Convert(err))
}

// LocalizedMessage returns the text for users in the language of locale, such
// as "de-CH": that of the very locale, or else the first in the same language.
func LocalizedMessage(err error, locale string) (string, bool) {
	near, found := "", false
	for _, m := range gather(err, func(m *errdetails.LocalizedMessage) []*errdetails.LocalizedMessage {
		return []*errdetails.LocalizedMessage{m}
	}) {
		if strings.EqualFold(m.GetLocale(), locale) {
			return m.GetMessage(), true
		}
		if !found && strings.EqualFold(language(m.GetLocale()), language(locale)) {
			near, found = m.GetMessage(), true
		}
	}
	return near, found
}

// language returns the first subtag of a BCP 47 locale.
func language(locale string) string {
	l, _, _ := strings.Cut(locale, "-")
	return l
}

// gather concatenates a list that details of one type hold.
func gather[M proto.Message, E any](err error, list func(M) []E) []E {
	var all []E
	for _, d := range Convert(err).details() {
		m, err := d.UnmarshalNew()
		if err != nil {
			continue
		}
		if m, ok := m.(M); ok {
			all = append(all, list(m)...)
		}
	}
	return all
}
