// SPDX-License-Identifier: Apache-2.0

// Package subject is what connectconformance examines: a server and a client
// of its service, made with generated stubs, that are told what to do on
// standard input.
//
// The same code runs on Faultline and, for a baseline, on grpc-go. It carries
// no compatibility promise.
package subject
