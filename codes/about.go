// SPDX-License-Identifier: Apache-2.0

package codes

import "fmt"

// Info is what is known of a code.
type Info struct {
	Code Code
	// Name is the canonical name, such as "NOT_FOUND".
	Name string
	// GoName is the name of the Go constant, such as "NotFound".
	GoName string
	// Meaning is one or two sentences, after statuscodes.md.
	Meaning string
	// HTTP is the status a gateway answers with (google/rpc/code.proto), and
	// HTTPName its reason phrase. It is not the inverse of the mapping by which
	// a gRPC client reads an HTTP error.
	HTTP     int
	HTTPName string
	// By says who raises the code.
	By By
	// GeneratedByLibrary is false for the seven codes that no gRPC library ever
	// generates: they prove that an application answered.
	GeneratedByLibrary bool
	// Retry says in a word whether to call again, Advice in a sentence.
	Retry  Retry
	Advice string
}

// By says who raises a code. No code is the library's alone: an application
// may return any.
type By uint8

const (
	// ByBoth means that the gRPC library and applications raise the code.
	ByBoth By = iota
	// ByApplication means that applications alone do.
	ByApplication
)

// String returns "library and application" or "application".
func (b By) String() string {
	switch b {
	case ByBoth:
		return "library and application"
	case ByApplication:
		return "application"
	}
	return fmt.Sprintf("by(%d)", uint8(b))
}

// Retry is advice on calling again after a code.
type Retry uint8

const (
	// RetryNever: the same call fails again.
	RetryNever Retry = iota
	// RetryBackoff: the call may succeed a little later.
	RetryBackoff
	// RetryWhenTold: wait for as long as RetryInfo says, or with long back-off.
	RetryWhenTold
	// RetryIfIdempotent: the call may have had its effect; repeat it only if
	// twice is as good as once.
	RetryIfIdempotent
	// RetryHigher: repeat the whole transaction, not this call alone.
	RetryHigher
	// RetryAfterFix: not before somebody changed the system's state.
	RetryAfterFix
)

var retryNames = [...]string{"never", "backoff", "when-told", "if-idempotent", "higher-level", "after-fix"}

// String returns the advice in a word, such as "backoff" or "never".
func (r Retry) String() string {
	if int(r) < len(retryNames) {
		return retryNames[r]
	}
	return fmt.Sprintf("retry(%d)", uint8(r))
}

// About returns what is known of c. A number that is no code is treated as
// UNKNOWN, as gRPC asks, under the name "CODE(n)".
func About(c Code) Info {
	if int(c) < len(table) {
		return table[c]
	}
	i := table[Unknown]
	i.Code, i.Name, i.GoName = c, Name(c), c.String()
	i.Meaning = "Not one of the 17 gRPC codes; it is to be treated as UNKNOWN."
	return i
}

