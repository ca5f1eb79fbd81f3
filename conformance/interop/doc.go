// SPDX-License-Identifier: Apache-2.0

// Package interop runs the interop cases of google.golang.org/grpc/interop
// between any two engines, over cleartext and TLS on loopback.
//
// A pairing is a client engine and a server engine: "client" is ours against
// grpc-go's server, "server" the other way round, "self" ours on both ends and
// "baseline" grpc-go on both, which tells a broken case from a broken engine.
// Left out are the cases that need a cloud account and those that exercise
// ORCA. It carries no compatibility promise.
package interop
