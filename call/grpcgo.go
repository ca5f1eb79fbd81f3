// SPDX-License-Identifier: Apache-2.0

package call

import (
	"context"
	"io"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"
	grpcstatus "google.golang.org/grpc/status"

	"github.com/faultline-rpc/faultline/fault"
)

// UnaryTrail is an interceptor for clients of grpc-go: an error that comes with
// a trail becomes a *fault.Fault that has it. Others are returned as they are.
func UnaryTrail(ctx context.Context, method string, req, reply any, cc *grpc.ClientConn, invoker grpc.UnaryInvoker, opts ...grpc.CallOption) error {
	var md metadata.MD
	var at peer.Peer
	err := invoker(ctx, method, req, reply, cc, append(opts[:len(opts):len(opts)], grpc.Trailer(&md), grpc.Peer(&at))...)
	conceal(opts)
	return withTrail(err, method, md, &at, 0)
}

// conceal takes a trail out of the trailers that the program asked for: it may
// copy them to a caller who must not read it. Those of a [Caller] have none.
func conceal(opts []grpc.CallOption) {
	for _, o := range opts {
		if t, ok := o.(grpc.TrailerCallOption); ok && t.TrailerAddr != nil {
			delete(*t.TrailerAddr, fault.TrailKey)
		}
	}
}

// StreamTrail is [UnaryTrail] for streams.
func StreamTrail(ctx context.Context, desc *grpc.StreamDesc, cc *grpc.ClientConn, method string, streamer grpc.Streamer, opts ...grpc.CallOption) (grpc.ClientStream, error) {
	s, err := streamer(ctx, desc, cc, method, opts...)
	if err != nil {
		return nil, err
	}
	return &trailStream{ClientStream: s, method: method, opts: opts}, nil
}

// trailStream is a stream of grpc-go whose end may come with a trail.
type trailStream struct {
	grpc.ClientStream
	method   string
	opts     []grpc.CallOption
	messages int64 // received
}

// Trailer implements grpc.ClientStream.
func (s *trailStream) Trailer() metadata.MD {
	md := s.ClientStream.Trailer()
	if len(md[fault.TrailKey]) > 0 {
		md = md.Copy()
		delete(md, fault.TrailKey)
	}
	return md
}

// RecvMsg implements grpc.ClientStream.
func (s *trailStream) RecvMsg(m any) error {
	err := s.ClientStream.RecvMsg(m)
	switch err {
	case nil:
		s.messages++
		return nil
	case io.EOF:
		return err
	}
	at, _ := peer.FromContext(s.Context())
	md := s.ClientStream.Trailer().Copy() // grpc-go's own map, which conceal may change
	conceal(s.opts)
	return withTrail(err, s.method, md, at, s.messages)
}

// withTrail is err with the trail that came in trailers of grpc-go's.
func withTrail(err error, method string, md metadata.MD, at *peer.Peer, messages int64) error {
	trail := md[fault.TrailKey]
	if err == nil || len(trail) == 0 {
		return err
	}
	s := grpcstatus.Convert(err)
	a := fault.Args{Code: s.Code(), Message: s.Message(), Cause: err, Evidence: &fault.Evidence{Method: method, Messages: messages, Sent: true, Answered: true}}
	if at != nil && at.Addr != nil {
		a.Evidence.Address, a.Evidence.Network = at.Addr.String(), at.Addr.Network()
	}
	if messages > 0 {
		a.Processed = fault.Yes
	}
	return fault.Received(a, trail).WithDetails(s.Proto().GetDetails())
}
