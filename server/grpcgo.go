// SPDX-License-Identifier: Apache-2.0

package server

import (
	"context"
	"log/slog"
	"time"

	spb "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"
	"google.golang.org/protobuf/proto"

	"github.com/faultline-rpc/faultline/fault"
	"github.com/faultline-rpc/faultline/status"
	"github.com/faultline-rpc/faultline/wire"
)

// UnaryTrail returns an interceptor for servers of grpc-go that does for their
// calls what a Server of this package does for its own: see [edge].
func UnaryTrail(trusted []func(*peer.Peer) bool) grpc.UnaryServerInterceptor {
	return func(ctx context.Context, req any, info *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
		start := time.Now()
		reply, err := handler(ctx, req)
		if err == nil || ours(ctx) {
			return reply, err
		}
		trail, err := beyond(ctx, info.FullMethod, start, trusted, err)
		_ = grpc.SetTrailer(ctx, trail) // fails if the call is over
		return reply, err
	}
}

// StreamTrail is [UnaryTrail] for streams.
func StreamTrail(trusted []func(*peer.Peer) bool) grpc.StreamServerInterceptor {
	return func(srv any, ss grpc.ServerStream, info *grpc.StreamServerInfo, handler grpc.StreamHandler) error {
		start := time.Now()
		err := handler(srv, ss)
		if err == nil || ours(ss.Context()) {
			return err
		}
		trail, err := beyond(ss.Context(), info.FullMethod, start, trusted, err)
		ss.SetTrailer(trail)
		return err
	}
}

// ours reports whether the call is served by this package, which does it all.
func ours(ctx context.Context) bool {
	_, ok := grpc.ServerTransportStreamFromContext(ctx).(*transportStream)
	return ok
}

// beyond is what the caller of a server of grpc-go gets. The error has err as
// its cause, for other interceptors. Whether a handler ran is not known: an
// interceptor behind this one may have refused the call.
func beyond(ctx context.Context, method string, start time.Time, trusted []func(*peer.Peer) bool, err error) (metadata.MD, error) {
	e := edge{method: method, elapsed: time.Since(start), ran: fault.Maybe}
	if p, ok := peer.FromContext(ctx); ok {
		e.trusted = trusts(trusted, p)
	}
	if d, ok := ctx.Deadline(); ok {
		e.timed, e.budget = true, time.Until(d)
	}
	e.mask = func(err error, what string) string {
		ref := reference()
		slog.LogAttrs(ctx, slog.LevelError, what, slog.String("method", clip(method)), slog.String("reference", ref), slog.Any("error", err))
		return ref
	}
	e.context = func(err error) *fault.Fault { return contextError(err, nil, method, "") }
	st, _ := e.judge(err, nil)
	return metadata.MD{fault.TrailKey: st.Trail}, status.FromProto(protoOf(st)).WithCause(err).Err()
}

func protoOf(st wire.Status) *spb.Status {
	p := new(spb.Status)
	if st.Details == nil || proto.Unmarshal(st.Details, p) != nil {
		p = &spb.Status{Code: int32(st.Code), Message: st.Message}
	}
	return p
}
