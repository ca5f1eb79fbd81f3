// SPDX-License-Identifier: Apache-2.0

package h2

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/net/http2"

	"github.com/faultline-rpc/faultline/h2/hpack"
	"github.com/faultline-rpc/faultline/internal/peer"
	"github.com/faultline-rpc/faultline/internal/simnet"
)

// However reads cut the frames, padding and all, the same arrives.
func TestEveryReadSize(t *testing.T) {
	const padded, endHeaders, priority = 8, 4, 0x20
	for _, n := range []int{1, 2, 3, 5, 7, 8, 9, 10, 11, 64, 0} {
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				d := asServer(t, Config{}, simnet.Options{MaxRead: n})
				d.p.Handshake()
				// Padding and the deprecated priority fields around the block.
				block := append([]byte{3, 0, 0, 0, 0, 9}, 0x83, 0x86, 0x84, 0, 0, 0)
				d.p.SendFrame(http2.FrameHeaders, padded|endHeaders|priority, 1, block)
				d.p.SendFrame(0xfa, 0xff, 1, []byte("unknown frames are ignored"))
				d.p.SendFrame(http2.FrameData, padded, 1, []byte("\x04hello....")) // 4 bytes of padding
				d.p.SendFrame(http2.FrameData, padded, 1, append([]byte{255}, make([]byte, 255)...))
				d.p.SendFrame(http2.FrameData, padded, 1, []byte("\x00 there"))
				d.p.SendFrame(http2.FramePriority, 0, 1, []byte{0, 0, 0, 3, 0})
				d.p.SendData(1, nil, false)
				d.p.SendHeadersSplit(1, true, 1, "a", "b", "c", strings.Repeat("d", 40))
				s := d.last()
				heads, body, ended, err := s.saw()
				if heads != 2 || body != "hello there" || !ended || err != nil {
					t.Fatalf("%d sections, body %q, ended %v, %v", heads, body, ended, err)
				}
				if got := s.heads[1]; len(got) != 2 || got[1].Value != strings.Repeat("d", 40) {
					t.Errorf("trailers %v", got)
				}
				d.alive(3)
			})
		})
	}
}

// A frame larger than every class of read buffer gets a buffer of its size,
// however slowly it comes.
func TestOddFrameInDrips(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		d := server(t, Config{})
		d.p.SendRaw([]byte{2, 0, 0, 0xfa, 0, 0, 0, 0, 0})
		d.p.SendRaw(make([]byte, 128<<10-20))
		for range 20 {
			d.p.SendRaw([]byte{0})
			if n := d.reading(); n > 128<<10+9 {
				t.Fatalf("a buffer of %d bytes", n)
			}
		}
		d.alive(1)
		if n := d.reading(); n > 128<<10 {
			t.Errorf("the odd buffer of %d bytes is still in use", n)
		}
	})
}

func TestReadBuffersGrowShrinkAndLast(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		d := server(t, Config{})
		keeper := &keepStream{}
		keeper.Attach(keeper)
		d.set(func() { d.accept = func() *Stream { return &keeper.Stream } })
		d.p.SendRequest(1, false, "/a")
		if n := d.reading(); n != readSizes[0] {
			t.Errorf("began with %d bytes", n)
		}
		var want []byte
		for i := range 40 {
			p := bytes.Repeat([]byte{byte(i)}, 16000)
			want = append(want, p...)
			d.p.SendData(1, p, false)
		}
		synctest.Wait()
		if n := d.reading(); n < readSizes[1] {
			t.Errorf("a buffer of %d bytes after 640 kB", n)
		}
		// What was retained is untouched by all later reads.
		for range 200 {
			d.p.SendPing(false, [8]byte{1})
			synctest.Wait()
		}
		if n := d.reading(); n != readSizes[0] {
			t.Errorf("a buffer of %d bytes after 200 small reads", n)
		}
		var got []byte
		for i, p := range keeper.parts {
			got = append(got, p...)
			keeper.bufs[i].Release()
		}
		if !bytes.Equal(got, want) {
			t.Error("retained bytes changed")
		}
	})
}

