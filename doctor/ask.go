// SPDX-License-Identifier: Apache-2.0

package doctor

import (
	"bytes"
	"cmp"
	"compress/gzip"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"google.golang.org/grpc/metadata"

	"github.com/faultline-rpc/faultline/codes"
	"github.com/faultline-rpc/faultline/fault"
	"github.com/faultline-rpc/faultline/h2"
	"github.com/faultline-rpc/faultline/wire"
)

// question is one call.
type question struct {
	path     string // "/package.Service/Method"
	messages [][]byte
	many     bool   // the answer is a stream
	endless  bool   // the server is told of no deadline
	encoding string // grpc-encoding
	limit    int    // for each message, in bytes; 0 is the default
}

// maxAnswer is the default limit for messages.
const maxAnswer = 4 << 20

func (q question) max() int { return cmp.Or(q.limit, maxAnswer) }

// answer is what came of a question.
type answer struct {
	head     *wire.ResponseHead // nil if there were no response headers, as in a trailers-only answer
	trailer  metadata.MD
	messages [][]byte // at most maxMessages
	count    int      // how many came
	took     time.Duration
	first    time.Duration // until the first message or the end
	tries    int
	finding  *Finding // nil for OK
	f        *fault.Fault
	address  string
}

// maxMessages bounds the messages kept of a stream, and read.
const maxMessages = 1000

// status reports whether the answer is a gRPC status, OK or another, that the
// server sent.
func (a *answer) status() bool {
	if a.finding == nil {
		return true
	}
	if a.f == nil || !a.f.Evidence().Answered {
		return false
	}
	return a.f.Verbatim()
}

// absent reports that the server says it has no such method.
func (a *answer) absent() bool {
	return a.finding != nil && a.status() && a.finding.Code == codes.Unimplemented
}

// words is the status message.
func (a *answer) words() string {
	if a.f == nil {
		return ""
	}
	return a.f.Message()
}

// server names who answered, or "".
func (a *answer) server() string {
	if a.head != nil && a.head.Server != "" {
		return a.head.Server
	}
	if v := a.trailer.Get("server"); len(v) > 0 {
		return v[0]
	}
	if a.f != nil {
		return a.f.Evidence().HTTPServer
	}
	return ""
}

// evidence describes the answer as gRPC.
func (a *answer) evidence() []Fact {
	var out []Fact
	switch {
	case a.head != nil:
		out = append(out, fact("content-type", "%s", orNone(a.head.ContentType)))
		if a.head.Encoding != "" {
			out = append(out, fact("grpc-encoding", "%s", a.head.Encoding))
		}
	case a.f != nil && a.f.Evidence().Content != "":
		out = append(out, fact("content-type", "%s", a.f.Evidence().Content))
	}
	if s := a.server(); s != "" {
		out = append(out, fact("server", "%s", s))
	}
	if a.head != nil {
		for _, name := range []string{"via", "x-envoy-upstream-service-time", "x-powered-by"} { // which proxies leave
			if v := a.head.MD.Get(name); len(v) > 0 {
				out = append(out, fact(name, "%s", v[0]))
			}
		}
	}
	if a.head != nil && a.head.AcceptEncoding != "" {
		out = append(out, fact("accepts", "%s", a.head.AcceptEncoding))
	}
	if v := a.trailer.Get("grpc-accept-encoding"); a.head == nil && len(v) > 0 {
		out = append(out, fact("accepts", "%s", v[0]))
	}
	if a.f != nil {
		ev := a.f.Evidence()
		if ev.HTTPStatus != 0 {
			out = append(out, fact("HTTP status", "%d", ev.HTTPStatus))
		}
		if ev.HTTP2Code != "" {
			out = append(out, fact("HTTP/2 code", "%s", ev.HTTP2Code))
		}
		if ev.Debug != "" {
			out = append(out, fact("debug data", "%q", ev.Debug))
		}
		if ev.Sample != "" {
			out = append(out, fact("sample", "%q", ev.Sample))
		}
	}
	if a.tries > 1 {
		out = append(out, fact("attempts", "%d", a.tries))
	}
	return out
}

