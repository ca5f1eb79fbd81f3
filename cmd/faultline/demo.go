// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"
	"io"

	"github.com/spf13/cobra"

	"github.com/faultline-rpc/faultline/cmd/faultline/demo"
)

const demoHelp = `demo makes gRPC fail, in every way that gRPC's own guide to errors lists
(https://grpc.io/docs/guides/error/), and shows what the failure tells.

It starts an embedded server on loopback, makes a call of each of the four
kinds, and then provokes the 16 rows of the guide's table over real sockets:
against that server, and against scripted peers that break the rules on
purpose. Each line names

  by               which end observed the failure: our client or our server
  circumstance     what went wrong, by its id in Faultline's catalogue
  what was done    how it was provoked
  code expected    what the guide's table says
  code received    what the call ended with
  layer            the part of the system in which it broke
  side             who decided or did it: local, remote, or between the two
  processed        whether a handler may have run: no, maybe, yes

What is expected stands in a data file, what is shown came from a call. "-"
stands for what the observer is not told. Nothing is contacted but this machine.

The exit status is 0 if everything was as expected, and 1 otherwise.

With --json the result is one object: ok, passed, failed, elapsed_ms, server,
kinds (kind, method, sent, received, ok, error), and rows (number, group,
circumstance, code, source, ok, cases). Each case has name, role, did, why,
expected and received (id, code, layer, side, processed; received has message
too), ok, error and elapsed_ms.`

func newDemo() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use: "demo", Short: "Provoke every row of gRPC's error table and show what each failure tells", Long: demoHelp,
		Example: `  faultline demo
  faultline demo --json | jq '.rows[].cases[] | select(.ok | not)'`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			rows, err := demo.Load()
			if err != nil {
				return err
			}
			var rep demo.Report
			if asJSON {
				rep = demo.Run(cmd.Context(), rows, demo.Progress{})
				err = writeJSON(cmd.OutOrStdout(), rep)
			} else {
				t := demo.NewTable(cmd.OutOrStdout(), colored(cmd.OutOrStdout()), rows)
				rep = demo.Run(cmd.Context(), rows, t.Progress())
				t.Summary(rep)
			}
			if err == nil && !rep.OK {
				return errReported
			}
			return err
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print one JSON object, for machines")
	return cmd
}

func writeJSON(w io.Writer, v any) error {
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	return enc.Encode(v)
}
