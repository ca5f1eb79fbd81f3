// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/grpc"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/metadata"

	"github.com/faultline-rpc/faultline"
	dyn "github.com/faultline-rpc/faultline/cmd/faultline/invoke"
	"github.com/faultline-rpc/faultline/fault"
)

// sourceFlags say where descriptors come from, if not from the server.
type sourceFlags struct {
	protos, importPaths, protosets []string
}

func (s *sourceFlags) add(cmd *cobra.Command) {
	fl := cmd.Flags()
	fl.StringArrayVar(&s.protos, "proto", nil, "take the service from a .proto `file` instead of the server's reflection; may be repeated")
	fl.StringArrayVar(&s.importPaths, "import-path", nil, "the `folder` that --proto and its imports are relative to; may be repeated")
	fl.StringArrayVar(&s.protosets, "protoset", nil, "take the service from a `file` of protoc --descriptor_set_out --include_imports; may be repeated")
}

// files returns the source of the flags; nil is the server's reflection.
func (s *sourceFlags) files(ctx context.Context, f *connFlags) (dyn.Source, error) {
	switch {
	case len(s.protos) > 0 && len(s.protosets) > 0:
		return nil, f.usagef("--proto and --protoset are given, want one of them")
	case len(s.importPaths) > 0 && len(s.protos) == 0:
		return nil, f.usagef("--import-path is given without --proto, want both")
	case len(s.protos) > 0:
		src, err := dyn.CompileProto(ctx, s.importPaths, s.protos)
		if err != nil {
			return nil, f.usagef("%v", err)
		}
		return src, nil
	case len(s.protosets) > 0:
		src, err := dyn.ReadProtosets(s.protosets)
		if err != nil {
			return nil, f.usagef("%v", err)
		}
		return src, nil
	}
	return nil, nil
}

// leastAnswer is what reflection may answer with whatever --max-msg-size is, in
// bytes.
const leastAnswer = 4 << 20

// reflection makes a source that asks the server, with the metadata for it.
func (f *connFlags) reflection(ctx context.Context, conn grpc.ClientConnInterface) (*dyn.Reflection, context.Context, error) {
	md, err := f.metadata("-H", f.headers)
	if err != nil {
		return nil, ctx, err
	}
	own, err := f.metadata("--reflect-header", f.reflectHeaders)
	if err != nil {
		return nil, ctx, err
	}
	return dyn.NewReflection(conn, max(int(f.maxMessage), leastAnswer)), metadata.NewOutgoingContext(ctx, metadata.Join(md, own)), nil
}

// bounded gives reflection its time, if no other limit is set.
func (f *connFlags) bounded(ctx context.Context) (context.Context, context.CancelFunc) {
	if f.timeout > 0 {
		return context.WithCancel(ctx)
	}
	return context.WithTimeout(ctx, defaultTime)
}

// maxAsking is the most that a call waits for reflection if it can do without.
const maxAsking = 10 * time.Second

// errHangs is why reflection was not waited for.
var errHangs = errors.New("the server's reflection does not answer")

// sparing gives reflection half of the time that is left once there is
// a connection: the other half is for a call without it. Its end is errHangs.
func sparing(ctx context.Context, cc *faultline.ClientConn) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancelCause(ctx)
	go func() {
		cc.Connect()
		for s := cc.GetState(); s != connectivity.Ready; s = cc.GetState() {
			if !cc.WaitForStateChange(ctx, s) {
				return
			}
		}
		d := maxAsking
		if end, ok := ctx.Deadline(); ok {
			d = min(d, time.Until(end)/2)
		}
		t := time.NewTimer(d)
		defer t.Stop()
		select {
		case <-t.C:
			cancel(errHangs)
		case <-ctx.Done():
		}
	}()
	return ctx, func() { cancel(nil) }
}

const noReflection = "the server offers no reflection: describe its services with --proto FILE or --protoset FILE"

// sourceFailed reports what went wrong with a source.
func (f *connFlags) sourceFailed(err error, asJSON bool, cmd *cobra.Command) error {
	if flt, ok := fault.From(err); ok {
		hint := f.hint(flt)
		if flt.Code().String() == "Unimplemented" {
			hint = noReflection
		}
		return failed(f.advised(flt), hint, asJSON, cmd.OutOrStdout(), cmd.ErrOrStderr())
	}
	if errors.Is(err, dyn.ErrSilent) {
		return f.usagef("%v; %s", err, noReflection)
	}
	return f.usagef("%v", err)
}