// ask makes a call. What provably was not processed is asked once more, on a
// new connection if need be, as clients do (gRFC A6).
func (x *exam) ask(ctx context.Context, q question) *answer {
	ctx, cancel := x.within(ctx)
	defer cancel()
	start := time.Now()
	a := new(answer)
	for {
		a.tries++
		a.finding, a.f = x.attempt(ctx, q, a)
		a.took = time.Since(start)
		again := a.f != nil && a.f.Processed() == fault.No && a.f.Layer() == fault.LayerHTTP2
		if !again || a.tries == 2 || ctx.Err() != nil {
			return a
		}
	}
}

// attempt makes one try.
func (x *exam) attempt(ctx context.Context, q question, a *answer) (*Finding, *fault.Fault) {
	if !x.line.usable() {
		l := newLine(x, x.route)
		x.lines = append(x.lines, l)
		if f := l.secure(ctx); f != nil {
			return l.finding(f), f
		}
		if n := l.speak(ctx); n != nil {
			return n, nil
		}
		x.line = l
	}
	a.address = x.line.r.addr.Addr
	s := new(wire.ClientStream)
	defer s.Cancel() // after what it waits for was looked at
	if err := x.start(ctx, x.line, s, q); err != nil {
		return x.concluded(ctx, s, q, err)
	}
	begun := time.Now()
	err := read(ctx, s, q, a, begun)
	if h, e := s.Head(nothing); e == nil && h != nil {
		a.head = h
	}
	a.trailer = s.Trailer()
	if err != nil {
		return x.concluded(ctx, s, q, err)
	}
	return nil, nil
}

// nothing is a done channel that lets nothing wait.
var nothing = func() chan struct{} { c := make(chan struct{}); close(c); return c }()

