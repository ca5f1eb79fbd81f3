// SPDX-License-Identifier: Apache-2.0

package wire

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/net/http2"
	spb "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/faultline-rpc/faultline/fault"
	"github.com/faultline-rpc/faultline/h2"
	"github.com/faultline-rpc/faultline/h2/hpack"
	"github.com/faultline-rpc/faultline/internal/peer"
	"github.com/faultline-rpc/faultline/internal/simnet"
)

// start opens a stream and lets the peer see its headers.
func start(t *testing.T, conn *h2.Conn, p *peer.T, unary bool) *ClientStream {
	t.Helper()
	s := new(ClientStream)
	if err := s.Start(conn, request(unary), framed([]byte("q")), true, nil); err != nil {
		t.Fatal(err)
	}
	p.WantHeaders(s.ID())
	p.WantMessage(s.ID())
	return s
}

func TestRequestOnTheWire(t *testing.T) {
	bubble(t, "", func(t *testing.T) {
		conn, p := client(t, h2.Config{})
		var s ClientStream
		req := request(false)
		req.Template = NewTemplate(TemplateSpec{Scheme: "https", Authority: "h:1", Path: "/a.B/C", Subtype: "json", UserAgent: "u", Encoding: "gzip", AcceptEncoding: "gzip,zstd"})
		req.Timeout = 1500 * time.Millisecond
		req.Metadata = []hpack.Field{{Name: "x-a", Value: "1"}}
		if err := s.Start(conn, req, nil, false, nil); err != nil {
			t.Fatal(err)
		}
		p.WantHeaders(1, ":method", "POST", ":scheme", "https", ":authority", "h:1", ":path", "/a.B/C", "content-type", "application/grpc+json",
			"user-agent", "u", "te", "trailers", "grpc-encoding", "gzip", "grpc-accept-encoding", "gzip,zstd", "grpc-timeout", "1500000u", "x-a", "1")
		if err := s.Send(framed([]byte("one")), false, nil); err != nil {
			t.Fatal(err)
		}
		if err := s.CloseSend(); err != nil {
			t.Fatal(err)
		}
		if b := p.WantBody(1); !bytes.Equal(b, framed([]byte("one"))) {
			t.Errorf("the body is %x", b)
		}
		p.Answer(1, peer.Full([]string{":status", "200", "content-type", "application/grpc", "grpc-encoding", "gzip", "x-h", "1"},
			peer.MessageWith(1, 2, []byte("zz")), []string{"grpc-status", "0", "x-t", "2"}))
		h, err := s.Head(nil)
		if err != nil || h.Encoding != "gzip" || h.MD["x-h"][0] != "1" {
			t.Errorf("head %+v, %v", h, err)
		}
		m, err := s.Recv(nil)
		if err != nil || !m.Compressed || string(m.Data) != "zz" || m.WireLength() != 7 {
			t.Errorf("message %+v, %v", m, err)
		}
		m.Free()
		m.Free() // a zero message
		if _, err := s.Recv(nil); err != io.EOF {
			t.Errorf("the end: %v", err)
		}
		if md := s.Trailer(); md["x-t"][0] != "2" || s.Outcome() != nil || !s.Ended() {
			t.Errorf("trailer %v, outcome %v", md, s.Outcome())
		}
		if got := (s.Progress()); got != (Progress{Sent: true, Headers: true, Messages: 1, Trailers: true}) {
			t.Errorf("progress %+v", got)
		}
		if !s.Recyclable() {
			t.Error("a stream that ended in order cannot be used again")
		}
		if s.Cancel(); s.Trailer() != nil { // the caller may have decided before they came
			t.Errorf("trailer %v after Cancel", s.Trailer())
		}
		if err := s.CloseSend(); err != io.EOF {
			t.Errorf("CloseSend after the end: %v", err)
		}
	})
}

