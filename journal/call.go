// SPDX-License-Identifier: Apache-2.0

package journal

import (
	"context"
	"log/slog"
	"slices"
	"time"

	"github.com/faultline-rpc/faultline/codes"
	"github.com/faultline-rpc/faultline/event"
	"github.com/faultline-rpc/faultline/fault"
)

// State is how far a call's stream came. Both ends use the same words: where
// they differ, what one sent has not reached the other.
type State string

// The states, in the order in which a stream passes them.
const (
	Unsent   State = "unsent"   // no request has left the client
	Request  State = "request"  // the request's headers may have left the client; they are at the server
	Headers  State = "headers"  // response headers
	Messages State = "messages" // at least one response message
	Trailers State = "trailers" // the status: the stream ended in order
)

// Call is a finished call as one end saw it.
type Call struct {
	Role      event.Role
	Method    string
	Peer      string // its address; a client that reached none has what it tried
	Code      codes.Code
	Failure          // counts unless Code is OK
	Attempts  int    // a client's; 0 at a server, and of a call that made none
	Stream    uint32 // HTTP/2 stream id, 0: none
	State     State
	Received  int64 // messages that came from the peer
	Sent      int64 // messages that a server sent; a client does not count them
	Elapsed   time.Duration
	Timed     bool          // there was a deadline
	Budget    time.Duration // until the deadline, when the call began or arrived
	Reference string        // that the caller got in the place of a text
	Err       error         // of a call that failed
}

// Failure is who failed, as for a [fault.Fault]. An error that no part of this
// module made has no ID.
type Failure struct {
	ID        fault.ID
	Layer     fault.Layer
	Side      fault.Side
	Processed fault.Processed
}

// Of is f's failure.
func Of(f *fault.Fault) Failure { return Failure{f.ID(), f.Layer(), f.Side(), f.Processed()} }

// Wanted reports whether l takes lines of calls that succeed. Others are looked
// at when they have failed.
func Wanted(ctx context.Context, l *slog.Logger) bool { return l.Enabled(ctx, slog.LevelDebug) }

// Log writes the line. ctx is the call's: handlers find traces in it.
func (c *Call) Log(ctx context.Context, l *slog.Logger) {
	if level := c.level(); l.Enabled(ctx, level) {
		l.LogAttrs(ctx, level, "finished call", c.attrs()...)
	}
}

// level is how loud the line is: success and what a program wanted are quiet,
// an answer to a bad request is normal, a server's own failure is an error.
func (c *Call) level() slog.Level {
	byProgram := c.Layer == fault.LayerHandler || c.Layer == fault.LayerPolicy
	switch {
	case c.Code == codes.OK:
		return slog.LevelDebug
	case c.Code == codes.Canceled && (byProgram || c.Layer == fault.LayerCall):
		return slog.LevelInfo
	case byProgram && answers(c.Code):
		return slog.LevelInfo
	case c.Role == event.Server && c.Side == fault.Local && broken(c.Code):
		return slog.LevelError
	}
	return slog.LevelWarn
}

// answers reports the codes with which an application answers a request that it
// understood and does not grant.
func answers(c codes.Code) bool {
	switch c {
	case codes.InvalidArgument, codes.NotFound, codes.AlreadyExists, codes.PermissionDenied,
		codes.Unauthenticated, codes.FailedPrecondition, codes.Aborted, codes.OutOfRange:
		return true
	}
	return false
}

// broken reports the codes of a defect.
func broken(c codes.Code) bool {
	return c == codes.Unknown || c == codes.Internal || c == codes.DataLoss
}

func (c *Call) attrs() []slog.Attr {
	a := make([]slog.Attr, 0, 20)
	text := func(name, value string) {
		if value != "" {
			a = append(a, slog.String(name, value))
		}
	}
	text("role", string(c.Role))
	text("method", c.Method)
	text("peer", c.Peer)
	text("code", codes.Name(c.Code))
	if c.Code != codes.OK {
		a = append(a, c.Failure.attrs()...)
	}
	text("reference", c.Reference)
	if c.Attempts > 0 {
		a = append(a, slog.Int("attempts", c.Attempts))
	}
	a = append(a, slog.Duration("elapsed", c.Elapsed))
	if c.Timed {
		a = append(a, slog.Duration("budget", c.Budget), slog.Duration("left", c.Budget-c.Elapsed))
	}
	if c.Stream != 0 {
		a = append(a, slog.Int64("stream", int64(c.Stream)))
	}
	text("state", string(c.State))
	a = append(a, slog.Int64("received", c.Received))
	if c.Role == event.Server {
		a = append(a, slog.Int64("sent", c.Sent))
	}
	if c.Code != codes.OK && c.Err != nil {
		a = append(a, failed(c.Err, c.Peer))
	}
	return a
}

func (f Failure) attrs() []slog.Attr {
	a := make([]slog.Attr, 0, 4)
	if f.ID != "" {
		a = append(a, slog.String("id", string(f.ID)))
	}
	return append(a, slog.String("layer", f.Layer.String()), slog.String("side", f.Side.String()), slog.String("processed", f.Processed.String()))
}

// told are the parts of a fault, as it logs itself, that stand in a line already.
var told = map[string][]string{
	"":         {"code", "id", "layer", "side", "processed", "attempts"},
	"evidence": {"method", "stream", "reference", "sent", "answered", "messages"},
	"ledger":   {"budget", "elapsed"},
}

// failed is what an error says beyond its line, which has the places here.
func failed(err error, here ...string) slog.Attr {
	v := slog.AnyValue(err).Resolve()
	if v.Kind() != slog.KindGroup {
		return slog.String("error", err.Error())
	}
	return slog.Attr{Key: "error", Value: rest("", v, here)}
}

// rest is a group without what was told.
func rest(name string, group slog.Value, here []string) slog.Value {
	var left []slog.Attr
	for _, a := range group.Group() {
		place := name == "evidence" && (a.Key == "address" || a.Key == "local" || a.Key == "target")
		switch {
		case slices.Contains(told[name], a.Key), place && slices.Contains(here, a.Value.String()):
			continue
		case a.Value.Kind() == slog.KindGroup && told[a.Key] != nil:
			if a.Value = rest(a.Key, a.Value, here); len(a.Value.Group()) == 0 {
				continue
			}
		}
		left = append(left, a)
	}
	return slog.GroupValue(left...)
}
