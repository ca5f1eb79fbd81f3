// SPDX-License-Identifier: Apache-2.0

package processed

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"golang.org/x/net/http2"
	"google.golang.org/grpc/codes"

	"github.com/faultline-rpc/faultline/fault"
)

// What can be proven, and by what:
//
//	no      its headers were never handed over as a whole
//	        a status, and this module's server says with it that no handler ran
//	        RST_STREAM REFUSED_STREAM    RFC 9113 section 8.7: "not ... processed"
//	        GOAWAY, a last id below      section 6.8: "not or might not be acted upon", so safe to repeat
//	        (both only while nothing was answered: a server that answers and
//	        then says that it did nothing contradicts itself)
//	yes     a message of the answer: only handlers make these
//	        a status with one of the codes that no library generates (doc/statuscodes.md)
//	        a status, and this module's server says with it that one ran
//	maybe   all else: response headers too, which some servers send with an error
//	        of their own (connect-go and others on net/http), and any other status
//
// A call's is the gravest of its attempts'.

// answers is a set of claims.
type answers uint8

func only(p fault.Processed) answers { return 1 << p }

func (a answers) has(p fault.Processed) bool { return a&only(p) != 0 }

// with is what may be said of two attempts together.
func (a answers) with(b answers) (all answers) {
	for p := range fault.Processed(3) {
		for q := range fault.Processed(3) {
			if a.has(p) && b.has(q) {
				all |= only(graver(p, q))
			}
		}
	}
	return all
}

func graver(a, b fault.Processed) fault.Processed {
	for _, p := range []fault.Processed{fault.Yes, fault.Maybe} {
		if a == p || b == p {
			return p
		}
	}
	return fault.No
}

func (a answers) String() string {
	var s []string
	for _, p := range []fault.Processed{fault.No, fault.Maybe, fault.Yes} {
		if a.has(p) {
			s = append(s, p.String())
		}
	}
	return strings.Join(s, " or ")
}

// moment is when a call ended. What came at the very moment at which this side
// gave a call up for a reason of its own may have been seen or not.
type moment struct {
	time.Time
	own    bool
	hedged bool // there may have been several attempts at a time
}

// proof is what may be said of the attempt at that moment.
func (a *attempt) proof(m moment) answers {
	if !a.left {
		return only(fault.No) | only(fault.Maybe) // a Write failed in it: this connection may not have told exactly what it took
	}
	sure, doubt := a.until(m, false), a.until(m, true)
	return only(sure) | only(doubt)
}

// until is what the sights before the moment prove; inclusive: and those at it,
// where that is in doubt.
func (a *attempt) until(m moment, inclusive bool) fault.Processed {
	answered, claim := false, fault.Maybe
	for _, s := range a.sights {
		if s.at.After(m.Time) || m.own && !inclusive && s.at.Equal(m.Time) {
			break
		}
		if !a.ended.IsZero() && (s.at.After(a.ended) || !inclusive && s.at.Equal(a.ended) && m.own) {
			break
		}
		switch s.what {
		case headers:
			answered = true
			continue
		case message:
			answered, claim = true, fault.Yes
			continue
		case verdict:
			switch {
			case claim == fault.Yes:
			case s.said != fault.Maybe:
				claim = s.said
			case onlyHandlers(codes.Code(s.code)):
				claim = fault.Yes
			}
		case reset:
			if s.code == uint64(http2.ErrCodeRefusedStream) && !answered {
				claim = fault.No
			}
		}
		break // the end
	}
	return claim
}

// onlyHandlers are the codes that no gRPC library generates.
func onlyHandlers(c codes.Code) bool {
	switch c {
	case codes.InvalidArgument, codes.NotFound, codes.AlreadyExists, codes.FailedPrecondition, codes.Aborted, codes.OutOfRange, codes.DataLoss:
		return true
	}
	return false
}

// provable is what may be said of a call that ended at that moment, given all
// connections; and its attempts.
func provable(taps []*wiretap, attempts []*attempt, call int, m moment) (answers, []*attempt) {
	said, mine, answered := only(fault.No), []*attempt(nil), 0
	for _, a := range attempts {
		if a.call == call {
			mine = append(mine, a)
			said = said.with(a.proof(m))
			answered += min(len(a.sights), 1)
		}
	}
	if answered > 1 && m.hedged && said.has(fault.Yes) {
		said |= only(fault.Maybe) // nobody looks at what else came when one attempt had won
	}
	if m.own && slices.ContainsFunc(taps, func(t *wiretap) bool { return t.blocked(m.Time) }) {
		said = said.with(only(fault.No) | only(fault.Maybe))
	}
	return said, mine
}

// describe tells what the tap saw of an attempt, times from start on.
func (a *attempt) describe(start time.Time) string {
	s := fmt.Sprintf("stream %d, headers handed over at %v", a.stream, a.given.from.Sub(start))
	if !a.left {
		s += " and not taken"
	}
	if !a.ended.IsZero() {
		s += fmt.Sprintf(", reset by the client at %v", a.ended.Sub(start))
	}
	for _, e := range a.sights {
		s += fmt.Sprintf("; at %v %s", e.at.Sub(start), e.text)
	}
	return s
}
