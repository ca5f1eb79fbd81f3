// SPDX-License-Identifier: Apache-2.0

package subject

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/emptypb"

	"github.com/faultline-rpc/faultline/conformance/internal/gen/conformancev1"
)

// pair runs a server of each engine and hands its address and the engine to
// the test.
func pair(t *testing.T, test func(*testing.T, Engine, *conformancev1.ServerCompatResponse)) {
	for _, name := range []string{"faultline", "grpc-go"} {
		t.Run(name, func(t *testing.T) {
			e, err := EngineByName(name)
			if err != nil {
				t.Fatal(err)
			}
			var in bytes.Buffer
			if err := writeDelimited(&in, &conformancev1.ServerCompatRequest{
				Protocol: conformancev1.Protocol_PROTOCOL_GRPC, HttpVersion: conformancev1.HTTPVersion_HTTP_VERSION_2, MessageReceiveLimit: 2000,
			}); err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithCancel(t.Context())
			r, w := io.Pipe()
			done := make(chan error, 1)
			go func() {
				err := Serve(ctx, e, &in, w)
				_ = w.CloseWithError(errors.Join(err, io.ErrUnexpectedEOF))
				done <- err
			}()
			defer func() {
				cancel()
				if err := <-done; err != nil {
					t.Errorf("Serve: %v", err)
				}
			}()
			addr := &conformancev1.ServerCompatResponse{}
			if err := readDelimited(r, addr); err != nil {
				t.Fatal(err)
			}
			test(t, e, addr)
		})
	}
}

// exchangeAll hands requests to Call and returns the responses by name.
func exchangeAll(t *testing.T, e Engine, addr *conformancev1.ServerCompatResponse, reqs ...*conformancev1.ClientCompatRequest) map[string]*conformancev1.ClientCompatResponse {
	t.Helper()
	var in, out bytes.Buffer
	for _, r := range reqs {
		r.Host, r.Port, r.Service = addr.GetHost(), addr.GetPort(), proto.String("connectrpc.conformance.v1.ConformanceService")
		if err := writeDelimited(&in, r); err != nil {
			t.Fatal(err)
		}
	}
	if err := Call(t.Context(), e, &in, &out); err != nil {
		t.Fatalf("Call: %v", err)
	}
	got := map[string]*conformancev1.ClientCompatResponse{}
	for {
		resp := &conformancev1.ClientCompatResponse{}
		err := readDelimited(&out, resp)
		if err == io.EOF {
			return got
		}
		if err != nil {
			t.Fatal(err)
		}
		got[resp.GetTestName()] = resp
	}
}

func request(t *testing.T, name, method string, kind conformancev1.StreamType, msgs ...proto.Message) *conformancev1.ClientCompatRequest {
	t.Helper()
	r := &conformancev1.ClientCompatRequest{TestName: name, Method: proto.String(method), StreamType: kind,
		RequestHeaders: []*conformancev1.Header{{Name: "x-ask", Value: []string{"1", "2"}}}}
	for _, m := range msgs {
		a, err := anypb.New(m)
		if err != nil {
			t.Fatal(err)
		}
		r.RequestMessages = append(r.RequestMessages, a)
	}
	return r
}

var (
	h = []*conformancev1.Header{{Name: "x-head", Value: []string{"h"}}}
	l = []*conformancev1.Header{{Name: "x-tail-bin", Value: []string{"AAE"}}}
)

func unaryDefinition(data string) *conformancev1.UnaryResponseDefinition {
	return &conformancev1.UnaryResponseDefinition{ResponseHeaders: h, ResponseTrailers: l,
		Response: &conformancev1.UnaryResponseDefinition_ResponseData{ResponseData: []byte(data)}}
}

func streamDefinition(e *conformancev1.Error, data ...string) *conformancev1.StreamResponseDefinition {
	d := &conformancev1.StreamResponseDefinition{ResponseHeaders: h, ResponseTrailers: l, Error: e}
	for _, s := range data {
		d.ResponseData = append(d.ResponseData, []byte(s))
	}
	return d
}

