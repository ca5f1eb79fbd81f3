// SPDX-License-Identifier: Apache-2.0

// Package doctor finds out why calls to a target fail: one small probe per layer, bottom up, each depending on the one below.
//
//	name        the target's resolver: addresses, families, proxy       (connect.go)
//	dial        a connection to every address                           (connect.go)
//	tls         version, chain, names, expiry, ALPN                     (secure.go)
//	http2       preface, SETTINGS, PING                                 (line.go, tap.go)
//	grpc        one health check: is what comes back gRPC at all?       (ask.go)
//	health      what it said                                            (services.go)
//	reflection  the services, where the server tells                    (services.go)
//	method      the call that was asked for                             (method.go)
//	watch       a connection and a stream that are held                 (watch.go)
//
// [Examine] climbs this ladder and returns a [Report]. The deepest cause is
// the verdict: a circumstance of fault's catalogue. The package classifies
// nothing by itself: connections are opened by [channel.Steps] and calls made
// by [wire.ClientStream], whose faults a client would get as well. It sends
// nothing but what the probes above name, and changes nothing at the target;
// what the method does that it was asked to call, it does.
//
// The package carries no compatibility promise.
package doctor
