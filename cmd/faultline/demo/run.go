// SPDX-License-Identifier: Apache-2.0

package demo

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"time"
)

const (
	// caseTime bounds one case, caseTime and patience with its clean-up.
	caseTime = 5 * time.Second
	// runTime bounds a whole run; what is left then fails.
	runTime = 45 * time.Second
)

// Report is the result of a run. Its JSON is what --json prints:
//
//	{"ok": true, "passed": 38, "failed": 0, "elapsed_ms": 1234, "server": "127.0.0.1:40000",
//	 "kinds": [{"kind": "unary", "method": "/package.Service/Method", "sent": 1, "received": 1, "ok": true, "error": "..."}],
//	 "rows": [{"number": 1, "group": "General errors", "circumstance": "Client application ...", "code": "CANCELLED",
//	           "source": "https://...", "ok": true,
//	           "cases": [{"name": "cancel-client", "role": "client", "did": "...", "why": "...",
//	                      "expected": {"id": "call.cancelled", "code": "CANCELLED", "layer": "call", "side": "local", "processed": "maybe"},
//	                      "received": {"id": ..., "code": ..., "layer": ..., "side": ..., "processed": ..., "message": "..."},
//	                      "ok": true, "error": "...", "elapsed_ms": 5}]}]}
//
// error and why are left out where there is none; passed and failed count the
// kinds and the cases. Values are as fault's JSON spells them, and "-" stands
// for what the observer was not told.
type Report struct {
	OK        bool        `json:"ok"`
	Passed    int         `json:"passed"`
	Failed    int         `json:"failed"`
	ElapsedMS int64       `json:"elapsed_ms"`
	Server    string      `json:"server"`
	Kinds     []Kind      `json:"kinds"`
	Rows      []RowResult `json:"rows"`
}

// RowResult is what became of a row.
type RowResult struct {
	Number       int          `json:"number"`
	Group        string       `json:"group"`
	Circumstance string       `json:"circumstance"`
	Code         string       `json:"code"`
	Source       string       `json:"source"`
	OK           bool         `json:"ok"`
	Cases        []CaseResult `json:"cases"`
}

// CaseResult is what became of a case.
type CaseResult struct {
	Name     string      `json:"name"`
	Role     string      `json:"role"`
	Did      string      `json:"did"`
	Why      string      `json:"why,omitempty"`
	Expected Outcome     `json:"expected"`
	Received Observation `json:"received"`
	OK       bool        `json:"ok"`
	// Error says why nothing was received, or what is wrong beside it.
	Error     string `json:"error,omitempty"`
	ElapsedMS int64  `json:"elapsed_ms"`
}

// Progress is told of a run's parts as they are done. Nil fields are not called.
type Progress struct {
	Kinds func(server string, all []Kind)
	Row   func(RowResult)
}

// Run makes the calls of the four kinds and provokes every row. It takes a few
// seconds, at most 45 and what a clean-up lasts, and leaves nothing running.
func Run(ctx context.Context, rows []Row, told Progress) Report {
	ctx, cancel := context.WithTimeoutCause(ctx, runTime, fmt.Errorf("the demo's %v are over", runTime))
	defer cancel()
	start := time.Now()
	var rep Report
	rep.runKinds(ctx)
	if told.Kinds != nil {
		told.Kinds(rep.Server, rep.Kinds)
	}
	all := provocations()
	for _, r := range rows {
		res := RowResult{r.Number, r.Group, r.Circumstance, r.Code, r.Source, true, nil}
		for _, c := range r.Cases {
			one := provoke(ctx, c, all[c.Name])
			rep.count(one.OK)
			res.OK = res.OK && one.OK
			res.Cases = append(res.Cases, one)
		}
		rep.Rows = append(rep.Rows, res)
		if told.Row != nil {
			told.Row(res)
		}
	}
	rep.OK = rep.Failed == 0
	rep.ElapsedMS = time.Since(start).Milliseconds()
	return rep
}

func (rep *Report) count(ok bool) {
	if ok {
		rep.Passed++
	} else {
		rep.Failed++
	}
}

func (rep *Report) runKinds(ctx context.Context) {
	_, err := bounded(ctx, func(ctx context.Context, l *lab) (o Observation, err error) {
		rep.Server, rep.Kinds, err = kinds(ctx, l)
		return o, err
	})
	if err != nil {
		rep.Kinds = append(rep.Kinds, Kind{Kind: "embedded server", Error: err.Error()})
	}
	for _, k := range rep.Kinds {
		rep.count(k.OK)
	}
}

// provocations are all cases by name.
func provocations() map[string]provocation {
	all := map[string]provocation{}
	for _, group := range []map[string]provocation{general, network, protocol} {
		maps.Copy(all, group)
	}
	return all
}

// provoke brings a case about.
func provoke(ctx context.Context, c Case, how provocation) CaseResult {
	res := CaseResult{Name: c.Name, Role: c.Role, Did: how.did, Why: c.Why, Expected: c.Expected}
	start := time.Now()
	var err error
	if how.run == nil {
		err = fmt.Errorf("nothing provokes a case called %q", c.Name)
	} else {
		res.Received, err = bounded(ctx, how.run)
	}
	res.ElapsedMS = time.Since(start).Milliseconds()
	if err != nil {
		res.Error = err.Error()
	}
	res.OK = err == nil && res.Received.Outcome == c.Expected
	return res
}

// bounded runs f in a lab of its own, which it cleans up. It does not wait for
// longer than that may take.
func bounded(ctx context.Context, f func(context.Context, *lab) (Observation, error)) (Observation, error) {
	type result struct {
		o   Observation
		err error
	}
	done := make(chan result, 1)
	go func() {
		ctx, cancel := context.WithTimeoutCause(ctx, caseTime, fmt.Errorf("it took more than %v", caseTime))
		defer cancel()
		l := new(lab)
		o, err := f(ctx, l)
		done <- result{o, errors.Join(err, l.close())}
	}()
	t := time.NewTimer(caseTime + patience)
	defer t.Stop()
	select {
	case r := <-done:
		return r.o, r.err
	case <-t.C:
		return Observation{}, fmt.Errorf("it has not ended after %v", caseTime+patience)
	}
}
