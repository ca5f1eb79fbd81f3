// SPDX-License-Identifier: Apache-2.0

package wire

import (
	"errors"
	"fmt"

	"google.golang.org/grpc/codes"

	"github.com/faultline-rpc/faultline/fault"
	"github.com/faultline-rpc/faultline/h2"
)

func (s *ClientStream) peer() string {
	if c := s.Conn(); c != nil {
		return c.NetConn().RemoteAddr().String()
	}
	return "the peer"
}

// evidence is what is known of the stream wherever it fails.
func (s *ClientStream) evidence() *fault.Evidence {
	s.recv.mu.Lock()
	defer s.recv.mu.Unlock()
	return s.evidenceLocked()
}

func (s *ClientStream) evidenceLocked() *fault.Evidence {
	ev := &fault.Evidence{Method: s.tmpl.path, Stream: s.ID(), Messages: s.recv.got, Answered: s.head != nil, Sent: true}
	if c := s.Conn(); c != nil {
		locate(ev, c)
	}
	return ev
}

func locate(ev *fault.Evidence, c *h2.Conn) {
	if a := c.NetConn().RemoteAddr(); a != nil {
		ev.Address, ev.Network = a.String(), a.Network()
	}
	if a := c.NetConn().LocalAddr(); a != nil {
		ev.Local = a.String()
	}
}

// located adds to a fault of the pure parts where it happened, and that a
// handler ran if a message had come.
func (s *ClientStream) located(f *fault.Fault) *fault.Fault {
	s.recv.mu.Lock()
	defer s.recv.mu.Unlock()
	return s.locatedLocked(f)
}

func (s *ClientStream) locatedLocked(f *fault.Fault) *fault.Fault {
	here := s.evidenceLocked()
	here.Answered = true
	f = f.WithEvidence(mergeEvidence(f.Evidence(), here))
	if s.recv.got > 0 || f.Entry() == fault.CodecTooLarge {
		f = f.WithProcessed(fault.Yes) // a message, if only the start of one, came from a handler
	}
	return f
}

// mergeEvidence adds to what a fault shows at which stream it was.
func mergeEvidence(ev fault.Evidence, at *fault.Evidence) fault.Evidence {
	ev.Method, ev.Stream, ev.Messages = at.Method, at.Stream, at.Messages
	ev.Address, ev.Network, ev.Local = at.Address, at.Network, at.Local
	ev.Answered, ev.Sent = at.Answered, at.Sent
	return ev
}

// unseen is what a promise of the peer's that it did nothing is worth: an
// answer refutes it.
func unseen(ev *fault.Evidence) fault.Processed {
	switch {
	case ev.Messages > 0:
		return fault.Yes
	case ev.Answered:
		return fault.Maybe
	}
	return fault.No
}

// streamFault says what the end of a stream means, as h2 reports it.
func (s *ClientStream) streamFault(err error) *fault.Fault {
	var se *h2.StreamError
	if !errors.As(err, &se) {
		return s.connFault(s.Conn(), err)
	}
	ev := s.evidence()
	ev.HTTP2Code = se.Code.String()
	a := fault.Args{Evidence: ev, Cause: err}
	if ev.Messages > 0 {
		a.Processed = fault.Yes
	}
	if se.By == h2.Local {
		a.Side, a.Code = fault.Remote, codes.Internal
		if se.Code == h2.FlowControlError {
			return fault.HTTP2FlowControl.Newf(a, "%s broke flow control: %s", ev.Address, se.Reason)
		}
		return fault.HTTP2Protocol.Newf(a, "%s broke a rule of HTTP/2: %s", ev.Address, se.Reason)
	}
	a.Side = fault.Remote
	e, code := ForReset(se.Code)
	a.Code = code
	if e == fault.HTTP2RefusedStream {
		a.Processed = unseen(ev) // "guaranteed not to have been processed": RFC 9113 section 8.7
	}
	return e.Newf(a, "%s reset the stream with %v", ev.Address, se.Code)
}

// connFault says what the end of a connection, or its refusal to open a
// stream, means for this stream.
func (s *ClientStream) connFault(c *h2.Conn, err error) *fault.Fault {
	ev := s.evidence()
	locate(ev, c)
	ev.Sent = s.Sent()
	a := fault.Args{Evidence: ev, Cause: err, Side: fault.Remote}
	switch {
	case ev.Messages > 0:
		a.Processed = fault.Yes
	case !ev.Sent:
		a.Processed = fault.No
	}
	var ga *h2.GoAwayError
	var ce *h2.ConnError
	switch {
	case errors.Is(err, h2.ErrHeaderList):
		a.Side, a.Code, a.Processed, a.Cause = fault.Local, codes.Internal, fault.No, err
		return fault.HTTP2HeaderList.Newf(a, "the request's header section is larger than %s allows", ev.Address)
	case errors.As(err, &ga):
		return goAwayFault(ga, a)
	case errors.As(err, &ce):
		if s.ID() == 0 && ce.Kind == h2.Closed { // it was too late for this stream: another connection may take it
			return goAwayFault(retirement(ce), a)
		}
		return connEnd(ce, a)
	}
	a.Side = fault.Between
	return fault.HTTP2ConnectionLost.New(a)
}

