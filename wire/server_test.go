// SPDX-License-Identifier: Apache-2.0

package wire

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/net/http2"
	"google.golang.org/grpc/codes"

	"github.com/faultline-rpc/faultline/codec"
	"github.com/faultline-rpc/faultline/fault"
	"github.com/faultline-rpc/faultline/h2"
	"github.com/faultline-rpc/faultline/h2/hpack"
	"github.com/faultline-rpc/faultline/internal/peer"
	"github.com/faultline-rpc/faultline/internal/simnet"
)

// service is a server room in small: a goroutine per call. Streams whose path
// ends in "/Unary" wait for the whole request.
type service struct {
	serve  func(s *ServerStream, gone <-chan struct{})
	budget *Budget
	pool   *sync.Pool // nil: no stream is used again
	reuses int

	wg    sync.WaitGroup
	mu    sync.Mutex
	batch []*ServerStream
	calls map[*ServerStream]chan struct{} // closed by Reset
	ended []*fault.Fault                  // what Reset said, of all calls
	over  []*ServerStream
	shut  []*fault.Fault // what Refused said
}

func (v *service) NewStream() *ServerStream {
	if v.pool != nil {
		if s, ok := v.pool.Get().(*ServerStream); ok {
			v.reuses++
			return s
		}
	}
	s := new(ServerStream)
	s.Owner = &serviceCall{v, s}
	return s
}

// serviceCall is the owner of one stream.
type serviceCall struct {
	v *service
	s *ServerStream
}

func (k *serviceCall) Open() Dispatch {
	v, s := k.v, k.s
	s.MaxRecv = codec.Limit{Bytes: limit, Option: "MaxRecvMsgSize"}
	v.mu.Lock()
	v.calls[s] = make(chan struct{})
	v.mu.Unlock()
	if s.Head().Method == "Unary" {
		return Whole
	}
	return Now
}

func (k *serviceCall) Dispatch() { k.v.batch = append(k.v.batch, k.s) }

func (v *service) BatchEnd() {
	for _, s := range v.batch {
		v.wg.Add(1)
		v.mu.Lock()
		gone := v.calls[s]
		v.mu.Unlock()
		go func() {
			defer v.wg.Done()
			v.serve(s, gone)
			if v.pool != nil && s.Recyclable() {
				s.Renew()
				v.pool.Put(s)
			}
		}()
	}
	v.batch = v.batch[:0]
}

func (k *serviceCall) Reset(f *fault.Fault) {
	v, s := k.v, k.s
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.calls[s] == nil {
		panic("Reset of a stream that was never opened")
	}
	close(v.calls[s])
	v.ended = append(v.ended, f)
}

func (k *serviceCall) Refused(f *fault.Fault) {
	k.v.mu.Lock()
	defer k.v.mu.Unlock()
	k.v.shut = append(k.v.shut, f)
}

func (k *serviceCall) Overloaded() *fault.Fault {
	v, s := k.v, k.s
	v.mu.Lock()
	v.over = append(v.over, s)
	v.mu.Unlock()
	s.Finish(Status{Code: codes.ResourceExhausted, Message: "full"}, nil)
	return fault.ServerOverloaded.New(fault.Args{Side: fault.Local})
}

func (v *service) Ready()                   {}
func (v *service) GoAway(*h2.GoAwayError)   {}
func (v *service) Closed(err *h2.ConnError) {}

// serverOn runs a server's connection for the length of the test, after which
// the budget must be whole.
func serverOn(t *testing.T, nc net.Conn, cfg h2.Config, v *service) *h2.Conn {
	t.Helper()
	v.calls = map[*ServerStream]chan struct{}{}
	if v.budget == nil {
		v.budget = NewBudget(64 << 20)
	}
	conn := NewServerConn(nc, cfg, v, v.budget)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		conn.Run()
	}()
	t.Cleanup(func() {
		conn.Close(h2.NoError, "")
		<-ended
		v.wg.Wait()
		if used := v.budget.used.Load(); used != 0 {
			t.Errorf("%d bytes of the budget were not given back", used)
		}
	})
	return conn
}

func server(t *testing.T, cfg h2.Config, v *service, o ...peer.Options) (*h2.Conn, *peer.T) {
	t.Helper()
	a, b := simnet.Pipe(simnet.Options{})
	conn := serverOn(t, b, cfg, v)
	p := peer.Client(t, a, o...)
	p.Handshake()
	synctest.Wait() // its acknowledgement counts from now on
	return conn, p
}

