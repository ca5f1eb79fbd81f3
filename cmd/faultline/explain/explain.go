// SPDX-License-Identifier: Apache-2.0

package explain

import (
	"regexp"
	"slices"
	"strings"

	"github.com/faultline-rpc/faultline/codes"
	"github.com/faultline-rpc/faultline/fault"
	"github.com/faultline-rpc/faultline/internal/near"
)

// Kind says what was recognized.
type Kind string

// The kinds.
const (
	KindCircumstance Kind = "circumstance" // an id
	KindCode         Kind = "code"         // a code's name or number
	KindText         Kind = "text"         // an error text
	KindUnknown      Kind = "unknown"      // nothing in it is known
)

// Result is what is known of an input.
type Result struct {
	Kind Kind `json:"kind"`
	// Circumstance is the page asked for, of KindCircumstance.
	Circumstance *Page `json:"circumstance,omitempty"`
	// Code is the code asked for, or the one that a text names.
	Code *CodePage `json:"code,omitempty"`
	// Phrases are what was recognized in a text, the most telling first.
	Phrases []Recognized `json:"phrases,omitempty"`
	// Candidates are the circumstances a text can mean, the likeliest first.
	// Without Phrases they are what its code suggests.
	Candidates []Candidate `json:"candidates,omitempty"`
	// Nearest is an id, or a code's name, like the one asked for.
	Nearest string `json:"nearest,omitempty"`
}

// Recognized is a phrase found in a text.
type Recognized struct {
	Found  string   `json:"found"`
	From   []string `json:"from"`
	Source string   `json:"source,omitempty"`
}

// Candidate is a circumstance that a text can mean.
type Candidate struct {
	ID      fault.ID `json:"id"`
	Summary string   `json:"summary"`
	// Tell is how to tell it from the other candidates.
	Tell   string `json:"tell,omitempty"`
	Remedy string `json:"remedy"`
	// Certain marks one that the text itself names by its id.
	Certain bool `json:"certain,omitempty"`
}

// Page is an entry of the catalogue.
type Page struct {
	ID       fault.ID    `json:"id"`
	Layer    fault.Layer `json:"layer"`
	Codes    []string    `json:"codes"` // empty: any
	RaisedBy string      `json:"raised_by"`
	Summary  string      `json:"summary"`
	Cause    string      `json:"cause"`
	Remedy   string      `json:"remedy"`
	// Processed says whether a handler may have run.
	Processed string `json:"processed"`
	Spec      string `json:"spec"`
}

// CodePage is what is known of a code.
type CodePage struct {
	Name    string `json:"name"`
	Number  int    `json:"number"`
	Meaning string `json:"meaning"`
	Retry   string `json:"retry,omitempty"`
	HTTP    int    `json:"http"`
	By      string `json:"by"`
	// Circumstances are those that carry it.
	Circumstances []Listed `json:"circumstances"`
}

// Listed is a circumstance in a list.
type Listed struct {
	ID      fault.ID `json:"id"`
	Summary string   `json:"summary"`
}

// Explain says what is known of input: an id, a code's name or number, or an
// error text of any gRPC stack.
func Explain(input string) (Result, error) {
	text := clean(input)
	if e := fault.Lookup(fault.ID(strings.ToLower(text))); e != nil {
		return Result{Kind: KindCircumstance, Circumstance: pageOf(e)}, nil
	}
	if c, ok := parseCode(text); ok {
		return Result{Kind: KindCode, Code: codePage(c)}, nil
	}
	return explainText(text)
}

func explainText(text string) (Result, error) {
	res := Result{Kind: KindText}
	if c, ok := CodeIn(text); ok {
		res.Code = codePage(c)
	}
	for _, id := range ownIDs(text) {
		res.Phrases = append(res.Phrases, Recognized{Found: string(id), From: []string{"faultline"}})
		res.add(Meaning{ID: id}, true)
	}
	if len(res.Candidates) > 0 {
		return res, nil // nothing can say it better
	}
	found, err := search(text)
	if err != nil {
		return res, err
	}
	if code, ok := CodeIn(text); ok && len(found) > 0 && foreign(text, code, found[0].Phrase.Means[0].ID) {
		res.add(passedOn(code), false)
	}
	for _, m := range found {
		res.Phrases = append(res.Phrases, Recognized{m.Found, m.Phrase.From, m.Phrase.Source})
		if m.Phrase.Wrapper && !found[0].Phrase.Wrapper {
			continue // what it surrounds is known
		}
		for _, means := range m.Phrase.Means {
			res.add(means, false)
		}
	}
	switch {
	case len(res.Candidates) > 0:
	case res.Code != nil:
		res.suggest(codes.Code(res.Code.Number))
	default:
		res.Kind = KindUnknown
		res.Nearest = near.Name(text, names())
	}
	return res, nil
}

