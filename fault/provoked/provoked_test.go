// SPDX-License-Identifier: Apache-2.0

package provoked_test

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/faultline-rpc/faultline/fault"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// row provokes one circumstance, as one end sees it.
type row struct {
	entry     *fault.Entry
	name      string // what tells rows of one entry apart
	code      codes.Code
	side      fault.Side
	processed fault.Processed
	// rung is set where the circumstance stands above another's fault: entry is
	// then that of the rung.
	above *fault.Entry
	// evidence are facts that must be there, "name: value" each, or "name:" for
	// any value.
	evidence []string
	// remedy is the step of the entry's remedy that run takes when asked to
	// mend; it stands in the remedy's first 400 bytes, word for word.
	remedy string
	// real rows need sockets of this machine, and its clock.
	real bool
	// run provokes the circumstance and returns the error that tells of it. With
	// mended it does the same with the remedy applied, and returns nil.
	run func(w *world, mended bool) error
}

func (r *row) String() string {
	if r.name == "" {
		return string(r.entry.ID)
	}
	return string(r.entry.ID) + " " + r.name
}

// rows are all there are, in the order of the catalogue.
func rows() []row {
	all := slices.Concat(resolveRows, pickRows, dialRows, tlsRows, prefaceRows, connectionRows, streamRows, violationRows,
		answerRows, requestRows, codecRows, callRows, attemptRows, []row{attemptsCommitted}, serverRows, handlerRows)
	rank := map[*fault.Entry]int{}
	for i, e := range fault.Catalogue() {
		rank[e] = i
	}
	slices.SortStableFunc(all, func(a, b row) int { return rank[a.entry] - rank[b.entry] })
	return all
}

// unraised are the entries that nothing raises, and why.
var unraised = map[fault.ID]string{
	"server.max-idle":        "it fails no call: see TestIdleConnectionsFailNoCall",
	"handler.upstream":       "a status that is passed on keeps the circumstance it had; the trail names the hops",
	"policy.unauthenticated": "raised by interceptors",
	"policy.rate-limit":      "raised by interceptors",
	"policy.validation":      "raised by interceptors",
	"policy.budget":          "raised by interceptors",
}

func TestEveryCircumstanceIsProvoked(t *testing.T) {
	seen := map[fault.ID]bool{}
	for _, r := range rows() {
		if fault.Lookup(r.entry.ID) != r.entry {
			t.Errorf("%v is not in the catalogue", &r)
		}
		if _, no := unraised[r.entry.ID]; no {
			t.Errorf("%v is provoked: take it off the list of what nothing raises", &r)
		}
		seen[r.entry.ID] = true
	}
	for _, e := range fault.Catalogue() {
		if _, no := unraised[e.ID]; !seen[e.ID] && !no {
			t.Errorf("%s: no row provokes it", e.ID)
		}
	}
}

// provoke runs a row in a world of its own. log is what client and server
// logged, if time was fake.
func (r *row) provoke(t *testing.T, mended bool) (log string, err error) {
	t.Helper()
	if r.real {
		return "", r.run(newWorld(t), mended)
	}
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		err = r.run(w, mended)
		time.Sleep(300 * time.Millisecond) // what was said last arrives, and is heard
		synctest.Wait()
		log = w.log.inOrder()
	})
	return log, err
}

func TestCircumstances(t *testing.T) {
	var lines, ladders, logs, objects, calls bytes.Buffer
	for _, r := range rows() {
		t.Run(r.String(), func(t *testing.T) {
			log, err := r.provoke(t, false)
			f, ok := fault.From(err)
			if !ok {
				t.Fatal("the provocation gave no fault")
			}
			r.judge(t, f)
			fmt.Fprintf(&lines, "%-44s %s\n", &r, plain(f.Error()))
			if r.real || r.above != nil {
				return // its times are those of the clock, or of random back-off
			}
			fmt.Fprintf(&ladders, "## %v\n\n%s\n\n", &r, plain(fmt.Sprintf("%+v", f)))
			j, err := json.Marshal(f)
			if err != nil {
				t.Fatal(err)
			}
			fmt.Fprintf(&objects, "%s\n", plain(string(j)))
			logger(&logs).Error(r.String(), "err", f)
			if r.String() == "call.deadline" { // whether the server is told, or notices, is chance
				log = log[:strings.Index(log, "\n")+1]
			}
			fmt.Fprintf(&calls, "## %v\n\n%s\n", &r, plain(log))
		})
	}
	if t.Failed() && !*update {
		return // the files are about what is right
	}
	golden(t, "lines.txt", lines.Bytes())
	golden(t, "ladders.txt", ladders.Bytes())
	golden(t, "log.txt", []byte(plain(logs.String())))
	golden(t, "faults.jsonl", objects.Bytes())
	golden(t, "calls.txt", calls.Bytes())
}

