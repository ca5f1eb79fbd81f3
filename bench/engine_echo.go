// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"runtime"
	"strconv"
	"sync"

	pb "google.golang.org/grpc/interop/grpc_testing"
)

// The raw echo is a floor, not an engine: frames with a length and an id on one connection that callers share, no
// headers, no flow control, no protobuf, no goroutine and no allocation per call. It shows what the kernel and the
// scheduler cost. A one-way stream has a connection of its own.
//
// A frame is a length (4 bytes), an id (4 bytes), a kind (1 byte) and as many bytes as the length says.
const (
	echoHeader = 9
	echoBuffer = 128 << 10
)

const (
	echoBack   = byte(iota) // comes back as it is
	echoPour                // is answered by frames without end, each of the service's size
	echoDrain               // is counted
	echoTotal               // is answered by the count
	echoMaxLen = 4 << 20
)

func echoEngine() engine {
	return engine{name: engineEcho, serve: serveEcho, dial: dialEcho}
}

func appendEchoFrame(b []byte, id uint32, kind byte, p []byte) []byte {
	b = binary.BigEndian.AppendUint32(b, uint32(len(p)))
	b = binary.BigEndian.AppendUint32(b, id)
	b = append(b, kind)
	return append(b, p...)
}

// readEchoHeader reads the header of a frame without allocating.
func readEchoHeader(r *bufio.Reader) (n int, id uint32, kind byte, err error) {
	h, err := r.Peek(echoHeader)
	if err != nil {
		return 0, 0, 0, err
	}
	n, id, kind = int(binary.BigEndian.Uint32(h)), binary.BigEndian.Uint32(h[4:]), h[8]
	if n > echoMaxLen {
		return 0, 0, 0, fmt.Errorf("frame of %d bytes, at most %d are allowed", n, echoMaxLen)
	}
	r.Discard(echoHeader)
	return n, id, kind, nil
}

// grow returns b with length n, keeping its storage if that is large enough.
func grow(b []byte, n int) []byte {
	if cap(b) < n {
		return make([]byte, n)
	}
	return b[:n]
}

func serveEcho(l net.Listener, svc *service) error {
	for {
		nc, err := l.Accept()
		if err != nil {
			return err
		}
		go func() {
			defer nc.Close()
			echoConn(nc, svc) // its error is the client's leaving, or the client's to report
		}()
	}
}

// echoConn answers one connection: the replies to what one read brought leave in one write.
func echoConn(nc net.Conn, svc *service) error {
	r := bufio.NewReaderSize(nc, echoBuffer)
	var out, body []byte
	total := 0
	for {
		n, id, kind, err := readEchoHeader(r)
		if err != nil {
			return err
		}
		body = grow(body, n)
		if _, err := io.ReadFull(r, body); err != nil {
			return err
		}
		switch kind {
		case echoBack:
			out = appendEchoFrame(out, id, kind, body)
		case echoPour:
			return echoPourOut(nc, id, svc.payload.GetBody())
		case echoDrain:
			total++
		case echoTotal:
			out = appendEchoFrame(out, id, kind, strconv.AppendInt(nil, int64(total), 10))
		}
		if r.Buffered() == 0 && len(out) > 0 {
			if _, err := nc.Write(out); err != nil {
				return err
			}
			out = out[:0]
		}
	}
}

func echoPourOut(nc net.Conn, id uint32, p []byte) error {
	frame := appendEchoFrame(nil, id, echoPour, p)
	for {
		if _, err := nc.Write(frame); err != nil {
			return err
		}
	}
}

// An echoClient is a connection that many callers share.
type echoClient struct {
	addr string
	nc   net.Conn

	mu       sync.Mutex
	out      []byte // guarded by mu
	spare    []byte // guarded by mu
	flushing bool   // guarded by mu
	waiters  []*echoCall
	err      error // guarded by mu; why the connection is over
}

func dialEcho(addr string) (client, error) {
	nc, err := net.Dial("tcp", addr)
	if err != nil {
		return nil, err
	}
	c := &echoClient{addr: addr, nc: nc}
	go c.read()
	return c, nil
}

// read hands each frame to the call it is for, until the connection ends.
func (c *echoClient) read() {
	r := bufio.NewReaderSize(c.nc, echoBuffer)
	for {
		n, id, _, err := readEchoHeader(r)
		if err != nil {
			c.fail(err)
			return
		}
		c.mu.Lock()
		w := c.waiters[id]
		c.mu.Unlock()
		w.body = grow(w.body, n)
		if _, err := io.ReadFull(r, w.body); err != nil {
			c.fail(err)
			return
		}
		w.wake <- struct{}{}
	}
}

