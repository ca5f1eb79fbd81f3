// SPDX-License-Identifier: Apache-2.0

package codes

import (
	"encoding/json"
	"fmt"
	"strconv"

	grpccodes "google.golang.org/grpc/codes"
)

// Code is a gRPC status code. It is an alias: a value of this type is a value
// of google.golang.org/grpc/codes.Code.
type Code = grpccodes.Code

// The 17 codes of
// https://github.com/grpc/grpc/blob/master/doc/statuscodes.md. [About] tells
// more of each.
const (
	OK                 = grpccodes.OK                 // success
	Canceled           = grpccodes.Canceled           // the caller canceled the call
	Unknown            = grpccodes.Unknown            // an error nobody classified
	InvalidArgument    = grpccodes.InvalidArgument    // wrong whatever the state of the system
	DeadlineExceeded   = grpccodes.DeadlineExceeded   // time ran out
	NotFound           = grpccodes.NotFound           // what was asked for does not exist
	AlreadyExists      = grpccodes.AlreadyExists      // what was to be created exists
	PermissionDenied   = grpccodes.PermissionDenied   // the caller is known and not allowed
	ResourceExhausted  = grpccodes.ResourceExhausted  // a quota or a limit is used up
	FailedPrecondition = grpccodes.FailedPrecondition // the system's state forbids it
	Aborted            = grpccodes.Aborted            // lost against a concurrent operation
	OutOfRange         = grpccodes.OutOfRange         // past the valid range for now
	Unimplemented      = grpccodes.Unimplemented      // the server cannot do this
	Internal           = grpccodes.Internal           // something is broken
	Unavailable        = grpccodes.Unavailable        // not reachable or not serving now
	DataLoss           = grpccodes.DataLoss           // data is lost or corrupt for good
	Unauthenticated    = grpccodes.Unauthenticated    // it is not known who calls
)

// All returns the 17 codes in numerical order. The slice is the caller's.
func All() []Code {
	all := make([]Code, len(table))
	for i := range table {
		all[i] = table[i].Code
	}
	return all
}

// Name returns the canonical name of c, such as "NOT_FOUND" (1 is
// "CANCELLED", as the specification spells it). A number that is no code gives
// "CODE(n)".
func Name(c Code) string {
	if int(c) < len(table) {
		return table[c].Name
	}
	return fmt.Sprintf("CODE(%d)", uint32(c))
}

// Known returns c, or Unknown for a number that is none of the 17 codes.
// Servers send such numbers, and programs may use them; where one of the codes
// is due they count as Unknown.
func Known(c Code) Code {
	if int64(c) < int64(len(table)) {
		return c
	}
	return Unknown
}

// Parse reads a code: its canonical name (NOT_FOUND), its Go name (NotFound),
// both in any case, or its decimal number ("5"). Code 1 may be spelled
// CANCELLED or CANCELED. The error names what was given and what is expected.
func Parse(s string) (Code, error) {
	for i := range table {
		if same(s, table[i].Name) || same(s, table[i].GoName) || s == strconv.Itoa(i) {
			return table[i].Code, nil
		}
	}
	return Unknown, fmt.Errorf("codes: %s is no gRPC status code: expected a name such as NOT_FOUND or NotFound, or a number from 0 to %d", quote(s), len(table)-1)
}

// ParseJSON reads a code from a JSON string with what [Parse] takes, or from
// a JSON number.
func ParseJSON(b []byte) (Code, error) {
	var v any
	if err := json.Unmarshal(b, &v); err != nil {
		return Unknown, fmt.Errorf("codes: %s is not JSON: expected a string such as \"NOT_FOUND\" or a number from 0 to %d: %w", quote(string(b)), len(table)-1, err)
	}
	switch v := v.(type) {
	case string:
		return Parse(v)
	case float64:
		if c := Code(v); v >= 0 && v < float64(len(table)) && float64(c) == v {
			return c, nil
		}
	}
	return Unknown, fmt.Errorf("codes: JSON %s is no gRPC status code: expected a string such as \"NOT_FOUND\" or a number from 0 to %d", quote(string(b)), len(table)-1)
}

// same compares names without regard to the case of ASCII letters.
func same(s, name string) bool {
	if len(s) != len(name) {
		return false
	}
	for i := range len(s) {
		if lower(s[i]) != lower(name[i]) {
			return false
		}
	}
	return true
}

func lower(c byte) byte {
	if 'A' <= c && c <= 'Z' {
		c += 'a' - 'A'
	}
	return c
}

// quote keeps what a stranger sent short in error texts.
func quote(s string) string {
	const longest = 40
	if len(s) > longest {
		return strconv.Quote(s[:longest]) + "..."
	}
	return strconv.Quote(s)
}
