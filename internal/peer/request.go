// SPDX-License-Identifier: Apache-2.0

package peer

import (
	"fmt"
	"slices"
	"strings"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// RequestFields returns the header section of a proper gRPC request for path
// ("/package.Service/Method"), changed as the names and values say: a field of
// that name is replaced, a new one appended; "+name" appends another of the
// same name, and the value [Absent] removes it. Pseudo-header fields stay in front.
//
//	peer.RequestFields("/a.B/C", ":authority", peer.Absent, "grpc-timeout", "banana")
func RequestFields(path string, changes ...string) ([]string, error) {
	fields := []hpack.HeaderField{
		{Name: ":method", Value: "POST"},
		{Name: ":scheme", Value: "http"},
		{Name: ":path", Value: path},
		{Name: ":authority", Value: "localhost"},
		{Name: "content-type", Value: "application/grpc"},
		{Name: "te", Value: "trailers"},
	}
	more, err := fieldsOf(changes)
	if err != nil {
		return nil, err
	}
	for _, c := range more {
		name, again := strings.CutPrefix(c.Name, "+")
		i := slices.IndexFunc(fields, func(f hpack.HeaderField) bool { return f.Name == name })
		switch {
		case c.Value == Absent:
			fields = slices.DeleteFunc(fields, func(f hpack.HeaderField) bool { return f.Name == name })
		case i >= 0 && !again:
			fields[i].Value = c.Value
		default:
			fields = append(fields, hpack.HeaderField{Name: name, Value: c.Value})
		}
	}
	slices.SortStableFunc(fields, func(a, b hpack.HeaderField) int { return pseudo(b) - pseudo(a) })
	var out []string
	for _, f := range fields {
		out = append(out, f.Name, f.Value)
	}
	return out, nil
}

func pseudo(f hpack.HeaderField) int {
	if f.IsPseudo() {
		return 1
	}
	return 0
}

// SendRequest sends a request's header section, made by [RequestFields].
func (p *Peer) SendRequest(stream uint32, end bool, path string, changes ...string) error {
	fields, err := RequestFields(path, changes...)
	if err != nil {
		return err
	}
	return p.SendHeaders(stream, end, fields...)
}

// Call sends a unary request, made by [RequestFields], with one message, and
// waits for the response.
func (p *Peer) Call(stream uint32, path string, payload []byte, changes ...string) (*Response, error) {
	if err := p.SendRequest(stream, false, path, changes...); err != nil {
		return nil, err
	}
	if err := p.SendBody(stream, Message(payload), true); err != nil {
		return nil, err
	}
	return p.WantResponse(stream)
}

// Response is what a server answered on one stream.
type Response struct {
	Header  []hpack.HeaderField // the final header section; nil if there was none
	Body    []byte
	Trailer []hpack.HeaderField // nil if there were none, as for trailers-only
	RST     *http2.ErrCode      // the code, if RST_STREAM ended the stream before END_STREAM did
}

// Get returns the value of the first field called name, in the trailers or
// else in the header section, or "".
func (r *Response) Get(name string) string {
	if vs := values(r.Trailer, name); len(vs) > 0 {
		return vs[0]
	}
	return get(r.Header, name)
}

// Messages splits the body at gRPC's prefixes. It fails on bytes that are left over.
func (r *Response) Messages() ([][]byte, error) {
	var all [][]byte
	for b := r.Body; len(b) > 0; {
		if len(b) < 5 {
			return all, fmt.Errorf("peer: %d bytes after message %d, want a prefix of 5", len(b), len(all))
		}
		n := int(b[1])<<24 | int(b[2])<<16 | int(b[3])<<8 | int(b[4])
		if len(b)-5 < n {
			return all, fmt.Errorf("peer: message %d ends after %d bytes of %d", len(all)+1, len(b)-5, n)
		}
		all = append(all, b[5:5+n])
		b = b[5+n:]
	}
	return all, nil
}

// WantResponse collects what the server answers on the stream up to
// END_STREAM or RST_STREAM. Interim (1xx) sections are passed over.
func (p *Peer) WantResponse(stream uint32) (*Response, error) {
	r := &Response{}
	what := fmt.Sprintf("the rest of a response on stream %d", stream)
	for {
		f, err := p.want(wish{what: what, any: true, stream: stream, match: func(f Frame) []string {
			if f.Stream != stream {
				return []string{"it is of another stream"}
			}
			return nil
		}})
		if err != nil {
			return r, err
		}
		switch f.Kind {
		case http2.FrameHeaders:
			interim := len(f.Get(":status")) == 3 && f.Get(":status")[0] == '1'
			switch {
			case r.Header == nil && !interim:
				r.Header = f.Fields
			case r.Header != nil:
				r.Trailer = f.Fields
			}
		case http2.FrameData:
			r.Body = append(r.Body, f.Data...)
		case http2.FrameRSTStream:
			r.RST = &f.Code
			return r, nil
		default:
			return r, &Mismatch{Want: what, Got: f.String()}
		}
		if f.End {
			return r, nil
		}
	}
}

// ExceedWindow sends DATA on stream until it has sent more than the stream's
// window allows, whatever the connection's. It goes on for as long as the other
// end grants credit meanwhile, up to limit bytes: an end that grants as fast as
// it reads may never be violated. [Peer.OverflowWindow] always is a violation.
func (p *Peer) ExceedWindow(stream uint32, limit int) error {
	for sent := 0; sent < limit; {
		p.mu.Lock()
		left, frame, ended := p.windows.stream(stream), p.windows.frame, p.err
		p.mu.Unlock()
		if ended != nil {
			return nil // the other end has had enough
		}
		n := min(frame, limit-sent)
		if err := p.SendData(stream, make([]byte, n), false); err != nil {
			return err
		}
		if sent += n; int64(n) > left {
			return nil
		}
	}
	return fmt.Errorf("peer: %d bytes of DATA do not exceed the window of stream %d: the other end goes on granting", limit, stream)
}

// OverflowWindow raises a window beyond 2^31-1, which RFC 9113 section 6.9.1
// calls a flow-control error: of the stream, or of the connection for stream 0.
func (p *Peer) OverflowWindow(stream uint32) error {
	return p.SendWindowUpdate(stream, 1<<31-1) // and the window was above 0
}