// keepStream retains all it is given.
type keepStream struct {
	testStream
	parts [][]byte
	bufs  []*ReadBuf
}

func (s *keepStream) OnData(p []byte, b *ReadBuf, _ bool) {
	b.Retain()
	if b.Cap() < len(p) {
		panic("smaller than what lies in it")
	}
	s.parts, s.bufs = append(s.parts, p), append(s.bufs, b)
}

func TestWriteBuffersShrinkInQuiet(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		d := server(t, Config{})
		caps := func() int {
			synctest.Wait()
			d.c.mu.Lock()
			defer d.c.mu.Unlock()
			return cap(d.c.out.b) + cap(d.c.out.spare)
		}
		d.p.SendRequest(1, true, "/a")
		s := d.last()
		if err := s.Respond(head(":status", "200"), make([]byte, 60000), head("a", "b"), nil); err != nil {
			t.Fatal(err)
		}
		d.p.WantHeaders(1)
		if got := d.p.WantBody(1); len(got) != 60000 {
			t.Fatalf("%d bytes", len(got))
		}
		d.p.WantTrailers(1)
		if n := caps(); n < 60000 {
			t.Errorf("%d bytes right after", n)
		}
		time.Sleep(2*quietTime + time.Millisecond)
		if n := caps(); n > 2*keepBuffer {
			t.Errorf("%d bytes after a quiet time", n)
		}
		d.alive(3)
	})
}

func TestMaxConcurrentStreamsOfServer(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		d := server(t, Config{MaxConcurrentStreams: 2})
		for id := uint32(1); id <= 5; id += 2 {
			d.p.SendRequest(id, true, "/a")
		}
		d.p.WantRST(5, http2.ErrCodeRefusedStream)
		if d.count() != 2 || d.c.Active() != 2 {
			t.Errorf("%d streams, %d active", d.count(), d.c.Active())
		}
		d.p.SendRST(1, http2.ErrCodeCancel)
		d.alive(7)
		d.set(func() { d.refuse = true })
		d.p.SendRST(3, http2.ErrCodeCancel)
		d.p.SendRequest(9, false, "/a")
		d.p.WantRST(9, http2.ErrCodeRefusedStream)
		d.p.SendData(9, []byte("late"), true)
		d.set(func() { d.refuse = false })
		d.alive(11)
	})
}

func TestMaxConcurrentStreamsOfClient(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		d := client(t, Config{}, peer.Options{Interleave: true, Settings: []http2.Setting{setting(http2.SettingMaxConcurrentStreams, 1)}})
		d.open(nil, true)
		order := make(chan int, 10)
		var dones [5]chan struct{}
		errs := make([]error, 5)
		for i := range 5 {
			dones[i] = make(chan struct{})
			s := &testStream{}
			s.Attach(s)
			go func() {
				errs[i] = d.c.Open(&s.Stream, Header{Fixed: request, Fields: fields("n", fmt.Sprint(i))}, nil, true, dones[i])
				order <- i
			}()
			synctest.Wait()
		}
		next := func(want int, err error) {
			t.Helper()
			synctest.Wait()
			select {
			case i := <-order:
				if i != want || !errors.Is(errs[i], err) {
					t.Fatalf("call %d came through with %v, want %d with %v", i, errs[i], want, err)
				}
			default:
				t.Fatalf("call %d still waits", want)
			}
		}
		if len(order) != 0 {
			t.Fatal("a call did not wait")
		}
		close(dones[1])
		next(1, ErrDone)
		d.p.WantHeaders(1)
		d.p.Answer(1, peer.Full([]string{":status", "200"}, nil, nil))
		next(0, nil)
		d.p.WantHeaders(3, "n", "0")
		d.p.SendSettings(setting(http2.SettingMaxConcurrentStreams, 2))
		next(2, nil)
		d.p.SendSettings(setting(http2.SettingMaxConcurrentStreams, 3))
		next(3, nil)
		d.p.WantHeaders(5, "n", "2")
		d.p.WantHeaders(7, "n", "3")
		d.p.SendSettings(setting(http2.SettingMaxConcurrentStreams, 0))
		d.p.SendRST(3, http2.ErrCodeCancel)
		synctest.Wait()
		if len(order) != 0 {
			t.Fatal("a call did not wait for a limit of 0")
		}
		d.p.SendGoAway(7, http2.ErrCodeNo, "bye")
		synctest.Wait()
		var g *GoAwayError
		if i := <-order; i != 4 || !errors.As(errs[4], &g) || g.Debug != "bye" || g.Local {
			t.Fatalf("call %d: %v", i, errs[i])
		}
	})
}

