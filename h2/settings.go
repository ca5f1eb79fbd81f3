// SPDX-License-Identifier: Apache-2.0

package h2

import (
	"time"

	"github.com/faultline-rpc/faultline/event"
	"github.com/faultline-rpc/faultline/h2/frame"
)

// onSettings takes SETTINGS or their acknowledgement (RFC 9113 section 6.5).
func (c *Conn) onSettings(h frame.Header, p []byte) *ConnError {
	if h.Flags.Has(frame.Ack) {
		if err := c.onSettingsAck(); err != nil {
			return err
		}
		c.mu.Lock()
		first := !c.peer.ready
		c.peer.ready = true
		c.mu.Unlock()
		if first { // see checkFrame
			c.announceReady()
		}
		return nil
	}
	if err := c.wasteful(10, "SETTINGS"); err != nil {
		return err
	}
	c.mu.Lock()
	err := c.applyAllLocked(p)
	if err == nil {
		c.out.b = frame.AppendSettingsAck(c.out.b)
		c.flushLocked()
		err = c.replyLocked(frame.HeaderLen)
	}
	first := !c.peer.ready && err == nil
	if first {
		c.peer.ready = true
		c.life.ackBy = c.clock() + c.cfg.SettingsTimeout
		c.life.prefaceTimer.Reset(c.cfg.SettingsTimeout) // now for the acknowledgement
	}
	c.mu.Unlock()
	if first {
		c.announceReady()
	}
	return err
}

func (c *Conn) onSettingsAck() *ConnError {
	c.mu.Lock()
	first := !c.peer.acked
	c.peer.acked = true
	if first {
		c.life.prefaceTimer.Stop()
		c.life.prefaceTimer = nil
	}
	if delta := int64(c.cfg.StreamWindow) - initialWindow; first && delta < 0 {
		// Until now it could use the initial window (section 6.9.2).
		c.streams.each(func(s *Stream) { s.recvWindow.Add(delta) })
	}
	c.mu.Unlock()
	if !first {
		return c.wasteful(1, "SETTINGS acknowledged again")
	}
	if c.cfg.HeaderTableSize != defaultHeaderTable {
		c.rd.dec.SetAllowedMaxTableSize(c.cfg.HeaderTableSize)
	}
	return nil
}

func (c *Conn) announceReady() {
	if c.cfg.Sink != nil {
		c.cfg.Sink.Record(event.ConnOpened{Conn: c.cfg.ConnID, Role: c.role(),
			Local: c.nc.LocalAddr().String(), Remote: c.nc.RemoteAddr().String()})
	}
	c.h.Ready()
}

// applyAllLocked takes the settings of one frame. The streams' windows are
// resized once, to the last value given: each time costs a look at every stream.
func (c *Conn) applyAllLocked(p []byte) *ConnError {
	size := c.peer.streamWindow
	for s := range frame.EachSetting(p) {
		if err := c.applyLocked(s); err != nil {
			return err
		}
		if s.ID == frame.SettingInitialWindowSize {
			size = int64(s.Value)
		}
	}
	if size == c.peer.streamWindow {
		return nil
	}
	return c.resizeWindowsLocked(size)
}

// applyLocked takes one setting of the peer's (section 6.5.2), all but
// INITIAL_WINDOW_SIZE.
func (c *Conn) applyLocked(s frame.Setting) *ConnError {
	if code, reason := frame.CheckSetting(s); code != codeNo {
		return violation(code, "%s", reason)
	}
	switch s.ID {
	case frame.SettingHeaderTableSize:
		c.peer.enc.SetMaxTableSize(s.Value)
	case frame.SettingEnablePush:
		if !c.server && s.Value != 0 {
			// "A server MUST NOT send it with a value of 1" in effect: section 6.5.2.
			return violation(codeProtocol, "the server sent ENABLE_PUSH 1")
		}
	case frame.SettingMaxConcurrentStreams:
		c.peer.maxStreams = s.Value
		c.grantSlotsLocked()
	case frame.SettingMaxFrameSize:
		c.peer.maxFrame = int(s.Value)
	case frame.SettingMaxHeaderListSize:
		c.peer.maxHeaderList = uint64(s.Value)
	}
	return nil
}

// resizeWindowsLocked applies a new INITIAL_WINDOW_SIZE to the streams that
// are open; their windows may become negative (section 6.9.2).
func (c *Conn) resizeWindowsLocked(size int64) *ConnError {
	delta := size - c.peer.streamWindow
	c.peer.streamWindow = size
	ok := true
	c.streams.each(func(s *Stream) {
		ok = s.sendWindow.add(delta) && ok
		c.unblockLocked(s)
	})
	if !ok {
		return violation(codeFlow, "INITIAL_WINDOW_SIZE %d makes a stream's window exceed 2^31-1", size)
	}
	return nil
}

// pings are the PINGs sent and not answered yet.
type pings struct {
	next       uint64
	waiting    []ping
	sentAt     time.Duration // of the last one
	answeredAt time.Duration // the last answer
}

type ping struct {
	id  uint64
	ack func()
}

// maxPings bounds the PINGs that wait for an answer.
const maxPings = 16

// Ping sends a PING. ack runs on the reader when the peer has answered. It
// returns false if the connection is over, or if sixteen answers are due
// already.
func (c *Conn) Ping(ack func()) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.life.phase >= closing || len(c.pings.waiting) >= maxPings {
		return false
	}
	c.pingLocked(ack)
	c.wakeWriterLocked()
	return true
}

func (c *Conn) pingLocked(ack func()) {
	c.pings.next++
	c.pings.sentAt = c.clock()
	c.pinging.Store(pingAsked)
	c.pings.waiting = append(c.pings.waiting, ping{c.pings.next, ack})
	c.out.b = frame.AppendPing(c.out.b, false, pingData(c.pings.next))
}

func pingData(id uint64) (p [8]byte) {
	for i := range p {
		p[i] = byte(id >> (56 - 8*i))
	}
	return p
}

// onPing answers a PING, or takes the answer to one of ours (section 6.7).
func (c *Conn) onPing(h frame.Header, p []byte) *ConnError {
	data := [8]byte(p)
	if h.Flags.Has(frame.Ack) {
		return c.pingAnswered(data)
	}
	if err := c.wasteful(1, "PING"); err != nil {
		return err
	}
	if c.cfg.Pinged != nil {
		c.cfg.Pinged()
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.out.b = frame.AppendPing(c.out.b, true, data)
	c.flushLocked()
	return c.replyLocked(frame.HeaderLen + len(data))
}

func (c *Conn) pingAnswered(data [8]byte) *ConnError {
	var ack func()
	known := false
	c.mu.Lock()
	for i, w := range c.pings.waiting {
		if pingData(w.id) == data {
			ack, known = w.ack, true
			c.pings.answeredAt = c.clock()
			c.pings.waiting = append(c.pings.waiting[:i], c.pings.waiting[i+1:]...)
			break
		}
	}
	if known && len(c.pings.waiting) == 0 {
		c.pinging.Store(pingAnswered)
	}
	c.mu.Unlock()
	if ack != nil {
		ack()
	}
	if !known {
		return c.wasteful(1, "PING answered that was not sent")
	}
	return nil
}
