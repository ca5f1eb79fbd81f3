// SPDX-License-Identifier: Apache-2.0

package doctor

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/faultline-rpc/faultline/codes"
	"github.com/faultline-rpc/faultline/fault"
	"github.com/faultline-rpc/faultline/h2"
	"github.com/faultline-rpc/faultline/wire"
)

const watchPath = "/grpc.health.v1.Health/Watch"

// probeWatch holds a connection, and a stream on it where the server has one
// that stays open, and tells who ended them and how.
func (x *exam) probeWatch(ctx context.Context) {
	if x.cfg.Watch <= 0 {
		return
	}
	end := x.begin("watch", "holding a connection and a stream for "+x.cfg.Watch.String())
	if !x.line.usable() { // the examination itself may have used it up
		l := newLine(x, x.route)
		x.lines = append(x.lines, l)
		if f := l.secure(ctx); f != nil {
			x.blame(end(failed(l.finding(f))))
			return
		}
		if n := l.speak(ctx); n != nil {
			x.blame(end(failed(n)))
			return
		}
		x.line = l
	}
	w := &vigil{x: x, start: time.Now()}
	p := w.hold(ctx)
	n := end(p)
	if p.Status == Failed {
		x.blame(n)
	}
}

// vigil is a watch under way.
type vigil struct {
	x     *exam
	start time.Time
	ev    []Fact
}

func (w *vigil) note(name, format string, args ...any) {
	w.ev = append(w.ev, fact(name, "after %s: %s", round(time.Since(w.start)), fmt.Sprintf(format, args...)))
}

// hold waits for the end of the stream, of the connection, or of the watch.
func (w *vigil) hold(ctx context.Context) Probe {
	ctx, cancel := context.WithTimeout(ctx, w.x.cfg.Watch)
	defer cancel()
	s := new(wire.ClientStream)
	defer s.Cancel()
	over := make(chan error, 1)
	if err := w.open(ctx, s); err != nil {
		over <- err
	} else {
		go func() { over <- w.follow(ctx, s) }()
	}
	var ping <-chan time.Time
	if w.x.cfg.Ping > 0 {
		t := time.NewTicker(w.x.cfg.Ping)
		defer t.Stop()
		ping = t.C
	}
	pings := 0
	l := w.x.line
	for {
		select {
		case err := <-over:
			over = nil
			if p := w.streamEnded(ctx, err); p != nil {
				return *p
			}
		case <-ping:
			if pings++; !l.ping(w.x.cfg.Timeout) && l.usable() {
				return w.sick(found(w.x.steps.Silence(l.r.addr, l.nc, w.x.cfg.Ping, w.x.cfg.Timeout)))
			}
		case <-l.retired:
			return w.connEnded()
		case <-l.ended:
			if over != nil && ctx.Err() == nil { // the stream's end says more
				if f, ok := fault.From(<-over); ok && f.Layer() == fault.LayerHTTP2 {
					return w.sick(found(f))
				}
			}
			return w.connEnded()
		case <-ctx.Done():
			return w.overs(pings)
		}
	}
}

// open begins a stream that is meant to stay.
func (w *vigil) open(ctx context.Context, s *wire.ClientStream) error {
	return w.x.start(ctx, w.x.line, s, question{path: watchPath, messages: [][]byte{w.x.healthRequest()}, many: true, endless: true})
}

// follow reads the stream to its end.
func (w *vigil) follow(ctx context.Context, s *wire.ClientStream) error {
	for {
		m, err := s.Recv(ctx.Done())
		if err != nil {
			return err
		}
		m.Free()
	}
}

// streamEnded judges the end of the stream; nil goes on without one.
func (w *vigil) streamEnded(ctx context.Context, err error) *Probe {
	if errors.Is(err, wire.ErrDone) || ctx.Err() != nil {
		return nil
	}
	if err == io.EOF {
		w.note("stream", "the server ended it with OK")
		return nil
	}
	f, ok := fault.From(err)
	switch {
	case !ok:
		w.note("stream", "%v", err)
	case f.Verbatim() && f.Code() == codes.Unimplemented:
		w.note("stream", "the server has no stream that stays open; the connection alone is held")
	case f.Layer() == fault.LayerHTTP2:
		if !w.x.line.usable() {
			return nil // the connection's end says it
		}
		p := w.sick(found(f))
		return &p
	case f.Verbatim() || f.ID() == "wire.http-status":
		w.note("stream", "%s %s", codes.Name(f.Code()), f.Message())
	default:
		w.note("stream", "%s", f.Message())
		p := w.sick(found(f))
		return &p
	}
	return nil
}

// connEnded judges the end of the connection. A GOAWAY without an error is a
// server's good right.
func (w *vigil) connEnded() Probe {
	l := w.x.line
	after := round(time.Since(w.start))
	if g := l.goAway.Load(); g != nil {
		w.note("connection", "%v", g)
		switch {
		case g.Code == h2.EnhanceYourCalm && g.Debug == "too_many_pings":
			return w.sick(named("http2.goaway-calm").says(fault.Remote, fault.No, "the server closed the connection after %s: too many pings", after))
		case g.Code != h2.NoError:
			return w.sick(named("http2.goaway-error").says(fault.Remote, fault.No, "the server closed the connection after %s: %v", after, g))
		}
		p := Probe{Status: Note, Evidence: w.ev, Summary: "the server retired the connection after " + after + ", in order: " + g.Error()}
		switch g.Debug {
		case "max_age":
			p.Finding = named("server.max-age").says(fault.Remote, fault.No, "retired after %s", after)
		case "max_idle":
			p.Finding = named("server.max-idle").says(fault.Remote, fault.No, "retired after %s", after)
		default:
			p.Finding = named("http2.goaway").says(fault.Remote, fault.No, "retired after %s: %v", after, g)
		}
		return p
	}
	<-l.ended
	w.note("connection", "%v", l.err)
	return w.sick(named("http2.connection-lost").says(fault.Between, fault.No,
		"the connection broke after %s, without a GOAWAY: something cuts idle connections, or the server died: %v", after, l.err))
}

// overs is the end of the watch: does the connection still carry anything?
func (w *vigil) overs(pings int) Probe {
	l := w.x.line
	if !l.usable() {
		return w.connEnded()
	}
	if !l.ping(w.x.cfg.Timeout) && l.usable() {
		return w.sick(found(l.x.steps.Silence(l.r.addr, l.nc, w.x.cfg.Watch, w.x.cfg.Timeout)))
	}
	p := Probe{Status: OK, Summary: "held for " + w.x.cfg.Watch.String() + ", and the peer still answers", Evidence: w.ev}
	if pings > 0 {
		p.Summary += fmt.Sprintf("; %s every %v were tolerated", plural(pings, "PING", "PINGs"), w.x.cfg.Ping)
	}
	return p
}

func (w *vigil) sick(n *Finding) Probe {
	return failed(n, w.ev...)
}
