// SPDX-License-Identifier: Apache-2.0

// Package frame is the layout of HTTP/2 frames (RFC 9113 sections 4, 6 and 7): constants, headers, payloads, and the checks that one frame allows by itself.
//
// Everything here is a pure function over bytes and numbers: no connection, no
// stream, no time. What depends on the state of a stream or a connection is
// decided in package h2.
//
// The package carries no compatibility promise.
package frame
