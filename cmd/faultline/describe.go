// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"strings"

	"github.com/spf13/cobra"
	"google.golang.org/protobuf/reflect/protoreflect"

	dyn "github.com/faultline-rpc/faultline/cmd/faultline/invoke"
)

const describeHelp = `describe prints SYMBOL as a .proto file would have it: a service, a method
(package.Service/Method or package.Service.Method), a message, an enum or a
field. Without SYMBOL it prints every service. It asks the server's reflection
service (v1, then v1alpha).

With --proto or --protoset it reads files instead and contacts nobody; TARGET
may be left out then, or be "-" in front of a SYMBOL.

--msg-template prints the JSON of a message too, with every field, to fill in
and give to call -d. For a method it is that of the request.

` + connHelp + `
With --json the result is one object: name, text and, for messages and methods,
template.
` + exitHelp

const describeExample = `  faultline describe --plaintext localhost:50051 grpc.testing.TestService
  faultline describe --plaintext localhost:50051 grpc.testing.TestService/UnaryCall --msg-template
  faultline describe --proto api.proto - my.package.Message`

func newDescribe() *cobra.Command {
	var conn connFlags
	var from sourceFlags
	var asJSON, template bool
	cmd := &cobra.Command{
		Use: "describe TARGET [SYMBOL]", Short: "Show a service, method, message or enum", Long: describeHelp, Example: describeExample,
		RunE: func(cmd *cobra.Command, args []string) error {
			return inspect(cmd, &conn, &from, args, asJSON, func(ctx context.Context, src dyn.Source, name string) error {
				names := []string{name}
				if name == "" {
					var err error
					if names, err = src.Services(ctx); err != nil {
						return err
					}
				}
				for _, n := range names {
					if err := describe(ctx, cmd, &conn, src, n, asJSON, template); err != nil {
						return err
					}
				}
				return nil
			})
		},
		ValidArgsFunction: completeSymbol(&conn, &from, true),
	}
	conn.add(cmd)
	from.add(cmd)
	cmd.Flags().BoolVar(&template, "msg-template", false, "print the JSON of the message too, with every field")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON, for machines")
	return cmd
}

func describe(ctx context.Context, cmd *cobra.Command, conn *connFlags, src dyn.Source, name string, asJSON, template bool) error {
	full := protoreflect.FullName(strings.ReplaceAll(strings.Trim(name, "./"), "/", "."))
	if !full.IsValid() {
		return conn.usagef("%q is no symbol, want package.Service, package.Service/Method or package.Message", name)
	}
	d, err := src.Find(ctx, full)
	if err != nil {
		return err
	}
	filled, err := templateOf(ctx, src, d)
	if err != nil {
		return err
	}
	out := cmd.OutOrStdout()
	if asJSON {
		return writeJSON(out, described{string(d.FullName()), dyn.Describe(d), filled})
	}
	fmt.Fprint(out, dyn.Describe(d))
	if template && filled != nil {
		fmt.Fprintf(out, "\n%s\n", filled)
	}
	return nil
}

// described is a symbol for machines.
type described struct {
	Name     string  `json:"name"`
	Text     string  `json:"text"`
	Template rawJSON `json:"template,omitempty"`
}

// rawJSON is JSON already.
type rawJSON []byte

// MarshalJSON implements json.Marshaler.
func (r rawJSON) MarshalJSON() ([]byte, error) { return r, nil }

// templateOf is the JSON of a message, or of a method's request; nil for what
// has none.
func templateOf(ctx context.Context, src dyn.Source, d protoreflect.Descriptor) (rawJSON, error) {
	if m, ok := d.(protoreflect.MethodDescriptor); ok {
		d = m.Input()
	}
	m, ok := d.(protoreflect.MessageDescriptor)
	if !ok {
		return nil, nil
	}
	return dyn.Codec{Source: src, EmitDefaults: true}.Format(ctx, dyn.Template(m))
}
