// SPDX-License-Identifier: Apache-2.0

// Package journal is the line that a log gets for each finished call, and for connections that fail.
//
// Client and server write the same line, so that the two ends of a call can be
// laid side by side: method, peer, code, circumstance, how far the stream came,
// and what the call's time was. It names nothing that metadata or messages hold.
//
// A log handler may write to a disk or to a network. So lines are written where
// no lock is held, unlike what [event.Sink] observes, and after the peer was
// answered.
//
// The package carries no compatibility promise.
package journal
