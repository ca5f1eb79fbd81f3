// SPDX-License-Identifier: Apache-2.0

package call

import (
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/net/http2"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/faultline-rpc/faultline/fault"
	"github.com/faultline-rpc/faultline/internal/peer"
	"github.com/faultline-rpc/faultline/internal/simnet"
)

const method = "/test.Echo/Say"

// text is the payload of a StringValue.
func text(s string) []byte { return append([]byte{0x0a, byte(len(s))}, s...) }

// script answers the n-th request, on whatever connection, with the n-th
// answer, and all others with the last.
func script(n *atomic.Int32, answers ...peer.Answer) peer.Script {
	return peer.Each(func(p *peer.Peer, stream uint32) error {
		return answers[min(int(n.Add(1)), len(answers))-1](p, stream)
	})
}

// against runs f in a bubble, with a client whose server plays the script.
func against(t *testing.T, s peer.Script, cfg Config, f func(t *testing.T, c *Caller)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		l := simnet.Listen(simnet.Options{Latency: time.Millisecond})
		srv := peer.Serve(l, s)
		c, ch := client(t, l.Dial, cfg)
		f(t, c)
		ch.Close()
		synctest.Wait()
		_ = srv.Close()
	})
}

// forms are the ways to make a call; a circumstance is the same in all.
var forms = map[string]func(c *Caller, ctx context.Context, opts ...grpc.CallOption) (string, error){
	"unary": func(c *Caller, ctx context.Context, opts ...grpc.CallOption) (string, error) {
		var reply wrapperspb.StringValue
		err := c.Invoke(ctx, method, wrapperspb.String("ping"), &reply, opts...)
		return reply.Value, err
	},
	"server stream": func(c *Caller, ctx context.Context, opts ...grpc.CallOption) (string, error) {
		return viaStream(c, ctx, &grpc.StreamDesc{ServerStreams: true}, opts...)
	},
	"client stream": func(c *Caller, ctx context.Context, opts ...grpc.CallOption) (string, error) {
		return viaStream(c, ctx, &grpc.StreamDesc{ClientStreams: true}, opts...)
	},
}

func viaStream(c *Caller, ctx context.Context, desc *grpc.StreamDesc, opts ...grpc.CallOption) (string, error) {
	st, err := c.NewStream(ctx, desc, method, opts...)
	if err != nil {
		return "", err
	}
	if err := st.SendMsg(wrapperspb.String("ping")); err != nil {
		return "", err
	}
	if err := st.CloseSend(); err != nil {
		return "", err
	}
	var reply wrapperspb.StringValue
	if err := st.RecvMsg(&reply); err != nil {
		return "", err
	}
	if desc.ServerStreams {
		if err := st.RecvMsg(new(wrapperspb.StringValue)); err.Error() != "EOF" {
			return reply.Value, err
		}
	}
	return reply.Value, nil
}

var errOwn = errors.New("the program's own reason")

// circumstance is one row: what the server does, how the call is made, and
// what the program must learn.
type circumstance struct {
	name   string
	answer []peer.Answer
	opts   []grpc.CallOption
	ctx    func(context.Context) (context.Context, context.CancelFunc)
	cfg    Config

	entry     *fault.Entry
	code      codes.Code
	side      fault.Side
	processed fault.Processed
	is        []error
	waiting   string
	says      string
	requests  int32
	only      string // one form alone
}

func within(d time.Duration) func(context.Context) (context.Context, context.CancelFunc) {
	return func(ctx context.Context) (context.Context, context.CancelFunc) { return context.WithTimeout(ctx, d) }
}

func withMD(kv ...string) func(context.Context) (context.Context, context.CancelFunc) {
	return func(ctx context.Context) (context.Context, context.CancelFunc) {
		return metadata.AppendToOutgoingContext(ctx, kv...), func() {}
	}
}

// canceledAfter cancels with a cause of the program's.
func canceledAfter(d time.Duration) func(context.Context) (context.Context, context.CancelFunc) {
	return func(ctx context.Context) (context.Context, context.CancelFunc) {
		ctx, cancel := context.WithCancelCause(ctx)
		if d <= 0 {
			cancel(errOwn)
		} else {
			time.AfterFunc(d, func() { cancel(errOwn) })
		}
		return ctx, func() { cancel(nil) }
	}
}

var slow = peer.Silence()

