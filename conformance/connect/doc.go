// SPDX-License-Identifier: Apache-2.0

// Package connect runs connectconformance, the suite of the Connect project,
// against a server and a client that speak gRPC over HTTP/2: with protobuf and
// gzip, and with JSON and four more compressions that a program registers.
//
// The suite's program is built at the version fixed here, with the
// requirements that its authors fixed. What it examines is in subject. The
// package carries no compatibility promise.
package connect
