// SPDX-License-Identifier: Apache-2.0

// Package provoked_test brings about every circumstance of the catalogue with
// a client and a server of this module, against peers that misbehave. Its
// golden files are the list of what people read of failures:
//
//	go test ./fault/provoked -update
package provoked_test

import (
	"bytes"
	"context"
	"errors"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/stats"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/faultline-rpc/faultline"
	"github.com/faultline-rpc/faultline/event"
	"github.com/faultline-rpc/faultline/internal/peer"
	"github.com/faultline-rpc/faultline/internal/simnet"
)

// Everything lives in one house: a server's address, and the methods of its
// service.
const (
	server = "orders:50051"
	place  = "/shop.Orders/Place"
	watch  = "/shop.Orders/Watch"
	upload = "/shop.Orders/Upload"
)

// world is where one circumstance is provoked. Its network is in memory and,
// but for the rows that say otherwise, its time is fake.
type world struct {
	*testing.T
	net *simnet.Network
	log journal
}

func newWorld(t *testing.T) *world {
	return &world{T: t, net: simnet.NewNetwork(simnet.Options{Latency: time.Millisecond})}
}

// journal is what the ends of a world log.
type journal struct {
	mu  sync.Mutex
	out bytes.Buffer // guarded by mu
}

// Write implements io.Writer.
func (j *journal) Write(p []byte) (int, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.out.Write(p)
}

// inOrder returns the lines, the client's before the server's, and those of
// calls before those of connections, which other goroutines write. How often
// connecting is tried depends on chance: lines that repeat count once.
func (j *journal) inOrder() string {
	j.mu.Lock()
	defer j.mu.Unlock()
	lines := strings.SplitAfter(j.out.String(), "\n")
	place := func(line string) int {
		n := 0
		if strings.Contains(line, " role=server ") {
			n = 2
		}
		if !strings.Contains(line, "finished call") {
			n++
		}
		return n
	}
	slices.SortStableFunc(lines[:len(lines)-1], func(a, b string) int { return place(a) - place(b) })
	return strings.Join(slices.Compact(lines), "")
}

func (w *world) must(err error) {
	w.Helper()
	if err != nil {
		w.Fatal(err)
	}
}

func (w *world) listen() net.Listener {
	l, err := w.net.Listen(server)
	w.must(err)
	return l
}

// script has the server's address play a script. What the script thinks of the
// dialogue is no matter here: many end because the other end hangs up.
func (w *world) script(s peer.Script, o ...peer.Options) { w.scriptOn(w.listen(), s, o...) }

func (w *world) scriptOn(l net.Listener, s peer.Script, o ...peer.Options) {
	svc := peer.Serve(l, s, o...)
	w.Cleanup(func() { _ = svc.Close() })
}

// raw has the server's address answer in bytes.
func (w *world) raw(r peer.Raw) {
	svc := peer.ServeRaw(w.listen(), r)
	w.Cleanup(func() { _ = svc.Close() })
}

// client makes a client of the server's address, in cleartext unless told.
func (w *world) client(opts ...faultline.DialOption) *faultline.ClientConn {
	w.Helper()
	return w.clientOf("passthrough:///"+server, append([]faultline.DialOption{faultline.WithContextDialer(w.net.Dial)}, opts...)...)
}

func (w *world) clientOf(target string, opts ...faultline.DialOption) *faultline.ClientConn {
	w.Helper()
	cc, err := faultline.NewClient(target, append([]faultline.DialOption{
		faultline.WithTransportCredentials(insecure.NewCredentials()), faultline.WithLogger(logger(&w.log))}, opts...)...)
	w.must(err)
	w.Cleanup(func() { _ = cc.Close() })
	return cc
}

// call makes a unary call with a client of its own.
func (w *world) call(opts ...faultline.DialOption) error {
	w.Helper()
	return order(context.Background(), w.client(opts...))
}

// order makes a unary call.
func order(ctx context.Context, cc grpc.ClientConnInterface, opts ...grpc.CallOption) error {
	return cc.Invoke(ctx, place, wrapperspb.String("tea"), new(wrapperspb.StringValue), opts...)
}

// scriptedClient connects a scripted client to the server's address; its
// handshake is made.
func (w *world) scriptedClient(o ...peer.Options) *peer.T {
	w.Helper()
	c, err := w.net.Dial(context.Background(), server)
	w.must(err)
	p := peer.Client(w, c, o...)
	p.Handshake()
	return p
}

// shop is a server of this module, and what it tells of its calls.
type shop struct {
	*faultline.Server
	place  func(ctx context.Context, in *wrapperspb.StringValue) (*wrapperspb.StringValue, error)
	stream func(grpc.ServerStream) error

	began   chan struct{} // a value for each handler that started
	refused chan error    // calls that no handler saw
	ended   chan error    // how the others ended, for observers
	causes  chan error    // why contexts of handlers that waited ended
	closed  chan error    // why connections ended
	away    chan event.GoAwaySent
}

// serve starts a shop at the server's address. Without handlers it is polite.
func (w *world) serve(s *shop, opts ...faultline.ServerOption) *shop {
	return w.serveOn(w.listen(), s, opts...)
}

