// SPDX-License-Identifier: Apache-2.0

package h2

import (
	"bytes"
	"errors"
	"io"
	"net"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/net/http2"

	"github.com/faultline-rpc/faultline/event"
	"github.com/faultline-rpc/faultline/h2/frame"
	"github.com/faultline-rpc/faultline/internal/peer"
	"github.com/faultline-rpc/faultline/internal/simnet"
)

func wantGoAway(t *testing.T, p *peer.T, last uint32, code http2.ErrCode, debug string) {
	t.Helper()
	if f := p.WantGoAway(code); f.Last != last || f.Debug != debug {
		t.Fatalf("%v, want last %d and debug %q", f, last, debug)
	}
}

// finish answers a server's stream.
func (d *dialogue) finish(s *testStream) {
	d.t.Helper()
	if err := s.WriteHeader(head(":status", "200"), true); err != nil {
		d.t.Fatalf("WriteHeader: %v", err)
	}
	d.p.WantTrailers(s.ID())
}

func TestServerDrain(t *testing.T) {
	for name, answerPing := range map[string]bool{"PING answered": true, "PING not answered": false} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				events := &event.Buffer{}
				d := server(t, Config{Sink: events}, peer.Options{NoPingAck: true})
				d.p.SendRequest(1, true, "/a")
				first := d.last()
				d.c.Drain("bye")
				d.c.Drain("again") // does nothing
				wantGoAway(t, d.p, 1<<31-1, http2.ErrCodeNo, "bye")
				ping := d.p.WantPing(false)
				d.p.SendRequest(3, true, "/a") // was under way
				second := d.last()
				start := time.Now()
				if answerPing {
					d.p.SendPing(true, [8]byte(ping.Data))
				}
				wantGoAway(t, d.p, 3, http2.ErrCodeNo, "bye")
				if took := time.Since(start); answerPing && took != 0 || !answerPing && took != drainWait {
					t.Errorf("the second GOAWAY came after %v", took)
				}
				d.p.SendRequest(5, false, "/a") // a client that does not obey
				d.p.SendData(5, []byte("x"), true)
				d.p.WantQuiet(time.Second)
				d.finish(first)
				d.finish(second)
				d.p.WantClosed()
				if err := d.wantEnd(Closed, NoError); err.By != Local || d.count() != 2 {
					t.Errorf("%v by %v, %d streams", err, err.By, d.count())
				}
				sent := 0
				for _, n := range events.Names() {
					if n == (event.GoAwaySent{}).Name() {
						sent++
					}
				}
				if sent != 2 {
					t.Errorf("events %v", events.Names())
				}
			})
		})
	}
}

// A violation after the second GOAWAY must not raise the last id.
func TestLastIDNeverRises(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		d := server(t, Config{})
		d.p.SendRequest(1, true, "/a")
		d.last()
		d.c.Drain("bye")
		wantGoAway(t, d.p, 1<<31-1, http2.ErrCodeNo, "bye")
		wantGoAway(t, d.p, 1, http2.ErrCodeNo, "bye")
		d.p.SendRequest(3, true, "/a")
		d.p.SendWindowUpdate(0, 0)
		if f := d.p.WantGoAway(http2.ErrCodeProtocol); f.Last != 1 {
			t.Errorf("%v", f)
		}
		d.wantEnd(Violation, codeProtocol)
	})
}

func TestServerDrainIdle(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		d := server(t, Config{})
		d.c.Drain("bye")
		wantGoAway(t, d.p, 1<<31-1, http2.ErrCodeNo, "bye")
		wantGoAway(t, d.p, 0, http2.ErrCodeNo, "bye")
		d.p.WantClosed()
		// The client answered the PING and has no streams: nothing is waited for,
		// though it keeps its end open.
		start := time.Now()
		d.wantEnd(Closed, NoError)
		if took := d.at.Sub(start); took != 0 {
			t.Errorf("it took %v", took)
		}
		d = asServer(t, Config{}, simnet.Options{}) // before the client said anything
		d.c.Drain("early")
		d.p.OK(d.p.Peer.SendPreface())
		d.p.Want(http2.FrameSettings)
		wantGoAway(t, d.p, 0, http2.ErrCodeNo, "early")
		d.p.WantClosed()
		d.wantEnd(Closed, NoError)
	})
}