func TestResetByPeer(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		d := client(t, Config{})
		s := d.open([]byte("x"), false)
		d.p.WantHeaders(1)
		d.p.SendRST(1, http2.ErrCodeRefusedStream)
		_, _, _, err := s.saw()
		wantStreamError(t, err, Peer, RefusedStream)
		if err := s.WriteData([]byte("y"), true, nil); err != ErrEnded {
			t.Errorf("WriteData: %v", err)
		}
		s.Reset(Cancel) // does nothing
		d.p.SendRST(1, http2.ErrCodeCancel)
		if synctest.Wait(); s.closes != 1 || d.c.Active() != 0 {
			t.Errorf("told %d times, %d active", s.closes, d.c.Active())
		}
		d.open(nil, true)
		d.p.WantData(1, 1)
		d.p.WantHeaders(3)
	})
}

func TestResetByUs(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		d := client(t, Config{})
		s := d.open(nil, false)
		d.p.WantHeaders(1)
		s.Reset(Cancel)
		s.Reset(Cancel)
		d.p.WantRST(1, http2.ErrCodeCancel)
		d.p.SendHeaders(1, false, ":status", "200")
		d.p.SendData(1, []byte("x"), false)
		d.p.SendHeaders(1, true, "grpc-status", "0")
		if _, _, _, err := s.saw(); err != nil || s.closes != 0 {
			t.Errorf("OnClose after Reset: %v", err)
		}
		d.p.WantQuiet(time.Second)
	})
}

// A thousand calls given up at once, whose answers were under way, are no
// violation of the server's.
func TestMassCancellation(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		d := client(t, Config{}, peer.Options{Interleave: true})
		const n = 1000
		var all []*testStream
		for range n {
			all = append(all, d.open(nil, true))
		}
		for i := range all {
			d.p.WantHeaders(uint32(2*i + 1))
		}
		for _, s := range all {
			s.Reset(Cancel)
		}
		for i := range all {
			id := uint32(2*i + 1)
			d.p.SendHeaders(id, false, ":status", "200")
			for range 5 {
				d.p.SendData(id, make([]byte, 1000), false)
			}
			d.p.SendHeaders(id, true, "grpc-status", "0")
		}
		synctest.Wait()
		s := d.open(nil, true)
		d.p.SendHeaders(s.ID(), true, ":status", "200")
		if _, _, ended, err := s.saw(); !ended || err != nil {
			t.Errorf("the call after: %v", err)
		}
	})
}