func (w *world) serveOn(l net.Listener, s *shop, opts ...faultline.ServerOption) *shop {
	if s == nil {
		s = &shop{}
	}
	s.began, s.away = make(chan struct{}, 16), make(chan event.GoAwaySent, 16)
	s.refused, s.ended, s.causes, s.closed = make(chan error, 16), make(chan error, 16), make(chan error, 16), make(chan error, 16)
	s.Server = faultline.NewServer(append([]faultline.ServerOption{
		faultline.EventSink(s), faultline.StatsHandler(s), faultline.Logger(logger(&w.log)),
	}, opts...)...)
	s.RegisterService(&orders, s)
	done := make(chan struct{})
	go func() { defer close(done); _ = s.Serve(l) }()
	w.Cleanup(func() { s.Stop(); <-done })
	return s
}

var orders = grpc.ServiceDesc{
	ServiceName: "shop.Orders",
	HandlerType: (*any)(nil),
	Methods:     []grpc.MethodDesc{{MethodName: "Place", Handler: placed}},
	Streams: []grpc.StreamDesc{
		{StreamName: "Watch", Handler: streamed, ServerStreams: true},
		{StreamName: "Upload", Handler: streamed, ClientStreams: true},
	},
}

func placed(srv any, ctx context.Context, decode func(any) error, _ grpc.UnaryServerInterceptor) (any, error) {
	s := srv.(*shop)
	in := new(wrapperspb.StringValue)
	if err := decode(in); err != nil {
		return nil, err
	}
	note(s.began, struct{}{})
	if s.place == nil {
		return in, nil
	}
	return s.place(ctx, in)
}

func streamed(srv any, st grpc.ServerStream) error {
	s := srv.(*shop)
	note(s.began, struct{}{})
	if s.stream == nil {
		return nil
	}
	return s.stream(st)
}

// holding is a shop whose handlers wait for the end of their context, at most
// for as long as told, and then succeed.
func holding(d time.Duration) *shop {
	s := &shop{}
	s.place = func(ctx context.Context, in *wrapperspb.StringValue) (*wrapperspb.StringValue, error) {
		select {
		case <-ctx.Done():
			note(s.causes, context.Cause(ctx))
			return nil, ctx.Err()
		case <-time.After(d):
			note(s.causes, nil)
			return in, nil
		}
	}
	return s
}

// note keeps a value if there is room.
func note[T any](in chan<- T, v T) {
	select {
	case in <- v:
	default:
	}
}

// next waits for what a shop tells.
func next[T any](w *world, from <-chan T, what string) T {
	w.Helper()
	select {
	case v := <-from:
		return v
	case <-time.After(time.Hour): // in fake time, that is when nothing else is left to happen
		w.Fatalf("waited in vain for %s", what)
		panic("unreachable")
	}
}

// Record implements event.Sink.
func (s *shop) Record(e event.Event) {
	switch e := e.(type) {
	case event.CallRefused:
		note(s.refused, e.Err)
	case event.ConnClosed:
		note(s.closed, e.Err)
	case event.GoAwaySent:
		note(s.away, e)
	}
}

// TagRPC implements stats.Handler.
func (*shop) TagRPC(ctx context.Context, _ *stats.RPCTagInfo) context.Context { return ctx }

// TagConn implements stats.Handler.
func (*shop) TagConn(ctx context.Context, _ *stats.ConnTagInfo) context.Context { return ctx }

// HandleConn implements stats.Handler.
func (*shop) HandleConn(context.Context, stats.ConnStats) {}

// HandleRPC implements stats.Handler.
func (s *shop) HandleRPC(_ context.Context, e stats.RPCStats) {
	if end, ok := e.(*stats.End); ok {
		note(s.ended, end.Error)
	}
}

// pause waits; rows that use it run in a bubble.
func pause(d time.Duration) { time.Sleep(d) }

// text is the payload of a StringValue.
func text(s string) []byte { return append([]byte{0x0a, byte(len(s))}, s...) }

// ok is the answer of a server with nothing wrong.
var ok = peer.OK(text("done"))

// answers provokes with a scripted answer; the remedy is a server, or a path
// to it, that is mended.
func answers(bad peer.Answer, opts ...faultline.DialOption) func(*world, bool) error {
	return func(w *world, mended bool) error {
		answer := bad
		if mended {
			answer = ok
		}
		w.script(peer.Each(answer))
		return w.call(opts...)
	}
}

// asked provokes with a request of a scripted client, whose refusal the server
// records; the remedy is a client that sends what is proper.
func asked(path string, body []byte, changes ...string) func(*world, bool) error {
	return func(w *world, mended bool) error {
		s := w.serve(nil)
		p := w.scriptedClient()
		if mended {
			return request(w, p, s, place, peer.Message(text("tea")))
		}
		return request(w, p, s, path, body, changes...)
	}
}

// request makes a scripted call and returns how the server ended it, nil for
// success. What the client gets must agree.
func request(w *world, p *peer.T, s *shop, path string, body []byte, changes ...string) error {
	w.Helper()
	p.SendRequest(1, body == nil, path, changes...)
	if body != nil {
		// The server may have answered, and reset the stream, already.
		if err := p.Peer.SendBody(1, body, true); err != nil && !p.Ended(err) {
			w.Fatal(err)
		}
	}
	select {
	case err := <-s.refused:
		return err
	case err := <-s.ended:
		return err
	case <-time.After(time.Minute):
		return errors.New("the server ended the call neither well nor ill")
	}
}
