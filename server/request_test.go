// SPDX-License-Identifier: Apache-2.0

package server

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"runtime"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/net/http2"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/encoding"
	"google.golang.org/grpc/encoding/gzip"
	testpb "google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/proto"

	"github.com/faultline-rpc/faultline/codec"
	"github.com/faultline-rpc/faultline/fault"
	"github.com/faultline-rpc/faultline/internal/peer"
	"github.com/faultline-rpc/faultline/status"
)

func TestCompression(t *testing.T) {
	r := newRig(t, Config{}, &testService{})
	c := r.stub()
	body := bytes.Repeat([]byte("abc"), 10000)
	out, err := c.UnaryCall(ctx(t), &testpb.SimpleRequest{Payload: &testpb.Payload{Body: body}}, grpc.UseCompressor(gzip.Name))
	if err != nil || !bytes.Equal(out.Payload.Body, body) {
		t.Fatal(err)
	}
	// The answer uses the request's compression if the client has it.
	for list, want := range map[string]string{"gzip": "gzip", "deflate, gzip": "gzip", "deflate": "", "": "gzip"} {
		p := r.peer()
		changes := []string{"grpc-encoding", "gzip"}
		if list != "" {
			changes = append(changes, "grpc-accept-encoding", list)
		}
		payload, _ := proto.Marshal(&testpb.SimpleRequest{Payload: &testpb.Payload{Body: body}})
		res, err := p.Call(1, unaryCall, payload, changes...)
		p.OK(err)
		if res.Get("grpc-status") != "0" || res.Get("grpc-encoding") != want {
			t.Errorf("accept %q: status %q %q, encoding %q, want %q", list, res.Get("grpc-status"), res.Get("grpc-message"), res.Get("grpc-encoding"), want)
		}
	}
}

func TestBadRequests(t *testing.T) {
	small, _ := proto.Marshal(&testpb.SimpleRequest{Payload: &testpb.Payload{Body: []byte("x")}})
	big, _ := proto.Marshal(&testpb.SimpleRequest{Payload: &testpb.Payload{Body: make([]byte, 2000)}})
	var zipped bytes.Buffer
	w, _ := encoding.GetCompressor("gzip").Compress(&zipped)
	w.Write(big)
	w.Close()
	for _, tc := range []struct {
		name    string
		body    []byte
		changes []string
		code    codes.Code
		message string
	}{
		{"compressor", peer.Message(small), []string{"grpc-encoding", "snappy"}, codes.Unimplemented,
			`codec.compressor-unsupported: no decompressor is registered for grpc-encoding "snappy"`},
		{"subtype", peer.Message(small), []string{"content-type", "application/grpc+thrift"}, codes.Unimplemented,
			`codec.subtype: no codec is registered for content-subtype "thrift"`},
		{"flag without encoding", peer.MessageWith(1, uint32(len(small)), small), nil, codes.Internal,
			"codec.response-compressor: a message of the request is marked as compressed, but grpc-encoding names no compression"},
		{"flag with identity", peer.MessageWith(1, uint32(len(small)), small), []string{"grpc-encoding", "identity"}, codes.Internal,
			"codec.response-compressor: a message of the request is marked as compressed, but grpc-encoding names no compression"},
		{"corrupt", peer.MessageWith(1, uint32(len(small)), small), []string{"grpc-encoding", "gzip"}, codes.Internal,
			`codec.decompress: failed to decompress the message: "gzip" cannot read the request: `},
		{"unparsable", peer.Message([]byte{0xff, 0xff}), nil, codes.Internal,
			`codec.request-parse: error unmarshalling request: codec "proto", *grpc_testing.SimpleRequest: `},
		{"too large", peer.Message(big), nil, codes.ResourceExhausted,
			fmt.Sprintf("codec.too-large: received message larger than max: %d bytes, this side's limit MaxRecvMsgSize allows 1000", len(big))},
		{"too large inflated", peer.MessageWith(1, uint32(zipped.Len()), zipped.Bytes()), []string{"grpc-encoding", "gzip"}, codes.ResourceExhausted,
			"codec.too-large: received message after decompression larger than max: more than the 1000 bytes that this side's limit MaxRecvMsgSize allows"},
		{"no message", nil, nil, codes.Unimplemented, "wire.cardinality: 0 messages came, want exactly one"},
		{"two messages", append(peer.Message(small), peer.Message(small)...), nil, codes.Unimplemented, "wire.cardinality: 2 messages came, want exactly one"},
		{"cut off", peer.Message(small)[:6], nil, codes.Internal, "wire.truncated: the stream ends inside a message: 1 of its 5 bytes came"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			ran := false
			r := newRig(t, Config{MaxRecvMsgSize: 1000}, &testService{
				unary: func(context.Context, *testpb.SimpleRequest) (*testpb.SimpleResponse, error) {
					ran = true
					return &testpb.SimpleResponse{}, nil
				},
			})
			p := r.peer()
			p.SendRequest(1, len(tc.body) == 0, unaryCall, tc.changes...)
			if len(tc.body) > 0 {
				p.SendData(1, tc.body, true)
			}
			f := p.WantHeaders(1, "grpc-status", fmt.Sprint(uint32(tc.code)))
			if msg := f.Get("grpc-message"); !f.End || msg != tc.message && (!strings.HasSuffix(tc.message, ": ") || !strings.HasPrefix(msg, tc.message)) {
				t.Errorf("message %q,\nwant    %q", msg, tc.message)
			}
			if want := map[bool]string{true: codec.Supported(nil)}[tc.name == "compressor"]; f.Get("grpc-accept-encoding") != want {
				t.Errorf("grpc-accept-encoding %q, want %q", f.Get("grpc-accept-encoding"), want)
			}
			if ran {
				t.Error("the handler ran")
			}
			if list := r.refusals(); len(list) != 1 || status.Code(list[0].Err) != tc.code || list[0].Stream != 1 {
				t.Errorf("recorded: %+v", list)
			}
			if log := r.log.String(); log != "" {
				t.Errorf("log: %s", log)
			}
		})
	}
}