// Messages arrive whole whatever the frames, and whatever the reads.
func TestSplitFrames(t *testing.T) {
	payloads := [][]byte{[]byte("first"), nil, pattern(1, 40)}
	body := framed(payloads...)
	for _, maxRead := range []int{0, 1, 7} {
		for cut := 0; cut <= len(body); cut++ {
			bubble(t, fmt.Sprint(maxRead, " ", cut), func(t *testing.T) {
				a, b := simnet.Pipe(simnet.Options{MaxRead: maxRead})
				conn, p := clientOn(t, a, h2.Config{}), peer.Server(t, b)
				p.Handshake()
				s := start(t, conn, p, false)
				p.OK(headers(p.Peer, 1))
				if cut > 0 {
					p.SendData(1, body[:cut], false)
				}
				if cut%2 == 0 {
					synctest.Wait()
				}
				if cut < len(body) {
					p.SendData(1, body[cut:], false)
				}
				p.SendHeaders(1, true, "grpc-status", "0")
				for i, want := range payloads {
					m, err := s.Recv(nil)
					if err != nil || !bytes.Equal(m.Data, want) {
						t.Fatalf("message %d: %q, %v", i, m.Data, err)
					}
					m.Free()
				}
				if _, err := s.Recv(nil); err != io.EOF {
					t.Errorf("the end: %v", err)
				}
			})
		}
	}
}

// A message that is taken at once, or fills much of what was read, is lent; a
// small one that waits is not, so that it holds no large buffer.
func TestLentAndGathered(t *testing.T) {
	bubble(t, "", func(t *testing.T) {
		conn, p := client(t, h2.Config{})
		s := start(t, conn, p, false)
		p.OK(headers(p.Peer, 1))
		p.SendData(1, framed(pattern(0, 60_000)), false) // the reader takes its largest buffer
		m, _ := s.Recv(nil)
		m.Free()
		p.SendData(1, framed([]byte("tiny")), false)
		synctest.Wait()
		if lends(&s.recv) {
			t.Error("a tiny message that waits is lent")
		}
		m, _ = s.Recv(nil)
		m.Free()
		p.SendData(1, framed(pattern(1, 40_000)), false)
		synctest.Wait()
		if !lends(&s.recv) {
			t.Error("a message that fills much of the read buffer was copied")
		}
		held, _ := s.Recv(nil)
		go func() {
			synctest.Wait()
			p.SendData(1, framed([]byte("tiny")), false)
		}()
		m, err := s.Recv(nil)
		if m.read == nil || string(m.Data) != "tiny" {
			t.Errorf("a message that was waited for is %q, lent %v, %v", m.Data, m.read != nil, err)
		}
		m.Free()
		for i := range 50 { // the reader goes on; what is lent stays
			p.SendData(1, framed(pattern(i, 1500)), false)
			m, _ := s.Recv(nil)
			m.Free()
		}
		if !bytes.Equal(held.Data, pattern(1, 40_000)) {
			t.Error("a lent message changed while it was held")
		}
		held.Free()
	})
}

// A message may exceed the window, alone or behind others, awaited or not.
func TestLargerThanTheWindow(t *testing.T) {
	for _, unary := range []bool{true, false} {
		bubble(t, fmt.Sprint("unary ", unary), func(t *testing.T) {
			conn, p := client(t, h2.Config{StreamWindow: 1000})
			s := start(t, conn, p, unary)
			big := pattern(3, 300_000)
			payloads := [][]byte{big}
			if !unary {
				payloads = [][]byte{[]byte("a"), big, pattern(4, 5000), nil, pattern(5, 2000)}
			}
			sent := make(chan error, 1)
			go func() {
				sent <- peer.OK(payloads...)(p.Peer, 1)
			}()
			time.Sleep(time.Second)
			recv := s.Recv
			if unary {
				recv = s.RecvUnary
			}
			for i, want := range payloads {
				m, err := recv(nil)
				if err != nil || !bytes.Equal(m.Data, want) {
					t.Fatalf("message %d: %d bytes, %v", i, len(m.Data), err)
				}
				m.Free()
				time.Sleep(time.Second)
			}
			p.OK(<-sent)
		})
	}
}

// While nobody takes messages, no more comes than the window and the first of them.
func TestWindowBoundsWhatWaits(t *testing.T) {
	bubble(t, "", func(t *testing.T) {
		conn, p := client(t, h2.Config{StreamWindow: 1000}, peer.Options{Timeout: time.Hour})
		s := start(t, conn, p, false)
		sent := make(chan error, 1)
		go func() {
			var all [][]byte
			for i := range 200 {
				all = append(all, pattern(i, 100))
			}
			sent <- peer.OK(all...)(p.Peer, 1)
		}()
		time.Sleep(time.Minute)
		if n := queued(&s.recv); n > 1000+105 {
			t.Errorf("%d bytes wait behind a window of 1000", n)
		}
		for i := range 200 {
			if m, err := s.Recv(nil); err != nil || !bytes.Equal(m.Data, pattern(i, 100)) {
				t.Fatalf("message %d: %v", i, err)
			}
		}
		p.OK(<-sent)
	})
}

