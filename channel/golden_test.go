// SPDX-License-Identifier: Apache-2.0

package channel

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"sort"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/faultline-rpc/faultline/event"
	"github.com/faultline-rpc/faultline/fault"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// transcript is a golden trace: commands, and beneath each what happened in
// fake time. It is the channel's event.Sink.
type transcript struct {
	begin time.Time
	mu    sync.Mutex
	out   bytes.Buffer // guarded by mu
	lines []line       // guarded by mu: since the last command
}

type line struct {
	at  time.Duration
	who string
	txt string
}

func newTranscript() *transcript { return &transcript{begin: time.Now()} }

// Record implements event.Sink.
func (tr *transcript) Record(e event.Event) {
	why := func(err error) string {
		if f, ok := fault.From(err); ok {
			return " " + string(f.ID())
		}
		return ""
	}
	switch e := e.(type) {
	case event.SubchannelState:
		tr.note(e.Address, e.State+why(e.Err))
	case event.Resolved:
		tr.note("resolver", strings.Join(e.Addresses, ", ")+why(e.Err))
	case event.GoAwayReceived:
		tr.note("connection", fmt.Sprintf("GOAWAY %s %q received", e.Code, e.Debug))
	case event.ConnClosed:
		if err := why(e.Err); err != "" {
			tr.note("connection", "ended:"+err)
		}
	}
}

func (tr *transcript) note(who, txt string) {
	tr.mu.Lock()
	defer tr.mu.Unlock()
	tr.lines = append(tr.lines, line{time.Since(tr.begin), who, txt})
}

// do runs a command and whatever it sets off at once.
func (tr *transcript) do(command string, f func()) {
	tr.flush()
	fmt.Fprintf(&tr.out, "> %s\n", command)
	f()
	synctest.Wait()
	tr.flush()
}

// flush writes the trace, what happened at one moment by its subject.
func (tr *transcript) flush() {
	tr.mu.Lock()
	defer tr.mu.Unlock()
	sort.SliceStable(tr.lines, func(i, j int) bool {
		a, b := tr.lines[i], tr.lines[j]
		if a.at != b.at {
			return a.at < b.at
		}
		return a.who != b.who && (a.who == "resolver" || b.who != "resolver" && a.who < b.who)
	})
	for _, l := range tr.lines {
		fmt.Fprintf(&tr.out, "%9v  %-12s %s\n", l.at, l.who, l.txt)
	}
	tr.lines = nil
}

// check compares with testdata/NAME.txt.
func (tr *transcript) check(t *testing.T, name string) {
	t.Helper()
	tr.flush()
	file := filepath.Join("testdata", name+".txt")
	if *update {
		if err := os.MkdirAll("testdata", 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, tr.out.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(want, tr.out.Bytes()) {
		t.Errorf("%s differs (go test -update writes it anew); got:\n%s", file, tr.out.Bytes())
	}
}
