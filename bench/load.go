// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"runtime"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	pb "google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/metadata"
)

// callTimeout is the deadline of calls that have one: far away, since the cost of having one is what is measured.
const callTimeout = 10 * time.Second

// A load puts one workload on one engine.
type load struct {
	w    workload
	dial func() (client, error)
	c    client // the connection of all callers
	req  *pb.SimpleRequest
	ctxs []context.Context // to choose from, with metadata; one without, if the workload has none
	held []any             // idle things, kept alive
}

// A tally is what a load did in one stretch of time.
type tally struct {
	Calls   uint64        // calls or messages; for the idle kinds, things opened
	Elapsed time.Duration // from the first call to the last answer
	P50     time.Duration
	P99     time.Duration
	Max     time.Duration
	Least   float64 // calls of the slowest caller over those of the average one
}

func newLoad(w workload, dial func() (client, error)) (*load, error) {
	c, err := dial()
	if err != nil {
		return nil, err
	}
	l := &load{w: w, dial: dial, c: c, req: &pb.SimpleRequest{Payload: newPayload(w.size)}, ctxs: []context.Context{context.Background()}}
	if w.metadata {
		l.ctxs = make([]context.Context, 1024)
		for i := range l.ctxs {
			md := metadata.Pairs(tokenKey, tokenValue, tenantKey, tenantValue, requestKey, fmt.Sprintf("req-%016x", uint64(i)*0x9e3779b97f4a7c15))
			l.ctxs[i] = metadata.NewOutgoingContext(context.Background(), md)
		}
	}
	return l, nil
}

// A worker is one caller: step does one call or moves one message, finish ends its stream if it has one.
type worker struct {
	step   func() error
	finish func() error
}

// worker prepares the i-th caller. cancel ends the streams of all callers.
func (l *load) worker(ctx context.Context, cancel func(), i int) (worker, error) {
	switch l.w.kind {
	case unary:
		return l.unary(i), nil
	case pingPong:
		return l.pingPong(ctx)
	case download:
		return l.download(ctx, cancel)
	case upload:
		return l.upload(ctx)
	}
	return worker{}, fmt.Errorf("workload %s is no load of callers", l.w.name)
}

func (l *load) unary(i int) worker {
	call := l.c.caller()
	n := i * 7
	return worker{step: func() error {
		ctx := l.ctxs[n%len(l.ctxs)]
		n++
		if l.w.metadata {
			var cancel func()
			ctx, cancel = context.WithTimeout(ctx, callTimeout)
			defer cancel()
		}
		out, err := call(ctx, l.req)
		if err != nil {
			return err
		}
		return checkPayload(out.GetPayload(), l.w.size)
	}}
}

func (l *load) pingPong(ctx context.Context) (worker, error) {
	s, err := l.c.both(ctx)
	if err != nil {
		return worker{}, err
	}
	step := func() error {
		if err := s.Send(l.req); err != nil {
			return err
		}
		out, err := s.Recv()
		if err != nil {
			return err
		}
		return checkPayload(out.GetPayload(), l.w.size)
	}
	return worker{step, func() error { return endExchange(s) }}, nil
}

// endExchange closes s and sees to it that the server ended it well.
func endExchange(s exchange) error {
	if err := s.CloseSend(); err != nil {
		return err
	}
	if _, ok := s.(*echoCall); ok {
		return nil // a shared raw connection has no end of stream
	}
	if _, err := s.Recv(); !errors.Is(err, io.EOF) {
		return fmt.Errorf("end of stream: %v, want EOF", err)
	}
	return nil
}

func (l *load) download(ctx context.Context, cancel func()) (worker, error) {
	s, err := l.c.down(ctx, &pb.SimpleRequest{})
	if err != nil {
		return worker{}, err
	}
	step := func() error {
		out, err := s.Recv()
		if err != nil {
			return err
		}
		return checkPayload(out.GetPayload(), l.w.size)
	}
	return worker{step, func() error { cancel(); return nil }}, nil
}