// outline is what came of a call, without what differs from run to run.
func outline(t *testing.T, resp *conformancev1.ClientCompatResponse) string {
	t.Helper()
	r := resp.GetResponse()
	if r == nil {
		return "not made: " + resp.GetError().GetMessage()
	}
	var s []string
	for _, p := range r.GetPayloads() {
		s = append(s, string(p.GetData())+"/"+strings.Repeat("r", len(p.GetRequestInfo().GetRequests())))
	}
	if e := r.GetError(); e != nil {
		s = append(s, strings.TrimPrefix(e.GetCode().String(), "CODE_"))
		for _, d := range e.GetDetails() {
			info := &conformancev1.ConformancePayload_RequestInfo{}
			if err := d.UnmarshalTo(info); err != nil {
				t.Fatal(err)
			}
			s = append(s, "detail/"+strings.Repeat("r", len(info.GetRequests())))
		}
	}
	for _, x := range r.GetResponseHeaders() {
		if x.GetName() == "x-head" {
			s = append(s, "x-head")
		}
	}
	for _, x := range r.GetResponseTrailers() {
		if x.GetName() == "x-tail-bin" && x.GetValue()[0] == "AAE" {
			s = append(s, "x-tail-bin")
		}
	}
	return strings.Join(s, " ")
}