func TestClientDrain(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		d := client(t, Config{})
		s := d.open(nil, true)
		d.p.WantHeaders(1)
		d.c.Drain("bye")
		var g *GoAwayError
		if err := d.c.Open(&(&testStream{}).Stream, Header{Fixed: request}, nil, true, nil); !errors.As(err, &g) || !g.Local {
			t.Errorf("Open: %v", err)
		}
		d.p.SendHeaders(1, true, ":status", "200")
		if _, _, ended, err := s.saw(); !ended || err != nil {
			t.Errorf("the call under way: %v", err)
		}
		d.p.WantGoAway(http2.ErrCodeNo)
		d.p.WantClosed()
		d.p.Close()
		d.wantEnd(Closed, NoError)
	})
}

func TestGoAwayReceived(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		d := client(t, Config{})
		var s [3]*testStream
		for i := range s {
			s[i] = d.open(nil, true)
			d.p.WantHeaders(uint32(2*i + 1))
		}
		want := func(s *testStream, last uint32, code Code, debug string) {
			t.Helper()
			_, _, _, err := s.saw()
			var g *GoAwayError
			if !errors.As(err, &g) || g.LastID != last || g.Code != code || g.Debug != debug || g.Local || s.closes != 1 {
				t.Fatalf("stream %d: %v", s.ID(), err)
			}
		}
		d.p.SendGoAway(3, http2.ErrCodeNo, "first")
		want(s[2], 3, NoError, "first")
		var g *GoAwayError
		unsent := &testStream{}
		unsent.Attach(unsent)
		if err := d.c.Open(&unsent.Stream, Header{Fixed: request}, nil, true, nil); !errors.As(err, &g) || g.Debug != "first" || unsent.Sent() {
			t.Errorf("Open: %v", err)
		}
		if _, _, _, err := s[1].saw(); err != nil {
			t.Fatalf("stream 3: %v", err)
		}
		d.p.SendGoAway(1, http2.ErrCodeEnhanceYourCalm, "too_many_pings")
		want(s[1], 1, EnhanceYourCalm, "too_many_pings")
		d.p.SendHeaders(3, true, ":status", "200") // too late, no violation
		d.p.SendHeaders(1, false, ":status", "200")
		d.p.SendData(1, []byte("x"), true)
		if heads, body, ended, err := s[0].saw(); heads != 1 || body != "x" || !ended || err != nil {
			t.Errorf("stream 1: %v", err)
		}
		d.p.WantGoAway(http2.ErrCodeNo)
		d.p.WantClosed()
		err := d.wantEnd(Closed, NoError)
		if err.By != Peer || err.GoAway == nil || err.GoAway.Debug != "too_many_pings" || len(d.goAways) != 2 || d.goAways[0].Debug != "first" {
			t.Errorf("%v; %v", err, d.goAways)
		}
	})
}

func TestClose(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		d := client(t, Config{})
		s := d.open(nil, false)
		d.p.WantHeaders(1)
		d.c.Close(EnhanceYourCalm, "why")
		d.c.Close(NoError, "again")
		wantGoAway(t, d.p, 0, http2.ErrCodeEnhanceYourCalm, "why")
		d.p.WantClosed()
		err := d.wantEnd(Closed, EnhanceYourCalm)
		d.c.Abort(errOver)
		if _, _, _, got := s.saw(); got != error(err) || err.Reason != "why" || err.By != Local || s.closes != 1 {
			t.Errorf("%v", got)
		}
		if err := d.c.Open(&(&testStream{}).Stream, Header{Fixed: request}, nil, true, nil); err != error(d.c.Err()) {
			t.Errorf("Open: %v", err)
		}
		if err := s.WriteData([]byte("x"), true, nil); err != ErrEnded {
			t.Errorf("WriteData: %v", err)
		}
		s.Reset(Cancel)
		s.Consumed(1 << 24)
		d.c.Drain("late")
	})
}

