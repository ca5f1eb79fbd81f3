// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/faultline-rpc/faultline/cmd/faultline/lab"
	"github.com/faultline-rpc/faultline/codes"
	"github.com/faultline-rpc/faultline/doctor"
	"github.com/faultline-rpc/faultline/internal/text"
)

// doctorView prints an examination for people, rung by rung.
type doctorView struct {
	w     io.Writer
	live  bool // a terminal: colored, and a line shows what is being done
	width int  // of lines
}

func newDoctorView(w io.Writer) *doctorView {
	return &doctorView{w: w, live: colored(w), width: widthOf(w)}
}

// The styles, as ECMA-48 calls them: select graphic rendition.
const (
	styleBold = "1"
	styleDim  = "2"
	styleGood = "32"
	styleWarn = "33"
	styleBad  = "1;31"
)

func (v *doctorView) paint(style, text string) string {
	if !v.live || style == "" {
		return text
	}
	return "\x1b[" + style + "m" + text + "\x1b[0m"
}

// The picture's columns.
const (
	nameWidth = 10
	timeWidth = 9
	leftWidth = 2 + 2 + nameWidth + 1 + timeWidth + 2
)

func (v *doctorView) title(cfg doctor.Config) {
	how := "TLS"
	switch {
	case cfg.TLS == nil:
		how = "cleartext"
	case cfg.TLS.InsecureSkipVerify:
		how = "TLS, certificate not verified"
	}
	fmt.Fprintf(v.w, "%s  %s\n\n", v.paint(styleBold, text.Printable(cfg.Target)), how)
}

// began shows what is being done, on a terminal.
func (v *doctorView) began(name, doing string) {
	if v.live {
		doing = text.Clip(text.Printable(doing), v.width-nameWidth-6) // a line that wraps cannot be taken away
		fmt.Fprintf(v.w, "\r\x1b[K  %s %-*s %s", v.paint(styleDim, "…"), nameWidth, name, v.paint(styleDim, doing))
	}
}

// clear takes away what began showed.
func (v *doctorView) clear() {
	if v.live {
		fmt.Fprint(v.w, "\r\x1b[K")
	}
}

var marks = map[doctor.Status]struct{ sign, style string }{
	doctor.OK: {"✓", styleGood}, doctor.Note: {"!", styleWarn}, doctor.Failed: {"✗", styleBad}, doctor.Skipped: {"·", styleDim},
}

// ended prints a rung.
func (v *doctorView) ended(p doctor.Probe) {
	v.clear()
	m := marks[p.Status]
	took := ""
	if p.Status != doctor.Skipped {
		took = took3(p.Elapsed)
	}
	style := m.style
	if p.Status == doctor.OK {
		style = ""
	}
	for i, line := range text.Wrap(text.Printable(p.Summary), v.width-leftWidth) {
		if i == 0 {
			fmt.Fprintf(v.w, "  %s %-*s %*s  %s\n", v.paint(m.style, m.sign), nameWidth, p.Name, timeWidth, took, v.paint(style, line))
			continue
		}
		fmt.Fprintf(v.w, "%*s%s\n", leftWidth, "", v.paint(style, line))
	}
	wide := 0
	for _, e := range p.Evidence {
		wide = max(wide, len(text.Printable(e.Name)))
	}
	wide = min(wide, 30)
	for _, e := range p.Evidence {
		for i, line := range text.Wrap(text.Printable(e.Value), v.width-leftWidth-wide-2) {
			name := ""
			if i == 0 {
				name = text.Printable(e.Name)
			}
			fmt.Fprintf(v.w, "%*s%s\n", leftWidth, "", v.paint(styleDim, fmt.Sprintf("%-*s  %s", wide, name, line)))
		}
	}
}

