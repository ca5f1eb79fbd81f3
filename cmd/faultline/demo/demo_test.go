// SPDX-License-Identifier: Apache-2.0

package demo

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"maps"
	"os"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/faultline-rpc/faultline/codes"
	"github.com/faultline-rpc/faultline/fault"
)

var update = flag.Bool("update", false, "write the golden files anew")

// volatile is what differs from run to run.
var volatile = []struct{ find, put string }{
	{`127\.0\.0\.1:\d+`, "127.0.0.1:PORT"},
	{`in [0-9.]+m?s\b`, "in TIME"},
}

func golden(t *testing.T, name, got string) {
	t.Helper()
	for _, v := range volatile {
		got = regexp.MustCompile(v.find).ReplaceAllString(got, v.put)
	}
	file := "testdata/" + name
	if *update {
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if got != strings.ReplaceAll(string(want), "\r\n", "\n") {
		t.Errorf("the output differs from %s (go test -update writes it anew):\n%s", file, got)
	}
}

func load(t *testing.T) []Row {
	t.Helper()
	rows, err := Load()
	if err != nil {
		t.Fatal(err)
	}
	return rows
}

// TestEveryRow is bar 2: the whole table, over real sockets.
func TestEveryRow(t *testing.T) {
	before := goroutines()
	rows := load(t)
	var b bytes.Buffer
	table := NewTable(&b, false, rows)
	rep := Run(t.Context(), rows, table.Progress())
	table.Summary(rep)
	golden(t, "demo.golden", b.String())
	if !rep.OK || rep.Failed != 0 || len(rep.Rows) != 16 {
		t.Errorf("ok %v, %d failed, %d rows; want true, 0, 16", rep.OK, rep.Failed, len(rep.Rows))
	}
	if rep.ElapsedMS > 20_000 {
		t.Errorf("it took %d ms, want a few seconds", rep.ElapsedMS)
	}
	deadline := time.NewTimer(5 * time.Second)
	defer deadline.Stop()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for goroutines() > before {
		select {
		case <-tick.C:
		case <-deadline.C:
			t.Fatalf("%d goroutines of ours before, %d after:\n%s", before, goroutines(), stacks())
		}
	}
}

func stacks() string {
	buf := make([]byte, 1<<20)
	return string(buf[:runtime.Stack(buf, true)])
}

// goroutines counts those that run code of this module.
func goroutines() int {
	n := 0
	for _, g := range strings.Split(stacks(), "\n\n") {
		if strings.Contains(g, "faultline-rpc/faultline") {
			n++
		}
	}
	return n
}

// TestFailureShows gives wrong expectations, a case that nothing provokes, and
// one that fails before anything is received.
func TestFailureShows(t *testing.T) {
	rows := load(t)[10:12]
	rows[0].Cases = append(rows[0].Cases, Case{Name: "no-such-case", Role: client, Expected: rows[0].Cases[0].Expected})
	rows[0].Cases[0].Expected.Processed = "yes"
	rows[1].Number, rows[1].Group = 12, "Made up"
	var b bytes.Buffer
	table := NewTable(&b, false, rows)
	rep := Run(t.Context(), rows, table.Progress())
	table.Summary(rep)
	golden(t, "failure.golden", b.String())
	if rep.OK || rep.Failed != 2 || rep.Rows[0].OK || !rep.Rows[1].OK {
		t.Errorf("ok %v, %d failed, rows %v and %v; want false, 2, false, true", rep.OK, rep.Failed, rep.Rows[0].OK, rep.Rows[1].OK)
	}
}

func TestCanceledRunFails(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	rows := load(t)
	rep := Run(ctx, rows, Progress{})
	if rep.OK || rep.Failed < 20 || len(rep.Rows) != len(rows) {
		t.Errorf("ok %v, %d failed, %d rows; want false, most of them, %d", rep.OK, rep.Failed, len(rep.Rows), len(rows))
	}
}

func TestColor(t *testing.T) {
	var b bytes.Buffer
	table := NewTable(&b, true, nil)
	table.kinds("here", []Kind{{Kind: "unary", OK: true}, {Kind: "unary", Error: "broken"}})
	for _, want := range []string{"\x1b[1mCalls", "\x1b[32mok\x1b[0m", "\x1b[1;31mFAIL\x1b[0m", "        broken\n"} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("%q is not in %q", want, b.String())
		}
	}
}

