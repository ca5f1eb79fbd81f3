// SPDX-License-Identifier: Apache-2.0

package doctor

import (
	"encoding/binary"
	"fmt"
	"net"
	"sync"
)

// tap is a connection that reads along: it keeps what the peer's frames say
// that the engine has no need to tell. It judges nothing.
type tap struct {
	net.Conn
	acked chan struct{} // closed when our SETTINGS are acknowledged

	mu       sync.Mutex
	head     [9]byte   // guarded by mu: a frame's header in assembly
	have     int       // guarded by mu: its bytes
	left     int       // guarded by mu: of the payload
	kept     []byte    // guarded by mu: the payload, of frames that are looked into
	frames   int       // guarded by mu
	settings []setting // guarded by mu
	pings    int       // guarded by mu: that the peer sent
	unknown  int       // guarded by mu: frames of types that RFC 9113 does not have
}

type setting struct {
	id    uint16
	value uint32
}

// The frames looked into (RFC 9113 section 6).
const (
	typeSettings = 4
	typePing     = 6
	typeLast     = 9 // CONTINUATION; beyond it extensions
	flagAck      = 1
	maxKept      = 600
)

func newTap(nc net.Conn) *tap { return &tap{Conn: nc, acked: make(chan struct{})} }

// Read reads along.
func (t *tap) Read(p []byte) (int, error) {
	n, err := t.Conn.Read(p)
	if n > 0 {
		t.mu.Lock()
		t.see(p[:n])
		t.mu.Unlock()
	}
	return n, err
}

// CloseWrite ends the bytes sent, where the connection can.
func (t *tap) CloseWrite() error {
	if c, ok := t.Conn.(interface{ CloseWrite() error }); ok {
		return c.CloseWrite()
	}
	return t.Conn.Close()
}

// see takes bytes as they came. mu is held.
func (t *tap) see(p []byte) {
	for len(p) > 0 {
		if t.have < len(t.head) {
			n := copy(t.head[t.have:], p)
			p = p[n:]
			if t.have += n; t.have < len(t.head) {
				return
			}
			t.left = int(t.head[0])<<16 | int(t.head[1])<<8 | int(t.head[2])
			t.kept = t.kept[:0]
		}
		n := min(len(p), t.left)
		if t.head[3] == typeSettings && len(t.kept) < maxKept {
			t.kept = append(t.kept, p[:min(n, maxKept-len(t.kept))]...)
		}
		p = p[n:]
		if t.left -= n; t.left > 0 {
			return
		}
		t.have = 0
		t.frame()
	}
}

// frame takes a whole frame. mu is held.
func (t *tap) frame() {
	t.frames++
	ack := t.head[4]&flagAck != 0
	switch typ := t.head[3]; {
	case typ == typeSettings && ack:
		select {
		case <-t.acked:
		default:
			close(t.acked)
		}
	case typ == typeSettings:
		for b := t.kept; len(b) >= 6; b = b[6:] {
			t.settings = append(t.settings, setting{binary.BigEndian.Uint16(b), binary.BigEndian.Uint32(b[2:])})
		}
		if len(t.settings) > maxKept {
			t.settings = t.settings[:maxKept]
		}
	case typ == typePing && !ack:
		t.pings++
	case typ > typeLast:
		t.unknown++
	}
}

// settingNames are those of RFC 9113 section 6.5.2 and of RFC 8441.
var settingNames = map[uint16]string{1: "HEADER_TABLE_SIZE", 2: "ENABLE_PUSH", 3: "MAX_CONCURRENT_STREAMS", 4: "INITIAL_WINDOW_SIZE",
	5: "MAX_FRAME_SIZE", 6: "MAX_HEADER_LIST_SIZE", 8: "ENABLE_CONNECT_PROTOCOL"}

// maxShown bounds the settings shown.
const maxShown = 12

// evidence describes what was seen.
func (t *tap) evidence() []Fact {
	t.mu.Lock()
	defer t.mu.Unlock()
	var out []Fact
	text := ""
	for i, s := range t.settings {
		if i == maxShown {
			text += fmt.Sprintf(", and %d more", len(t.settings)-i)
			break
		}
		name := settingNames[s.id]
		if name == "" {
			name = fmt.Sprintf("0x%02x", s.id)
		}
		if i > 0 {
			text += ", "
		}
		text += fmt.Sprintf("%s %d", name, s.value)
	}
	if text == "" {
		text = "all defaults"
	}
	out = append(out, fact("settings", "%s", text))
	if t.pings > 0 {
		out = append(out, fact("pings received", "%d", t.pings))
	}
	if t.unknown > 0 {
		out = append(out, fact("unknown frames", "%d, ignored as RFC 9113 asks", t.unknown))
	}
	return out
}
