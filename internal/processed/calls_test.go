// SPDX-License-Identifier: Apache-2.0

package processed

import (
	"context"
	"io"
	"math/rand/v2"
	"strconv"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	testgrpc "google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/stats"

	"github.com/faultline-rpc/faultline/status"
)

// numberKey is the metadata that says which call it is.
const numberKey = "call-number"

// maxMessage is the largest message that clients take and, at times, send.
const maxMessage = 100_000

type kind uint8

const (
	unary kind = iota
	clientStream
	serverStream
	duplex
)

var kindNames = [...]string{"unary", "client stream", "server stream", "duplex"}

// call is one call: what is asked for, and how it went.
type call struct {
	number   int
	kind     kind
	after    time.Duration // it begins so long after the episode
	deadline time.Duration // from its beginning on
	cancel   time.Duration // the program gives up; 0: never
	size     int           // bytes of a request's message
	messages int           // of a stream's request
	pause    time.Duration // between these
	wait     bool          // wait for ready
	method   string        // "" for the kind's
	flaw     string        // of the request, found before anything is sent

	began, ended time.Time
	err          error
}

func newCall(r *rand.Rand, number int, span time.Duration) *call {
	c := &call{number: number, messages: 1 + r.IntN(3), after: within(r, span), deadline: time.Second + within(r, 2*time.Second), size: r.IntN(50)}
	if r.IntN(10) >= 7 {
		c.kind = clientStream + kind(r.IntN(3))
	}
	switch r.IntN(4) {
	case 0:
		c.deadline = within(r, 3*span)
	case 1:
		c.cancel = 1 + within(r, 3*span)
	}
	switch r.IntN(12) {
	case 0:
		c.size = maxMessage/2 + r.IntN(maxMessage)
	case 1:
		c.size = 10_000
	}
	if r.IntN(2) == 0 {
		c.pause = within(r, span)
	}
	c.wait = r.IntN(4) == 0
	switch r.IntN(40) {
	case 0:
		c.flaw = "metadata"
	case 1:
		c.flaw = "compressor"
	case 2:
		c.flaw = "deadline"
	case 3:
		c.method = "/no.Such/Method"
	case 4:
		c.method = "/grpc.testing.TestService/NoSuchMethod"
	case 5:
		c.flaw = "header list"
	}
	return c
}

// within is a random time below d, to the nanosecond.
func within(r *rand.Rand, d time.Duration) time.Duration {
	return time.Duration(r.Int64N(int64(d) + 1))
}

// make makes the call, from its moment on.
func (c *call) make(cc grpc.ClientConnInterface) {
	<-time.After(c.after)
	c.began = time.Now()
	deadline := c.deadline
	if c.flaw == "deadline" {
		deadline = -deadline
	}
	ctx, cancel := context.WithTimeout(context.Background(), deadline)
	defer cancel()
	if c.cancel > 0 {
		defer time.AfterFunc(c.cancel, cancel).Stop()
	}
	ctx = metadata.AppendToOutgoingContext(ctx, numberKey, strconv.Itoa(c.number))
	opts := []grpc.CallOption{grpc.WaitForReady(c.wait), grpc.MaxCallRecvMsgSize(maxMessage), grpc.MaxCallSendMsgSize(maxMessage)}
	switch c.flaw {
	case "metadata":
		ctx = metadata.AppendToOutgoingContext(ctx, "bad name", "x")
	case "compressor":
		opts = append(opts, grpc.UseCompressor("nobody-has-this"))
	case "header list":
		ctx = metadata.AppendToOutgoingContext(ctx, "large", strings.Repeat("x", 100<<10))
	}
	c.err = c.exchange(ctx, cc, opts)
	c.ended = time.Now()
}

func (c *call) exchange(ctx context.Context, cc grpc.ClientConnInterface, opts []grpc.CallOption) error {
	body := &testgrpc.Payload{Body: make([]byte, c.size)}
	name := c.method
	if c.kind == unary {
		if name == "" {
			name = testgrpc.TestService_UnaryCall_FullMethodName
		}
		return cc.Invoke(ctx, name, &testgrpc.SimpleRequest{Payload: body}, new(testgrpc.SimpleResponse), opts...)
	}
	var desc *grpc.StreamDesc
	var in, out any
	switch service := &testgrpc.TestService_ServiceDesc; c.kind {
	case clientStream:
		desc, in, out = streamOf(service, "StreamingInputCall"), &testgrpc.StreamingInputCallRequest{Payload: body}, new(testgrpc.StreamingInputCallResponse)
	case serverStream:
		desc, in, out = streamOf(service, "StreamingOutputCall"), &testgrpc.StreamingOutputCallRequest{Payload: body}, new(testgrpc.StreamingOutputCallResponse)
	default:
		desc, in, out = streamOf(service, "FullDuplexCall"), &testgrpc.StreamingOutputCallRequest{Payload: body}, new(testgrpc.StreamingOutputCallResponse)
	}
	if name == "" {
		name = "/" + testgrpc.TestService_ServiceDesc.ServiceName + "/" + desc.StreamName
	}
	s, err := cc.NewStream(ctx, desc, name, opts...)
	if err != nil {
		return err
	}
	return c.converse(s, in, out)
}

func streamOf(d *grpc.ServiceDesc, name string) *grpc.StreamDesc {
	for i := range d.Streams {
		if d.Streams[i].StreamName == name {
			return &d.Streams[i]
		}
	}
	return nil
}

// converse sends what there is to send and then receives until the end, which
// it returns.
func (c *call) converse(s grpc.ClientStream, in, out any) error {
	n := 1
	if c.kind != serverStream {
		n = c.messages
	}
	for i := range n {
		if i > 0 && c.pause > 0 {
			select {
			case <-time.After(c.pause):
			case <-s.Context().Done():
			}
		}
		err := s.SendMsg(in)
		if err == io.EOF {
			break // RecvMsg says why
		}
		if err != nil {
			return err
		}
	}
	_ = s.CloseSend()
	err := s.RecvMsg(out)
	for err == nil && c.kind != clientStream {
		err = s.RecvMsg(out)
	}
	if err == io.EOF {
		return nil
	}
	return err
}

// purse is a credential that at times takes long, or has nothing.
type purse struct{ episode *episode }

// RequireTransportSecurity implements credentials.PerRPCCredentials.
func (purse) RequireTransportSecurity() bool { return false }

// GetRequestMetadata implements credentials.PerRPCCredentials.
func (p purse) GetRequestMetadata(ctx context.Context, _ ...string) (map[string]string, error) {
	md, _ := metadata.FromOutgoingContext(ctx)
	switch number(md) % 6 {
	case 0:
		return nil, errPlain
	case 1:
		return nil, status.Error(codes.Unavailable, "no token today")
	case 2:
		select {
		case <-time.After(p.episode.span):
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	return map[string]string{"token": "t"}, nil
}

// onlooker is a stats handler with no opinion.
type onlooker struct{}

func (onlooker) TagRPC(ctx context.Context, _ *stats.RPCTagInfo) context.Context   { return ctx }
func (onlooker) HandleRPC(context.Context, stats.RPCStats)                         {}
func (onlooker) TagConn(ctx context.Context, _ *stats.ConnTagInfo) context.Context { return ctx }
func (onlooker) HandleConn(context.Context, stats.ConnStats)                       {}
