// SPDX-License-Identifier: Apache-2.0

package peer

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"slices"
	"sync"
	"time"
)

const linger = time.Second // how long a client may take to notice the end of a connection

// Script plays one connection from its start.
type Script func(p *Peer) error

// Service runs scripts, or raw answers, for the connections of a listener.
type Service struct {
	listener net.Listener
	running  sync.WaitGroup

	mu       sync.Mutex
	closed   bool                  // guarded by mu
	conns    map[net.Conn]struct{} // guarded by mu
	errs     []error               // of scripts; guarded by mu
	accepted int                   // guarded by mu
}

// Listen listens on a TCP address, such as "127.0.0.1:0", and serves it with
// the script.
func Listen(addr string, script Script) (*Service, error) {
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("peer: %w", err)
	}
	return Serve(l, script), nil
}

// Serve plays the server's role with the script on every connection of the
// listener, which it owns from now on. When a script returns, its connection
// is closed. At most one Options is given.
func Serve(l net.Listener, script Script, o ...Options) *Service {
	return serve(l, func(s *Service, conn net.Conn) error {
		p := NewServer(conn, first(o))
		defer p.Close()
		err := script(p)
		s.finish(conn, p.ended)
		return err
	})
}

// Raw is what a listener does that does not speak HTTP/2.
type Raw struct {
	// Wait waits for the client's first bytes before answering.
	Wait bool
	// Answer is sent as it is.
	Answer []byte
	// Hold keeps the connection open until the client or the service closes it.
	// Otherwise it is closed after the answer.
	Hold bool
	// Reset resets the connection instead of closing it.
	Reset bool
}

// ListenRaw listens on a TCP address and serves it with the raw answer.
func ListenRaw(addr string, r Raw) (*Service, error) {
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("peer: %w", err)
	}
	return ServeRaw(l, r), nil
}

// ServeRaw gives the raw answer on every connection of the listener, which it
// owns from now on.
func ServeRaw(l net.Listener, r Raw) *Service {
	return serve(l, func(s *Service, conn net.Conn) error {
		defer conn.Close()
		if r.Wait {
			if _, err := conn.Read(make([]byte, 4096)); err != nil {
				return nil // the client left: nothing to answer
			}
		}
		if _, err := conn.Write(r.Answer); err != nil {
			return fmt.Errorf("peer: sending the raw answer: %w", err)
		}
		gone := make(chan struct{})
		switch c := conn.(type) {
		case interface{ Cut() }:
			if r.Reset {
				c.Cut()
				return nil
			}
		case interface{ SetLinger(int) error }:
			if r.Reset {
				return c.SetLinger(0)
			}
		}
		go func() {
			defer close(gone)
			io.Copy(io.Discard, conn)
		}()
		if !r.Hold {
			s.finish(conn, gone)
			conn.Close()
		}
		<-gone
		return nil
	})
}

// HTTP1 answers as an HTTP/1.1 server does to a preface it does not know.
func HTTP1() Raw {
	return Raw{Wait: true, Answer: []byte("HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain; charset=utf-8\r\nConnection: close\r\n\r\n400 Bad Request")}
}

// SSH greets as an ssh server and waits.
func SSH() Raw { return Raw{Answer: []byte("SSH-2.0-OpenSSH_9.7\r\n"), Hold: true} }

// TLSAlert answers as a TLS server does to plaintext: a fatal alert,
// unexpected_message (RFC 8446 section 6).
func TLSAlert() Raw { return Raw{Wait: true, Answer: []byte{21, 3, 1, 0, 2, 2, 10}} }

// Mute accepts and says nothing.
func Mute() Raw { return Raw{Hold: true} }

// HangUpRaw accepts and closes at once.
func HangUpRaw() Raw { return Raw{} }

func serve(l net.Listener, play func(*Service, net.Conn) error) *Service {
	s := &Service{listener: l, conns: map[net.Conn]struct{}{}}
	s.running.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				if !errors.Is(err, net.ErrClosed) {
					s.failed(fmt.Errorf("peer: accept: %w", err))
				}
				return
			}
			if !s.add(conn) {
				conn.Close()
				return
			}
			s.running.Go(func() {
				defer s.remove(conn)
				s.failed(play(s, conn))
			})
		}
	})
	return s
}

func (s *Service) add(conn net.Conn) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return false
	}
	s.accepted++
	s.conns[conn] = struct{}{}
	return true
}

func (s *Service) remove(conn net.Conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.conns, conn)
}

// failed keeps the errors of the first scripts that fail.
func (s *Service) failed(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err != nil && !s.closed && len(s.errs) < 16 {
		s.errs = append(s.errs, err)
	}
}

// finish ends the bytes sent and gives the client time to read them: closing
// with bytes unread would reset the connection, and the client lose the answer.
func (s *Service) finish(conn net.Conn, gone <-chan struct{}) {
	c, ok := conn.(interface{ CloseWrite() error })
	if !ok || c.CloseWrite() != nil {
		return
	}
	timer := time.NewTimer(linger)
	defer timer.Stop()
	select {
	case <-gone:
	case <-timer.C:
	}
}

// Addr is the address listened on.
func (s *Service) Addr() string { return s.listener.Addr().String() }

// Accepted is how many connections were accepted so far.
func (s *Service) Accepted() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.accepted
}

// Err returns what went wrong in scripts so far, joined; nil if nothing did.
// What breaks because of Close does not count.
func (s *Service) Err() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return errors.Join(s.errs...)
}

// Close closes the listener and all connections, waits until every goroutine
// has ended, and returns [Service.Err].
func (s *Service) Close() error {
	s.mu.Lock()
	s.closed = true
	conns := slices.Collect(maps.Keys(s.conns))
	s.mu.Unlock()
	for _, conn := range conns {
		conn.Close()
	}
	s.listener.Close() // closed already if Accept failed
	s.running.Wait()
	return s.Err()
}