// A peer that does not read cannot hold up the end.
func TestCloseWithAPeerThatDoesNotRead(t *testing.T) {
	for name, closing := range map[string]func(*Conn){"Close": func(c *Conn) { c.Close(NoError, "") }, "Abort": func(c *Conn) { c.Abort(errOver) }} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				cn, sn := simnet.Pipe(simnet.Options{Buffer: 1000})
				defer sn.Close()
				d := &dialogue{t: t}
				d.c = NewClient(cn, Config{}, d)
				d.run()
				_, got := d.opening(make([]byte, 60000), nil)
				if err := <-got; err != nil {
					t.Fatal(err)
				}
				start := time.Now()
				closing(d.c)
				err := d.end()
				if took := d.at.Sub(start); took > flushTimeout || name == "Abort" && took != 0 {
					t.Errorf("it took %v", took)
				}
				if name == "Abort" && (err.Kind != Aborted || !errors.Is(err, errOver)) || name == "Close" && err.Kind != Closed {
					t.Errorf("%v", err)
				}
				time.Sleep(time.Minute) // no timer goes on
				d.c.mu.Lock()
				defer d.c.mu.Unlock()
				if d.c.out.wake != nil || cap(d.c.out.b)+cap(d.c.out.spare) != 0 {
					t.Error("the write buffer is still held")
				}
			})
		})
	}
}

// byteCut is a connection whose sending side breaks at an exact byte, as a
// socket does: it says how much it took.
type byteCut struct {
	net.Conn
	mu   sync.Mutex
	left int
}

func (b *byteCut) Write(p []byte) (int, error) {
	b.mu.Lock()
	n := min(len(p), b.left)
	b.left -= n
	b.mu.Unlock()
	n, err := b.Conn.Write(p[:n])
	if err == nil && n < len(p) {
		err = syscall.EPIPE
	}
	return n, err
}

// Sent is exact at every byte: false if and only if the peer cannot have seen
// the whole header section.
func TestSentAtEveryByte(t *testing.T) {
	total := 1 << 20 // of the first round, which is not cut
	for cut := -1; cut < total; cut++ {
		inBubble(t, func(t *testing.T) {
			cn, sn := simnet.Pipe(simnet.Options{})
			received := make(chan []byte, 1)
			go func() {
				b, _ := io.ReadAll(sn)
				received <- b
			}()
			d := &dialogue{t: t}
			d.c = NewClient(&byteCut{Conn: cn, left: (cut + total + 1) % (total + 1)}, Config{}, d)
			d.c.mu.Lock()
			d.c.out.exact = true // as on a socket
			d.c.mu.Unlock()
			go d.c.Run()
			var all []*testStream
			for i := range 3 {
				s := &testStream{}
				s.Attach(s)
				all = append(all, s)
				_ = d.c.Open(&s.Stream, Header{Fixed: request}, []byte("body"), i != 1, nil)
				if i == 0 {
					synctest.Wait()
				}
			}
			synctest.Wait()
			if cut < 0 {
				d.c.mu.Lock()
				total = int(d.c.out.taken)
				d.c.mu.Unlock()
			}
			cn.Close()
			d.end()
			whole := headersIn(<-received)
			for i, s := range all {
				if sent, seen := s.Sent(), whole[uint32(2*i+1)]; sent != seen {
					t.Errorf("cut after %d: stream %d: Sent %v, the peer has its HEADERS: %v", cut, 2*i+1, sent, seen)
				}
			}
			sn.Close()
		})
	}
	if total < 100 || total == 1<<20 {
		t.Errorf("only %d bytes were tried", total)
	}
}

