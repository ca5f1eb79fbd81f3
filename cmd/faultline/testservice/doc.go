// SPDX-License-Identifier: Apache-2.0

// Package testservice is a service to try things on: grpc.testing.TestService, as gRPC's interoperability tests describe it.
//
// See https://github.com/grpc/grpc/blob/master/doc/interop-test-descriptions.md.
// It carries no compatibility promise.
package testservice
