// SPDX-License-Identifier: Apache-2.0

package peer

import (
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"time"

	"golang.org/x/net/http2"
)

// Values of fields with a meaning of their own, for WantHeaders.
const (
	Any    = "\x00any"    // the field is there
	Absent = "\x00absent" // the field is not there
)

// Mismatch says that the other end did something else than the script wants.
type Mismatch struct {
	Want string   // in words
	Got  string   // what came instead
	Diff []string // what is wrong with it, if it was of the right kind
	Err  error    // why the connection ended, if that came instead
}

// Error says what was wanted, what came, and the difference.
func (m *Mismatch) Error() string {
	s := "peer: wanted " + m.Want + "\n        came " + m.Got
	for _, d := range m.Diff {
		s += "\n             " + d
	}
	return s
}

// Unwrap returns Err.
func (m *Mismatch) Unwrap() error { return m.Err }

// wish is a frame wanted.
type wish struct {
	what   string
	any    bool // of whatever kind
	kind   http2.FrameType
	stream uint32                 // 0: whatever stream
	match  func(f Frame) []string // what is wrong with a frame of that kind and stream; nil: nothing
	keep   bool                   // leave it in the queue
	strict bool                   // nothing may be skipped on the way
}

// want returns the next frame, which must be the one wished for. Kinds in
// Options.Skip are dropped on the way to it.
func (p *Peer) want(w wish) (Frame, error) { return p.wantWithin(w, p.options.Timeout) }

func (p *Peer) wantWithin(w wish, bound time.Duration) (Frame, error) {
	var silence <-chan time.Time
	if bound > 0 {
		timer := time.NewTimer(bound)
		defer timer.Stop()
		silence = timer.C
	}
	for {
		p.mu.Lock()
		f, found, err := p.findLocked(w)
		changed, ended := p.changed, p.err
		p.mu.Unlock()
		if found || err != nil {
			return f, err
		}
		if ended != nil {
			return f, &Mismatch{Want: w.what, Got: fmt.Sprintf("the end of the connection: %v", ended), Err: ended}
		}
		select {
		case <-changed:
		case <-silence:
			return f, &Mismatch{Want: w.what, Got: fmt.Sprintf("nothing within %v", bound), Err: errSilence}
		}
	}
}

var errSilence = errors.New("the other end says nothing")

// findLocked looks for the frame in the queue; mu is held.
func (p *Peer) findLocked(w wish) (f Frame, found bool, err error) {
	for i := 0; i < len(p.queue); {
		f := p.queue[i]
		skipped := !w.strict && slices.Contains(p.options.Skip, f.Kind)
		right := w.any && !skipped || !w.any && f.Kind == w.kind && (w.stream == 0 || f.Stream == w.stream)
		var diff []string
		if right && w.match != nil {
			diff = w.match(f)
		}
		switch {
		case right && diff == nil:
			if !w.keep {
				p.removeLocked(i)
			}
			return f, true, nil
		case skipped:
			p.removeLocked(i)
		case p.options.Interleave && w.stream != 0 && f.Stream != w.stream && f.Stream != 0:
			i++
		default:
			return f, false, &Mismatch{Want: w.what, Got: f.String(), Diff: diff}
		}
	}
	return f, false, nil
}

func (p *Peer) removeLocked(i int) {
	p.queued -= p.queue[i].size()
	if i == 0 { // as nearly always, and the queue may be long
		p.queue[0] = Frame{}
		p.queue = p.queue[1:]
		return
	}
	p.queue = slices.Delete(p.queue, i, i+1)
}

// Next returns the next frame of whatever kind that is not skipped. At the
// connection's end the error wraps its cause.
func (p *Peer) Next() (Frame, error) { return p.next(p.options.Timeout) }

// next is Next with a bound of its own; zero means none.
func (p *Peer) next(bound time.Duration) (Frame, error) {
	return p.wantWithin(wish{what: "a frame", any: true}, bound)
}

// Want returns the next frame, which must be of that kind, on any stream.
func (p *Peer) Want(kind http2.FrameType) (Frame, error) {
	return p.want(wish{what: kind.String(), kind: kind})
}

