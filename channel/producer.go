// SPDX-License-Identifier: Apache-2.0

package channel

import (
	"sync"

	"google.golang.org/grpc/balancer"
	"google.golang.org/grpc/connectivity"
)

// producers are what balancers attach to a subchannel: producers, which make
// calls of their own on it, and a health listener. Both end with the state in
// which they were made.
type producers struct {
	mu     sync.Mutex
	state  connectivity.State                     // guarded by mu: as the balancer was told
	made   map[balancer.ProducerBuilder]*producer // guarded by mu
	health *healthListener                        // guarded by mu
}

type producer struct {
	p     balancer.Producer
	close func()
	refs  int // guarded by producers.mu
}

// GetOrBuildProducer implements balancer.SubConn. The producer is shared by
// those who ask with the same builder, and closed with the last of them or
// when the subchannel's state changes.
func (s *Subchannel) GetOrBuildProducer(b balancer.ProducerBuilder) (balancer.Producer, func()) {
	e := &s.extras
	e.mu.Lock()
	defer e.mu.Unlock()
	p := e.made[b]
	if p == nil {
		var conn any
		if s.c.cfg.SubchannelConn != nil {
			conn = s.c.cfg.SubchannelConn(s)
		}
		p = &producer{}
		p.p, p.close = b.Build(conn)
		if e.made == nil {
			e.made = map[balancer.ProducerBuilder]*producer{}
		}
		e.made[b] = p
	}
	p.refs++
	var once sync.Once
	return p.p, func() { once.Do(func() { e.release(b, p) }) }
}

func (e *producers) release(b balancer.ProducerBuilder, p *producer) {
	e.mu.Lock()
	p.refs--
	last := p.refs == 0 && e.made[b] == p
	if last {
		delete(e.made, b)
	}
	e.mu.Unlock()
	if last {
		p.close()
	}
}

// stateChanged runs just before the balancer is told.
func (e *producers) stateChanged(state connectivity.State) {
	e.mu.Lock()
	e.state = state
	e.mu.Unlock()
	e.stop()
}

// stop ends all producers and the health listener.
func (e *producers) stop() {
	e.mu.Lock()
	made := e.made
	e.made = nil
	e.endHealthLocked()
	e.mu.Unlock()
	for _, p := range made {
		p.close()
	}
}

func (e *producers) endHealthLocked() {
	if e.health != nil {
		e.health.cancel()
		e.health = nil
	}
}
