// SPDX-License-Identifier: Apache-2.0

package h2

import (
	"errors"
	"net"
	"time"
)

// watchRest bounds the time that the rest of a header block, or of a frame
// other than DATA, may take: no stream exists yet whose deadline would end it,
// and a peer that lets it drip is heard all the time. used is how much of the
// last read could be consumed. Where reads bring whole frames there is no
// deadline to be set.
func (c *Conn) watchRest(used int) {
	r := &c.rd
	begun := r.pending.stream != 0 || used == 0 && r.fill > 0 && r.started // the preface has a timer of its own
	if begun == r.slow {
		return
	}
	limit := time.Time{}
	if begun {
		limit = time.Now().Add(c.cfg.SettingsTimeout)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.life.phase != dead { // else the reader has a deadline already
		r.slow = begun
		_ = c.nc.SetReadDeadline(limit) // fails if it is closed, and reads too
	}
}

// dripped reports whether err is the end of watchRest's patience.
func (c *Conn) dripped(err error) bool {
	var ne net.Error
	return c.rd.slow && errors.As(err, &ne) && ne.Timeout()
}
