// SPDX-License-Identifier: Apache-2.0

package server

import (
	"context"
	"sync/atomic"

	"google.golang.org/grpc"

	"github.com/faultline-rpc/faultline/fault"
)

// gate is between the interceptors and the handler: an interceptor that refuses
// a call leaves proof that no handler ran.
//
//	open --(interceptors run)--> shut --(they call the handler)--> passed
//	                              shut --(the call fails)--> sealed
//
// Without interceptors it stays open.
type gate struct{ state atomic.Uint32 }

const (
	gateOpen = iota
	gateShut
	gatePassed
	gateSealed
)

// enter lets the handler run, unless its caller was told that it did not.
func (g *gate) enter() error {
	if g.state.CompareAndSwap(gateShut, gatePassed) || g.state.Load() == gatePassed {
		return nil
	}
	return fault.CallMisuse.Newf(fault.Args{Side: fault.Local, Processed: fault.No},
		"an interceptor called the handler after it had failed the call")
}

// passed is what is known of a call that goes on.
func (g *gate) passed() fault.Processed {
	if g.state.Load() == gatePassed {
		return fault.Yes
	}
	return fault.Maybe
}

// seal says whether the handler of a call that fails has run. If it has not it
// never will.
func (g *gate) seal() fault.Processed {
	if g.state.CompareAndSwap(gateShut, gateSealed) {
		return fault.No
	}
	switch g.state.Load() {
	case gatePassed:
		return fault.Yes
	case gateSealed:
		return fault.No
	}
	return fault.Maybe
}

// handlerRan says whether the handler of a call that fails has run. A handler
// that is called directly runs when it has its request, and if the method does
// not ask for interceptors nobody knows.
func (k *call) handlerRan() fault.Processed {
	m, s := k.method, k.conn.srv
	switch {
	case k.refusal != nil || m == nil || !k.stage.ran():
		return fault.No
	case m.unary != nil && s.unaryInt == nil, m.unary == nil && s.strInt == nil:
		return fault.Yes
	}
	return k.ctx.gate.seal()
}

// gated is what generated code calls in the place of a server's interceptors.
func gated(chain grpc.UnaryServerInterceptor) grpc.UnaryServerInterceptor {
	if chain == nil {
		return nil
	}
	return func(ctx context.Context, req any, info *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
		t, ok := grpc.ServerTransportStreamFromContext(ctx).(*transportStream)
		if !ok {
			return chain(ctx, req, info, handler)
		}
		g := &(*callContext)(t).gate
		g.state.Store(gateShut)
		return chain(ctx, req, info, func(ctx context.Context, req any) (any, error) {
			if err := g.enter(); err != nil {
				return nil, err
			}
			return handler(ctx, req)
		})
	}
}

// gatedStream is a stream's handler behind interceptors.
func (k *call) gatedStream() grpc.StreamHandler {
	g, handler := &k.ctx.gate, k.method.stream.Handler
	g.state.Store(gateShut)
	return func(srv any, stream grpc.ServerStream) error {
		if err := g.enter(); err != nil {
			return err
		}
		return handler(srv, stream)
	}
}
