// SPDX-License-Identifier: Apache-2.0

package demo

import (
	"context"

	"golang.org/x/net/http2"
	testpb "google.golang.org/grpc/interop/grpc_testing"

	"github.com/faultline-rpc/faultline/internal/peer"
)

// provocation is how a case is brought about.
type provocation struct {
	did string // in words
	run func(ctx context.Context, l *lab) (Observation, error)
}

// general are the cases of the document's general errors.
var general = map[string]provocation{
	"cancel-client":     {"canceled the context while the server worked", cancelClient},
	"cancel-server":     {"scripted client: RST_STREAM CANCEL", cancelServer},
	"deadline-client":   {inShort + ", and a handler that takes longer", deadlineClient},
	"deadline-server":   {"scripted client: grpc-timeout of " + inShort, deadlineServer},
	"method-client":     {"called /grpc.testing.TestService/UnaryCal", methodClient},
	"method-server":     {"scripted client: the same path", methodServer},
	"goaway-client":     {"scripted server: GOAWAY below the call, twice", goAwayClient},
	"stop-client":       {"server stopped while its handler ran", stopClient},
	"stop-server":       {"scripted client: a call under Stop", stopServer},
	"panic-client":      {"called a handler that panics", panicClient},
	"panic-server":      {"scripted client: the same handler", answeredBy(crash)},
	"not-status-server": {"handler returned an error that is no status", answeredBy(noStatus)},
}

func cancelClient(ctx context.Context, l *lab) (Observation, error) {
	s, err := l.serve(hold)
	if err != nil {
		return Observation{}, err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() {
		_ = s.handling(ctx) // if none starts, the call is canceled all the same
		cancel()
	}()
	return l.call(ctx, s.addr)
}

// underway starts a scripted unary call on a server of ours, whose handler
// runs when it returns.
func underway(ctx context.Context, l *lab, h handler) (*served, *peer.Peer, error) {
	s, err := l.serve(h)
	if err != nil {
		return nil, nil, err
	}
	p, err := l.scriptedClient(ctx, s.addr)
	if err != nil {
		return nil, nil, err
	}
	if err := p.SendRequest(1, false, unaryMethod); err != nil {
		return nil, nil, err
	}
	if err := p.SendBody(1, peer.Message(nil), true); err != nil {
		return nil, nil, err
	}
	return s, p, s.handling(ctx)
}

func cancelServer(ctx context.Context, l *lab) (Observation, error) {
	s, p, err := underway(ctx, l, hold)
	if err != nil {
		return Observation{}, err
	}
	if err := p.SendRST(1, http2.ErrCodeCancel); err != nil {
		return Observation{}, err
	}
	return observed(s.cause(ctx))
}

func deadlineClient(ctx context.Context, l *lab) (Observation, error) {
	s, err := l.serve(holdOn)
	if err != nil {
		return Observation{}, err
	}
	return l.callWithin(ctx, s.addr)
}

func deadlineServer(ctx context.Context, l *lab) (Observation, error) {
	s, err := l.serve(hold)
	if err != nil {
		return Observation{}, err
	}
	p, err := l.scriptedClient(ctx, s.addr)
	if err != nil {
		return Observation{}, err
	}
	r, err := p.Call(1, unaryMethod, nil, "grpc-timeout", wireShort)
	if err != nil {
		return Observation{}, err
	}
	return agreed(r, s.cause(ctx))
}

const missingMethod = "/grpc.testing.TestService/UnaryCal"

func methodClient(ctx context.Context, l *lab) (Observation, error) {
	s, err := l.serve(nil)
	if err != nil {
		return Observation{}, err
	}
	cc, err := l.dial(s.addr)
	if err != nil {
		return Observation{}, err
	}
	return observed(cc.Invoke(ctx, missingMethod, new(testpb.SimpleRequest), new(testpb.SimpleResponse)))
}

func methodServer(ctx context.Context, l *lab) (Observation, error) {
	return refusedCall(ctx, l, missingMethod, nil)
}

// refusedCall makes a scripted call that no handler is to see.
func refusedCall(ctx context.Context, l *lab, path string, payload []byte, changes ...string) (Observation, error) {
	s, err := l.serve(nil)
	if err != nil {
		return Observation{}, err
	}
	p, err := l.scriptedClient(ctx, s.addr)
	if err != nil {
		return Observation{}, err
	}
	r, err := p.Call(1, path, payload, changes...)
	if err != nil {
		return Observation{}, err
	}
	return agreed(r, s.refusal(ctx))
}

func goAwayClient(ctx context.Context, l *lab) (Observation, error) {
	// The call is made again on a second connection, as it was certainly not
	// processed. That gets the same answer, and it is not made a third time.
	addr, err := l.scripted(peer.GoAway(-2, http2.ErrCodeNo, "shutting down"))
	if err != nil {
		return Observation{}, err
	}
	return l.call(ctx, addr)
}

func stopClient(ctx context.Context, l *lab) (Observation, error) {
	s, err := l.serve(hold)
	if err != nil {
		return Observation{}, err
	}
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		if s.handling(ctx) == nil {
			s.Stop()
		}
	}()
	o, err := l.call(ctx, s.addr)
	<-stopped
	return o, err
}

func stopServer(ctx context.Context, l *lab) (Observation, error) {
	s, p, err := underway(ctx, l, hold)
	if err != nil {
		return Observation{}, err
	}
	s.Stop()
	r, err := p.WantResponse(1)
	if err != nil {
		return Observation{}, err
	}
	return agreed(r, s.cause(ctx))
}

func panicClient(ctx context.Context, l *lab) (Observation, error) {
	s, err := l.serve(crash)
	if err != nil {
		return Observation{}, err
	}
	return l.call(ctx, s.addr)
}

// answeredBy makes a scripted call to a handler, and compares the answer with
// the server's record of the call's end.
func answeredBy(h handler) func(context.Context, *lab) (Observation, error) {
	return func(ctx context.Context, l *lab) (Observation, error) {
		return recordedCall(ctx, l, h, unaryMethod, peer.Message(nil))
	}
}

// recordedCall makes a scripted call whose body need not be well-formed. The
// server's record of its end must agree with the answer.
func recordedCall(ctx context.Context, l *lab, h handler, path string, body []byte, changes ...string) (Observation, error) {
	s, err := l.serve(h)
	if err != nil {
		return Observation{}, err
	}
	p, err := l.scriptedClient(ctx, s.addr)
	if err != nil {
		return Observation{}, err
	}
	if err := p.SendRequest(1, false, path, changes...); err != nil {
		return Observation{}, err
	}
	if err := p.SendBody(1, body, true); err != nil {
		return Observation{}, err
	}
	r, err := p.WantResponse(1)
	if err != nil {
		return Observation{}, err
	}
	return agreed(r, s.end(ctx))
}
