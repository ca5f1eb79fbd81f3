// SPDX-License-Identifier: Apache-2.0

package server

import (
	"context"
	"fmt"
	"strings"

	"google.golang.org/grpc"
	"google.golang.org/grpc/encoding"

	"github.com/faultline-rpc/faultline/codec"
	"github.com/faultline-rpc/faultline/fault"
)

// streamOf finds the call whose handler has ctx.
func streamOf(ctx context.Context, what string) (*transportStream, error) {
	if t, ok := grpc.ServerTransportStreamFromContext(ctx).(*transportStream); ok {
		return t, nil
	}
	return nil, fault.CallMisuse.Newf(fault.Args{Side: fault.Local}, "%s: the context is no handler's of this server", what)
}

// SetSendCompressor has the answer compressed with the compressor of that name;
// "identity" is none. It comes before headers are sent, and before a stream's
// first message. The error, call.misuse, says why it changed nothing: they are
// sent, no such compressor is registered, or the client does not understand it.
func SetSendCompressor(ctx context.Context, name string) error {
	t, err := streamOf(ctx, "SetSendCompressor")
	if err != nil {
		return err
	}
	comp, ok := codec.LookupCompressor(name, nil)
	t.mu.Lock()
	defer t.mu.Unlock()
	k := t.call
	switch {
	case k == nil || k.over || k.headerSent:
		return t.misuseLocked("SetSendCompressor: the headers were sent already")
	case !ok:
		return t.misuseLocked(fmt.Sprintf("SetSendCompressor: no compressor %q is registered", clip(name)))
	case comp == nil:
		k.answer, k.encoding = nil, ""
		return nil
	case !accepts(strings.Join(t.md["grpc-accept-encoding"], ","), name) && name != k.Head().Encoding:
		return t.misuseLocked(fmt.Sprintf("SetSendCompressor: the client does not accept %q", clip(name)))
	}
	k.answer, k.encoding = comp, name
	return nil
}

// ClientSupportedCompressors returns the names of the compressors that the
// client says it understands, "identity" apart.
func ClientSupportedCompressors(ctx context.Context) ([]string, error) {
	t, err := streamOf(ctx, "ClientSupportedCompressors")
	if err != nil {
		return nil, err
	}
	var names []string
	for _, list := range t.md["grpc-accept-encoding"] {
		for name := range strings.SplitSeq(list, ",") {
			if name = strings.Trim(name, " \t"); name != "" && name != encoding.Identity {
				names = append(names, name)
			}
		}
	}
	return names, nil
}
