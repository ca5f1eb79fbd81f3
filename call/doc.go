// SPDX-License-Identifier: Apache-2.0

// Package call is one client call: deadline, attempts, interceptors, credentials.
//
// The way of a call, down:
//
//	Caller.Invoke, Caller.NewStream   default options, interceptors (caller.go)
//	call.begin                        options, deadline, metadata (call.go, options.go)
//	call.attempt                      pick, credentials, open (attempt.go, credentials.go)
//	unary.go, stream.go               messages out and in (decode.go)
//	call.finish                       what the program asked to know afterwards
//
// An attempt that provably was not processed is made again (retry.go). What
// goes wrong here is a context that ended, credentials, or a program's
// mistake (faults.go); everything else comes from below and passes unchanged.
//
// The package carries no compatibility promise.
package call
