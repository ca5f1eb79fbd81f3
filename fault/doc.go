// SPDX-License-Identifier: Apache-2.0

// Package fault says what went wrong with a call: the catalogue of circumstances, and one failure with its layer, side, evidence, cause and remedy.
//
// Whoever detects a failure stamps it once, with the catalogue's entry:
//
//	return fault.DialRefused.New(fault.Args{Side: fault.Remote, Processed: fault.No, Cause: err,
//		Evidence: &fault.Evidence{Address: "127.0.0.1:50051"}})
//
// Floors above may add a rung ([Fault.Above]), an attempt or the deadline's
// ledger; they never replace what was stamped. [From] finds the fault in any
// error chain, printing it with %+v shows all there is to know, and a Fault
// marshals to JSON and logs as a group with slog.
package fault
