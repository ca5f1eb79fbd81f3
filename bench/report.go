// SPDX-License-Identifier: Apache-2.0

//go:build unix

package main

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"
	"time"
)

// A sample is one measurement of a run.
type sample struct {
	Workload string
	Lane     string
	Round    int
	Error    string `json:",omitempty"`
	figures
}

// A report is all that a run measured.
type report struct {
	Subject string
	Others  float64 // share of the machine that other processes used meanwhile; 0 where that is not known
	Samples []sample
	Lines   []line // one for each row of the table of demands that was measured
}

// A spread is the median of some values, and their extremes.
type spread struct{ Median, Min, Max float64 }

func spreadOf(v []float64) spread {
	if len(v) == 0 {
		return spread{}
	}
	v = slices.Sorted(slices.Values(v))
	m := v[len(v)/2]
	if len(v)%2 == 0 {
		m = (m + v[len(v)/2-1]) / 2
	}
	return spread{m, v[0], v[len(v)-1]}
}

// A verdict is how a row fared.
type verdict string

const (
	fail   verdict = "FAIL"
	pass   verdict = "pass"
	atGoal verdict = "goal"
)

// A line is a row of the table of demands with what was measured. All multiples are over grpc-go, and more is better.
type line struct {
	Row     string
	Figure  spread // the multiple, or the absolute figure
	Base    float64
	CPU     float64 // multiple of calls per CPU second; 0: not measured, here and below
	P99     float64 // grpc-go's p99 over ours
	Windows float64 // multiple over grpc-go with our windows
	Connect float64 // connect-go's own multiple
	Echo    float64 // the raw echo's own multiple
	Bar     float64
	Goal    float64
	Verdict verdict
	Error   string `json:",omitempty"`
}

// of returns the samples of a lane under a workload by round, without failed ones.
func (r *report) of(workload, lane string) map[int]figures {
	m := map[int]figures{}
	for _, s := range r.Samples {
		if s.Workload == workload && s.Lane == lane && s.Error == "" {
			m[s.Round] = s.figures
		}
	}
	return m
}

// failure returns the first error of a lane under a workload.
func (r *report) failure(workload, lane string) string {
	for _, s := range r.Samples {
		if s.Workload == workload && s.Lane == lane && s.Error != "" {
			return s.Error
		}
	}
	return ""
}

// over returns per round what f makes of a lane's figures and another's, for the rounds in which both were measured.
func (r *report) over(workload, lane, base string, f func(a, b figures) float64) spread {
	bases := r.of(workload, base)
	var v []float64
	for round, a := range r.of(workload, lane) {
		if b, ok := bases[round]; ok {
			v = append(v, f(a, b))
		}
	}
	return spreadOf(v)
}

// quotient is a/b, and 0 where that says nothing.
func quotient(a, b float64) float64 {
	if b <= 0 || a <= 0 {
		return 0
	}
	return a / b
}

// How figures compare, more being better for a.
func rateRatio(a, b figures) float64   { return quotient(a.Rate, b.Rate) }
func cpuRatio(a, b figures) float64    { return quotient(float64(b.CPU), float64(a.CPU)) }
func p99Ratio(a, b figures) float64    { return quotient(float64(b.P99), float64(a.P99)) }
func memoryRatio(a, b figures) float64 { return quotient(b.MemoryClient, a.MemoryClient) }

// Single figures, as over wants them.
func clientAllocs(a, _ figures) float64 { return a.AllocsClient }
func serverAllocs(a, _ figures) float64 { return a.AllocsServer }

// figure is what metric m compares or quotes.
func (m metric) figure() func(a, b figures) float64 {
	switch m {
	case memory:
		return memoryRatio
	case allocsClient:
		return clientAllocs
	case allocsServer:
		return serverAllocs
	}
	return rateRatio
}

// judge fills in the lines of the rows given.
func (r *report) judge(rows []row) {
	for _, w := range rows {
		ln := w.lane
		if ln == "" {
			ln = r.Subject
		}
		l := line{Row: w.name, Bar: w.bar, Goal: w.goal, Error: r.failure(w.workload, ln)}
		got := r.of(w.workload, ln)
		if len(got) == 0 && l.Error == "" {
			continue
		}
		f := w.metric.figure()
		l.Figure = r.over(w.workload, ln, laneGRPC, f)
		if w.metric.absolute() {
			l.Base = r.over(w.workload, laneGRPC, laneGRPC, f).Median
			l.Connect = r.over(w.workload, laneConnect, laneGRPC, f).Median
		} else {
			l.Connect = r.over(w.workload, laneConnect, laneGRPC, f).Median
			l.Echo = r.over(w.workload, laneEcho, laneGRPC, f).Median
			l.Windows = r.over(w.workload, ln, laneWindows, f).Median
		}
		if w.metric == rate {
			l.CPU = r.over(w.workload, ln, laneGRPC, cpuRatio).Median
			l.P99 = p99OrNone(w.workload, r.over(w.workload, ln, laneGRPC, p99Ratio).Median)
		}
		l.Verdict = w.verdict(l)
		r.Lines = append(r.Lines, l)
	}
}

