// SPDX-License-Identifier: Apache-2.0

package wire

import (
	"bytes"
	"encoding/binary"
	"io"
	"math/rand/v2"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/faultline-rpc/faultline/codec"
	"github.com/faultline-rpc/faultline/fault"
	"github.com/faultline-rpc/faultline/h2"
)

// testBuf is a read buffer that never goes back to h2's pool. Its size is 0,
// so that messages are lent whenever they can be.
func testBuf() *h2.ReadBuf {
	b := new(h2.ReadBuf)
	b.Retain()
	return b
}

func framed(payloads ...[]byte) []byte {
	var b []byte
	for _, p := range payloads {
		b = append(b, 0)
		b = binary.BigEndian.AppendUint32(b, uint32(len(p)))
		b = append(b, p...)
	}
	return b
}

// slab is what payloads are cut from.
var slab = func() []byte {
	b := make([]byte, 1<<20)
	rand.NewChaCha8([32]byte{}).Read(b)
	return b
}()

// pattern is n bytes that depend on seed. Do not change them.
func pattern(seed, n int) []byte {
	at := seed * 7919 % (len(slab) - n)
	return slab[at : at+n : at+n]
}

// wantMessage is what a reference deframer finds.
type wantMessage struct {
	data       []byte
	compressed bool
}

// deframe reads messages one after the other: those that are whole, the id of
// what is wrong after them or "", and the bytes of one that has begun.
func deframe(b []byte, limit int) (all []wantMessage, bad fault.ID, rest int) {
	for len(b) >= codec.PrefixLen {
		n := int64(binary.BigEndian.Uint32(b[1:]))
		switch {
		case b[0] > 1:
			return all, "codec.request-parse", len(b)
		case n > int64(limit):
			return all, "codec.too-large", len(b)
		case int64(len(b)-codec.PrefixLen) < n:
			return all, "", len(b)
		}
		all = append(all, wantMessage{b[codec.PrefixLen : codec.PrefixLen+n], b[0] == 1})
		b = b[codec.PrefixLen+n:]
	}
	return all, "", len(b)
}

// rig drives a receiver and holds it against the reference.
type rig struct {
	t        testing.TB
	r        *receiver
	budget   *Budget
	stream   []byte // everything received
	given    int    // window given back
	taken    int    // messages
	takenLen int
	bad      fault.ID
	held     []Message // taken and not freed
	expect   [][]byte
}

func newRig(t testing.TB, limit int) *rig {
	b := NewBudget(1 << 40)
	return &rig{t: t, budget: b, r: &receiver{limit: codec.Limit{Bytes: limit}, account: &account{budget: b}, garbage: fault.CodecRequestParse}}
}

// data hands a copy of p over and spoils whatever of it was not lent.
func (g *rig) data(p []byte, last bool) {
	if g.bad != "" {
		return
	}
	g.stream = append(g.stream, p...)
	mine := append([]byte(nil), p...)
	hadLent := g.r.hasLent
	credit, err := g.r.data(mine, testBuf(), last)
	if f, ok := err.(*fault.Fault); ok {
		g.bad = f.ID()
	} else if err != nil {
		g.t.Fatalf("data: %v", err)
	}
	g.given += credit
	lent := g.r.lent.Data
	if hadLent {
		lent = nil
	}
	keep := append([]byte(nil), lent...)
	for i := range mine {
		mine[i] = 0xEE
	}
	copy(lent, keep) // it lies in mine
	g.check()
}

func (g *rig) take() bool {
	if !g.r.hasLent && g.r.ready == 0 {
		return false
	}
	m, credit, err := g.r.take(nil, codec.Direct{})
	if err != nil {
		g.t.Fatalf("take: %v", err)
	}
	g.given += credit
	all, _, _ := deframe(g.stream, g.r.limit.Bytes)
	if g.taken >= len(all) {
		g.t.Fatalf("message %d was taken, %d came", g.taken+1, len(all))
	}
	want := all[g.taken]
	if !bytes.Equal(m.Data, want.data) || m.Compressed != want.compressed {
		g.t.Fatalf("message %d is %.40x of %d bytes (%v), want %.40x of %d (%v)", g.taken, m.Data, len(m.Data), m.Compressed, want.data, len(want.data), want.compressed)
	}
	g.taken++
	g.takenLen += m.WireLength()
	g.held = append(g.held, m)
	g.expect = append(g.expect, append([]byte(nil), want.data...))
	g.check()
	return true
}

// free gives the oldest message taken back; it must still be what it was.
func (g *rig) free() {
	if len(g.held) == 0 {
		return
	}
	if !bytes.Equal(g.held[0].Data, g.expect[0]) {
		g.t.Fatal("a message changed while it was held")
	}
	g.held[0].Free()
	g.held, g.expect = g.held[1:], g.expect[1:]
}

