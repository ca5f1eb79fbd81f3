// SPDX-License-Identifier: Apache-2.0

package peer

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"reflect"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/net/http2"

	"github.com/faultline-rpc/faultline/internal/simnet"
)

// line sums a response up.
func line(r *Response) string {
	s := r.Get(":status")
	for _, name := range []string{"content-type", "grpc-encoding", "grpc-status", "grpc-message"} {
		if v := r.Get(name); v != "" {
			s += " " + name + "=" + v
		}
	}
	s += fmt.Sprintf(" body=%q", r.Body)
	if r.Trailer == nil {
		s += " no trailers"
	}
	if r.RST != nil {
		s += " " + r.RST.String()
	}
	return s
}

func TestAnswers(t *testing.T) {
	const (
		whole = "\x00\x00\x00\x00\x02hi"
		ok    = "200 content-type=application/grpc"
	)
	tests := []struct {
		name   string
		answer Answer
		want   string
	}{
		{"OK", OK([]byte("hi")), ok + ` grpc-status=0 body="` + escape(whole) + `"`},
		{"no message", OK(), ok + ` grpc-status=0 body=""`},
		{"two messages", OK([]byte("hi"), []byte("hi")), ok + ` grpc-status=0 body="` + escape(whole+whole) + `"`},
		{"trailers-only", TrailersOnly(5, "no such thing"), ok + ` grpc-status=5 grpc-message=no such thing body="" no trailers`},
		{"status unparsable", StatusText("banana"), ok + ` grpc-status=banana body="" no trailers`},
		{"missing trailers", MissingTrailers([]byte("hi")), ok + ` body="` + escape(whole) + `" no trailers`},
		{"missing status", MissingStatus([]byte("hi")), ok + ` body="` + escape(whole) + `"`},
		{"corrupt gzip", CorruptGzip(), ok + ` grpc-encoding=gzip grpc-status=0 body="\x01\x00\x00\x00\x13\x1f\x8b\b this is no gzip"`},
		{"flag without encoding", Compressed("", []byte("hi")), ok + ` grpc-status=0 body="\x01\x00\x00\x00\x02hi"`},
		{"truncated", Truncated([]byte("hi"), 6), ok + ` grpc-status=0 body="` + escape(whole[:6]) + `"`},
		{"invalid protobuf", OK([]byte{0xff}), ok + ` grpc-status=0 body="\x00\x00\x00\x00\x01\xff"`},
		{"html", HTML(), `200 content-type=text/html; charset=utf-8 body="<!doctype html><title>Welcome</title><h1>It works!</h1>" no trailers`},
		{"503", HTTPStatus(503, "text/plain", "no upstream"), `503 content-type=text/plain body="no upstream" no trailers`},
		{"RST", RST(http2.ErrCodeRefusedStream), ` body="" no trailers REFUSED_STREAM`},
		{"steps", Then(Oversized(9), After(time.Minute, RST(http2.ErrCodeCancel))), ok + ` body="\x00\x00\x00\x00\t" no trailers CANCEL`},
		{"huge headers", HugeHeaders(100_000), ok + ` grpc-status=0 body="" no trailers`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				l := simnet.Listen(simnet.Options{})
				s := Serve(l, Each(tt.answer))
				conn, err := l.Dial(t.Context(), "")
				if err != nil {
					t.Fatal(err)
				}
				p := Client(t, conn, Options{Timeout: time.Hour})
				p.Handshake()
				r, err := p.Call(1, "/a.B/C", []byte("hello"))
				p.OK(err)
				if got := line(r); got != tt.want {
					t.Errorf("received %s\n    want %s", got, tt.want)
				}
				p.Close()
				if err := s.Close(); err != nil {
					t.Errorf("the script failed: %v", err)
				}
			})
		})
	}
}

func escape(s string) string { q := fmt.Sprintf("%q", s); return q[1 : len(q)-1] }

