// SPDX-License-Identifier: Apache-2.0

package peer

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

const (
	initialWindow = 65535 // RFC 9113 section 6.9.2
	initialFrame  = 16384 // RFC 9113 section 4.2
	initialTable  = 4096  // RFC 9113 section 6.5.2
)

// windows is what the other end lets this one send, in bytes.
type windows struct {
	conn    int64
	initial int64
	frame   int              // the largest payload it takes
	table   uint32           // the largest HPACK table it takes
	streams map[uint32]int64 // what each may send, less or more than initial
}

// read receives until the connection ends. It never waits for the script.
func (p *Peer) read() {
	defer p.running.Done()
	err := p.readAll()
	p.mu.Lock()
	defer p.mu.Unlock()
	p.err = err
	select {
	case <-p.closing:
		p.err = errClosed
	default:
		p.noteLocked(fmt.Sprintf("<- (%v)", err))
	}
	close(p.ended)
	p.changeLocked()
}

func (p *Peer) readAll() error {
	in := bufio.NewReader(p.conn)
	if p.server {
		got := make([]byte, len(http2.ClientPreface))
		n, err := io.ReadFull(in, got)
		if want := http2.ClientPreface; string(got[:n]) != want[:n] {
			return fmt.Errorf("the client began with %q, want the preface %q", got[:n], want)
		}
		if err != nil {
			return fmt.Errorf("the client's preface ended after %d bytes: %w", n, err)
		}
		p.note("<- preface")
	}
	fr := http2.NewFramer(nil, in)
	fr.AllowIllegalReads = true
	fr.SetMaxReadFrameSize(1<<24 - 1)
	blocks := newBlocks(p.options.Settings)
	for {
		raw, err := fr.ReadFrame()
		if err != nil {
			var ofConn http2.ConnectionError
			var ofStream http2.StreamError
			if errors.As(err, &ofConn) || errors.As(err, &ofStream) {
				return fmt.Errorf("a frame does not parse: %w (%v)", err, fr.ErrorDetail())
			}
			return err
		}
		f, whole, err := blocks.add(raw)
		if err != nil {
			return err
		}
		if !whole {
			continue
		}
		if err := p.received(f); err != nil {
			return err
		}
	}
}

// blocks assembles header blocks and decodes them.
type blocks struct {
	decoder  *hpack.Decoder
	open     *Frame // HEADERS whose CONTINUATION is awaited
	fragment bytes.Buffer
}

func newBlocks(own []http2.Setting) *blocks {
	b := &blocks{decoder: hpack.NewDecoder(initialTable, nil)}
	for _, s := range own {
		if s.ID == http2.SettingHeaderTableSize {
			b.decoder.SetAllowedMaxDynamicTableSize(s.Val)
		}
	}
	return b
}

// add returns the frame, whole unless more of its header block is to come.
func (b *blocks) add(raw http2.Frame) (f Frame, whole bool, err error) {
	if b.open != nil && raw.Header().Type != http2.FrameContinuation {
		return f, false, fmt.Errorf("%v came inside a header block, want CONTINUATION", raw.Header().Type)
	}
	var part []byte
	var done bool
	switch raw := raw.(type) {
	case *http2.HeadersFrame:
		f = convert(raw)
		f.End = raw.StreamEnded()
		b.open, part, done = &f, raw.HeaderBlockFragment(), raw.HeadersEnded()
	case *http2.PushPromiseFrame:
		f = convert(raw)
		b.open, part, done = &f, raw.HeaderBlockFragment(), raw.HeadersEnded()
	case *http2.ContinuationFrame:
		if b.open == nil || b.open.Stream != raw.StreamID {
			return f, false, fmt.Errorf("CONTINUATION on stream %d without HEADERS before it", raw.StreamID)
		}
		part, done = raw.HeaderBlockFragment(), raw.HeadersEnded()
	default:
		return convert(raw), true, nil
	}
	b.fragment.Write(part)
	if b.fragment.Len() > maxBlock {
		return f, false, fmt.Errorf("a header block exceeds %d bytes", maxBlock)
	}
	if !done {
		return f, false, nil
	}
	f, b.open = *b.open, nil
	f.Length = uint32(b.fragment.Len())
	f.Fields, err = b.decoder.DecodeFull(b.fragment.Bytes())
	b.fragment.Reset()
	if err != nil {
		return f, false, fmt.Errorf("the header block of stream %d does not decode: %w", f.Stream, err)
	}
	return f, true, nil
}

