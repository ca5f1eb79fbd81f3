// SPDX-License-Identifier: Apache-2.0

package demo

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/credentials/insecure"
	testpb "google.golang.org/grpc/interop/grpc_testing"

	"github.com/faultline-rpc/faultline"
	"github.com/faultline-rpc/faultline/codes"
	"github.com/faultline-rpc/faultline/fault"
	"github.com/faultline-rpc/faultline/internal/peer"
)

const (
	loopback = "127.0.0.1:0"
	// patience bounds each step of a scripted peer and of a lab's clean-up.
	patience = 3 * time.Second
	// short is the time of calls that are to run out of it, once connected.
	short     = 150 * time.Millisecond
	inShort   = "150 ms"
	wireShort = "150m" // as grpc-timeout
)

// lab is where one case happens. What it opens it closes.
type lab struct {
	closers []func() error // in the order of opening
}

func (l *lab) onClose(f func() error) { l.closers = append(l.closers, f) }

// close closes what was opened, the last first. What went wrong in a script
// comes out here.
func (l *lab) close() error {
	var errs []error
	for i := len(l.closers) - 1; i >= 0; i-- {
		errs = append(errs, l.closers[i]())
	}
	l.closers = nil
	return errors.Join(errs...)
}

// dial makes a client of ours for addr.
func (l *lab) dial(addr string, opts ...faultline.DialOption) (*faultline.ClientConn, error) {
	opts = append([]faultline.DialOption{faultline.WithTransportCredentials(insecure.NewCredentials())}, opts...)
	cc, err := faultline.NewClient("passthrough:///"+addr, opts...)
	if err != nil {
		return nil, err
	}
	l.onClose(cc.Close)
	return cc, nil
}

// scripted starts a server that answers each request so.
func (l *lab) scripted(a peer.Answer) (addr string, err error) { return l.script(peer.Each(a)) }

// script starts a server that plays each connection so.
func (l *lab) script(script peer.Script) (addr string, err error) {
	s, err := peer.Listen(loopback, script)
	if err != nil {
		return "", err
	}
	l.onClose(s.Close)
	return s.Addr(), nil
}

// scriptedClient connects a scripted client to a server of ours. It has made
// its handshake.
func (l *lab) scriptedClient(ctx context.Context, addr string) (*peer.Peer, error) {
	p, err := peer.Dial(ctx, "tcp", addr, peer.Options{Timeout: patience})
	if err != nil {
		return nil, err
	}
	l.onClose(func() error {
		p.Close() // the script may have ended the connection itself
		return nil
	})
	if _, err := p.Handshake(); err != nil {
		return nil, err
	}
	return p, nil
}

// The methods that are called.
const (
	unaryMethod  = testpb.TestService_UnaryCall_FullMethodName
	inputMethod  = testpb.TestService_StreamingInputCall_FullMethodName
	outputMethod = testpb.TestService_StreamingOutputCall_FullMethodName
	duplexMethod = testpb.TestService_FullDuplexCall_FullMethodName
)

// call makes a unary call of ours to addr and returns what its error tells.
func (l *lab) call(ctx context.Context, addr string, opts ...grpc.CallOption) (Observation, error) {
	cc, err := l.dial(addr)
	if err != nil {
		return Observation{}, err
	}
	_, err = testpb.NewTestServiceClient(cc).UnaryCall(ctx, &testpb.SimpleRequest{ResponseSize: 1}, opts...)
	return observed(err)
}

// ready waits until cc has a connection, so that what follows has its time to
// itself.
func ready(ctx context.Context, cc *faultline.ClientConn) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	cc.Connect()
	for s := cc.GetState(); s != connectivity.Ready; s = cc.GetState() {
		if !cc.WaitForStateChange(ctx, s) {
			return fmt.Errorf("the client is %v after %v, want READY", s, patience)
		}
	}
	return nil
}

// callWithin makes a unary call that has short, on a connection that is there.
func (l *lab) callWithin(ctx context.Context, addr string) (Observation, error) {
	cc, err := l.dial(addr)
	if err != nil {
		return Observation{}, err
	}
	if err := ready(ctx, cc); err != nil {
		return Observation{}, err
	}
	ctx, cancel := context.WithTimeout(ctx, short)
	defer cancel()
	_, err = testpb.NewTestServiceClient(cc).UnaryCall(ctx, new(testpb.SimpleRequest))
	return observed(err)
}

// Observation is what happened: the failure as its observer has it.
type Observation struct {
	Outcome
	Message string `json:"message,omitempty"`
}

// observed is what an error says of itself.
func observed(err error) (Observation, error) {
	if err == nil {
		return Observation{}, errors.New("the call succeeded, want a failure")
	}
	f, ok := fault.From(err)
	if !ok {
		return Observation{}, fmt.Errorf("the error is no fault: %T: %w", err, err)
	}
	return Observation{
		Outcome{string(f.ID()), codes.Name(f.Code()), f.Layer().String(), f.Side().String(), f.Processed().String()}, f.Message(),
	}, nil
}

// agreed is what a server recorded, if the answer on the wire has its code.
func agreed(r *peer.Response, recorded error) (Observation, error) {
	o, err := observed(recorded)
	if err != nil {
		return o, err
	}
	code, err := wireCode(r)
	if err == nil && code != o.Code {
		err = fmt.Errorf("the answer on the wire has %s, the server recorded %s", code, o.Code)
	}
	return o, err
}

// wireCode is the name of the answer's grpc-status.
func wireCode(r *peer.Response) (string, error) {
	text := r.Get("grpc-status")
	n, err := strconv.ParseUint(text, 10, 32)
	if err != nil {
		return "", fmt.Errorf("the answer's grpc-status is %q, want a number; its grpc-message is %q", text, r.Get("grpc-message"))
	}
	return codes.Name(codes.Code(n)), nil
}