var circumstances = []circumstance{
	{name: "deadline, silent server", answer: []peer.Answer{slow}, ctx: within(time.Second),
		entry: fault.CallDeadline, code: codes.DeadlineExceeded, side: fault.Local, processed: fault.Maybe,
		is: []error{context.DeadlineExceeded}, waiting: fault.PhaseHeaders, says: "1s", requests: 1},
	{name: "deadline in the past", answer: []peer.Answer{peer.OK(text("pong"))}, ctx: within(-time.Second),
		entry: fault.CallDeadlinePast, code: codes.DeadlineExceeded, side: fault.Local, processed: fault.No,
		is: []error{context.DeadlineExceeded}, says: "1s before", requests: 0},
	{name: "canceled", answer: []peer.Answer{slow}, ctx: canceledAfter(time.Second),
		entry: fault.CallCancelled, code: codes.Canceled, side: fault.Local, processed: fault.Maybe,
		is: []error{context.Canceled, errOwn}, waiting: fault.PhaseHeaders, says: errOwn.Error(), requests: 1},
	{name: "canceled before", answer: []peer.Answer{peer.OK(text("pong"))}, ctx: canceledAfter(0),
		entry: fault.CallCancelled, code: codes.Canceled, side: fault.Local, processed: fault.No,
		is: []error{context.Canceled, errOwn}, requests: 0},
	{name: "the server says the deadline has passed", answer: []peer.Answer{peer.After(time.Second, peer.TrailersOnly(4, "too late"))}, ctx: within(time.Second + time.Microsecond),
		entry: fault.CallDeadline, code: codes.DeadlineExceeded, side: fault.Local, processed: fault.Maybe,
		is: []error{context.DeadlineExceeded}, requests: 1},
	{name: "status", answer: []peer.Answer{peer.TrailersOnly(5, "no such book")},
		entry: fault.HandlerStatus, code: codes.NotFound, side: fault.Remote, processed: fault.Yes, says: "desc = no such book", requests: 1},
	{name: "the server's own DEADLINE_EXCEEDED", answer: []peer.Answer{peer.TrailersOnly(4, "database")}, ctx: within(time.Second),
		entry: fault.HandlerStatus, code: codes.DeadlineExceeded, side: fault.Remote, processed: fault.Maybe, says: "database", requests: 1},
	{name: "RST CANCEL", answer: []peer.Answer{peer.RST(http2.ErrCodeCancel)}, ctx: within(time.Second),
		entry: fault.HTTP2RSTCancel, code: codes.Canceled, side: fault.Remote, processed: fault.Maybe, requests: 1},
	{name: "refused twice", answer: []peer.Answer{peer.RST(http2.ErrCodeRefusedStream)},
		entry: fault.HTTP2RefusedStream, code: codes.Unavailable, side: fault.Remote, processed: fault.No, requests: 2},
	{name: "above GOAWAY twice", answer: []peer.Answer{peer.GoAway(-2, http2.ErrCodeNo, "bye")},
		entry: fault.HTTP2GoAway, code: codes.Unavailable, side: fault.Remote, processed: fault.No, requests: 2},
	{name: "connection lost", answer: []peer.Answer{peer.Cut()},
		entry: fault.HTTP2ConnectionLost, code: codes.Unavailable, side: fault.Between, processed: fault.Maybe, requests: 1},
	{name: "web page", answer: []peer.Answer{peer.HTML()},
		entry: fault.WireContentType, code: codes.Unknown, side: fault.Between, processed: fault.Maybe, requests: 1},
	{name: "HTTP 503", answer: []peer.Answer{peer.HTTPStatus(503, "text/plain", "upstream")},
		entry: fault.WireHTTPStatus, code: codes.Unavailable, side: fault.Between, processed: fault.Maybe, requests: 1},
	{name: "does not parse", answer: []peer.Answer{peer.OK([]byte{0xff})},
		entry: fault.CodecResponseParse, code: codes.Internal, side: fault.Remote, processed: fault.Yes, requests: 1},
	{name: "too large", answer: []peer.Answer{peer.Oversized(5 << 20)},
		entry: fault.CodecTooLarge, code: codes.ResourceExhausted, side: fault.Local, processed: fault.Yes, says: "MaxCallRecvMsgSize", requests: 1},
	{name: "too large by option", answer: []peer.Answer{peer.OK(text("pong"))}, opts: []grpc.CallOption{grpc.MaxCallRecvMsgSize(3)},
		entry: fault.CodecTooLarge, code: codes.ResourceExhausted, side: fault.Local, processed: fault.Yes, requests: 1},
	{name: "too large to send", answer: []peer.Answer{peer.OK(text("pong"))}, opts: []grpc.CallOption{grpc.MaxCallSendMsgSize(3)},
		entry: fault.CodecTooLarge, code: codes.ResourceExhausted, side: fault.Local, processed: fault.No, says: "MaxCallSendMsgSize", requests: 0, only: "unary"},
	{name: "corrupt gzip", answer: []peer.Answer{peer.CorruptGzip()},
		entry: fault.CodecDecompress, code: codes.Internal, side: fault.Remote, processed: fault.Yes, requests: 1},
	{name: "unknown compression", answer: []peer.Answer{peer.Compressed("lzw-of-theirs", []byte("x"))},
		entry: fault.CodecResponseCompressor, code: codes.Internal, side: fault.Remote, processed: fault.Maybe, says: "lzw-of-theirs", requests: 1},
	{name: "compressed without encoding", answer: []peer.Answer{peer.Body(peer.MessageWith(1, 1, []byte("x")), "grpc-status", "0")},
		entry: fault.CodecResponseCompressor, code: codes.Internal, side: fault.Remote, processed: fault.Maybe, requests: 1},
	{name: "illegal metadata", answer: []peer.Answer{peer.OK(text("pong"))}, ctx: withMD("bad key", "v"),
		entry: fault.WireIllegalMetadata, code: codes.Internal, side: fault.Local, processed: fault.No, requests: 0},
	{name: "no such compressor", answer: []peer.Answer{peer.OK(text("pong"))}, opts: []grpc.CallOption{grpc.UseCompressor("squeeze")},
		entry: fault.CallMisuse, code: codes.Internal, side: fault.Local, processed: fault.No, says: "squeeze", requests: 0},
	{name: "no such codec", answer: []peer.Answer{peer.OK(text("pong"))}, opts: []grpc.CallOption{grpc.CallContentSubtype("morse")},
		entry: fault.CallMisuse, code: codes.Internal, side: fault.Local, processed: fault.No, says: "morse", requests: 0},
	{name: "authority that is none", answer: []peer.Answer{peer.OK(text("pong"))}, opts: []grpc.CallOption{grpc.CallAuthority("a/b")},
		entry: fault.WireAuthority, code: codes.Unauthenticated, side: fault.Local, processed: fault.No, requests: 0},
	{name: "no message", answer: []peer.Answer{peer.OK()}, only: "unary",
		entry: fault.WireCardinality, code: codes.Unimplemented, side: fault.Remote, processed: fault.Maybe, requests: 1},
	{name: "two messages", answer: []peer.Answer{peer.OK(text("a"), text("b"))}, only: "client stream",
		entry: fault.WireCardinality, code: codes.Unimplemented, side: fault.Remote, processed: fault.Yes, requests: 1},
	{name: "deadline after headers", answer: []peer.Answer{func(p *peer.Peer, id uint32) error {
		return p.SendHeaders(id, false, ":status", "200", "content-type", "application/grpc")
	}}, ctx: within(time.Second),
		entry: fault.CallDeadline, code: codes.DeadlineExceeded, side: fault.Local, processed: fault.Maybe,
		is: []error{context.DeadlineExceeded}, waiting: fault.PhaseMessage, requests: 1},
}