// Answers that end the connection, over real sockets.
func TestAnswersThatEnd(t *testing.T) {
	tests := []struct {
		name string
		a    Script
		want func(p *T) error
		end  error
	}{
		{"cut after headers", EachAtOnce(Cut()), func(p *T) error { _, err := p.Peer.Next(); return err }, syscall.ECONNRESET},
		{"hang up", Each(HangUp()), func(p *T) error { _, err := p.Peer.Next(); return err }, io.EOF},
		{"goaway", Each(Then(GoAway(-2, http2.ErrCodeEnhanceYourCalm, "too_many_pings"), HangUp())), func(p *T) error {
			if f := p.WantGoAway(http2.ErrCodeEnhanceYourCalm); f.Last != 1 || f.Debug != "too_many_pings" {
				return fmt.Errorf("GOAWAY %v, want last id 1 and too_many_pings", f)
			}
			_, err := p.Peer.Next()
			return err
		}, io.EOF},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s, err := Listen("127.0.0.1:0", tt.a)
			if err != nil {
				t.Fatal(err)
			}
			raw, err := Dial(t.Context(), "tcp", s.Addr(), Options{})
			if err != nil {
				t.Fatal(err)
			}
			defer raw.Close()
			p := &T{Peer: raw, t: t}
			p.Handshake()
			p.SendRequest(3, true, "/a.B/C")
			err = tt.want(p)
			if !errors.Is(err, tt.end) || !p.Ended(err) {
				t.Errorf("the connection ended with %v, want %v", err, tt.end)
			}
			if err := s.Close(); err != nil || s.Accepted() != 1 {
				t.Errorf("%d connections, %v, want 1 and no error", s.Accepted(), err)
			}
		})
	}
}

func TestAnswersThatBreakHTTP2(t *testing.T) {
	tests := []struct {
		name   string
		answer Answer
		want   string // of x/net's transport
	}{
		{"window of the connection", OverflowWindow(true), "FLOW_CONTROL_ERROR"},
		{"window of the stream", OverflowWindow(false), "FLOW_CONTROL_ERROR"},
		{"header block", BadBlock(), "COMPRESSION_ERROR"},
		{"frame", BadFrame(), "PROTOCOL_ERROR"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				client, server := simnet.Pipe(simnet.Options{})
				got := post(t, client, "hello")
				p := Server(t, server)
				p.Handshake()
				p.WantHeaders(1)
				p.WantBody(1)
				p.Answer(1, tt.answer)
				if a := <-got; a.err == nil || !strings.Contains(a.err.Error(), tt.want) {
					t.Errorf("the client got %+v, want %s", a, tt.want)
				}
			})
		})
	}
}

// A receiver that does not read cannot grant: the violation is certain.
func TestExceedWindow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client, server := simnet.Pipe(simnet.Options{})
		s := Server(t, server, Options{NoCredit: true})
		p := Client(t, client)
		go s.Peer.Handshake()
		p.Handshake()
		p.SendRequest(1, false, "/a.B/C")
		p.OK(p.ExceedWindow(1, 1<<20))
		p.SendHeaders(1, true, "end", "1")
		s.WantHeaders(1)
		if n := len(s.WantBody(1)); n <= initialWindow || n > initialWindow+initialFrame {
			t.Errorf("%d bytes of DATA came, want one frame beyond %d at most", n, initialWindow)
		}
		if err := p.Peer.SendBody(1, []byte("x"), true); err == nil || err.Error() != "peer: no credit for DATA on stream 1 within 10s" {
			t.Errorf("SendBody without credit: %v", err)
		}
	})
}

