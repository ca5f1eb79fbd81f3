// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"github.com/faultline-rpc/faultline/cmd/faultline/explain"
	"github.com/faultline-rpc/faultline/fault"
)

const explainHelp = `explain says what a failure means and what to do about it. Give it

  the id of a circumstance  its page: cause, remedy, codes, who raises it,
                            whether a handler may have run, and where the
                            specification says so
  a status code             UNAVAILABLE, Unavailable, 14 or "code = 14": what
                            it means, and the circumstances that carry it
  an error text             pasted whole, in quotes, or "-" to read it from
                            standard input: which circumstances it can mean,
                            the likeliest first, and how to tell them apart

Texts of grpc-go, grpc-java, grpc-js, C-core (Python, Ruby, C++), grpc-dotnet,
connect-go and connect-es, tonic, nginx, Envoy, grpcurl, load balancers and
clouds are recognized, in a log's JSON, in colours or wrapped as well, and
Faultline's own by the id they carry. A text that no phrase fits is explained
by its code. Nothing is contacted.

The exit status is 0, 1 if nothing in the text is known, and 2 if the command
line is wrong.

With --json the result is one object: kind (circumstance, code, text, unknown),
and circumstance, code, phrases (found, from, source), candidates (id, summary,
tell, remedy, certain) and nearest, as far as they apply.`

const explainExample = `  faultline explain tls.plaintext-peer
  faultline explain UNAVAILABLE
  faultline explain '14 UNAVAILABLE: failed to connect to all addresses'
  kubectl logs my-pod | tail -1 | faultline explain -`

// maxText bounds what is read from standard input, in bytes.
const maxText = 1 << 20

func newExplain() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use: "explain ID | CODE | TEXT", Short: "Explain a circumstance, a code, or an error text of any gRPC stack", Long: explainHelp, Example: explainExample,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return usagef("explain: nothing to explain is given, want an id, a code or an error text (%s --help explains them)", cmd.CommandPath())
			}
			return nil
		},
		ValidArgsFunction: func(_ *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
			var ids []string
			for _, e := range fault.Catalogue() {
				ids = append(ids, string(e.ID)+"\t"+e.Summary)
			}
			return ids, cobra.ShellCompDirectiveNoFileComp
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			text := strings.Join(args, " ") // who forgets the quotes is understood
			if text == "-" {
				b, err := io.ReadAll(io.LimitReader(cmd.InOrStdin(), maxText))
				if err != nil {
					return fmt.Errorf("explain: standard input cannot be read: %w", err)
				}
				text = string(b)
			}
			res, err := explain.Explain(text)
			if err != nil {
				return err
			}
			if asJSON {
				err = writeJSON(cmd.OutOrStdout(), res)
			} else {
				_, err = io.WriteString(cmd.OutOrStdout(), res.Text())
			}
			if res.Kind == explain.KindUnknown {
				err = errors.Join(err, errReported)
			}
			return err
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print one JSON object, for machines")
	return cmd
}
