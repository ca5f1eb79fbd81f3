// SPDX-License-Identifier: Apache-2.0

package server

import (
	"sync"
	"time"
)

const (
	// maxIdleWorkers bounds the goroutines that wait for work.
	maxIdleWorkers = 1024
	// idleWorkerTime is how long one may wait in vain, at least; twice as long at
	// most.
	idleWorkerTime = 10 * time.Second
	// compactAt is how many calls must have left the queue before its rest
	// moves to the front, keepQueue the capacity that an empty queue keeps.
	compactAt = 64
	keepQueue = 4096
)

// workers run calls on goroutines that are used again: a fresh one would spend
// a third of a short call growing its stack.
//
// While calls wait, one worker beside those in handlers is awake or about to
// be. So a handler that blocks holds up nobody, and handlers that do not block
// run back to back on one worker, with no switch between.
type workers struct {
	mu        sync.Mutex
	queue     []*call     // guarded by mu; from head on
	head      int         // guarded by mu
	searching bool        // guarded by mu: a worker is on its way to the queue
	idle      []worker    // guarded by mu: parked, the last one parked is the first one woken
	fewest    int         // guarded by mu: the least there was in idle since the last trim
	trim      *time.Timer // guarded by mu: set while there are idle workers
	stopped   bool        // guarded by mu
}

// worker is the way to wake a parked goroutine: true sends it to the queue,
// false home. It has room for one, so that waking never blocks.
type worker chan bool

// submit hands over the calls that one read brought.
func (w *workers) submit(calls []*call) {
	w.mu.Lock()
	if w.head >= compactAt && w.head > len(w.queue)/2 { // under load it is never empty
		n := copy(w.queue, w.queue[w.head:])
		clear(w.queue[n:])
		w.queue, w.head = w.queue[:n], 0
	}
	w.queue = append(w.queue, calls...)
	if !w.searching {
		w.wakeLocked()
	}
	w.mu.Unlock()
}

func (w *workers) wakeLocked() {
	w.searching = true
	if n := len(w.idle); n > 0 {
		next := w.idle[n-1]
		w.idle = w.idle[:n-1]
		w.fewest = min(w.fewest, n-1)
		next <- true
		return
	}
	go w.run()
}

// run is a worker's life. A handler that calls runtime.Goexit ends it, which
// is no loss: it was counted nowhere.
func (w *workers) run() {
	var me worker
	sent := true // this worker is the searching one
	w.mu.Lock()
	for {
		if w.head == len(w.queue) {
			w.queue, w.head = w.queue[:0], 0
			if cap(w.queue) > keepQueue {
				w.queue = nil
			}
			if sent {
				w.searching = false
			}
			if me == nil {
				me = make(worker, 1)
			}
			if !w.parkLocked(me) {
				w.mu.Unlock()
				return
			}
			w.mu.Unlock()
			if !<-me {
				return
			}
			sent = true
			w.mu.Lock()
			continue
		}
		k := w.queue[w.head]
		w.queue[w.head] = nil
		w.head++
		if sent {
			w.searching, sent = false, false
		}
		if w.head < len(w.queue) && !w.searching {
			w.wakeLocked()
		}
		w.mu.Unlock()
		k.run()
		w.mu.Lock()
	}
}

// parkLocked adds me to the idle workers, unless it is not needed.
func (w *workers) parkLocked(me worker) bool {
	if w.stopped || len(w.idle) >= maxIdleWorkers {
		return false
	}
	w.idle = append(w.idle, me)
	if w.trim == nil {
		w.fewest = len(w.idle)
		w.trim = time.AfterFunc(idleWorkerTime, w.trimIdle)
	}
	return true
}

// trimIdle sends those home that nobody needed since it ran last: they lie at
// the bottom.
func (w *workers) trimIdle() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.stopped {
		return
	}
	w.dismissLocked(w.fewest)
	w.fewest = len(w.idle)
	if len(w.idle) == 0 {
		w.trim = nil
		return
	}
	w.trim.Reset(idleWorkerTime)
}

func (w *workers) dismissLocked(n int) {
	for _, me := range w.idle[:n] {
		me <- false
	}
	rest := copy(w.idle, w.idle[n:])
	clear(w.idle[rest:])
	w.idle = w.idle[:rest]
}

// stop sends idle workers home, and busy ones when the queue is empty.
func (w *workers) stop() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.stopped = true
	w.dismissLocked(len(w.idle))
	if w.trim != nil {
		w.trim.Stop()
	}
}
