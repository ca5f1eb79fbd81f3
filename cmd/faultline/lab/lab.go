// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/faultline-rpc/faultline/codes"
	"github.com/faultline-rpc/faultline/doctor"
	"github.com/faultline-rpc/faultline/fault"
)

// Healthy stands in the place of an id where nothing is wrong.
const Healthy = "healthy"

// Diagnosis is what a peer suffers from.
type Diagnosis struct {
	ID    string `json:"id"` // or Healthy
	Layer string `json:"layer"`
	Code  string `json:"code"`
}

// Result is one peer's.
type Result struct {
	Peer      string    `json:"peer"`
	Expected  Diagnosis `json:"expected"`
	Found     Diagnosis `json:"found"`
	OK        bool      `json:"ok"`
	Message   string    `json:"message"` // what the doctor said
	ElapsedMS float64   `json:"elapsed_ms"`
}

// Report is what became of all peers.
type Report struct {
	OK        bool     `json:"ok"`
	Passed    int      `json:"passed"`
	Failed    int      `json:"failed"`
	Peers     []Result `json:"peers"`
	ElapsedMS float64  `json:"elapsed_ms"`
}

// Run starts the peers one after the other and diagnoses each. told, which may
// be nil, hears of each. It takes some ten seconds and leaves nothing running.
func Run(ctx context.Context, told func(Result)) Report {
	start := time.Now()
	rep := Report{OK: true}
	for _, p := range Patients() {
		r := p.Diagnose(ctx)
		if r.OK {
			rep.Passed++
		} else {
			rep.Failed++
		}
		rep.OK = rep.OK && r.OK
		rep.Peers = append(rep.Peers, r)
		if told != nil {
			told(r)
		}
	}
	rep.ElapsedMS = float64(time.Since(start).Microseconds()) / 1000
	return rep
}

// Patient is a peer and what it suffers from.
type Patient struct {
	Name string
	want string     // an id, or Healthy
	code codes.Code // OK: the id's default
	note string     // the id of a note that a healthy one is expected to have
	show func(w *ward) (doctor.Config, error)
}

// Expected is the diagnosis that is right.
func (p Patient) Expected() Diagnosis {
	if p.want == Healthy {
		d := Diagnosis{ID: Healthy, Code: codes.Name(codes.OK)}
		if p.note != "" {
			d.ID += ", " + p.note
		}
		return d
	}
	e := fault.Lookup(fault.ID(p.want))
	if e == nil {
		return Diagnosis{ID: p.want}
	}
	code := p.code
	if code == codes.OK && len(e.Codes) > 0 {
		code = e.Codes[0]
	}
	return Diagnosis{p.want, e.Layer.String(), codes.Name(code)}
}

// Diagnose starts the peer, examines it, and ends it.
func (p Patient) Diagnose(ctx context.Context) Result {
	res := Result{Peer: p.Name, Expected: p.Expected()}
	start := time.Now()
	rep, err := p.Examine(ctx)
	res.ElapsedMS = float64(time.Since(start).Microseconds()) / 1000
	if err != nil {
		res.Message = err.Error()
		return res
	}
	res.Found = diagnosis(rep, p.note)
	res.Message = rep.Verdict.Message
	res.OK = res.Found == res.Expected
	return res
}

// Examine starts the peer, examines it, and ends it. The error says that the
// peer did not do its part.
func (p Patient) Examine(ctx context.Context) (rep *doctor.Report, err error) {
	w := new(ward)
	defer func() { err = errors.Join(err, w.close()) }()
	cfg, err := p.show(w)
	if err != nil {
		return nil, fmt.Errorf("the peer cannot be started: %w", err)
	}
	cfg.NoProxy = true
	return doctor.Examine(ctx, cfg), nil
}

// diagnosis is the doctor's, with the note that was expected if it was made.
func diagnosis(r *doctor.Report, note string) Diagnosis {
	if !r.Healthy {
		return Diagnosis{string(r.Verdict.ID), r.Verdict.Layer.String(), codes.Name(r.Verdict.Code)}
	}
	d := Diagnosis{ID: Healthy, Code: codes.Name(codes.OK)}
	for _, p := range r.Probes {
		if p.Status == doctor.Note && p.Finding != nil && string(p.Finding.ID) == note {
			d.ID += ", " + string(p.Finding.ID)
		}
	}
	return d
}