// echoUnary answers with the request.
func echoUnary(t testing.TB) func(*ServerStream, <-chan struct{}) {
	return func(s *ServerStream, _ <-chan struct{}) {
		m, err := s.RecvUnary()
		if f, ok := fault.From(err); ok {
			s.Finish(Status{Code: f.Code(), Message: f.Message()}, nil)
			return
		}
		msg := framed(m.Data)
		m.Free()
		if err := s.Respond("", "", nil, msg, nil, nil); err != nil && s.ID() != 0 {
			if _, ok := fault.From(err); !ok {
				t.Errorf("Respond: %v", err)
			}
		}
	}
}

// echoStream answers each message with itself.
func echoStream(s *ServerStream, gone <-chan struct{}) {
	s.SendHeader("", "", nil)
	for {
		m, err := s.Recv(gone)
		if err == io.EOF {
			s.Finish(Status{}, nil)
			return
		}
		if err != nil {
			f, _ := fault.From(err)
			s.Finish(Status{Code: f.Code(), Message: f.Message()}, nil)
			return
		}
		err = s.Send(framed(m.Data), gone)
		m.Free()
		if err != nil {
			s.Reset(h2.Cancel)
			return
		}
	}
}

func TestServerUnary(t *testing.T) {
	long := pattern(1, 70_000)
	tests := []struct {
		name    string
		body    []byte
		status  string
		message string // part of grpc-message
	}{
		{"one message", framed([]byte("hi")), "0", ""},
		{"empty message", framed(nil), "0", ""},
		{"long", framed(long), "0", ""},
		{"none", nil, "12", "0 messages came, want exactly one"},
		{"two", framed([]byte("a"), []byte("b")), "12", "2 messages came, want exactly one"},
		{"cut", framed([]byte("four"))[:7], "13", "wire.truncated: the stream ends inside a message"},
		{"cut prefix", []byte{0, 0}, "13", "wire.truncated"},
		{"no prefix", []byte{9, 0, 0, 0, 0}, "13", "codec.request-parse: a message's prefix starts with 0x09"},
		{"too large", peer.MessageWith(0, limit+1, []byte("x")), "8", "this side's limit MaxRecvMsgSize allows 1048576"},
	}
	for _, tt := range tests {
		for _, bytewise := range []bool{false, true} {
			if bytewise && len(tt.body) > 100 {
				continue
			}
			bubble(t, fmt.Sprint(tt.name, " ", bytewise), func(t *testing.T) {
				_, p := server(t, h2.Config{}, &service{serve: echoUnary(t)})
				p.SendRequest(1, len(tt.body) == 0, "/pkg.S/Unary")
				body := tt.body
				for bytewise && len(body) > 1 {
					p.SendData(1, body[:1], false)
					body = body[1:]
				}
				if len(body) > 0 {
					p.SendBody(1, body, true)
				}
				r := p.WantResponse(1)
				if got := r.Get("grpc-status"); got != tt.status || !strings.Contains(DecodeMessage(r.Get("grpc-message")), tt.message) {
					t.Errorf("status %s %q", got, r.Get("grpc-message"))
				}
				if tt.status == "0" && !bytes.Equal(r.Body, tt.body) {
					t.Errorf("answered with %.40x of %d bytes", r.Body, len(r.Body))
				}
			})
		}
	}
}

// Requests that are wrong at once are answered at once, not at their end.
func TestServerAnswersEarly(t *testing.T) {
	for name, body := range map[string][]byte{
		"two messages": framed([]byte("a"), []byte("b")),
		"too large":    peer.MessageWith(0, limit+1, nil),
		"no prefix":    {9, 0, 0, 0, 0},
	} {
		bubble(t, name, func(t *testing.T) {
			v := &service{serve: echoUnary(t), pool: new(sync.Pool)}
			_, p := server(t, h2.Config{}, v)
			p.SendRequest(1, false, "/pkg.S/Unary")
			p.SendData(1, body, false)
			p.WantTrailers(1, ":status", "200", "grpc-status", peer.Any)
			p.WantRST(1, http2.ErrCodeNo)
			p.SendData(1, []byte("what was under way"), false)
			synctest.Wait()
			if v.pool.Get() != nil {
				t.Error("a stream whose request had not ended was used again")
			}
		})
	}
}

