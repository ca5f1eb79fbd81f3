// SPDX-License-Identifier: Apache-2.0

package wire

import (
	"errors"
	"io"
	"strings"
	"sync/atomic"
	"time"
	"unsafe"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"

	"github.com/faultline-rpc/faultline/codec"
	"github.com/faultline-rpc/faultline/fault"
	"github.com/faultline-rpc/faultline/h2"
	"github.com/faultline-rpc/faultline/h2/hpack"
)

// TemplateSpec is what the requests to one method have in common.
type TemplateSpec struct {
	Scheme         string // "http" or "https"
	Authority      string
	Path           string // "/package.Service/Method"
	Subtype        string // content-subtype; "" for plain application/grpc
	UserAgent      string
	Encoding       string // grpc-encoding; "" for identity
	AcceptEncoding string // grpc-accept-encoding; "" for none
}

// Template is the fixed part of a request's header section. It is immutable.
type Template struct {
	h    *hpack.Template
	path string
}

// NewTemplate makes a template, its fields in the order that PROTOCOL-HTTP2
// asks for: "Request-Headers -> Call-Definition *Custom-Metadata".
func NewTemplate(s TemplateSpec) *Template {
	fields := []hpack.Field{
		{Name: ":method", Value: "POST"},
		{Name: ":scheme", Value: s.Scheme},
		{Name: ":path", Value: s.Path},
		{Name: ":authority", Value: s.Authority},
		{Name: "content-type", Value: ContentType(s.Subtype)},
		{Name: "user-agent", Value: s.UserAgent},
		{Name: "te", Value: "trailers"},
	}
	if s.Encoding != "" {
		fields = append(fields, hpack.Field{Name: "grpc-encoding", Value: s.Encoding})
	}
	if s.AcceptEncoding != "" {
		fields = append(fields, hpack.Field{Name: "grpc-accept-encoding", Value: s.AcceptEncoding})
	}
	return &Template{h: hpack.NewTemplate(fields...), path: s.Path}
}

// CheckAuthority returns the fault of calls for a host that no server could
// read as it was meant, or nil.
func CheckAuthority(name string) *fault.Fault {
	strange := func(r rune) bool { return r < '!' || r > '~' || r == '/' || r == '@' }
	if strings.ContainsFunc(name, strange) {
		return RefuseAuthority(name, "expected a host, or host:port", nil)
	}
	return nil
}

// RefuseAuthority is the fault of a call for a host that is none, or that the
// credentials do not vouch for.
func RefuseAuthority(name, why string, cause error) *fault.Fault {
	return fault.WireAuthority.Newf(fault.Args{Code: codes.Unauthenticated, Side: fault.Local, Processed: fault.No,
		Evidence: &fault.Evidence{Authority: name}, Cause: cause}, "the call's authority %q is refused: %s", name, why)
}

// Request is one attempt's request.
type Request struct {
	Template *Template
	// Timeout is sent as grpc-timeout; 0 means none.
	Timeout time.Duration
	// Metadata comes from [AppendMetadata].
	Metadata []hpack.Field
	// MaxRecv is the limit for messages received.
	MaxRecv codec.Limit
	// Unary says that the answer is awaited as a whole, by RecvUnary.
	Unary bool

	// Storage of Start, which leaves nothing in it: a Request that is used
	// again costs no allocation.
	fields  []hpack.Field
	timeout [12]byte
}

// Progress says how far an attempt came.
type Progress struct {
	Sent     bool  // the request's headers may have left this process
	Headers  bool  // response headers have arrived
	Messages int64 // response messages that have arrived
	Trailers bool  // the status has arrived: the stream ended in order
}

// ClientStream is a client's side of one attempt. One goroutine may send while
// another receives; neither may do so twice at a time. The zero value is ready
// for Start.
type ClientStream struct {
	h2.Stream
	recv receiver
	tmpl *Template // what was asked for

	// The reader's own.
	first *ResponseHead // the first header section, if more has to follow

	// Guarded by recv.mu.
	head      *ResponseHead // first, if it is gRPC's
	headAt    time.Duration // when it came, as h2.Conn.HeardAt has it
	headKnown chan struct{} // made by whoever waits for the head
	trailer   *Trailer      // nil before it has come
	foreign   *foreign      // an answer that is no gRPC and goes on
	inOrder   bool          // the answer ended with trailers
	abandoned bool          // this side reset the stream
	canceled  bool          // by Cancel

	closed atomic.Bool // END_STREAM is sent, and nobody sends any more
}

