// SPDX-License-Identifier: Apache-2.0

// Package event says what just happened: typed events and the one Sink that observes them.
//
// Rooms hold a [Sink] that may be nil, and ask before they build an event:
//
//	if sink != nil {
//		sink.Record(event.ConnClosed{Conn: id, Err: err})
//	}
//
// so that an engine nobody watches pays one comparison.
package event
