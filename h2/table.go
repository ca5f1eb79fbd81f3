// SPDX-License-Identifier: Apache-2.0

package h2

import "sync/atomic"

// table finds streams by id. Ids of one side rise by two, so streams that live
// at the same time mostly have slots of their own in a ring whose size is a
// power of two; one whose slot is taken by a long-lived stream goes to the map.
//
// It is guarded by the connection's lock, but for peek.
type table struct {
	ring atomic.Pointer[ring]
	rest map[uint32]*Stream
	n    int
}

type ring []atomic.Pointer[Stream]

func (r ring) slot(id uint32) *atomic.Pointer[Stream] { return &r[id>>1&uint32(len(r)-1)] }

const (
	minSlots = 8
	maxSlots = 4096
)

// peek is the reader's way to the stream of a frame, without the lock: nearly
// every frame is for a stream that is open. nil says nothing. A stream that it
// returns is one that the peer has not ended, so its storage is in no other
// use, though this side may have ended it meanwhile.
//
// It looks twice: a peer that sends on after its END_STREAM may make it find
// storage that then becomes a stream of the same id on another connection,
// before the id is compared. Such a stream has left the table by then.
func (t *table) peek(id uint32) *Stream {
	if s := t.at(id); s != nil && s.receives.Load() == id && t.at(id) == s {
		return s
	}
	return nil
}

// at returns what is in the slot of id.
func (t *table) at(id uint32) *Stream {
	r := t.ring.Load()
	if r == nil {
		return nil
	}
	return r.slot(id).Load()
}

func (t *table) get(id uint32) *Stream {
	if s := t.at(id); s != nil && s.id == id {
		return s
	}
	return t.rest[id]
}

func (t *table) put(s *Stream) {
	t.n++
	r := t.ring.Load()
	if r == nil {
		r = t.grow(nil)
	}
	s.receives.Store(s.id)
	for {
		if p := r.slot(s.id); p.Load() == nil {
			p.Store(s)
			return
		}
		// A ring twice as large as what lives in it does not grow: the
		// collision is with a long-lived stream.
		if len(*r) >= maxSlots || len(*r) > 2*t.n {
			break
		}
		r = t.grow(*r)
	}
	if t.rest == nil {
		t.rest = make(map[uint32]*Stream)
	}
	t.rest[s.id] = s
}

func (t *table) grow(old ring) *ring {
	r := make(ring, max(minSlots, 2*len(old)))
	for i := range old {
		if s := old[i].Load(); s != nil {
			r.slot(s.id).Store(s)
		}
	}
	t.ring.Store(&r)
	return &r
}

// del forgets s, and reports whether it was there.
func (t *table) del(s *Stream) bool {
	if t.get(s.id) != s {
		return false
	}
	t.n--
	s.receives.Store(0)
	if p := t.ring.Load().slot(s.id); p.Load() == s {
		p.Store(nil)
		return true
	}
	delete(t.rest, s.id)
	return true
}

func (t *table) each(f func(*Stream)) {
	if r := t.ring.Load(); r != nil {
		for i := range *r {
			if s := (*r)[i].Load(); s != nil {
				f(s)
			}
		}
	}
	for _, s := range t.rest {
		f(s)
	}
}

// clear forgets all streams.
func (t *table) clear() {
	t.each(func(s *Stream) { s.receives.Store(0) })
	t.ring.Store(nil)
	t.rest, t.n = nil, 0
}
