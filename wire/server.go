// SPDX-License-Identifier: Apache-2.0

package wire

import (
	"errors"
	"net"
	"sync"

	"google.golang.org/grpc/codes"

	"github.com/faultline-rpc/faultline/codec"
	"github.com/faultline-rpc/faultline/fault"
	"github.com/faultline-rpc/faultline/h2"
	"github.com/faultline-rpc/faultline/h2/hpack"
)

// Dispatch says when a request goes to its handler.
type Dispatch uint8

const (
	// Now: at once, the messages follow.
	Now Dispatch = iota
	// Whole: when the request has arrived completely.
	Whole
	// Refused: never, it has been answered.
	Refused
)

// ServerHandler takes what arrives on a server's connection. Its methods run
// on the connection's reader and must not block.
type ServerHandler interface {
	// NewStream returns storage for one stream, its Owner set; nil refuses the
	// stream with REFUSED_STREAM.
	NewStream() *ServerStream
	// BatchEnd follows the dispatches of one read.
	BatchEnd()
	// Ready, GoAway and Closed are h2.ConnHandler's.
	Ready()
	GoAway(*h2.GoAwayError)
	Closed(*h2.ConnError)
}

// CallHandler takes what arrives on one stream. Its methods run on the
// connection's reader and must not block.
type CallHandler interface {
	// Open looks at the request's head and decides. It may set MaxRecv, and
	// answer with Finish.
	Open() Dispatch
	// Dispatch queues the stream for its handler.
	Dispatch()
	// Reset says that the stream is over before it was answered.
	Reset(f *fault.Fault)
	// Overloaded says that the request's bytes exceed the budget; the handler
	// answers with Finish. What it returns is what a wait for more ends with.
	Overloaded() *fault.Fault
	// Refused says that the request was answered with f, in place of Open.
	Refused(f *fault.Fault)
}

// NewServerConn starts a server's connection over nc. The caller runs its Run.
func NewServerConn(nc net.Conn, cfg h2.Config, h ServerHandler, budget *Budget) *h2.Conn {
	return h2.NewServer(nc, cfg, &serverConn{h: h, account: account{budget: budget}})
}

// EachOpen calls f with the owner of each open stream of a server's
// connection. f runs under the connection's lock: it must not wait, nor use
// the connection or its streams.
func EachOpen(c *h2.Conn, f func(CallHandler)) {
	c.EachStream(func(h h2.StreamHandler) {
		if e, ok := h.(*serverEvents); ok {
			f(e.Owner)
		}
	})
}

// serverConn is a server's connection as h2 sees it.
type serverConn struct {
	h       ServerHandler
	account account // of all streams' bytes that wait
}

func (c *serverConn) Ready()                   { c.h.Ready() }
func (c *serverConn) BatchEnd()                { c.h.BatchEnd() }
func (c *serverConn) GoAway(g *h2.GoAwayError) { c.h.GoAway(g) }
func (c *serverConn) Closed(err *h2.ConnError) { c.h.Closed(err) }
func (c *serverConn) NewStream(*h2.Block) *h2.Stream {
	s := c.h.NewStream()
	if s == nil {
		return nil
	}
	s.c = c
	s.Attach((*serverEvents)(s))
	return &s.Stream
}

// ServerStream is a server's side of one call. One goroutine may send while
// another receives. The zero value with an Owner is ready for use.
type ServerStream struct {
	h2.Stream
	// Owner is told what arrives. NewStream sets it, and Renew leaves it.
	Owner CallHandler
	// MaxRecv is the limit for messages received; Open sets it.
	MaxRecv codec.Limit

	c    *serverConn
	head *RequestHead
	recv receiver

	mode   Dispatch // the reader's own
	opened bool     // the reader's own: the handler knows the stream
	whole  bool     // guarded by recv.mu: dispatched Whole, and the request has ended

	mu         sync.Mutex
	headerSent bool            // guarded by mu
	finished   bool            // guarded by mu
	inOrder    bool            // guarded by mu: answered after the whole request, all of it sent
	foreign    *foreignRequest // guarded by mu: that has no answer yet
}

// Head returns what the request's headers say.
func (s *ServerStream) Head() *RequestHead { return s.head }

// Recv returns the next message; io.EOF at the end of the request; the
// *fault.Fault that ended it; or ErrDone.
func (s *ServerStream) Recv(done <-chan struct{}) (Message, error) {
	return s.RecvInto(done, codec.Direct{})
}

// RecvInto is Recv, but a small message for which it has to wait is decoded
// into into, if that is wanted.
func (s *ServerStream) RecvInto(done <-chan struct{}, into codec.Direct) (Message, error) {
	m, credit, err := s.recv.take(done, into)
	if credit > 0 {
		s.Consumed(credit)
	}
	if err == errAnswered {
		err = s.answered()
	}
	return m, err
}

// errAnswered ends a request that was answered before it had ended.
var errAnswered = errors.New("wire: the call is answered")