// p99OrNone drops the tail of one-way streams: a message's arrival is no answer to anything.
func p99OrNone(name string, v float64) float64 {
	if w, err := findWorkload(name); err != nil || w.kind == download || w.kind == upload {
		return 0
	}
	return v
}

// verdict compares the median with what is demanded. A lane that failed in any round fails.
func (w row) verdict(l line) verdict {
	m := l.Figure.Median
	better := func(than float64) bool {
		if w.metric.absolute() {
			return m <= than
		}
		return m >= than
	}
	switch {
	case l.Error != "" || m == 0:
		return fail
	case better(w.goal):
		return atGoal
	case better(w.bar):
		return pass
	}
	return fail
}

// failed returns how many lines missed their first bar.
func (r *report) failed() int {
	n := 0
	for _, l := range r.Lines {
		if l.Verdict == fail {
			n++
		}
	}
	return n
}

// write prints both tables.
func (r *report) write(out io.Writer) {
	if len(r.Lines) > 0 {
		fmt.Fprintf(out, "\n%s: multiples over grpc-go, median of the rounds (extremes); more is better\n\n", r.Subject)
		r.writeLines(out)
	}
	fmt.Fprintf(out, "\nAll lanes: medians\n\n")
	r.writeLanes(out)
	if r.Others > noisy {
		fmt.Fprintf(out, "\nWarning: other processes used %.0f%% of the machine meanwhile; do not quote these figures.\n", 100*r.Others)
	}
	for _, s := range r.Samples {
		if s.Error != "" {
			fmt.Fprintf(out, "\n%s, %s, round %d: %s\n", s.Workload, s.Lane, s.Round+1, s.Error)
		}
	}
}

func (r *report) writeLines(out io.Writer) {
	t := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "scenario\tmultiple\tCPU\tp99\tsame windows\tconnect-go\techo\tfirst bar\tgoal\tverdict")
	for _, l := range r.Lines {
		figure := fmt.Sprintf("%.2f (%.2f-%.2f)", l.Figure.Median, l.Figure.Min, l.Figure.Max)
		bars := fmt.Sprintf("%.1f\t%.1f", l.Bar, l.Goal)
		if l.Base > 0 { // an absolute figure: less is better
			figure = fmt.Sprintf("%.1f, grpc-go %.1f", l.Figure.Median, l.Base)
			bars = fmt.Sprintf("<= %.0f\t<= %.0f", l.Bar, l.Goal)
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\n", l.Row, figure, orDash(l.CPU), orDash(l.P99),
			orDash(l.Windows), orDash(l.Connect), orDash(l.Echo), bars, l.Verdict)
	}
	t.Flush()
}

func orDash(v float64) string {
	if v == 0 {
		return "-"
	}
	return fmt.Sprintf("%.2f", v)
}

// writeLanes prints the figures behind the ratios, for whoever wonders whether they are sane.
func (r *report) writeLanes(out io.Writer) {
	t := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "workload\tlane\tx grpc-go\tx CPU\trate/s\tMB/s\tCPU/call\tp50\tp99\tmax\tleast\tallocs c/s\tbytes each c/s")
	for _, w := range workloads {
		for _, l := range lanes {
			if got := r.of(w.name, l.name); len(got) > 0 {
				fmt.Fprintf(t, "%s\t%s\t%s\n", w.name, l.name, r.laneCells(w, l.name))
			}
		}
	}
	t.Flush()
}

func (r *report) laneCells(w workload, lane string) string {
	median := func(f func(figures) float64) float64 {
		var v []float64
		for _, x := range r.of(w.name, lane) {
			v = append(v, f(x))
		}
		return spreadOf(v).Median
	}
	if w.idle() {
		return fmt.Sprintf("%s\t-\t-\t-\t-\t-\t-\t-\t-\t-\t%.0f/%.0f", orDash(r.over(w.name, lane, laneGRPC, memoryRatio).Median),
			median(func(f figures) float64 { return f.MemoryClient }), median(func(f figures) float64 { return f.MemoryServer }))
	}
	dur := func(f func(figures) time.Duration) string {
		d := time.Duration(median(func(x figures) float64 { return float64(f(x)) }))
		return d.Round(max(d/1000, 1)).Round(100 * time.Nanosecond).String()
	}
	perSecond := median(func(f figures) float64 { return f.Rate })
	return strings.Join([]string{
		orDash(r.over(w.name, lane, laneGRPC, rateRatio).Median),
		orDash(r.over(w.name, lane, laneGRPC, cpuRatio).Median),
		fmt.Sprintf("%.0f", perSecond),
		fmt.Sprintf("%.0f", perSecond*float64(w.size)/1e6),
		dur(func(f figures) time.Duration { return f.CPU }),
		dur(func(f figures) time.Duration { return f.P50 }),
		dur(func(f figures) time.Duration { return f.P99 }),
		dur(func(f figures) time.Duration { return f.Max }),
		fmt.Sprintf("%.2f", median(func(f figures) float64 { return f.Least })),
		fmt.Sprintf("%.1f/%.1f", median(func(f figures) float64 { return f.AllocsClient }), median(func(f figures) float64 { return f.AllocsServer })),
		"-",
	}, "\t")
}
