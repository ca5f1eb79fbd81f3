// SPDX-License-Identifier: Apache-2.0

package peer

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/net/http2"

	"github.com/faultline-rpc/faultline/internal/simnet"
)

// networks are the connections that each dialogue is played on.
var networks = []struct {
	name string
	pipe func() (client, server net.Conn)
}{
	{"net.Pipe", net.Pipe},
	{"simnet", func() (net.Conn, net.Conn) { return simnet.Pipe(simnet.Options{}) }},
	{"simnet byte by byte", func() (net.Conn, net.Conn) { return simnet.Pipe(simnet.Options{MaxRead: 1}) }},
	{"simnet far away", func() (net.Conn, net.Conn) { return simnet.Pipe(simnet.Options{Latency: 200 * time.Millisecond}) }},
}

func onEveryNetwork(t *testing.T, f func(t *testing.T, client, server net.Conn)) {
	for _, n := range networks {
		t.Run(n.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				client, server := n.pipe()
				f(t, client, server)
			})
		})
	}
}

func inRealTime(t *testing.T, f func(t *testing.T, client, server net.Conn)) {
	for _, n := range networks {
		if n.name == "net.Pipe" || n.name == "simnet" { // the others take their time
			t.Run(n.name, func(t *testing.T) {
				client, server := n.pipe()
				f(t, client, server)
			})
		}
	}
}

// answered is what x/net's transport received.
type answered struct {
	status  int
	body    string
	trailer http.Header
	err     error
}

// post sends a request with x/net's transport; the answer comes on the channel.
func post(t *testing.T, conn net.Conn, body string) <-chan answered {
	t.Helper()
	done := make(chan answered, 1)
	go func() {
		cc, err := (&http2.Transport{}).NewClientConn(conn)
		if err != nil {
			done <- answered{err: err}
			return
		}
		defer cc.Close()
		req, _ := http.NewRequest("POST", "http://localhost/a.B/C", strings.NewReader(body))
		req.Header.Set("Content-Type", "application/grpc")
		resp, err := cc.RoundTrip(req)
		if err != nil {
			done <- answered{err: err}
			return
		}
		defer resp.Body.Close()
		got, err := io.ReadAll(resp.Body)
		done <- answered{resp.StatusCode, string(got), resp.Trailer, err}
	}()
	return done
}

func TestServerDialogue(t *testing.T) {
	onEveryNetwork(t, func(t *testing.T, client, server net.Conn) {
		got := post(t, client, string(Message([]byte("ping")))+"rest")
		p := Server(t, server)
		p.Handshake()
		h := p.WantHeaders(1, ":method", "POST", ":path", "/a.B/C", "content-type", "application/grpc", "te", Absent, "user-agent", Any)
		if h.End || h.Stream != 1 {
			t.Fatalf("HEADERS %v, want stream 1 left open", h)
		}
		if m := p.WantMessage(1); string(m) != "ping" {
			t.Fatalf("message %q, want ping", m)
		}
		if b := p.WantBody(1); string(b) != "rest" {
			t.Fatalf("body %q, want rest", b)
		}
		p.SendHeadersSplit(1, false, 3, ":status", "200", "trailer", "grpc-status")
		p.SendData(1, Message([]byte("po")), false)
		p.SendData(1, []byte("ng"), false)
		p.SendHeaders(1, true, "grpc-status", "0")
		a := <-got
		if a.err != nil || a.status != 200 || a.body != "\x00\x00\x00\x00\x02pong" || a.trailer.Get("Grpc-Status") != "0" {
			t.Fatalf("the client received %+v", a)
		}
		p.WantClosed()
	})
}

// x/net's server keeps channels in pools of its package, which cannot be shared
// between bubbles: this dialogue is played in real time.
func TestClientDialogue(t *testing.T) {
	inRealTime(t, func(t *testing.T, client, server net.Conn) {
		served := make(chan struct{})
		go func() {
			defer close(served)
			(&http2.Server{MaxUploadBufferPerStream: 65535, MaxUploadBufferPerConnection: 65535}).ServeConn(server, &http2.ServeConnOpts{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				b, _ := io.ReadAll(r.Body)
				w.Header().Set("Trailer", "Grpc-Status")
				fmt.Fprintf(w, "%s %s %d", r.URL.Path, r.Header.Get("Grpc-Timeout"), len(b))
				w.Header().Set("Grpc-Status", "0")
			})})
		}()
		p := Client(t, client)
		settings := p.Handshake()
		if n, ok := settings.Setting(http2.SettingMaxFrameSize); !ok || n < initialFrame {
			t.Fatalf("MAX_FRAME_SIZE %d, %v", n, ok)
		}
		p.SendRequest(1, false, "/a.B/C", "grpc-timeout", "banana")
		p.SendBody(1, bytes.Repeat([]byte("x"), 200<<10), true) // above every window: credit is waited for
		r := p.WantResponse(1)
		if want := fmt.Sprintf("/a.B/C banana %d", 200<<10); string(r.Body) != want || r.Get("grpc-status") != "0" || r.Get(":status") != "200" {
			t.Fatalf("response %+v, want body %q", r, want)
		}
		p.SendData(0, []byte("x"), false) // DATA on stream 0: RFC 9113 section 6.1
		p.WantGoAway(http2.ErrCodeProtocol)
		p.WantClosed()
		<-served
	})
}

func TestBothRoles(t *testing.T) {
	onEveryNetwork(t, func(t *testing.T, client, server net.Conn) {
		s := NewServer(server, Options{Settings: []http2.Setting{{ID: http2.SettingHeaderTableSize, Val: 0}, {ID: http2.SettingInitialWindowSize, Val: 10}}})
		done := make(chan error, 1)
		go func() { done <- Each(OK([]byte("pong")))(s) }()
		p := Client(t, client)
		p.Handshake()
		for stream := uint32(1); stream < 6; stream += 2 {
			r, err := p.Call(stream, "/a.B/C", []byte("a message of more than ten bytes"))
			p.OK(err)
			if m, err := r.Messages(); len(m) != 1 || string(m[0]) != "pong" || err != nil || r.Get("grpc-status") != "0" {
				t.Fatalf("response %+v: %q, %v", r, m, err)
			}
		}
		p.Close()
		if err := <-done; err != nil {
			t.Fatalf("the server's script: %v", err)
		}
		s.Close()
	})
}