// A stream that was told of its connection's end as unsent is never sent
// afterwards, however long the peer takes to make room: GOAWAY is all that
// still leaves.
func TestViolationWithdrawsWhatHasNotLeft(t *testing.T) {
	for room := 60; room < 200; room++ {
		inBubble(t, func(t *testing.T) {
			cn, sn := simnet.Pipe(simnet.Options{Buffer: room})
			d := &dialogue{t: t}
			d.c = NewClient(cn, Config{}, d)
			go d.c.Run()
			var all []*testStream
			for range 5 {
				s := &testStream{}
				s.Attach(s)
				all = append(all, s)
				if err := d.c.Open(&s.Stream, Header{Fixed: request}, nil, true, nil); err != nil {
					t.Fatal(err)
				}
				synctest.Wait() // the writer hangs from some stream on
			}
			bad := frame.AppendWindowUpdate(frame.AppendSettings(nil), 0, 0)
			if _, err := sn.Write(bad); err != nil {
				t.Fatal(err)
			}
			synctest.Wait()
			told := make([]bool, len(all))
			for i, s := range all {
				if _, _, _, err := s.saw(); err == nil {
					t.Errorf("room for %d: stream %d was not told", room, 2*i+1)
				}
				told[i] = s.Sent()
			}
			b, err := io.ReadAll(sn)
			if err != nil {
				t.Fatal(err)
			}
			sn.Close()
			d.end()
			whole := headersIn(b)
			for i, s := range all {
				if id := uint32(2*i + 1); !told[i] && whole[id] || s.Sent() != whole[id] {
					t.Errorf("room for %d: stream %d: Sent %v when it was told and %v later, the peer has its HEADERS: %v", room, id, told[i], s.Sent(), whole[id])
				}
			}
			if room < 120 && whole[9] {
				t.Errorf("room for %d: nothing was withdrawn", room)
			}
			if want := frame.AppendGoAway(nil, 0, codeProtocol, d.ended.Reason); !bytes.HasSuffix(b, want) {
				t.Errorf("room for %d: the last frame is not GOAWAY: %q", room, b[max(0, len(b)-60):])
			}
		})
	}
}

// headersIn finds the streams whose header section is whole in a client's bytes.
func headersIn(b []byte) map[uint32]bool {
	whole := map[uint32]bool{}
	b = b[min(len(b), len(frame.Preface)):]
	for len(b) >= frame.HeaderLen {
		h := frame.ParseHeader(b)
		if len(b) < frame.HeaderLen+int(h.Length) {
			break
		}
		if (h.Type == frame.Headers || h.Type == frame.Continuation) && h.Flags.Has(frame.EndHeaders) {
			whole[h.Stream] = true
		}
		b = b[frame.HeaderLen+int(h.Length):]
	}
	return whole
}

// Wherever the connection breaks, in either direction, each call ends and
// nothing hangs.
func TestLostAtEveryByte(t *testing.T) {
	faults := map[string]func(int64) simnet.Fault{"cut": simnet.CutAfter, "FIN": simnet.FINAfter}
	for name, fault := range faults {
		for _, toServer := range []bool{true, false} {
			for n := int64(0); n < 260; n += 1 + n%3 {
				inBubble(t, func(t *testing.T) {
					var o simnet.Options
					if toServer {
						o.ToServer = []simnet.Fault{fault(n)}
					} else {
						o.ToClient = []simnet.Fault{fault(n)}
					}
					cn, sn := simnet.Pipe(o)
					s := &dialogue{t: t}
					s.c = NewServer(sn, Config{}, s)
					var answers sync.WaitGroup
					s.answering(&answers)
					s.run()
					c := &dialogue{t: t}
					c.c = NewClient(cn, Config{}, c)
					c.run()
					for range 3 {
						st, got := c.opening([]byte("hello"), nil)
						err := <-got
						time.Sleep(time.Second)
						_, body, ended, closed := st.saw()
						var ce *ConnError
						switch {
						case ended && body == "hello" && closed == nil:
						case errors.As(err, &ce), errors.As(closed, &ce):
							if ce != c.c.Err() && !errors.Is(ce.Err, c.c.Err().Err) {
								t.Errorf("%s %v %d: told %v, ended by %v", name, toServer, n, ce, c.c.Err())
							}
						default:
							// A clean end of one direction is noticed by who reads it only.
							if s.c.Err() == nil && c.c.Err() == nil && name != "FIN" {
								t.Errorf("%s %v %d: Open %v, ended %v, %v", name, toServer, n, err, ended, closed)
							}
						}
					}
				})
			}
		}
	}
}

