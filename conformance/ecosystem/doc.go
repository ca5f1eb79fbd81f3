// SPDX-License-Identifier: Apache-2.0

// Package ecosystem runs what others made for grpc-go on our client and server, unchanged:
// resolvers, interceptors, stats handlers, credentials, gateways, health and
// reflection.
//
// It consists of tests, and is a module of its own: nothing else shall require
// what they require. It carries no compatibility promise.
package ecosystem
