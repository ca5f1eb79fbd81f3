// SPDX-License-Identifier: Apache-2.0

// Package channel finds a connection for a call: it resolves the target, balances over its addresses, and keeps connections to them.
//
// The way of a name, in the order of the files:
//
//	target.go      the target string becomes a resolver and an authority
//	session.go     a stay out of IDLE: a call begins it, their absence ends it
//	resolve.go     the resolver reports addresses: dns.go, dnstext.go, resolvers.go;
//	               and how calls are to be made: serviceconfig.go, methodconfig.go, configjson.go
//	balancer.go    a policy turns addresses into subchannels and a picker
//	subchannel.go  the state machine of one connection
//	link.go        one attempt: dial.go, proxy.go, then tls.go, then preface.go
//	health.go      does the server say that it serves?
//	keepalive.go   is the server still there?
//	pick.go        calls ask the picker and get a connection, or the fault that stands in the way
//
// Every failure on the way is stamped where it happens with package fault's
// circumstance, and kept until a later one or success replaces it, so that a
// call that finds no connection tells the deepest cause.
//
// This package carries no compatibility promise: programs use package
// faultline.
package channel
