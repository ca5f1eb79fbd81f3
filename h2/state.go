// SPDX-License-Identifier: Apache-2.0

package h2

// The life of a stream, RFC 9113 section 5.1, without the reserved states:
// pushes are refused.
//
//	                +------+
//	                | idle |
//	                +------+
//	                    | HEADERS sent or received
//	                    v
//	                +------+
//	      END_STREAM| open |END_STREAM
//	       received +------+ sent
//	          +-------+  +-------+
//	          v                  v
//	+------------------+ +-----------------+
//	| halfClosedRemote | | halfClosedLocal |
//	+------------------+ +-----------------+
//	     END_STREAM sent |  | END_STREAM received
//	                     v  v
//	                 +--------+
//	                 | closed |  <-- from any: RST_STREAM either way,
//	                 +--------+      GOAWAY below the id, connection gone
//
// The zero state is idle. Transitions are the methods below, under the
// connection's lock; nothing else changes a state.
type state uint8

const (
	idle state = iota
	open
	halfClosedRemote // the peer has ended its side; we may send
	halfClosedLocal  // we have ended our side; the peer may send
	closed
)

var stateNames = [...]string{"idle", "open", "half-closed (remote)", "half-closed (local)", "closed"}

func (s state) String() string { return stateNames[s] }

// canSend reports whether HEADERS and DATA may still be sent.
func (s state) canSend() bool { return s == open || s == halfClosedRemote }

// canReceive reports whether the peer may still send HEADERS and DATA.
func (s state) canReceive() bool { return s == open || s == halfClosedLocal }

// start is the first HEADERS, either way.
func (s *state) start() { *s = open }

// sentEnd is END_STREAM sent.
func (s *state) sentEnd() {
	switch *s {
	case open:
		*s = halfClosedLocal
	case halfClosedRemote:
		*s = closed
	}
}

// receivedEnd is END_STREAM received.
func (s *state) receivedEnd() {
	switch *s {
	case open:
		*s = halfClosedRemote
	case halfClosedLocal:
		*s = closed
	}
}

// abort is every other way to the end.
func (s *state) abort() { *s = closed }