// WantOn is Want on one stream.
func (p *Peer) WantOn(stream uint32, kind http2.FrameType) (Frame, error) {
	return p.want(wish{what: fmt.Sprintf("%v on stream %d", kind, stream), kind: kind, stream: stream})
}

// WantHeaders returns the next header section on stream, or on any if that is
// 0. It must hold the fields given as names and values; [Any] and [Absent] are
// values with a meaning.
func (p *Peer) WantHeaders(stream uint32, nameValues ...string) (Frame, error) {
	return p.wantHeaders(stream, "", nil, nameValues)
}

// WantTrailers is WantHeaders of a section that ends the stream.
func (p *Peer) WantTrailers(stream uint32, nameValues ...string) (Frame, error) {
	return p.wantHeaders(stream, " with END_STREAM", func(f Frame) []string {
		if !f.End {
			return []string{"it does not end the stream"}
		}
		return nil
	}, nameValues)
}

func (p *Peer) wantHeaders(stream uint32, more string, also func(Frame) []string, nameValues []string) (Frame, error) {
	fields, err := fieldsOf(nameValues)
	if err != nil {
		return Frame{}, err
	}
	what := "HEADERS"
	if stream != 0 {
		what += fmt.Sprintf(" on stream %d", stream)
	}
	what += more
	for _, f := range fields {
		switch f.Value {
		case Any:
			what += fmt.Sprintf(" %s=(any)", f.Name)
		case Absent:
			what += fmt.Sprintf(" no %s", f.Name)
		default:
			what += fmt.Sprintf(" %s=%s", f.Name, short(f.Value))
		}
	}
	return p.want(wish{what: what, kind: http2.FrameHeaders, stream: stream, match: func(f Frame) (diff []string) {
		for _, want := range fields {
			got := f.Values(want.Name)
			switch {
			case want.Value == Absent && len(got) > 0:
				diff = append(diff, fmt.Sprintf("%s: got %q, want none", want.Name, got))
			case want.Value == Absent, want.Value == Any && len(got) > 0, slices.Contains(got, want.Value):
			case len(got) == 0:
				diff = append(diff, want.Name+": is missing")
			default:
				diff = append(diff, fmt.Sprintf("%s: got %s, want %s", want.Name, strings.Join(quoted(got), ", "), short(want.Value)))
			}
		}
		if also != nil {
			diff = append(diff, also(f)...)
		}
		return diff
	}})
}

func quoted(all []string) (out []string) {
	for _, s := range all {
		out = append(out, short(s))
	}
	return out
}

// WantData returns exactly n bytes of the stream's DATA, over however many
// frames; what comes beyond waits for the next call.
func (p *Peer) WantData(stream uint32, n int) ([]byte, error) {
	for {
		b := p.bodies[stream]
		if len(b.data) >= n {
			data := b.data[:n:n]
			b.data = b.data[n:]
			p.bodies[stream] = b
			return data, nil
		}
		what := fmt.Sprintf("%d bytes of DATA on stream %d", n, stream)
		if b.end {
			return b.data, &Mismatch{Want: what, Got: fmt.Sprintf("END_STREAM after %d", len(b.data))}
		}
		if err := p.gather(stream, what); err != nil {
			return b.data, err
		}
	}
}

// WantMessage returns the payload of one uncompressed gRPC message on stream.
func (p *Peer) WantMessage(stream uint32) ([]byte, error) {
	prefix, err := p.WantData(stream, 5)
	if err != nil {
		return nil, err
	}
	n := int(prefix[1])<<24 | int(prefix[2])<<16 | int(prefix[3])<<8 | int(prefix[4])
	if prefix[0] != 0 || n > maxBytes {
		return nil, &Mismatch{Want: fmt.Sprintf("an uncompressed message on stream %d", stream), Got: fmt.Sprintf("the prefix %x", prefix)}
	}
	return p.WantData(stream, n)
}