func TestRaw(t *testing.T) {
	tests := []struct {
		name string
		raw  Raw
		want string
		end  error // of reading on, within a second
	}{
		{"HTTP/1", HTTP1(), "HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain; charset=utf-8\r\nConnection: close\r\n\r\n400 Bad Request", nil},
		{"ssh", SSH(), "SSH-2.0-OpenSSH_9.7\r\n", errTimeout},
		{"TLS alert", TLSAlert(), "\x15\x03\x01\x00\x02\x02\x0a", nil},
		{"mute", Mute(), "", errTimeout},
		{"hang up", HangUpRaw(), "", nil},
		{"reset", Raw{Wait: true, Reset: true}, "", syscall.ECONNRESET},
	}
	for _, tt := range tests {
		check := func(t *testing.T, s *Service, conn net.Conn) {
			t.Helper()
			io.WriteString(conn, http2.ClientPreface)
			conn.SetReadDeadline(time.Now().Add(300 * time.Millisecond))
			got, err := io.ReadAll(conn)
			if ne, ok := err.(net.Error); ok && ne.Timeout() {
				err = errTimeout
			}
			if string(got) != tt.want || !errors.Is(err, tt.end) {
				t.Errorf("received %q, %v, want %q, %v", got, err, tt.want, tt.end)
			}
			if err := s.Close(); err != nil {
				t.Errorf("Close: %v", err)
			}
			conn.Close()
		}
		t.Run(tt.name+" over TCP", func(t *testing.T) {
			s, err := ListenRaw("127.0.0.1:0", tt.raw)
			if err != nil {
				t.Fatal(err)
			}
			conn, err := net.Dial("tcp", s.Addr())
			if err != nil {
				t.Fatal(err)
			}
			check(t, s, conn)
		})
		t.Run(tt.name+" over simnet", func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				l := simnet.Listen(simnet.Options{})
				conn, err := l.Dial(t.Context(), "")
				if err != nil {
					t.Fatal(err)
				}
				check(t, ServeRaw(l, tt.raw), conn)
			})
		})
	}
}

var errTimeout = errors.New("nothing more came")

// The bubble ends only when every goroutine has: Close must end scripts that wait.
func TestServiceCloseEndsEverything(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := simnet.Listen(simnet.Options{})
		s := Serve(l, func(p *Peer) error {
			if _, err := p.Handshake(); err != nil {
				return err
			}
			_, err := p.Next()
			return err
		}, Options{Timeout: time.Hour})
		for range 3 {
			conn, _ := l.Dial(t.Context(), "")
			Client(t, conn).Handshake()
		}
		if err := s.Close(); err != nil {
			t.Errorf("Close: %v, want nil: what Close breaks does not count", err)
		}
	})
}

func TestServiceTellsWhatFailed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := simnet.Listen(simnet.Options{})
		s := Serve(l, Each(OK()))
		conn, _ := l.Dial(t.Context(), "")
		io.WriteString(conn, "GET / HTTP/1.1\r\nHost: x\r\n\r\n")
		io.ReadAll(conn)
		conn.Close()
		synctest.Wait()
		err := s.Close()
		if err == nil || !strings.Contains(err.Error(), `the client began with "GET / HTTP/1.1\r\nHost: x\r", want the preface`) {
			t.Errorf("Close: %v", err)
		}
	})
}

func TestRequestFields(t *testing.T) {
	tests := []struct {
		name    string
		changes []string
		want    []string
	}{
		{"proper", nil, []string{":method", "POST", ":scheme", "http", ":path", "/a.B/C", ":authority", "localhost", "content-type", "application/grpc", "te", "trailers"}},
		{"missing, replaced, added", []string{":authority", Absent, ":method", "GET", "grpc-timeout", "1S"},
			[]string{":method", "GET", ":scheme", "http", ":path", "/a.B/C", "content-type", "application/grpc", "te", "trailers", "grpc-timeout", "1S"}},
		{"twice", []string{"+:authority", "b", "+te", "x"},
			[]string{":method", "POST", ":scheme", "http", ":path", "/a.B/C", ":authority", "localhost", ":authority", "b", "content-type", "application/grpc", "te", "trailers", "te", "x"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := RequestFields("/a.B/C", tt.changes...)
			if err != nil || !reflect.DeepEqual(got, tt.want) {
				t.Errorf("got %q, %v\nwant %q", got, err, tt.want)
			}
		})
	}
	if _, err := RequestFields("/", "odd"); err == nil {
		t.Error("an odd number of names and values passed")
	}
}

// x/net's transport grants credit as the body is read, and here nobody reads.
func TestExceedWindowAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client, server := simnet.Pipe(simnet.Options{})
		cc, err := (&http2.Transport{}).NewClientConn(client)
		if err != nil {
			t.Fatal(err)
		}
		defer cc.Close()
		p := Server(t, server)
		p.Handshake()
		go func() {
			p.Peer.WantHeaders(1)
			ExceedWindow(8<<20)(p.Peer, 1)
		}()
		req, _ := http.NewRequest("GET", "http://localhost/", nil)
		resp, err := cc.RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		_, err = io.ReadAll(resp.Body)
		if err == nil || !strings.Contains(err.Error(), "FLOW_CONTROL_ERROR") {
			t.Errorf("reading the body: %v, want FLOW_CONTROL_ERROR", err)
		}
	})
}

