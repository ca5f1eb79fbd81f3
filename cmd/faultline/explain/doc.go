// SPDX-License-Identifier: Apache-2.0

// Package explain says what a circumstance, a code or a pasted error text means.
//
// Texts are recognized by a phrase book, the JSON files in phrases/: what
// grpc-go, grpc-java, grpc-js, C-core (Python, Ruby, C++), grpc-dotnet,
// connect-go, tonic, nginx, Envoy and others say, with the source of each phrase,
// the circumstances it can mean, the likeliest first, and how to tell them apart.
// testdata/reports.txt holds it against whole texts of other people's failures.
// Faultline's own messages are recognized by the circumstance's id. Nothing
// else of this module looks at texts.
//
// It belongs to the command faultline and carries no compatibility promise.
package explain
