// SPDX-License-Identifier: Apache-2.0

package event

import (
	"slices"
	"sync"
)

// Buffer is a Sink that keeps the latest events, for tests and for looking
// back after a failure. The zero value keeps 1024. It is safe for concurrent
// use.
type Buffer struct {
	// Limit is how many events are kept; 0 means 1024. Set it before use.
	Limit int

	mu   sync.Mutex
	kept []Event // guarded by mu; a ring once it has Limit elements
	next int     // guarded by mu; the oldest element of a full ring
	lost int     // guarded by mu
}

// Record implements Sink. It takes the place of the oldest event when the
// buffer is full.
func (b *Buffer) Record(e Event) {
	b.mu.Lock()
	defer b.mu.Unlock()
	limit := b.Limit
	if limit <= 0 {
		limit = 1024
	}
	if len(b.kept) < limit {
		b.kept = append(b.kept, e)
		return
	}
	b.kept[b.next] = e
	b.next = (b.next + 1) % limit
	b.lost++
}

// Events returns the events kept, oldest first. The slice is the caller's.
func (b *Buffer) Events() []Event {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.Concat(b.kept[b.next:], b.kept[:b.next])
}

// Names returns the names of the events kept, oldest first.
func (b *Buffer) Names() []string {
	events := b.Events()
	names := make([]string, len(events))
	for i, e := range events {
		names[i] = e.Name()
	}
	return names
}

// Lost returns how many events had to make room for later ones.
func (b *Buffer) Lost() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.lost
}

// Reset forgets everything.
func (b *Buffer) Reset() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.kept, b.next, b.lost = nil, 0, 0
}

// All returns the events of type E that b keeps, oldest first.
func All[E Event](b *Buffer) []E {
	var all []E
	for _, e := range b.Events() {
		if e, ok := e.(E); ok {
			all = append(all, e)
		}
	}
	return all
}