// add appends a candidate that is not there yet.
func (r *Result) add(m Meaning, certain bool) {
	if slices.ContainsFunc(r.Candidates, func(c Candidate) bool { return c.ID == m.ID }) {
		return
	}
	e := fault.Lookup(m.ID)
	if e == nil { // tests exclude it
		return
	}
	r.Candidates = append(r.Candidates, Candidate{e.ID, e.Summary, m.Tell, e.Remedy, certain})
}

var idShape = regexp.MustCompile(`\b[a-z0-9]+\.[a-z0-9]+(?:-[a-z0-9]+)*\b`)

// ownIDs finds the ids of circumstances in a text: Faultline's own messages
// open with them, its ladders and logs name them.
func ownIDs(text string) []fault.ID {
	var ids []fault.ID
	for _, s := range idShape.FindAllString(text, -1) {
		if id := fault.ID(s); fault.Lookup(id) != nil && !slices.Contains(ids, id) {
			ids = append(ids, id)
		}
	}
	return ids
}

// names are what may be asked for by name.
func names() []string {
	var all []string
	for _, e := range fault.Catalogue() {
		all = append(all, string(e.ID))
	}
	for _, c := range codes.All() {
		if c != codes.OK { // too short to be like anything
			all = append(all, codes.Name(c))
		}
	}
	return all
}

// processed says in words what the rule of the catalogue's entries is.
func processed(e *fault.Entry) string {
	switch e.Layer {
	case fault.LayerResolve, fault.LayerPick, fault.LayerDial, fault.LayerTLS, fault.LayerPolicy:
		return neverRan
	}
	if p, ok := processedOf[e.ID]; ok {
		return p
	}
	return "maybe, unless the failure itself proves more: read the value in the error (fault.Processed)"
}

const (
	neverRan = "no: the call never reached a handler, and is safe to repeat"
	hasRun   = "yes: the handler ran"
)

// processedOf are the circumstances that are always the same.
var processedOf = map[fault.ID]string{
	"http2.tls-peer": neverRan, "http2.http1-peer": neverRan, "http2.not-http2": neverRan, "http2.preface-timeout": neverRan,
	"http2.goaway": neverRan, "http2.refused-stream": neverRan,
	"wire.bad-timeout": neverRan, "wire.not-grpc-request": neverRan, "wire.not-post": neverRan, "wire.authority": neverRan, "wire.illegal-metadata": neverRan,
	"codec.request-parse": neverRan, "codec.compressor-unsupported": neverRan, "codec.subtype": neverRan, "codec.response-parse": hasRun,
	"call.deadline-past": neverRan, "call.credentials": neverRan, "call.insecure-credentials": neverRan,
	"server.draining": neverRan, "server.overloaded": "no, unless a streaming handler had begun",
	"handler.unknown-service": neverRan, "handler.unknown-method": neverRan,
	"handler.panic": hasRun, "handler.not-status": hasRun, "handler.context": hasRun, "handler.upstream": hasRun,
}

func pageOf(e *fault.Entry) *Page {
	p := &Page{
		ID: e.ID, Layer: e.Layer, Codes: []string{}, RaisedBy: e.By.String(), Summary: e.Summary, Cause: e.Cause, Remedy: e.Remedy,
		Processed: processed(e), Spec: e.Spec,
	}
	for _, c := range e.Codes {
		p.Codes = append(p.Codes, codes.Name(c))
	}
	return p
}

func codePage(c codes.Code) *CodePage {
	info := codes.About(c)
	p := &CodePage{Name: codes.Name(c), Number: int(c), Meaning: info.Meaning, HTTP: info.HTTP, By: info.By.String(), Retry: info.Advice, Circumstances: []Listed{}}
	for _, e := range fault.Catalogue() {
		if slices.Contains(e.Codes, c) {
			p.Circumstances = append(p.Circumstances, Listed{e.ID, e.Summary})
		}
	}
	if c != codes.OK {
		for _, e := range fault.Catalogue() {
			if len(e.Codes) == 0 {
				p.Circumstances = append(p.Circumstances, Listed{e.ID, e.Summary})
			}
		}
	}
	return p
}
