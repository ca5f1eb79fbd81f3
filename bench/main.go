// SPDX-License-Identifier: Apache-2.0

//go:build unix

package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"time"
)

// Exit statuses.
const (
	exitMissed = 1 // -check, and a first bar was missed
	exitBroken = 2 // wrong flags, or nothing to judge
)

func main() {
	if len(os.Args) == 3 && os.Args[1] == childArg {
		os.Exit(runChild(os.Args[2], os.Stdin, os.Stdout))
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	status := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	os.Exit(status)
}

// settings are the flags, understood.
type settings struct {
	plan
	rounds  int
	subject string
	lanes   []lane
	rows    []row
	json    bool
	check   bool
}

func parse(args []string, errOut io.Writer) (settings, error) {
	var s settings
	fs := flag.NewFlagSet("bench", flag.ContinueOnError)
	fs.SetOutput(errOut)
	fs.IntVar(&s.rounds, "rounds", 5, "how often each lane is measured; a published figure wants at least 5")
	fs.DurationVar(&s.duration, "d", time.Second, "length of one measurement")
	fs.DurationVar(&s.warmup, "warmup", 200*time.Millisecond, "load before each measurement")
	fs.StringVar(&s.subject, "subject", laneFaultline, "the lane that is held against the bars")
	names := fs.String("engines", "", "comma-separated lanes to measure beside grpc-go (default: all of this build)")
	pattern := fs.String("scenario", "", "regular expression: only scenarios or workloads that match")
	fs.BoolVar(&s.json, "json", false, "print all samples as JSON instead of tables")
	fs.BoolVar(&s.check, "check", false, "exit with status 1 if a first bar is missed")
	fs.StringVar(&s.cpuDir, "cpuprofile", "", "directory for CPU profiles of each process")
	fs.StringVar(&s.memDir, "memprofile", "", "directory for allocation profiles of each process")
	if err := fs.Parse(args); err != nil {
		return s, err
	}
	if fs.NArg() > 0 {
		return s, fmt.Errorf("unexpected argument %q: all settings are flags", fs.Arg(0))
	}
	if s.rounds < 1 || s.duration <= 0 || s.warmup <= 0 {
		return s, errors.New("-rounds, -d and -warmup must be greater than zero")
	}
	var err error
	if s.lanes, err = chooseLanes(*names); err != nil {
		return s, err
	}
	s.rows, err = chooseRows(*pattern)
	return s, err
}

// chooseLanes returns the lanes named, and grpc-go, without which there is no ratio; all that this build has for "".
func chooseLanes(names string) ([]lane, error) {
	var want []string
	if names != "" {
		want = strings.Split(names, ",")
		for _, n := range want {
			if !slices.ContainsFunc(lanes, func(l lane) bool { return l.name == n }) {
				return nil, fmt.Errorf("no engine %q; there are %s", n, laneNames())
			}
		}
	}
	var chosen []lane
	for _, l := range lanes {
		built := hasEngine(l.client) && hasEngine(l.server)
		named := slices.Contains(want, l.name)
		if named && !built {
			return nil, fmt.Errorf("engine %q is not in this build: see README.md for the build tag", l.name)
		}
		if built && (names == "" || named || l.name == laneGRPC) {
			chosen = append(chosen, l)
		}
	}
	return chosen, nil
}

func laneNames() string {
	var n []string
	for _, l := range lanes {
		n = append(n, l.name)
	}
	return strings.Join(n, ", ")
}

// chooseRows returns the rows that match pattern by their own name or their workload's.
func chooseRows(pattern string) ([]row, error) {
	re, err := regexp.Compile(pattern)
	if err != nil {
		return nil, fmt.Errorf("-scenario: %w", err)
	}
	var chosen []row
	for _, r := range rows {
		if re.MatchString(r.name) || re.MatchString(r.workload) {
			chosen = append(chosen, r)
		}
	}
	if len(chosen) == 0 {
		return nil, fmt.Errorf("-scenario %q matches nothing", pattern)
	}
	return chosen, nil
}

// run does what args say and returns the exit status.
func run(ctx context.Context, args []string, out, errOut io.Writer) int {
	s, err := parse(args, errOut)
	if errors.Is(err, flag.ErrHelp) {
		return 0
	}
	if err != nil {
		fmt.Fprintln(errOut, "bench:", err)
		return exitBroken
	}
	r, err := s.measureAll(ctx, errOut)
	if err != nil {
		fmt.Fprintln(errOut, "bench:", err)
		return exitBroken
	}
	r.judge(s.rows)
	if s.json {
		enc := json.NewEncoder(out)
		enc.SetIndent("", "  ")
		err = enc.Encode(r)
	} else {
		r.write(out)
	}
	switch {
	case err != nil:
		fmt.Fprintln(errOut, "bench:", err)
		return exitBroken
	case s.check && len(r.Lines) == 0:
		fmt.Fprintf(errOut, "bench: %s was not measured: nothing to check\n", s.subject)
		return exitBroken
	case s.check && r.failed() > 0:
		fmt.Fprintf(errOut, "bench: %d of %d first bars missed\n", r.failed(), len(r.Lines))
		return exitMissed
	}
	return 0
}

// measureAll walks workloads, rounds and lanes, the lanes innermost: they take turns, so that what slows the machine
// down for a while slows all of them.
func (s settings) measureAll(ctx context.Context, progress io.Writer) (*report, error) {
	r := &report{Subject: s.subject}
	before, noMachine := lookAtMachine()
	for _, w := range workloads {
		if !slices.ContainsFunc(s.rows, func(r row) bool { return r.workload == w.name }) {
			continue
		}
		start := time.Now()
		for round := range s.rounds {
			for _, l := range s.lanes {
				if !w.runs(l) {
					continue
				}
				f, err := s.measure(ctx, w, l, round)
				if ctx.Err() != nil {
					return nil, context.Cause(ctx)
				}
				x := sample{Workload: w.name, Lane: l.name, Round: round, figures: f}
				if err != nil {
					x.Error = err.Error()
				}
				r.Samples = append(r.Samples, x)
			}
		}
		fmt.Fprintf(progress, "%s: %d rounds in %s\n", w.name, s.rounds, time.Since(start).Round(100*time.Millisecond))
	}
	if after, err := lookAtMachine(); noMachine == nil && err == nil {
		r.Others = after.others(before)
	}
	return r, nil
}

// safeName is name as part of a file name.
func safeName(name string) string { return strings.ReplaceAll(name, ">", "-to-") }