func TestRecvMsgErrorsEndTheStream(t *testing.T) {
	got := make(chan error, 3)
	r := newRig(t, Config{MaxRecvMsgSize: 10}, &testService{duplex: func(s testpb.TestService_FullDuplexCallServer) error {
		_, err := s.Recv()
		got <- err
		return io.ErrNoProgress // is not what the caller sees
	}})
	p := r.peer()
	p.SendRequest(1, false, duplex)
	p.SendData(1, peer.Message(make([]byte, 11)), false)
	p.WantHeaders(1, "grpc-status", "8", "grpc-message", "codec.too-large: received message larger than max: 11 bytes, this side's limit MaxRecvMsgSize allows 10")
	if err := <-got; !fault.CodecTooLarge.Is(err) {
		t.Errorf("Recv = %v", err)
	}
}

func TestServerStreamingCardinality(t *testing.T) {
	got := make(chan error, 3)
	r := newRig(t, Config{}, &testService{
		output: func(_ *testpb.StreamingOutputCallRequest, s testpb.TestService_StreamingOutputCallServer) error {
			got <- s.RecvMsg(&testpb.StreamingOutputCallRequest{})
			return nil
		},
	})
	p := r.peer()
	p.SendRequest(1, false, outputs)
	p.SendData(1, peer.Message(nil), true)
	p.WantHeaders(1, "grpc-status", "0")
	if err := <-got; err != io.EOF {
		t.Errorf("second RecvMsg = %v, want io.EOF", err)
	}
	p.SendRequest(3, false, outputs)
	p.SendData(3, append(peer.Message(nil), peer.Message(nil)...), true)
	p.WantHeaders(3, "grpc-status", "12", "grpc-message", "wire.cardinality: 2 messages came, want exactly one")
}