// check holds the sums: what waits is charged, and the window given back is
// all but the messages that wait and what came after them.
func (g *rig) check() {
	waiting := len(g.stream) - g.takenLen
	if int(g.r.queued) != waiting || g.budget.used.Load() != g.r.queued {
		g.t.Fatalf("%d bytes are queued, %d charged, want %d", g.r.queued, g.budget.used.Load(), waiting)
	}
	if g.bad != "" {
		return
	}
	all, bad, rest := deframe(g.stream, g.r.limit.Bytes)
	if bad != "" {
		g.t.Fatalf("%s went unnoticed", bad)
	}
	if ready := len(all) - g.taken; ready == 0 && g.given != len(g.stream) {
		g.t.Fatalf("nothing waits and %d of %d bytes of window were given back", g.given, len(g.stream))
	} else if out := len(g.stream) - g.given; ready > 0 && (out < 0 || out > waiting) {
		g.t.Fatalf("%d bytes of window are out, %d wait", out, waiting)
	}
	if g.r.partialLocked() != (rest > 0) {
		g.t.Fatalf("partial is %v with %d bytes of a message", g.r.partialLocked(), rest)
	}
}

// end takes everything and compares the end with the reference's.
func (g *rig) end() {
	for g.take() {
	}
	all, bad, _ := deframe(g.stream, g.r.limit.Bytes)
	if g.taken != len(all) || g.bad != bad {
		g.t.Fatalf("%d messages and %q, want %d and %q", g.taken, g.bad, len(all), bad)
	}
	for len(g.held) > 0 {
		g.free()
	}
	g.r.abort(nil)
	if used := g.budget.used.Load(); used != 0 || len(g.r.chunks) != 0 {
		g.t.Fatalf("%d bytes of the budget and %d chunks are left", used, len(g.r.chunks))
	}
	if _, _, err := g.r.take(nil, codec.Direct{}); err != io.EOF {
		g.t.Fatalf("after the end: %v", err)
	}
}

func FuzzReceiver(f *testing.F) {
	three := framed([]byte("one"), nil, pattern(1, 300))
	f.Add(three, []byte{1, 2, 3, 4, 5}, uint16(1000))
	f.Add(three, []byte{255, 0, 8, 7}, uint16(200))
	f.Add(append(framed([]byte("x")), 2, 0, 0, 0, 0), []byte{9}, uint16(10))
	f.Add([]byte{1, 0, 0, 0, 1, 9, 0, 0, 0}, []byte{131, 66}, uint16(10))
	f.Add(framed(pattern(2, 3000), pattern(3, 5000)), []byte{200, 200, 190, 201, 3}, uint16(9000))
	f.Fuzz(func(t *testing.T, stream, ops []byte, limit uint16) {
		if len(ops) == 0 {
			ops = []byte{1}
		}
		g := newRig(t, int(limit))
		for i := 0; len(stream) > 0; i++ {
			op := ops[i%len(ops)]
			n := min(len(stream), int(op>>2)+1)
			if op&3 == 3 {
				n = min(len(stream), 64*n)
			}
			g.r.waiting = false
			g.data(stream[:n], op&1 == 1)
			stream = stream[n:]
			for range op & 3 {
				g.take()
			}
			if op&4 != 0 {
				g.free()
			}
		}
		g.end()
	})
}

func TestReceiverEverySplit(t *testing.T) {
	stream := framed([]byte("first"), nil, pattern(5, 20), []byte{1})
	stream[0] = 1
	for i := 0; i <= len(stream); i++ {
		for j := i; j <= len(stream); j++ {
			for _, eager := range []bool{false, true} {
				g := newRig(t, 100)
				for _, p := range [][]byte{stream[:i], stream[i:j], stream[j:]} {
					g.data(p, false)
					for eager && g.take() {
					}
				}
				g.end()
			}
		}
	}
}

func TestReceiverRandom(t *testing.T) {
	for seed := range uint64(12) {
		rnd := rand.New(rand.NewPCG(seed, 7))
		g := newRig(t, 1<<20)
		var stream []byte
		for i := range 40 {
			n := rnd.IntN(200)
			if rnd.IntN(8) == 0 {
				n = rnd.IntN(200 << 10)
			}
			stream = append(stream, framed(pattern(i, n))...)
		}
		for len(stream) > 0 {
			n := min(len(stream), 1+rnd.IntN(1<<rnd.IntN(18)))
			g.data(stream[:n], false)
			stream = stream[n:]
			for rnd.IntN(3) > 0 && g.take() {
			}
			for rnd.IntN(2) > 0 && len(g.held) > 0 {
				g.free()
			}
		}
		g.end()
	}
}

