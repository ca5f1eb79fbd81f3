// SPDX-License-Identifier: Apache-2.0

package simnet

import (
	"context"
	"net"
	"sync"
	"syscall"
)

// Listener accepts simulated connections. Its methods may be called from
// several goroutines.
type Listener struct {
	addr    *net.TCPAddr
	options Options
	waiting chan *Conn
	closed  chan struct{}
	once    sync.Once
	release func() // takes it off its network; nil without one

	mu   sync.Mutex
	dead bool // guarded by mu: nothing may enter waiting any more
	made int  // guarded by mu: connections made
}

var _ net.Listener = (*Listener)(nil)

// Listen makes a listener that stands alone, for one server: its own Dial
// reaches it. Connections have the given options.
func Listen(o Options) *Listener {
	return newListener(&net.TCPAddr{IP: net.IPv4(10, 0, 0, 2), Port: 443}, o)
}

func newListener(addr *net.TCPAddr, o Options) *Listener {
	return &Listener{addr: addr, options: o, waiting: make(chan *Conn, backlog), closed: make(chan struct{})}
}

// Dial connects to the listener, whatever addr says; its shape is that of
// gRPC's WithContextDialer. It takes a round trip and fails with ECONNREFUSED
// after Close.
func (l *Listener) Dial(ctx context.Context, addr string) (net.Conn, error) {
	if err := sleep(ctx, 2*l.options.Latency); err != nil {
		return nil, dialError(l.addr, dialEnded{err})
	}
	c, err := l.connect(ctx, l.options)
	if err != nil {
		return nil, err
	}
	return c, nil
}

// connect hands a new connection's server end to Accept and returns the client's.
func (l *Listener) connect(ctx context.Context, o Options) (*Conn, error) {
	if err := ctx.Err(); err != nil {
		return nil, dialError(l.addr, dialEnded{err})
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	o.ServerAddr = l.addr
	o.ClientAddr = &net.TCPAddr{IP: net.IPv4(10, 0, 0, 1), Port: 32768 + l.made%28000}
	l.made++
	client, server := Pipe(o)
	if l.dead {
		return nil, dialError(l.addr, syscall.ECONNREFUSED)
	}
	select {
	case l.waiting <- server:
		return client, nil
	default: // as a kernel does whose backlog is full and told to abort
		return nil, dialError(l.addr, syscall.ECONNREFUSED)
	}
}

// Accept waits for a connection. After Close it fails with net.ErrClosed.
func (l *Listener) Accept() (net.Conn, error) {
	select {
	case <-l.closed:
	default:
		select {
		case c := <-l.waiting:
			return c, nil
		case <-l.closed:
		}
	}
	return nil, &net.OpError{Op: "accept", Net: "tcp", Addr: l.addr, Err: net.ErrClosed}
}

// Close ends Accept and resets connections that were not accepted. A second
// Close fails with net.ErrClosed.
func (l *Listener) Close() error {
	err := error(&net.OpError{Op: "close", Net: "tcp", Addr: l.addr, Err: net.ErrClosed})
	l.once.Do(func() {
		err = nil
		l.mu.Lock()
		l.dead = true
		l.mu.Unlock()
		close(l.closed)
		if l.release != nil {
			l.release()
		}
		for {
			select {
			case c := <-l.waiting:
				c.Cut()
				c.Close()
				continue
			default:
			}
			return
		}
	})
	return err
}

// Addr is the address listened on, a *net.TCPAddr.
func (l *Listener) Addr() net.Addr { return l.addr }
