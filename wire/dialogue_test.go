// SPDX-License-Identifier: Apache-2.0

package wire

import (
	"net"
	"strings"
	"testing"
	"testing/synctest"

	"golang.org/x/net/http2"
	"google.golang.org/grpc/codes"

	"github.com/faultline-rpc/faultline/codec"
	"github.com/faultline-rpc/faultline/fault"
	"github.com/faultline-rpc/faultline/h2"
	"github.com/faultline-rpc/faultline/internal/peer"
	"github.com/faultline-rpc/faultline/internal/simnet"
)

// quiet is a client's connection handler. It tells when the peer's SETTINGS
// have come.
type quiet struct{ ready chan struct{} }

func (q quiet) Ready()                       { close(q.ready) }
func (quiet) NewStream(*h2.Block) *h2.Stream { return nil }
func (quiet) BatchEnd()                      {}
func (quiet) GoAway(*h2.GoAwayError)         {}
func (quiet) Closed(*h2.ConnError)           {}

const limit = 1 << 20

var hello = NewTemplate(TemplateSpec{Scheme: "http", Authority: "host", Path: "/pkg.Greeter/Hello", UserAgent: "test"})

func request(unary bool) *Request {
	return &Request{Template: hello, MaxRecv: codec.Limit{Bytes: limit, Option: "MaxCallRecvMsgSize"}, Unary: unary}
}

// clientOn runs a client's connection for the length of the test.
func clientOn(t *testing.T, nc net.Conn, cfg h2.Config) *h2.Conn {
	t.Helper()
	conn, _ := clientReady(t, nc, cfg)
	return conn
}

func clientReady(t *testing.T, nc net.Conn, cfg h2.Config) (*h2.Conn, chan struct{}) {
	t.Helper()
	q := quiet{make(chan struct{})}
	conn := h2.NewClient(nc, cfg, q)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		conn.Run()
	}()
	t.Cleanup(func() {
		conn.Close(h2.NoError, "")
		<-ended
	})
	return conn, q.ready
}

// client is, in a bubble, a client's connection and the scripted server behind it.
func client(t *testing.T, cfg h2.Config, o ...peer.Options) (*h2.Conn, *peer.T) {
	t.Helper()
	a, b := simnet.Pipe(simnet.Options{})
	conn := clientOn(t, a, cfg)
	p := peer.Server(t, b, o...)
	p.Handshake()
	synctest.Wait() // its acknowledgement counts from now on
	return conn, p
}

// bubble runs a dialogue in fake time.
func bubble(t *testing.T, name string, f func(t *testing.T)) {
	t.Helper()
	t.Run(name, func(t *testing.T) { synctest.Test(t, f) })
}

// want is how a call is to fail.
type want struct {
	id        fault.ID
	code      codes.Code
	side      fault.Side
	processed fault.Processed
	text      string // part of the message
}

func (w want) check(t *testing.T, err error) *fault.Fault {
	t.Helper()
	f, ok := fault.From(err)
	if !ok {
		t.Fatalf("got %v, want %s", err, w.id)
	}
	if got := (want{f.ID(), f.Code(), f.Side(), f.Processed(), w.text}); got != w || f.Misplaced() {
		t.Errorf("got  %+v\nwant %+v", got, w)
	}
	if !strings.Contains(f.Message(), w.text) {
		t.Errorf("message %q lacks %q", f.Message(), w.text)
	}
	return f
}

