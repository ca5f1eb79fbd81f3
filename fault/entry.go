// SPDX-License-Identifier: Apache-2.0

package fault

import (
	"fmt"
	"sort"
	"strings"

	"google.golang.org/grpc/codes"
)

// ID names a circumstance: "layer.what", such as "dial.refused". Ids are
// fixed: people and programs rely on them.
type ID string

// Entry is the catalogue's knowledge of one circumstance. Entries are made
// once, by this package, and never change.
type Entry struct {
	ID    ID
	Layer Layer
	// Codes are the codes the circumstance may carry; the first is the default.
	// None means any: the code is the application's, or an earlier attempt's.
	Codes []codes.Code
	// By are the roles in which it arises. What a server raised, its client
	// reports under the same id.
	By Who
	// Summary is one line: what happened.
	Summary string
	// Cause explains to a newcomer how one gets here.
	Cause string
	// Remedy says what to do, most likely step first.
	Remedy string
	// Spec links the document that asks for the code.
	Spec string
	// Rooms are the packages that may raise it, such as "channel".
	Rooms []string
}

// Args are the particulars of one failure, for [Entry.New].
type Args struct {
	// Code must be one of the entry's; OK means the entry's default.
	Code codes.Code
	Side Side
	// Processed must be proven to be anything but Maybe.
	Processed Processed
	// Message completes the description, "id: message". Empty means the
	// entry's summary and the cause's text.
	Message string
	// Verbatim makes Message the whole description. It is for statuses that
	// another program formulated.
	Verbatim bool
	Evidence *Evidence
	// Cause is reached by errors.Is and errors.As through the fault.
	Cause error
}

// New stamps a fault with the circumstance e. It is the only constructor of
// faults. A code that is not among e's is a mistake of the caller: the default
// is used instead, and [Fault.Misplaced] tells.
func (e *Entry) New(a Args) *Fault {
	f := &Fault{entry: e, code: a.Code, side: a.Side, processed: a.Processed, evidence: a.Evidence, cause: a.Cause, verbatim: a.Verbatim}
	if !e.allows(a.Code) {
		f.code, f.misplaced = e.fallback(), a.Code
	}
	switch {
	case a.Verbatim:
		f.message = a.Message
	case a.Message != "":
		f.message = string(e.ID) + ": " + a.Message
	case a.Cause != nil:
		f.message = string(e.ID) + ": " + e.Summary + ": " + a.Cause.Error()
	default:
		f.message = string(e.ID) + ": " + e.Summary
	}
	return f
}

// String returns the entry's id.
func (e *Entry) String() string { return string(e.ID) }

// Newf is [Entry.New] with a formatted message.
func (e *Entry) Newf(a Args, format string, args ...any) *Fault {
	a.Message = fmt.Sprintf(format, args...)
	return e.New(a)
}

// Is reports whether err's fault, the first in its chain, is this circumstance.
func (e *Entry) Is(err error) bool {
	f, ok := From(err)
	return ok && f.entry == e
}

// fallback is the code of a fault whose maker named none, or one that the
// circumstance does not carry.
func (e *Entry) fallback() codes.Code {
	if len(e.Codes) == 0 {
		return codes.Unknown
	}
	return e.Codes[0]
}

func (e *Entry) allows(c codes.Code) bool {
	if c == codes.OK {
		return false
	}
	if len(e.Codes) == 0 { // handler.status and its like: the application's code
		return true
	}
	for _, k := range e.Codes {
		if k == c {
			return true
		}
	}
	return false
}

var catalogue = map[ID]*Entry{}

// entry registers a circumstance. It panics on a second one with the same id
// or an id whose prefix is no layer: both can only be mistakes in this package.
func entry(e Entry) *Entry {
	prefix, _, _ := strings.Cut(string(e.ID), ".")
	for i, n := range layerNames {
		if n == prefix {
			e.Layer = Layer(i)
		}
	}
	if e.Layer == LayerUnknown || catalogue[e.ID] != nil {
		panic("fault: bad or repeated id " + string(e.ID))
	}
	catalogue[e.ID] = &e
	return &e
}

// Lookup returns the entry with that id, or nil.
func Lookup(id ID) *Entry { return catalogue[id] }

// Catalogue returns all entries, by layer and then id.
func Catalogue() []*Entry {
	all := make([]*Entry, 0, len(catalogue))
	for _, e := range catalogue {
		all = append(all, e)
	}
	sort.Slice(all, func(i, j int) bool {
		if all[i].Layer != all[j].Layer {
			return all[i].Layer < all[j].Layer
		}
		return all[i].ID < all[j].ID
	})
	return all
}
