// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"context"
	"encoding/json"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/faultline-rpc/faultline/codes"
	"github.com/faultline-rpc/faultline/doctor"
	"github.com/faultline-rpc/faultline/fault"
)

// TestPatients diagnoses every peer, and holds each report against what all
// reports promise.
func TestPatients(t *testing.T) {
	before := runtime.NumGoroutine()
	for _, p := range Patients() {
		t.Run(p.Name, func(t *testing.T) {
			rep, err := p.Examine(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if got, want := diagnosis(rep, p.note), p.Expected(); got != want {
				t.Errorf("found %+v, want %+v: %s", got, want, rep.Verdict.Message)
			}
			checkReport(t, rep)
		})
	}
	waitForGoroutines(t, before)
}

// checkReport is what every report promises.
func checkReport(t *testing.T, r *doctor.Report) {
	t.Helper()
	var failed, reached int
	for i, p := range r.Probes {
		switch p.Status {
		case doctor.Failed:
			failed++
			if p.Finding == nil {
				t.Errorf("rung %s failed without a finding", p.Name)
			}
		case doctor.Skipped:
			if p.Elapsed != 0 || i == 0 {
				t.Errorf("rung %d, %s, was skipped: %+v", i, p.Name, p)
			}
		case doctor.OK, doctor.Note:
		default:
			t.Errorf("rung %s has the status %q", p.Name, p.Status)
		}
		if p.Summary == "" || p.Name == "" {
			t.Errorf("rung %+v says nothing", p)
		}
		if p.Status != doctor.Skipped {
			reached = i
		}
	}
	if r.Healthy {
		if v := r.Verdict; failed > 0 || v.ID != "" || v.Code != codes.OK {
			t.Errorf("healthy with %d failed rungs and the verdict %+v", failed, v)
		}
		return
	}
	v := r.Verdict
	e := fault.Lookup(v.ID)
	if e == nil || v.Layer != e.Layer || v.Remedy == "" || v.Summary != e.Summary || v.Spec != e.Spec || v.Message == "" {
		t.Errorf("the verdict %+v is not the catalogue's %+v", v, e)
	}
	if failed == 0 || r.Probes[reached].Elapsed < 0 {
		t.Errorf("sick, and no rung failed: %+v", r.Probes)
	}
}

// waitForGoroutines waits until those that a test left behind have ended.
func waitForGoroutines(t *testing.T, before int) {
	t.Helper()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(5 * time.Second); runtime.NumGoroutine() > before; <-tick.C {
		if time.Now().After(deadline) {
			buf := make([]byte, 1<<20)
			t.Fatalf("%d goroutines, before there were %d:\n%s", runtime.NumGoroutine(), before, buf[:runtime.Stack(buf, true)])
		}
	}
}

// TestPatientsAreTold demands that each circumstance that a client meets on
// its way to an answer has a peer that suffers from it.
func TestPatientsAreTold(t *testing.T) {
	have := map[string]bool{}
	names := map[string]bool{}
	for _, p := range Patients() {
		if names[p.Name] {
			t.Errorf("two peers are called %q", p.Name)
		}
		names[p.Name] = true
		if d := p.Expected(); d.Code == "" {
			t.Errorf("%s: %s is no circumstance of the catalogue", p.Name, p.want)
		}
		have[p.want] = true
	}
	for _, e := range fault.Catalogue() {
		switch e.Layer {
		case fault.LayerDial, fault.LayerTLS, fault.LayerHTTP2:
		case fault.LayerWire:
			if e.By == fault.ByServer || e.ID == "wire.illegal-metadata" || e.ID == "wire.authority" {
				continue
			}
		default:
			continue
		}
		switch e.ID {
		case "dial.permission", "dial.proxy": // tested beside the doctor: they need another user, and an environment
			continue
		}
		if !have[string(e.ID)] {
			t.Errorf("no peer suffers from %s", e.ID)
		}
	}
}

// TestRun is the lab under a context that has ended: everything is wrong, and
// says so.
func TestRun(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	told := 0
	rep := Run(ctx, func(Result) { told++ })
	if rep.OK || rep.Failed == 0 || told != len(Patients()) || len(rep.Peers) != told || rep.Passed+rep.Failed != told {
		t.Errorf("ok %v, %d passed, %d failed, %d told of %d", rep.OK, rep.Passed, rep.Failed, told, len(Patients()))
	}
	b, err := json.Marshal(rep)
	if err != nil || !strings.Contains(string(b), `"id":"call.cancelled"`) {
		t.Errorf("%v: %s", err, b)
	}
}
