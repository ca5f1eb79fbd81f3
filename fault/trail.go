// SPDX-License-Identifier: Apache-2.0

package fault

import (
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"google.golang.org/grpc/codes"

	names "github.com/faultline-rpc/faultline/codes"
)

// Hop is what one service on the way of a failure said of it.
type Hop struct {
	// Service and Method are what was called, such as "shop.Orders" and "Place".
	Service, Method string
	// Seen says that the hop is the caller's view: what was called could not be
	// reached, or says nothing of itself.
	Seen bool
	// ID, Layer, Code, Side and Processed are as for a [Fault]. The id may be
	// one that this version does not know.
	ID        ID
	Layer     Layer
	Code      codes.Code
	Side      Side
	Processed Processed
	// Elapsed is the time from the request's arrival to the failure, 0 if it is
	// not known.
	Elapsed time.Duration
	// Budget is what was left of the caller's deadline then, negative if it had
	// passed. It counts only if Timed is set: else there was no deadline.
	Budget time.Duration
	Timed  bool
	// Address is where the hop's caller reached it, or tried to.
	Address string
	// Reference finds the full text in the service's log.
	Reference string
	// Text is what the status message does not say, at most 256 bytes.
	Text string
	// Dropped is how many hops next in line the budget had no room for.
	Dropped int

	masked bool   // what anybody may read: not a hop to show
	opaque bool   // of a version that this one cannot read
	raw    string // as it was received, to be passed on with fields that this version does not know
}

// NewHop is the word of a service on the failure f of the call to method,
// "/package.Service/Method".
func NewHop(method string, f *Fault) Hop {
	h := Hop{ID: f.ID(), Layer: f.Layer(), Code: f.code, Side: f.side, Processed: f.processed, Reference: f.Evidence().Reference}
	return h.On(method)
}

// On returns the hop as one on the call to method, "/package.Service/Method".
func (h Hop) On(method string) Hop {
	h.Service, h.Method = splitMethod(method)
	return h
}

func splitMethod(path string) (service, method string) {
	path = strings.TrimPrefix(path, "/")
	if i := strings.LastIndexByte(path, '/'); i >= 0 {
		return path[:i], path[i+1:]
	}
	return "", path
}

func (h *Hop) path() string {
	if h.Service == "" {
		return "/" + h.Method
	}
	return "/" + h.Service + "/" + h.Method
}

// Masked is what any caller may read of a server's hop: what the caller knows
// already, which circumstance of the server itself it met, and whether a
// handler ran. It is no entry of [Fault.Trail].
func (h Hop) Masked() Hop {
	if h.ID == HandlerUpstream.ID { // what lies behind a service is nobody's business
		h.ID = HandlerStatus.ID
	}
	return Hop{Service: h.Service, Method: h.Method, ID: h.ID, Code: h.Code, Processed: h.Processed, Reference: h.Reference, masked: true}
}

// Trail returns the services that the failure passed on its way here, nearest
// first: the last one is where it arose, or the last that is known. It is what
// they said; nothing of it is proven. It is empty if the server keeps it to
// itself, or does not know trails.
func (f *Fault) Trail() []Hop {
	var all []Hop
	for _, h := range f.trail {
		if !h.opaque {
			all = append(all, h)
		}
	}
	return all
}

// WithTrail returns f with the trail that came with it.
func (f *Fault) WithTrail(trail []Hop) *Fault {
	g := *f
	g.trail = nil
	for _, h := range trail {
		if !h.masked {
			g.trail = append(g.trail, h)
		}
	}
	return &g
}

// Onward is f's trail as a service passes it on to its own caller: what came
// with f, or else f as the service saw it. said is the message that the caller
// gets anyway.
func (f *Fault) Onward(said string) []Hop {
	if len(f.trail) > 0 {
		return f.trail
	}
	ev := f.Evidence()
	h := NewHop(ev.Method, f)
	h.Seen, h.Address = true, ev.Address
	if f.message != said {
		h.Text = f.message
	}
	return []Hop{h}
}

