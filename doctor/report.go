// SPDX-License-Identifier: Apache-2.0

package doctor

import (
	"encoding/json"
	"fmt"
	"time"

	"github.com/faultline-rpc/faultline/codes"
	"github.com/faultline-rpc/faultline/fault"
)

// Report is the result of an examination. As JSON it is
//
//	{"target": "host:443", "healthy": false,
//	 "verdict": {"id": "dial.refused", "layer": "dial", "code": "UNAVAILABLE", "summary": "...", "remedy": "...",
//	             "side": "remote", "processed": "no", "message": "...", "spec": "..."},
//	 "probes": [{"name": "name", "status": "ok", "elapsed_ms": 0.4, "summary": "...", "evidence": {...}, "finding": {...}}],
//	 "elapsed_ms": 12.5}
//
// The verdict on a healthy target has the code OK and no id.
type Report struct {
	Target  string
	Healthy bool
	Verdict Finding
	Probes  []Probe
	Elapsed time.Duration
}

// MarshalJSON writes the report for machines.
func (r *Report) MarshalJSON() ([]byte, error) {
	return json.Marshal(struct {
		Target  string  `json:"target"`
		Healthy bool    `json:"healthy"`
		Verdict Finding `json:"verdict"`
		Probes  []Probe `json:"probes"`
		Elapsed float64 `json:"elapsed_ms"`
	}{r.Target, r.Healthy, r.Verdict, r.Probes, ms(r.Elapsed)})
}

// Status is how a probe ended.
type Status string

// The ways a probe ends.
const (
	OK      Status = "ok"      // as it should be
	Note    Status = "note"    // worth knowing, and no illness
	Failed  Status = "failed"  // this is where it broke
	Skipped Status = "skipped" // not made: something below it failed, or there was nothing to ask
)

// Probe is one rung of the ladder.
type Probe struct {
	Name     string
	Status   Status
	Elapsed  time.Duration
	Summary  string // one line
	Evidence []Fact
	Finding  *Finding // of a probe that failed, and of some notes
}

// MarshalJSON writes the probe for machines.
func (p Probe) MarshalJSON() ([]byte, error) {
	return json.Marshal(struct {
		Name     string   `json:"name"`
		Status   Status   `json:"status"`
		Elapsed  float64  `json:"elapsed_ms"`
		Summary  string   `json:"summary"`
		Evidence facts    `json:"evidence,omitempty"`
		Finding  *Finding `json:"finding,omitempty"`
	}{p.Name, p.Status, ms(p.Elapsed), p.Summary, p.Evidence, p.Finding})
}

// Fact is one thing that a probe observed.
type Fact struct{ Name, Value string }

// facts are an object in JSON, in the order of observation. A name that
// repeats is numbered.
type facts []Fact

func (f facts) MarshalJSON() ([]byte, error) {
	b := []byte{'{'}
	seen := map[string]int{}
	for i, one := range f {
		if i > 0 {
			b = append(b, ',')
		}
		name := one.Name
		if seen[name]++; seen[name] > 1 {
			name = fmt.Sprintf("%s %d", name, seen[name])
		}
		for j, s := range []string{name, one.Value} {
			q, err := json.Marshal(s)
			if err != nil {
				return nil, err
			}
			if j == 1 {
				b = append(b, ':')
			}
			b = append(b, q...)
		}
	}
	return append(b, '}'), nil
}

func ms(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

// Finding is a circumstance that a probe met. All but Code, Side, Processed,
// Message and what Remedy says first is the catalogue's.
type Finding struct {
	ID        fault.ID
	Layer     fault.Layer
	Code      codes.Code
	Side      fault.Side
	Processed fault.Processed
	Message   string // what happened here
	Summary   string
	Cause     string
	Remedy    string
	Spec      string

	waiting string // what the connection waited for as it ended, of [fault.Evidence]
}

// MarshalJSON writes the finding for machines.
func (f Finding) MarshalJSON() ([]byte, error) {
	type object struct {
		ID        fault.ID         `json:"id"`
		Layer     string           `json:"layer"`
		Code      string           `json:"code"`
		Summary   string           `json:"summary"`
		Remedy    string           `json:"remedy"`
		Side      *fault.Side      `json:"side,omitempty"`
		Processed *fault.Processed `json:"processed,omitempty"`
		Message   string           `json:"message,omitempty"`
		Spec      string           `json:"spec,omitempty"`
	}
	o := object{ID: f.ID, Code: codes.Name(codes.Known(f.Code)), Summary: f.Summary, Remedy: f.Remedy, Message: f.Message, Spec: f.Spec}
	if f.ID != "" {
		o.Layer, o.Side, o.Processed = f.Layer.String(), &f.Side, &f.Processed
	}
	return json.Marshal(o)
}

// found is the finding for a fault.
func found(f *fault.Fault) *Finding {
	n := named(f.ID())
	n.Code, n.Side, n.Processed, n.Message, n.Remedy = f.Code(), f.Side(), f.Processed(), f.Message(), f.Remedy()
	n.waiting = f.Evidence().Waiting
	return n
}

// named is the finding for a circumstance of the catalogue that the doctor
// concludes, where no client would have a fault.
func named(id fault.ID) *Finding {
	e := fault.Lookup(id)
	n := &Finding{ID: e.ID, Layer: e.Layer, Summary: e.Summary, Cause: e.Cause, Remedy: e.Remedy, Spec: e.Spec, Code: codes.Unknown}
	if len(e.Codes) > 0 {
		n.Code = e.Codes[0]
	}
	n.Message = string(e.ID) + ": " + e.Summary
	return n
}

// says gives the finding a message of its own.
func (f *Finding) says(side fault.Side, processed fault.Processed, format string, args ...any) *Finding {
	f.Side, f.Processed = side, processed
	f.Message = string(f.ID) + ": " + fmt.Sprintf(format, args...)
	return f
}

// suggests puts the name that was probably meant before the remedy.
func (f *Finding) suggests(nearest string) *Finding {
	if nearest != "" {
		f.Remedy = "Call " + nearest + ", if that was meant. " + f.Remedy
	}
	return f
}
