// SPDX-License-Identifier: Apache-2.0

//go:build unix

package main

import (
	"strings"
	"testing"
	"time"
)

func TestSpread(t *testing.T) {
	for _, c := range []struct {
		in   []float64
		want spread
	}{
		{nil, spread{}},
		{[]float64{3}, spread{3, 3, 3}},
		{[]float64{5, 1, 2}, spread{2, 1, 5}},
		{[]float64{4, 1, 2, 9}, spread{3, 1, 9}},
	} {
		if got := spreadOf(c.in); got != c.want {
			t.Errorf("spreadOf(%v) = %v, want %v", c.in, got, c.want)
		}
	}
}

// rounds makes samples of a lane, one per rate, in calls per second; CPU and p99 are its inverse.
func rounds(workload, lane string, rates ...float64) []sample {
	var s []sample
	for i, r := range rates {
		d := 1e9 / r
		s = append(s, sample{Workload: workload, Lane: lane, Round: i, figures: figures{
			Rate: r, CPU: ns(d), P99: ns(d), AllocsClient: 6, AllocsServer: 11, MemoryClient: 1e6 / r,
		}})
	}
	return s
}

func TestJudge(t *testing.T) {
	const w = "unary-100-0B"
	broken := sample{Workload: w, Lane: laneFaultline, Round: 3, Error: "connection reset"}
	for _, c := range []struct {
		name   string
		row    row
		ours   []sample
		figure float64
		want   verdict
	}{
		{"goal", row{workload: w, bar: 2, goal: 4}, rounds(w, laneFaultline, 400, 1600, 1200), 4, atGoal},
		{"bar", row{workload: w, bar: 2, goal: 4}, rounds(w, laneFaultline, 300, 600, 900), 3, pass},
		{"missed", row{workload: w, bar: 3.5, goal: 4}, rounds(w, laneFaultline, 300, 600, 900), 3, fail},
		{"another lane", row{workload: w, lane: laneOurClient, bar: 2, goal: 4}, rounds(w, laneOurClient, 200, 400, 600), 2, pass},
		{"fewer allocations than the bar", row{workload: w, metric: allocsClient, bar: 8, goal: 4}, rounds(w, laneFaultline, 100, 200, 300), 6, pass},
		{"more allocations than the bar", row{workload: w, metric: allocsServer, bar: 10, goal: 5}, rounds(w, laneFaultline, 100, 200, 300), 11, fail},
		{"memory", row{workload: w, metric: memory, bar: 2, goal: 4}, rounds(w, laneFaultline, 300, 600, 900), 3, pass},
		{"a failed round", row{workload: w, bar: 2, goal: 4}, append(rounds(w, laneFaultline, 900, 900, 900), broken), 4.5, fail},
		{"only failed rounds", row{workload: w, bar: 2, goal: 4}, []sample{broken}, 0, fail},
	} {
		r := &report{Subject: laneFaultline, Samples: append(rounds(w, laneGRPC, 100, 200, 300, 400), c.ours...)}
		r.judge([]row{c.row})
		if len(r.Lines) != 1 || r.Lines[0].Figure.Median != c.figure || r.Lines[0].Verdict != c.want {
			t.Errorf("%s: %+v, want a figure of %v and %q", c.name, r.Lines, c.figure, c.want)
		}
	}
}

func TestJudgeLeavesOutWhatWasNotMeasured(t *testing.T) {
	r := &report{Subject: laneFaultline, Samples: rounds("unary-100-0B", laneGRPC, 100)}
	r.judge(rows)
	if len(r.Lines) != 0 || r.failed() != 0 {
		t.Errorf("lines %+v, want none without a measurement of the subject", r.Lines)
	}
}

func TestWrite(t *testing.T) {
	const w = "unary-100-0B"
	r := &report{Subject: laneFaultline, Others: .31}
	r.Samples = append(rounds(w, laneGRPC, 100, 200), rounds(w, laneFaultline, 600, 1400)...)
	r.Samples = append(r.Samples, sample{Workload: "pingpong-1", Lane: laneEcho, Error: "no route"})
	r.judge(rows)
	var b strings.Builder
	r.write(&b)
	for _, want := range []string{
		"6.50 (6.00-7.00)", "used 31% of the machine", "<= 8", "6.0, grpc-go 6.0", "goal", "pingpong-1, echo, round 1: no route",
	} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("report lacks %q:\n%s", want, b.String())
		}
	}
}

func TestRowsNameWorkloads(t *testing.T) {
	for _, r := range rows {
		if _, err := findWorkload(r.workload); err != nil {
			t.Errorf("row %q: %v", r.name, err)
		}
		if r.bar == 0 || r.goal == 0 || r.metric.absolute() != (r.goal < r.bar) {
			t.Errorf("row %q: bar %v and goal %v: both must be set, the goal no weaker", r.name, r.bar, r.goal)
		}
	}
}

func ns(v float64) time.Duration { return time.Duration(v) }

func TestOthers(t *testing.T) {
	before, err := parseStat([]byte("cpu  100 0 100 700 100 0 0 0 0 0\ncpu0 1 2 3\n"))
	if err != nil {
		t.Fatal(err)
	}
	after, err := parseStat([]byte("cpu  140 10 110 715 105 2 8 10 0 0\n"))
	if err != nil {
		t.Fatal(err)
	}
	after.own = 300 * time.Millisecond // 30 of the 70 busy ticks, of 100 in all
	if got := after.others(before); got != .4 {
		t.Errorf("others used %v, want 0.4", got)
	}
	if got := before.others(before); got != 0 {
		t.Errorf("others used %v in no time, want 0", got)
	}
	for _, bad := range []string{"", "cpu 1 2\n", "intr 1 2 3 4 5 6 7 8\n", "cpu 1 2 3 x 5 6 7 8\n"} {
		if m, err := parseStat([]byte(bad)); err == nil {
			t.Errorf("parseStat(%q) = %v, want an error", bad, m)
		}
	}
}
