// SPDX-License-Identifier: Apache-2.0

package h2

// table finds streams by id. Ids of one side rise by two, so streams that live
// at the same time mostly have slots of their own in a ring whose size is a
// power of two; one whose slot is taken by a long-lived stream goes to the map.
type table struct {
	slots []*Stream
	rest  map[uint32]*Stream
	n     int
}

const (
	minSlots = 8
	maxSlots = 4096
)

func (t *table) get(id uint32) *Stream {
	if t.slots == nil {
		return nil
	}
	if s := t.slots[id>>1&uint32(len(t.slots)-1)]; s != nil && s.id == id {
		return s
	}
	return t.rest[id]
}

func (t *table) put(s *Stream) {
	t.n++
	if t.slots == nil {
		t.slots = make([]*Stream, minSlots)
	}
	for {
		p := &t.slots[s.id>>1&uint32(len(t.slots)-1)]
		if *p == nil {
			*p = s
			return
		}
		// A ring twice as large as what lives in it does not grow: the
		// collision is with a long-lived stream.
		if len(t.slots) >= maxSlots || len(t.slots) > 2*t.n {
			break
		}
		t.grow()
	}
	if t.rest == nil {
		t.rest = make(map[uint32]*Stream)
	}
	t.rest[s.id] = s
}

func (t *table) grow() {
	old := t.slots
	t.slots = make([]*Stream, 2*len(old))
	for _, s := range old {
		if s != nil {
			t.slots[s.id>>1&uint32(len(t.slots)-1)] = s
		}
	}
}

// del forgets s, and reports whether it was there.
func (t *table) del(s *Stream) bool {
	if t.get(s.id) != s {
		return false
	}
	t.n--
	if p := &t.slots[s.id>>1&uint32(len(t.slots)-1)]; *p == s {
		*p = nil
		return true
	}
	delete(t.rest, s.id)
	return true
}

func (t *table) each(f func(*Stream)) {
	for _, s := range t.slots {
		if s != nil {
			f(s)
		}
	}
	for _, s := range t.rest {
		f(s)
	}
}
