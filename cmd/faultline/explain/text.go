// SPDX-License-Identifier: Apache-2.0

package explain

import (
	"regexp"
	"slices"
	"strings"

	"github.com/faultline-rpc/faultline/codes"
	"github.com/faultline-rpc/faultline/fault"
)

// A text comes as somebody copied it: out of a log in JSON, a terminal with
// colours, a chat that made its quotes curly.

var (
	colours = regexp.MustCompile("\x1b\\[[0-9;?]*[ -/]*[@-~]|\x1b\\][^\x07\x1b]*(?:\x07|\x1b\\\\)")
	margin  = regexp.MustCompile(`[ \t]*\n[\s│|>]*`)

	typography = strings.NewReplacer("“", `"`, "”", `"`, "„", `"`, "’", "'", "‘", "'", "\u00a0", " ", "\u202f", " ", "\u200b", "", "\ufeff", "",
		"&quot;", `"`, "&#34;", `"`, "&#39;", "'", "&apos;", "'", "&lt;", "<", "&gt;", ">", "&amp;", "&", "\r\n", "\n", "\r", "\n")
	escapes = strings.NewReplacer(`\\`, `\`, `\"`, `"`, `\'`, `'`, `\n`, "\n", `\r`, "", `\t`, "\t", `\/`, "/", `\u0022`, `"`, `\u0027`, "'", `\u003c`, "<", `\u003e`, ">", `\u0026`, "&", `\u00a0`, " ")
)

// maxNesting bounds how often a text may have been quoted within a quotation.
const maxNesting = 4

// clean undoes that.
func clean(text string) string {
	text = typography.Replace(colours.ReplaceAllString(text, ""))
	for range maxNesting {
		next := escapes.Replace(text)
		if next == text {
			break
		}
		text = next
	}
	return strings.TrimSpace(text)
}

// Of a text of several lines that is no longer than this, the lines may be what
// somebody's window made of it; and what spans them is no longer than that.
const (
	maxFlow = 3000
	maxSpan = 250
)

// entries are lines of a log, each about something else.
var entries = regexp.MustCompile(`(?m)^\s*[{\["]*(?:\w+":"?)?\d{4}[-/]\d\d[-/]\d\d.*\n(?s:.*)^[{\["]*(?:\w+":"?)?\d{4}[-/]\d\d[-/]\d\d`)

// search looks for phrases in a cleaned text, and in the text without its line
// breaks: in place of each a space, as where somebody wrapped it between words,
// or nothing, as where a terminal did.
func search(text string) ([]Match, error) {
	all, err := find(text)
	if err != nil || len(text) > maxFlow || !strings.Contains(text, "\n") || entries.MatchString(text) {
		return all, err
	}
	for _, gap := range []string{" ", ""} {
		more, err := find(margin.ReplaceAllString(text, gap))
		if err != nil {
			return nil, err
		}
		for _, m := range more {
			if len(m.Found) <= maxSpan && !slices.ContainsFunc(all, func(a Match) bool { return a.Phrase == m.Phrase }) {
				all = append(all, m)
			}
		}
	}
	sortMatches(all)
	return all, nil
}

// parseCode reads a code as people write it by itself: its name in any
// spelling, its number, both, and with words such as "code =" around.
func parseCode(text string) (code codes.Code, ok bool) {
	words := strings.FieldsFunc(text, func(r rune) bool {
		return r != '_' && r != '-' && (r < '0' || r > '9') && (r < 'a' || r > 'z') && (r < 'A' || r > 'Z')
	})
	if len(words) > 8 {
		return 0, false
	}
	for _, w := range words {
		if slices.Contains(noise, strings.ToLower(w)) {
			continue
		}
		w = strings.TrimPrefix(strings.ReplaceAll(w, "-", "_"), "GRPC_STATUS_")
		c, err := codes.Parse(w)
		if err != nil || ok && c != code {
			return 0, false
		}
		code, ok = c, true
	}
	return code, ok
}

// noise are words around a code.
var noise = []string{"code", "codes", "status", "statuscode", "statuscodes", "grpc", "grpc-status", "grpc_status", "rpc", "error", "err", "core", "io", "desc"}

// codeShapes are how the stacks write a code; what is found first is taken.
var codeShapes = []*regexp.Regexp{
	regexp.MustCompile(`code = (\w+)`),                                     // grpc-go
	regexp.MustCompile(`Code: (\w+)`),                                      // grpcurl
	regexp.MustCompile(`StatusCode(?:\.|=)"?(\w+)`),                        // Python, C#
	regexp.MustCompile(`GRPC::(\w+)`),                                      // Ruby
	regexp.MustCompile(`\b\d{1,2} ([A-Z][A-Z_]+):`),                        // grpc-js
	regexp.MustCompile(`status: (\w+)`),                                    // tonic
	regexp.MustCompile(`\[([a-z_]+)\] `),                                   // connect-es
	regexp.MustCompile(`[Cc]ode[:=] ?"?([A-Za-z_]+)`),                      // Java's Status{code=...}, JSON
	regexp.MustCompile(`"code" ?: ?"?(\w+)`),                               // JSON
	regexp.MustCompile(`\b([A-Z]{5,}(?:_[A-Z]+)*)\b`),                      // Java's exception
	regexp.MustCompile(`(?m)^(?:\w+: )*?([a-z]+(?:_[a-z]+)*): `),           // connect-go
	regexp.MustCompile(`grpc[-_]status["']?[:= ]+"?(\d{1,2})\b`),           // headers
	regexp.MustCompile(`\bexceptions\.(\w+): \d{3} `),                      // google.api_core
	regexp.MustCompile(`\b(?:RpcException|RpcError|ConnectError)\W+(\w+)`), // others
	regexp.MustCompile(`(?m)^\s*code: (\d{1,2}),?$`),                       // an object that Node prints
	regexp.MustCompile(`\b([a-z]+(?:[A-Z][a-z]+)*) \(\d{1,2}\)`),           // grpc-swift
}

// inner is how C-core writes an error within an error, and Rust one of the
// system: what is there is not the call's code.
var inner = regexp.MustCompile(`(last error: |debug_error_string = "|debug_error_string:\{|\[)UNKNOWN:|Os \{ code: \d+`)

// CodeIn finds the code that an error text names.
func CodeIn(text string) (codes.Code, bool) {
	text = inner.ReplaceAllString(text, "$1")
	for _, shape := range codeShapes {
		for _, m := range shape.FindAllStringSubmatch(text, -1) {
			if c, err := codes.Parse(m[1]); err == nil && c != codes.OK {
				return c, true
			}
		}
	}
	return 0, false
}

// likely are the circumstances that a code suggests where its text is in no
// phrase book: as a rule the words are an application's own.
var likely = map[codes.Code][]Meaning{
	codes.Canceled:          {{"call.cancelled", "This program, or whoever it works for, gave the call up."}, {"http2.rst-cancel", "The server or a proxy between did."}, {"handler.status", ownWords}},
	codes.Unknown:           {{"handler.not-status", "The handler returned an error that is no status: these are its words, or those of what it uses."}, {"handler.panic", "The handler threw an exception: the server's log has it."}, {"handler.status", ownWords}},
	codes.InvalidArgument:   {{"policy.validation", "The request broke a rule of the server's: the details name the field."}, {"handler.status", ownWords}},
	codes.DeadlineExceeded:  {{"call.deadline", "The time for the call ran out: what did it wait for?"}, {"handler.context", "The server ran out of a time of its own, for a database or another service."}, {"handler.status", ownWords}},
	codes.PermissionDenied:  {{"policy.permission", "The caller is known, and may not do this."}, {"handler.status", ownWords}},
	codes.ResourceExhausted: {{"policy.rate-limit", "A quota is used up."}, {"codec.too-large", "The message is larger than a limit."}, {"server.overloaded", "The server takes no more at the moment."}, {"handler.status", ownWords}},
	codes.Unimplemented:     {{"handler.unknown-method", "The server has no such method."}, {"handler.unknown-service", "The server has no such service."}, {"handler.status", "The method exists, and its handler is a stub."}},
	codes.Internal:          {{"handler.status", ownWords}, {"http2.rst-other", "The server or a proxy reset the stream."}},
	codes.Unavailable:       {{"handler.status", ownWords}, {"http2.connection-lost", "The connection broke."}, {"pick.no-ready", "There was none."}},
	codes.Unauthenticated:   {{"policy.unauthenticated", "The server found no credentials that it accepts."}, {"call.credentials", "This side could not get any."}, {"handler.status", ownWords}},
}

const ownWords = "The words are the application's: search for them in the server's code and log."

// suggest appends what a code by itself suggests.
func (r *Result) suggest(c codes.Code) {
	means := likely[c]
	if means == nil {
		means = []Meaning{{"handler.status", "Only applications use this code: search for the words in the server's code and log."}}
	}
	for _, m := range means {
		r.add(m, false)
	}
}

var ofGo = regexp.MustCompile(`code = \w+ desc\s+=\s`)

// foreign reports that a text tells of a failure of connecting which is not
// this call's: its code says that a handler ran into it, and passed it on.
func foreign(text string, c codes.Code, first fault.ID) bool {
	e := fault.Lookup(first)
	if e == nil || e == fault.ResolveControlPlaneCode { // that one is about another code in the text
		return false
	}
	switch e.Layer {
	case fault.LayerResolve, fault.LayerDial, fault.LayerTLS, fault.LayerHTTP2, fault.LayerCall:
	default:
		return false
	}
	switch c {
	case codes.NotFound, codes.AlreadyExists, codes.FailedPrecondition, codes.Aborted, codes.OutOfRange, codes.DataLoss, codes.InvalidArgument:
		return true
	case codes.Unknown, codes.Internal:
		return ofGo.MatchString(text) && (e.Layer == fault.LayerResolve || e.Layer == fault.LayerDial || e.Layer == fault.LayerTLS)
	}
	return false
}

// passedOn is what a foreign failure means for this call.
func passedOn(c codes.Code) Meaning {
	if c == codes.Unknown {
		return Meaning{"handler.not-status", "The code is UNKNOWN, so the call reached a handler: that could not connect to something of its own, and returned the error as it was. What follows is the server's failure."}
	}
	return Meaning{"handler.status", "The code is one that the server chose: its handler could not connect to something of its own. What follows is the server's failure."}
}
