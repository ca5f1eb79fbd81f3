// SPDX-License-Identifier: Apache-2.0

package h2

import (
	"bytes"
	"encoding/binary"
	"io"
	"time"

	"github.com/faultline-rpc/faultline/h2/frame"
	"github.com/faultline-rpc/faultline/h2/hpack"
)

// reader is what belongs to the goroutine in Run alone.
type reader struct {
	buf     *ReadBuf
	fill    int // bytes in buf
	small   int // reads in a row that a smaller buffer would have held
	preface int // bytes of the client's preface still to come
	started bool
	slow    bool   // there is a deadline for the rest of what has begun
	first   []byte // the first bytes received, until the peer is known to speak HTTP/2

	dec     *hpack.Decoder
	pending pendingHeaders
	data    pendingData
	credit  uint32 // connection window to give back
	window  int64  // what the peer may still send on the connection
	waste   bucket
}

// pendingHeaders is a header block in assembly: HEADERS without END_HEADERS
// was read, CONTINUATION has to follow (RFC 9113 section 6.10).
type pendingHeaders struct {
	stream uint32 // 0: none
	block  []byte
	end    bool
	self   bool // the priority fields depend on the stream itself
	frames int
}

// pendingData is a DATA frame whose payload has not come whole.
type pendingData struct {
	s    *Stream // nil: the payload is dropped
	rest int     // payload bytes to come
	pad  int     // padding bytes to come after them
	end  bool
	open bool // a frame is under way
}

func (r *reader) init(cfg *Config) {
	r.dec = hpack.NewDecoder(cfg.HeaderTableSize, cfg.MaxHeaderListSize)
	r.window = int64(cfg.ConnWindow)
}

// firstBytes is how much of an answer that is no HTTP/2 is kept as evidence.
const firstBytes = 512

const (
	// hearTime is how long a peer that speaks something else is heard out.
	hearTime = 500 * time.Millisecond
	// telling is how many of its first bytes tell what it speaks.
	telling = 16
)

// Run reads until the connection ends, delivering what arrives, and tells
// every stream and the handler why it ended. It returns that reason.
func (c *Conn) Run() error {
	err := c.readAll()
	c.rd.buf.Release()
	if err.Kind == Violation || err.Kind == NotHTTP2 {
		c.fatal(err)
	}
	c.teardown(err)
	return c.Err()
}

func (c *Conn) readAll() *ConnError {
	r := &c.rd
	r.buf = newReadBuf(0)
	for {
		n, err := c.read(r.buf.b[r.fill:])
		if n > 0 {
			c.activity.Add(1)
			if !c.server {
				c.heard.Store(int64(c.clock()))
			}
			if ferr := c.batch(n); ferr != nil {
				c.hearOut(ferr)
				return ferr
			}
		}
		if err != nil {
			return c.readFailed(err)
		}
	}
}

// hearOut reads on from a peer that does not speak HTTP/2, for a moment: its
// first byte, should it come alone, does not show what it speaks. Closing the
// socket ends it, which is about to happen anyway.
func (c *Conn) hearOut(err *ConnError) {
	if err.Kind != NotHTTP2 || c.server {
		return
	}
	t := time.AfterFunc(hearTime, func() { c.nc.Close() })
	defer t.Stop()
	var more [firstBytes - telling]byte
	for len(err.First) < telling && bytes.IndexByte(err.First, '\n') < 0 {
		n, failed := c.nc.Read(more[:])
		err.First = append(err.First, more[:n]...)
		if failed != nil {
			return
		}
	}
}

// readFailed says what the end of reading means.
func (c *Conn) readFailed(err error) *ConnError {
	if c.dripped(err) {
		return violation(codeCalm, "a frame or header block has not come whole within %v", c.cfg.SettingsTimeout)
	}
	e := &ConnError{Kind: Lost, By: Peer, Err: err}
	if err == io.EOF && (c.rd.fill > 0 || c.rd.data.open) && c.rd.started {
		e.Err = io.ErrUnexpectedEOF
	}
	if !c.rd.started && !c.server {
		e.First = c.rd.first
		if len(e.First) > 0 {
			e.Kind = NotHTTP2
		}
	}
	return e
}

// read waits for bytes.
func (c *Conn) read(b []byte) (int, error) {
	if c.sock != nil {
		return c.sock.read(b)
	}
	return c.nc.Read(b)
}

// batch takes the n bytes just read.
func (c *Conn) batch(n int) *ConnError {
	c.out.corked.Store(true)
	err := c.take(n)
	c.uncork()
	return err
}

func (c *Conn) take(n int) *ConnError {
	r := &c.rd
	r.fill += n
	filled := r.fill == len(r.buf.b)
	if !r.started {
		r.first = append(r.first, r.buf.b[r.fill-n:min(r.fill, r.fill-n+firstBytes-len(r.first))]...)
	}
	used, err := c.feed(r.buf.b[:r.fill])
	if err != nil {
		if err.Kind == NotHTTP2 {
			err.First = r.first
		}
		return err
	}
	r.keep(used, filled)
	c.watchRest(used)
	c.giveCredit()
	c.h.BatchEnd()
	return nil
}

