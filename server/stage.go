// SPDX-License-Identifier: Apache-2.0

package server

import (
	"sync/atomic"

	"github.com/faultline-rpc/faultline/fault"
)

// stage is how near a call is to its handler. Code that protoc-gen-go-grpc
// makes asks for the request of a method that takes one message, and calls the
// handler when it has it: until then whoever answers in the handler's place can
// keep it from running, and say so.
//
//	waiting -> entered -> decoding -> begun
//	              |           |
//	              v           v
//	           barred ---> refused
//
// The handler of a method that takes a stream begins at once. One that was
// written by hand may never ask for the request.
type stage struct{ state atomic.Uint32 }

const (
	stageWaiting  = iota // for a worker
	stageEntered         // the method's code runs
	stageDecoding        // it asks for the request
	stageBegun           // it has the request, and with that the handler runs
	stageBarred          // the call was answered before it asked
	stageRefused         // it asked, and does not get it
)

func (s *stage) set(to uint32) { s.state.Store(to) }

// decode is the method's code asking for the request: false if the call was
// answered, or if it has asked before.
func (s *stage) decode() bool {
	if s.state.CompareAndSwap(stageEntered, stageDecoding) {
		return true
	}
	s.state.CompareAndSwap(stageBarred, stageRefused)
	return false
}

// begin is the request about to be handed over: false if the call was answered.
func (s *stage) begin() bool { return s.state.CompareAndSwap(stageDecoding, stageBegun) }

// bar keeps a handler that has not begun from beginning, and says what is known
// of one that had: no handler will run, it runs, or nobody knows.
func (s *stage) bar() fault.Processed {
	switch {
	case s.state.CompareAndSwap(stageDecoding, stageRefused):
		return fault.No
	case s.state.CompareAndSwap(stageEntered, stageBarred):
		return fault.Maybe
	case s.state.CompareAndSwap(stageDecoding, stageRefused): // it asked meanwhile
		return fault.No
	}
	return fault.Yes
}

// ran says whether the handler of a call that is over ran, interceptors apart.
func (s *stage) ran() bool {
	switch s.state.Load() {
	case stageWaiting, stageDecoding, stageRefused:
		return false
	}
	return true // it has begun, or was written by hand and never asked
}
