// SPDX-License-Identifier: Apache-2.0

package fault

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"time"

	"github.com/faultline-rpc/faultline/codes"
)

// MarshalJSON writes the fault for machines:
//
//	{"code":"UNAVAILABLE","id":"dial.refused","layer":"dial","side":"remote","processed":"no",
//	 "message":..., "remedy":..., "spec":..., "details":[...], "evidence":{...}, "causes":[...],
//	 "rungs":[...], "attempts":[...], "ledger":{...}, "trail":[...]}
//
// Codes have their canonical names, durations are in nanoseconds, and what is
// empty is left out. Details are in protobuf's JSON form; one of a type that
// is not linked into the program is {"@type":..., "bytes":base64}.
func (f *Fault) MarshalJSON() ([]byte, error) {
	out := struct {
		Code      string            `json:"code"`
		ID        ID                `json:"id"`
		Layer     Layer             `json:"layer"`
		Side      Side              `json:"side"`
		Processed Processed         `json:"processed"`
		Message   string            `json:"message"`
		Remedy    string            `json:"remedy"`
		Spec      string            `json:"spec"`
		Details   []json.RawMessage `json:"details,omitempty"`
		Evidence  *Evidence         `json:"evidence,omitempty"`
		Causes    []causeJSON       `json:"causes,omitempty"`
		Rungs     []Rung            `json:"rungs,omitempty"`
		Attempts  []Attempt         `json:"attempts,omitempty"`
		Ledger    *Ledger           `json:"ledger,omitempty"`
		Trail     []Hop             `json:"trail,omitempty"`
	}{
		Code: codes.Name(f.code), ID: f.entry.ID, Layer: f.entry.Layer, Side: f.side, Processed: f.processed,
		Message: f.message, Remedy: f.Remedy(), Spec: f.entry.Spec,
		Evidence: f.evidence, Rungs: f.rungs, Attempts: f.attempts, Ledger: f.ledger, Trail: f.Trail(),
	}
	for _, d := range f.details {
		out.Details = append(out.Details, detailJSON(d))
	}
	for _, c := range causes(f.cause) {
		out.Causes = append(out.Causes, causeJSON{fmt.Sprintf("%T", c), c.Error()})
	}
	return json.Marshal(out)
}

type causeJSON struct {
	Type string `json:"type"`
	Text string `json:"text"`
}

// MarshalJSON writes the attempt, its code by its canonical name.
func (a Attempt) MarshalJSON() ([]byte, error) {
	return json.Marshal(struct {
		Peer        string        `json:"peer,omitempty"`
		ID          ID            `json:"id"`
		Code        string        `json:"code"`
		Processed   Processed     `json:"processed"`
		Elapsed     time.Duration `json:"elapsed_ns"`
		Transparent bool          `json:"transparent,omitempty"`
	}{a.Peer, a.ID, codes.Name(a.Code), a.Processed, a.Elapsed, a.Transparent})
}

// LogValue makes slog write the fault as a group. Details are named by their
// types alone: what they hold is the application's, and may be private.
func (f *Fault) LogValue() slog.Value {
	attrs := []slog.Attr{
		slog.String("code", codes.Name(f.code)),
		slog.String("id", string(f.entry.ID)),
		slog.String("layer", f.entry.Layer.String()),
		slog.String("side", f.side.String()),
		slog.String("processed", f.processed.String()),
		slog.String("message", f.message),
	}
	if fields := f.Evidence().fields(); len(fields) > 0 {
		group := make([]any, len(fields))
		for i, e := range fields {
			group[i] = slog.Any(e.name, e.value)
		}
		attrs = append(attrs, slog.Group("evidence", group...))
	}
	if f.cause != nil {
		attrs = append(attrs, slog.String("cause", f.cause.Error()))
	}
	if len(f.details) > 0 {
		types := make([]string, len(f.details))
		for i, d := range f.details {
			types[i] = string(d.MessageName())
		}
		attrs = append(attrs, slog.Any("details", types))
	}
	if len(f.rungs) > 0 {
		ids := make([]string, len(f.rungs))
		for i, r := range f.rungs {
			ids[i] = string(r.ID)
		}
		attrs = append(attrs, slog.Any("rungs", ids))
	}
	if len(f.attempts) > 0 {
		attrs = append(attrs, slog.Int("attempts", len(f.attempts)))
	}
	if f.ledger != nil {
		attrs = append(attrs, ledgerAttr(f.ledger))
	}
	if trail := f.Trail(); len(trail) > 0 {
		lines := make([]string, len(trail))
		for i, h := range trail {
			lines[i] = h.String()
		}
		attrs = append(attrs, slog.Any("trail", lines))
	}
	return slog.GroupValue(attrs...)
}

func ledgerAttr(l *Ledger) slog.Attr {
	group := make([]any, 0, len(l.Phases)+3)
	if l.Budget > 0 {
		group = append(group, slog.Duration("budget", l.Budget))
	}
	group = append(group, slog.Duration("elapsed", l.Elapsed))
	for _, p := range l.Totals() { // a group has a key once
		group = append(group, slog.Duration(p.Name, p.Spent))
	}
	if l.Peer != nil {
		group = append(group, slog.String("peer", string(l.Peer.State)))
	}
	return slog.Group("ledger", group...)
}
