// SPDX-License-Identifier: Apache-2.0

package demo

import (
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/faultline-rpc/faultline/internal/text"
)

// Table prints a run for people, part by part.
type Table struct {
	w     io.Writer
	color bool
	wide  [len(columns)]int
	group string
}

var columns = [...]string{"by", "circumstance", "what was done", "code expected", "code received", "layer", "side", "processed", ""}

// NewTable prints to w, with color if it is a terminal. rows are those of the
// run: the columns are as wide as what is expected of them.
func NewTable(w io.Writer, color bool, rows []Row) *Table {
	t := &Table{w: w, color: color}
	for i, c := range columns {
		t.wide[i] = len(c)
	}
	all := provocations()
	for _, r := range rows {
		for _, c := range r.Cases {
			e := c.Expected
			for i, cell := range [...]string{c.Role, e.ID, all[c.Name].did, e.Code, e.Code, e.Layer, e.Side, e.Processed} {
				t.wide[i] = max(t.wide[i], len(cell))
			}
		}
	}
	return t
}

// Progress prints what it is told.
func (t *Table) Progress() Progress { return Progress{Kinds: t.kinds, Row: t.row} }

func (t *Table) kinds(server string, all []Kind) {
	fmt.Fprintf(t.w, "%s\n", t.paint(bold, "Calls of the four kinds, to an embedded server on "+server))
	for _, k := range all {
		fmt.Fprintf(t.w, "    %-16s  %-48s  %d sent, %d received  %s\n", k.Kind, k.Method, k.Sent, k.Received, t.mark(k.OK))
		if !k.OK {
			fmt.Fprintf(t.w, "        %s\n", k.Error)
		}
	}
}

func (t *Table) row(r RowResult) {
	if r.Group != t.group {
		t.group = r.Group
		fmt.Fprintf(t.w, "\n%s\n", t.paint(bold, fmt.Sprintf("%s (%s)", r.Group, r.Source)))
		t.line(columns[:], bold)
	}
	for i, line := range text.Wrap(r.Circumstance, 110) {
		number := fmt.Sprint(r.Number)
		if i > 0 {
			number = ""
		}
		fmt.Fprintf(t.w, "%3s %s\n", number, line)
	}
	for _, c := range r.Cases {
		g := c.Received
		t.line([]string{c.Role, g.ID, c.Did, c.Expected.Code, g.Code, g.Layer, g.Side, g.Processed, t.mark(c.OK)}, "")
		if c.OK {
			continue
		}
		e := c.Expected
		fmt.Fprintf(t.w, "        expected  %s %s, layer %s, side %s, processed %s\n", e.ID, e.Code, e.Layer, e.Side, e.Processed)
		if g.Message != "" {
			fmt.Fprintf(t.w, "        received  %s\n", g.Message)
		}
		if c.Error != "" {
			fmt.Fprintf(t.w, "        error     %s\n", strings.ReplaceAll(c.Error, "\n", "\n                  "))
		}
	}
}

func (t *Table) line(cells []string, style string) {
	var b strings.Builder
	b.WriteString("    ")
	for i, cell := range cells {
		if cell == "" && i < len(columns)-1 {
			cell = "-"
		}
		fmt.Fprintf(&b, "%-*s  ", t.wide[i], cell)
	}
	fmt.Fprintln(t.w, t.paint(style, strings.TrimRight(b.String(), " ")))
}

// Summary prints the last line.
func (t *Table) Summary(r Report) {
	took := (time.Duration(r.ElapsedMS) * time.Millisecond).Round(100 * time.Millisecond)
	text := fmt.Sprintf("%d rows, %d calls: all as expected, in %v", len(r.Rows), r.Passed, took)
	if !r.OK {
		text = fmt.Sprintf("%d rows, %d calls: %d not as expected, in %v", len(r.Rows), r.Passed+r.Failed, r.Failed, took)
	}
	fmt.Fprintf(t.w, "\n%s %s\n", text, t.mark(r.OK))
}

// The styles, as ECMA-48 calls them: select graphic rendition.
const (
	bold  = "1"
	green = "32"
	red   = "1;31"
)

func (t *Table) mark(ok bool) string {
	if ok {
		return t.paint(green, "ok")
	}
	return t.paint(red, "FAIL")
}

func (t *Table) paint(style, text string) string {
	if !t.color || style == "" {
		return text
	}
	return "\x1b[" + style + "m" + text + "\x1b[0m"
}
