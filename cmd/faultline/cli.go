// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/faultline-rpc/faultline"
)

// The exit statuses.
const (
	exitOK     = 0
	exitFailed = 1 // what was asked for did not succeed
	exitUsage  = 2 // the command line is wrong
)

const rootHelp = `Faultline is gRPC for Go whose every failure says where it broke, on which
side, whether the server may have processed the call, and what to do.

This command calls any gRPC server and shows why a call fails, explains the
errors of every gRPC stack, and finds out where a path to a server is broken.
demo and serve show it on your own machine, without any set-up.`

const rootExample = `  faultline call api.example.com:443 my.pkg.Users/Get -d '{"id": 7}'
  faultline list --plaintext localhost:50051
  faultline explain '14 UNAVAILABLE: failed to connect to all addresses'
  faultline doctor api.example.com:443
  faultline demo                        # provoke every row of gRPC's error table
  faultline serve                       # a test server on 127.0.0.1:50051
  faultline call --help                 # what a command does, with examples`

// run is the whole program; it returns the exit status. One line on stderr
// says what went wrong, if anything did.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	return runWith(ctx, args, os.Stdin, stdout, stderr)
}

func runWith(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	root := newRoot(stdout, stderr)
	root.SetIn(stdin)
	root.SetArgs(grpcurlDashes(root, args))
	err := known(root, args)
	if err == nil {
		err = root.ExecuteContext(ctx)
	}
	var u *usageError
	var x *exitError
	switch {
	case err == nil:
		return exitOK
	case errors.As(err, &x):
		return x.status
	case errors.Is(err, errReported):
		return exitFailed
	case errors.As(err, &u):
		fmt.Fprintf(stderr, "faultline: %v\n", err)
		return exitUsage
	}
	fmt.Fprintf(stderr, "faultline: %v\n", err)
	return exitFailed
}

// errReported is a failure of which everything has been said.
var errReported = errors.New("reported already")

// usageError is a mistake in the command line.
type usageError struct{ text string }

// Error says what is wrong and what is expected.
func (u *usageError) Error() string { return u.text }

func usagef(format string, args ...any) error { return &usageError{fmt.Sprintf(format, args...)} }

func newRoot(stdout, stderr io.Writer) *cobra.Command {
	root := &cobra.Command{
		Use: "faultline", Short: "gRPC whose failures say where, why, and what to do", Long: rootHelp, Example: rootExample,
		SilenceErrors: true, SilenceUsage: true,
		Args: cobra.ArbitraryArgs, // known has looked at them
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	root.Version = faultline.Version // adds --version
	root.SetVersionTemplate(versionText())
	root.CompletionOptions.DisableDefaultCmd = true
	root.SetOut(stdout)
	root.SetErr(stderr)
	root.SetFlagErrorFunc(badFlag)
	root.AddCommand(newCall(), newList(), newDescribe(), newExplain(), newDoctor(), newDemo(), newServe(), newCompletion(), newVersion())
	root.SetHelpCommand(newHelp(root))
	return root
}

// newHelp takes the place of cobra's own, which answers a topic that does not
// exist with a success.
func newHelp(root *cobra.Command) *cobra.Command {
	return &cobra.Command{
		Use: "help [command]", Short: "Explain a command", Long: "help explains a command; faultline COMMAND --help does the same.",
		RunE: func(_ *cobra.Command, args []string) error {
			if len(args) > 1 {
				return usagef("help: unexpected argument %q, want one command", args[1])
			}
			if err := known(root, args); err != nil {
				return err
			}
			cmd, _, err := root.Find(args)
			if err != nil {
				return err
			}
			cmd.InitDefaultHelpFlag()
			return cmd.Help()
		},
	}
}

// known finds a first word that is no command, before cobra finds fault with
// the flags behind it.
func known(root *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	if strings.HasPrefix(args[0], "-") {
		return flagFirst(root, args[0])
	}
	var names []string
	for _, c := range root.Commands() {
		if c.Name() == args[0] {
			return nil
		}
		if c.Name() != "help" {
			names = append(names, c.Name())
		}
	}
	switch args[0] {
	case "help", cobra.ShellCompRequestCmd, cobra.ShellCompNoDescRequestCmd: // cobra adds them later
		return nil
	}
	hint := ""
	if near := root.SuggestionsFor(args[0]); len(near) > 0 {
		hint = fmt.Sprintf("; did you mean %q?", near[0])
	} else if strings.Contains(args[0], ":") {
		hint = "; the target comes behind it"
	}
	return usagef("there is no command %q, want one of %s%s (faultline --help explains them)", args[0], strings.Join(names, ", "), hint)
}

// flagFirst finds a flag of a command in front of it, which is grpcurl's order.
func flagFirst(root *cobra.Command, arg string) error {
	name, _, _ := strings.Cut(strings.TrimLeft(arg, "-"), "=")
	if root.Flags().Lookup(name) != nil || slices.Contains([]string{"", "h", "help", "v", "version"}, name) {
		return nil
	}
	for _, c := range root.Commands() {
		if f := c.Flags(); f.Lookup(name) != nil || len(name) == 1 && f.ShorthandLookup(name) != nil {
			return usagef("%s stands in front of the command, want the command first, such as call, list or describe, and then its flags (faultline --help explains them)", arg)
		}
	}
	return nil
}

// badFlag says which flags there are.
func badFlag(cmd *cobra.Command, err error) error {
	var flags []string
	cmd.Flags().VisitAll(func(f *pflag.Flag) {
		if !f.Hidden {
			flags = append(flags, "--"+f.Name)
		}
	})
	var missing *pflag.NotExistError
	if errors.As(err, &missing) {
		return usagef("%s: %v, want one of %s (%s --help explains them)", cmd.Name(), err, strings.Join(flags, ", "), cmd.CommandPath())
	}
	return usagef("%s: %v (%s --help explains the flags)", cmd.Name(), err, cmd.CommandPath())
}

// noArgs refuses arguments that are no flags.
func noArgs(cmd *cobra.Command, args []string) error {
	if len(args) > 0 {
		return usagef("%s: unexpected argument %q, want flags only (%s --help explains them)", cmd.Name(), args[0], cmd.CommandPath())
	}
	return nil
}

// colored reports whether w is a terminal whose user has nothing against
// color (https://no-color.org).
func colored(w io.Writer) bool {
	f, ok := w.(*os.File)
	if !ok || os.Getenv("NO_COLOR") != "" || os.Getenv("TERM") == "dumb" {
		return false
	}
	info, err := f.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}