func TestUnaryGathersManyFrames(t *testing.T) {
	bubble(t, "", func(t *testing.T) {
		conn, p := client(t, h2.Config{})
		s := start(t, conn, p, true)
		p.OK(headers(p.Peer, 1))
		for _, b := range framed([]byte("byte by byte")) {
			p.SendData(1, []byte{b}, false)
		}
		p.SendHeaders(1, true, "grpc-status", "0")
		m, err := s.RecvUnary(nil)
		if err != nil || string(m.Data) != "byte by byte" {
			t.Fatalf("%q, %v", m.Data, err)
		}
		m.Free()
		_, err = s.RecvUnary(nil)
		want{"call.misuse", codes.Internal, fault.Local, fault.Yes, "received already"}.check(t, err)
	})
}

// RecvUnary of a call whose answer was not announced as unary: messages that
// came before it count.
func TestRecvUnaryAfterTwoMessages(t *testing.T) {
	bubble(t, "", func(t *testing.T) {
		conn, p := client(t, h2.Config{})
		s := start(t, conn, p, false)
		p.OK(headers(p.Peer, 1))
		p.SendData(1, framed([]byte("a"), []byte("b")), false)
		synctest.Wait()
		_, err := s.RecvUnary(nil)
		want{"wire.cardinality", codes.Unimplemented, fault.Remote, fault.Yes, "2 messages"}.check(t, err)
		p.WantRST(1, http2.ErrCodeCancel)
	})
}

func TestDetailsArrive(t *testing.T) {
	bubble(t, "", func(t *testing.T) {
		conn, p := client(t, h2.Config{})
		s := start(t, conn, p, true)
		detail, _ := anypb.New(wrapperspb.String("why"))
		b, _ := proto.Marshal(&spb.Status{Code: 9, Message: "richer", Details: []*anypb.Any{detail}})
		p.Answer(1, peer.TrailersOnly(9, "plain", detailsName, base64.StdEncoding.EncodeToString(b), "x-t", "1"))
		_, err := s.RecvUnary(nil)
		f := want{"handler.status", codes.FailedPrecondition, fault.Remote, fault.Yes, "richer"}.check(t, err)
		if d := f.Details(); len(d) != 1 || !proto.Equal(d[0], detail) {
			t.Errorf("details %v", d)
		}
		if f.Message() != "richer" || !f.Evidence().Answered || s.Trailer()["x-t"][0] != "1" {
			t.Errorf("message %q, evidence %+v, trailer %v", f.Message(), f.Evidence(), s.Trailer())
		}
		if h, err := s.Head(nil); h != nil || err != nil {
			t.Errorf("a trailers-only answer has the head %v, %v", h, err)
		}
	})
}

// An answer that is no gRPC is kept as a sample, and never passes for the
// head of an answer: the call may still be retried.
func TestForeignAnswer(t *testing.T) {
	bubble(t, "", func(t *testing.T) {
		conn, p := client(t, h2.Config{})
		s := start(t, conn, p, true)
		p.SendHeaders(1, false, ":status", "503", "content-type", "text/html", "server", "nginx")
		p.SendData(1, []byte("<h1>"), false)
		synctest.Wait()
		if s.Progress().Headers {
			t.Error("the head of a web page counts as response headers")
		}
		head := make(chan *ResponseHead)
		go func() {
			h, _ := s.Head(nil)
			head <- h
		}()
		synctest.Wait()
		p.SendData(1, []byte("down</h1>\x00"), true)
		if h := <-head; h != nil {
			t.Errorf("head %+v", h)
		}
		_, err := s.RecvUnary(nil)
		f := want{"wire.http-status", codes.Unavailable, fault.Between, fault.Maybe, ""}.check(t, err)
		if ev := f.Evidence(); ev.Sample != "<h1>down</h1>." || ev.HTTPStatus != 503 || ev.HTTPServer != "nginx" || ev.Content != "text/html" {
			t.Errorf("evidence %+v", ev)
		}
		// Its window was given back meanwhile; a long one is cut off.
		s = start(t, conn, p, true)
		p.SendHeaders(3, false, ":status", "200", "content-type", "text/html")
		p.SendData(3, bytes.Repeat([]byte("y"), 100_000), false)
		_, err = s.RecvUnary(nil)
		f = want{"wire.content-type", codes.Unknown, fault.Between, fault.Maybe, ""}.check(t, err)
		if n := len(f.Evidence().Sample); n != 512 {
			t.Errorf("the sample has %d bytes", n)
		}
		p.WantRST(3, http2.ErrCodeCancel)
	})
}