// answers is every way in which an answer can go wrong.
var answers = []struct {
	name   string
	answer peer.Answer
	cfg    h2.Config
	want   want
	rst    bool // the client resets the stream with CANCEL
}{
	{"status", peer.TrailersOnly(5, "no such thing"), h2.Config{}, want{"handler.status", codes.NotFound, fault.Remote, fault.Yes, "no such thing"}, false},
	{"status of a library", peer.TrailersOnly(14, "busy"), h2.Config{}, want{"handler.status", codes.Unavailable, fault.Remote, fault.Maybe, "busy"}, false},
	{"status after a message", peer.Body(peer.Message([]byte("x")), "grpc-status", "14"), h2.Config{}, want{"handler.status", codes.Unavailable, fault.Remote, fault.Yes, ""}, false},
	{"private code", peer.TrailersOnly(77, ""), h2.Config{}, want{"handler.status", 77, fault.Remote, fault.Maybe, ""}, false},
	{"no message", peer.OK(), h2.Config{}, want{"wire.cardinality", codes.Unimplemented, fault.Remote, fault.Maybe, "no message, want exactly one"}, false},
	{"two messages", peer.OK([]byte("a"), []byte("b")), h2.Config{}, want{"wire.cardinality", codes.Unimplemented, fault.Remote, fault.Yes, "2 messages came, want exactly one"}, true},
	{"end on DATA", peer.MissingTrailers([]byte("x")), h2.Config{}, want{"wire.trailers-missing", codes.Internal, fault.Between, fault.Yes, "without trailers"}, false},
	{"end on empty DATA", endOnData(nil), h2.Config{}, want{"wire.trailers-missing", codes.Internal, fault.Between, fault.Maybe, ""}, false},
	{"cut message, end on DATA", endOnData(peer.Message([]byte("four"))[:7]), h2.Config{}, want{"wire.truncated", codes.Internal, fault.Remote, fault.Maybe, "ends inside a message"}, false},
	{"cut message and OK", peer.Truncated([]byte("four"), 7), h2.Config{}, want{"wire.truncated", codes.Internal, fault.Remote, fault.Maybe, "ends inside a message"}, false},
	{"cut prefix and OK", peer.Truncated([]byte("four"), 3), h2.Config{}, want{"wire.truncated", codes.Internal, fault.Remote, fault.Maybe, ""}, false},
	{"cut message and status", peer.Body(peer.Message([]byte("four"))[:7], "grpc-status", "9"), h2.Config{}, want{"handler.status", codes.FailedPrecondition, fault.Remote, fault.Yes, ""}, false},
	{"no status", peer.MissingStatus([]byte("x")), h2.Config{}, want{"wire.status-missing", codes.Unknown, fault.Remote, fault.Yes, ""}, false},
	{"no status, no message", peer.Body(nil, "x-a", "1"), h2.Config{}, want{"wire.status-missing", codes.Unknown, fault.Remote, fault.Maybe, ""}, false},
	{"headers alone", peer.Full([]string{":status", "200", "content-type", "application/grpc"}, nil, nil), h2.Config{}, want{"wire.status-missing", codes.Unknown, fault.Remote, fault.Maybe, ""}, false},
	{"status is no number", peer.StatusText("banana"), h2.Config{}, want{"wire.status-unparsable", codes.Unknown, fault.Remote, fault.Maybe, "banana"}, false},
	{"details of another code", peer.TrailersOnly(5, "a", detailsName, "CAY="), h2.Config{}, want{"wire.status-details-mismatch", codes.Internal, fault.Remote, fault.Maybe, "says 6"}, false},
	{"bad base64 in headers", peer.Full([]string{":status", "200", "content-type", "application/grpc", "a-bin", "!"}, []byte{0}, nil), h2.Config{}, want{"wire.bad-metadata", codes.Internal, fault.Remote, fault.Maybe, `"a-bin"`}, true},
	{"bad base64 in trailers", peer.TrailersOnly(0, "", "a-bin", "!"), h2.Config{}, want{"wire.bad-metadata", codes.Internal, fault.Remote, fault.Maybe, `"a-bin"`}, false},
	{"503 with a page", peer.HTTPStatus(503, "text/html", "<h1>sorry</h1>"), h2.Config{}, want{"wire.http-status", codes.Unavailable, fault.Between, fault.Maybe, "HTTP 503"}, false},
	{"404 alone", peer.Full([]string{":status", "404"}, nil, nil), h2.Config{}, want{"wire.http-status", codes.Unimplemented, fault.Between, fault.Maybe, "HTTP 404"}, false},
	{"502 that says it is gRPC", peer.HTTPStatus(502, "application/grpc", "no"), h2.Config{}, want{"wire.http-status", codes.Unavailable, fault.Between, fault.Maybe, "HTTP 502"}, false},
	{"401 with a status that cannot be read", peer.Full([]string{":status", "401", "content-type", "text/html", "grpc-status", "1", detailsName, "???"}, nil, nil), h2.Config{}, want{"wire.http-status", codes.Unauthenticated, fault.Between, fault.Maybe, "HTTP 401"}, false},
	{"404 that says it is gRPC, and bad trailers", peer.Full([]string{":status", "404", "content-type", "application/grpc"}, nil, []string{"grpc-status", "0", detailsName, "???"}), h2.Config{}, want{"wire.bad-metadata", codes.Internal, fault.Remote, fault.Maybe, detailsName}, false},
	{"500 with a status in its trailers", peer.Full([]string{":status", "500", "content-type", "text/plain"}, []byte("x"), []string{"grpc-status", "3"}), h2.Config{}, want{"handler.status", codes.InvalidArgument, fault.Remote, fault.Yes, ""}, false},
	{"a page", peer.HTML(), h2.Config{}, want{"wire.content-type", codes.Unknown, fault.Between, fault.Maybe, "text/html"}, false},
	{"a page without end", func(p *peer.Peer, s uint32) error {
		p.SendHeaders(s, false, ":status", "200", "content-type", "text/html")
		return p.SendData(s, []byte(strings.Repeat("x", 5000)), false)
	}, h2.Config{}, want{"wire.content-type", codes.Unknown, fault.Between, fault.Maybe, "text/html"}, true},
	{"a page and OK", peer.Full([]string{":status", "200", "content-type", "text/plain"}, peer.Message([]byte("x")), []string{"grpc-status", "0"}), h2.Config{}, want{"wire.content-type", codes.Unknown, fault.Between, fault.Maybe, "text/plain"}, false},
	{"a page that is cut off", peer.Then(func(p *peer.Peer, s uint32) error {
		return p.SendHeaders(s, false, ":status", "502", "content-type", "text/html")
	}, peer.RST(2)), h2.Config{}, want{"wire.http-status", codes.Unavailable, fault.Between, fault.Maybe, "HTTP 502"}, false},
	{"HTTP/0.9 by nginx", peer.Full([]string{":status", "000"}, []byte("x"), []string{"x-y", "z"}), h2.Config{}, want{"wire.http-status", codes.Unknown, fault.Between, fault.Maybe, "no HTTP status"}, false},
	{"headers without end", peer.HugeHeaders(1 << 20), h2.Config{}, want{"http2.header-list", codes.Internal, fault.Remote, fault.Maybe, "far larger"}, false},
	{"too large by its prefix", peer.Oversized(limit + 1), h2.Config{}, want{"codec.too-large", codes.ResourceExhausted, fault.Local, fault.Yes, "MaxCallRecvMsgSize"}, true},
	{"no prefix", peer.Body(peer.MessageWith(7, 1, []byte("x")), "grpc-status", "0"), h2.Config{}, want{"codec.response-parse", codes.Internal, fault.Remote, fault.Maybe, "starts with 0x07"}, true},
	{"huge trailers", peer.HugeHeaders(70 << 10), h2.Config{}, want{"http2.header-list", codes.Internal, fault.Local, fault.Maybe, "more than this side's limit WithMaxHeaderListSize"}, false},
	{"RST NO_ERROR", peer.RST(0), h2.Config{}, want{"http2.rst-other", codes.Internal, fault.Remote, fault.Maybe, "NO_ERROR"}, false},
	{"RST PROTOCOL_ERROR", peer.RST(1), h2.Config{}, want{"http2.rst-other", codes.Internal, fault.Remote, fault.Maybe, "PROTOCOL_ERROR"}, false},
	{"RST INTERNAL_ERROR", peer.RST(2), h2.Config{}, want{"http2.rst-other", codes.Internal, fault.Remote, fault.Maybe, ""}, false},
	{"RST FLOW_CONTROL_ERROR", peer.RST(3), h2.Config{}, want{"http2.rst-other", codes.Internal, fault.Remote, fault.Maybe, ""}, false},
	{"RST SETTINGS_TIMEOUT", peer.RST(4), h2.Config{}, want{"http2.rst-other", codes.Internal, fault.Remote, fault.Maybe, ""}, false},
	{"RST STREAM_CLOSED", peer.RST(5), h2.Config{}, want{"http2.rst-other", codes.Internal, fault.Remote, fault.Maybe, ""}, false},
	{"RST FRAME_SIZE_ERROR", peer.RST(6), h2.Config{}, want{"http2.rst-other", codes.Internal, fault.Remote, fault.Maybe, ""}, false},
	{"RST REFUSED_STREAM", peer.RST(7), h2.Config{}, want{"http2.refused-stream", codes.Unavailable, fault.Remote, fault.No, ""}, false},
	{"RST CANCEL", peer.RST(8), h2.Config{}, want{"http2.rst-cancel", codes.Canceled, fault.Remote, fault.Maybe, ""}, false},
	{"RST COMPRESSION_ERROR", peer.RST(9), h2.Config{}, want{"http2.rst-other", codes.Internal, fault.Remote, fault.Maybe, ""}, false},
	{"RST CONNECT_ERROR", peer.RST(10), h2.Config{}, want{"http2.rst-other", codes.Internal, fault.Remote, fault.Maybe, ""}, false},
	{"RST ENHANCE_YOUR_CALM", peer.RST(11), h2.Config{}, want{"http2.rst-calm", codes.ResourceExhausted, fault.Remote, fault.Maybe, ""}, false},
	{"RST INADEQUATE_SECURITY", peer.RST(12), h2.Config{}, want{"http2.rst-inadequate-security", codes.PermissionDenied, fault.Remote, fault.Maybe, ""}, false},
	{"RST HTTP_1_1_REQUIRED", peer.RST(13), h2.Config{}, want{"http2.rst-other", codes.Internal, fault.Remote, fault.Maybe, ""}, false},
	{"RST of a code nobody knows", peer.RST(99), h2.Config{}, want{"http2.rst-other", codes.Unknown, fault.Remote, fault.Maybe, ""}, false},
	{"RST after a message", afterMessage(peer.RST(2)), h2.Config{}, want{"http2.rst-other", codes.Internal, fault.Remote, fault.Yes, ""}, false},
	{"REFUSED_STREAM after headers", peer.Then(headers, peer.RST(7)), h2.Config{}, want{"http2.refused-stream", codes.Unavailable, fault.Remote, fault.Maybe, ""}, false},
	{"REFUSED_STREAM after a message", afterMessage(peer.RST(7)), h2.Config{}, want{"http2.refused-stream", codes.Unavailable, fault.Remote, fault.Yes, ""}, false},
	{"GOAWAY above", peer.GoAway(-2, 0, "max_age"), h2.Config{}, want{"http2.goaway", codes.Unavailable, fault.Remote, fault.No, `NO_ERROR "max_age"`}, false},
	{"GOAWAY with an error above", peer.GoAway(-2, 2, ""), h2.Config{}, want{"http2.goaway", codes.Unavailable, fault.Remote, fault.No, "INTERNAL_ERROR"}, false},
	{"GOAWAY calm above", peer.GoAway(-2, 11, "too_many_pings"), h2.Config{}, want{"http2.goaway-calm", codes.Unavailable, fault.Remote, fault.No, ""}, false},
	{"GOAWAY above after a message", afterMessage(peer.GoAway(-2, 0, "")), h2.Config{}, want{"http2.goaway", codes.Unavailable, fault.Remote, fault.Yes, ""}, false},
	{"GOAWAY with an error, then hang up", peer.Then(peer.GoAway(0, 2, "oops"), peer.HangUp()), h2.Config{}, want{"http2.goaway-error", codes.Unavailable, fault.Remote, fault.Maybe, `INTERNAL_ERROR "oops"`}, false},
	{"GOAWAY calm, then hang up", peer.Then(peer.GoAway(0, 11, "too_many_pings"), peer.HangUp()), h2.Config{}, want{"http2.goaway-calm", codes.Unavailable, fault.Remote, fault.Maybe, ""}, false},
	{"GOAWAY, then hang up", peer.Then(peer.GoAway(0, 0, ""), peer.HangUp()), h2.Config{}, want{"http2.connection-lost", codes.Unavailable, fault.Between, fault.Maybe, ""}, false},
	{"hang up", peer.HangUp(), h2.Config{}, want{"http2.connection-lost", codes.Unavailable, fault.Between, fault.Maybe, "EOF"}, false},
	{"cut", peer.Cut(), h2.Config{}, want{"http2.connection-lost", codes.Unavailable, fault.Between, fault.Maybe, "reset"}, false},
	{"cut after a message", afterMessage(peer.Cut()), h2.Config{}, want{"http2.connection-lost", codes.Unavailable, fault.Between, fault.Yes, ""}, false},
	{"DATA beyond the window", peer.ExceedWindow(3000), h2.Config{StreamWindow: 1000}, want{"http2.flow-control", codes.Internal, fault.Remote, fault.Maybe, "window"}, false},
	{"window of the stream overflows", peer.OverflowWindow(false), h2.Config{}, want{"http2.flow-control", codes.Internal, fault.Remote, fault.Maybe, "2^31-1"}, false},
	{"window of the connection overflows", peer.OverflowWindow(true), h2.Config{}, want{"http2.flow-control", codes.Internal, fault.Remote, fault.Maybe, "2^31-1"}, false},
	{"header block that does not decode", peer.BadBlock(), h2.Config{}, want{"http2.compression", codes.Internal, fault.Remote, fault.Maybe, ""}, false},
	{"frame that may not be", peer.BadFrame(), h2.Config{}, want{"http2.protocol", codes.Internal, fault.Remote, fault.Maybe, ""}, false},
	{"malformed response", peer.Full([]string{":status", "200", "connection", "close"}, nil, nil), h2.Config{}, want{"http2.protocol", codes.Internal, fault.Remote, fault.Maybe, "connection"}, false},
}