// What the peer said before our write failed is heard: answers, and GOAWAY.
func TestGoAwaySurvivesAFailedWrite(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		cn, sn := simnet.Pipe(simnet.Options{Latency: 50 * time.Millisecond})
		cut := &byteCut{Conn: cn, left: 1 << 20}
		p := peer.Server(t, sn)
		d := &dialogue{t: t, p: p}
		d.c = NewClient(cut, Config{}, d)
		d.run()
		p.Handshake()
		first := d.open(nil, true)
		p.WantHeaders(1)
		p.SendHeaders(1, true, ":status", "200")
		p.SendGoAway(1, http2.ErrCodeEnhanceYourCalm, "too_many_pings")
		cut.mu.Lock()
		cut.left = 0
		cut.mu.Unlock()
		second := d.open(nil, true) // its write fails, 50 ms before the GOAWAY comes
		p.OK(p.CloseWrite())
		err := d.wantEnd(Lost, 0)
		if !errors.Is(err, syscall.EPIPE) || err.GoAway == nil || err.GoAway.Debug != "too_many_pings" {
			t.Errorf("%+v", err)
		}
		if _, _, ended, err := first.saw(); !ended || err != nil {
			t.Errorf("the answered call: %v", err)
		}
		var g *GoAwayError
		if _, _, _, err := second.saw(); !errors.As(err, &g) || second.closes != 1 {
			t.Errorf("the call above the last id: %v", err)
		}
	})
}

func TestFailedWriteEndsSoon(t *testing.T) {
	for name, conn := range map[string]func(*simnet.Conn) net.Conn{
		"with deadlines": func(c *simnet.Conn) net.Conn { return c },
		"without":        func(c *simnet.Conn) net.Conn { return noDeadlines{c} },
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				cn, sn := simnet.Pipe(simnet.Options{Client: []simnet.OpFault{simnet.FailWrite(1, syscall.EPIPE)}})
				defer sn.Close()
				d := &dialogue{t: t}
				start := time.Now()
				d.c = NewClient(conn(cn), Config{}, d)
				d.run()
				err := d.wantEnd(Lost, 0)
				if took := d.at.Sub(start); took > lingerTime || !errors.Is(err, syscall.EPIPE) {
					t.Errorf("after %v: %v", took, err)
				}
			})
		})
	}
}

// noDeadlines is a connection that has none.
type noDeadlines struct{ net.Conn }

func (noDeadlines) SetReadDeadline(time.Time) error { return errors.ErrUnsupported }

func TestErrorTexts(t *testing.T) {
	goAway := &GoAwayError{Code: EnhanceYourCalm, LastID: 7, Debug: "too_many_pings"}
	for err, want := range map[error]string{
		&ConnError{Kind: Lost, By: Peer, Err: io.EOF}:                   "connection lost: EOF",
		&ConnError{Kind: Lost, Err: io.EOF, GoAway: goAway}:             `connection lost after GOAWAY ENHANCE_YOUR_CALM, last stream 7, debug data "too_many_pings": EOF`,
		&ConnError{Kind: Violation, Code: ProtocolError, Reason: "why"}: "connection error PROTOCOL_ERROR: why",
		&ConnError{Kind: NotHTTP2, Reason: "why"}:                       "peer does not speak HTTP/2: why",
		&ConnError{Kind: PrefaceTimeout}:                                "no HTTP/2 SETTINGS from the peer in time",
		&ConnError{Kind: SettingsTimeout, Reason: "why"}:                "SETTINGS not acknowledged in time: why",
		&ConnError{Kind: Closed, Reason: "why"}:                         "connection closed by this side (NO_ERROR): why",
		&ConnError{Kind: Aborted, Err: errOver}:                         "connection given up: the test is over",
		&StreamError{By: Peer, Code: Cancel}:                            "stream reset by peer: CANCEL",
		&StreamError{By: Local, Code: FlowControlError, Reason: "why"}:  "stream error FLOW_CONTROL_ERROR: why",
		&GoAwayError{Local: true}:                                       "connection is being retired by this side",
		&GoAwayError{Code: NoError, LastID: 3}:                          "GOAWAY NO_ERROR, last stream 3",
	} {
		if got := err.Error(); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
	if Local.String() != "local" || Peer.String() != "peer" || halfClosedLocal.String() != "half-closed (local)" {
		t.Error("names")
	}
}