// A flood of tiny messages that nobody takes must not cost more memory than a
// small multiple of its bytes, nor the word of a prefix more than what came.
func TestReceiverMemory(t *testing.T) {
	held := func(r *receiver) (n int) {
		for _, c := range r.chunks {
			n += cap(c.buf.B)
		}
		return n
	}
	g := newRig(t, 1<<30)
	tiny := framed([]byte("x"))
	for range 20000 {
		if _, err := g.r.data(tiny, testBuf(), false); err != nil {
			t.Fatal(err)
		}
	}
	if n, came := held(g.r), int(g.r.queued); n > came+came/4+2*smallChunk {
		t.Errorf("%d bytes of tiny messages hold %d", came, n)
	}
	g.r.abort(nil)
	g = newRig(t, 1<<30)
	claim := []byte{0, 0x3F, 0xFF, 0xFF, 0xFF}
	g.r.data(claim, nil, false)
	if n := held(g.r); n > smallChunk {
		t.Errorf("a prefix alone holds %d bytes", n)
	}
	for range 1000 {
		g.r.data(pattern(1, 1000), nil, false)
	}
	if n := held(g.r); n > 4*1000*1000 {
		t.Errorf("1000000 bytes of a message hold %d", n)
	}
	g.r.abort(nil)
}

func TestReceiverDiscardsAndRefuses(t *testing.T) {
	g := newRig(t, 100)
	g.budget.limit = 20
	msg := framed(pattern(1, 10))
	if _, err := g.r.data(msg, testBuf(), false); err != nil {
		t.Fatal(err)
	}
	if _, err := g.r.data(msg, testBuf(), false); err != errOverBudget {
		t.Errorf("30 bytes of 20: %v", err)
	}
	if used := g.budget.used.Load(); used != 15 {
		t.Errorf("%d bytes are charged, want 15", used)
	}
	g.r.abort(io.ErrUnexpectedEOF)
	if credit, err := g.r.data(msg, testBuf(), true); credit != 0 || err != nil || g.budget.used.Load() != 0 {
		t.Errorf("after the end: credit %d, %v, %d charged", credit, err, g.budget.used.Load())
	}
	if _, _, err := g.r.take(nil, codec.Direct{}); err != io.ErrUnexpectedEOF {
		t.Errorf("take: %v", err)
	}
}

func TestReceiverWholeWantsOne(t *testing.T) {
	g := newRig(t, 100)
	g.r.whole = true
	if _, err := g.r.data(framed([]byte("a")), testBuf(), false); err != nil {
		t.Fatal(err)
	}
	_, err := g.r.data(framed([]byte("b")), testBuf(), false)
	if !fault.WireCardinality.Is(err) {
		t.Errorf("two messages: %v", err)
	}
}

// A wait ends by a message, the end, or done; one that crosses with done is
// not lost, and leaves no token behind.
func TestReceiverWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &receiver{limit: codec.Limit{Bytes: 100}}
		type result struct {
			m   Message
			err error
		}
		take := func(done chan struct{}) chan result {
			ch := make(chan result, 1)
			go func() {
				m, _, err := r.take(done, codec.Direct{})
				ch <- result{m, err}
			}()
			synctest.Wait()
			return ch
		}
		ch := take(nil)
		r.data(framed([]byte("a")), testBuf(), false)
		if got := <-ch; string(got.m.Data) != "a" || got.m.read == nil {
			t.Errorf("a waiter got %q, %v, lent %v", got.m.Data, got.err, got.m.read != nil)
		}
		done := make(chan struct{})
		ch = take(done)
		close(done)
		if got := <-ch; got.err != ErrDone {
			t.Errorf("done: %v", got.err)
		}
		for range 200 {
			done := make(chan struct{})
			ch := take(done)
			go close(done)
			go r.data(framed([]byte("b")), testBuf(), false)
			got := <-ch
			synctest.Wait()
			if got.err != nil {
				got.m, _, got.err = r.take(nil, codec.Direct{})
			}
			if string(got.m.Data) != "b" || got.err != nil || len(r.wake) != 0 || r.waiting {
				t.Fatalf("%q, %v, %d tokens", got.m.Data, got.err, len(r.wake))
			}
			got.m.Free()
		}
		ch = take(nil)
		time.Sleep(time.Second)
		r.abort(nil)
		if got := <-ch; got.err != io.EOF {
			t.Errorf("the end: %v", got.err)
		}
	})
}

// Several goroutines that take at once, against the rules, get a message each,
// and all of them the end.
func TestReceiversThatOverlap(t *testing.T) {
	const takers, messages = 4, 100
	synctest.Test(t, func(t *testing.T) {
		r := &receiver{limit: codec.Limit{Bytes: 100}}
		var wg sync.WaitGroup
		var taken atomic.Int64
		for range takers {
			wg.Go(func() {
				for {
					m, _, err := r.take(nil, codec.Direct{})
					if err == io.EOF {
						return
					}
					if err != nil || string(m.Data) != "a" {
						t.Errorf("%q, %v", m.Data, err)
						return
					}
					m.Free()
					taken.Add(1)
				}
			})
		}
		for range messages {
			r.data(framed([]byte("a")), testBuf(), false)
			runtime.Gosched()
		}
		r.mu.Lock()
		r.finishUnderLock(nil)
		r.unlock()
		wg.Wait()
		if n := taken.Load(); n != messages {
			t.Errorf("%d messages were taken, %d had come", n, messages)
		}
	})
}
