// SPDX-License-Identifier: Apache-2.0

package demo

import (
	"context"
	"errors"

	"golang.org/x/net/http2"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/encoding"
	_ "google.golang.org/grpc/encoding/gzip" // the algorithm that both ends support
	testpb "google.golang.org/grpc/interop/grpc_testing"

	"github.com/faultline-rpc/faultline"
	"github.com/faultline-rpc/faultline/codes"
	"github.com/faultline-rpc/faultline/internal/peer"
)

// protocol are the cases of the document's protocol errors.
var protocol = map[string]provocation{
	"decompress-client":        {"scripted server: gzip that is none", against(peer.CorruptGzip())},
	"decompress-server":        {"scripted client: gzip that is none", decompressServer},
	"compressor-client":        {"gzip to a scripted server without it", compressorClient},
	"compressor-server":        {"scripted client: grpc-encoding squeeze", compressorServer},
	"calm-client":              {"scripted server: RST ENHANCE_YOUR_CALM", against(peer.RST(http2.ErrCodeEnhanceYourCalm))},
	"overloaded-client":        {"16 KiB to a server that may hold 4", overloadedClient},
	"overloaded-server":        {"scripted client: the same bytes", overloadedServer},
	"overloaded-stream-server": {"scripted client: part of a large message", overloadedStreamServer},
	"window-stream-client":     {"scripted server: stream window over 2^31-1", against(peer.OverflowWindow(false))},
	"window-connection-client": {"scripted server: connection window over it", against(peer.OverflowWindow(true))},
	"window-stream-server":     {"scripted client: stream window over 2^31-1", windowServer(1)},
	"window-connection-server": {"scripted client: connection window over it", windowServer(0)},
	"status-client":            {"scripted server: grpc-status banana", against(peer.StatusText("banana"))},
	"credentials-client":       {"credentials whose token source is down", credentialsClient},
	"authority-client":         {"CallAuthority(\"user@host/path\")", authorityClient},
	"authority-server":         {"scripted client: :authority user@host/path", authorityServer},
	"response-parse-client":    {"scripted server: a message that is no protobuf", against(peer.OK(noProtobuf))},
	"request-parse-client":     {"sent a message that is no protobuf", requestParseClient},
	"request-parse-server":     {"scripted client: the same message", requestParseServer},
}

// noProtobuf is a field whose number is 0, which protobuf forbids.
var noProtobuf = []byte{0x00}

const badAuthority = "user@host/path"

func decompressServer(ctx context.Context, l *lab) (Observation, error) {
	junk := []byte("\x1f\x8b\x08 this is no gzip")
	return recordedCall(ctx, l, nil, unaryMethod, peer.MessageWith(1, uint32(len(junk)), junk), "grpc-encoding", "gzip")
}

// compressorClient calls a server of another make that has no gzip.
func compressorClient(ctx context.Context, l *lab) (Observation, error) {
	addr, err := l.script(func(p *peer.Peer) error {
		if _, err := p.Handshake(); err != nil {
			return err
		}
		f, err := p.WantHeaders(0, "grpc-encoding", "gzip")
		if err != nil {
			return err
		}
		if _, err := p.WantBody(f.Stream); err != nil {
			return err
		}
		if err := peer.TrailersOnly(int(codes.Unimplemented), "no compressor gzip", "grpc-accept-encoding", "identity")(p, f.Stream); err != nil {
			return err
		}
		for err == nil { // until the client leaves
			_, err = p.Next()
		}
		if p.Ended(err) {
			return nil
		}
		return err
	})
	if err != nil {
		return Observation{}, err
	}
	return l.call(ctx, addr, grpc.UseCompressor("gzip"))
}

func compressorServer(ctx context.Context, l *lab) (Observation, error) {
	return recordedCall(ctx, l, nil, unaryMethod, peer.MessageWith(1, 1, []byte{0}), "grpc-encoding", "squeeze")
}

// big is more than a server with the budget held may keep.
const (
	big  = 16 << 10
	held = 4 << 10
)

func overloadedClient(ctx context.Context, l *lab) (Observation, error) {
	s, err := l.serve(nil, faultline.MaxUndeliveredBytes(held))
	if err != nil {
		return Observation{}, err
	}
	cc, err := l.dial(s.addr)
	if err != nil {
		return Observation{}, err
	}
	in := &testpb.SimpleRequest{Payload: &testpb.Payload{Body: make([]byte, big)}}
	_, err = testpb.NewTestServiceClient(cc).UnaryCall(ctx, in)
	return observed(err)
}

