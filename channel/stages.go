// SPDX-License-Identifier: Apache-2.0

package channel

import (
	"sync"
	"time"

	"github.com/faultline-rpc/faultline/fault"
)

// stage is how far a channel, or a subchannel, is on its way to a connection.
// Of a channel's subchannels the one that is farthest counts.
type stage uint8

const (
	stageNone stage = iota // a subchannel that is not connected and does not try
	stageBackoff
	stageConnect
	stageHandshake
	stageSettings
	stageReady
	stageCount
)

// stagePhases are the phases of calls that wait meanwhile.
var stagePhases = [stageCount]string{fault.PhasePick, fault.PhaseConnectBackoff, fault.PhaseConnect, fault.PhaseHandshake, fault.PhaseSettings, fault.PhasePick}

// stages is the record of a channel's way to connections. It is written when
// a connection is made or lost, and read by calls that failed: those that need
// not wait do not know it.
type stages struct {
	mu     sync.Mutex
	count  [stageCount]int // guarded by mu: subchannels; of stageNone it has no meaning
	named  bool            // guarded by mu: the resolver has delivered addresses
	marks  []mark          // guarded by mu: the latest maxMarks at least
	before string          // guarded by mu: the phase before the first mark
	tried  string          // guarded by mu: the address of the latest attempt
}

// mark is the beginning of a phase.
type mark struct {
	at    time.Time
	phase string
}

// maxMarks bounds the record.
const maxMarks = 128

// move is a subchannel's step from one stage to another.
func (s *stages) move(from, to stage) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.count[from]--
	s.count[to]++
	s.markLocked()
}

// resolved notes whether the resolver has delivered addresses.
func (s *stages) resolved(known bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.named = known
	s.markLocked()
}

func (s *stages) phaseLocked() string {
	for i := stageReady; i > stageNone; i-- {
		if s.count[i] > 0 {
			return stagePhases[i]
		}
	}
	if !s.named {
		return fault.PhaseResolve
	}
	return fault.PhasePick
}

func (s *stages) markLocked() {
	phase := s.phaseLocked()
	if n := len(s.marks); n > 0 && s.marks[n-1].phase == phase {
		return
	}
	if len(s.marks) == 2*maxMarks {
		s.before = s.marks[maxMarks-1].phase
		s.marks = append(s.marks[:0], s.marks[maxMarks:]...)
	}
	s.marks = append(s.marks, mark{time.Now(), phase})
}

// now is the phase of a call that waits at this moment, and the address that
// was tried last.
func (s *stages) now() (phase, address string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.phaseLocked(), s.tried
}

// try notes the address of an attempt.
func (s *stages) try(address string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.tried = address
}

// spent adds to l what a call waited for that needed a connection from one
// moment to another. It reports false if there is no record at all.
func (s *stages) spent(l *fault.Ledger, from, to time.Time, attempt int) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.marks) == 0 {
		return false
	}
	phase := s.before
	if phase == "" {
		phase = s.marks[0].phase
	}
	for _, m := range s.marks {
		if !m.at.After(from) {
			phase = m.phase
			continue
		}
		if !m.at.Before(to) {
			break
		}
		l.Add(fault.Phase{Name: phase, Spent: m.at.Sub(from), Attempt: attempt})
		phase, from = m.phase, m.at
	}
	l.Add(fault.Phase{Name: phase, Spent: to.Sub(from), Attempt: attempt})
	return true
}

// Account adds to l what a call waited for that needed a connection between
// two moments: the phases from resolve to pick. It reports false if it does not
// know.
func (c *Channel) Account(l *fault.Ledger, from, to time.Time, attempt int) bool {
	return c.stages.spent(l, from, to, attempt)
}
