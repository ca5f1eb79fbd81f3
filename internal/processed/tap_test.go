// SPDX-License-Identifier: Apache-2.0

package processed

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"net"
	"slices"
	"strconv"
	"sync"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/faultline-rpc/faultline/fault"
	"github.com/faultline-rpc/faultline/internal/simnet"
)

// wiretap is the client's end of a connection. It remembers what was handed to it
// and what came out, and when: all that this client can know of its server.
type wiretap struct {
	*simnet.Conn

	mu  sync.Mutex
	out []piece // one for each Write; guarded by mu
	in  []piece // one for each Read that brought bytes; guarded by mu
	// broke is when reading or writing first failed, or it was closed; zero
	// before. Guarded by mu.
	broke time.Time
}

func (t *wiretap) failedLocked(err error) {
	if err != nil && t.broke.IsZero() {
		t.broke = time.Now()
	}
}

// Close implements net.Conn.
func (t *wiretap) Close() error {
	t.mu.Lock()
	t.failedLocked(net.ErrClosed)
	t.mu.Unlock()
	return t.Conn.Close()
}

// piece is what one Write or Read moved.
type piece struct {
	from, to time.Time // to is zero while a Write has not returned
	b        []byte    // all that was handed over
	n        int       // how much of it was taken
}

// Write implements net.Conn.
func (t *wiretap) Write(p []byte) (int, error) {
	t.mu.Lock()
	i := len(t.out)
	t.out = append(t.out, piece{from: time.Now(), b: bytes.Clone(p)})
	t.mu.Unlock()
	n, err := t.Conn.Write(p)
	t.mu.Lock()
	defer t.mu.Unlock()
	t.out[i].to, t.out[i].n = time.Now(), n
	t.failedLocked(err)
	return n, err
}

// Read implements net.Conn.
func (t *wiretap) Read(p []byte) (int, error) {
	n, err := t.Conn.Read(p)
	t.mu.Lock()
	defer t.mu.Unlock()
	t.failedLocked(err)
	if n > 0 {
		now := time.Now()
		t.in = append(t.in, piece{from: now, to: now, b: bytes.Clone(p[:n]), n: n})
	}
	return n, err
}

// frame is one frame as it passed the tap, CONTINUATION joined to its HEADERS.
type frame struct {
	kind    http2.FrameType
	flags   http2.Flags
	stream  uint32
	payload []byte
	fields  []hpack.HeaderField   // of HEADERS
	last    piece                 // the piece with its last byte
	taken   bool                  // that byte was taken
	came    func(n int) time.Time // when the first n bytes of the payload had come
}

// frames cuts a direction's bytes, after skip of them, into frames. What is not
// whole is left out, but for DATA, of which the part counts that came.
func frames(pieces []piece, skip int) []frame {
	var all []byte
	for _, p := range pieces {
		all = append(all, p.b...)
	}
	dec := hpack.NewDecoder(4096, nil)
	dec.SetAllowedMaxDynamicTableSize(1 << 20)
	ends := make([]int, len(pieces))
	n := 0
	for i, p := range pieces {
		n += len(p.b)
		ends[i] = n
	}
	pieceWith := func(at int) (piece, bool) { // the one with the byte at an offset; and whether that was taken
		i, _ := slices.BinarySearch(ends, at+1)
		p := pieces[i]
		return p, at-(ends[i]-len(p.b)) < p.n
	}
	var fs []frame
	for at := skip; len(all)-at >= 9; {
		end := at + 9 + int(all[at])<<16 + int(all[at+1])<<8 + int(all[at+2])
		f := frame{kind: http2.FrameType(all[at+3]), flags: http2.Flags(all[at+4]), stream: binary.BigEndian.Uint32(all[at+5:]) & (1<<31 - 1)}
		if end > len(all) {
			if f.kind != http2.FrameData {
				break
			}
			end, f.flags = len(all), 0
		}
		f.payload = all[at+9 : end]
		f.last, f.taken = pieceWith(end - 1)
		f.came = func(n int) time.Time {
			p, _ := pieceWith(end - len(f.payload) + n - 1)
			return p.from
		}
		at = end
		if f.kind == http2.FrameContinuation {
			h := &fs[len(fs)-1]
			h.payload = append(bytes.Clone(h.payload), f.payload...)
			h.flags |= f.flags
			h.last, h.taken = f.last, f.taken
		} else {
			fs = append(fs, f)
		}
		if h := &fs[len(fs)-1]; h.kind == http2.FrameHeaders && h.flags.Has(http2.FlagHeadersEndHeaders) {
			h.fields, _ = dec.DecodeFull(h.payload)
		}
	}
	return fs
}

func get(fields []hpack.HeaderField, name string) string {
	for _, f := range fields {
		if f.Name == name {
			return f.Value
		}
	}
	return ""
}

// sight is what became known of one attempt.
type sight struct {
	at time.Time
	what
	code uint64          // of a reset or status
	text string          // for a person
	said fault.Processed // with a status, by the server itself
}

type what uint8