func overloadedServer(ctx context.Context, l *lab) (Observation, error) {
	s, err := l.serve(nil, faultline.MaxUndeliveredBytes(held))
	if err != nil {
		return Observation{}, err
	}
	p, err := l.scriptedClient(ctx, s.addr)
	if err != nil {
		return Observation{}, err
	}
	r, err := p.Call(1, unaryMethod, make([]byte, big))
	if err != nil {
		return Observation{}, err
	}
	return agreed(r, s.refusal(ctx))
}

// overloadedStreamServer lets a handler wait for a message that is more than
// its server may hold.
func overloadedStreamServer(ctx context.Context, l *lab) (Observation, error) {
	s, err := l.serve(nil, faultline.MaxUndeliveredBytes(held))
	if err != nil {
		return Observation{}, err
	}
	p, err := l.scriptedClient(ctx, s.addr)
	if err != nil {
		return Observation{}, err
	}
	if err := p.SendRequest(1, false, inputMethod); err != nil {
		return Observation{}, err
	}
	if err := s.handling(ctx); err != nil {
		return Observation{}, err
	}
	if err := p.SendBody(1, peer.MessageWith(0, 2*big, make([]byte, big)), false); err != nil {
		return Observation{}, err
	}
	r, err := p.WantResponse(1)
	if err != nil {
		return Observation{}, err
	}
	return agreed(r, s.end(ctx))
}

// windowServer raises a window beyond 2^31-1 while a handler runs: that of the
// call's stream, or of the connection for stream 0. There is no grpc-status
// then: the answer is RST_STREAM or GOAWAY, with FLOW_CONTROL_ERROR.
func windowServer(stream uint32) func(context.Context, *lab) (Observation, error) {
	return func(ctx context.Context, l *lab) (Observation, error) {
		s, p, err := underway(ctx, l, hold)
		if err != nil {
			return Observation{}, err
		}
		if err := p.OverflowWindow(stream); err != nil {
			return Observation{}, err
		}
		if stream == 0 {
			_, err = p.WantGoAway(http2.ErrCodeFlowControl)
		} else {
			err = p.WantRST(stream, http2.ErrCodeFlowControl)
		}
		if err != nil {
			return Observation{}, err
		}
		return observed(s.cause(ctx))
	}
}

// tokens are credentials that have none to give.
type tokens struct{}

var errTokens = errors.New("the token source is down")

// GetRequestMetadata implements credentials.PerRPCCredentials.
func (tokens) GetRequestMetadata(context.Context, ...string) (map[string]string, error) {
	return nil, errTokens
}

// RequireTransportSecurity implements credentials.PerRPCCredentials.
func (tokens) RequireTransportSecurity() bool { return false }

var _ credentials.PerRPCCredentials = tokens{}

func credentialsClient(ctx context.Context, l *lab) (Observation, error) {
	s, err := l.serve(nil)
	if err != nil {
		return Observation{}, err
	}
	return l.call(ctx, s.addr, grpc.PerRPCCredentials(tokens{}))
}

func authorityClient(ctx context.Context, l *lab) (Observation, error) {
	s, err := l.serve(nil)
	if err != nil {
		return Observation{}, err
	}
	return l.call(ctx, s.addr, grpc.CallAuthority(badAuthority))
}

func authorityServer(ctx context.Context, l *lab) (Observation, error) {
	return refusedCall(ctx, l, unaryMethod, nil, ":authority", badAuthority)
}

// junkCodec is a codec that calls itself proto and writes none.
type junkCodec struct{}

var _ encoding.Codec = junkCodec{}

// Marshal implements encoding.Codec.
func (junkCodec) Marshal(any) ([]byte, error) { return noProtobuf, nil }

// Unmarshal implements encoding.Codec.
func (junkCodec) Unmarshal([]byte, any) error { return nil }

// Name implements encoding.Codec.
func (junkCodec) Name() string { return "proto" }

func requestParseClient(ctx context.Context, l *lab) (Observation, error) {
	s, err := l.serve(nil)
	if err != nil {
		return Observation{}, err
	}
	return l.call(ctx, s.addr, grpc.ForceCodec(junkCodec{}))
}

func requestParseServer(ctx context.Context, l *lab) (Observation, error) {
	return recordedCall(ctx, l, nil, unaryMethod, peer.Message(noProtobuf))
}