// fail ends every call, present and future, with err.
func (c *echoClient) fail(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.err = err
	for _, w := range c.waiters {
		close(w.over)
	}
}

// send appends a frame; whoever finds nobody writing yields once, so that others append too, and writes for all.
func (c *echoClient) send(id uint32, p []byte) error {
	c.mu.Lock()
	if c.err != nil {
		defer c.mu.Unlock()
		return c.err
	}
	c.out = appendEchoFrame(c.out, id, echoBack, p)
	if c.flushing {
		c.mu.Unlock()
		return nil
	}
	c.flushing = true
	for {
		c.mu.Unlock()
		runtime.Gosched()
		c.mu.Lock()
		if len(c.out) == 0 {
			break
		}
		b := c.out
		c.out = c.spare[:0]
		c.mu.Unlock()
		_, err := c.nc.Write(b)
		c.mu.Lock()
		c.spare = b
		if err != nil {
			c.flushing = false
			c.mu.Unlock()
			return err
		}
	}
	c.flushing = false
	c.mu.Unlock()
	return nil
}

// An echoCall is one caller's place on a shared connection: one exchange at a time.
type echoCall struct {
	c    *echoClient
	id   uint32
	wake chan struct{}
	over chan struct{}
	body []byte
	resp pb.SimpleResponse
}

func (c *echoClient) call() *echoCall {
	c.mu.Lock()
	defer c.mu.Unlock()
	w := &echoCall{c: c, id: uint32(len(c.waiters)), wake: make(chan struct{}, 1), over: make(chan struct{})}
	w.resp.Payload = &pb.Payload{}
	c.waiters = append(c.waiters, w)
	if c.err != nil {
		close(w.over)
	}
	return w
}

func (w *echoCall) Send(in *pb.SimpleRequest) error { return w.c.send(w.id, in.GetPayload().GetBody()) }
func (w *echoCall) CloseSend() error                { return nil }

func (w *echoCall) Recv() (*pb.SimpleResponse, error) {
	select {
	case <-w.wake:
		w.resp.Payload.Body = w.body
		return &w.resp, nil
	case <-w.over:
		return nil, w.c.err // written before over was closed
	}
}

func (c *echoClient) caller() func(context.Context, *pb.SimpleRequest) (*pb.SimpleResponse, error) {
	w := c.call()
	return func(_ context.Context, in *pb.SimpleRequest) (*pb.SimpleResponse, error) {
		if err := w.Send(in); err != nil {
			return nil, err
		}
		return w.Recv()
	}
}

func (c *echoClient) both(context.Context) (exchange, error) { return c.call(), nil }

func (c *echoClient) close() error { return c.nc.Close() }

// An echoStream is a one-way stream: a connection of its own, with a single user.
type echoStream struct {
	nc   net.Conn
	r    *bufio.Reader
	kind byte // of the frames it sends
	out  []byte
	body []byte
	resp pb.SimpleResponse
}

func (c *echoClient) open(ctx context.Context, kind byte) (*echoStream, error) {
	nc, err := net.Dial("tcp", c.addr)
	if err != nil {
		return nil, err
	}
	context.AfterFunc(ctx, func() { nc.Close() })
	return &echoStream{nc: nc, r: bufio.NewReaderSize(nc, echoBuffer), kind: kind, resp: pb.SimpleResponse{Payload: &pb.Payload{}}}, nil
}

func (s *echoStream) Send(in *pb.SimpleRequest) error {
	s.out = appendEchoFrame(s.out[:0], 0, s.kind, in.GetPayload().GetBody())
	_, err := s.nc.Write(s.out)
	return err
}

func (s *echoStream) Recv() (*pb.SimpleResponse, error) {
	n, _, _, err := readEchoHeader(s.r)
	if err != nil {
		return nil, err
	}
	s.body = grow(s.body, n)
	if _, err := io.ReadFull(s.r, s.body); err != nil {
		return nil, err
	}
	s.resp.Payload.Body = s.body
	return &s.resp, nil
}

func (s *echoStream) CloseAndRecv() (*pb.SimpleResponse, error) {
	s.kind = echoTotal
	if err := s.Send(nil); err != nil {
		return nil, err
	}
	out, err := s.Recv()
	if err != nil {
		return nil, err
	}
	return &pb.SimpleResponse{Hostname: string(out.GetPayload().GetBody())}, s.nc.Close()
}

func (c *echoClient) down(ctx context.Context, _ *pb.SimpleRequest) (receiver, error) {
	s, err := c.open(ctx, echoPour)
	if err != nil {
		return nil, err
	}
	return s, s.Send(nil)
}

func (c *echoClient) up(ctx context.Context) (sender, error) { return c.open(ctx, echoDrain) }