// TestExpectations holds the data file against the document's structure, the
// catalogue and the provocations.
func TestExpectations(t *testing.T) {
	rows := load(t)
	groups := map[string]int{}
	names := map[string]bool{}
	for _, r := range rows {
		groups[r.Group]++
		if len(r.Cases) == 0 || r.Circumstance == "" || r.Source != "https://grpc.io/docs/guides/error/" {
			t.Errorf("row %d is not complete: %+v", r.Number, r)
		}
		if _, err := codes.Parse(r.Code); err != nil {
			t.Errorf("row %d: %v", r.Number, err)
		}
		for _, c := range r.Cases {
			if names[c.Name] || !strings.HasSuffix(c.Name, "-"+c.Role) {
				t.Errorf("case %s of role %s: its name must be unique and end in the role", c.Name, c.Role)
			}
			names[c.Name] = true
			checkExpected(t, c)
		}
	}
	if want := map[string]int{"General errors": 5, "Network failures": 2, "Protocol errors": 9}; !maps.Equal(groups, want) {
		t.Errorf("rows by group: %v, want %v", groups, want)
	}
	all := provocations()
	for name, p := range all {
		if !names[name] || p.did == "" || p.run == nil {
			t.Errorf("the provocation %s is not complete, or expect.json has no such case", name)
		}
	}
	if n := len(general) + len(network) + len(protocol); len(all) != n || len(names) != n {
		t.Errorf("%d cases, %d provocations, %d of different names", len(names), n, len(all))
	}
}

func checkExpected(t *testing.T, c Case) {
	e := c.Expected
	entry := fault.Lookup(fault.ID(e.ID))
	if entry == nil {
		t.Errorf("case %s: the catalogue has no %s", c.Name, e.ID)
		return
	}
	code, _ := codes.Parse(e.Code)
	if entry.Layer.String() != e.Layer || len(entry.Codes) > 0 && !slices.Contains(entry.Codes, code) {
		t.Errorf("case %s: %s has the layer %s and the codes %v", c.Name, e.ID, entry.Layer, entry.Codes)
	}
	said := e.Side == "remote" // what a server raised, its client reports under the same id
	if !said && c.Role == client && entry.By&fault.ByClient == 0 || c.Role == server && entry.By&fault.ByServer == 0 {
		t.Errorf("case %s: %s is not raised by a %s", c.Name, e.ID, c.Role)
	}
	if !slices.Contains([]string{"local", "remote", "between"}, e.Side) || !slices.Contains([]string{"no", "maybe", "yes"}, e.Processed) {
		t.Errorf("case %s: side %q, processed %q", c.Name, e.Side, e.Processed)
	}
}

func TestParse(t *testing.T) {
	for _, tc := range []struct{ text, want string }{
		{`{`, "expect.json: unexpected EOF"},
		{`{"lines": []}`, `expect.json: json: unknown field "lines"`},
		{`{"rows": [{"number": 2}]}`, "expect.json: row 1 has the number 2"},
		{`{"rows": [{"number": 1, "code": "OK", "cases": [{"name": "a", "expected": {"code": "ABORTED"}}]}]}`, "expect.json: case a expects ABORTED, its row OK"},
		{`{"rows": [{"number": 1, "code": "OK", "cases": [{"name": "a", "role": "both", "expected": {"code": "OK"}}]}]}`, `expect.json: case a has the role "both", want client or server`},
	} {
		if _, err := parse([]byte(tc.text)); err == nil || err.Error() != tc.want {
			t.Errorf("parse(%s): %v, want %s", tc.text, err, tc.want)
		}
	}
}

func TestObservedWantsAFault(t *testing.T) {
	for _, err := range []error{nil, errors.New("plain"), context.Canceled} {
		if o, got := observed(err); got == nil {
			t.Errorf("observed(%v) = %+v, want an error", err, o)
		}
	}
}