// A body that claims to be gRPC's has advice of its own: no message of another
// version is at fault.
func TestUnframedAnswer(t *testing.T) {
	bubble(t, "", func(t *testing.T) {
		conn, p := client(t, h2.Config{})
		s := start(t, conn, p, true)
		p.SendHeaders(1, false, ":status", "200", "content-type", "application/grpc")
		p.SendData(1, []byte("<html>"), true)
		_, err := s.RecvUnary(nil)
		f := want{"codec.response-parse", codes.Internal, fault.Remote, fault.Maybe, "starts with 0x3c"}.check(t, err)
		if r := f.Remedy(); r != remedyUnframed || len(r) > 400 {
			t.Errorf("the remedy is %q", r)
		}
	})
}

// An answer that is no gRPC and never ends is known for what it is all the same.
func TestForeignAnswerWithoutEnd(t *testing.T) {
	bubble(t, "", func(t *testing.T) {
		conn, p := client(t, h2.Config{})
		for i, body := range []string{"", "<h1>"} {
			s := start(t, conn, p, true)
			id := uint32(2*i + 1)
			p.SendHeaders(id, false, ":status", "502", "content-type", "text/html")
			if body != "" {
				p.SendData(id, []byte(body), false)
			}
			begin := time.Now()
			_, err := s.RecvUnary(nil)
			if took := time.Since(begin); took != foreignTime {
				t.Errorf("it took %v", took)
			}
			f := want{"wire.http-status", codes.Unavailable, fault.Between, fault.Maybe, "502"}.check(t, err)
			if got := f.Evidence().Sample; got != body {
				t.Errorf("the sample is %q", got)
			}
			p.WantRST(id, http2.ErrCodeCancel)
		}
		// What ends in time is not looked at again.
		s := start(t, conn, p, true)
		p.SendHeaders(5, false, ":status", "502", "content-type", "text/html")
		p.SendHeaders(5, true, "grpc-status", "14")
		if _, err := s.RecvUnary(nil); fault.HandlerStatus.Is(err) != true {
			t.Errorf("%v", err)
		}
		time.Sleep(2 * foreignTime)
		p.WantQuiet(time.Second)
	})
}

func TestHeadBesideRecv(t *testing.T) {
	bubble(t, "", func(t *testing.T) {
		conn, p := client(t, h2.Config{})
		s := start(t, conn, p, false)
		heads := make(chan *ResponseHead, 3)
		for range 3 {
			go func() {
				h, _ := s.Head(nil)
				heads <- h
			}()
		}
		message := make(chan error, 1)
		go func() {
			m, err := s.Recv(nil)
			m.Free()
			message <- err
		}()
		done := make(chan struct{})
		close(done)
		if _, err := s.Head(done); err != ErrDone {
			t.Errorf("Head with done: %v", err)
		}
		synctest.Wait()
		p.Answer(1, peer.OK([]byte("x")))
		for range 3 {
			if h := <-heads; h == nil || !h.GRPC {
				t.Errorf("head %+v", h)
			}
		}
		if err := <-message; err != nil {
			t.Error(err)
		}
	})
}

// The server may answer before the request has ended.
func TestEarlyAnswer(t *testing.T) {
	bubble(t, "", func(t *testing.T) {
		conn, p := client(t, h2.Config{}, peer.Options{NoCredit: true})
		var s ClientStream
		started := make(chan error, 1)
		go func() { started <- s.Start(conn, request(true), framed(pattern(1, 200_000)), true, nil) }()
		p.WantHeaders(1)
		p.WantData(1, 60_000)
		p.Answer(1, peer.OK([]byte("enough")))
		if err := <-started; err != nil {
			t.Errorf("Start: %v", err)
		}
		m, err := s.RecvUnary(nil)
		if err != nil || string(m.Data) != "enough" {
			t.Errorf("%q, %v", m.Data, err)
		}
		p.WantData(1, 5535)
		p.WantRST(1, http2.ErrCodeNo)
		if s.Recyclable() {
			t.Error("a stream whose request did not end may be used again")
		}
	})
}