// keep carries what feed left over to the front of a buffer of the right size.
func (r *reader) keep(used int, filled bool) {
	left := r.buf.b[used:r.fill]
	class := r.class(filled, len(left))
	if class == r.buf.class && !r.buf.shared() && len(left) < len(r.buf.b) {
		copy(r.buf.b, left)
	} else {
		var next *ReadBuf
		if class < 0 {
			next = oddReadBuf(frame.HeaderLen + int(frame.ParseHeader(left).Length))
		} else {
			next = newReadBuf(class)
		}
		copy(next.b, left)
		r.buf.Release()
		r.buf = next
	}
	r.fill = len(left)
}

// class chooses the next read's buffer: larger after a read that filled this
// one, smaller after many that would have fitted the smaller; -1 for one that
// holds the single frame that no class does. That is never DATA, which is
// delivered as it comes: whatever is left over is less than one frame.
func (r *reader) class(filled bool, left int) int8 {
	const patience = 64
	class := max(r.buf.class, 0)
	switch {
	case filled:
		r.small = 0
		class = min(class+1, int8(len(readSizes)-1))
	case class > 0 && r.fill < readSizes[class-1]/2:
		if r.small++; r.small >= patience {
			r.small = 0
			class--
		}
	default:
		r.small = 0
	}
	for left >= readSizes[class] {
		if int(class) == len(readSizes)-1 {
			return -1
		}
		class++
	}
	return class
}

// giveCredit returns the connection's window for what has arrived. It does not
// wait for the streams' consumers: one slow stream must not stop the others,
// and what a stream can hold is bounded by its own window.
func (c *Conn) giveCredit() {
	r := &c.rd
	if !due(int32(r.credit), c.cfg.ConnWindow) {
		return
	}
	c.mu.Lock()
	c.out.b = frame.AppendWindowUpdate(c.out.b, 0, r.credit)
	c.wakeWriterLocked()
	c.mu.Unlock()
	r.window += int64(r.credit)
	r.credit = 0
}

// feed consumes whole frames, and DATA as it comes, and returns how much it
// consumed.
func (c *Conn) feed(b []byte) (int, *ConnError) {
	r := &c.rd
	all := len(b)
	if r.preface > 0 {
		n := min(len(b), r.preface)
		want := frame.Preface[len(frame.Preface)-r.preface:]
		if string(b[:n]) != want[:n] {
			return 0, &ConnError{Kind: NotHTTP2, By: Local, Code: codeProtocol, Reason: "the client's first bytes are not the HTTP/2 preface"}
		}
		r.preface -= n
		b = b[n:]
	}
	for {
		if r.data.open {
			if b = c.feedData(b); r.data.open {
				break
			}
			continue
		}
		if len(b) < frame.HeaderLen {
			if !c.rd.started && !c.plausibleStart(b) {
				return 0, c.notHTTP2()
			}
			break
		}
		h := frame.ParseHeader(b)
		if err := c.checkFrame(h); err != nil {
			return 0, err
		}
		if h.Type == frame.Data && !h.Flags.Has(frame.Padded) {
			if err := c.onData(h, 0); err != nil {
				return 0, err
			}
			b = b[frame.HeaderLen:]
			continue
		}
		need := frame.HeaderLen + int(h.Length)
		if h.Type == frame.Data { // padded: its length field is all that is needed now
			need = frame.HeaderLen + 1
		}
		if len(b) < need {
			break
		}
		if err := c.onFrame(h, b[frame.HeaderLen:need]); err != nil {
			return 0, err
		}
		b = b[need:]
	}
	return all - len(b), nil
}

// plausibleStart reports whether b, shorter than a frame header, can become the
// peer's first frame: SETTINGS on stream 0 (RFC 9113 section 3.4).
func (c *Conn) plausibleStart(b []byte) bool {
	if len(b) > 0 && b[0] != 0 {
		return false
	}
	return len(b) <= 3 || b[3] == byte(frame.Settings)
}

func (c *Conn) notHTTP2() *ConnError {
	return &ConnError{Kind: NotHTTP2, By: Local, Code: codeProtocol, Reason: "the first frame is not SETTINGS"}
}

// checkFrame is what can be said of a frame from its header.
func (c *Conn) checkFrame(h frame.Header) *ConnError {
	r := &c.rd
	if !r.started {
		// A server may acknowledge our SETTINGS before it sends its own, against
		// section 3.4: other clients take that for a preface without settings.
		if h.Type != frame.Settings || h.Flags.Has(frame.Ack) && c.server || h.Stream != 0 || h.Length > 6*100 {
			return c.notHTTP2()
		}
		r.started, r.first = true, nil
	}
	if h.Length > c.cfg.MaxFrameSize {
		return violation(codeFrameSize, "%v of %d bytes, limit %d", h.Type, h.Length, c.cfg.MaxFrameSize)
	}
	if r.pending.stream != 0 && (h.Type != frame.Continuation || h.Stream != r.pending.stream) {
		return violation(codeProtocol, "%v on stream %d inside the header block of stream %d", h.Type, h.Stream, r.pending.stream)
	}
	if code, reason := frame.CheckHeader(h); code != codeNo && !frame.StreamOnly(h) {
		return violation(code, "%s", reason)
	}
	return nil
}

// wasteful charges a frame that carries nothing or demands work for nothing.
func (c *Conn) wasteful(cost float64, what string) *ConnError {
	if c.rd.waste.take(cost, time.Now()) {
		return nil
	}
	return violation(codeCalm, "too many frames that lead nowhere, the last: %s", what)
}

func be32(b []byte) uint32 { return binary.BigEndian.Uint32(b) }