func headers(p *peer.Peer, s uint32) error {
	return p.SendHeaders(s, false, ":status", "200", "content-type", "application/grpc")
}

func endOnData(body []byte) peer.Answer {
	return peer.Then(headers, func(p *peer.Peer, s uint32) error { return p.SendData(s, body, true) })
}

func afterMessage(a peer.Answer) peer.Answer {
	return peer.Then(headers, func(p *peer.Peer, s uint32) error { return p.SendData(s, peer.Message([]byte("x")), false) }, a)
}

func TestAnswersUnary(t *testing.T) {
	for _, tt := range answers {
		bubble(t, tt.name, func(t *testing.T) {
			conn, p := client(t, tt.cfg)
			var s ClientStream
			if err := s.Start(conn, request(true), framed([]byte("q")), true, nil); err != nil {
				t.Fatal(err)
			}
			p.WantHeaders(1, ":path", "/pkg.Greeter/Hello", "te", "trailers", "content-type", "application/grpc")
			p.WantMessage(1)
			p.Answer(1, tt.answer)
			m, err := s.RecvUnary(nil)
			f := tt.want.check(t, err)
			if m.Data != nil {
				t.Errorf("a message came with the fault: %q", m.Data)
			}
			if ev := f.Evidence(); ev.Method != "/pkg.Greeter/Hello" || ev.Stream != 1 || ev.Address == "" || !ev.Sent {
				t.Errorf("evidence %+v", ev)
			}
			if tt.rst {
				p.WantRST(1, http2.ErrCodeCancel)
			}
			if got := s.Outcome(); tt.want.id != "wire.cardinality" && got != err {
				t.Errorf("Outcome is %v", got)
			}
			// Statuses that ended in order leave the storage, failed ones do not.
			if s.Recyclable() && tt.want.id != "wire.cardinality" {
				t.Error("a stream that failed may be used again")
			}
		})
	}
}

