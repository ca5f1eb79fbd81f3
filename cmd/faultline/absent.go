// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"strings"
	"time"

	"google.golang.org/grpc"

	"github.com/faultline-rpc/faultline/codes"
	"github.com/faultline-rpc/faultline/fault"

	dyn "github.com/faultline-rpc/faultline/cmd/faultline/invoke"
)

// Names that no server has, to compare its answers with.
const (
	noService = "faultline.call.NoSuchService"
	noMethod  = "NoSuchMethod"
)

// absentTime bounds each of the comparing calls.
const absentTime = 2 * time.Second

// absent finds out what a server means that answers UNIMPLEMENTED and says
// nothing more: whether it answers in the same words for a service, or a method
// of this service, that it surely does not have. Those calls carry no message.
// What remains is the handler's own word.
func (f *callFlags) absent(ctx context.Context, cc grpc.ClientConnInterface, err error) error {
	flt, ok := fault.From(err)
	if !ok || !mute(flt) || f.compress != "" { // the compressor may be what it lacks
		return err
	}
	same := func(service, method string) bool {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), absentTime)
		defer cancel()
		_, err := dyn.Blind(ctx, cc, "/"+service+"/"+method, false, nil, func([]byte) error { return nil })
		other, ok := fault.From(err)
		return ok && mute(other) && unnamed(other.Message(), service, method) == unnamed(flt.Message(), string(f.service), string(f.method))
	}
	switch {
	case same(noService, noMethod):
		return renamed(flt, "handler.unknown-service", flt.Evidence(), flt.Processed())
	case same(string(f.service), noMethod):
		return renamed(flt, "handler.unknown-method", flt.Evidence(), flt.Processed())
	}
	return err
}

// mute reports a bare UNIMPLEMENTED, from a server that does not say which
// circumstance of its own it was.
func mute(f *fault.Fault) bool {
	return f.ID() == fault.HandlerStatus.ID && f.Code() == codes.Unimplemented && f.Processed() == fault.Maybe && len(f.Details()) == 0
}

// unnamed is a text without the names in it.
func unnamed(text, service, method string) string {
	return strings.ReplaceAll(strings.ReplaceAll(text, service, "\x00"), method, "\x01")
}

// renamed is a server's answer under the id that it has on the server.
func renamed(f *fault.Fault, id fault.ID, ev fault.Evidence, p fault.Processed) *fault.Fault {
	g := fault.Lookup(id).New(fault.Args{Code: f.Code(), Side: f.Side(), Processed: p, Message: f.Message(), Verbatim: true, Evidence: &ev}).WithDetails(f.Details())
	if l := f.Ledger(); l != nil {
		g = g.WithLedger(l)
	}
	return g
}
