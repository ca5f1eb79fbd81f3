// SPDX-License-Identifier: Apache-2.0

package subject

import (
	"context"
	"fmt"
	"io"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/proto"

	"github.com/faultline-rpc/faultline/conformance/internal/gen/conformancev1"
)

// reply is any response of the service that carries a payload.
type reply interface {
	proto.Message
	GetPayload() *conformancev1.ConformancePayload
}

// exchange is one call, as the runner described it.
type exchange struct {
	stub   conformancev1.ConformanceServiceClient
	req    *conformancev1.ClientCompatRequest
	msgs   []proto.Message
	opts   []grpc.CallOption
	when   timing
	result *conformancev1.ClientResponseResult
}

// timing says when a call is canceled.
type timing struct {
	beforeClose bool
	afterClose  time.Duration // negative: not then
	afterCount  int           // 0: not then
}

func timingOf(c *conformancev1.ClientCompatRequest_Cancel) timing {
	t := timing{afterClose: -1}
	if c == nil {
		return t
	}
	switch w := c.GetCancelTiming().(type) {
	case *conformancev1.ClientCompatRequest_Cancel_BeforeCloseSend:
		t.beforeClose = true
	case *conformancev1.ClientCompatRequest_Cancel_AfterNumResponses:
		t.afterCount = int(w.AfterNumResponses)
	default: // nothing said means at once
		t.afterClose = time.Duration(c.GetAfterCloseSendMs()) * time.Millisecond
	}
	return t
}

func newExchange(cc grpc.ClientConnInterface, req *conformancev1.ClientCompatRequest) (*exchange, error) {
	x := &exchange{stub: conformancev1.NewConformanceServiceClient(cc), req: req, when: timingOf(req.GetCancel()),
		result: &conformancev1.ClientResponseResult{}}
	for i, a := range req.GetRequestMessages() {
		m, err := a.UnmarshalNew()
		if err != nil {
			return nil, fmt.Errorf("request message %d: %w", i, err)
		}
		x.msgs = append(x.msgs, m)
	}
	opts, err := formats(req)
	if err != nil {
		return nil, err
	}
	x.opts = opts
	if n := req.GetMessageReceiveLimit(); n > 0 {
		x.opts = append(x.opts, grpc.MaxCallRecvMsgSize(int(n)))
	}
	return x, nil
}

// run makes the call. The error is nil once the call has begun, whatever
// becomes of it.
func (x *exchange) run(ctx context.Context) (*conformancev1.ClientResponseResult, error) {
	ctx, cancel := context.WithCancel(metadata.NewOutgoingContext(ctx, toMetadata(x.req.GetRequestHeaders())))
	defer cancel()
	if x.req.TimeoutMs != nil {
		ctx, cancel = context.WithTimeout(ctx, time.Duration(x.req.GetTimeoutMs())*time.Millisecond)
		defer cancel()
	}
	var err error
	switch m := x.req.GetMethod(); m {
	case "Unary":
		err = unary(ctx, cancel, x, x.stub.Unary)
	case "Unimplemented":
		err = unary(ctx, cancel, x, x.stub.Unimplemented)
	case "ServerStream":
		var r *conformancev1.ServerStreamRequest
		if r, err = one[*conformancev1.ServerStreamRequest](x); err == nil {
			x.serverStream(ctx, cancel, r)
		}
	case "ClientStream":
		stream, failed := x.stub.ClientStream(ctx, x.opts...)
		x.stream(stream, failed, cancel, func() reply { return new(conformancev1.ClientStreamResponse) })
	case "BidiStream":
		stream, failed := x.stub.BidiStream(ctx, x.opts...)
		x.stream(stream, failed, cancel, func() reply { return new(conformancev1.BidiStreamResponse) })
	default:
		err = fmt.Errorf("there is no method %q for gRPC", m)
	}
	if err != nil {
		return nil, err
	}
	return x.result, nil
}

// one returns the single request message.
func one[Req proto.Message](x *exchange) (Req, error) {
	var none Req
	if len(x.msgs) != 1 {
		return none, fmt.Errorf("there are %d request messages, want 1", len(x.msgs))
	}
	r, ok := x.msgs[0].(Req)
	if !ok {
		return none, fmt.Errorf("the request is a %T, want a %T", x.msgs[0], none)
	}
	return r, nil
}