func TestServerRefusals(t *testing.T) {
	text := "text/plain; charset=utf-8"
	tests := []struct {
		name    string
		id      fault.ID
		changes []string
		headers []string
		body    string // of an answer that is no gRPC
	}{
		{"GET", "wire.not-post", []string{":method", "GET"}, []string{":status", "405", "allow", "POST", "content-type", text, "content-length", peer.Any, "grpc-status", peer.Absent},
			"wire.not-post: the request's method is \"GET\", gRPC wants POST\n"},
		{"content-type", "wire.not-grpc-request", []string{"content-type", "text/html"}, []string{":status", "415", "content-type", text, "grpc-status", peer.Absent},
			"wire.not-grpc-request: the request's content-type is \"text/html\", want application/grpc\n"},
		{"timeout", "wire.bad-timeout", []string{"grpc-timeout", "banana"}, []string{":status", "400", "content-type", "application/grpc", "grpc-status", "13"}, ""},
		{"two authorities", "wire.authority", []string{"+:authority", "other"}, []string{":status", "400", "grpc-status", "13"}, ""},
		{"no authority", "wire.authority", []string{":authority", peer.Absent}, []string{":status", "400", "grpc-status", "13"}, ""},
		{"bad authority", "wire.authority", []string{":authority", "a/b"}, []string{":status", "200", "content-type", "application/grpc", "grpc-status", "16"}, ""},
		{"bad base64", "wire.bad-metadata", []string{"a-bin", "!"}, []string{":status", "200", "grpc-status", "13"}, ""},
		{"no method", "handler.unknown-method", []string{":path", "nothing"}, []string{":status", "200", "grpc-status", "12"}, ""},
		{"huge", "http2.header-list", []string{"x-huge", strings.Repeat("x", 70<<10)}, []string{":status", "200", "grpc-status", "13"}, ""},
	}
	for _, tt := range tests {
		for _, ended := range []bool{true, false} {
			bubble(t, fmt.Sprint(tt.name, " ", ended), func(t *testing.T) {
				v := &service{serve: func(*ServerStream, <-chan struct{}) { t.Error("a handler ran") }}
				conn, p := server(t, h2.Config{}, v)
				p.SendRequest(1, ended, "/pkg.S/Unary", tt.changes...)
				if tt.body == "" {
					p.WantTrailers(1, tt.headers...)
				} else {
					if !ended { // who speaks no gRPC is answered when its request has ended
						p.WantQuiet(foreignPatience / 2)
						p.SendData(1, []byte("a=b"), true)
					}
					p.WantHeaders(1, tt.headers...)
					if got := p.WantBody(1); string(got) != tt.body {
						t.Errorf("body %q", got)
					}
				}
				if !ended && tt.body == "" {
					p.WantRST(1, http2.ErrCodeNo)
					p.SendData(1, framed([]byte("late")), true)
				}
				p.WantQuiet(time.Second)
				if n := conn.Active(); n != 0 {
					t.Errorf("%d streams are left", n)
				}
				v.mu.Lock()
				defer v.mu.Unlock()
				if len(v.shut) != 1 || v.shut[0].ID() != tt.id || v.shut[0].Processed() != fault.No || v.shut[0].Side() != fault.Remote {
					t.Errorf("the owner was told %+v, want %s", v.shut, tt.id)
				}
			})
		}
	}
	// Where even the refusal does not fit what the client takes, the stream ends.
	for _, change := range [][]string{{":method", "GET"}, {"grpc-timeout", "x"}, {"a-bin", "!"}} {
		bubble(t, "tiny header list "+change[0], func(t *testing.T) {
			conn, p := server(t, h2.Config{}, &service{}, peer.Options{Settings: []http2.Setting{{ID: http2.SettingMaxHeaderListSize, Val: 40}}})
			p.SendRequest(1, true, "/pkg.S/Unary", change...)
			p.WantRST(1, http2.ErrCodeInternal)
			if n := conn.Active(); n != 0 {
				t.Errorf("%d streams are left", n)
			}
		})
	}
	// The text of a refusal is DATA like any: it waits for window.
	bubble(t, "no window", func(t *testing.T) {
		conn, p := server(t, h2.Config{}, &service{}, peer.Options{Settings: []http2.Setting{{ID: http2.SettingInitialWindowSize, Val: 0}}})
		p.SendRequest(1, true, "/pkg.S/Unary", ":method", "GET")
		p.WantHeaders(1, ":status", "405")
		p.WantQuiet(time.Second)
		p.SendWindowUpdate(1, 1000)
		if got := p.WantBody(1); !strings.HasPrefix(string(got), "wire.not-post: ") {
			t.Errorf("body %q", got)
		}
		synctest.Wait()
		if n := conn.Active(); n != 0 {
			t.Errorf("%d streams are left", n)
		}
	})
	// A body without end is not read for ever.
	bubble(t, "endless body", func(t *testing.T) {
		_, p := server(t, h2.Config{StreamWindow: 5000}, &service{})
		p.SendRequest(1, false, "/pkg.S/Unary", ":method", "PUT")
		p.SendBody(1, make([]byte, maxForeign+1), false)
		p.WantHeaders(1, ":status", "405")
		p.WantBody(1)
		p.WantRST(1, http2.ErrCodeNo)
	})
}