func TestCircumstances(t *testing.T) {
	for _, row := range circumstances {
		for form, do := range forms {
			if row.only != "" && row.only != form {
				continue
			}
			t.Run(row.name+"/"+form, func(t *testing.T) {
				var n atomic.Int32
				against(t, script(&n, row.answer...), row.cfg, func(t *testing.T, c *Caller) {
					ctx := context.Background()
					if row.ctx != nil {
						var cancel context.CancelFunc
						ctx, cancel = row.ctx(ctx)
						defer cancel()
					}
					_, err := do(c, ctx, row.opts...)
					row.judge(t, err)
					synctest.Wait()
					if got := n.Load(); got != row.requests {
						t.Errorf("the server saw %d requests, want %d", got, row.requests)
					}
				})
			})
		}
	}
}

func (row *circumstance) judge(t *testing.T, err error) {
	t.Helper()
	f, ok := fault.From(err)
	if !ok {
		t.Fatalf("got %T %v, want fault %s", err, err, row.entry.ID)
	}
	if f.Entry() != row.entry || f.Code() != row.code || f.Side() != row.side || f.Processed() != row.processed || f.Misplaced() {
		t.Errorf("got %s, %v, side %v, processed %v; want %s, %v, %v, %v\n%+v", f.ID(), f.Code(), f.Side(), f.Processed(),
			row.entry.ID, row.code, row.side, row.processed, f)
	}
	for _, is := range row.is {
		if !errors.Is(err, is) {
			t.Errorf("errors.Is(err, %v) is false: %+v", is, f)
		}
	}
	if row.waiting != "" && f.Evidence().Waiting != row.waiting {
		t.Errorf("waited for %q, want %q", f.Evidence().Waiting, row.waiting)
	}
	if !strings.Contains(err.Error(), row.says) {
		t.Errorf("%q does not say %q", err, row.says)
	}
}