// unary makes a unary call; the stub blocks, so a cancellation runs beside it.
func unary[Req, Resp proto.Message](ctx context.Context, cancel context.CancelFunc, x *exchange, stub func(context.Context, Req, ...grpc.CallOption) (Resp, error)) error {
	req, err := one[Req](x)
	if err != nil {
		return err
	}
	if x.when.afterClose >= 0 {
		defer time.AfterFunc(x.when.afterClose, cancel).Stop()
	}
	var header, trailer metadata.MD
	resp, err := stub(ctx, req, append(x.opts, grpc.Header(&header), grpc.Trailer(&trailer))...)
	if r, ok := any(resp).(reply); ok && err == nil {
		x.result.Payloads = append(x.result.Payloads, r.GetPayload())
	}
	x.end(err, header, trailer)
	return nil
}

// end records how the call ended.
func (x *exchange) end(err error, header, trailer metadata.MD) {
	x.result.Error = fromError(err)
	x.result.ResponseHeaders, x.result.ResponseTrailers = fromMetadata(header), fromMetadata(trailer)
}

func (x *exchange) serverStream(ctx context.Context, cancel context.CancelFunc, req *conformancev1.ServerStreamRequest) {
	stream, err := x.stub.ServerStream(ctx, req, x.opts...)
	if err != nil {
		x.result.NumUnsentRequests = 1
		x.end(err, nil, nil)
		return
	}
	defer x.cancelAfterClose(cancel)()
	x.receive(stream, cancel, func() reply { return new(conformancev1.ServerStreamResponse) }, nil)
}

// cancelAfterClose is called when no more is sent. What it returns is to be
// called at the end.
func (x *exchange) cancelAfterClose(cancel context.CancelFunc) (stop func() bool) {
	if x.when.afterClose < 0 {
		return func() bool { return false }
	}
	if x.when.afterClose == 0 {
		cancel()
	}
	return time.AfterFunc(x.when.afterClose, cancel).Stop
}

// stream makes a call whose requests are streamed. failed is the error of
// opening it.
func (x *exchange) stream(stream grpc.ClientStream, failed error, cancel context.CancelFunc, fresh func() reply) {
	if failed != nil {
		x.result.NumUnsentRequests = int32(len(x.msgs))
		x.end(failed, nil, nil)
		return
	}
	duplex := x.req.GetStreamType() == conformancev1.StreamType_STREAM_TYPE_FULL_DUPLEX_BIDI_STREAM
	for i, m := range x.msgs {
		time.Sleep(time.Duration(x.req.GetRequestDelayMs()) * time.Millisecond)
		if err := stream.SendMsg(m); err != nil {
			x.result.NumUnsentRequests = int32(len(x.msgs) - i)
			x.receive(stream, cancel, fresh, err)
			return
		}
		if duplex && !x.next(stream, cancel, fresh, nil) {
			return
		}
	}
	if x.when.beforeClose {
		cancel()
	} else if err := stream.CloseSend(); err != nil {
		x.receive(stream, cancel, fresh, err)
		return
	}
	defer x.cancelAfterClose(cancel)()
	x.receive(stream, cancel, fresh, nil)
}

// receive reads the rest of the answer. sendErr is why sending ended early, if
// it did: io.EOF when only receiving tells why.
func (x *exchange) receive(stream grpc.ClientStream, cancel context.CancelFunc, fresh func() reply, sendErr error) {
	for x.next(stream, cancel, fresh, sendErr) {
	}
}

// next receives one response, and reports whether there can be more.
func (x *exchange) next(stream grpc.ClientStream, cancel context.CancelFunc, fresh func() reply, sendErr error) bool {
	m := fresh()
	err := stream.RecvMsg(m)
	if err == nil {
		x.result.Payloads = append(x.result.Payloads, m.GetPayload())
		if len(x.result.Payloads) == x.when.afterCount {
			cancel()
		}
		// After the only response of such a method there is nothing to receive.
		if _, only := m.(*conformancev1.ClientStreamResponse); !only {
			return true
		}
	}
	if err == io.EOF {
		err = nil
	}
	if err == nil && sendErr != nil && sendErr != io.EOF {
		err = sendErr
	}
	header, headerErr := stream.Header()
	if headerErr != nil {
		header = nil
	}
	x.end(err, header, stream.Trailer())
	return false
}
