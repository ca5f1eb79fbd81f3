// SPDX-License-Identifier: Apache-2.0

// Package demo is gRPC's error table alive: it provokes every row over real sockets and compares what happens with what is expected.
//
// What is expected stands in expect.json: the table's own words and code, and
// for each way to provoke a row the circumstance, layer, side and processed
// value that circumstances and specifications ask for. What happened comes
// from a call. The way of a run:
//
//  1. [Load] reads the data file (expect.go).
//  2. [Run] makes a call of each kind (kinds.go), then provokes row by row
//     (general.go, network.go, protocol.go), each case in a lab of its own: a
//     server or client of this module at one end, and at the other end this
//     module's again or a scripted one that misbehaves (lab.go, served.go).
//  3. The [Report] is printed as a table (table.go) or as JSON.
//
// A case belongs to the role that observed it. As client it is the error of
// the call. As server it is the fault that the server recorded, and the
// grpc-status that the client found on the wire must agree with it.
//
// The package carries no compatibility promise, but for the JSON, whose shape
// [Report] documents.
package demo
