// SPDX-License-Identifier: Apache-2.0

// Command conformance runs the conformance suites and compares the outcome
// with the lists of known failures. It exits with 1 when they differ and with
// 2 when it is used wrongly.
package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"time"

	"github.com/faultline-rpc/faultline/conformance"
	"github.com/faultline-rpc/faultline/conformance/connect"
	"github.com/faultline-rpc/faultline/conformance/h2spec"
	"github.com/faultline-rpc/faultline/conformance/interop"
	"github.com/faultline-rpc/faultline/conformance/known"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	code := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

func run(ctx context.Context, args []string, out, errOut io.Writer) int {
	fs := flag.NewFlagSet("conformance", flag.ContinueOnError)
	fs.SetOutput(errOut)
	suite := fs.String("suite", "all", "what to run: interop, connect, h2spec or all")
	baseline := fs.Bool("baseline", false, "run grpc-go and net/http instead of Faultline; compares with no list")
	verbose := fs.Bool("v", false, "print a line for every case")
	if err := fs.Parse(args); err != nil {
		return 2
	}
	if fs.NArg() > 0 {
		fmt.Fprintf(errOut, "conformance: %q is not understood: it takes flags only, such as -suite h2spec\n", fs.Arg(0))
		return 2
	}
	suites := map[string][]func(context.Context, bool) ([]group, error){
		"interop": {runInterop}, "connect": {runConnect}, "h2spec": {runH2spec}, "all": {runInterop, runConnect, runH2spec},
	}[*suite]
	if suites == nil {
		fmt.Fprintf(errOut, "conformance: there is no suite %q: choose interop, connect, h2spec or all\n", *suite)
		return 2
	}
	code := 0
	for _, f := range suites {
		start := time.Now()
		groups, err := f(ctx, *baseline)
		if err != nil {
			fmt.Fprintf(errOut, "conformance: %v\n", err)
			code = 1
			continue
		}
		if !report(out, groups, *baseline, *verbose, time.Since(start)) {
			code = 1
		}
	}
	return code
}

// group is a line of the summary: results that are counted together.
type group struct {
	list    string // which list of known failures speaks of it; "" for results that stand in another group too
	title   string
	results []known.Result
}

func runInterop(ctx context.Context, baseline bool) ([]group, error) {
	pairings := interop.Pairings()
	if baseline {
		pairings = []interop.Pairing{interop.Baseline()}
	}
	var out []group
	for _, p := range pairings {
		rs, err := p.Run(ctx)
		if err != nil {
			return nil, err
		}
		out = append(out, group{"interop", "interop " + p.Name, rs})
	}
	return out, nil
}

func runConnect(ctx context.Context, baseline bool) ([]group, error) {
	engine, suffix := "faultline", ""
	if baseline {
		engine, suffix = "grpc-go", " baseline"
	}
	suite, err := connect.Build(ctx)
	if err != nil {
		return nil, err
	}
	defer suite.Close()
	var out, plain []group
	for _, mode := range []string{"server", "client"} {
		rs, err := suite.Run(ctx, mode, engine, "")
		if err != nil {
			return nil, err
		}
		out = append(out, group{"connect-" + mode, "connect " + mode + suffix + " with JSON and more compressions", rs})
		plain = append(plain, group{"", "connect " + mode + suffix, connect.Plain(rs)})
	}
	return append(out, plain...), nil
}

func runH2spec(ctx context.Context, baseline bool) ([]group, error) {
	title := "h2spec"
	serving, err := h2spec.Serving{}, error(nil)
	if baseline {
		title = "h2spec baseline"
		serving, err = h2spec.Baseline()
	} else {
		serving, err = h2spec.Faultline(ctx)
	}
	if err != nil {
		return nil, err
	}
	defer serving.Stop()
	rs, err := h2spec.Run(ctx, serving.Addr)
	if err != nil {
		return nil, err
	}
	return []group{{"h2spec", title, rs}}, nil
}

// report prints the groups of one suite, what differs from its lists of known
// failures, and last a line per group. It returns whether nothing differs.
func report(out io.Writer, groups []group, baseline, verbose bool, took time.Duration) bool {
	var order []string
	lists := map[string][]known.Result{}
	for _, g := range groups {
		if g.list == "" {
			continue
		}
		if lists[g.list] == nil {
			order = append(order, g.list)
		}
		lists[g.list] = append(lists[g.list], g.results...)
	}
	good := true
	for _, name := range order {
		for _, r := range lists[name] {
			switch {
			case r.Err != nil && (verbose || baseline):
				fmt.Fprintf(out, "FAIL %s: %v\n", r.Name, r.Err)
			case verbose:
				fmt.Fprintf(out, "ok   %s\n", r.Name)
			}
		}
		if baseline {
			continue
		}
		list, err := conformance.KnownFailing(name)
		differ := list.Compare(lists[name])
		if err != nil {
			differ = append(differ, err.Error())
		}
		for _, d := range differ {
			fmt.Fprintf(out, "%s: %s\n", name, d)
		}
		good = good && len(differ) == 0
	}
	fmt.Fprintf(out, "%s took %.1f s\n", strings.Join(order, " and "), took.Seconds())
	for _, g := range groups {
		fmt.Fprintf(out, "%s: %d of %d\n", g.title, known.Passed(g.results), len(g.results))
	}
	return good
}