// A server that answers before the request has ended stops the client by
// RST_STREAM NO_ERROR, and a client that is answered so stops by itself.
func TestEarlyAnswer(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		d := server(t, Config{})
		d.p.SendRequest(1, false, "/a")
		s := d.last()
		if err := s.WriteHeader(head(":status", "200", "grpc-status", "5"), true); err != nil {
			t.Fatal(err)
		}
		d.p.WantTrailers(1, "grpc-status", "5")
		d.p.WantRST(1, http2.ErrCodeNo)
		d.p.SendData(1, []byte("late"), true)
		d.alive(3)

		d = client(t, Config{}, peer.Options{NoCredit: true, Settings: []http2.Setting{setting(http2.SettingInitialWindowSize, 3)}})
		cs := &testStream{}
		cs.Attach(cs)
		got := make(chan error, 1)
		go func() { got <- d.c.Open(&cs.Stream, Header{Fixed: request}, []byte("12345"), true, nil) }()
		d.p.WantHeaders(1)
		d.p.WantData(1, 3)
		d.p.SendHeaders(1, true, ":status", "200", "grpc-status", "5")
		d.p.WantRST(1, http2.ErrCodeNo)
		if err := <-got; err != ErrEnded {
			t.Errorf("Open: %v", err)
		}
		if heads, _, ended, err := cs.saw(); heads != 1 || !ended || err != nil {
			t.Errorf("%d sections, ended %v, %v", heads, ended, err)
		}
	})
}

func TestInterimResponses(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		d := client(t, Config{})
		s := d.open(nil, true)
		d.p.WantHeaders(1)
		d.p.SendHeaders(1, false, ":status", "100")
		d.p.SendHeaders(1, false, ":status", "103", "link", "x")
		d.p.SendHeaders(1, false, ":status", "200")
		d.p.SendHeaders(1, true, "grpc-status", "0")
		if heads, _, ended, err := s.saw(); heads != 2 || !ended || err != nil {
			t.Errorf("%d sections, ended %v, %v", heads, ended, err)
		}
	})
}

// Storage is used again after clean ends, for as many streams as one likes.
func TestStreamReuse(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		d := client(t, Config{})
		s := &testStream{}
		for i := range 50 {
			id := uint32(2*i + 1)
			s.Attach(s)
			s.ended, s.heads = false, nil
			if s.ID() != 0 || s.Conn() != nil || s.Sent() {
				t.Fatal("not new")
			}
			if err := d.c.Open(&s.Stream, Header{Fixed: request}, []byte("p"), true, nil); err != nil {
				t.Fatal(err)
			}
			d.p.WantHeaders(id)
			d.p.WantBody(id)
			if !s.Sent() || s.Conn() != d.c {
				t.Error("not sent")
			}
			d.p.SendHeaders(id, true, ":status", "200")
			if heads, _, ended, err := s.saw(); heads != 1 || !ended || err != nil {
				t.Fatalf("round %d: %d sections, ended %v, %v", i, heads, ended, err)
			}
		}
	})
}

func TestContinuationSent(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		d := client(t, Config{})
		s := &testStream{}
		s.Attach(s)
		long := strings.Repeat("x", 40000)
		err := d.c.Open(&s.Stream, Header{Fixed: request, Fields: []hpack.Field{{Name: "long", Value: long}}}, []byte("body"), true, nil)
		if err != nil {
			t.Fatal(err)
		}
		d.p.WantHeaders(1, "long", long)
		d.p.WantBody(1)
		if n := len(d.p.Dialogue()); n == 0 {
			t.Error("no dialogue")
		}
	})
}

func TestEmptyWrites(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		d := server(t, Config{})
		d.p.SendRequest(1, true, "/a")
		s := d.last()
		if err := s.WriteHeader(head(":status", "200"), false); err != nil {
			t.Fatal(err)
		}
		d.p.WantHeaders(1)
		if err := s.WriteData(nil, false, nil); err != nil {
			t.Fatal(err)
		}
		d.p.WantQuiet(time.Second) // nothing to say
		if err := s.WriteData(nil, true, nil); err != nil {
			t.Fatal(err)
		}
		if f := d.p.WantOn(1, http2.FrameData); !f.End || f.Length != 0 {
			t.Errorf("%v", f)
		}
		if err := s.WriteData(nil, true, nil); err != ErrEnded {
			t.Errorf("twice: %v", err)
		}
	})
}
