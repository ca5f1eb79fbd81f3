// SPDX-License-Identifier: Apache-2.0

// Package call is one client call: deadline, attempts, interceptors, credentials.
//
// The way of a call, down:
//
//	Caller.Invoke, Caller.NewStream   default options, interceptors (caller.go)
//	call.begin                        options, service config, deadline, metadata (call.go, options.go, methods.go)
//	call.attempt                      pick, credentials, open (attempt.go, credentials.go)
//	unary.go, stream.go               messages out and in (decode.go)
//	call.end                          what the program asked to know afterwards
//
// An attempt that failed is judged (retry.go): one that provably was not
// processed is made again, and so is one that the service config's retryPolicy
// covers, after its backoff (backoff.go), while its tokens last (throttle.go)
// and the call is not committed. Streams keep what they sent until then
// (replay.go). Under a hedgingPolicy several attempts run at a time, once the
// request is complete (hedge.go): a unary call's always is, a stream's when its
// sending side is closed before its answer is awaited; until then, and beyond
// the size that is kept, it has one attempt at a time.
//
// What goes wrong here is a context that ended, credentials, or a program's
// mistake (faults.go); everything else comes from below and passes unchanged.
//
// The package carries no compatibility promise.
package call
