// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/protobuf/reflect/protoreflect"

	dyn "github.com/faultline-rpc/faultline/cmd/faultline/invoke"
)

const listHelp = `list prints the services of TARGET, or the methods of one SERVICE, one a line,
as call takes them. It asks the server's reflection service (v1, then v1alpha).

With --proto or --protoset it reads files instead and contacts nobody; TARGET
may be left out then, or be "-" in front of a SERVICE.

` + connHelp + `
With --json the result is one object: services (names), or service and methods
(name, path, client_streaming, server_streaming, input, output).
` + exitHelp

// connHelp is what the verbs have in common.
const connHelp = `TARGET is host:port, unix:PATH, or any target that gRPC knows (dns:///NAME:PORT).
TLS is the default: --plaintext speaks cleartext. Flags are those of grpcurl,
also with one dash and by the names it has for them (-plaintext, -max-time,
-servername).
`

const exitHelp = `
The exit status is 0, or 64 plus the number of the status code if the server was
asked and the call failed (78 is UNAVAILABLE), or 2 if the command line, a file
or the data is wrong. A failure is shown as a ladder: what went wrong, in which
layer, on which side, whether the server may have processed the call, the
evidence, and what to do.

With --json a failure is one line on standard output:

  {"error":{"code":"UNAVAILABLE","id":"dial.refused","layer":"dial",
   "side":"remote","processed":"no","message":"...","remedy":"...",
   "details":[],"evidence":{},"ledger":{},"trail":[]}}`

const listExample = `  faultline list api.example.com:443
  faultline list --plaintext localhost:50051 grpc.testing.TestService
  faultline list --proto api.proto`

func newList() *cobra.Command {
	var conn connFlags
	var from sourceFlags
	var asJSON bool
	cmd := &cobra.Command{
		Use: "list TARGET [SERVICE]", Short: "List a server's services, or a service's methods", Long: listHelp, Example: listExample,
		RunE: func(cmd *cobra.Command, args []string) error {
			return inspect(cmd, &conn, &from, args, asJSON, func(ctx context.Context, src dyn.Source, name string) error {
				if name == "" {
					return listServices(ctx, cmd, src, asJSON)
				}
				return listMethods(ctx, cmd, &conn, src, name, asJSON)
			})
		},
		ValidArgsFunction: completeSymbol(&conn, &from, false),
	}
	conn.add(cmd)
	from.add(cmd)
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON, for machines")
	return cmd
}

// inspect runs what looks at descriptors alone: args are the target and a name.
func inspect(cmd *cobra.Command, conn *connFlags, from *sourceFlags, args []string, asJSON bool, do func(context.Context, dyn.Source, string) error) error {
	ctx, stop := interruptible(cmd.Context(), conn.timeout)
	defer stop()
	if len(args) > 2 {
		return conn.usagef("unexpected argument %q, want a target and at most one name", args[2])
	}
	src, err := from.files(ctx, conn)
	if err != nil {
		return err
	}
	if len(args) == 0 && src == nil {
		return conn.usagef("no target is given, want host:port (or --proto or --protoset)")
	}
	name := ""
	if len(args) == 2 {
		name = args[1]
	}
	if src != nil {
		err = do(ctx, src, name)
	} else {
		err = conn.again(ctx, withReflection(ctx, conn, args[0], func(ctx context.Context, r *dyn.Reflection) error { return do(ctx, r, name) }))
	}
	return conn.inspected(err, asJSON, cmd)
}

// inspected reports what a source could not do; nothing else is wrong here.
func (f *connFlags) inspected(err error, asJSON bool, cmd *cobra.Command) error {
	if _, usage := err.(*usageError); err == nil || usage {
		return err
	}
	return f.sourceFailed(err, asJSON, cmd)
}

// withReflection connects and asks the server.
func withReflection(ctx context.Context, conn *connFlags, target string, do func(context.Context, *dyn.Reflection) error) error {
	cc, err := conn.dial(target, nil)
	if err != nil {
		return err
	}
	defer cc.Close()
	r, ctx, err := conn.reflection(ctx, cc)
	if err != nil {
		return err
	}
	ctx, cancel := conn.bounded(ctx)
	defer cancel()
	return do(ctx, r)
}

// interruptible is a context that Ctrl-C ends, and the time limit.
func interruptible(ctx context.Context, limit seconds) (context.Context, context.CancelFunc) {
	ctx, stop := signal.NotifyContext(ctx, os.Interrupt)
	if limit == 0 {
		return ctx, stop
	}
	ctx, cancel := context.WithTimeout(ctx, time.Duration(limit))
	return ctx, func() { cancel(); stop() }
}

func listServices(ctx context.Context, cmd *cobra.Command, src dyn.Source, asJSON bool) error {
	names, err := src.Services(ctx)
	if err != nil {
		return err
	}
	if asJSON {
		return writeJSON(cmd.OutOrStdout(), map[string][]string{"services": append([]string{}, names...)})
	}
	for _, n := range names {
		fmt.Fprintln(cmd.OutOrStdout(), n)
	}
	return nil
}

// methodJSON describes a method for machines.
type methodJSON struct {
	Name            string `json:"name"`
	Path            string `json:"path"`
	ClientStreaming bool   `json:"client_streaming"`
	ServerStreaming bool   `json:"server_streaming"`
	Input           string `json:"input"`
	Output          string `json:"output"`
}

func listMethods(ctx context.Context, cmd *cobra.Command, conn *connFlags, src dyn.Source, name string, asJSON bool) error {
	if !protoreflect.FullName(name).IsValid() {
		return conn.usagef("%q is no service, want package.Service", name)
	}
	d, err := src.Find(ctx, protoreflect.FullName(name))
	if err != nil {
		return err
	}
	s, ok := d.(protoreflect.ServiceDescriptor)
	if !ok {
		return conn.usagef("%q is no service (faultline describe shows it)", name)
	}
	all := []methodJSON{}
	for i := range s.Methods().Len() {
		m := s.Methods().Get(i)
		all = append(all, methodJSON{string(m.Name()), dyn.Path(m)[1:], m.IsStreamingClient(), m.IsStreamingServer(), string(m.Input().FullName()), string(m.Output().FullName())})
	}
	if asJSON {
		return writeJSON(cmd.OutOrStdout(), struct {
			Service string       `json:"service"`
			Methods []methodJSON `json:"methods"`
		}{string(s.FullName()), all})
	}
	for _, m := range all {
		fmt.Fprintln(cmd.OutOrStdout(), m.Path)
	}
	return nil
}