// retirement is why a connection that was closed in order takes no streams.
func retirement(e *h2.ConnError) *h2.GoAwayError {
	if e.By == h2.Peer && e.GoAway != nil {
		return e.GoAway
	}
	return &h2.GoAwayError{Local: true}
}

// goAwayFault is a stream above a GOAWAY's last id, or one that was not opened
// for it: the peer promises that it did nothing (RFC 9113 section 6.8).
func goAwayFault(g *h2.GoAwayError, a fault.Args) *fault.Fault {
	a.Processed = unseen(a.Evidence)
	a.Evidence.HTTP2Code, a.Evidence.LastStream, a.Evidence.Debug = g.Code.String(), g.LastID, g.Debug
	if g.Local {
		a.Side = fault.Local
		a.Evidence.HTTP2Code = "" // no frame was received
		return fault.HTTP2GoAway.Newf(a, "this side is retiring the connection to %s", a.Evidence.Address)
	}
	if g.Code == h2.EnhanceYourCalm && g.Debug == "too_many_pings" { // gRFC A8's wire format
		return fault.HTTP2GoAwayCalm.Newf(a, "%s closes the connection: too many keepalive pings", a.Evidence.Address)
	}
	return fault.HTTP2GoAway.Newf(a, "%s closes the connection (%s) and has not looked at this call", a.Evidence.Address, describeGoAway(g))
}

func describeGoAway(g *h2.GoAwayError) string {
	s := "GOAWAY " + g.Code.String()
	if g.Debug != "" {
		s += fmt.Sprintf(" %q", clip(g.Debug))
	}
	return s
}

// connEnd is a stream that was open when its connection ended.
func connEnd(e *h2.ConnError, a fault.Args) *fault.Fault {
	ev := a.Evidence
	if !e.Ready && (e.Kind == h2.NotHTTP2 || e.Kind == h2.PrefaceTimeout) {
		a.Processed = fault.No // the connection never became HTTP/2
	}
	if f, ok := fault.From(e.Err); ok { // who gave the connection up has stamped why
		return f.WithEvidence(mergeEvidence(f.Evidence(), ev)).WithProcessed(a.Processed)
	}
	if g := e.GoAway; g != nil {
		ev.HTTP2Code, ev.LastStream, ev.Debug = g.Code.String(), g.LastID, g.Debug
		switch {
		case g.Code == h2.EnhanceYourCalm && g.Debug == "too_many_pings":
			return fault.HTTP2GoAwayCalm.Newf(a, "%s closed the connection: too many keepalive pings", ev.Address)
		case g.Code != h2.NoError:
			return fault.HTTP2GoAwayError.Newf(a, "%s closed the connection with %s", ev.Address, describeGoAway(g))
		}
	}
	switch e.Kind {
	case h2.Violation, h2.NotHTTP2:
		ev.HTTP2Code = e.Code.String()
		a.Code = codes.Internal
		switch e.Code {
		case h2.FlowControlError:
			return fault.HTTP2FlowControl.Newf(a, "%s broke flow control: %s", ev.Address, e.Reason)
		case h2.CompressionError:
			return fault.HTTP2Compression.Newf(a, "%s sent a header block that cannot be decoded: %s", ev.Address, e.Reason)
		}
		if errors.Is(e.Err, h2.ErrHeaderBlock) {
			return fault.HTTP2HeaderList.Newf(a, "%s sent headers far larger than this side's limit: %s", ev.Address, e.Reason)
		}
		return fault.HTTP2Protocol.Newf(a, "%s broke a rule of HTTP/2: %s", ev.Address, e.Reason)
	case h2.PrefaceTimeout:
		return fault.HTTP2SettingsTimeout.Newf(a, "%s sent no SETTINGS in time", ev.Address)
	case h2.SettingsTimeout:
		return fault.HTTP2SettingsTimeout.Newf(a, "%s did not acknowledge SETTINGS in time", ev.Address)
	case h2.Closed, h2.Aborted:
		if e.By == h2.Local {
			a.Side = fault.Local
			return fault.CallClosed.Newf(a, "the client was closed while the call ran")
		}
	}
	a.Side = fault.Between
	if e.Err != nil {
		return fault.HTTP2ConnectionLost.Newf(a, "the connection to %s broke: %v", ev.Address, e.Err)
	}
	return fault.HTTP2ConnectionLost.Newf(a, "the connection to %s broke", ev.Address)
}
