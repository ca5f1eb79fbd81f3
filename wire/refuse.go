// SPDX-License-Identifier: Apache-2.0

package wire

import (
	"net/http"
	"strconv"
	"time"

	"github.com/faultline-rpc/faultline/fault"
	"github.com/faultline-rpc/faultline/h2"
	"github.com/faultline-rpc/faultline/h2/hpack"
)

const (
	// maxForeign is how much of the body of a request that is no gRPC is waited
	// for, in bytes.
	maxForeign = 64 << 10
	// foreignPatience is how long its end is waited for.
	foreignPatience = 500 * time.Millisecond
)

// foreignRequest is a request that is no gRPC.
type foreignRequest struct {
	answer   *Refusal
	read     int         // bytes of its body
	patience *time.Timer // bounds the wait for its end; nil if it had ended
}

// refuse answers a request that no handler will see. What speaks gRPC is
// answered at once. What does not gets a short text, when its request has
// ended, as other clients expect no answer before; but some end it only after
// the answer, so that patience has an end.
func (s *ServerStream) refuse(r *Refusal, ended bool) {
	s.mode = Refused
	f := r.Fault
	switch r.HTTPStatus {
	case 200:
		own := fault.NewHop(s.head.Path, f).Masked()
		_ = s.Finish(Status{Code: f.Code(), Message: f.Message(), Trail: fault.WriteTrail(own, nil)}, nil)
		return
	case 400:
		s.markFinished()
		h := h2.Header{Fields: []hpack.Field{{Name: ":status", Value: "400"}, {Name: "content-type", Value: baseContentType}}}
		h.Fields = AppendStatus(h.Fields, f.Code(), f.Message(), nil)
		if s.WriteHeader(h, true) != nil {
			s.Stream.Reset(h2.InternalError)
		}
		return
	}
	due := &foreignRequest{answer: r}
	s.mu.Lock()
	s.finished, s.foreign = true, due
	if !ended {
		due.patience = time.AfterFunc(foreignPatience, s.answerForeign)
	}
	s.mu.Unlock()
	if ended {
		s.answerForeign()
	}
}

func (s *ServerStream) markFinished() {
	s.mu.Lock()
	s.finished = true
	s.mu.Unlock()
}

// takeForeign returns the answer that is due to a request that is no gRPC, and
// nil once somebody has it.
func (s *ServerStream) takeForeign() *Refusal {
	s.mu.Lock()
	defer s.mu.Unlock()
	due := s.foreign
	if due == nil {
		return nil
	}
	s.foreign = nil
	if due.patience != nil {
		due.patience.Stop()
	}
	return due.answer
}

// answerForeign sends the text. It leaves the reader, since only that can open
// the window which the text may have to wait for; the stream's end ends it.
func (s *ServerStream) answerForeign() {
	r := s.takeForeign()
	if r == nil {
		return
	}
	text := r.Fault.Message() + "\n"
	h := h2.Header{Fields: []hpack.Field{
		{Name: ":status", Value: strconv.Itoa(r.HTTPStatus)},
		{Name: "content-type", Value: "text/plain; charset=utf-8"},
	}}
	if !r.Bodiless { // with ServeHTTP there is a client of ours in between, which would miss the content
		h.Fields = append(h.Fields, hpack.Field{Name: "content-length", Value: strconv.Itoa(len(text)), Index: hpack.Literal})
	}
	if r.HTTPStatus == http.StatusMethodNotAllowed {
		h.Fields = append(h.Fields, hpack.Field{Name: "allow", Value: http.MethodPost})
	}
	go func() {
		err := s.WriteHeader(h, r.Bodiless)
		if err == nil && !r.Bodiless {
			err = s.WriteData([]byte(text), true, nil)
		}
		if err != nil {
			s.Stream.Reset(h2.InternalError)
		}
	}()
}

// foreignData drops a piece of such a body.
func (s *ServerStream) foreignData(n int, ended bool) {
	s.mu.Lock()
	due := s.foreign
	if due != nil {
		due.read += n
		ended = ended || due.read > maxForeign
	}
	s.mu.Unlock()
	switch {
	case due == nil:
	case ended:
		s.answerForeign()
	default:
		s.Consumed(n)
	}
}