func TestServerMalformedFromTheStart(t *testing.T) {
	bubble(t, "", func(t *testing.T) { // content-length without a body: h2 condemns it before wire has seen it
		_, p := server(t, h2.Config{}, &service{})
		p.SendRequest(1, true, "/pkg.S/Unary", "content-length", "5")
		p.WantRST(1, http2.ErrCodeProtocol)
	})
}

// What a client or the network does to a call under way.
func TestServerReset(t *testing.T) {
	tests := []struct {
		name string
		end  func(conn *h2.Conn, p *peer.T)
		want want
	}{
		{"RST CANCEL", func(_ *h2.Conn, p *peer.T) { p.SendRST(1, http2.ErrCodeCancel) }, want{"call.cancelled", codes.Canceled, fault.Remote, fault.Maybe, "CANCEL"}},
		{"hang up", func(_ *h2.Conn, p *peer.T) { p.Close() }, want{"http2.connection-lost", codes.Unavailable, fault.Between, fault.Maybe, ""}},
		{"cut", func(_ *h2.Conn, p *peer.T) { p.Cut() }, want{"http2.connection-lost", codes.Unavailable, fault.Between, fault.Maybe, "reset"}},
		{"beyond the window", func(_ *h2.Conn, p *peer.T) { p.ExceedWindow(1, 3000) }, want{"http2.flow-control", codes.Internal, fault.Remote, fault.Maybe, "window"}},
		{"window overflows", func(_ *h2.Conn, p *peer.T) { p.OverflowWindow(1) }, want{"http2.flow-control", codes.Internal, fault.Remote, fault.Maybe, ""}},
		{"bad frame", func(_ *h2.Conn, p *peer.T) { p.SendData(0, nil, false) }, want{"http2.protocol", codes.Internal, fault.Remote, fault.Maybe, ""}},
		{"bad block", func(_ *h2.Conn, p *peer.T) { p.SendBlock(3, true, []byte{0x80}) }, want{"http2.compression", codes.Internal, fault.Remote, fault.Maybe, ""}},
		{"trailers without end", func(_ *h2.Conn, p *peer.T) { p.SendHeaders(1, false, "a", "b") }, want{"http2.protocol", codes.Internal, fault.Remote, fault.Maybe, ""}},
		{"stopped", func(c *h2.Conn, _ *peer.T) { c.Close(h2.NoError, "stop") }, want{"server.stopped", codes.Unavailable, fault.Local, fault.Maybe, "stop"}},
		{"too many pings", func(c *h2.Conn, _ *peer.T) { c.Close(h2.EnhanceYourCalm, "too_many_pings") }, want{"http2.protocol", codes.Internal, fault.Remote, fault.Maybe, "too_many_pings"}},
		{"aborted", func(c *h2.Conn, _ *peer.T) { c.Abort(errors.New("x")) }, want{"server.stopped", codes.Unavailable, fault.Local, fault.Maybe, ""}},
		{"aborted with a fault", func(c *h2.Conn, _ *peer.T) {
			c.Abort(fault.HTTP2Keepalive.New(fault.Args{Side: fault.Between}))
		}, want{"http2.keepalive", codes.Unavailable, fault.Between, fault.Maybe, ""}},
	}
	for _, tt := range tests {
		for _, method := range []string{"Stream", "Unary"} {
			bubble(t, tt.name+" "+method, func(t *testing.T) {
				var got, sent error
				v := &service{serve: func(s *ServerStream, gone <-chan struct{}) {
					<-gone // messages wait meanwhile
					_, got = s.Recv(nil)
					sent = s.Send(framed(nil), nil)
					s.Finish(Status{}, nil)
				}}
				conn, p := server(t, h2.Config{StreamWindow: 1000}, v)
				p.SendRequest(1, false, "/pkg.S/"+method)
				p.SendData(1, framed([]byte("a")), false)
				if method == "Stream" {
					p.SendData(1, framed([]byte("b"))[:5], false)
				}
				synctest.Wait()
				tt.end(conn, p)
				time.Sleep(time.Second) // a violation's GOAWAY lingers
				synctest.Wait()
				v.mu.Lock()
				defer v.mu.Unlock()
				if len(v.ended) != 1 {
					t.Fatalf("%d resets", len(v.ended))
				}
				f := tt.want.check(t, v.ended[0])
				if ev := f.Evidence(); ev.Method != "/pkg.S/"+method || ev.Stream != 1 || ev.Address == "" {
					t.Errorf("evidence %+v", ev)
				}
				if used := v.budget.used.Load(); used != 0 {
					t.Errorf("%d bytes are charged for a call that is over", used)
				}
				if method == "Stream" {
					tt.want.check(t, got)
					tt.want.check(t, sent)
				}
			})
		}
	}
}

