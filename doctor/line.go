// SPDX-License-Identifier: Apache-2.0

package doctor

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"sync/atomic"
	"time"

	"google.golang.org/grpc/credentials"

	"github.com/faultline-rpc/faultline/fault"
	"github.com/faultline-rpc/faultline/h2"
	"github.com/faultline-rpc/faultline/wire"
)

// line is one connection: secure, then speak. It is its own h2.ConnHandler.
type line struct {
	x      *exam
	r      *route
	nc     net.Conn // secured
	info   credentials.AuthInfo
	tap    *tap
	conn   *h2.Conn // nil before speak
	ready  chan struct{}
	ended  chan struct{} // Run has returned
	err    error         // of Run, after ended
	goAway atomic.Pointer[h2.GoAwayError]

	retired chan struct{} // closed at the first GOAWAY

	settled time.Duration // until SETTINGS came
	rtt     time.Duration // of the PING; 0 if none was answered
	sample  string        // what the peer began with, where that is no HTTP/2
	shy     bool          // the PING was answered only once a request had begun
}

func newLine(x *exam, r *route) *line {
	return &line{x: x, r: r, ready: make(chan struct{}), ended: make(chan struct{}), retired: make(chan struct{})}
}

// secure dials, unless that is done, and shakes hands.
func (l *line) secure(ctx context.Context) *fault.Fault {
	ctx, cancel := l.x.connecting(ctx)
	defer cancel()
	nc := l.r.nc
	l.r.nc = nil
	if nc == nil {
		var f *fault.Fault
		if nc, f = l.x.steps.Dial(ctx, l.r.addr); f != nil {
			return f
		}
	}
	if l.x.sight != nil {
		l.x.sight.forget()
	}
	var f *fault.Fault
	l.nc, l.info, f = l.x.steps.Handshake(ctx, nc, l.r.addr)
	return f
}

// finding is what a failure to connect means.
func (l *line) finding(f *fault.Fault) *Finding {
	if l.x.sight == nil {
		return found(f)
	}
	return l.x.sight.finding(f)
}

func (l *line) tlsEvidence(f *fault.Fault) []Fact { return l.x.sight.evidence(f) }

func (l *line) tlsSummary() string {
	info, ok := l.info.(credentials.TLSInfo)
	if !ok {
		return "secured"
	}
	s := tls.VersionName(info.State.Version)
	if c := info.State.PeerCertificates; len(c) > 0 {
		if l.x.cfg.TLS.InsecureSkipVerify {
			return s + ", certificate not verified, " + left(c[0])
		}
		return s + ", certificate verified, " + left(c[0])
	}
	return s
}

// speak begins HTTP/2: the preface, the peer's SETTINGS, a PING, and the
// acknowledgement of our SETTINGS. A connection that ends in between, after the
// SETTINGS, is left for a call to fail on.
func (l *line) speak(ctx context.Context) *Finding {
	start := time.Now()
	limit := time.NewTimer(l.x.cfg.ConnectTimeout)
	defer limit.Stop()
	l.tap = newTap(l.nc)
	l.conn = h2.NewClient(l.tap, h2.Config{SettingsTimeout: time.Hour}, l)
	go func() {
		defer close(l.ended)
		l.err = l.conn.Run()
	}()
	late := false
	select {
	case <-l.ready:
		l.settled = time.Since(start)
		return l.greet(ctx, limit.C)
	case <-l.ended:
	case <-limit.C:
		late = true
	case <-ctx.Done():
		late = true
	}
	if late {
		l.conn.Abort(errGivenUp)
		<-l.ended
	}
	if l.spoke() { // both at once
		return nil
	}
	f := l.x.steps.PrefaceFault(l.err, l.r.addr, l.nc, l.x.cfg.TLS == nil, late)
	l.sample = f.Evidence().Sample
	return l.finding(f)
}

// errGivenUp aborts a connection that said nothing.
var errGivenUp = errors.New("the probe's time is up")

// greet sends a PING and waits for what is due: its answer, and the
// acknowledgement of the SETTINGS.
func (l *line) greet(ctx context.Context, limit <-chan time.Time) *Finding {
	sent := time.Now()
	pong := make(chan struct{})
	if !l.conn.Ping(func() { close(pong) }) {
		return nil
	}
	acked := l.tap.acked
	patience := time.NewTimer(min(l.x.cfg.ConnectTimeout/4, maxPatience))
	defer patience.Stop()
	for answered := pong; answered != nil || acked != nil; {
		select {
		case <-patience.C:
			if answered != nil {
				l.shy = true
				defer l.nudge(ctx)()
			}
		case <-answered:
			answered, l.rtt = nil, time.Since(sent)
		case <-acked:
			acked = nil
		case <-l.ended:
			return nil
		case <-ctx.Done():
			limit = closed
		case <-limit:
			if answered == nil {
				return named("http2.settings-timeout").says(fault.Remote, fault.No,
					"%s answered a PING but did not acknowledge SETTINGS within %v", l.r.addr.Addr, l.x.cfg.ConnectTimeout)
			}
			return found(l.x.steps.Silence(l.r.addr, l.nc, time.Since(sent).Round(time.Millisecond), l.x.cfg.ConnectTimeout).WithProcessed(fault.No))
		}
	}
	return nil
}

// maxPatience is how long a PING may go without an answer before a request is
// begun.
const maxPatience = time.Second

// nudge begins a request, as clients do at once: servers that share a port among
// protocols (cmux) read the first one before they answer anything else. Nobody
// has such a method, and no message is sent. The function returned takes the
// request back.
func (l *line) nudge(ctx context.Context) (back func()) {
	s := new(wire.ClientStream)
	_ = l.x.start(ctx, l, s, question{path: "/" + stranger + "/" + other}) // whether the PING is answered is what counts
	return s.Cancel
}

// closed is a limit that has passed.
var closed = func() chan time.Time { c := make(chan time.Time); close(c); return c }()

// ping reports whether the peer still answers.
func (l *line) ping(limit time.Duration) bool {
	pong := make(chan struct{})
	if !l.conn.Ping(func() { close(pong) }) {
		return false
	}
	t := time.NewTimer(limit)
	defer t.Stop()
	select {
	case <-pong:
		return true
	case <-l.ended:
	case <-t.C:
	}
	return false
}

// spoke reports whether the peer's SETTINGS came.
func (l *line) spoke() bool {
	select {
	case <-l.ready:
		return true
	default:
		return false
	}
}

// usable reports whether the connection takes streams.
func (l *line) usable() bool {
	select {
	case <-l.ended:
		return false
	case <-l.conn.Done():
		return false
	default:
		return l.goAway.Load() == nil
	}
}

// close ends the connection in order, and waits for it.
func (l *line) close() {
	switch {
	case l.conn != nil:
		l.conn.Close(h2.NoError, "")
		<-l.ended
	case l.nc != nil:
		l.nc.Close()
	}
}

// Ready implements h2.ConnHandler.
func (l *line) Ready() { close(l.ready) }

// NewStream implements h2.ConnHandler: servers open no streams.
func (l *line) NewStream(*h2.Block) *h2.Stream { return nil }

// BatchEnd implements h2.ConnHandler.
func (l *line) BatchEnd() {}

// GoAway implements h2.ConnHandler.
func (l *line) GoAway(g *h2.GoAwayError) {
	if l.goAway.Swap(g) == nil {
		close(l.retired)
	}
}

// Closed implements h2.ConnHandler.
func (l *line) Closed(*h2.ConnError) {}
