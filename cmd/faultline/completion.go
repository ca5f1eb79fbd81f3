// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/protobuf/reflect/protoreflect"

	dyn "github.com/faultline-rpc/faultline/cmd/faultline/invoke"
)

const completionHelp = `completion prints a script that makes your shell complete commands, flags,
circumstances, and the services and methods of servers: with Tab behind TARGET
the server is asked by reflection, for at most two seconds.

  bash        source <(faultline completion bash)
  zsh         faultline completion zsh > "${fpath[1]}/_faultline"
  fish        faultline completion fish > ~/.config/fish/completions/faultline.fish
  powershell  faultline completion powershell | Out-String | Invoke-Expression`

func newCompletion() *cobra.Command {
	shells := []string{"bash", "zsh", "fish", "powershell"}
	return &cobra.Command{
		Use: "completion SHELL", Short: "Print a script that completes commands, services and methods", Long: completionHelp,
		Example:   "  source <(faultline completion bash)",
		ValidArgs: shells,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) != 1 {
				return usagef("completion: want one shell: %s", strings.Join(shells, ", "))
			}
			root, out := cmd.Root(), cmd.OutOrStdout()
			switch args[0] {
			case "bash":
				return root.GenBashCompletionV2(out, true)
			case "zsh":
				return root.GenZshCompletion(out)
			case "fish":
				return root.GenFishCompletion(out, true)
			case "powershell":
				return root.GenPowerShellCompletionWithDesc(out)
			}
			return usagef("completion: %q is no shell that is known, want one of %s", args[0], strings.Join(shells, ", "))
		},
	}
}

const (
	// completionTime is what a person waits for after Tab.
	completionTime = 2 * time.Second
	maxCompletions = 1000
)

// completer is cobra's ValidArgsFunction.
type completer = func(cmd *cobra.Command, args []string, start string) ([]string, cobra.ShellCompDirective)

// completeMethod completes the method behind a target.
func completeMethod(conn *connFlags, from *sourceFlags) completer {
	return complete(conn, from, func(ctx context.Context, src dyn.Source, start string) []string {
		return candidates(ctx, src, start, true, false)
	})
}

// completeSymbol completes a service behind a target, and its methods too.
func completeSymbol(conn *connFlags, from *sourceFlags, methods bool) completer {
	return complete(conn, from, func(ctx context.Context, src dyn.Source, start string) []string {
		return candidates(ctx, src, start, methods, true)
	})
}

// complete asks where the flags say. Whatever goes wrong, there is nothing to
// offer: a completion has nowhere to say so.
func complete(conn *connFlags, from *sourceFlags, find func(context.Context, dyn.Source, string) []string) completer {
	return func(cmd *cobra.Command, args []string, start string) (found []string, how cobra.ShellCompDirective) {
		how = cobra.ShellCompDirectiveNoFileComp
		if len(args) != 1 {
			return nil, how
		}
		ctx := cmd.Context()
		if ctx == nil {
			ctx = context.Background()
		}
		ctx, cancel := context.WithTimeout(ctx, completionTime)
		defer cancel()
		src, err := from.files(ctx, conn)
		if err != nil {
			return nil, how
		}
		if src != nil {
			return find(ctx, src, start), how
		}
		_ = withReflection(ctx, conn, args[0], func(ctx context.Context, r *dyn.Reflection) error {
			found = find(ctx, r, start)
			return nil
		})
		return found, how
	}
}

// candidates are the services that begin so, and the methods of those that
// begin so or are named whole.
func candidates(ctx context.Context, src dyn.Source, start string, methods, services bool) []string {
	names, err := src.Services(ctx)
	if err != nil {
		return nil
	}
	var found []string
	for _, n := range names {
		if services && strings.HasPrefix(n, start) {
			found = append(found, n)
		}
		if !methods || !strings.HasPrefix(n+"/", start) && !strings.HasPrefix(start, n+"/") {
			continue
		}
		d, err := src.Find(ctx, protoreflect.FullName(n))
		s, ok := d.(protoreflect.ServiceDescriptor)
		if err != nil || !ok {
			continue
		}
		for i := range s.Methods().Len() {
			if path := dyn.Path(s.Methods().Get(i))[1:]; strings.HasPrefix(path, start) && len(found) < maxCompletions {
				found = append(found, path)
			}
		}
	}
	return found
}