// A streaming call sees the same, after the messages before it.
func TestAnswersStreaming(t *testing.T) {
	for _, tt := range answers {
		if tt.want.id == "wire.cardinality" {
			continue
		}
		bubble(t, tt.name, func(t *testing.T) {
			conn, p := client(t, tt.cfg)
			var s ClientStream
			if err := s.Start(conn, request(false), nil, false, nil); err != nil {
				t.Fatal(err)
			}
			p.WantHeaders(1)
			p.Answer(1, tt.answer)
			n := int64(0)
			for {
				m, err := s.Recv(nil)
				if err == nil {
					n++
					m.Free()
					continue
				}
				f := tt.want.check(t, err)
				if got := f.Evidence().Messages; got != n && tt.want.id != "http2.goaway" {
					t.Errorf("%d messages in evidence, want %d", got, n)
				}
				break
			}
			if _, err := s.Recv(nil); err == nil {
				t.Error("a Recv after the end succeeded")
			}
			if s.Send(framed(nil), false, nil) == nil {
				synctest.Wait()
				if err := s.Send(framed(nil), false, nil); err == nil {
					t.Error("a Send after the end succeeded")
				}
			}
			if s.Recyclable() {
				t.Error("a stream that failed may be used again")
			}
		})
	}
}

// queued is how many bytes wait in r.
func queued(r *receiver) int64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.queued
}

// lends reports whether a message that lies in a read buffer waits in r.
func lends(r *receiver) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.hasLent
}
