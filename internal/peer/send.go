// SPDX-License-Identifier: Apache-2.0

package peer

import (
	"fmt"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// Send writes what f makes with x/net's framer, as one write to the
// connection. The framer refuses nothing. line describes it in the dialogue.
func (p *Peer) Send(line string, f func(fr *http2.Framer) error) error {
	p.lock()
	defer p.unlock()
	return p.sendLocked(line, f)
}

func (p *Peer) sendLocked(line string, f func(fr *http2.Framer) error) error {
	p.out.Reset()
	if err := f(p.framer); err != nil {
		return fmt.Errorf("peer: %s: %w", line, err)
	}
	p.note("-> " + line)
	if err := p.write(p.out.Bytes()); err != nil {
		return fmt.Errorf("peer: sending %s: %w", line, err)
	}
	return nil
}

func (p *Peer) lock()   { p.sending <- struct{}{} }
func (p *Peer) unlock() { <-p.sending }

// write writes b within the time for it; sending is held.
func (p *Peer) write(b []byte) error {
	if err := p.conn.SetWriteDeadline(time.Now().Add(p.options.Timeout)); err != nil {
		return err
	}
	_, err := p.conn.Write(b)
	return err
}

// SendRaw writes bytes that need be no frame.
func (p *Peer) SendRaw(b []byte) error {
	return p.Send("raw "+short(string(b)), func(*http2.Framer) error {
		p.out.Write(b)
		return nil
	})
}

// SendPreface sends the client's preface; a server has none but its SETTINGS.
func (p *Peer) SendPreface() error {
	if p.server {
		return nil
	}
	return p.SendRaw([]byte(http2.ClientPreface))
}

// SendSettings sends SETTINGS. Automatic answers begin after the first.
func (p *Peer) SendSettings(s ...http2.Setting) error {
	defer p.begin.Do(func() { close(p.begun) })
	return p.Send(Frame{Kind: http2.FrameSettings, Settings: s}.String(), func(fr *http2.Framer) error { return fr.WriteSettings(s...) })
}

// SendSettingsAck acknowledges SETTINGS, for a peer with Options.NoSettingsAck.
func (p *Peer) SendSettingsAck() error {
	return p.Send("SETTINGS ACK", func(fr *http2.Framer) error { return fr.WriteSettingsAck() })
}

// SendHeaders sends a header section of the fields given as names and values,
// in their order; end is END_STREAM. A block above 16384 bytes goes on in
// CONTINUATION frames.
func (p *Peer) SendHeaders(stream uint32, end bool, nameValues ...string) error {
	return p.SendHeadersSplit(stream, end, initialFrame, nameValues...)
}

// SendHeadersSplit is SendHeaders with at most size bytes of the block in each frame.
func (p *Peer) SendHeadersSplit(stream uint32, end bool, size int, nameValues ...string) error {
	fields, err := fieldsOf(nameValues)
	if err != nil {
		return err
	}
	p.lock()
	defer p.unlock()
	block, err := p.encodeLocked(fields)
	if err != nil {
		return err
	}
	line := Frame{Kind: http2.FrameHeaders, Stream: stream, End: end, Fields: fields}.String()
	return p.sendLocked(line, func(fr *http2.Framer) error { return writeBlock(fr, stream, end, block, max(size, 1)) })
}

// SendBlock sends HEADERS with a header block that need not decode.
func (p *Peer) SendBlock(stream uint32, end bool, block []byte) error {
	return p.Send(fmt.Sprintf("HEADERS stream=%d block %s", stream, short(string(block))), func(fr *http2.Framer) error {
		return writeBlock(fr, stream, end, block, initialFrame)
	})
}

func writeBlock(fr *http2.Framer, stream uint32, end bool, block []byte, size int) error {
	part := block[:min(size, len(block))]
	block = block[len(part):]
	if err := fr.WriteHeaders(http2.HeadersFrameParam{
		StreamID: stream, EndStream: end, EndHeaders: len(block) == 0, BlockFragment: part,
	}); err != nil {
		return err
	}
	for len(block) > 0 {
		part, block = block[:min(size, len(block))], block[min(size, len(block)):]
		if err := fr.WriteContinuation(stream, len(block) == 0, part); err != nil {
			return err
		}
	}
	return nil
}

// encodeLocked makes the header block of fields; sending is held.
func (p *Peer) encodeLocked(fields []hpack.HeaderField) ([]byte, error) {
	p.mu.Lock()
	table := p.windows.table
	p.mu.Unlock()
	if table != p.table {
		p.table = table
		p.encoder.SetMaxDynamicTableSizeLimit(table)
	}
	p.block.Reset()
	for _, f := range fields {
		if err := p.encoder.WriteField(f); err != nil {
			return nil, fmt.Errorf("peer: field %s: %w", f.Name, err)
		}
	}
	return p.block.Bytes(), nil
}

func fieldsOf(nameValues []string) ([]hpack.HeaderField, error) {
	if len(nameValues)%2 != 0 {
		return nil, fmt.Errorf("peer: %d names and values, want pairs: %q", len(nameValues), nameValues)
	}
	var fields []hpack.HeaderField
	for i := 0; i < len(nameValues); i += 2 {
		fields = append(fields, hpack.HeaderField{Name: nameValues[i], Value: nameValues[i+1]})
	}
	return fields, nil
}

// SendData sends one DATA frame, whatever the windows and the largest frame
// size of the other end.
func (p *Peer) SendData(stream uint32, data []byte, end bool) error {
	p.mu.Lock()
	p.windows.spend(stream, len(data))
	p.mu.Unlock()
	return p.Send(Frame{Kind: http2.FrameData, Stream: stream, End: end, Data: data}.String(), func(fr *http2.Framer) error {
		return fr.WriteData(stream, end, data)
	})
}

// SendBody sends data in as many DATA frames as the other end's windows and
// frame size ask for. It waits for credit, at most Options.Timeout each time.
func (p *Peer) SendBody(stream uint32, data []byte, end bool) error {
	for {
		n, err := p.credit(stream, len(data))
		if err != nil {
			return err
		}
		if err := p.SendData(stream, data[:n], end && n == len(data)); err != nil {
			return err
		}
		if data = data[n:]; len(data) == 0 {
			return nil
		}
	}
}

// credit waits until some of want bytes may be sent and returns how many.
func (p *Peer) credit(stream uint32, want int) (int, error) {
	timer := time.NewTimer(p.options.Timeout)
	defer timer.Stop()
	for {
		p.mu.Lock()
		w := &p.windows
		n := min(int64(want), w.conn, w.stream(stream), int64(w.frame))
		changed, err := p.changed, p.err
		p.mu.Unlock()
		if n > 0 || want == 0 {
			return int(n), nil
		}
		if err != nil {
			return 0, fmt.Errorf("peer: waiting to send DATA on stream %d: the connection ended: %w", stream, err)
		}
		select {
		case <-changed:
		case <-timer.C:
			return 0, fmt.Errorf("peer: no credit for DATA on stream %d within %v", stream, p.options.Timeout)
		}
	}
}

// SendRST sends RST_STREAM.
func (p *Peer) SendRST(stream uint32, code http2.ErrCode) error {
	return p.Send(Frame{Kind: http2.FrameRSTStream, Stream: stream, Code: code}.String(), func(fr *http2.Framer) error {
		return fr.WriteRSTStream(stream, code)
	})
}

// SendGoAway sends GOAWAY with the last stream id and debug data.
func (p *Peer) SendGoAway(last uint32, code http2.ErrCode, debug string) error {
	return p.Send(Frame{Kind: http2.FrameGoAway, Last: last, Code: code, Debug: debug}.String(), func(fr *http2.Framer) error {
		return fr.WriteGoAway(last, code, []byte(debug))
	})
}

// SendWindowUpdate sends WINDOW_UPDATE; stream 0 is the connection. Any
// increment passes, 0 too.
func (p *Peer) SendWindowUpdate(stream, increment uint32) error {
	return p.Send(Frame{Kind: http2.FrameWindowUpdate, Stream: stream, Increment: increment}.String(), func(fr *http2.Framer) error {
		return fr.WriteWindowUpdate(stream, increment)
	})
}

// SendPing sends PING.
func (p *Peer) SendPing(ack bool, data [8]byte) error {
	return p.Send(Frame{Kind: http2.FramePing, Ack: ack}.String(), func(fr *http2.Framer) error { return fr.WritePing(ack, data) })
}

// SendFrame sends a frame of any kind, flags and payload.
func (p *Peer) SendFrame(kind http2.FrameType, flags http2.Flags, stream uint32, payload []byte) error {
	return p.Send(fmt.Sprintf("%v stream=%d flags=%#x %s", kind, stream, flags, short(string(payload))), func(fr *http2.Framer) error {
		return fr.WriteRawFrame(kind, flags, stream, payload)
	})
}