// Start opens the stream on conn and sends msg, prefix included, as its first
// message if it is not nil; end closes the sending side. It waits for a free
// stream, and for window, until done is closed.
//
// It returns ErrDone, and the stream has to be canceled; or a *fault.Fault if
// the stream could not be opened, and nothing was sent. A stream that fails later returns nil: Recv says why.
func (s *ClientStream) Start(conn *h2.Conn, req *Request, msg []byte, end bool, done <-chan struct{}) error {
	s.Attach((*clientEvents)(s))
	s.recv.limit, s.recv.garbage, s.recv.whole = req.MaxRecv, fault.CodecResponseParse, req.Unary
	s.tmpl = req.Template
	fields := req.Metadata
	if req.Timeout > 0 {
		// The encoder does not keep literals: the text lives in the request.
		v := AppendTimeout(req.timeout[:0], req.Timeout)
		fields = append(req.fields[:0], hpack.Field{Name: "grpc-timeout", Value: unsafe.String(&v[0], len(v)), Index: hpack.Literal})
		fields = append(fields, req.Metadata...)
		req.fields = fields[:0]
	}
	err := conn.Open(&s.Stream, h2.Header{Fixed: req.Template.h, Fields: fields}, msg, end, done)
	if req.Timeout > 0 {
		clear(fields) // secrets end with their call
	}
	if err == nil || errors.Is(err, h2.ErrEnded) {
		if err == nil && end {
			s.closed.Store(true)
		}
		return nil
	}
	if errors.Is(err, ErrDone) {
		return ErrDone
	}
	return s.connFault(conn, err)
}

// Send sends one message, prefix included; end closes the sending side. It
// returns io.EOF if the stream is over, and Recv says why; or ErrDone.
func (s *ClientStream) Send(msg []byte, end bool, done <-chan struct{}) error {
	switch err := s.WriteData(msg, end, done); err {
	case nil:
		if end {
			s.closed.Store(true)
		}
		return nil
	case ErrDone:
		return ErrDone
	default:
		return io.EOF
	}
}

// CloseSend closes the sending side. It does nothing on a stream that is over.
func (s *ClientStream) CloseSend() error {
	return s.Send(nil, true, nil)
}

// Head waits for the response headers. It returns nil, nil if the stream ended
// without any that belong to gRPC, as trailers-only answers do. The head is
// shared: copy its MD before a program gets it.
func (s *ClientStream) Head(done <-chan struct{}) (*ResponseHead, error) {
	r := &s.recv
	r.mu.Lock()
	if s.head == nil && !r.end {
		if s.headKnown == nil {
			s.headKnown = make(chan struct{})
		}
		ch := s.headKnown
		r.unlock()
		select {
		case <-ch:
		case <-done:
			return nil, ErrDone
		}
		r.mu.Lock()
	}
	defer r.unlock()
	return s.head, nil
}

// Recv returns the next message; io.EOF at the end of an OK stream; the
// *fault.Fault that ended it; or ErrDone.
func (s *ClientStream) Recv(done <-chan struct{}) (Message, error) {
	return s.RecvInto(done, codec.Direct{})
}

// RecvInto is Recv, but a small message for which it has to wait is decoded
// into into, if that is wanted.
func (s *ClientStream) RecvInto(done <-chan struct{}, into codec.Direct) (Message, error) {
	m, credit, err := s.recv.take(done, into)
	if credit > 0 {
		s.Consumed(credit)
	}
	return m, err
}

// RecvUnary waits for the end of the stream and returns its one message.
// "Cardinality violations" are UNIMPLEMENTED (doc/statuscodes.md). The error
// is a *fault.Fault, or ErrDone.
func (s *ClientStream) RecvUnary(done <-chan struct{}) (Message, error) {
	return s.RecvUnaryInto(done, codec.Direct{})
}

// RecvUnaryInto is RecvUnary, but a small message is decoded into into, if that
// is wanted, even where the stream then fails.
func (s *ClientStream) RecvUnaryInto(done <-chan struct{}, into codec.Direct) (Message, error) {
	r := &s.recv
	r.taking.Lock()
	defer r.taking.Unlock()
	r.mu.Lock()
	r.whole = true
	for !r.end {
		if r.got > 1 { // they came before this call: see receiver.data
			r.unlock()
			return Message{}, s.surplus()
		}
		r.target = into
		woken := r.waitLocked(done)
		if r.target = (codec.Direct{}); !woken {
			r.unlock()
			return Message{}, ErrDone
		}
	}
	defer r.unlock()
	switch {
	case r.err != nil:
		r.discardLocked()
		return Message{}, r.err
	case r.got == 1 && r.decoded:
		r.decoded = false
		return Message{Decoded: true}, nil
	case r.got == 1 && (r.hasLent || r.ready > 0):
		m, _ := r.popLocked()
		return m, nil
	}
	if r.got == 1 {
		return Message{}, fault.CallMisuse.Newf(fault.Args{Side: fault.Local, Processed: fault.Yes, Evidence: s.evidenceLocked()}, "the answer was received already")
	}
	r.discardLocked()
	return Message{}, s.cardinalityLocked()
}