func TestTooLargeAnswer(t *testing.T) {
	r := newRig(t, Config{MaxSendMsgSize: 100}, &testService{
		unary: func(context.Context, *testpb.SimpleRequest) (*testpb.SimpleResponse, error) {
			return &testpb.SimpleResponse{Payload: &testpb.Payload{Body: make([]byte, 200)}}, nil
		},
		output: func(_ *testpb.StreamingOutputCallRequest, s testpb.TestService_StreamingOutputCallServer) error {
			return s.Send(&testpb.StreamingOutputCallResponse{Payload: &testpb.Payload{Body: make([]byte, 200)}})
		},
	})
	want := "codec.too-large: trying to send message larger than max: 206 bytes, this side's limit MaxSendMsgSize allows 100"
	_, err := r.stub().UnaryCall(ctx(t), &testpb.SimpleRequest{})
	wantStatus(t, err, codes.ResourceExhausted, want)
	s, err := r.stub().StreamingOutputCall(ctx(t), &testpb.StreamingOutputCallRequest{})
	if err != nil {
		t.Fatal(err)
	}
	_, err = s.Recv()
	wantStatus(t, err, codes.ResourceExhausted, want)
}

func TestUnmarshalableAnswer(t *testing.T) {
	r := newRig(t, Config{}, &testService{unary: func(context.Context, *testpb.SimpleRequest) (*testpb.SimpleResponse, error) {
		return &testpb.SimpleResponse{Username: "\xff"}, nil
	}})
	_, err := r.stub().UnaryCall(ctx(t), &testpb.SimpleRequest{})
	wantStatus(t, err, codes.Internal, `codec.marshal: error while marshaling: codec "proto", *grpc_testing.SimpleResponse: string field contains invalid UTF-8`)
}

// rawCodec passes bytes through.
type rawCodec struct{}

func (rawCodec) Name() string                  { return "raw" }
func (rawCodec) Marshal(v any) ([]byte, error) { return *v.(*[]byte), nil }
func (rawCodec) Unmarshal(p []byte, v any) error {
	*v.(*[]byte) = p
	return nil
}

func TestForceCodecAndUnknownHandler(t *testing.T) {
	forced := codec.FromV1(rawCodec{})
	r := newRig(t, Config{ForceCodec: &forced, UnknownHandler: func(_ any, s grpc.ServerStream) error {
		m, _ := grpc.MethodFromServerStream(s)
		var in []byte
		if err := s.RecvMsg(&in); err != nil {
			return err
		}
		out := append([]byte(m+" "), in...)
		return s.SendMsg(&out)
	}}, &testService{})
	p := r.peer()
	res, err := p.Call(1, "/any.Thing/AtAll", []byte("hi"), "content-type", "application/grpc+whatever")
	p.OK(err)
	msgs, err := res.Messages()
	if err != nil || res.Get("grpc-status") != "0" || len(msgs) != 1 || string(msgs[0]) != "/any.Thing/AtAll hi" {
		t.Fatalf("%q, %v, status %q %q", msgs, err, res.Get("grpc-status"), res.Get("grpc-message"))
	}
	if got := res.Get("content-type"); got != "application/grpc+whatever" { // some clients take no other
		t.Errorf("content-type %q", got)
	}
}

// TestRapidReset: handlers of streams that were reset keep their places. The
// calls of a client that keeps within the limit wait for them.
func TestRapidReset(t *testing.T) {
	release, started := make(chan struct{}), make(chan string, 10)
	r := newRig(t, Config{MaxConcurrentStreams: 3, MaxHandlers: 6}, &testService{empty: func(ctx context.Context, _ *testpb.Empty) (*testpb.Empty, error) {
		md, _ := metadata.FromIncomingContext(ctx)
		started <- md.Get("n")[0]
		<-release
		return &testpb.Empty{}, nil
	}})
	p := r.peer(peer.Options{Interleave: true})
	send := func(id uint32) {
		p.SendRequest(id, false, emptyCall, "n", strconv.Itoa(int(id)))
		p.SendData(id, peer.Message(nil), true)
	}
	for _, id := range []uint32{1, 3, 5} {
		send(id)
		if got := <-started; got != strconv.Itoa(int(id)) {
			t.Errorf("call %s started, expected %d", got, id)
		}
		p.SendRST(id, http2.ErrCodeCancel)
	}
	send(7) // the streams are gone, their handlers are not
	send(9)
	send(11)
	send(13)
	p.WantRST(13, http2.ErrCodeRefusedStream) // a fourth stream
	for id := uint32(9); id < 400; id += 2 {  // those that wait come and go
		if id > 13 {
			send(id)
		}
		if id != 11 && id != 13 {
			p.SendRST(id, http2.ErrCodeCancel)
		}
	}
	p.SendPing(false, [8]byte{1})
	p.WantPing(true)
	if n := len(started); n != 0 {
		t.Errorf("%d more handlers started while three ran", n)
	}
	close(release)
	p.WantResponse(7)
	p.WantResponse(11)
	if a, b, n := <-started, <-started, len(started); a == b || n != 0 || a != "7" && a != "11" || b != "7" && b != "11" {
		t.Errorf("calls %s and %s were handled, and %d more", a, b, n)
	}
	send(401)
	p.WantResponse(401)
}

