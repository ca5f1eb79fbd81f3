// SPDX-License-Identifier: Apache-2.0

package faultline

import (
	"google.golang.org/grpc"
	"google.golang.org/grpc/peer"

	"github.com/faultline-rpc/faultline/call"
	"github.com/faultline-rpc/faultline/server"
)

// A failure's trail passes through servers and clients of this module by
// itself. These interceptors are for services on the way that run grpc-go.

// UnaryServerTrail returns an interceptor that has a server of grpc-go treat
// the errors of its handlers as a [Server] does: their trail, with a hop of this
// service, goes to callers that one of the predicates trusts ([TrustedPeers]),
// and what names the inside is kept from the others. Texts that are withheld go
// to slog.Default() under the reference that the caller gets. The handler's own
// calls go through a [ClientConn], or a client of grpc-go with
// [UnaryClientTrail], and it returns their errors, wrapped or not. Make it the
// outermost interceptor. On a [Server] it does nothing.
func UnaryServerTrail(trusted ...func(*peer.Peer) bool) grpc.UnaryServerInterceptor {
	return server.UnaryTrail(trusted)
}

// StreamServerTrail is [UnaryServerTrail] for streams.
func StreamServerTrail(trusted ...func(*peer.Peer) bool) grpc.StreamServerInterceptor {
	return server.StreamTrail(trusted)
}

// UnaryClientTrail returns an interceptor for clients of grpc-go: an error that
// comes with a trail becomes a *fault.Fault that has it, with the same code,
// message and details, and grpc-go's error as its cause. Other errors are
// returned as they are.
func UnaryClientTrail() grpc.UnaryClientInterceptor { return call.UnaryTrail }

// StreamClientTrail is [UnaryClientTrail] for streams.
func StreamClientTrail() grpc.StreamClientInterceptor { return call.StreamTrail }