// table is indexed by code. HTTP: google/rpc/code.proto.
var table = [...]Info{
	{
		Code: OK, Name: "OK", GoName: "OK", HTTP: 200, HTTPName: "OK", By: ByBoth, GeneratedByLibrary: true,
		Meaning: "The call succeeded.",
		Retry:   RetryNever, Advice: "There is nothing to retry.",
	},
	{
		Code: Canceled, Name: "CANCELLED", GoName: "Canceled", HTTP: 499, HTTPName: "Client Closed Request", By: ByBoth, GeneratedByLibrary: true,
		Meaning: "The call was canceled, typically by its caller.",
		Retry:   RetryNever, Advice: "Whoever canceled wants no answer any more; if nobody here canceled, a proxy or the server did, and only an idempotent call should be repeated.",
	},
	{
		Code: Unknown, Name: "UNKNOWN", GoName: "Unknown", HTTP: 500, HTTPName: "Internal Server Error", By: ByBoth, GeneratedByLibrary: true,
		Meaning: "An error that nobody classified: the handler failed without naming a code, or the status came from another error space.",
		Retry:   RetryIfIdempotent, Advice: "Nothing is known of the cause or of the effect: repeat only an idempotent call, and few times.",
	},
	{
		Code: InvalidArgument, Name: "INVALID_ARGUMENT", GoName: "InvalidArgument", HTTP: 400, HTTPName: "Bad Request", By: ByApplication,
		Meaning: "The caller gave an argument that is wrong whatever the state of the system, such as a malformed name.",
		Retry:   RetryNever, Advice: "Correct the request: the same one fails again.",
	},
	{
		Code: DeadlineExceeded, Name: "DEADLINE_EXCEEDED", GoName: "DeadlineExceeded", HTTP: 504, HTTPName: "Gateway Timeout", By: ByBoth, GeneratedByLibrary: true,
		Meaning: "Time ran out before the call was complete. A call that changes something may still have succeeded.",
		Retry:   RetryIfIdempotent, Advice: "Repeat only an idempotent call, and only with time left; a server that is too slow gets slower by retries.",
	},
	{
		Code: NotFound, Name: "NOT_FOUND", GoName: "NotFound", HTTP: 404, HTTPName: "Not Found", By: ByApplication,
		Meaning: "Something that was asked for does not exist, or is hidden from everybody of the caller's kind.",
		Retry:   RetryNever, Advice: "The same call fails again until somebody creates what is missing.",
	},
	{
		Code: AlreadyExists, Name: "ALREADY_EXISTS", GoName: "AlreadyExists", HTTP: 409, HTTPName: "Conflict", By: ByApplication,
		Meaning: "What the caller wanted to create exists already.",
		Retry:   RetryNever, Advice: "Read what exists; after an earlier attempt of the same call it may be that attempt's success.",
	},
	{
		Code: PermissionDenied, Name: "PERMISSION_DENIED", GoName: "PermissionDenied", HTTP: 403, HTTPName: "Forbidden", By: ByBoth, GeneratedByLibrary: true,
		Meaning: "The caller is identified and is not allowed to do this. It is not for used-up quotas (RESOURCE_EXHAUSTED) nor for unknown callers (UNAUTHENTICATED).",
		Retry:   RetryNever, Advice: "Get the permission first.",
	},
	{
		Code: ResourceExhausted, Name: "RESOURCE_EXHAUSTED", GoName: "ResourceExhausted", HTTP: 429, HTTPName: "Too Many Requests", By: ByBoth, GeneratedByLibrary: true,
		Meaning: "Something is used up: a caller's quota, the server's capacity, or the limit on a message's size.",
		Retry:   RetryWhenTold, Advice: "Wait for the time in the RetryInfo detail, or back off well; a message over the size limit never gets through.",
	},
	{
		Code: FailedPrecondition, Name: "FAILED_PRECONDITION", GoName: "FailedPrecondition", HTTP: 400, HTTPName: "Bad Request", By: ByApplication,
		Meaning: "The system is not in the state that the operation needs, such as a directory that is to be deleted and is not empty.",
		Retry:   RetryAfterFix, Advice: "Do not retry before the state has been changed on purpose.",
	},
	{
		Code: Aborted, Name: "ABORTED", GoName: "Aborted", HTTP: 409, HTTPName: "Conflict", By: ByApplication,
		Meaning: "The operation lost against a concurrent one: a transaction was aborted, a sequence check failed.",
		Retry:   RetryHigher, Advice: "Restart the whole read-modify-write sequence, not this call alone.",
	},
	{
		Code: OutOfRange, Name: "OUT_OF_RANGE", GoName: "OutOfRange", HTTP: 400, HTTPName: "Bad Request", By: ByApplication,
		Meaning: "The operation went past the valid range, such as reading beyond the end of a file. Unlike INVALID_ARGUMENT it may become valid when the state changes.",
		Retry:   RetryNever, Advice: "Stop iterating; the same call fails until the range grows.",
	},
	{
		Code: Unimplemented, Name: "UNIMPLEMENTED", GoName: "Unimplemented", HTTP: 501, HTTPName: "Not Implemented", By: ByBoth, GeneratedByLibrary: true,
		Meaning: "The server does not have this service or method, or does not support what the call asks for.",
		Retry:   RetryNever, Advice: "Deploy a server that has it, or call the right one.",
	},
	{
		Code: Internal, Name: "INTERNAL", GoName: "Internal", HTTP: 500, HTTPName: "Internal Server Error", By: ByBoth, GeneratedByLibrary: true,
		Meaning: "Something that must hold does not: a broken invariant in the server, or a violation of the protocol.",
		Retry:   RetryIfIdempotent, Advice: "A defect seldom cures itself; repeat only an idempotent call, and few times.",
	},
	{
		Code: Unavailable, Name: "UNAVAILABLE", GoName: "Unavailable", HTTP: 503, HTTPName: "Service Unavailable", By: ByBoth, GeneratedByLibrary: true,
		Meaning: "The service cannot be reached or does not serve now. It is most likely a passing condition.",
		Retry:   RetryBackoff, Advice: "Retry just this call, with back-off and jitter; a call that is not idempotent only if it is known not to have been processed.",
	},
	{
		Code: DataLoss, Name: "DATA_LOSS", GoName: "DataLoss", HTTP: 500, HTTPName: "Internal Server Error", By: ByApplication,
		Meaning: "Data is lost or corrupt and cannot be recovered.",
		Retry:   RetryNever, Advice: "Tell a person: no retry brings the data back.",
	},
	{
		Code: Unauthenticated, Name: "UNAUTHENTICATED", GoName: "Unauthenticated", HTTP: 401, HTTPName: "Unauthorized", By: ByBoth, GeneratedByLibrary: true,
		Meaning: "The call carries no valid credentials, so it is not known who calls.",
		Retry:   RetryAfterFix, Advice: "Obtain or refresh the credentials, then call again.",
	},
}
