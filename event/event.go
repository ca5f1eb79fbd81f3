// SPDX-License-Identifier: Apache-2.0

package event

import "time"

// Sink observes events. Record may be called from any goroutine, also while
// locks are held: it must be quick and must not call back into the engine.
type Sink interface {
	Record(Event)
}

// Event is one of this package's types.
type Event interface {
	// Name is the event's stable name, such as "h2.goaway-received".
	Name() string
}

// Role says which end of a connection an event's process is.
type Role string

// The two ends.
const (
	Client Role = "client"
	Server Role = "server"
)

// ConnOpened: the peer's first SETTINGS arrived; it speaks HTTP/2.
type ConnOpened struct {
	Conn          uint64 // unique in the process
	Role          Role
	Local, Remote string // addresses
}

// ConnClosed: a connection ended; Err is never nil and says why.
type ConnClosed struct {
	Conn uint64
	Role Role
	Err  error
}

// StreamOpened: a stream's HEADERS were sent or received.
type StreamOpened struct {
	Conn   uint64
	Stream uint32
	Role   Role
}

// StreamReset: a stream was reset, by this side or the peer.
type StreamReset struct {
	Conn   uint64
	Stream uint32
	Local  bool
	Code   string // RFC 9113 section 7 name
	Reason string // why, where this side decided
}

// GoAwaySent and GoAwayReceived: RFC 9113 section 6.8.
type GoAwaySent struct {
	Conn       uint64
	LastStream uint32
	Code       string
	Debug      string
}

// GoAwayReceived: see [GoAwaySent].
type GoAwayReceived struct {
	Conn       uint64
	LastStream uint32
	Code       string
	Debug      string
}

// SubchannelState: a client's connection to one address changed state.
type SubchannelState struct {
	Target  string
	Address string
	State   string // connectivity.State's name
	Err     error  // in TRANSIENT_FAILURE
}

// Resolved: a resolver delivered addresses or an error.
type Resolved struct {
	Target    string
	Addresses []string
	Err       error
}

// CallRetried: an attempt is made again.
type CallRetried struct {
	Method      string
	Attempt     int // number of the new attempt, 2 for the first repetition
	Transparent bool
	Err         error // why the one before failed; nil for a hedge that was due by time alone
}

// CallRefused: a server answered a call without its handler. Err is the fault,
// which says why and whose doing it was.
type CallRefused struct {
	Method string // as the peer named it, at most 256 bytes; "" if it named none
	Conn   uint64
	Stream uint32
	Err    error
}

// DeadlineExpired: a server's handler took longer than its caller waits.
type DeadlineExpired struct {
	Method  string // at most 256 bytes
	Conn    uint64
	Stream  uint32
	Budget  time.Duration // left of the caller's deadline when the request arrived
	Queued  time.Duration // from then to the start of the handler
	Elapsed time.Duration // from then to its end
}

// HandlerPanicked: a handler panicked; its caller got the reference alone.
type HandlerPanicked struct {
	Method    string
	Reference string
	Value     string
	Stack     []byte
}

// ErrorMasked: a handler returned an error that is no status; its caller got
// the reference alone.
type ErrorMasked struct {
	Method    string
	Reference string
	Err       error
}

// Name implements Event.
func (ConnOpened) Name() string { return "h2.conn-opened" }

// Name implements Event.
func (ConnClosed) Name() string { return "h2.conn-closed" }

// Name implements Event.
func (StreamOpened) Name() string { return "h2.stream-opened" }

// Name implements Event.
func (StreamReset) Name() string { return "h2.stream-reset" }

// Name implements Event.
func (GoAwaySent) Name() string { return "h2.goaway-sent" }

// Name implements Event.
func (GoAwayReceived) Name() string { return "h2.goaway-received" }

// Name implements Event.
func (SubchannelState) Name() string { return "channel.subchannel-state" }

// Name implements Event.
func (Resolved) Name() string { return "channel.resolved" }

// Name implements Event.
func (CallRetried) Name() string { return "call.retried" }

// Name implements Event.
func (CallRefused) Name() string { return "server.call-refused" }

// Name implements Event.
func (DeadlineExpired) Name() string { return "server.deadline-expired" }

// Name implements Event.
func (HandlerPanicked) Name() string { return "server.handler-panicked" }

// Name implements Event.
func (ErrorMasked) Name() string { return "server.error-masked" }