func TestStartFails(t *testing.T) {
	never := want{"http2.goaway", codes.Unavailable, fault.Remote, fault.No, ""}
	tests := []struct {
		name    string
		options peer.Options
		before  func(conn *h2.Conn, p *peer.T)
		done    bool
		want    want
	}{
		{"after GOAWAY", peer.Options{}, func(conn *h2.Conn, p *peer.T) { p.SendGoAway(0, 0, "max_age") }, false, never},
		{"retired by this side", peer.Options{}, func(conn *h2.Conn, p *peer.T) {
			(&ClientStream{}).Start(conn, request(true), nil, false, nil)
			conn.Drain("")
		}, false, want{"http2.goaway", codes.Unavailable, fault.Local, fault.No, "retiring"}},
		{"lost", peer.Options{}, func(conn *h2.Conn, p *peer.T) { p.Cut() }, false, want{"http2.connection-lost", codes.Unavailable, fault.Between, fault.No, ""}},
		{"closed by this side", peer.Options{}, func(conn *h2.Conn, p *peer.T) { conn.Close(0, "") }, false, want{"http2.goaway", codes.Unavailable, fault.Local, fault.No, "retiring"}},
		{"aborted", peer.Options{}, func(conn *h2.Conn, p *peer.T) { conn.Abort(nil) }, false, want{"call.closed", codes.Canceled, fault.Local, fault.No, ""}},
		{"header list", peer.Options{Settings: []http2.Setting{{ID: http2.SettingMaxHeaderListSize, Val: 100}}}, func(*h2.Conn, *peer.T) {}, false,
			want{"http2.header-list", codes.Internal, fault.Local, fault.No, "larger than"}},
		{"no free stream", peer.Options{Settings: []http2.Setting{{ID: http2.SettingMaxConcurrentStreams, Val: 0}}}, func(*h2.Conn, *peer.T) {}, true, want{}},
	}
	for _, tt := range tests {
		bubble(t, tt.name, func(t *testing.T) {
			conn, p := client(t, h2.Config{}, tt.options)
			synctest.Wait()
			tt.before(conn, p)
			synctest.Wait()
			var s ClientStream
			done := make(chan struct{})
			if tt.done {
				close(done)
			}
			err := s.Start(conn, request(true), framed([]byte("q")), true, done)
			if tt.done {
				if err != ErrDone || s.Progress().Sent {
					t.Errorf("%v, progress %+v", err, s.Progress())
				}
				s.Cancel()
				return
			}
			f := tt.want.check(t, err)
			if ev := f.Evidence(); ev.Sent || ev.Method != "/pkg.Greeter/Hello" || ev.Address == "" {
				t.Errorf("evidence %+v", ev)
			}
		})
	}
}

// What never left this process was not processed, however the connection ended.
func TestNotSent(t *testing.T) {
	bubble(t, "", func(t *testing.T) {
		a, b := simnet.Pipe(simnet.Options{Buffer: 1})
		conn := clientOn(t, a, h2.Config{})
		synctest.Wait() // the writer is stuck in the preface
		var s ClientStream
		if err := s.Start(conn, request(true), framed([]byte("q")), true, nil); err != nil {
			t.Fatal(err)
		}
		b.Cut()
		_, err := s.RecvUnary(nil)
		f := want{"http2.connection-lost", codes.Unavailable, fault.Between, fault.No, ""}.check(t, err)
		if f.Evidence().Sent {
			t.Error("evidence says that it was sent")
		}
	})
}

// A connection that never became HTTP/2 ran no handler. Channels hand out none
// before it did; this is for whoever does not wait.
func TestNeverHTTP2(t *testing.T) {
	for answer, w := range map[string]want{
		"HTTP/1.1 400 Bad Request\r\n\r\n": {"http2.protocol", codes.Internal, fault.Remote, fault.No, "SETTINGS"},
		"":                                 {"http2.settings-timeout", codes.Unavailable, fault.Remote, fault.No, "sent no SETTINGS"},
	} {
		bubble(t, answer, func(t *testing.T) {
			a, b := simnet.Pipe(simnet.Options{})
			conn := clientOn(t, a, h2.Config{})
			var s ClientStream
			if err := s.Start(conn, request(true), framed([]byte("q")), true, nil); err != nil {
				t.Fatal(err)
			}
			b.Write([]byte(answer))
			_, err := s.RecvUnary(nil)
			w.check(t, err)
		})
	}
}