func TestCalls(t *testing.T) {
	const (
		u  = conformancev1.StreamType_STREAM_TYPE_UNARY
		ss = conformancev1.StreamType_STREAM_TYPE_SERVER_STREAM
		cs = conformancev1.StreamType_STREAM_TYPE_CLIENT_STREAM
		hd = conformancev1.StreamType_STREAM_TYPE_HALF_DUPLEX_BIDI_STREAM
		fd = conformancev1.StreamType_STREAM_TYPE_FULL_DUPLEX_BIDI_STREAM
	)
	aborted := &conformancev1.Error{Code: conformancev1.Code_CODE_ABORTED, Message: proto.String("m")}
	bidi := func(d *conformancev1.StreamResponseDefinition, duplex bool) []proto.Message {
		return []proto.Message{&conformancev1.BidiStreamRequest{ResponseDefinition: d, FullDuplex: duplex}, &conformancev1.BidiStreamRequest{}}
	}
	late := streamDefinition(nil, "a", "b")
	late.ResponseDelayMs, late.ResponseHeaders, late.ResponseTrailers = 60_000, nil, nil
	canceled := func(r *conformancev1.ClientCompatRequest, c *conformancev1.ClientCompatRequest_Cancel) *conformancev1.ClientCompatRequest {
		r.Cancel = c
		return r
	}
	deadline := request(t, "deadline", "ServerStream", ss, &conformancev1.ServerStreamRequest{ResponseDefinition: late})
	deadline.TimeoutMs = proto.Uint32(50)
	gzip := request(t, "gzip", "Unary", u, &conformancev1.UnaryRequest{ResponseDefinition: unaryDefinition("z")})
	gzip.Compression = conformancev1.Compression_COMPRESSION_GZIP
	limit := request(t, "limit", "Unary", u, &conformancev1.UnaryRequest{ResponseDefinition: &conformancev1.UnaryResponseDefinition{
		Response: &conformancev1.UnaryResponseDefinition_ResponseData{ResponseData: make([]byte, 500)}}})
	limit.MessageReceiveLimit = 200
	unknown := request(t, "unknown compression", "Unary", u, &conformancev1.UnaryRequest{})
	unknown.Compression = 99

	cases := []struct {
		req  *conformancev1.ClientCompatRequest
		want string
	}{
		{request(t, "unary", "Unary", u, &conformancev1.UnaryRequest{ResponseDefinition: unaryDefinition("d")}), "d/r x-head x-tail-bin"},
		{request(t, "unary of nothing", "Unary", u, &conformancev1.UnaryRequest{}), "/r"},
		{request(t, "unary error", "Unary", u, &conformancev1.UnaryRequest{ResponseDefinition: &conformancev1.UnaryResponseDefinition{
			Response: &conformancev1.UnaryResponseDefinition_Error{Error: aborted}}}), "ABORTED detail/r"},
		{request(t, "too large", "Unary", u, &conformancev1.UnaryRequest{RequestData: make([]byte, 3000)}), "RESOURCE_EXHAUSTED"},
		{request(t, "unimplemented", "Unimplemented", u, &conformancev1.UnimplementedRequest{}), "UNIMPLEMENTED"},
		{gzip, "z/r x-head x-tail-bin"},
		{limit, "RESOURCE_EXHAUSTED"},
		{request(t, "client stream", "ClientStream", cs, &conformancev1.ClientStreamRequest{ResponseDefinition: unaryDefinition("d")},
			&conformancev1.ClientStreamRequest{ResponseDefinition: unaryDefinition("not this")}), "d/rr x-head x-tail-bin"},
		{request(t, "client stream of nothing", "ClientStream", cs), "/"},
		{request(t, "server stream", "ServerStream", ss, &conformancev1.ServerStreamRequest{ResponseDefinition: streamDefinition(aborted, "a", "b")}),
			"a/r b/ ABORTED x-head x-tail-bin"},
		{request(t, "server stream error", "ServerStream", ss, &conformancev1.ServerStreamRequest{ResponseDefinition: streamDefinition(aborted)}),
			"ABORTED detail/r x-head x-tail-bin"},
		{request(t, "half duplex", "BidiStream", hd, bidi(streamDefinition(nil, "a", "b"), false)...), "a/rr b/ x-head x-tail-bin"},
		{request(t, "full duplex", "BidiStream", fd, bidi(streamDefinition(nil, "a", "b", "c"), true)...), "a/r b/r c/ x-head x-tail-bin"},
		{request(t, "full duplex, one answer", "BidiStream", fd, bidi(streamDefinition(aborted, "a"), true)...), "a/r ABORTED x-head x-tail-bin"},
		{deadline, "DEADLINE_EXCEEDED"},
		{canceled(request(t, "cancel", "ServerStream", ss, &conformancev1.ServerStreamRequest{ResponseDefinition: late}),
			&conformancev1.ClientCompatRequest_Cancel{CancelTiming: &conformancev1.ClientCompatRequest_Cancel_AfterCloseSendMs{AfterCloseSendMs: 50}}), "CANCELED"},
		{canceled(request(t, "cancel before close", "ClientStream", cs, &conformancev1.ClientStreamRequest{}),
			&conformancev1.ClientCompatRequest_Cancel{CancelTiming: &conformancev1.ClientCompatRequest_Cancel_BeforeCloseSend{BeforeCloseSend: &emptypb.Empty{}}}), "CANCELED"},
		{canceled(request(t, "cancel after one", "BidiStream", fd, bidi(streamDefinition(nil, "a", "b"), true)...),
			&conformancev1.ClientCompatRequest_Cancel{CancelTiming: &conformancev1.ClientCompatRequest_Cancel_AfterNumResponses{AfterNumResponses: 1}}), "a/r CANCELED x-head"},
		{request(t, "unknown method", "IdempotentUnary", u), `not made: there is no method "IdempotentUnary" for gRPC`},
		{request(t, "two requests", "Unary", u, &conformancev1.UnaryRequest{}, &conformancev1.UnaryRequest{}), "not made: there are 2 request messages, want 1"},
		{unknown, "not made: asked for 99, which is not known"},
	}
	for codec := range 2 {
		for c := range encodings {
			r := request(t, fmt.Sprintf("%v %v", c, codec), "ClientStream", cs,
				&conformancev1.ClientStreamRequest{ResponseDefinition: unaryDefinition("d")}, &conformancev1.ClientStreamRequest{RequestData: make([]byte, 1000)})
			r.Compression, r.Codec = c, conformancev1.Codec(codec+1)
			cases = append(cases, struct {
				req  *conformancev1.ClientCompatRequest
				want string
			}{r, "d/rr x-head x-tail-bin"})
		}
	}
	pair(t, func(t *testing.T, e Engine, addr *conformancev1.ServerCompatResponse) {
		var reqs []*conformancev1.ClientCompatRequest
		for _, tc := range cases {
			reqs = append(reqs, proto.CloneOf(tc.req))
		}
		got := exchangeAll(t, e, addr, reqs...)
		if len(got) != len(cases) {
			t.Errorf("%d answers, want %d", len(got), len(cases))
		}
		for _, tc := range cases {
			if s := outline(t, got[tc.req.GetTestName()]); s != tc.want {
				t.Errorf("%s: %q, want %q", tc.req.GetTestName(), s, tc.want)
			}
		}
	})
}

func TestServeRefuses(t *testing.T) {
	e, err := EngineByName("faultline")
	if err != nil {
		t.Fatal(err)
	}
	var in bytes.Buffer
	if err := writeDelimited(&in, &conformancev1.ServerCompatRequest{Protocol: conformancev1.Protocol_PROTOCOL_CONNECT}); err != nil {
		t.Fatal(err)
	}
	if err := Serve(t.Context(), e, &in, io.Discard); err == nil || !strings.Contains(err.Error(), "want gRPC over HTTP/2") {
		t.Errorf("Serve of Connect = %v, want an error that says what is wanted", err)
	}
	if err := Serve(t.Context(), e, strings.NewReader(""), io.Discard); !errors.Is(err, io.EOF) {
		t.Errorf("Serve without a request = %v, want io.EOF", err)
	}
	if _, err := EngineByName("x"); err == nil {
		t.Error("EngineByName(x) gives no error")
	}
}
