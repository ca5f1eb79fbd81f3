// SPDX-License-Identifier: Apache-2.0

package server

import (
	"context"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"

	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/peer"

	"github.com/faultline-rpc/faultline/fault"
	"github.com/faultline-rpc/faultline/h2"
	"github.com/faultline-rpc/faultline/h2/hpack"
	"github.com/faultline-rpc/faultline/wire"
)

// gRPC beside other handlers on one net/http port. A request takes the way of
// any other call: it crosses a connection within the process.
//
//	net/http --> ServeHTTP == h2 client == pipe == h2 server == conn --> handler
//
// So nothing is decided twice, and what is slower is the crossing alone.

const (
	// httpWindow is how much of an answer may wait for net/http, in bytes.
	httpWindow = 256 << 10
	// httpHeaders is what an answer's header section may have, in bytes: it is
	// the handler's own, and what the client takes is known to net/http alone.
	httpHeaders = 16 << 20
)

// ServeHTTP implements http.Handler for requests over HTTP/2. Requests over
// HTTP/1 are answered 505. The handler's context has the values of the
// request's, and the peer its address and TLS state. Keepalive, age and limits
// of connections are net/http's affair here. A net/http server without TLS
// speaks HTTP/2 if its Protocols say so:
//
//	p := new(http.Protocols)
//	p.SetUnencryptedHTTP2(true)
//	(&http.Server{Handler: grpcServer, Protocols: p}).Serve(lis)
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.ProtoMajor != 2 {
		http.Error(w, "gRPC needs HTTP/2", http.StatusHTTPVersionNotSupported)
		return
	}
	x := &exchange{w: w, flush: http.NewResponseController(w).Flush, wake: make(chan struct{}, 1)}
	x.Attach(x)
	near, far := net.Pipe()
	c := s.httpConn(far, r)
	if !s.admit(c) {
		near.Close()
		x.refuse(fault.ServerDraining.New(fault.Args{Side: fault.Local, Processed: fault.No}))
		return
	}
	var wg sync.WaitGroup
	wg.Go(c.serveHTTP)
	conn := h2.NewClient(near, h2.Config{StreamWindow: httpWindow, MaxHeaderListSize: httpHeaders}, x)
	wg.Go(func() { _ = conn.Run() })
	defer wg.Wait()
	defer conn.Close(h2.NoError, "") // after what was written, such as RST_STREAM
	switch err := conn.Open(&x.Stream, h2.Header{Fields: requestFields(r)}, nil, false, nil); err {
	case nil:
	case h2.ErrHeaderList:
		x.refuse(headersTooLarge())
		return
	default:
		x.refuse(fault.ServerDraining.New(fault.Args{Side: fault.Local, Processed: fault.No, Cause: err}))
		return
	}
	defer context.AfterFunc(r.Context(), func() {
		x.Reset(h2.Cancel)
		x.push(part{err: context.Cause(r.Context())})
	})()
	wg.Go(func() { x.upload(r.Body) })
	defer r.Body.Close() // ends the upload
	if !x.answer() {
		x.Reset(h2.Cancel)
		panic(http.ErrAbortHandler) // resets the request's stream, and is logged by nobody
	}
}

// httpConn is the server's end of the connection for r.
func (s *Server) httpConn(far net.Conn, r *http.Request) *conn {
	p := &peer.Peer{Addr: address(r.RemoteAddr)}
	p.LocalAddr, _ = r.Context().Value(http.LocalAddrContextKey).(net.Addr)
	if p.LocalAddr == nil {
		p.LocalAddr = address("")
	}
	if r.TLS != nil {
		p.AuthInfo = credentials.TLSInfo{State: *r.TLS, CommonAuthInfo: credentials.CommonAuthInfo{SecurityLevel: credentials.PrivacyAndIntegrity}}
	}
	return &conn{srv: s, id: s.connID(), raw: &addressed{far, p}, peer: p, base: r.Context(), trusted: trusts(s.cfg.Trusted, p)}
}

// serveHTTP is the life of a connection for one request.
func (c *conn) serveHTTP() {
	defer c.srv.removeConn(c)
	conn := wire.NewServerConn(c.raw, c.srv.cfg.h2(c.id, c.srv.cfg.ConnectionTimeout), c, c.srv.budget)
	if !c.srv.adopt(c, conn) {
		conn.Abort(net.ErrClosed)
	}
	_ = conn.Run() // why it ended is each call's fault
}

// address is an address as net/http has it.
type address string

// Network implements net.Addr.
func (address) Network() string { return "tcp" }

// String implements net.Addr.
func (a address) String() string { return string(a) }

// addressed is a connection that has the addresses of another.
type addressed struct {
	net.Conn
	p *peer.Peer
}

// RemoteAddr implements net.Conn.
func (a *addressed) RemoteAddr() net.Addr { return a.p.Addr }

// LocalAddr implements net.Conn.
func (a *addressed) LocalAddr() net.Addr { return a.p.LocalAddr }

// requestFields are the request's header section.
func requestFields(r *http.Request) []hpack.Field {
	scheme := "http"
	if r.TLS != nil {
		scheme = "https"
	}
	fields := []hpack.Field{
		{Name: ":method", Value: r.Method}, {Name: ":scheme", Value: scheme},
		{Name: ":path", Value: r.URL.Path}, {Name: ":authority", Value: r.Host},
	}
	for name, values := range r.Header {
		name = strings.ToLower(name)
		switch name {
		case "connection", "proxy-connection", "keep-alive", "transfer-encoding", "upgrade", "host", "content-length":
			continue // of the connection, or known already
		}
		for _, v := range values {
			fields = append(fields, hpack.Field{Name: name, Value: v})
		}
	}
	return fields
}