func TestServerStreaming(t *testing.T) {
	bubble(t, "", func(t *testing.T) {
		_, p := server(t, h2.Config{}, &service{serve: echoStream})
		p.SendRequest(1, false, "/pkg.S/Stream")
		p.WantHeaders(1, ":status", "200", "content-type", "application/grpc")
		for i := range 20 {
			msg := framed(pattern(i, 3*i))
			p.SendData(1, msg, false)
			if got := p.WantData(1, len(msg)); !bytes.Equal(got, msg) {
				t.Errorf("message %d: %x", i, got)
			}
		}
		p.SendHeaders(1, true, "x-trailer", "1") // only ends the request
		p.WantTrailers(1, "grpc-status", "0")
	})
	for name, body := range map[string][]byte{"wire.truncated": {0, 0, 0}, "codec.too-large": peer.MessageWith(0, limit+1, nil)} {
		bubble(t, name, func(t *testing.T) {
			var got error
			_, p := server(t, h2.Config{}, &service{serve: func(s *ServerStream, _ <-chan struct{}) {
				m, err := s.Recv(nil)
				if err != nil || string(m.Data) != "first" {
					t.Errorf("%q, %v", m.Data, err)
				}
				_, got = s.Recv(nil)
				s.Finish(Status{Code: codes.Internal}, nil)
			}})
			p.SendRequest(1, false, "/pkg.S/Stream")
			p.SendData(1, framed([]byte("first")), false)
			p.SendData(1, body, name == "wire.truncated")
			p.WantTrailers(1, "grpc-status", "13")
			f, _ := fault.From(got)
			if f.ID() != fault.ID(name) || f.Processed() != fault.Maybe {
				t.Errorf("%v, processed %v: a handler was running", f, f.Processed())
			}
		})
	}
}

