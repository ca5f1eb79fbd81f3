// SPDX-License-Identifier: Apache-2.0

package fault

import (
	"fmt"
	"strings"
	"time"
)

// Ledger says what the time of a call went to. Its phases follow one another
// and do not overlap: they add up to Elapsed.
type Ledger struct {
	// Budget is the time the caller gave; 0 where there was no deadline. On a
	// server it is what was left of it when the call arrived.
	Budget time.Duration `json:"budget_ns"`
	// Elapsed is the time from the beginning of the call to the fault.
	Elapsed time.Duration `json:"elapsed_ns"`
	// Phases are in the order in which they began. What took less than the clock tells, or
	// than 10 microseconds where many calls go by without waiting, is not
	// among them, but counts to the phase after it.
	Phases []Phase `json:"phases"`
	// Peer says whether the server was alive; nil if the call had no
	// connection yet.
	Peer *Pulse `json:"peer,omitempty"`
}

// Phase is one entry of a [Ledger].
type Phase struct {
	// Name is one of the Phase constants.
	Name  string        `json:"name"`
	Spent time.Duration `json:"spent_ns"`
	// Attempt is the attempt that it belongs to, where there were several one
	// after the other: 1 is the first.
	Attempt int `json:"attempt,omitempty"`
}

// The phases of a call, in the order in which it may pass through them.
const (
	PhaseResolve        = "resolve"          // the target's name is looked up
	PhaseConnect        = "connect"          // a socket is opened
	PhaseHandshake      = "handshake"        // TLS is negotiated
	PhaseSettings       = "settings"         // the server's first HTTP/2 frame is awaited
	PhaseConnectBackoff = "connect-backoff"  // connecting failed, and is tried again later
	PhasePick           = "pick"             // the balancing policy chooses a connection
	PhaseCredentials    = "credentials"      // per-call credentials are asked for metadata
	PhaseQuota          = "stream-quota"     // the server's MAX_CONCURRENT_STREAMS are in use
	PhaseSend           = "send"             // flow control holds the request back
	PhaseHeaders        = "response-headers" // the answer has not begun
	PhaseMessage        = "next-message"     // the answer has begun, and is not complete
	PhaseBackoff        = "back-off"         // between two attempts
	PhaseHedges         = "hedged-attempts"  // several attempts at a time, none of them answered
	PhaseEarlier        = "earlier-attempts" // more of them than are told apart

	PhaseQueue   = "queue"   // on a server: before the handler started
	PhaseHandler = "handler" // on a server: in the handler
)

// doing says what a phase is, after a time.
var doing = map[string]string{
	PhaseResolve:        "resolving the name",
	PhaseConnect:        "connecting",
	PhaseHandshake:      "in the TLS handshake",
	PhaseSettings:       "waiting for the server's SETTINGS",
	PhaseConnectBackoff: "waiting to connect again",
	PhasePick:           "waiting for the balancer to pick a connection",
	PhaseCredentials:    "waiting for credentials",
	PhaseQuota:          "waiting for a free stream",
	PhaseSend:           "waiting for the server to take the request",
	PhaseHeaders:        "waiting for response headers",
	PhaseMessage:        "waiting for the next message",
	PhaseBackoff:        "backing off before another attempt",
	PhaseHedges:         "waiting for one of the hedged attempts",
	PhaseEarlier:        "in earlier attempts",
	PhaseQueue:          "waiting for its handler to start",
	PhaseHandler:        "in the handler",
}

// Add adds a phase, to its own if the attempt has passed through it before.
// What took no time is left out.
func (l *Ledger) Add(p Phase) {
	if p.Spent <= 0 {
		return
	}
	for i := range l.Phases {
		if q := &l.Phases[i]; q.Name == p.Name && q.Attempt == p.Attempt {
			q.Spent += p.Spent
			return
		}
	}
	l.Phases = append(l.Phases, p)
}

// Totals returns what each phase took in all attempts together, in the order
// in which they were first passed.
func (l *Ledger) Totals() []Phase {
	var all []Phase
next:
	for _, p := range l.Phases {
		for i := range all {
			if all[i].Name == p.Name {
				all[i].Spent += p.Spent
				continue next
			}
		}
		all = append(all, Phase{Name: p.Name, Spent: p.Spent})
	}
	return all
}

// Longest returns the name of the phase that took most of the time; empty if
// there is none.
func (l *Ledger) Longest() string {
	var most Phase
	for _, p := range l.Totals() {
		if p.Spent > most.Spent {
			most = p
		}
	}
	return most.Name
}

// String says in one line what the time went to. It leaves out what took less
// than a hundredth of it; Phases has all.
func (l *Ledger) String() string {
	var parts []string
	for _, p := range l.Totals() {
		if p.Spent >= l.Elapsed/100 {
			parts = append(parts, Brief(p.Spent)+" "+doing[p.Name])
		}
	}
	return strings.Join(parts, ", ")
}

// Brief is a duration with three digits, or as many as its seconds have.
func Brief(d time.Duration) string {
	unit := time.Duration(1)
	for d/unit >= 1000 && unit < time.Millisecond {
		unit *= 10
	}
	return d.Round(unit).String()
}

// Pulse says whether a peer was alive while a call waited for it: a slow server
// is one thing, a dead machine or network another. Times are counted back from
// the fault; 0 is never.
type Pulse struct {
	State PulseState `json:"state"`
	// Heard is how long ago anything was read from the peer.
	Heard time.Duration `json:"heard_ns,omitempty"`
	// Pinged is how long ago the last PING was sent, and Answered how long ago
	// the last answer to one came: more than Pinged, if that one had none.
	Pinged   time.Duration `json:"pinged_ns,omitempty"`
	Answered time.Duration `json:"answered_ns,omitempty"`
}

// PulseState is the verdict of a [Pulse].
type PulseState string

// The verdicts. Alive means that the peer was heard, most likely to answer a
// PING, well after the call began to wait; Silent that it has let a PING go
// unanswered for a good part of the wait.
const (
	PulseUnknown PulseState = "unknown"
	PulseAlive   PulseState = "alive"
	PulseSilent  PulseState = "silent"
)

// Verdict returns the state; PulseUnknown without a pulse.
func (p *Pulse) Verdict() PulseState {
	if p == nil {
		return PulseUnknown
	}
	return p.State
}

// String says it in a few words; it is empty if nothing is known.
func (p *Pulse) String() string {
	switch {
	case p == nil:
		return ""
	case p.State == PulseSilent:
		s := fmt.Sprintf("peer did not answer a PING sent %s ago", Brief(p.Pinged))
		if p.Heard > 0 {
			s += fmt.Sprintf(", last heard %s ago", Brief(p.Heard))
		}
		return s
	case p.State == PulseAlive && p.Answered > 0 && p.Answered <= p.Heard:
		return fmt.Sprintf("peer answered a PING %s ago", Brief(p.Answered))
	case p.State == PulseAlive:
		return fmt.Sprintf("peer last heard %s ago", Brief(p.Heard))
	}
	return ""
}
