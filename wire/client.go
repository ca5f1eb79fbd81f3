// SPDX-License-Identifier: Apache-2.0

package wire

import (
	"errors"
	"io"
	"time"
	"unsafe"

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
		{Name: "content-type", Value: contentType(s.Subtype)},
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

func contentType(subtype string) string {
	if subtype == "" {
		return baseContentType
	}
	return baseContentType + "+" + subtype
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
}

// Progress says how far an attempt came.
type Progress struct {
	Sent     bool  // the request's headers may have left this process
	Headers  bool  // response headers have arrived
	Messages int64 // response messages that have arrived
}

// ClientStream is a client's side of one attempt. One goroutine may send while
// another receives; neither may do so twice at a time. The zero value is ready
// for Start.
type ClientStream struct {
	h2.Stream
	recv receiver
	path string

	// The reader's own, until recv.end.
	answered bool
	sample   []byte // the body of an answer that is no gRPC

	// Guarded by recv.mu.
	head      *ResponseHead
	headKnown chan struct{} // made by whoever waits for the head
	trailer   metadata.MD
	abandoned bool // Cancel was called

	fields  []hpack.Field
	timeout [12]byte
}

// Start opens the stream on conn and sends msg, prefix included, as its first
// message if it is not nil; end closes the sending side. It waits for a free
// stream, and for window, until done is closed.
//
// It returns ErrDone; or a *fault.Fault if the stream could not be opened, and
// nothing was sent. A stream that fails later returns nil: Recv says why.
func (s *ClientStream) Start(conn *h2.Conn, req *Request, msg []byte, end bool, done <-chan struct{}) error {
	s.Attach((*clientEvents)(s))
	s.recv.limit = req.MaxRecv
	s.recv.whole = req.Unary
	s.path = req.Template.path
	s.fields = s.fields[:0]
	if req.Timeout > 0 {
		// The encoder does not keep literals: the text lives in the stream.
		v := AppendTimeout(s.timeout[:0], req.Timeout)
		s.fields = append(s.fields, hpack.Field{Name: "grpc-timeout", Value: unsafe.String(&v[0], len(v)), Index: hpack.Literal})
	}
	s.fields = append(s.fields, req.Metadata...)
	err := conn.Open(&s.Stream, h2.Header{Fixed: req.Template.h, Fields: s.fields}, msg, end, done)
	if err == nil || errors.Is(err, h2.ErrEnded) {
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
	case nil, ErrDone:
		return err
	default:
		return io.EOF
	}
}

// CloseSend closes the sending side. It does nothing on a stream that is over.
func (s *ClientStream) CloseSend() error {
	if err := s.WriteData(nil, true, nil); err != nil {
		return io.EOF
	}
	return nil
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
		r.mu.Unlock()
		select {
		case <-ch:
		case <-done:
			return nil, ErrDone
		}
		r.mu.Lock()
	}
	defer r.mu.Unlock()
	return s.head, nil
}

// Recv returns the next message; io.EOF at the end of an OK stream; the
// *fault.Fault that ended it; or ErrDone.
func (s *ClientStream) Recv(done <-chan struct{}) (Message, error) {
	m, credit, err := s.recv.take(done)
	if credit > 0 {
		s.Consumed(credit)
	}
	return m, err
}

// RecvUnary waits for the end of the stream and returns its one message.
// "Cardinality violations" are UNIMPLEMENTED (doc/statuscodes.md). The error
// is a *fault.Fault, or ErrDone.
func (s *ClientStream) RecvUnary(done <-chan struct{}) (Message, error) {
	r := &s.recv
	r.mu.Lock()
	r.whole = true
	if !r.waitEndLocked(done) {
		r.mu.Unlock()
		return Message{}, ErrDone
	}
	n, err := r.got, r.err
	if err != nil || n != 1 {
		r.mu.Unlock()
		r.discard()
		if err == nil {
			err = s.cardinality(n)
		}
		return Message{}, err
	}
	m, _ := r.popLocked()
	r.mu.Unlock()
	return m, nil
}

func (s *ClientStream) cardinality(n int64) *fault.Fault {
	a := fault.Args{Side: fault.Remote, Evidence: s.evidence()}
	if n == 0 {
		return fault.WireCardinality.Newf(a, "the answer is OK and has no message, want exactly one")
	}
	a.Processed = fault.Yes
	return fault.WireCardinality.Newf(a, "the answer has %d messages, want exactly one", n)
}

// Trailer returns the trailing metadata, after the end. It is shared.
func (s *ClientStream) Trailer() metadata.MD {
	s.recv.mu.Lock()
	defer s.recv.mu.Unlock()
	return s.trailer
}

// Outcome returns how the stream ended, nil for OK; before the end it is nil
// as well.
func (s *ClientStream) Outcome() error {
	s.recv.mu.Lock()
	defer s.recv.mu.Unlock()
	return s.recv.err
}

// Ended reports whether the stream is over.
func (s *ClientStream) Ended() bool {
	s.recv.mu.Lock()
	defer s.recv.mu.Unlock()
	return s.recv.end
}

// Cancel ends the stream with RST_STREAM CANCEL and drops what waits. It does
// nothing to a stream that has ended. The storage must not be used again.
func (s *ClientStream) Cancel() {
	s.Stream.Reset(h2.Cancel)
	s.recv.mu.Lock()
	s.abandoned = true
	s.endLocked(errAbandoned)
	s.recv.mu.Unlock()
	s.recv.discard()
}

// errAbandoned is what a receiver would see after Cancel; none looks.
var errAbandoned = errors.New("wire: the stream was canceled")

// endLocked ends the stream, and the wait for its head.
func (s *ClientStream) endLocked(err error) {
	if s.recv.end {
		return
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
	defer s.recv.mu.Unlock()
	p.Headers, p.Messages = s.head != nil, s.recv.got
	return p
}

// Recyclable reports whether the stream ended in such a way that nothing
// refers to it any more: this side ended first and then the peer, in order.
func (s *ClientStream) Recyclable() bool {
	s.recv.mu.Lock()
	defer s.recv.mu.Unlock()
	return s.recv.end && s.answered && !s.abandoned && s.recv.err == nil && s.recv.whole
}

// Renew makes a recyclable stream new.
func (s *ClientStream) Renew() {
	s.recv.discard()
	s.recv.reset()
	s.answered, s.abandoned = false, false
	s.sample = nil
	s.head, s.headKnown, s.trailer = nil, nil, nil
	clear(s.fields)
}