// A handler that returns early leaves nothing behind, and a Recv of its after
// that is told so.
func TestServerFinishesEarly(t *testing.T) {
	ends := map[string]func(s *ServerStream){
		"finish":  func(s *ServerStream) { s.Finish(Status{Code: codes.NotFound}, nil) },
		"respond": func(s *ServerStream) { s.Respond("", "", nil, framed(nil), nil, nil) },
		"reset":   func(s *ServerStream) { s.Reset(h2.Cancel) },
	}
	for name, end := range ends {
		bubble(t, name, func(t *testing.T) {
			v := &service{}
			waiter := make(chan error, 1)
			v.serve = func(s *ServerStream, _ <-chan struct{}) {
				synctest.Wait()
				if v.budget.used.Load() == 0 {
					t.Error("nothing is charged")
				}
				end(s)
				end(s)
				if s.Recyclable() {
					t.Error("recyclable before the request's end")
				}
				_, err := s.Recv(nil)
				want{"call.misuse", codes.Internal, fault.Local, fault.Yes, "has been answered"}.check(t, err)
				want{"call.misuse", codes.Internal, fault.Local, fault.Yes, ""}.check(t, s.Send(framed(nil), nil))
				want{"call.misuse", codes.Internal, fault.Local, fault.Yes, ""}.check(t, s.Respond("", "", nil, framed(nil), nil, nil))
				waiter <- err
			}
			conn, p := server(t, h2.Config{}, v)
			p.SendRequest(1, false, "/pkg.S/Stream")
			p.SendData(1, framed([]byte("unread"), []byte("unread")), false)
			<-waiter
			p.SendData(1, framed([]byte("late")), false)
			synctest.Wait()
			if used := v.budget.used.Load(); used != 0 || conn.Active() != 0 {
				t.Errorf("%d bytes charged, %d streams", used, conn.Active())
			}
			r := p.WantResponse(1)
			code := http2.ErrCodeNo
			if name == "reset" {
				code = http2.ErrCodeCancel
			} else {
				p.WantRST(1, code)
				r.RST = &code
			}
			if *r.RST != code {
				t.Errorf("reset with %v", *r.RST)
			}
		})
	}
}

func TestServerBudget(t *testing.T) {
	for _, method := range []string{"Stream", "Unary"} {
		bubble(t, method, func(t *testing.T) {
			hold := make(chan struct{})
			v := &service{budget: NewBudget(1000), serve: func(s *ServerStream, gone <-chan struct{}) {
				<-hold
				echoUnary(t)(s, gone)
			}}
			if limit, reserve := v.budget.Limit(); limit != 1000 || reserve != 0 {
				t.Error("Limit")
			}
			if limit, _ := (*Budget)(nil).Limit(); limit != 0 {
				t.Error("Limit of none")
			}
			_, p := server(t, h2.Config{}, v)
			p.SendRequest(1, false, "/pkg.S/Unary")
			p.SendData(1, framed(pattern(1, 900)), true)
			p.SendRequest(3, false, "/pkg.S/"+method)
			p.SendData(3, framed(pattern(1, 200)), false)
			p.WantTrailers(3, "grpc-status", "8", "grpc-message", "full")
			p.WantRST(3, http2.ErrCodeNo)
			v.mu.Lock()
			over := len(v.over)
			v.mu.Unlock()
			if used := v.budget.used.Load(); used != 905 || over != 1 {
				t.Errorf("%d bytes are charged, %d calls refused", used, over)
			}
			close(hold)
			if r := p.WantResponse(1); r.Get("grpc-status") != "0" {
				t.Errorf("the call within the budget: %+v", r)
			}
			// What was refused leaves room for others.
			if r, err := p.Call(5, "/pkg.S/Unary", pattern(2, 990)); err != nil || r.Get("grpc-status") != "0" {
				t.Errorf("%+v, %v", r, err)
			}
		})
	}
}

func TestServerAnswersOnTheWire(t *testing.T) {
	bubble(t, "", func(t *testing.T) {
		own := hpack.Field{Name: detailsName, Value: "b3du"}
		other := hpack.Field{Name: "x-t", Value: "1"}
		serve := map[uint32]func(s *ServerStream){
			1: func(s *ServerStream) {
				s.Respond("proto", "gzip", []hpack.Field{{Name: "x-h", Value: "1"}}, framed([]byte("a")), []hpack.Field{other}, nil)
			},
			3: func(s *ServerStream) {
				if err := s.SendHeader("proto", "", nil); err != nil || !s.HeaderSent() {
					t.Errorf("SendHeader: %v", err)
				}
				want{"call.misuse", codes.Internal, fault.Local, fault.Maybe, "sent already"}.check(t, s.SendHeader("", "", nil))
				s.Respond("proto", "", nil, framed([]byte("b")), nil, nil)
			},
			5: func(s *ServerStream) {
				s.Finish(Status{Code: 5, Message: "a b%ü", Details: []byte{8, 5}}, []hpack.Field{own, other})
			},
			7: func(s *ServerStream) { s.Finish(Status{Code: 5}, []hpack.Field{own}) },
		}
		_, p := server(t, h2.Config{}, &service{serve: func(s *ServerStream, _ <-chan struct{}) { serve[s.ID()](s) }})
		for id := uint32(1); id < 9; id += 2 {
			p.SendRequest(id, true, "/pkg.S/Stream", "content-type", "application/grpc+proto")
			switch id {
			case 1:
				p.WantHeaders(1, ":status", "200", "content-type", "application/grpc+proto", "grpc-encoding", "gzip", "x-h", "1")
				p.WantMessage(1)
				p.WantTrailers(1, "grpc-status", "0", "x-t", "1")
			case 3:
				p.WantHeaders(3, ":status", "200", "content-type", "application/grpc+proto", "grpc-encoding", peer.Absent)
				p.WantMessage(3)
				p.WantTrailers(3, ":status", peer.Absent, "grpc-status", "0")
			case 5:
				f := p.WantTrailers(5, ":status", "200", "content-type", "application/grpc+proto", "grpc-status", "5", "grpc-message", "a b%25%C3%BC", "x-t", "1")
				if got := f.Values(detailsName); len(got) != 1 || got[0] != "CAU" {
					t.Errorf("details %q", got)
				}
			case 7:
				p.WantTrailers(7, "grpc-status", "5", detailsName, "b3du")
			}
		}
	})
}

