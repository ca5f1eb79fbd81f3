// SPDX-License-Identifier: Apache-2.0

package peer

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"slices"
	"sync"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

const (
	defaultTimeout = 10 * time.Second
	maxFrames      = 100_000  // received and not yet wanted
	maxBytes       = 64 << 20 // of these and of their fields
	maxBlock       = 4 << 20  // one header block
	maxAnswers     = 1 << 20  // automatic answers that the connection does not take
	maxLines       = 200      // of the dialogue that are kept
)

// Options change a peer's habits. The zero value is a polite peer.
type Options struct {
	// Settings are sent by Handshake.
	Settings []http2.Setting
	// NoSettingsAck, NoPingAck and NoCredit turn the automatic answers off.
	NoSettingsAck, NoPingAck, NoCredit bool
	// Interleave lets frames of other streams wait for their turn. Otherwise
	// they are unexpected.
	Interleave bool
	// Skip are the kinds of frame that are passed over unless wanted. Nil
	// means SETTINGS, PING, WINDOW_UPDATE and PRIORITY.
	Skip []http2.FrameType
	// Timeout bounds each wait: for a frame, for credit, for the connection to
	// take what is sent. Zero means 10 s.
	Timeout time.Duration
}

// Peer is one end of an HTTP/2 connection, played step by step. Send methods
// may be called from several goroutines, the others from one at a time.
type Peer struct {
	conn    net.Conn
	server  bool
	options Options
	ended   chan struct{} // closed by the reader
	closing chan struct{}
	close   sync.Once
	running sync.WaitGroup
	kick    chan struct{} // there are automatic answers
	begun   chan struct{} // closed when this end's SETTINGS are sent: answers must not come before
	begin   sync.Once

	sending chan struct{}   // a lock, held while frames are made and written: waiting for it must not hold up fake time
	out     bytes.Buffer    // guarded by sending
	framer  *http2.Framer   // into out; guarded by sending
	block   bytes.Buffer    // guarded by sending
	encoder *hpack.Encoder  // into block; guarded by sending
	table   uint32          // the encoder's limit; guarded by sending
	bodies  map[uint32]body // what WantData has in hand; the script's goroutine only

	mu       sync.Mutex
	changed  chan struct{} // closed and replaced at every change; guarded by mu
	queue    []Frame       // guarded by mu
	queued   int           // bytes in queue; guarded by mu
	err      error         // why the reader ended; guarded by mu
	answers  []byte        // automatic ones, not yet written; guarded by mu
	dialogue []string      // guarded by mu
	dropped  int           // lines of the dialogue no longer kept; guarded by mu
	windows  windows       // guarded by mu
}

// body is the part of a stream's DATA that was received and not yet asked for.
type body struct {
	data []byte
	end  bool
}

// NewServer plays the server's role on conn, which it owns from now on.
func NewServer(conn net.Conn, o Options) *Peer { return start(conn, o, true) }

// NewClient plays the client's role on conn, which it owns from now on.
func NewClient(conn net.Conn, o Options) *Peer { return start(conn, o, false) }

// Dial connects and plays the client's role.
func Dial(ctx context.Context, network, addr string, o Options) (*Peer, error) {
	var d net.Dialer
	conn, err := d.DialContext(ctx, network, addr)
	if err != nil {
		return nil, fmt.Errorf("peer: %w", err)
	}
	return NewClient(conn, o), nil
}

func start(conn net.Conn, o Options, server bool) *Peer {
	if o.Timeout <= 0 {
		o.Timeout = defaultTimeout
	}
	if o.Skip == nil {
		o.Skip = []http2.FrameType{http2.FrameSettings, http2.FramePing, http2.FrameWindowUpdate, http2.FramePriority}
	}
	p := &Peer{
		conn: conn, server: server, options: o,
		ended: make(chan struct{}), closing: make(chan struct{}), kick: make(chan struct{}, 1), begun: make(chan struct{}), sending: make(chan struct{}, 1), changed: make(chan struct{}),
		bodies:  map[uint32]body{},
		windows: windows{table: initialTable, conn: initialWindow, initial: initialWindow, frame: initialFrame, streams: map[uint32]int64{}},
	}
	p.framer = http2.NewFramer(&p.out, nil)
	p.framer.AllowIllegalWrites = true
	p.encoder = hpack.NewEncoder(&p.block)
	p.table = initialTable
	p.running.Add(2)
	go p.read()
	go p.answer()
	return p
}

// Conn is the connection played on.
func (p *Peer) Conn() net.Conn { return p.conn }

// Close closes the connection and waits for the peer's goroutines. It may be
// called more than once.
func (p *Peer) Close() error {
	var err error
	p.close.Do(func() {
		close(p.closing)
		err = p.conn.Close()
	})
	p.running.Wait()
	return err
}

// Cut resets the connection, as a crash of the machine's network does, and
// closes the peer: the other end reads ECONNRESET where the kind of connection
// allows it.
func (p *Peer) Cut() {
	p.note("-> (reset)")
	conn := p.conn
	if t, ok := conn.(*tls.Conn); ok {
		conn = t.NetConn()
	}
	switch c := conn.(type) {
	case interface{ Cut() }:
		c.Cut()
	case interface{ SetLinger(int) error }:
		c.SetLinger(0) // fails on a closed connection only
	}
	if conn != p.conn {
		conn.Close() // before TLS can send its close_notify
	}
	p.Close() // whether there was still anything to close does not matter
}

// CloseWrite ends the bytes sent (FIN) and goes on reading. It fails on
// connections that cannot.
func (p *Peer) CloseWrite() error {
	c, ok := p.conn.(interface{ CloseWrite() error })
	if !ok {
		return fmt.Errorf("peer: a %T cannot close one direction only", p.conn)
	}
	p.note("-> (FIN)")
	return c.CloseWrite()
}

// Dialogue returns what was sent (->) and received (<-) so far, a line a
// frame; of a long one the end.
func (p *Peer) Dialogue() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	lines := slices.Clone(p.dialogue)
	if p.dropped > 0 {
		lines = append([]string{fmt.Sprintf("(%d lines before)", p.dropped)}, lines...)
	}
	return lines
}

// note adds a line to the dialogue.
func (p *Peer) note(line string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.noteLocked(line)
}

func (p *Peer) noteLocked(line string) {
	if len(p.dialogue) == maxLines {
		p.dialogue = p.dialogue[1:]
		p.dropped++
	}
	p.dialogue = append(p.dialogue, line)
}

// Handshake sends the preface (as client) and SETTINGS, and waits for the
// other end's. It returns these.
func (p *Peer) Handshake() (Frame, error) {
	if err := p.SendPreface(); err != nil {
		return Frame{}, err
	}
	if err := p.SendSettings(p.options.Settings...); err != nil {
		return Frame{}, err
	}
	return p.want(wish{what: "SETTINGS first of all", strict: true, kind: http2.FrameSettings, match: func(f Frame) []string {
		if f.Ack {
			return []string{"an acknowledgement came before the SETTINGS"}
		}
		return nil
	}})
}

// errClosed is the reader's end on a connection that this end closed.
var errClosed = errors.New("closed by this end")
