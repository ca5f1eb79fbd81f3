// SPDX-License-Identifier: Apache-2.0

package explain

import (
	"encoding/json"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/faultline-rpc/faultline/codes"
)

// report is a text as somebody found it in a log, a terminal or a bug report.
type report struct {
	ids  []string // one of them is to come first
	code string   // that the text names, "-" for none
	text string
}

// reports reads testdata/reports.txt: texts below lines "#### ID|ID CODE".
func reports(t *testing.T) []report {
	t.Helper()
	b, err := os.ReadFile("testdata/reports.txt")
	if err != nil {
		t.Fatal(err)
	}
	var all []report
	for _, part := range strings.Split("\n"+strings.ReplaceAll(string(b), "\r\n", "\n"), "\n#### ")[1:] {
		head, text, _ := strings.Cut(part, "\n")
		ids, code, ok := strings.Cut(head, " ")
		if !ok || text == "" {
			t.Fatalf("a report begins with %q, want ids, a code and a text", head)
		}
		all = append(all, report{strings.Split(ids, "|"), code, text})
	}
	return all
}

func first(t *testing.T, text string) string {
	t.Helper()
	res, err := Explain(text)
	if err != nil {
		t.Fatal(err)
	}
	if len(res.Candidates) == 0 {
		return string(res.Kind)
	}
	return string(res.Candidates[0].ID)
}

func TestReports(t *testing.T) {
	all := reports(t)
	if len(all) < 300 {
		t.Errorf("%d reports, want 300 or more", len(all))
	}
	for _, r := range all {
		if got := first(t, r.text); !slices.Contains(r.ids, got) {
			t.Errorf("%s comes first, want one of %q, of\n%s", got, r.ids, r.text)
		}
		got := "-"
		if c, ok := CodeIn(clean(r.text)); ok {
			got = codes.Name(c)
		}
		if got != r.code {
			t.Errorf("the code is %s, want %s, of\n%s", got, r.code, r.text)
		}
	}
}

// dressings are what becomes of texts on their way to whoever asks.
var dressings = map[string]func(string) string{
	"in JSON": func(s string) string {
		b, _ := json.Marshal(s)
		return `{"level":"error","msg":` + string(b) + `,"ts":1}`
	},
	"in JSON in JSON": func(s string) string {
		b, _ := json.Marshal(s)
		b, _ = json.Marshal(`{"msg":` + string(b) + `}`)
		return `{"log":` + string(b) + `,"stream":"stderr"}`
	},
	"in a log line": func(s string) string {
		return `2026-02-03T04:05:06Z ERR  orders[77]: place order: ` + s + ` request_id=0b1c`
	},
	"in colours": func(s string) string {
		return "\x1b[31m" + strings.ReplaceAll(s, " ", "\x1b[0m \x1b[1;31m") + "\x1b[0m"
	},
	"typeset": func(s string) string { return strings.ReplaceAll(strings.ReplaceAll(s, ` "`, " “"), `"`, "”") },
	"in HTML": func(s string) string {
		return strings.NewReplacer("&", "&amp;", `"`, "&quot;", "<", "&lt;", ">", "&gt;").Replace(s)
	},
	"shouted": strings.ToUpper,
	"wrapped": func(s string) string { // between words
		var b strings.Builder
		line := 0
		for _, w := range strings.SplitAfter(s, " ") {
			if line > 30 {
				b.WriteString("\n    ")
				line = 0
			}
			b.WriteString(w)
			line += len(w)
		}
		return b.String()
	},
	"cut by a terminal": func(s string) string {
		var b strings.Builder
		for i, r := range []rune(s) {
			if i > 0 && i%72 == 0 {
				b.WriteByte('\n')
			}
			b.WriteRune(r)
		}
		return b.String()
	},
	"with Windows' line ends": func(s string) string { return strings.ReplaceAll(s, "\n", "\r\n") },
}

// TestDressings: the dress of a text changes nothing. Each text wears some.
func TestDressings(t *testing.T) {
	all := reports(t)
	for i, name := range slices.Sorted(maps.Keys(dressings)) {
		dress := dressings[name]
		t.Run(name, func(t *testing.T) {
			for j, r := range all {
				if (i+j)%3 != 0 {
					continue
				}
				if name == "shouted" && len(likely[codes.Code(codeOf(r))]) > 0 && first(t, r.text) == string(likely[codes.Code(codeOf(r))][0].ID) {
					continue // a code's name in capitals is a code, in whatever text
				}
				if entries.MatchString(r.text) && (name == "wrapped" || name == "cut by a terminal") {
					continue // the lines of a log keep their breaks
				}
				if got, want := first(t, dress(r.text)), first(t, r.text); got != want {
					t.Errorf("%s comes first, want %s, of\n%s", got, want, dress(r.text))
				}
			}
		})
	}
}

func codeOf(r report) codes.Code {
	c, _ := CodeIn(r.text)
	return c
}
