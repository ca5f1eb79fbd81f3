// SPDX-License-Identifier: Apache-2.0

package channel

import (
	"errors"
	"log/slog"

	"github.com/faultline-rpc/faultline/event"
	"github.com/faultline-rpc/faultline/fault"
	"github.com/faultline-rpc/faultline/h2"
	"github.com/faultline-rpc/faultline/journal"
)

// What the log is told of connections. No lock is held.

// logFailure tells of an attempt to connect that failed.
func (s *Subchannel) logFailure(f *fault.Fault) {
	if log := s.c.cfg.Logger; log != nil {
		ev := f.Evidence()
		at := journal.Conn{Role: event.Client, Target: s.c.target, Peer: ev.Address, Local: ev.Local}
		at.Failed(log, slog.LevelWarn, "a connection could not be made", f)
	}
}

// logEnd tells of the end of a connection that had been ready.
func (l *link) logEnd(err error) {
	if log := l.sub.c.cfg.Logger; log != nil {
		var ce *h2.ConnError
		l.between().Ended(log, errors.As(err, &ce) && ce.Orderly(), err)
	}
}

// logGoAway tells of a server that retires a connection. It runs on the
// connection's reader.
func (l *link) logGoAway(g *h2.GoAwayError) {
	if log := l.sub.c.cfg.Logger; log != nil {
		l.between().GoAway(log, g.Code == h2.NoError, g.Error())
	}
}

// logUnwatched tells of a server that does not implement the health service. It
// is to be told (gRFC A17): who has configured health checks counts on them.
func (l *link) logUnwatched(service string) {
	if log := l.sub.c.cfg.Logger; log != nil {
		l.between().Unwatched(log, service)
	}
}

// between says between whom the connection is.
func (l *link) between() journal.Conn {
	return journal.Conn{Role: event.Client, Target: l.sub.c.target, Peer: addrString(l.peer.Addr), Local: addrString(l.peer.LocalAddr)}
}