func (s *ServerStream) answered() *fault.Fault {
	return fault.CallMisuse.Newf(fault.Args{Side: fault.Local, Processed: fault.Yes, Evidence: s.evidence()}, "the call has been answered, and is over")
}

// RecvUnary returns the one message of a request that was dispatched Whole.
// The error is a *fault.Fault, wire.cardinality among them: "cardinality
// violations" are UNIMPLEMENTED (doc/statuscodes.md).
func (s *ServerStream) RecvUnary() (Message, error) {
	r := &s.recv
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case r.err == errAnswered:
		return Message{}, s.answered()
	case r.err != nil:
		r.discardLocked()
		return Message{}, r.err
	case r.got == 1 && (r.hasLent || r.ready > 0):
		m, _ := r.popLocked()
		return m, nil
	case r.got == 1:
		return Message{}, fault.CallMisuse.Newf(fault.Args{Side: fault.Local, Processed: fault.Yes, Evidence: s.evidence()}, "the request was received already")
	}
	r.discardLocked()
	f := severalMessages(r.got)
	return Message{}, f.WithEvidence(mergeEvidence(f.Evidence(), s.evidence())).WithProcessed(fault.No)
}

// Received returns how many messages have arrived.
func (s *ServerStream) Received() int64 {
	s.recv.mu.Lock()
	defer s.recv.mu.Unlock()
	return s.recv.got
}

// responseKey is what an answer's fixed fields depend on. What is kept by it are
// names of this program's registries, so their number is bounded.
type responseKey struct{ subtype, encoding string }

var (
	plainResponse = newResponseTemplate(responseKey{})
	responses     sync.Map // responseKey to *hpack.Template
	okTrailer     = hpack.NewTemplate(hpack.Field{Name: "grpc-status", Value: "0"})
)

func newResponseTemplate(k responseKey) *hpack.Template {
	fields := []hpack.Field{{Name: ":status", Value: "200"}, {Name: "content-type", Value: ContentType(k.subtype)}}
	if k.encoding != "" {
		fields = append(fields, hpack.Field{Name: "grpc-encoding", Value: k.encoding})
	}
	return hpack.NewTemplate(fields...)
}

// maxEcho bounds, in bytes, a content-subtype that nobody here knows and that is
// the answer's nevertheless, as some clients insist.
const maxEcho = 64

func responseTemplate(subtype, encoding string) *hpack.Template {
	k := responseKey{subtype, encoding}
	if k == (responseKey{}) {
		return plainResponse
	}
	if t, ok := responses.Load(k); ok {
		return t.(*hpack.Template)
	}
	if _, known := codec.Lookup(subtype); !known { // what is kept must not grow by a peer's inventions
		if len(subtype) > maxEcho {
			k.subtype = ""
		}
		return newResponseTemplate(k)
	}
	t, _ := responses.LoadOrStore(k, newResponseTemplate(k))
	return t.(*hpack.Template)
}

// HeaderSent reports whether response headers have been sent.
func (s *ServerStream) HeaderSent() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.headerSent
}

// SendHeader sends the response headers. The error is a *fault.Fault:
// call.misuse if they were sent before, or what ended the stream.
func (s *ServerStream) SendHeader(subtype, encoding string, md []hpack.Field) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.headerSent || s.finished {
		return fault.CallMisuse.Newf(fault.Args{Side: fault.Local, Evidence: s.evidence()}, "response headers were sent already")
	}
	if err := s.WriteHeader(h2.Header{Fixed: responseTemplate(subtype, encoding), Fields: md}, false); err != nil {
		return s.sendFault(err)
	}
	s.headerSent = true
	return nil
}

// Send sends one message, prefix included; headers must have been sent. The
// error is a *fault.Fault that says why the stream is over, or ErrDone.
func (s *ServerStream) Send(msg []byte, done <-chan struct{}) error {
	if err := s.WriteData(msg, false, done); err != nil {
		return s.sendFault(err)
	}
	return nil
}

// Respond sends the whole answer of a call that succeeded with one message:
// headers unless they were sent, message, and trailers with OK, under one lock
// of the connection. The error is as for Send; after ErrDone or
// http2.header-list the stream is open still: end it with Finish or Reset.
// http2.header-list means that the trailers were not sent, nor anything else
// if the headers were to go with them.
func (s *ServerStream) Respond(subtype, encoding string, md []hpack.Field, msg []byte, trailer []hpack.Field, done <-chan struct{}) error {
	s.mu.Lock()
	if s.finished {
		s.mu.Unlock()
		return s.sendFault(h2.ErrEnded)
	}
	sent := s.headerSent
	s.headerSent, s.finished = true, true
	s.mu.Unlock()
	trailers := h2.Header{Fixed: okTrailer, Fields: trailer}
	var err error
	if sent {
		if err = s.WriteData(msg, false, done); err == nil {
			err = s.WriteHeader(trailers, true)
		}
	} else {
		err = s.Stream.Respond(h2.Header{Fixed: responseTemplate(subtype, encoding), Fields: md}, msg, trailers, done)
	}
	if err != nil && err != h2.ErrEnded {
		s.mu.Lock()
		s.finished = false
		s.headerSent = sent || err != h2.ErrHeaderList
		s.mu.Unlock()
	}
	return s.settle(err)
}