// Verdict reads what a server said of its own failure to answer the call to
// method with code: the circumstance that its client reports, and whether a
// handler ran. ok is false if the first hop is not about this call: a handler
// that copies the trailers of another service must not be taken for that one.
func Verdict(trail []Hop, method string, code codes.Code) (e *Entry, processed Processed, ok bool) {
	if len(trail) == 0 {
		return HandlerStatus, Maybe, false
	}
	h := &trail[0]
	if h.opaque || h.Seen || h.Code != code || h.path() != clip(method, maxHopField) {
		return HandlerStatus, Maybe, false
	}
	e = HandlerStatus
	if k := Lookup(h.ID); k != nil && k.By&ByServer != 0 && k.allows(code) && reported(k.Layer) {
		e = k
	}
	return e, h.Processed, true
}

// Received is the fault of a status that a server sent: its words in a, which
// pass unchanged, and the values of its trail. Code, message and evidence are
// a's; Processed is if a knows it.
func Received(a Args, trail []string) *Fault {
	a.Side, a.Verbatim = Remote, true
	e, hops := HandlerStatus, []Hop(nil)
	if len(trail) > 0 {
		hops = ReadTrail(trail, a.Evidence.Address)
		said, processed, ok := Verdict(hops, a.Evidence.Method, a.Code)
		if e = said; ok {
			a.Evidence.Reference = hops[0].Reference
			if a.Processed == Maybe {
				a.Processed = processed
			}
		}
	}
	if a.Processed == Maybe && OnlyApplications(a.Code) {
		a.Processed = Yes
	}
	f := e.New(a)
	if len(hops) > 0 {
		f = f.WithTrail(hops)
	}
	return f
}

// reported says in which layers a server's circumstance is its client's too.
// Those of connection and call mean the client's own.
func reported(l Layer) bool {
	switch l {
	case LayerServer, LayerHandler, LayerPolicy, LayerWire, LayerCodec:
		return true
	}
	return false
}

// Verbatim reports that the message is another program's, as it was received.
func (f *Fault) Verbatim() bool { return f.verbatim }

// String is the hop in one line.
func (h Hop) String() string {
	var b strings.Builder
	b.WriteString(strings.TrimPrefix(h.path(), "/"))
	if h.Seen {
		b.WriteString(" as its caller saw it")
	}
	fmt.Fprintf(&b, ": %s %s, processed %s", h.ID, names.Name(h.Code), h.Processed)
	if h.Elapsed > 0 {
		fmt.Fprintf(&b, ", after %v", h.Elapsed.Round(time.Microsecond))
	}
	if h.Timed {
		fmt.Fprintf(&b, ", %v left", h.Budget.Round(time.Microsecond))
	}
	if h.Address != "" {
		b.WriteString(", at " + h.Address)
	}
	if h.Reference != "" {
		b.WriteString(", reference " + h.Reference)
	}
	if h.Text != "" {
		b.WriteString(": " + h.Text)
	}
	if h.Dropped > 0 {
		fmt.Fprintf(&b, " (%d more between had no room)", h.Dropped)
	}
	return b.String()
}

// MarshalJSON writes the hop, its code by its canonical name.
func (h Hop) MarshalJSON() ([]byte, error) {
	out := struct {
		Service   string         `json:"service"`
		Method    string         `json:"method"`
		Seen      bool           `json:"seen_by_caller,omitempty"`
		ID        ID             `json:"id"`
		Layer     Layer          `json:"layer"`
		Code      string         `json:"code"`
		Side      Side           `json:"side"`
		Processed Processed      `json:"processed"`
		Elapsed   time.Duration  `json:"elapsed_ns,omitempty"`
		Budget    *time.Duration `json:"budget_left_ns,omitempty"`
		Address   string         `json:"address,omitempty"`
		Reference string         `json:"reference,omitempty"`
		Text      string         `json:"text,omitempty"`
		Dropped   int            `json:"dropped,omitempty"`
	}{h.Service, h.Method, h.Seen, h.ID, h.Layer, names.Name(h.Code), h.Side, h.Processed, h.Elapsed, nil, h.Address, h.Reference, h.Text, h.Dropped}
	if h.Timed {
		out.Budget = &h.Budget
	}
	return json.Marshal(out)
}
