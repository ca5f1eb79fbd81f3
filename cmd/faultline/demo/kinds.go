// SPDX-License-Identifier: Apache-2.0

package demo

import (
	"context"
	"errors"
	"fmt"
	"io"

	testpb "google.golang.org/grpc/interop/grpc_testing"
)

// Kind is a call of one of the four kinds that succeeded, or Error.
type Kind struct {
	Kind     string `json:"kind"`
	Method   string `json:"method"`
	Sent     int    `json:"sent"`     // messages
	Received int    `json:"received"` // messages
	OK       bool   `json:"ok"`
	Error    string `json:"error,omitempty"`
}

// several is how many messages the streaming kinds exchange.
const several = 3

// payloadSize is the size of each payload, in bytes.
const payloadSize = 100

// kinds makes a call of each kind against an embedded server.
func kinds(ctx context.Context, l *lab) (address string, all []Kind, err error) {
	s, err := l.serve(nil)
	if err != nil {
		return "", nil, err
	}
	cc, err := l.dial(s.addr)
	if err != nil {
		return "", nil, err
	}
	c := testpb.NewTestServiceClient(cc)
	for _, k := range []struct {
		kind, method string
		call         func(context.Context, testpb.TestServiceClient, *Kind) error
	}{
		{"unary", unaryMethod, callUnary},
		{"client-streaming", inputMethod, callInput},
		{"server-streaming", outputMethod, callOutput},
		{"bidirectional", duplexMethod, callDuplex},
	} {
		one := Kind{Kind: k.kind, Method: k.method}
		err := k.call(ctx, c, &one)
		if one.OK = err == nil; err != nil {
			one.Error = err.Error()
		}
		all = append(all, one)
	}
	return s.addr, all, nil
}

func size(p *testpb.Payload) error {
	if n := len(p.GetBody()); n != payloadSize {
		return fmt.Errorf("a payload of %d bytes came, want %d", n, payloadSize)
	}
	return nil
}

func callUnary(ctx context.Context, c testpb.TestServiceClient, k *Kind) error {
	k.Sent++
	out, err := c.UnaryCall(ctx, &testpb.SimpleRequest{ResponseSize: payloadSize})
	if err != nil {
		return err
	}
	k.Received++
	return size(out.GetPayload())
}

func callInput(ctx context.Context, c testpb.TestServiceClient, k *Kind) error {
	s, err := c.StreamingInputCall(ctx)
	if err != nil {
		return err
	}
	for range several {
		// An error of Send is io.EOF; CloseAndRecv tells the true one.
		if s.Send(&testpb.StreamingInputCallRequest{Payload: &testpb.Payload{Body: make([]byte, payloadSize)}}) == nil {
			k.Sent++
		}
	}
	out, err := s.CloseAndRecv()
	if err != nil {
		return err
	}
	k.Received++
	if n := out.GetAggregatedPayloadSize(); n != several*payloadSize {
		return fmt.Errorf("the server counted %d bytes, want %d", n, several*payloadSize)
	}
	return nil
}

// output asks for n payloads.
func output(n int) *testpb.StreamingOutputCallRequest {
	in := new(testpb.StreamingOutputCallRequest)
	for range n {
		in.ResponseParameters = append(in.ResponseParameters, &testpb.ResponseParameters{Size: payloadSize})
	}
	return in
}

func callOutput(ctx context.Context, c testpb.TestServiceClient, k *Kind) error {
	s, err := c.StreamingOutputCall(ctx, output(several))
	if err != nil {
		return err
	}
	k.Sent++
	for range several {
		out, err := s.Recv()
		if err != nil {
			return err
		}
		k.Received++
		if err := size(out.GetPayload()); err != nil {
			return err
		}
	}
	return ended(s.Recv())
}

func callDuplex(ctx context.Context, c testpb.TestServiceClient, k *Kind) error {
	s, err := c.FullDuplexCall(ctx)
	if err != nil {
		return err
	}
	for range several {
		if s.Send(output(1)) == nil {
			k.Sent++
		}
		out, err := s.Recv()
		if err != nil {
			return err
		}
		k.Received++
		if err := size(out.GetPayload()); err != nil {
			return err
		}
	}
	if err := s.CloseSend(); err != nil {
		return err
	}
	return ended(s.Recv())
}

// ended wants the end of a stream.
func ended(_ *testpb.StreamingOutputCallResponse, err error) error {
	switch {
	case err == nil:
		return errors.New("one message too many came")
	case errors.Is(err, io.EOF):
		return nil
	}
	return err
}
