// SPDX-License-Identifier: Apache-2.0

package h2

import "time"

// resetsKept is how many resets are remembered.
const resetsKept = 128

// resetRing remembers the streams that this side reset last: frames for them
// that were under way are no violation.
type resetRing struct {
	ids       []uint32 // made by the first reset
	n         int
	forgotten uint32 // the highest id that had to make room
}

func (r *resetRing) add(id uint32) {
	if r.ids == nil {
		r.ids = make([]uint32, resetsKept)
	}
	p := &r.ids[r.n%resetsKept]
	r.forgotten = max(r.forgotten, *p)
	*p = id
	r.n++
}

// has reports whether id may be one of the streams. When more were reset than
// are remembered, such as when a thousand calls were given up at once, every id
// up to those forgotten gets the benefit of the doubt.
func (r *resetRing) has(id uint32) bool {
	if id <= r.forgotten {
		return true
	}
	for _, x := range r.ids {
		if x == id {
			return true
		}
	}
	return false
}

// bucket bounds what a peer may do that costs us and leads nowhere: frames
// that carry nothing, and violations that we answer with RST_STREAM
// (CVE-2019-9512 to 9518, CVE-2025-8671). It holds burst tokens and regains
// rate a second; a well-behaved peer never comes near its end.
type bucket struct {
	tokens float64
	last   time.Time
}

const (
	bucketBurst = 10000
	bucketRate  = 10000
)

// take uses cost tokens at time now, and reports whether there were enough.
func (b *bucket) take(cost float64, now time.Time) bool {
	if b.last.IsZero() {
		b.tokens = bucketBurst
	} else {
		b.tokens = min(bucketBurst, b.tokens+now.Sub(b.last).Seconds()*bucketRate)
	}
	b.last = now
	b.tokens -= cost
	return b.tokens >= 0
}
