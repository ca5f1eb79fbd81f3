// SPDX-License-Identifier: Apache-2.0

// Package wire is gRPC on one HTTP/2 stream: heads, timeout, metadata, message framing, trailers, and the only tables from HTTP/2 and HTTP to gRPC codes.
//
// Its pure parts turn header sections into values and back; they touch no
// connection and never fail on peer input otherwise than by a fault:
//
//   - [ParseRequest] reads what a client asked for, [ParseResponse] and
//     [ParseTrailer] what a server answered, [AppendStatus] writes the answer.
//   - [AppendMetadata] checks and encodes a program's own metadata.
//   - [AppendTimeout], [ParseTimeout], [EncodeMessage] and [DecodeMessage] are
//     the two encodings of gRPC's own fields.
//   - [ForReset] and [ForHTTP] are the tables.
//
// The specification is gRPC over HTTP/2,
// https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md, called
// PROTOCOL-HTTP2 in this package.
//
// The package carries no compatibility promise.
package wire