// received queues a frame for the script and makes the automatic answers.
func (p *Peer) received(f Frame) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.noteLocked("<- " + f.String())
	if len(p.queue) >= maxFrames || p.queued > maxBytes {
		return fmt.Errorf("%d frames of %d bytes were received and not wanted", len(p.queue), p.queued)
	}
	p.queue = append(p.queue, f)
	p.queued += f.size()
	p.changeLocked()
	var out bytes.Buffer
	fr := http2.NewFramer(&out, nil)
	switch {
	case f.Kind == http2.FrameSettings && !f.Ack:
		p.windows.apply(f.Settings)
		if !p.options.NoSettingsAck {
			fr.WriteSettingsAck() // into memory: no error
		}
	case f.Kind == http2.FrameWindowUpdate:
		if err := p.windows.grant(f.Stream, int64(f.Increment)); err != nil {
			return err
		}
	case f.Kind == http2.FramePing && !f.Ack && !p.options.NoPingAck:
		fr.WritePing(true, [8]byte(f.Data))
	case f.Kind == http2.FrameData && f.Length > 0 && !p.options.NoCredit:
		fr.WriteWindowUpdate(0, f.Length)
		if !f.End {
			fr.WriteWindowUpdate(f.Stream, f.Length)
		}
	}
	return p.answerLocked(out.Bytes())
}

// size is roughly what a queued frame holds in memory.
func (f Frame) size() int {
	n := len(f.Data) + len(f.Debug)
	for _, h := range f.Fields {
		n += len(h.Name) + len(h.Value)
	}
	return n
}

// answerLocked queues bytes for the writer of automatic answers, so that the
// reader never waits for the other end to read; mu is held.
func (p *Peer) answerLocked(b []byte) error {
	if len(b) == 0 {
		return nil
	}
	if len(p.answers) > maxAnswers {
		return errors.New("the other end does not read the answers to its SETTINGS, PING and DATA")
	}
	p.answers = append(p.answers, b...)
	select {
	case p.kick <- struct{}{}:
	default:
	}
	return nil
}

// answer writes the automatic answers, once the conversation has begun.
func (p *Peer) answer() {
	defer p.running.Done()
	select {
	case <-p.begun:
	case <-p.ended:
		return
	}
	for {
		select {
		case <-p.kick:
		case <-p.ended:
			return
		}
		p.mu.Lock()
		b := p.answers
		p.answers = nil
		p.mu.Unlock()
		p.lock()
		err := p.write(b)
		p.unlock()
		if err != nil {
			return // the reader notices the end and says so
		}
	}
}

func (w *windows) apply(settings []http2.Setting) {
	for _, s := range settings {
		switch s.ID {
		case http2.SettingInitialWindowSize:
			for id := range w.streams {
				w.streams[id] += int64(s.Val) - w.initial
			}
			w.initial = int64(s.Val)
		case http2.SettingMaxFrameSize:
			w.frame = int(s.Val)
		case http2.SettingHeaderTableSize:
			w.table = s.Val
		}
	}
}

func (w *windows) grant(stream uint32, n int64) error {
	if stream == 0 {
		w.conn += n
		return nil
	}
	if _, known := w.streams[stream]; !known && len(w.streams) >= maxFrames {
		return fmt.Errorf("WINDOW_UPDATE for more than %d streams", maxFrames)
	}
	w.streams[stream] = w.stream(stream) + n
	return nil
}

// stream is what the stream itself may send.
func (w *windows) stream(id uint32) int64 {
	if n, ok := w.streams[id]; ok {
		return n
	}
	return w.initial
}

// spend counts DATA sent, allowed or not.
func (w *windows) spend(stream uint32, n int) {
	w.conn -= int64(n)
	w.streams[stream] = w.stream(stream) - int64(n)
}

// changeLocked wakes whoever waits for a change; mu is held.
func (p *Peer) changeLocked() {
	close(p.changed)
	p.changed = make(chan struct{})
}