const (
	headers what = iota // response headers of gRPC's: not the end
	message             // a message of the response, or the start of one that is too large
	verdict             // grpc-status, with the end of the stream
	reset               // RST_STREAM, or GOAWAY with a last id below the stream
	end                 // any other end of the stream by the server
)

// attempt is one try of a call as the tap saw it.
type attempt struct {
	call   int
	stream uint32
	given  piece     // the Write that was given the last byte of its headers
	left   bool      // and took it
	ended  time.Time // when this side reset it; zero if it did not
	sights []sight
}

// attempts reads the tap. limit is the client's for messages.
func (t *wiretap) attempts(limit int) []*attempt {
	t.mu.Lock()
	defer t.mu.Unlock()
	byStream := map[uint32]*attempt{}
	var list []*attempt
	for _, f := range frames(t.out, len(http2.ClientPreface)) {
		switch f.kind {
		case http2.FrameHeaders:
			id, err := strconv.Atoi(get(f.fields, numberKey))
			if err != nil {
				id = -1
			}
			a := &attempt{call: id, stream: f.stream, given: f.last, left: f.taken}
			byStream[f.stream] = a
			list = append(list, a)
		case http2.FrameRSTStream:
			if a := byStream[f.stream]; a != nil && a.ended.IsZero() {
				a.ended = f.last.from
			}
		}
	}
	r := reading{limit: limit, streams: map[uint32]*answer{}}
	for _, f := range frames(t.in, 0) {
		if f.kind == http2.FrameGoAway {
			last := binary.BigEndian.Uint32(f.payload) & (1<<31 - 1)
			for _, a := range list {
				if a.stream > last {
					a.sights = append(a.sights, sight{f.last.from, reset, uint64(http2.ErrCodeRefusedStream), "GOAWAY, last stream " + strconv.Itoa(int(last)), fault.Maybe})
				}
			}
			continue
		}
		if a := byStream[f.stream]; a != nil {
			a.sights = append(a.sights, r.read(f)...)
		}
	}
	return list
}

// blocked reports whether a Write was under way at that moment, or could just
// not be made: whoever handed something over behind it cannot know whether it
// will leave.
func (t *wiretap) blocked(at time.Time) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.broke.Equal(at) {
		return true
	}
	for _, p := range t.out {
		if !p.from.After(at) && (p.to.IsZero() || p.to.After(at)) {
			return true
		}
	}
	return false
}

// word is what a server of this module says in the first hop of a trail.
func word(field string) fault.Processed {
	raw, err := base64.RawStdEncoding.DecodeString(field)
	if hops := fault.ReadTrail([]string{string(raw)}, ""); err == nil && len(hops) == 1 {
		return hops[0].Processed
	}
	return fault.Maybe
}

// reading follows the answers of one connection.
type reading struct {
	limit   int
	streams map[uint32]*answer
}

// answer is how far the answer on a stream has come.
type answer struct {
	begun, grpc bool
	body        []byte // of which no message is whole
}

func (r *reading) read(f frame) (seen []sight) {
	a := r.streams[f.stream]
	if a == nil {
		a = &answer{}
		r.streams[f.stream] = a
	}
	add := func(w what, code uint64, text string) {
		seen = append(seen, sight{f.last.from, w, code, text, fault.Maybe})
	}
	ends := f.flags.Has(http2.FlagDataEndStream) // the same bit on HEADERS
	switch f.kind {
	case http2.FrameRSTStream:
		code := http2.ErrCode(binary.BigEndian.Uint32(f.payload))
		add(reset, uint64(code), "RST_STREAM "+code.String())
	case http2.FrameHeaders:
		s, err := strconv.ParseUint(get(f.fields, "grpc-status"), 10, 32)
		switch http := get(f.fields, ":status"); {
		case ends && err == nil && (!a.begun || a.grpc):
			add(verdict, s, "grpc-status "+strconv.FormatUint(s, 10)+" "+get(f.fields, "grpc-message"))
			seen[len(seen)-1].said = word(get(f.fields, fault.TrailKey))
		case ends:
			add(end, 0, "the end, on HEADERS")
		case len(http) == 3 && http[0] != '1':
			a.begun, a.grpc = true, http == "200" && get(f.fields, "content-type") == "application/grpc"
			if a.grpc {
				add(headers, 0, "response headers")
			}
		}
	case http2.FrameData:
		before := len(a.body)
		a.body = append(a.body, f.payload...)
		for a.grpc && len(a.body) >= 5 {
			n := int(binary.BigEndian.Uint32(a.body[1:]))
			if n > r.limit {
				seen = append(seen, sight{f.came(5 - before), message, 0, "the start of a message that is too large", fault.Maybe})
				a.grpc = false // nobody reads on
				break
			}
			if len(a.body) < 5+n {
				break
			}
			seen = append(seen, sight{f.came(5 + n - before), message, 0, "a message", fault.Maybe})
			a.body, before = a.body[5+n:], before-5-n
		}
		if ends {
			add(end, 0, "the end, on DATA")
		}
	}
	return seen
}