// verdict prints the end.
func (v *doctorView) verdict(r *doctor.Report) {
	for _, p := range r.Probes {
		if p.Status == doctor.Skipped && p.Summary == "not reached" {
			v.ended(p)
		}
	}
	if r.Healthy {
		fmt.Fprintf(v.w, "\n%s  in %s\n", v.paint(styleGood, "HEALTHY"), took3(r.Elapsed))
		return
	}
	f := r.Verdict
	fmt.Fprintf(v.w, "\n%s  %s  %s\n", v.paint(styleBad, "SICK"), v.paint(styleBold, string(f.ID)), codes.Name(f.Code))
	for _, row := range [][2]string{
		{"what", f.Summary},
		{"here", strings.TrimPrefix(f.Message, string(f.ID)+": ")},
		{"where", fmt.Sprintf("layer %s, side %s", f.Layer, f.Side)},
		{"processed", f.Processed.String() + map[string]string{"no": ": no handler ran, calling again is safe", "maybe": ": nobody here can know whether a handler ran", "yes": ": a handler ran"}[f.Processed.String()]},
		{"why", f.Cause},
		{"what to do", f.Remedy},
		{"more", f.Spec},
	} {
		if row[1] == "" || row[0] == "here" && row[1] == f.Summary {
			continue
		}
		lines := []string{row[1]}
		if row[0] != "more" {
			lines = text.Wrap(text.Printable(row[1]), v.width-14)
		}
		for i, line := range lines {
			label := ""
			if i == 0 {
				label = row[0]
			}
			fmt.Fprintf(v.w, "  %-10s  %s\n", label, line)
		}
	}
}

// took3 is a time with three digits at most.
func took3(d time.Duration) string {
	switch ms := float64(d.Microseconds()) / 1000; {
	case ms < 10:
		return fmt.Sprintf("%.2f ms", ms)
	case ms < 1000:
		return fmt.Sprintf("%.0f ms", ms)
	default:
		return fmt.Sprintf("%.2f s", ms/1000)
	}
}

// labTable prints the lab's diagnoses.
type labTable struct {
	v *doctorView
	n int
}

func newLabTable(w io.Writer) *labTable { return &labTable{v: newDoctorView(w)} }

func (t *labTable) row(r lab.Result) {
	code := 19 // columns for the code, if there is room
	if t.v.width < 110 {
		code = 0
	}
	peer := min(52, t.v.width-48-code)
	line := func(n, mark, name, id, name2 string) string {
		return fmt.Sprintf("%4s %s  %-*s  %-27s  %-*.*s", n, mark, peer, text.Clip(name, peer), id, code, code, name2)
	}
	if t.n == 0 {
		fmt.Fprintln(t.v.w, t.v.paint(styleBold, strings.TrimRight(line("", "    ", "peer", "found", "code"), " ")))
	}
	t.n++
	mark := t.v.paint(styleGood, "ok  ")
	if !r.OK {
		mark = t.v.paint(styleBad, "FAIL")
	}
	fmt.Fprintf(t.v.w, "%s %s\n", line(fmt.Sprintf("%d.", t.n), mark, r.Peer, r.Found.ID, r.Found.Code), t.v.paint(styleDim, took3(time.Duration(r.ElapsedMS*float64(time.Millisecond)))))
	if !r.OK {
		for _, l := range text.Wrap(fmt.Sprintf("expected %s, layer %s, code %s; %s", r.Expected.ID, r.Expected.Layer, r.Expected.Code, text.Printable(r.Message)), t.v.width-6) {
			fmt.Fprintf(t.v.w, "      %s\n", l)
		}
	}
}

func (t *labTable) summary(r lab.Report) {
	if r.OK {
		fmt.Fprintf(t.v.w, "\n%d peers, all diagnosed as expected in %s %s\n", r.Passed, took3(time.Duration(r.ElapsedMS*float64(time.Millisecond))), t.v.paint(styleGood, "ok"))
		return
	}
	fmt.Fprintf(t.v.w, "\n%d peers, %d not diagnosed as expected %s\n", r.Passed+r.Failed, r.Failed, t.v.paint(styleBad, "FAIL"))
}
