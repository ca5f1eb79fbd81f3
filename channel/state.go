// SPDX-License-Identifier: Apache-2.0

package channel

import (
	"context"
	"sync"

	"google.golang.org/grpc/connectivity"
)

// stateCell holds a channel's connectivity and wakes those who wait for a
// change of it.
type stateCell struct {
	mu      sync.Mutex
	state   connectivity.State
	changed chan struct{} // closed at the next change; made when someone waits
}

func (c *stateCell) get() connectivity.State {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.state
}

// set changes the state, except that SHUTDOWN is final.
func (c *stateCell) set(s connectivity.State) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.state == s || c.state == connectivity.Shutdown {
		return
	}
	c.state = s
	if c.changed != nil {
		close(c.changed)
		c.changed = nil
	}
}

// wait returns true when the state is not from, false when ctx ends before.
func (c *stateCell) wait(ctx context.Context, from connectivity.State) bool {
	c.mu.Lock()
	if c.state != from {
		c.mu.Unlock()
		return true
	}
	if c.changed == nil {
		c.changed = make(chan struct{})
	}
	changed := c.changed
	c.mu.Unlock()
	select {
	case <-changed:
		return true
	case <-ctx.Done():
		return false
	}
}
