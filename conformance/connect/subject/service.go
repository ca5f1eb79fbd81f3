// SPDX-License-Identifier: Apache-2.0

package subject

import (
	"context"
	"io"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/faultline-rpc/faultline/conformance/internal/gen/conformancev1"
)

// service does what the comments of service.proto prescribe.
type service struct {
	conformancev1.UnimplementedConformanceServiceServer
}

// Unary implements conformancev1.ConformanceServiceServer.
func (service) Unary(ctx context.Context, req *conformancev1.UnaryRequest) (*conformancev1.UnaryResponse, error) {
	seen, err := new(witness).add(req)
	if err != nil {
		return nil, err
	}
	def := req.GetResponseDefinition()
	if err := grpc.SetHeader(ctx, toMetadata(def.GetResponseHeaders())); err != nil {
		return nil, err
	}
	if err := grpc.SetTrailer(ctx, toMetadata(def.GetResponseTrailers())); err != nil {
		return nil, err
	}
	payload, err := single(ctx, def, seen)
	if err != nil {
		return nil, err
	}
	return &conformancev1.UnaryResponse{Payload: payload}, nil
}

// ClientStream implements conformancev1.ConformanceServiceServer.
func (service) ClientStream(stream grpc.ClientStreamingServer[conformancev1.ClientStreamRequest, conformancev1.ClientStreamResponse]) error {
	var def *conformancev1.UnaryResponseDefinition
	seen := &witness{}
	for {
		req, err := stream.Recv()
		if err == io.EOF {
			break
		}
		if err != nil {
			return err
		}
		if len(seen.requests) == 0 {
			def = req.GetResponseDefinition()
		}
		if _, err := seen.add(req); err != nil {
			return err
		}
	}
	if err := stream.SetHeader(toMetadata(def.GetResponseHeaders())); err != nil {
		return err
	}
	stream.SetTrailer(toMetadata(def.GetResponseTrailers()))
	payload, err := single(stream.Context(), def, seen)
	if err != nil {
		return err
	}
	return stream.SendAndClose(&conformancev1.ClientStreamResponse{Payload: payload})
}

// ServerStream implements conformancev1.ConformanceServiceServer.
func (service) ServerStream(req *conformancev1.ServerStreamRequest, stream grpc.ServerStreamingServer[conformancev1.ServerStreamResponse]) error {
	seen, err := new(witness).add(req)
	if err != nil {
		return err
	}
	a := &answers{stream: stream, def: req.GetResponseDefinition(), seen: seen, wrap: func(p *conformancev1.ConformancePayload) proto.Message {
		return &conformancev1.ServerStreamResponse{Payload: p}
	}}
	if err := a.begin(); err != nil {
		return err
	}
	return a.finish()
}

// BidiStream implements conformancev1.ConformanceServiceServer.
func (service) BidiStream(stream grpc.BidiStreamingServer[conformancev1.BidiStreamRequest, conformancev1.BidiStreamResponse]) error {
	a := &answers{stream: stream, seen: &witness{}, wrap: func(p *conformancev1.ConformancePayload) proto.Message {
		return &conformancev1.BidiStreamResponse{Payload: p}
	}}
	duplex := false
	for first := true; ; first = false {
		req, err := stream.Recv()
		if err == io.EOF {
			break
		}
		if err != nil {
			return err
		}
		if _, err := a.seen.add(req); err != nil {
			return err
		}
		if first {
			a.def, duplex = req.GetResponseDefinition(), req.GetFullDuplex()
			if err := a.begin(); err != nil {
				return err
			}
		}
		if !duplex {
			continue
		}
		if a.left() == 0 {
			break
		}
		if err := a.next(); err != nil {
			return err
		}
		a.seen.requests = nil // the next answer tells of the next request only
		a.duplex = true
	}
	return a.finish()
}

// witness remembers the requests of a call.
type witness struct {
	requests []*anypb.Any
}

func (w *witness) add(req proto.Message) (*witness, error) {
	a, err := anypb.New(req)
	w.requests = append(w.requests, a)
	return w, err
}

// info tells what was seen of the call in ctx.
func (w *witness) info(ctx context.Context) *conformancev1.ConformancePayload_RequestInfo {
	md, _ := metadata.FromIncomingContext(ctx)
	info := &conformancev1.ConformancePayload_RequestInfo{RequestHeaders: fromMetadata(md), Requests: w.requests}
	if d, ok := ctx.Deadline(); ok {
		info.TimeoutMs = proto.Int64(max(0, time.Until(d).Milliseconds()))
	}
	return info
}

// fail makes the error that e describes; what was seen is its last detail.
func (w *witness) fail(ctx context.Context, e *conformancev1.Error) error {
	info, err := anypb.New(w.info(ctx))
	if err != nil {
		return err
	}
	e = proto.CloneOf(e)
	e.Details = append(e.Details, info)
	return toError(e)
}

// single is the payload or the error of a call with one response.
func single(ctx context.Context, def *conformancev1.UnaryResponseDefinition, seen *witness) (*conformancev1.ConformancePayload, error) {
	if err := pause(ctx, def.GetResponseDelayMs()); err != nil {
		return nil, err
	}
	if e := def.GetError(); e != nil {
		return nil, seen.fail(ctx, e)
	}
	return &conformancev1.ConformancePayload{Data: def.GetResponseData(), RequestInfo: seen.info(ctx)}, nil
}

// answers sends the responses of a stream.
type answers struct {
	stream grpc.ServerStream
	def    *conformancev1.StreamResponseDefinition
	seen   *witness
	wrap   func(*conformancev1.ConformancePayload) proto.Message
	sent   int
	duplex bool // tell of requests after the first response too
}

// begin sends the headers at once, so that a client need not wait for them, and
// sets the trailers.
func (a *answers) begin() error {
	a.stream.SetTrailer(toMetadata(a.def.GetResponseTrailers()))
	return a.stream.SendHeader(toMetadata(a.def.GetResponseHeaders()))
}

func (a *answers) left() int { return len(a.def.GetResponseData()) - a.sent }

// next sends one response.
func (a *answers) next() error {
	ctx := a.stream.Context()
	if err := pause(ctx, a.def.GetResponseDelayMs()); err != nil {
		return err
	}
	p := &conformancev1.ConformancePayload{Data: a.def.GetResponseData()[a.sent]}
	switch {
	case a.sent == 0:
		p.RequestInfo = a.seen.info(ctx)
	case a.duplex && len(a.seen.requests) > 0:
		p.RequestInfo = &conformancev1.ConformancePayload_RequestInfo{Requests: a.seen.requests}
	}
	a.sent++
	return a.stream.SendMsg(a.wrap(p))
}

// finish sends what is left, and ends the call.
func (a *answers) finish() error {
	for a.left() > 0 {
		if err := a.next(); err != nil {
			return err
		}
	}
	switch e := a.def.GetError(); {
	case e == nil:
		return nil
	case a.sent == 0:
		return a.seen.fail(a.stream.Context(), e)
	default:
		return toError(e)
	}
}

// pause waits, or returns the context's error when it ends earlier.
func pause(ctx context.Context, ms uint32) error {
	if ms == 0 {
		return nil
	}
	t := time.NewTimer(time.Duration(ms) * time.Millisecond)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