// settle releases the request's rest when the handler is done with it. err is
// what became of the answer.
func (s *ServerStream) settle(err error) error {
	if err != nil {
		err = s.sendFault(err)
	}
	s.recv.mu.Lock()
	s.recv.abortLocked(errAnswered)
	whole := s.whole // the reader may be at the request's end just now
	s.recv.unlock()
	if err != nil {
		return err
	}
	s.mu.Lock()
	s.inOrder = whole
	s.mu.Unlock()
	return nil
}

// Reset ends the stream with RST_STREAM and drops what waits of the request.
// The storage is not recyclable.
func (s *ServerStream) Reset(code h2.Code) {
	s.mu.Lock()
	s.finished = true
	s.mu.Unlock()
	s.Stream.Reset(code)
	s.recv.abort(errAnswered)
}

// Status is the end of a call as it is sent.
type Status struct {
	Code    codes.Code
	Message string
	Details []byte // a marshaled google.rpc.Status, or nil
	// Trail are the values of [fault.TrailKey]: see [fault.WriteTrail].
	Trail []string
}

// Finish ends the stream with st: as trailers, or trailers-only if no headers
// were sent. It never waits, and releases what was not read of the request. A
// second Finish does nothing. Where the client does not take as many bytes of
// header fields the trail is left out, then trailer and details, and a long
// message is cut, then the whole message, before the stream is reset.
func (s *ServerStream) Finish(st Status, trailer []hpack.Field) error {
	s.mu.Lock()
	if s.finished {
		s.mu.Unlock()
		return nil
	}
	s.finished = true
	sent := s.headerSent
	s.mu.Unlock()
	h := h2.Header{}
	if !sent {
		h.Fixed = responseTemplate(s.head.Subtype, "")
	}
	var room [8]hpack.Field
	h.Fields = AppendStatus(room[:0], st.Code, st.Message, st.Details)
	for _, f := range trailer {
		if f.Name != detailsName || len(st.Details) == 0 { // the status's own details count
			h.Fields = append(h.Fields, f)
		}
	}
	without := len(h.Fields)
	h.Fields = appendTrail(h.Fields, st.Trail)
	err := s.WriteHeader(h, true)
	if err == h2.ErrHeaderList && len(st.Trail) > 0 {
		h.Fields = h.Fields[:without]
		err = s.WriteHeader(h, true)
	}
	for _, message := range []string{cutMessage(st.Message), ""} {
		if err == h2.ErrHeaderList { // the status fits without what the program added
			h.Fields = AppendStatus(room[:0], st.Code, message, nil)
			err = s.WriteHeader(h, true)
		}
	}
	if err == h2.ErrHeaderList {
		s.Stream.Reset(h2.InternalError)
	}
	return s.settle(err)
}

// Recyclable reports whether nothing refers to the stream any more: it was
// answered in order, after the whole request.
func (s *ServerStream) Recyclable() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.inOrder
}

// Renew makes a recyclable stream new.
func (s *ServerStream) Renew() {
	s.recv.discard()
	s.recv.reset()
	s.c, s.head, s.mode, s.opened, s.whole = nil, nil, Now, false, false
	s.MaxRecv = codec.Limit{}
	s.headerSent, s.finished, s.inOrder = false, false, false
}

// sendFault says why nothing can be sent: what ended the stream, if it is
// known already.
func (s *ServerStream) sendFault(err error) error {
	if err == ErrDone {
		return ErrDone
	}
	s.recv.mu.Lock()
	cause := s.recv.err
	s.recv.mu.Unlock()
	ev := s.evidence()
	if err == h2.ErrHeaderList {
		return fault.HTTP2HeaderList.Newf(fault.Args{Side: fault.Local, Processed: fault.Yes, Evidence: ev, Cause: err},
			"the answer's header section is larger than the client allows")
	}
	if f, ok := fault.From(cause); ok {
		return f
	}
	if cause == errAnswered {
		return s.answered()
	}
	if end := s.Cause(); end != nil { // the reader is about to say so
		return s.closeFault(end)
	}
	return fault.CallCancelled.Newf(fault.Args{Side: fault.Remote, Evidence: ev, Cause: err}, "the stream is over")
}

func (s *ServerStream) evidence() *fault.Evidence {
	ev := &fault.Evidence{Stream: s.ID()}
	if s.head != nil {
		ev.Method = clip(s.head.Path)
	}
	if c := s.Conn(); c != nil {
		locate(ev, c)
	}
	return ev
}