// judge holds a fault against its row.
func (r *row) judge(t *testing.T, f *fault.Fault) {
	t.Helper()
	want := r.entry
	if r.above != nil {
		want = r.above
		if rungs := f.Rungs(); !slices.ContainsFunc(rungs, func(g fault.Rung) bool { return g.ID == r.entry.ID }) {
			t.Errorf("the rungs are %v, want %s among them", rungs, r.entry.ID)
		}
	}
	if f.Entry() != want || f.Code() != r.code || f.Side() != r.side || f.Processed() != r.processed || f.Misplaced() {
		t.Errorf("got %s, %v, side %v, processed %v; want %s, %v, %v, %v\n%+v",
			f.ID(), f.Code(), f.Side(), f.Processed(), want.ID, r.code, r.side, r.processed, f)
	}
	remedy := f.Remedy()
	if r.above != nil {
		remedy = r.entry.Remedy
	}
	if head := remedy[:min(400, len(remedy))]; r.remedy == "" || !strings.Contains(head, r.remedy) {
		t.Errorf("%q is not in the beginning of the remedy: %s", r.remedy, head)
	}
	page, err := os.ReadFile("../../docs/circumstances/" + string(r.entry.ID) + ".md")
	if err != nil {
		t.Fatal(err)
	}
	if r.above == nil && !strings.Contains(string(page), "**"+r.processed.String()+"**") {
		t.Errorf("%s.md does not say that processed may be %v", r.entry.ID, r.processed)
	}
	prefix, _, _ := strings.Cut(string(want.ID), ".")
	if f.Layer().String() != prefix {
		t.Errorf("layer %v, want %s", f.Layer(), prefix)
	}
	ladder := fmt.Sprintf("%+v\n", f)
	for _, e := range r.evidence {
		name, value, _ := strings.Cut(e, ": ")
		shown := regexp.MustCompile(`\n  (evidence|        )      ` + regexp.QuoteMeta(strings.TrimSuffix(name, ":")) + ": " + regexp.QuoteMeta(value))
		if !shown.MatchString(ladder) {
			t.Errorf("%q is not among the evidence:\n%+v", e, f)
		}
	}
}

// TestRemediesHold: the step that the remedy names first makes the call that
// failed succeed.
func TestRemediesHold(t *testing.T) {
	for _, r := range rows() {
		t.Run(r.String(), func(t *testing.T) {
			if _, err := r.provoke(t, true); err != nil {
				t.Errorf("with the remedy: %+v", err)
			}
		})
	}
}

// What differs from run to run, or from machine to machine.
var passing = []struct {
	what *regexp.Regexp
	as   string
}{
	{regexp.MustCompile(`127\.0\.0\.1:\d+`), "127.0.0.1:PORT"},
	{regexp.MustCompile(`example\.:\d+`), "example.:PORT"},
	{regexp.MustCompile(`reference(:|=|": ?"| )( ?)[0-9a-f]{16}`), "reference${1}${2}REFERENCE"},
	{regexp.MustCompile("\u00a0|" + `\\u00a0`), " "}, // protobuf varies the space in its errors from build to build
	{regexp.MustCompile(`/[^ "]*/orders\.sock`), "/run/orders.sock"},
	{regexp.MustCompile(`elapsed=\d+\.\d{7,9}s`), "elapsed=RANDOM"}, // the age of connections is spread
}

func plain(s string) string {
	for _, p := range passing {
		s = p.what.ReplaceAllString(s, p.as)
	}
	return s
}

// logger writes lines without their time, nor stacks.
func logger(b io.Writer) *slog.Logger {
	return slog.New(slog.NewTextHandler(b, &slog.HandlerOptions{Level: slog.LevelDebug, ReplaceAttr: func(g []string, a slog.Attr) slog.Attr {
		if len(g) == 0 && (a.Key == slog.TimeKey || a.Key == "stack") {
			return slog.Attr{}
		}
		return a
	}}))
}

func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(path, got, 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	want = bytes.ReplaceAll(want, []byte("\r\n"), []byte("\n"))
	if bytes.Equal(got, want) {
		return
	}
	g, w := strings.Split(string(got), "\n"), strings.Split(string(want), "\n")
	for i := range max(len(g), len(w)) {
		if i >= len(g) || i >= len(w) || g[i] != w[i] {
			t.Fatalf("%s differs from line %d on (run with -update to accept):\n got %s\nwant %s", path, i+1,
				strings.Join(g[min(i, len(g)):min(i+3, len(g))], "\n     "), strings.Join(w[min(i, len(w)):min(i+3, len(w))], "\n     "))
		}
	}
}