func (l *load) upload(ctx context.Context) (worker, error) {
	s, err := l.c.up(ctx)
	if err != nil {
		return worker{}, err
	}
	sent := 0
	step := func() error {
		err := s.Send(l.req)
		if errors.Is(err, io.EOF) {
			if _, err = s.CloseAndRecv(); err == nil {
				err = errors.New("the server ended the stream early")
			}
		}
		sent++
		return err
	}
	finish := func() error {
		out, err := s.CloseAndRecv()
		if err != nil {
			return err
		}
		if out.GetHostname() != strconv.Itoa(sent) {
			return fmt.Errorf("the server counted %s messages, %d were sent", out.GetHostname(), sent)
		}
		return nil
	}
	return worker{step, finish}, nil
}

// run keeps all callers busy for d.
func (l *load) run(d time.Duration) (tally, error) {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	workers := make([]worker, l.w.callers)
	hists := make([]histogram, l.w.callers)
	for i := range workers {
		var err error
		if workers[i], err = l.worker(ctx, cancel, i); err != nil {
			return tally{}, err
		}
	}
	var stop atomic.Bool
	var wg sync.WaitGroup
	errs := make(chan error, len(workers))
	start := time.Now()
	timer := time.AfterFunc(d, func() { stop.Store(true) })
	defer timer.Stop()
	for i := range workers {
		wg.Go(func() {
			if err := repeat(workers[i].step, &hists[i], &stop); err != nil {
				stop.Store(true)
				errs <- err
			}
		})
	}
	wg.Wait()
	elapsed := time.Since(start)
	if len(errs) > 0 {
		return tally{}, <-errs
	}
	for _, w := range workers {
		if w.finish == nil {
			continue
		}
		if err := w.finish(); err != nil {
			return tally{}, err
		}
	}
	if l.w.kind == upload {
		elapsed = time.Since(start) // what was sent counts when it has arrived
	}
	return sum(hists, elapsed), nil
}

// repeat does step until stop and notes how long each took.
func repeat(step func() error, h *histogram, stop *atomic.Bool) error {
	last := time.Now()
	for !stop.Load() {
		if err := step(); err != nil {
			return err
		}
		now := time.Now()
		h.add(now.Sub(last))
		last = now
	}
	return nil
}

func sum(hists []histogram, elapsed time.Duration) tally {
	var all histogram
	least := uint64(math.MaxUint64)
	for i := range hists {
		all.merge(&hists[i])
		least = min(least, hists[i].n)
	}
	t := tally{Calls: all.n, Elapsed: elapsed, P50: all.quantile(.5), P99: all.quantile(.99), Max: all.max}
	if all.n > 0 {
		t.Least = float64(least) * float64(len(hists)) / float64(all.n)
	}
	return t
}

// hold opens n idle things and returns what keeps them alive.
func (l *load) hold(n int) ([]any, error) {
	held := make([]any, 0, n)
	for range n {
		x, err := l.holdOne()
		if err != nil {
			return held, err
		}
		held = append(held, x)
	}
	return held, nil
}

func (l *load) holdOne() (any, error) {
	if l.w.kind == idleStreams {
		s, err := l.c.both(context.Background())
		if err != nil {
			return nil, err
		}
		if err := s.Send(l.req); err != nil {
			return nil, err
		}
		_, err = s.Recv()
		return s, err
	}
	c, err := l.dial()
	if err != nil {
		return nil, err
	}
	_, err = c.caller()(context.Background(), l.req)
	return c, err
}

// settledMemory collects garbage until the memory in use no longer falls, and returns heap and stacks in bytes.
func settledMemory() uint64 {
	least := uint64(math.MaxUint64)
	for range 5 {
		runtime.GC()
		time.Sleep(10 * time.Millisecond) // goroutines that end give their stacks back, finalizers run
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		least = min(least, m.HeapInuse+m.StackInuse)
	}
	return least
}