// WantBody returns all further DATA of the stream, up to END_STREAM or to the
// trailers, which are left for WantTrailers.
func (p *Peer) WantBody(stream uint32) ([]byte, error) {
	what := fmt.Sprintf("DATA on stream %d up to its end", stream)
	for !p.bodies[stream].end {
		f, err := p.want(wish{what: what, any: true, stream: stream, keep: true, match: func(f Frame) []string {
			if f.Stream != stream || f.Kind != http2.FrameData && f.Kind != http2.FrameHeaders {
				return []string{"it is none"}
			}
			return nil
		}})
		if err != nil {
			return p.bodies[stream].data, err
		}
		if f.Kind == http2.FrameHeaders {
			break
		}
		if err := p.gather(stream, what); err != nil {
			return p.bodies[stream].data, err
		}
	}
	b := p.bodies[stream]
	p.bodies[stream] = body{end: b.end}
	return b.data, nil
}

// gather adds the stream's next DATA frame to what is in hand.
func (p *Peer) gather(stream uint32, what string) error {
	f, err := p.want(wish{what: what, kind: http2.FrameData, stream: stream})
	if err != nil {
		return err
	}
	b := p.bodies[stream]
	p.bodies[stream] = body{data: append(b.data, f.Data...), end: f.End}
	return nil
}

// WantRST wants RST_STREAM with that code.
func (p *Peer) WantRST(stream uint32, code http2.ErrCode) error {
	_, err := p.want(wish{what: Frame{Kind: http2.FrameRSTStream, Stream: stream, Code: code}.String(), kind: http2.FrameRSTStream, stream: stream, match: wantCode(code)})
	return err
}

// WantGoAway wants GOAWAY with that code and returns it.
func (p *Peer) WantGoAway(code http2.ErrCode) (Frame, error) {
	return p.want(wish{what: fmt.Sprintf("GOAWAY %v", code), kind: http2.FrameGoAway, match: wantCode(code)})
}

func wantCode(code http2.ErrCode) func(Frame) []string {
	return func(f Frame) []string {
		if f.Code != code {
			return []string{fmt.Sprintf("code: got %v, want %v", f.Code, code)}
		}
		return nil
	}
}

// WantPing wants PING, acknowledging or not, and returns it.
func (p *Peer) WantPing(ack bool) (Frame, error) {
	return p.want(wish{what: Frame{Kind: http2.FramePing, Ack: ack}.String(), kind: http2.FramePing, match: wantAck(ack)})
}

// WantSettingsAck wants the acknowledgement of this end's SETTINGS.
func (p *Peer) WantSettingsAck() error {
	_, err := p.want(wish{what: "SETTINGS ACK", kind: http2.FrameSettings, match: wantAck(true)})
	return err
}

func wantAck(ack bool) func(Frame) []string {
	return func(f Frame) []string {
		if f.Ack != ack {
			return []string{fmt.Sprintf("ACK: got %v, want %v", f.Ack, ack)}
		}
		return nil
	}
}

// WantClosed wants the other end to end the connection, by FIN or reset,
// with no frame before that is not skipped.
func (p *Peer) WantClosed() error {
	f, err := p.want(wish{what: "the end of the connection", any: true})
	if err == nil {
		return &Mismatch{Want: "the end of the connection", Got: f.String()}
	}
	if !p.Ended(err) {
		return err
	}
	return nil
}

// Ended reports whether err came because the connection ended, from either
// side and in whatever way, and not because of what was sent on it.
func (p *Peer) Ended(err error) bool {
	var oe *net.OpError
	return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, io.ErrClosedPipe) ||
		errors.Is(err, errClosed) || errors.As(err, &oe) && !oe.Timeout()
}

// WantQuiet wants no frame for d but those skipped.
func (p *Peer) WantQuiet(d time.Duration) error {
	f, err := p.next(d)
	what := fmt.Sprintf("nothing for %v", d)
	switch {
	case err == nil:
		return &Mismatch{Want: what, Got: f.String()}
	case errors.Is(err, errSilence):
		return nil
	}
	return &Mismatch{Want: what, Got: "the end of the connection", Err: err}
}
