// SPDX-License-Identifier: Apache-2.0

package journal

import (
	"context"
	"log/slog"

	"github.com/faultline-rpc/faultline/codes"
	"github.com/faultline-rpc/faultline/event"
	"github.com/faultline-rpc/faultline/fault"
)

// Conn is a connection as one end saw it.
type Conn struct {
	Role   event.Role
	Target string // a client's
	Peer   string
	Local  string
}

// Failed writes that no connection came about, or that one broke, for f.
func (c Conn) Failed(l *slog.Logger, level slog.Level, what string, f *fault.Fault) {
	if ctx := context.Background(); l.Enabled(ctx, level) {
		a := append(c.attrs(), slog.String("code", codes.Name(f.Code())))
		l.LogAttrs(ctx, level, what, append(a, slog.String("id", string(f.ID())), slog.String("layer", f.Layer().String()),
			slog.String("side", f.Side().String()), failed(f, c.Peer, c.Local, c.Target))...)
	}
}

// Ended writes what became of a connection. err is h2's word on it, or the fault
// of whoever gave it up.
func (c Conn) Ended(l *slog.Logger, orderly bool, err error) {
	level := slog.LevelWarn
	if orderly {
		level = slog.LevelDebug
	}
	if f, ok := fault.From(err); ok { // somebody gave it up, and says why
		c.Failed(l, slog.LevelWarn, "a connection ended", f)
		return
	}
	if ctx := context.Background(); l.Enabled(ctx, level) {
		l.LogAttrs(ctx, level, "a connection ended", append(c.attrs(), slog.String("error", err.Error()))...)
	}
}

// GoAway writes that the peer retires the connection; text quotes its frame.
func (c Conn) GoAway(l *slog.Logger, orderly bool, text string) {
	level := slog.LevelWarn
	if orderly {
		level = slog.LevelInfo
	}
	if ctx := context.Background(); l.Enabled(ctx, level) {
		l.LogAttrs(ctx, level, "the peer is retiring a connection", append(c.attrs(), slog.String("error", text))...)
	}
}

// Unwatched writes that the peer lacks the health service, so that it counts as
// healthy whatever it is.
func (c Conn) Unwatched(l *slog.Logger, service string) {
	if ctx := context.Background(); l.Enabled(ctx, slog.LevelWarn) {
		l.LogAttrs(ctx, slog.LevelWarn, "the peer does not implement health checks and counts as healthy",
			append(c.attrs(), slog.String("service", service))...)
	}
}

func (c Conn) attrs() []slog.Attr {
	a := make([]slog.Attr, 0, 10)
	for _, s := range [...]struct{ name, value string }{{"role", string(c.Role)}, {"target", c.Target}, {"peer", c.Peer}, {"local", c.Local}} {
		if s.value != "" {
			a = append(a, slog.String(s.name, s.value))
		}
	}
	return a
}
