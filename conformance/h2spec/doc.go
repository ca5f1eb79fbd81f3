// SPDX-License-Identifier: Apache-2.0

// Package h2spec runs h2spec, the conformance suite for HTTP/2 servers, with
// its strict cases against `faultline serve`, and against net/http for a
// baseline.
//
// h2spec itself is built from the tools module, at the version fixed there. It
// carries no compatibility promise.
package h2spec