// What the testing front end adds to each method is the same; here each is called once.
func TestEveryStep(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, s := pair(t, Options{Skip: []http2.FrameType{}, NoSettingsAck: true, NoCredit: true}, Options{NoSettingsAck: true, NoCredit: true, Skip: []http2.FrameType{}})
		s.SendSettingsAck()
		c.WantSettingsAck()
		s.SendSettings(http2.Setting{ID: http2.SettingMaxConcurrentStreams, Val: 7})
		if n, ok := c.Want(http2.FrameSettings).Setting(http2.SettingMaxConcurrentStreams); n != 7 || !ok {
			t.Errorf("MAX_CONCURRENT_STREAMS %d, %v, want 7", n, ok)
		}
		c.SendWindowUpdate(0, 9)
		if f := s.WantOn(0, http2.FrameWindowUpdate); f.Increment != 9 {
			t.Errorf("%v, want +9", f)
		}
		c.Send("PRIORITY", func(fr *http2.Framer) error { return fr.WritePriority(1, http2.PriorityParam{Weight: 3}) })
		if f := s.Next(); f.Kind != http2.FramePriority {
			t.Errorf("%v, want PRIORITY", f)
		}
		c.SendFrame(0x42, 0, 1, []byte("odd"))
		if f := s.Want(0x42); string(f.Data) != "odd" {
			t.Errorf("%v, want an unknown frame", f)
		}
		c.SendRaw([]byte("\x00\x00\x03\x00\x01\x00\x00\x00\x03abc"))
		if b := s.WantData(3, 2); string(b) != "ab" {
			t.Errorf("DATA %q, want ab", b)
		}
		if b := s.WantBody(3); string(b) != "c" {
			t.Errorf("DATA %q, want c", b)
		}
		c.SendBlock(5, true, []byte{0x82})
		s.WantTrailers(5, ":method", "GET")
		s.SendHeaders(5, false, ":status", "100")
		s.Answer(5, MissingStatus([]byte("x")))
		if r := c.WantResponse(5); r.Get(":status") != "200" || r.Get("x-trailer") != "1" {
			t.Errorf("response %+v", r)
		}
		s.SendRST(5, http2.ErrCodeNo)
		c.WantRST(5, http2.ErrCodeNo)
		c.OK(c.CloseWrite())
		s.WantClosed()
		s.SendGoAway(5, http2.ErrCodeNo, "bye")
		if f := c.WantGoAway(http2.ErrCodeNo); f.Last != 5 || f.Debug != "bye" {
			t.Errorf("%v, want last=5 and bye", f)
		}
		s.Cut()
		c.WantClosed()
	})
}

// A cut under TLS sends no close_notify: the client's read fails.
func TestCutUnderTLS(t *testing.T) {
	server := httptest.NewUnstartedServer(nil)
	server.EnableHTTP2 = true
	server.StartTLS()
	defer server.Close()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := Serve(tls.NewListener(l, server.TLS), EachAtOnce(Cut()))
	config := server.Client().Transport.(*http.Transport).TLSClientConfig.Clone()
	config.NextProtos, config.ServerName = []string{"h2"}, "example.com"
	// The kernel tells a reset once, to whoever asks first, and that may be a
	// write: then the read finds an end. Were there a close_notify, no read
	// would ever see the reset.
	for i := 0; ; i++ {
		conn, err := tls.Dial("tcp", s.Addr(), config)
		if err != nil {
			t.Fatal(err)
		}
		p := Client(t, conn)
		p.Handshake()
		p.SendRequest(1, true, "/a.B/C", ":scheme", "https")
		_, err = p.Peer.Next()
		if errors.Is(err, syscall.ECONNRESET) {
			break
		}
		if i == 20 {
			t.Fatalf("the connection ended with %v, want ECONNRESET", err)
		}
	}
	if err := s.Close(); err != nil {
		t.Errorf("the script failed: %v", err)
	}
}