// TestWaitingForHandlersEnds: a call that waits for others' handlers ends with
// its connection, and with its server.
func TestWaitingForHandlersEnds(t *testing.T) {
	for _, tc := range []struct {
		name string
		end  func(*rig, *peer.T)
	}{
		{"connection", func(r *rig, p *peer.T) {
			p.Close()
			for r.calls.Load() > 1 {
				runtime.Gosched()
			}
		}},
		{"stop", func(r *rig, p *peer.T) {
			go r.Stop()
			p.WantHeaders(3, "grpc-status", "14")
		}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			svc, started, release := blocking()
			r := newRig(t, Config{MaxConcurrentStreams: 1}, svc)
			p := r.peer()
			begin(p, 1)
			<-started
			p.SendRST(1, http2.ErrCodeCancel)
			begin(p, 3)
			p.SendPing(false, [8]byte{1})
			p.WantPing(true)
			tc.end(r, p)
			close(release)
			r.GracefulStop()
			if n, calls := len(started), r.calls.Load(); n != 0 || calls != 0 {
				t.Errorf("%d handlers started, %d calls are left", n, calls)
			}
		})
	}
}

func TestMaxHandlers(t *testing.T) {
	release, started := make(chan struct{}), make(chan struct{}, 10)
	r := newRig(t, Config{MaxHandlers: 1}, &testService{empty: func(context.Context, *testpb.Empty) (*testpb.Empty, error) {
		started <- struct{}{}
		<-release
		return &testpb.Empty{}, nil
	}})
	c, done := r.stub(), make(chan error, 1)
	go func() {
		_, err := c.EmptyCall(context.Background(), &testpb.Empty{})
		done <- err
	}()
	<-started
	_, err := r.stub().UnaryCall(ctx(t), &testpb.SimpleRequest{})
	wantStatus(t, err, codes.ResourceExhausted, "server.overloaded: as many handlers run as this server's limit MaxHandlers allows: 1")
	close(release)
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if _, err := c.EmptyCall(ctx(t), &testpb.Empty{}); err != nil {
		t.Fatal(err)
	}
}

func TestUndeliveredBudget(t *testing.T) {
	started, ended := make(chan struct{}, 1), make(chan error, 1)
	r := newRig(t, Config{MaxUndelivered: 10000}, &testService{duplex: func(s testpb.TestService_FullDuplexCallServer) error {
		started <- struct{}{}
		<-s.Context().Done()
		ended <- context.Cause(s.Context())
		return s.Context().Err()
	}})
	p := r.peer()
	want := "server.overloaded: requests of 10000 bytes wait for their handlers, which is this server's limit MaxUndeliveredBytes"
	p.SendRequest(1, false, unaryCall)
	p.SendData(1, peer.Message(make([]byte, 20000))[:11000], false)
	p.WantHeaders(1, "grpc-status", "8", "grpc-message", want)
	p.WantRST(1, http2.ErrCodeNo)
	p.SendRequest(3, false, duplex)
	<-started
	p.SendData(3, peer.Message(make([]byte, 20000))[:11000], false)
	p.WantHeaders(3, "grpc-status", "8", "grpc-message", want)
	if err := <-ended; !fault.ServerOverloaded.Is(err) {
		t.Errorf("cause = %v", err)
	}
}
