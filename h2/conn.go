// SPDX-License-Identifier: Apache-2.0

package h2

import (
	"errors"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/faultline-rpc/faultline/event"
	"github.com/faultline-rpc/faultline/h2/frame"
	"github.com/faultline-rpc/faultline/h2/hpack"
)

// Conn is one HTTP/2 connection. Its methods may be called from any goroutine,
// except Run, which is called once and is the reader.
type Conn struct {
	nc     net.Conn
	sock   *socket // nc without waiting, nil where that cannot be
	cfg    Config
	h      ConnHandler
	server bool

	mu      sync.Mutex
	out     outbox    // guarded by mu
	streams table     // guarded by mu
	peer    peerState // guarded by mu
	turns   turns     // guarded by mu: senders that wait for the connection
	slots   slotQueue // guarded by mu: streams that wait to be opened
	life    life      // guarded by mu
	pings   pings     // guarded by mu
	resets  resetRing // guarded by mu: ids of streams reset by this side
	sent    uint64    // guarded by mu: HEADERS and DATA frames appended
	nextID  uint32    // guarded by mu: client: the next stream's id
	lastID  uint32    // server: the highest id the peer opened; guarded by mu, written by the reader alone

	rd       reader // the reader's own
	activity atomic.Uint64
	born     time.Time     // see pulse.go
	heard    atomic.Int64  // the last read's moment, of a client
	pinging  atomic.Uint32 // see Probe
	done     chan struct{}
}

// peerState is what the peer's SETTINGS said.
type peerState struct {
	enc           *hpack.Encoder
	connWindow    window
	streamWindow  int64
	maxFrame      int
	maxStreams    uint32
	maxHeaderList uint64 // 0: no limit announced
	ready         bool   // first SETTINGS received
	acked         bool   // ours acknowledged
}

// NewClient starts the client's end of a connection over nc: the preface and
// SETTINGS go out at once. The caller runs [Conn.Run].
func NewClient(nc net.Conn, cfg Config, h ConnHandler) *Conn {
	c := newConn(nc, cfg, h)
	c.nextID = 1
	c.mu.Lock()
	c.out.b = append(c.out.b, frame.Preface...)
	c.out.head = len(frame.Preface)
	c.greetLocked()
	c.mu.Unlock()
	return c
}

// NewServer starts the server's end of a connection over nc. The caller runs
// [Conn.Run].
func NewServer(nc net.Conn, cfg Config, h ConnHandler) *Conn {
	c := newConn(nc, cfg, h)
	c.server = true
	c.rd.preface = len(frame.Preface)
	c.mu.Lock()
	c.greetLocked()
	c.mu.Unlock()
	return c
}

func newConn(nc net.Conn, cfg Config, h ConnHandler) *Conn {
	cfg = cfg.withDefaults()
	c := &Conn{nc: nc, sock: newSocket(nc), cfg: cfg, h: h, done: make(chan struct{}), born: time.Now().Add(-1)}
	c.peer = peerState{
		enc:          hpack.NewEncoder(),
		connWindow:   initialWindow,
		streamWindow: initialWindow,
		maxFrame:     initialMaxFrame,
		maxStreams:   1<<32 - 1,
	}
	c.life.lastGoAway = maxWindow // the highest stream id
	c.out.init(nc)
	c.rd.init(&c.cfg)
	c.life.prefaceTimer = time.AfterFunc(cfg.SettingsTimeout, c.settingsLate)
	return c
}

// greetLocked sends our SETTINGS and opens the connection's window.
func (c *Conn) greetLocked() {
	set := []frame.Setting{
		{ID: frame.SettingInitialWindowSize, Value: c.cfg.StreamWindow},
		{ID: frame.SettingMaxFrameSize, Value: c.cfg.MaxFrameSize},
		{ID: frame.SettingMaxHeaderListSize, Value: c.cfg.MaxHeaderListSize},
	}
	if c.cfg.HeaderTableSize != defaultHeaderTable {
		set = append(set, frame.Setting{ID: frame.SettingHeaderTableSize, Value: c.cfg.HeaderTableSize})
	}
	if c.server {
		set = append(set, frame.Setting{ID: frame.SettingMaxConcurrentStreams, Value: c.cfg.MaxConcurrentStreams})
	} else {
		set = append(set, frame.Setting{ID: frame.SettingEnablePush, Value: 0})
	}
	c.out.b = frame.AppendSettings(c.out.b, set...)
	if more := c.cfg.ConnWindow - initialWindow; more > 0 {
		c.out.b = frame.AppendWindowUpdate(c.out.b, 0, more)
	}
	c.flushLocked()
}

// Done is closed when the connection has ended and Closed is about to be called.
func (c *Conn) Done() <-chan struct{} { return c.done }

// Err says why the connection ended; nil before Done.
func (c *Conn) Err() *ConnError {
	select {
	case <-c.done:
		c.mu.Lock()
		defer c.mu.Unlock()
		return c.life.err
	default:
		return nil
	}
}

// NetConn returns the connection beneath, for its addresses.
func (c *Conn) NetConn() net.Conn { return c.nc }

// Activity rises with every read that brought bytes. Keepalive compares two
// values of it to know whether the peer was heard (gRFC A8 measures from the
// last read).
func (c *Conn) Activity() uint64 { return c.activity.Load() }

// Active returns the number of open streams.
func (c *Conn) Active() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.streams.n
}

// Tally is what a connection has done so far.
type Tally struct {
	Reads  uint64 // reads that brought bytes, as [Conn.Activity] has it
	Sent   uint64 // HEADERS and DATA frames sent
	Open   int    // streams that are open
	LastID uint32 // a server's: the highest stream id that the peer has used
}

// Tally returns what the connection has done so far. Whoever watches over its
// life compares two of them.
func (c *Conn) Tally() Tally {
	c.mu.Lock()
	defer c.mu.Unlock()
	return Tally{Reads: c.activity.Load(), Sent: c.sent, Open: c.streams.n, LastID: c.lastID}
}

// EachStream calls f with the handler of each open stream. f runs under the
// connection's lock: it must not wait, nor use the connection or its streams.
func (c *Conn) EachStream(f func(StreamHandler)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.streams.each(func(s *Stream) { f(s.h) })
}

// errStreamIDs ends the reader when a client has used up its stream ids.
var errStreamIDs = errors.New("stream ids exhausted")

func (c *Conn) role() event.Role {
	if c.server {
		return event.Server
	}
	return event.Client
}