// exchange is one request on its way through the process: the client's end of
// the connection within. What arrives there is queued for the goroutine of
// net/http's handler, as only that may write. The stream's window bounds the
// queue.
type exchange struct {
	h2.Stream
	w       http.ResponseWriter
	flush   func() error
	started bool // the answer's headers are written

	wake  chan struct{}
	mu    sync.Mutex
	queue []part // guarded by mu
}

// part is a piece of the answer. One of the first three is set, or none.
type part struct {
	fields []hpack.Field // headers, or trailers
	data   []byte
	err    error // the answer breaks off
	end    bool
}

var (
	_ h2.ConnHandler   = (*exchange)(nil)
	_ h2.StreamHandler = (*exchange)(nil)
)

func (x *exchange) push(p part) {
	x.mu.Lock()
	x.queue = append(x.queue, p)
	x.mu.Unlock()
	select {
	case x.wake <- struct{}{}:
	default:
	}
}

// Ready implements h2.ConnHandler.
func (x *exchange) Ready() {}

// NewStream implements h2.ConnHandler: a server opens none.
func (x *exchange) NewStream(*h2.Block) *h2.Stream { return nil }

// BatchEnd implements h2.ConnHandler.
func (x *exchange) BatchEnd() {}

// GoAway implements h2.ConnHandler.
func (x *exchange) GoAway(*h2.GoAwayError) {}

// Closed implements h2.ConnHandler.
func (x *exchange) Closed(*h2.ConnError) {}

// OnHeaders implements h2.StreamHandler.
func (x *exchange) OnHeaders(b *h2.Block, end bool) {
	x.push(part{fields: append([]hpack.Field(nil), b.Fields...), end: end})
}

// OnData implements h2.StreamHandler.
func (x *exchange) OnData(p []byte, _ *h2.ReadBuf, end bool) {
	x.push(part{data: append([]byte(nil), p...), end: end})
}

// OnClose implements h2.StreamHandler.
func (x *exchange) OnClose(err error) { x.push(part{err: err}) }

// upload sends the request's body.
func (x *exchange) upload(body io.Reader) {
	buf := make([]byte, 32<<10)
	for {
		n, err := body.Read(buf)
		if x.WriteData(buf[:n], err == io.EOF, nil) != nil || err == io.EOF {
			return
		}
		if err != nil {
			x.Reset(h2.Cancel)
			x.push(part{err: err})
			return
		}
	}
}

// answer writes what comes until the answer's end. It returns false if the
// answer breaks off.
func (x *exchange) answer() bool {
	for range x.wake {
		x.mu.Lock()
		parts := x.queue
		x.queue = nil
		x.mu.Unlock()
		for _, p := range parts {
			if p.err != nil {
				return x.broken(p.err)
			}
			if !x.write(p) {
				return false
			}
			if p.end {
				return true
			}
		}
		if x.flush() != nil {
			return false
		}
	}
	return false
}

func (x *exchange) write(p part) bool {
	if p.fields == nil {
		if _, err := x.w.Write(p.data); err != nil {
			return false
		}
		x.Consumed(len(p.data))
		return true
	}
	prefix, status := "", 0
	if x.started {
		prefix = http.TrailerPrefix
		if x.flush() != nil { // else net/http would add a content-length
			return false
		}
	}
	for _, f := range p.fields {
		if f.Name == ":status" {
			status, _ = strconv.Atoi(f.Value) // h2 has checked it
			continue
		}
		x.w.Header().Add(prefix+http.CanonicalHeaderKey(f.Name), f.Value)
	}
	if !x.started {
		x.started = true
		x.w.Header()["Date"] = nil // clients would show it as metadata
		x.w.WriteHeader(status)
	}
	return true
}

// broken ends an answer that will not be complete: with a status, if nothing of
// it was sent and the server's end is the reason.
func (x *exchange) broken(err error) bool {
	if x.started {
		return false
	}
	switch err := err.(type) {
	case *h2.GoAwayError:
		if err.Code == h2.EnhanceYourCalm { // it has seen nothing else yet
			x.refuse(headersTooLarge())
			break
		}
		x.refuse(fault.ServerDraining.New(fault.Args{Side: fault.Local, Processed: fault.No}))
	case *h2.ConnError:
		x.refuse(fault.ServerStopped.New(fault.Args{Side: fault.Local, Processed: fault.Maybe}))
	default:
		return false
	}
	return true
}

// headersTooLarge is the fault of a request whose headers the server does not
// even read. With less too much wire answers.
func headersTooLarge() *fault.Fault {
	return fault.HTTP2HeaderList.Newf(fault.Args{Side: fault.Remote, Processed: fault.No, Evidence: &fault.Evidence{Option: "MaxHeaderListSize"}},
		"the request's header section is far larger than this server's limit MaxHeaderListSize")
}

// refuse answers in the handler's place.
func (x *exchange) refuse(f *fault.Fault) {
	fields := []hpack.Field{{Name: ":status", Value: "200"}, {Name: "content-type", Value: wire.ContentType("")}}
	x.write(part{fields: wire.AppendStatus(fields, f.Code(), f.Message(), nil)})
}