func TestEndsFromThisSide(t *testing.T) {
	stamped := fault.HTTP2Keepalive.New(fault.Args{Side: fault.Between})
	tests := []struct {
		name string
		end  func(conn *h2.Conn)
		want want
	}{
		{"closed", func(c *h2.Conn) { c.Close(0, "") }, want{"call.closed", codes.Canceled, fault.Local, fault.Maybe, ""}},
		{"aborted", func(c *h2.Conn) { c.Abort(errors.New("x")) }, want{"call.closed", codes.Canceled, fault.Local, fault.Maybe, ""}},
		{"aborted with a fault", func(c *h2.Conn) { c.Abort(stamped) }, want{"http2.keepalive", codes.Unavailable, fault.Between, fault.Maybe, ""}},
		{"settings", func(*h2.Conn) {}, want{"http2.settings-timeout", codes.Unavailable, fault.Remote, fault.Maybe, "SETTINGS"}},
	}
	for _, tt := range tests {
		bubble(t, tt.name, func(t *testing.T) {
			conn, p := client(t, h2.Config{}, peer.Options{NoSettingsAck: true})
			s := start(t, conn, p, true)
			tt.end(conn)
			_, err := s.RecvUnary(nil)
			f := tt.want.check(t, err)
			if ev := f.Evidence(); ev.Method != "/pkg.Greeter/Hello" || ev.Stream != 1 || !ev.Sent {
				t.Errorf("evidence %+v", ev)
			}
		})
	}
}

func TestCancel(t *testing.T) {
	for _, unary := range []bool{true, false} {
		bubble(t, fmt.Sprint("unary ", unary), func(t *testing.T) {
			conn, p := client(t, h2.Config{})
			s := start(t, conn, p, unary)
			p.OK(headers(p.Peer, 1))
			got := make(chan error, 2)
			go func() {
				recv := s.Recv
				if unary {
					recv = s.RecvUnary
				}
				_, err := recv(nil)
				got <- err
			}()
			go func() {
				s.Head(nil)
				got <- ErrDone
			}()
			synctest.Wait()
			s.Cancel()
			s.Cancel()
			if err := errors.Join(<-got, <-got); !errors.Is(err, ErrDone) {
				t.Error(err)
			}
			p.WantRST(1, http2.ErrCodeCancel)
			p.OK(peer.OK([]byte("late"))(p.Peer, 1))
			synctest.Wait()
			if queued(&s.recv) != 0 || s.Recyclable() {
				t.Errorf("%d bytes wait, recyclable %v", queued(&s.recv), s.Recyclable())
			}
			if err := s.Send(framed(nil), true, nil); err != io.EOF {
				t.Errorf("Send: %v", err)
			}
		})
	}
	bubble(t, "with an answer that waits", func(t *testing.T) {
		conn, p := client(t, h2.Config{})
		s := start(t, conn, p, true)
		p.Answer(1, peer.OK([]byte("x")))
		synctest.Wait()
		s.Cancel()
		if _, err := s.RecvUnary(nil); err != ErrDone {
			t.Errorf("RecvUnary after Cancel: %v", err)
		}
		if s.Recyclable() {
			t.Error("recyclable after Cancel")
		}
	})
	bubble(t, "with messages and an OK that wait", func(t *testing.T) {
		conn, p := client(t, h2.Config{})
		s := start(t, conn, p, false)
		p.Answer(1, peer.OK([]byte("x"), []byte("y")))
		if m, err := s.Recv(nil); err != nil || string(m.Data) != "x" {
			t.Errorf("%q, %v", m.Data, err)
		}
		synctest.Wait()
		s.Cancel()
		if _, err := s.Recv(nil); err != ErrDone {
			t.Errorf("a message was lost and the end is %v", err)
		}
	})
	bubble(t, "after the end", func(t *testing.T) {
		conn, p := client(t, h2.Config{})
		s := start(t, conn, p, false)
		p.Answer(1, peer.OK())
		synctest.Wait()
		s.Cancel()
		if _, err := s.Recv(nil); err != io.EOF || s.Outcome() != nil {
			t.Errorf("the end is %v, outcome %v", err, s.Outcome())
		}
	})
}
