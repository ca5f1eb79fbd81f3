// SPDX-License-Identifier: Apache-2.0

// Package hpack is header compression for HTTP/2 (RFC 7541): decoding into lasting strings and blocks, encoding from templates.
//
// It is made for connections whose header sections repeat: after a few blocks
// a peer that keeps sending the same fields costs neither side an allocation.
// The decoder returns the strings of its table, and the same [Block] for the
// same bytes; the encoder copies a [Template]'s encoded form. Everything a peer
// can make grow is bounded by the limits given to [NewDecoder].
//
// The package carries no compatibility promise.
package hpack