// start opens the stream on the line and sends the messages.
func (x *exam) start(ctx context.Context, l *line, s *wire.ClientStream, q question) error {
	scheme := "http"
	if x.cfg.TLS != nil {
		scheme = "https"
	}
	fields := x.fields
	if slices.Contains(reflectionPaths, q.path) {
		fields = x.asking
	}
	req := wire.Request{Metadata: fields, Unary: !q.many, Template: wire.NewTemplate(wire.TemplateSpec{Scheme: scheme,
		Authority: x.steps.Authority(), Path: q.path, UserAgent: x.cfg.UserAgent, Encoding: q.encoding, AcceptEncoding: "gzip"})}
	req.MaxRecv.Bytes, req.MaxRecv.Option = q.max(), "--max-msg-size"
	if d, ok := ctx.Deadline(); ok && !q.endless {
		req.Timeout = max(time.Until(d), time.Millisecond)
	}
	var first []byte
	if len(q.messages) > 0 {
		first = prefixed(q.messages[0], q.encoding)
	}
	if err := s.Start(l.conn, &req, first, len(q.messages) < 2, ctx.Done()); err != nil {
		return err
	}
	for i := 1; i < len(q.messages); i++ {
		err := s.Send(prefixed(q.messages[i], q.encoding), i == len(q.messages)-1, ctx.Done())
		if err == io.EOF {
			break // reading says why
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// prefixed puts the length before a message (gRPC over HTTP/2,
// Length-Prefixed-Message), compressed if it is with gzip.
func prefixed(p []byte, encoding string) []byte {
	flag := byte(0)
	if encoding == "gzip" {
		var b bytes.Buffer
		w := gzip.NewWriter(&b)
		_, _ = w.Write(p) // into memory: it cannot fail
		_ = w.Close()
		p, flag = b.Bytes(), 1
	}
	out := binary.BigEndian.AppendUint32([]byte{flag}, uint32(len(p)))
	return append(out, p...)
}

// read reads the answer: nil for OK.
func read(ctx context.Context, s *wire.ClientStream, q question, a *answer, begun time.Time) error {
	if !q.many {
		m, err := s.RecvUnary(ctx.Done())
		a.first = time.Since(begun)
		if err != nil {
			return err
		}
		return keep(s, &m, q, a)
	}
	for {
		m, err := s.Recv(ctx.Done())
		if a.first == 0 {
			a.first = time.Since(begun)
		}
		switch {
		case err == io.EOF:
			return nil
		case err != nil:
			return err
		}
		if err := keep(s, &m, q, a); err != nil {
			return err
		}
		if a.count == maxMessages {
			return nil
		}
	}
}

// illness is a finding on its way up as an error.
type illness struct{ *Finding }

func (i illness) Error() string { return i.Message }

// keep takes a message, decompressed.
func keep(s *wire.ClientStream, m *wire.Message, q question, a *answer) error {
	defer m.Free()
	p := bytes.Clone(m.Data)
	if m.Compressed {
		name := ""
		if h, err := s.Head(nothing); err == nil && h != nil {
			name = h.Encoding
		}
		if name != "gzip" {
			return illness{named("codec.response-compressor").says(fault.Remote, fault.Maybe,
				"a message is compressed and grpc-encoding is %q; this client offered \"gzip\"", name)}
		}
		var err error
		if p, err = inflate(p, q.max()); err != nil {
			var i illness
			if errors.As(err, &i) {
				return err
			}
			return illness{named("codec.decompress").says(fault.Remote, fault.Yes, "the response does not decompress with \"gzip\": %v", err)}
		}
	}
	a.count++
	a.messages = append(a.messages, p)
	return nil
}

// inflate decompresses, to limit bytes at most.
func inflate(p []byte, limit int) ([]byte, error) {
	r, err := gzip.NewReader(bytes.NewReader(p))
	if err != nil {
		return nil, err
	}
	out, err := io.ReadAll(io.LimitReader(r, int64(limit)+1))
	if err != nil {
		return nil, err
	}
	if len(out) > limit {
		return nil, illness{named("codec.too-large").says(fault.Local, fault.Yes, "received message (decompressed) is larger than the %d bytes allowed", limit)}
	}
	return out, nil
}

// concluded turns the end of a call into a finding.
func (x *exam) concluded(ctx context.Context, s *wire.ClientStream, q question, err error) (*Finding, *fault.Fault) {
	var i illness
	if errors.As(err, &i) {
		return i.Finding, nil
	}
	p := s.Progress()
	processed := fault.Maybe
	switch {
	case p.Messages > 0:
		processed = fault.Yes
	case !p.Sent || s.ID() == 0:
		processed = fault.No
	}
	if errors.Is(err, wire.ErrDone) {
		if !timedOut(ctx, 0) {
			return named("call.cancelled").says(fault.Local, processed, "the examination was canceled"), nil
		}
		return x.late(s, q, processed), nil
	}
	f, ok := fault.From(err)
	if !ok {
		return named("call.misuse").says(fault.Local, processed, "%v", err), nil
	}
	if timedOut(ctx, 0) && f.Entry() == fault.HTTP2RSTCancel || timedOut(ctx, skew) && f.Verbatim() && f.Code() == codes.DeadlineExceeded {
		return x.late(s, q, f.Processed()), nil
	}
	return found(f), f
}

// late is a call whose time was up: what it waited for, and whether the peer
// lives.
func (x *exam) late(s *wire.ClientStream, q question, processed fault.Processed) *Finding {
	waiting, phase, peer := "response headers", fault.PhaseHeaders, fault.PulseAlive
	switch p := s.Progress(); {
	case s.ID() == 0:
		waiting, phase = "a free stream (MAX_CONCURRENT_STREAMS)", fault.PhaseQuota
	case !p.Headers && s.Blocked(x.line.conn).Window > x.cfg.Timeout/2:
		waiting, phase = "the server to take the request (its flow-control window is used up)", fault.PhaseSend
	case p.Messages > 0:
		waiting, phase = "the end of the answer", fault.PhaseMessage
	case p.Headers:
		waiting, phase = "a response message", fault.PhaseMessage
	}
	alive := "the peer answers PINGs: it is slow, or stuck"
	if !x.line.ping(min(x.cfg.Timeout, time.Second)) {
		alive, peer = "nor does the peer answer a PING any more: it, or the network, is dead", fault.PulseSilent
	}
	f := named("call.deadline").says(fault.Local, processed, "the deadline of %v expired while %s waited for %s; %s", x.cfg.Timeout, q.path, waiting, alive)
	f.Remedy = fault.DeadlineRemedy(phase, peer)
	return f
}

// describe says what an answer was, in a few words.
func (a *answer) describe() string {
	switch {
	case a.finding == nil:
		return "OK in " + round(a.took)
	case a.status():
		s := codes.Name(a.finding.Code) + " in " + round(a.took)
		if w := a.words(); w != "" {
			s += fmt.Sprintf(": %q", w)
		}
		return s
	}
	return a.finding.Message
}

var _ h2.ConnHandler = (*line)(nil)