// What a client does not take is left out; the call ends all the same.
func TestServerHeaderListLimits(t *testing.T) {
	big := []hpack.Field{{Name: "x-big", Value: strings.Repeat("x", 300)}}
	small := peer.Options{Settings: []http2.Setting{{ID: http2.SettingMaxHeaderListSize, Val: 250}}}
	header := want{"http2.header-list", codes.Internal, fault.Local, fault.Yes, "larger than"}
	serve := map[string]func(t *testing.T, s *ServerStream){
		"finish": func(t *testing.T, s *ServerStream) {
			if err := s.Finish(Status{Code: 5, Message: "gone"}, big); err != nil {
				t.Error(err)
			}
		},
		"respond, header": func(t *testing.T, s *ServerStream) {
			header.check(t, s.Respond("", "", big, framed(nil), nil, nil))
			if s.HeaderSent() {
				t.Error("headers count as sent")
			}
			if err := s.Finish(Status{Code: 5}, nil); err != nil {
				t.Error(err)
			}
		},
		"respond, trailer": func(t *testing.T, s *ServerStream) {
			s.SendHeader("", "", nil)
			header.check(t, s.Respond("", "", nil, framed(nil), big, nil))
			if err := s.Finish(Status{Code: 5}, nil); err != nil {
				t.Error(err)
			}
		},
		"header": func(t *testing.T, s *ServerStream) {
			header.check(t, s.SendHeader("", "", big))
			if err := s.Finish(Status{Code: 5}, nil); err != nil {
				t.Error(err)
			}
		},
	}
	for name, f := range serve {
		bubble(t, name, func(t *testing.T) {
			conn, p := server(t, h2.Config{}, &service{serve: func(s *ServerStream, _ <-chan struct{}) { f(t, s) }}, small)
			synctest.Wait()
			p.SendRequest(1, true, "/pkg.S/Stream")
			if r := p.WantResponse(1); r.Get("grpc-status") != "5" || conn.Active() != 0 {
				t.Errorf("%+v, %d streams", r, conn.Active())
			}
		})
	}
}

// Respond gives up with done, and the call can still be ended.
func TestRespondGivesUp(t *testing.T) {
	bubble(t, "", func(t *testing.T) {
		v := &service{serve: func(s *ServerStream, _ <-chan struct{}) {
			done := make(chan struct{})
			time.AfterFunc(time.Second, func() { close(done) })
			if err := s.Respond("", "", nil, framed(pattern(1, 100_000)), nil, done); err != ErrDone {
				t.Errorf("Respond: %v", err)
			}
			if s.Recyclable() {
				t.Error("recyclable")
			}
			s.Finish(Status{Code: 4, Message: "late"}, nil)
		}}
		_, p := server(t, h2.Config{}, v, peer.Options{NoCredit: true})
		p.SendRequest(1, true, "/pkg.S/Stream")
		if r := p.WantResponse(1); r.Get("grpc-status") != "4" || len(r.Body) != 65535 {
			t.Errorf("status %s after %d bytes", r.Get("grpc-status"), len(r.Body))
		}
	})
}
