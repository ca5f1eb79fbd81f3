// SPDX-License-Identifier: Apache-2.0

package faultline

import (
	"context"
	"errors"
	"sync"

	"google.golang.org/grpc"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/faultline-rpc/faultline/call"
	"github.com/faultline-rpc/faultline/channel"
)

// ClientConn is a client of one target. It is a grpc.ClientConnInterface: hand
// it to generated clients. It connects with the first call, or by Connect, and
// all its methods may be called from several goroutines.
type ClientConn struct {
	ch     *channel.Channel
	caller *call.Caller

	divertMu sync.Mutex
	divert   *grpc.ClientConn // guarded by divertMu
	closed   bool             // guarded by divertMu
}

var _ grpc.ClientConnInterface = (*ClientConn)(nil)

// NewClient makes a client for target, which is read as by grpc.NewClient:
// "dns:///host:port", "host:port", "unix:path", "ipv4:address:port,...",
// "ipv6:[address]:port,...", "passthrough:///address", or the scheme of any
// registered resolver. It opens no connection. The error says what is wrong
// with the target or the options; transport credentials are required,
// insecure.NewCredentials() being one.
func NewClient(target string, opts ...DialOption) (*ClientConn, error) {
	var d dialSettings
	for _, o := range opts {
		if o != nil {
			o.applyDial(&d)
		}
	}
	if err := d.finish(); err != nil {
		return nil, err
	}
	agent, secure := d.call.UserAgent, d.call.Secure // the closures live as long as the client, and d should not
	comp, decomp := d.call.Compressor, d.call.Decompressor
	conn := func(s *channel.Subchannel) background {
		return newBackground(s, call.Config{UserAgent: agent, Secure: secure, Compressor: comp, Decompressor: decomp})
	}
	d.channel.SubchannelConn = func(s *channel.Subchannel) any { return conn(s) }
	if !d.noHealthCheck {
		d.channel.HealthCheck = func(ctx context.Context, s *channel.Subchannel, service string, set func(connectivity.State, error)) error {
			return watchHealth(ctx, conn(s), service, set)
		}
	}
	ch, err := channel.New(target, d.channel)
	if err != nil {
		return nil, err
	}
	cc := &ClientConn{ch: ch}
	d.call.Channel, d.call.Methods = ch, ch
	d.call.CC = cc.GRPCConn
	cc.caller = call.New(d.call)
	return cc, nil
}

// Invoke performs a unary call and returns when the answer is complete. The
// error is a *fault.Fault. method is "/package.Service/Method".
func (cc *ClientConn) Invoke(ctx context.Context, method string, args, reply any, opts ...grpc.CallOption) error {
	return cc.caller.Invoke(ctx, method, args, reply, opts...)
}

// NewStream begins a streaming call. To release its resources, receive until
// an error, cancel ctx, or close the client.
//
// One goroutine may send while another receives and others ask for Header,
// Trailer and Context. OnFinish and stats handlers run before RecvMsg returns
// the outcome: they may use the client, and OnFinish the stream's Header, Trailer
// and Context, but they must not send or receive on that stream, which waits for
// them.
func (cc *ClientConn) NewStream(ctx context.Context, desc *grpc.StreamDesc, method string, opts ...grpc.CallOption) (grpc.ClientStream, error) {
	return cc.caller.NewStream(ctx, desc, method, opts...)
}

// Target returns the target as it was given.
func (cc *ClientConn) Target() string { return cc.ch.Target() }

// CanonicalTarget returns the target with the scheme that it is read under, as
// in "dns:///host:port".
func (cc *ClientConn) CanonicalTarget() string { return cc.ch.CanonicalTarget() }

// Connect makes an idle client connect.
func (cc *ClientConn) Connect() { cc.ch.Connect() }

// GetState returns the client's connectivity state.
func (cc *ClientConn) GetState() connectivity.State { return cc.ch.State() }

// WaitForStateChange waits until the state is not source, or ctx ends, in
// which case it returns false.
func (cc *ClientConn) WaitForStateChange(ctx context.Context, source connectivity.State) bool {
	return cc.ch.WaitForStateChange(ctx, source)
}

// GetMethodConfig returns what the service config says of a method,
// "/package.Service/Method": its timeout, whether it waits for a connection,
// and the sizes of its messages. Retry policies apply, but are not shown:
// grpc-go's type for them cannot be made outside of it.
func (cc *ClientConn) GetMethodConfig(method string) grpc.MethodConfig {
	mc := cc.ch.MethodConfig(method)
	if mc == nil {
		return grpc.MethodConfig{}
	}
	return grpc.MethodConfig{WaitForReady: mc.WaitForReady, Timeout: mc.Timeout, MaxReqSize: mc.MaxReq, MaxRespSize: mc.MaxResp}
}

// ResetConnectBackoff makes connections that wait to be tried again be tried
// at once.
func (cc *ClientConn) ResetConnectBackoff() { cc.ch.ResetConnectBackoff() }

// errClosed is Close's answer to a second Close, as in grpc-go.
var errClosed = errors.New("faultline: the client is closed already")

// Close ends the client: calls that run fail with call.closed, and so do calls
// made later. A second Close returns an error.
func (cc *ClientConn) Close() error {
	cc.divertMu.Lock()
	if cc.closed {
		cc.divertMu.Unlock()
		return errClosed
	}
	cc.closed = true
	g := cc.divert
	cc.divertMu.Unlock()
	cc.ch.Close()
	cc.caller.Close()
	if g != nil {
		return g.Close()
	}
	return nil
}

// GRPCConn returns a *grpc.ClientConn whose calls this client makes: for
// interceptors and helpers that want the concrete type. It never dials; its
// own state says nothing. It is made once and closed with the client. It is
// nil after Close if it was not asked for before.
func (cc *ClientConn) GRPCConn() *grpc.ClientConn {
	cc.divertMu.Lock()
	defer cc.divertMu.Unlock()
	if cc.divert == nil && !cc.closed {
		// The options are fixed and legal: NewClient cannot fail on them.
		cc.divert, _ = grpc.NewClient("passthrough:///faultline",
			grpc.WithTransportCredentials(insecure.NewCredentials()),
			grpc.WithUnaryInterceptor(func(ctx context.Context, method string, req, reply any, _ *grpc.ClientConn, _ grpc.UnaryInvoker, opts ...grpc.CallOption) error {
				return cc.Invoke(ctx, method, req, reply, opts...)
			}),
			grpc.WithStreamInterceptor(func(ctx context.Context, desc *grpc.StreamDesc, _ *grpc.ClientConn, method string, _ grpc.Streamer, opts ...grpc.CallOption) (grpc.ClientStream, error) {
				return cc.NewStream(ctx, desc, method, opts...)
			}))
	}
	return cc.divert
}
