// SPDX-License-Identifier: Apache-2.0

package fault

import (
	"bytes"
	"encoding/json"
	"fmt"
	"reflect"
	"strings"
	"time"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/faultline-rpc/faultline/codes"
	"github.com/faultline-rpc/faultline/internal/text"
)

// Format prints the fault. %v, %s and %q print what Error returns; %+v prints
// the whole ladder, one fact per line: circumstance, layer, side, processed,
// evidence, rungs, trail, attempts, the deadline's ledger, details, causes, remedy
// and specification. Text that a peer sent is shown with its control
// characters escaped.
func (f *Fault) Format(s fmt.State, verb rune) {
	if verb == 'v' && s.Flag('+') {
		s.Write(f.ladder())
		return
	}
	fmt.Fprintf(s, fmt.FormatString(s, verb), f.Error())
}

func (f *Fault) ladder() []byte {
	var l ladder
	l.WriteString(text.Printable(f.Error()))
	l.rung("circumstance", string(f.entry.ID)+": "+f.entry.Summary)
	if f.Misplaced() {
		l.rung("mistake", fmt.Sprintf("made with code %s, which this circumstance does not carry", codes.Name(f.misplaced)))
	}
	l.rung("layer", f.entry.Layer.String())
	l.rung("side", f.side.String())
	l.rung("processed", f.processed.String())
	for _, e := range f.Evidence().fields() {
		l.rung("evidence", fmt.Sprintf("%s: %v", e.name, e.value))
	}
	for _, r := range f.rungs {
		l.rung("above", strings.TrimSuffix(string(r.ID)+": "+r.Text, ": "))
	}
	for i, h := range f.Trail() {
		l.rung("trail", fmt.Sprintf("%d: %v", i+1, h))
	}
	for i, a := range f.attempts {
		l.rung("attempts", attemptText(i+1, a))
	}
	if f.ledger != nil {
		if f.ledger.Budget > 0 {
			l.rung("ledger", "budget: "+f.ledger.Budget.String())
		}
		if f.ledger.Elapsed != f.ledger.Budget {
			l.rung("ledger", "elapsed: "+f.ledger.Elapsed.String())
		}
		for _, p := range f.ledger.Phases {
			l.rung("ledger", phaseText(p))
		}
		if p := f.ledger.Peer.String(); p != "" {
			l.rung("ledger", p)
		}
	}
	for _, d := range f.details {
		l.rung("details", string(detailJSON(d)))
	}
	for _, c := range causes(f.cause) {
		l.rung("caused by", fmt.Sprintf("%T: %s", c, c.Error()))
	}
	l.rung("remedy", f.Remedy())
	l.rung("spec", f.entry.Spec)
	return l.Bytes()
}

// ladder writes aligned lines; a label is written above its first line only.
type ladder struct {
	bytes.Buffer
	last string
}

func (l *ladder) rung(label, words string) {
	shown := label
	if label == l.last {
		shown = ""
	}
	l.last = label
	fmt.Fprintf(l, "\n  %-12s  %s", shown, text.Printable(words))
}

func phaseText(p Phase) string {
	text := p.Name + ": " + p.Spent.String()
	if p.Attempt > 0 {
		text += fmt.Sprintf(" (attempt %d)", p.Attempt)
	}
	return text
}

func attemptText(n int, a Attempt) string {
	text := fmt.Sprintf("%d: %s %s, processed %s, after %v", n, a.ID, codes.Name(a.Code), a.Processed, a.Elapsed.Round(time.Microsecond))
	if a.Peer != "" {
		text += ", " + a.Peer
	}
	if a.Transparent {
		text += ", transparent"
	}
	return text
}

// maxCauses bounds how many errors of a chain are shown.
const maxCauses = 32

// causes returns err and what it wraps, depth first as errors.Is walks, at
// most 32 of them.
func causes(err error) []error {
	var all []error
	var walk func(error)
	walk = func(err error) {
		for err != nil && len(all) < maxCauses {
			all = append(all, err)
			switch x := err.(type) {
			case interface{ Unwrap() error }:
				err = x.Unwrap()
			case interface{ Unwrap() []error }:
				for _, e := range x.Unwrap() {
					walk(e)
				}
				return
			default:
				return
			}
		}
	}
	walk(err)
	return all
}

// field is one observed fact of an Evidence.
type field struct {
	name  string
	value any
}

// fields returns the facts that were observed, in the order of the type.
func (e Evidence) fields() []field {
	var all []field
	v := reflect.ValueOf(e)
	for i := range v.NumField() {
		if v.Field(i).IsZero() {
			continue
		}
		name, _, _ := strings.Cut(v.Type().Field(i).Tag.Get("json"), ",")
		all = append(all, field{name, v.Field(i).Interface()})
	}
	return all
}

// detailJSON renders a detail; one of a type that is not linked into the
// program keeps its type and its bytes.
func detailJSON(d *anypb.Any) json.RawMessage {
	var b bytes.Buffer
	// protojson varies its white space on purpose; Compact takes it out.
	if j, err := protojson.Marshal(d); err == nil && json.Compact(&b, j) == nil {
		return b.Bytes()
	}
	j, err := json.Marshal(struct {
		Type  string `json:"@type"`
		Bytes []byte `json:"bytes"`
	}{d.GetTypeUrl(), d.GetValue()})
	if err != nil { // a string and bytes always marshal
		return json.RawMessage("null")
	}
	return j
}
