// SPDX-License-Identifier: Apache-2.0

//go:build unix

package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestMain lets the test binary be the child processes, as the command is its own.
func TestMain(m *testing.M) {
	if len(os.Args) == 3 && os.Args[1] == childArg {
		os.Exit(runChild(os.Args[2], os.Stdin, os.Stdout))
	}
	os.Exit(m.Run())
}

// TestEveryLaneUnderEveryWorkload runs it all for a moment: processes, engines and verification, not figures.
func TestEveryLaneUnderEveryWorkload(t *testing.T) {
	var out, progress bytes.Buffer
	if got := run(t.Context(), []string{"-json", "-rounds=1", "-d=20ms", "-warmup=5ms"}, &out, &progress); got != 0 {
		t.Fatalf("exit status %d: %s", got, progress.String())
	}
	var r report
	if err := json.Unmarshal(out.Bytes(), &r); err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	for _, s := range r.Samples {
		seen[s.Workload+" "+s.Lane] = true
		if s.Error != "" {
			t.Errorf("%s, %s: %s", s.Workload, s.Lane, s.Error)
		} else if s.Rate <= 0 && s.MemoryClient <= 0 {
			t.Errorf("%s, %s: nothing was measured: %+v", s.Workload, s.Lane, s.figures)
		}
	}
	for _, w := range workloads {
		for _, l := range lanes {
			if want := w.runs(l) && hasEngine(l.client) && hasEngine(l.server); seen[w.name+" "+l.name] != want {
				t.Errorf("%s, %s: measured %v, want %v", w.name, l.name, !want, want)
			}
		}
	}
}

func TestExitStatus(t *testing.T) {
	quick := []string{"-rounds=1", "-d=20ms", "-warmup=5ms", "-engines=connect-go", "-scenario=pingpong-1$"}
	for _, c := range []struct {
		args []string
		want int
		says string // on either output
	}{
		{append(quick, "-subject=connect-go"), 0, "ping-pong, 1 stream"},
		{append(quick, "-subject=grpc-go", "-check"), exitMissed, "1 of 1 first bars missed"},
		{append(quick, "-subject=echo", "-check"), exitBroken, "echo was not measured"},
		{[]string{"-scenario=nonsense"}, exitBroken, `-scenario "nonsense" matches nothing`},
		{[]string{"-scenario=("}, exitBroken, "missing closing )"},
		{[]string{"-engines=thrift"}, exitBroken, `no engine "thrift"; there are faultline, faultline-policies, grpc-go`},
		{[]string{"-rounds=0"}, exitBroken, "must be greater than zero"},
		{[]string{"unary"}, exitBroken, `unexpected argument "unary"`},
		{[]string{"-h"}, 0, "-scenario"},
	} {
		var out bytes.Buffer
		if got := run(t.Context(), c.args, &out, &out); got != c.want || !strings.Contains(out.String(), c.says) {
			t.Errorf("bench %v: exit status %d, want %d and %q in:\n%s", c.args, got, c.want, c.says, out.String())
		}
	}
}

func TestProfilesAreWritten(t *testing.T) {
	dir := t.TempDir()
	args := []string{"-rounds=1", "-d=20ms", "-warmup=5ms", "-engines=grpc-go", "-scenario=pingpong-1$", "-cpuprofile", dir, "-memprofile", dir}
	if got := run(t.Context(), args, io.Discard, io.Discard); got != 0 {
		t.Fatalf("exit status %d", got)
	}
	for _, role := range []string{roleServer, roleClient} {
		for _, what := range []string{"cpu", "mem"} {
			name := filepath.Join(dir, fmt.Sprintf("pingpong-1.grpc-go.%s.1.%s.pprof", role, what))
			if st, err := os.Stat(name); err != nil || st.Size() == 0 {
				t.Errorf("profile %s: %v, want a file with content", name, err)
			}
		}
	}
}

func TestChildSaysWhatIsWrong(t *testing.T) {
	for _, c := range []struct{ order, want string }{
		{`{"Role":"server","Engine":"thrift","Workload":"pingpong-1"}`, `thrift server: no engine "thrift" in this build`},
		{`{"Role":"server","Engine":"echo","Workload":"nap"}`, `echo server: no workload "nap"`},
		{`{"Role":"client","Engine":"echo","Workload":"pingpong-1","Addr":"127.0.0.1:1"}`, "connection refused"},
		{`{`, "unexpected end of JSON input"},
	} {
		var out bytes.Buffer
		got := runChild(c.order, strings.NewReader(""), &out)
		var r reply
		if err := json.Unmarshal(out.Bytes(), &r); err != nil || got != 1 || !strings.Contains(r.Error, c.want) {
			t.Errorf("child %s: exit status %d, %q (%v), want 1 and %q", c.order, got, r.Error, err, c.want)
		}
	}
}

// TestServerChildEndsWithItsInput: a parent that dies takes its children along.
func TestServerChildEndsWithItsInput(t *testing.T) {
	var out bytes.Buffer
	if got := runChild(`{"Role":"server","Engine":"echo","Workload":"pingpong-1"}`, strings.NewReader("begin\nend\n"), &out); got != 0 {
		t.Fatalf("exit status %d: %s", got, out.String())
	}
	if n := strings.Count(out.String(), "\n"); n != 3 {
		t.Errorf("%d answers, want 3 (address, begin, end): %s", n, out.String())
	}
}
