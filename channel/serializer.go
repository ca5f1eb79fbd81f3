// SPDX-License-Identifier: Apache-2.0

package channel

import "sync"

// serializer runs functions one after the other, in the order given, on a
// goroutine that lives only while there is work.
type serializer struct {
	mu      sync.Mutex
	queue   []func()
	running bool
	closed  bool
	idle    chan struct{} // closed when closed and not running; made by close
}

// do queues f. It reports false, and forgets f, after close.
func (s *serializer) do(f func()) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return false
	}
	s.queue = append(s.queue, f)
	if !s.running {
		s.running = true
		go s.run()
	}
	return true
}

func (s *serializer) run() {
	for {
		s.mu.Lock()
		if len(s.queue) == 0 {
			s.running = false
			if s.idle != nil {
				close(s.idle)
			}
			s.mu.Unlock()
			return
		}
		f := s.queue[0]
		s.queue[0] = nil
		s.queue = s.queue[1:]
		s.mu.Unlock()
		f()
	}
}

// close queues last, lets everything queued run, takes nothing more, and waits
// until all has run. It must not be called by a queued function, nor twice.
func (s *serializer) close(last func()) {
	s.mu.Lock()
	s.closed = true
	s.queue = append(s.queue, last)
	s.idle = make(chan struct{})
	if !s.running {
		s.running = true
		go s.run()
	}
	idle := s.idle
	s.mu.Unlock()
	<-idle
}
