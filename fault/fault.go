// SPDX-License-Identifier: Apache-2.0

package fault

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	spb "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc/codes"
	grpcstatus "google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
)

// Fault is one failure. It is immutable: methods that add to it return a
// copy, so one fault (a subchannel's last, say) may be shared by many calls.
type Fault struct {
	entry     *Entry
	code      codes.Code
	side      Side
	processed Processed
	misplaced codes.Code // asked for, but not among the entry's; else OK
	message   string
	details   []*anypb.Any
	evidence  *Evidence
	cause     error
	rungs     []Rung
	attempts  []Attempt
	ledger    *Ledger
	trail     []Hop
	verbatim  bool   // the message is another program's
	remedy    string // of this failure, if not the entry's
}

// Rung is a floor that the failure passed on its way up to the caller.
type Rung struct {
	ID   ID     `json:"id"`
	Text string `json:"text,omitempty"`
}

// Attempt is one try of a call, successful ones excepted.
type Attempt struct {
	Peer      string        `json:"peer,omitempty"`
	ID        ID            `json:"id"`
	Code      codes.Code    `json:"code"`
	Processed Processed     `json:"processed"`
	Elapsed   time.Duration `json:"elapsed_ns"`
	// Transparent marks a try that gRFC A6 does not count.
	Transparent bool `json:"transparent,omitempty"`
}

// Entry returns the catalogue's entry.
func (f *Fault) Entry() *Entry { return f.entry }

// ID returns the circumstance's id.
func (f *Fault) ID() ID { return f.entry.ID }

// Layer returns the layer in which it happened.
func (f *Fault) Layer() Layer { return f.entry.Layer }

// Code returns the gRPC code, never OK.
func (f *Fault) Code() codes.Code { return f.code }

// Misplaced reports that the fault was made with a code that its circumstance
// does not carry, and has the default in its place. It is a mistake in this
// library, which tests look for; the ladder (%+v) shows the code.
func (f *Fault) Misplaced() bool { return f.misplaced != codes.OK }

// Side returns who decided or did it.
func (f *Fault) Side() Side { return f.side }

// Processed returns whether a handler may have run.
func (f *Fault) Processed() Processed { return f.processed }

// Message returns the status message.
func (f *Fault) Message() string { return f.message }

// Evidence returns what was observed; the zero Evidence if nothing was kept.
func (f *Fault) Evidence() Evidence {
	if f.evidence == nil {
		return Evidence{}
	}
	return *f.evidence
}

// Details returns the google.rpc details that came with the status. The
// messages are shared: do not change them.
func (f *Fault) Details() []*anypb.Any { return f.details }

// Rungs returns the floors passed, nearest to the failure first.
func (f *Fault) Rungs() []Rung { return f.rungs }

// Attempts returns the tries of a call that made several, oldest first, the one
// that this fault speaks of included: of many the latest 16. It is empty for a
// call that made one.
func (f *Fault) Attempts() []Attempt { return f.attempts }

// Ledger returns what the time of the call went to, or nil. It is shared: do
// not change it.
func (f *Fault) Ledger() *Ledger { return f.ledger }

// Unwrap returns the cause, so that errors.Is and errors.As see through. They
// see all of it but io.EOF: that is how a stream says that it ended well, and a
// connection that ended must not look like it to whoever asks with errors.Is.
func (f *Fault) Unwrap() error {
	if errors.Is(f.cause, io.EOF) {
		return notEOF{f.cause}
	}
	return f.cause
}

// Cause returns the cause itself, or nil. What asks about the end of a stream
// takes Unwrap.
func (f *Fault) Cause() error { return f.cause }

// notEOF is a cause with io.EOF somewhere in it.
type notEOF struct{ err error }

func (e notEOF) Error() string        { return e.err.Error() }
func (e notEOF) Is(target error) bool { return target != io.EOF && errors.Is(e.err, target) }
func (e notEOF) As(target any) bool   { return errors.As(e.err, target) }

// Error reads like grpc-go's errors. The description of a failure that this
// process detected opens with the circumstance's id, and ends with the peer's
// address, else the client's target or the method, unless it names it already.
// The words of another program's status stand as they came.
func (f *Fault) Error() string {
	text := fmt.Sprintf("rpc error: code = %s desc = %s", f.code, f.message)
	theirs := f.verbatim && f.side != Local
	if at := f.whereabouts(); at != "" && !theirs && !strings.Contains(f.message, at) {
		return text + " (" + at + ")"
	}
	return text
}

// whereabouts is the nearest that is known of where it happened.
func (f *Fault) whereabouts() string {
	if f.evidence == nil {
		return ""
	}
	return cmp.Or(f.evidence.Address, f.evidence.Target, f.evidence.Method)
}

// Proto returns the failure as google.rpc.Status, its message made valid UTF-8
// as protobuf demands. It is the caller's to change.
func (f *Fault) Proto() *spb.Status {
	p := &spb.Status{Code: int32(f.code), Message: strings.ToValidUTF8(f.message, "\uFFFD")}
	for _, d := range f.details {
		p.Details = append(p.Details, proto.Clone(d).(*anypb.Any))
	}
	return p
}

// GRPCStatus makes grpc-go's status package, its middleware and loggers see
// the same code, message and details.
func (f *Fault) GRPCStatus() *grpcstatus.Status { return grpcstatus.FromProto(f.Proto()) }

// From returns the first fault in err's chain.
func From(err error) (*Fault, bool) {
	var f *Fault
	if errors.As(err, &f) && f != nil {
		return f, true
	}
	return nil, false
}

// Above returns f with a rung above those it has.
func (f *Fault) Above(e *Entry, text string) *Fault {
	g := *f
	g.rungs = append(f.rungs[:len(f.rungs):len(f.rungs)], Rung{e.ID, text})
	return &g
}

// WithAttempts returns f with the tries of its call: see [Fault.Attempts].
func (f *Fault) WithAttempts(a []Attempt) *Fault {
	g := *f
	g.attempts = a
	return &g
}

// WithLedger returns f with the account of its call's time.
func (f *Fault) WithLedger(l *Ledger) *Fault {
	g := *f
	g.ledger = l
	return &g
}

// WithRemedy returns f with advice for this very failure in place of the
// entry's.
func (f *Fault) WithRemedy(text string) *Fault {
	g := *f
	g.remedy = text
	return &g
}

// WithDetails returns f with the google.rpc details of its status.
func (f *Fault) WithDetails(d []*anypb.Any) *Fault {
	g := *f
	g.details = d
	return &g
}

// WithProcessed returns f with what is known of this attempt: one connection
// fault ends many streams, and they differ in it.
func (f *Fault) WithProcessed(p Processed) *Fault {
	if f.processed == p {
		return f
	}
	g := *f
	g.processed = p
	return &g
}

// WithEvidence returns f with ev in place of its evidence: a floor above adds
// what only it knows, such as the address.
func (f *Fault) WithEvidence(ev Evidence) *Fault {
	g := *f
	g.evidence = &ev
	return &g
}
