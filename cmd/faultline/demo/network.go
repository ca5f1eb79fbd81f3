// SPDX-License-Identifier: Apache-2.0

package demo

import (
	"context"
	"errors"
	"io"

	testpb "google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/protobuf/proto"

	"github.com/faultline-rpc/faultline/internal/peer"
)

// network are the cases of the document's network failures.
var network = map[string]provocation{
	"mute-client":      {inShort + ", and a listener that says nothing", muteClient},
	"silence-client":   {inShort + ", and a server that does not answer", silenceClient},
	"some-data-client": {inShort + ", and a stream that falls silent", someDataClient},
	"some-data-server": {"scripted client: half a request in " + inShort, someDataServer},
	"cut-client":       {"scripted server: cut after the request", against(peer.Cut())},
	"cut-server":       {"scripted client: cut after its request", cutServer},
}

// against makes a unary call of ours to a server that answers so.
func against(a peer.Answer) func(context.Context, *lab) (Observation, error) {
	return func(ctx context.Context, l *lab) (Observation, error) {
		addr, err := l.scripted(a)
		if err != nil {
			return Observation{}, err
		}
		return l.call(ctx, addr)
	}
}

func muteClient(ctx context.Context, l *lab) (Observation, error) {
	s, err := peer.ListenRaw(loopback, peer.Mute())
	if err != nil {
		return Observation{}, err
	}
	l.onClose(s.Close)
	ctx, cancel := context.WithTimeout(ctx, short)
	defer cancel()
	return l.call(ctx, s.Addr())
}

func silenceClient(ctx context.Context, l *lab) (Observation, error) {
	addr, err := l.scripted(peer.Silence())
	if err != nil {
		return Observation{}, err
	}
	return l.callWithin(ctx, addr)
}

// someDataClient gets a first message, then nothing.
func someDataClient(ctx context.Context, l *lab) (Observation, error) {
	first, err := proto.Marshal(&testpb.StreamingOutputCallResponse{Payload: &testpb.Payload{Body: []byte("first")}})
	if err != nil {
		return Observation{}, err
	}
	addr, err := l.scripted(func(p *peer.Peer, stream uint32) error {
		if err := p.SendHeaders(stream, false, ":status", "200", "content-type", "application/grpc"); err != nil {
			return err
		}
		return p.SendData(stream, peer.Message(first), false)
	})
	if err != nil {
		return Observation{}, err
	}
	cc, err := l.dial(addr)
	if err != nil {
		return Observation{}, err
	}
	if err := ready(ctx, cc); err != nil {
		return Observation{}, err
	}
	ctx, cancel := context.WithTimeout(ctx, short)
	defer cancel()
	s, err := testpb.NewTestServiceClient(cc).StreamingOutputCall(ctx, new(testpb.StreamingOutputCallRequest))
	if err != nil {
		return Observation{}, err
	}
	if _, err := s.Recv(); err != nil {
		return Observation{}, err
	}
	if _, err = s.Recv(); errors.Is(err, io.EOF) {
		return Observation{}, errors.New("the stream ended, want silence")
	}
	return observed(err)
}

// someDataServer sends a message's prefix and nothing after it.
func someDataServer(ctx context.Context, l *lab) (Observation, error) {
	s, err := l.serve(nil)
	if err != nil {
		return Observation{}, err
	}
	p, err := l.scriptedClient(ctx, s.addr)
	if err != nil {
		return Observation{}, err
	}
	if err := p.SendRequest(1, false, inputMethod, "grpc-timeout", wireShort); err != nil {
		return Observation{}, err
	}
	if err := p.SendBody(1, peer.MessageWith(0, 100, []byte("some")), false); err != nil {
		return Observation{}, err
	}
	r, err := p.WantResponse(1)
	if err != nil {
		return Observation{}, err
	}
	return agreed(r, s.end(ctx))
}

func cutServer(ctx context.Context, l *lab) (Observation, error) {
	s, p, err := underway(ctx, l, hold)
	if err != nil {
		return Observation{}, err
	}
	p.Cut()
	return observed(s.cause(ctx))
}