// cardinalityLocked is an answer of OK that is not one message.
func (s *ClientStream) cardinalityLocked() *fault.Fault {
	if s.recv.got > 0 {
		return s.locatedLocked(severalMessages(s.recv.got))
	}
	return s.locatedLocked(fault.WireCardinality.Newf(fault.Args{Side: fault.Remote}, "the answer is OK and has no message, want exactly one"))
}

// surplus gives up a stream on which too many messages came.
func (s *ClientStream) surplus() *fault.Fault {
	s.Stream.Reset(h2.Cancel)
	s.recv.mu.Lock()
	defer s.recv.unlock()
	s.abandoned = true
	f := s.cardinalityLocked()
	s.endLocked(f)
	s.recv.discardLocked()
	return f
}

// Trailer returns the trailing metadata, after the end, nil after Cancel. It is
// shared.
func (s *ClientStream) Trailer() metadata.MD {
	s.recv.mu.Lock()
	defer s.recv.unlock()
	if s.canceled || s.trailer == nil {
		return nil // if canceled, they came while the caller decided otherwise
	}
	return s.trailer.MD
}

// TrailerSize returns the size of the trailers in bytes as they came,
// compressed; 0 before.
func (s *ClientStream) TrailerSize() int {
	s.recv.mu.Lock()
	defer s.recv.unlock()
	if s.trailer == nil {
		return 0
	}
	return s.trailer.WireSize
}

// Outcome returns how the stream ended: nil for OK, a *fault.Fault, or ErrDone
// after Cancel. Before the end it is nil as well.
func (s *ClientStream) Outcome() error {
	s.recv.mu.Lock()
	defer s.recv.unlock()
	return s.recv.err
}

// Ended reports whether the stream is over.
func (s *ClientStream) Ended() bool {
	s.recv.mu.Lock()
	defer s.recv.unlock()
	return s.recv.end
}

// Cancel ends the stream with RST_STREAM CANCEL, unless it has ended, and
// drops what waits. A Recv under way or to come returns ErrDone, unless the
// stream had ended before and nothing waited. The storage must not be used again. It may be
// called at any time after Start has returned, from any goroutine.
func (s *ClientStream) Cancel() {
	s.Stream.Reset(h2.Cancel)
	s.recv.mu.Lock()
	s.abandoned, s.canceled = true, true
	s.recv.abortLocked(ErrDone)
	s.endLocked(ErrDone)
	s.recv.unlock()
}

// endLocked ends the stream, and the wait for its head.
func (s *ClientStream) endLocked(err error) {
	if s.foreign != nil {
		if t := s.foreign.patience; t != nil {
			t.Stop()
		}
		s.foreign = nil
	}
	if s.headKnown != nil {
		close(s.headKnown)
		s.headKnown = nil
	}
	s.recv.finishUnderLock(err)
}

// Progress says how far the attempt came.
func (s *ClientStream) Progress() Progress {
	p := Progress{Sent: s.Sent()}
	s.recv.mu.Lock()
	defer s.recv.unlock()
	p.Headers, p.Messages, p.Trailers = s.head != nil, s.recv.got, s.inOrder
	return p
}

// Times is what a stream waited for, as far as it is over.
type Times struct {
	h2.Blocked
	Head time.Time // when the response headers came; zero: they have not
}

// Times returns what the stream, which Start was asked to open on conn, waited
// for.
func (s *ClientStream) Times(conn *h2.Conn) Times {
	t := Times{Blocked: s.Blocked(conn)}
	s.recv.mu.Lock()
	defer s.recv.unlock()
	if s.head != nil {
		t.Head = conn.At(s.headAt)
	}
	return t
}

// Recyclable reports whether the stream ended in such a way that nothing
// refers to it any more: this side ended first and then the peer, in order.
func (s *ClientStream) Recyclable() bool {
	s.recv.mu.Lock()
	defer s.recv.unlock()
	return s.closed.Load() && s.inOrder && !s.abandoned && s.recv.err == nil
}

// Renew makes a recyclable stream new.
func (s *ClientStream) Renew() {
	s.recv.discard()
	s.recv.reset()
	s.first = nil
	s.head, s.headAt, s.headKnown, s.trailer = nil, 0, nil, nil
	s.inOrder, s.abandoned, s.canceled = false, false, false
	s.closed.Store(false)
}
