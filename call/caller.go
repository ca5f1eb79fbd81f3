// SPDX-License-Identifier: Apache-2.0

package call

import (
	"context"
	"log/slog"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/stats"

	"github.com/faultline-rpc/faultline/channel"
	"github.com/faultline-rpc/faultline/codec"
	"github.com/faultline-rpc/faultline/event"
)

// Picker finds the connection for an attempt. *[channel.Channel] is one; its
// Pick describes the errors.
type Picker interface {
	Pick(ctx context.Context, method string, waitForReady bool) (channel.Picked, error)
}

// Config holds what all calls of a client have in common.
type Config struct {
	// Channel finds connections. It must be given.
	Channel Picker
	// Methods is the service config; nil for none.
	Methods Methods
	// DisableRetry ignores the service config's policies for retries and
	// hedging. What provably was not processed is repeated nevertheless.
	DisableRetry bool
	// UserAgent is sent as it is.
	UserAgent string
	// Secure says that connections are encrypted: the scheme is "https".
	Secure bool
	// DefaultCallOptions come before a call's own.
	DefaultCallOptions []grpc.CallOption
	// Compressor compresses the requests of calls that ask for no compressor,
	// and Decompressor decompresses answers in its own encoding; nil for none.
	Compressor   grpc.Compressor
	Decompressor grpc.Decompressor
	// UnaryInts and StreamInts are called in this order, the
	// first being the outermost.
	UnaryInts  []grpc.UnaryClientInterceptor
	StreamInts []grpc.StreamClientInterceptor
	// Creds are asked for metadata before each attempt, ahead of a call's own.
	Creds []credentials.PerRPCCredentials
	// StatsHandlers observe calls; without any they cost nothing.
	StatsHandlers []stats.Handler
	// CC makes the connection that interceptors are given; nil gives them nil.
	CC func() *grpc.ClientConn
	// Sink observes events; nil is free.
	Sink event.Sink
	// Logger gets a line for each finished call; nil is free.
	Logger *slog.Logger
}

// Caller makes calls. Its methods may be called from any goroutine.
type Caller struct {
	cfg       Config
	deflate   codec.Compressor // of cfg.Compressor, or nil
	inflate   codec.Compressor // of cfg.Decompressor, or nil
	templates templates
	epoch     time.Time               // moments are counted from it
	common    atomic.Pointer[options] // see plain
	live      live
	tokens    atomic.Pointer[bucket] // nil before a call that may be throttled
	random    func() float64         // in [0, 1)
	rooms     sync.Pool              // *room; not the package's: they keep channels
}

// New returns a Caller.
func New(cfg Config) *Caller {
	c := &Caller{cfg: cfg, epoch: time.Now().Add(-1), random: rand.Float64}
	c.deflate, c.inflate = codec.FromCompressor(cfg.Compressor), codec.FromDecompressor(cfg.Decompressor)
	c.live.over = make(chan struct{})
	c.templates.cfg, c.templates.inflate = &c.cfg, c.inflate
	c.rooms.New = func() any { return &room{call: call{caller: c}} }
	return c
}

// now is this moment: a positive offset, for open streams keep several.
func (c *Caller) now() time.Duration { return time.Since(c.epoch) }

// Invoke makes a unary call and returns when it has ended: nil, with the
// answer in reply, or a *fault.Fault. What interceptors return passes as it is.
func (c *Caller) Invoke(ctx context.Context, method string, args, reply any, opts ...grpc.CallOption) error {
	opts = c.combine(opts)
	if len(c.cfg.UnaryInts) == 0 {
		return c.unary(ctx, method, args, reply, opts)
	}
	w := c.chain()
	err := c.unaryFrom(0, w)(ctx, method, args, reply, c.cc(), opts...)
	w.log(ctx, c, method, err)
	return err
}

// NewStream opens a stream: its request headers have been handed to the
// connection when it returns. The error is a *fault.Fault, unless an
// interceptor made it.
//
// The stream holds resources until RecvMsg has returned an error (for a
// method that answers with one message: until it has returned), until another
// of its methods returned an error that is not io.EOF, until ctx ends, or until
// [Caller.Close].
func (c *Caller) NewStream(ctx context.Context, desc *grpc.StreamDesc, method string, opts ...grpc.CallOption) (grpc.ClientStream, error) {
	opts = c.combine(opts)
	if len(c.cfg.StreamInts) == 0 {
		return c.stream(ctx, desc, method, opts)
	}
	w := c.chain()
	s, err := c.streamFrom(0, w)(ctx, desc, c.cc(), method, opts...)
	w.log(ctx, c, method, err)
	return s, err
}

// combine puts the defaults before a call's own options.
func (c *Caller) combine(opts []grpc.CallOption) []grpc.CallOption {
	d := c.cfg.DefaultCallOptions
	if len(d) == 0 {
		return opts
	}
	all := make([]grpc.CallOption, 0, len(d)+len(opts))
	return append(append(all, d...), opts...)
}

func (c *Caller) cc() *grpc.ClientConn {
	if c.cfg.CC == nil {
		return nil
	}
	return c.cfg.CC()
}

// foreign reports whether an interceptor put another connection in the place
// of the one it was given.
func (c *Caller) foreign(cc *grpc.ClientConn) bool { return cc != nil && cc != c.cc() }

// unaryFrom returns the chain from the i-th interceptor on.
func (c *Caller) unaryFrom(i int, w *chain) grpc.UnaryInvoker {
	if i == len(c.cfg.UnaryInts) {
		return func(ctx context.Context, method string, args, reply any, cc *grpc.ClientConn, opts ...grpc.CallOption) error {
			if c.foreign(cc) {
				return w.returned(cc.Invoke(ctx, method, args, reply, opts...))
			}
			return w.returned(c.unary(ctx, method, args, reply, opts))
		}
	}
	return func(ctx context.Context, method string, args, reply any, cc *grpc.ClientConn, opts ...grpc.CallOption) error {
		return c.cfg.UnaryInts[i](ctx, method, args, reply, cc, c.unaryFrom(i+1, w), opts...)
	}
}

// streamFrom returns the chain from the i-th interceptor on.
func (c *Caller) streamFrom(i int, w *chain) grpc.Streamer {
	if i == len(c.cfg.StreamInts) {
		return func(ctx context.Context, desc *grpc.StreamDesc, cc *grpc.ClientConn, method string, opts ...grpc.CallOption) (grpc.ClientStream, error) {
			if c.foreign(cc) {
				s, err := cc.NewStream(ctx, desc, method, opts...)
				return s, w.returned(err)
			}
			s, err := c.stream(ctx, desc, method, opts)
			return s, w.returned(err)
		}
	}
	return func(ctx context.Context, desc *grpc.StreamDesc, cc *grpc.ClientConn, method string, opts ...grpc.CallOption) (grpc.ClientStream, error) {
		return c.cfg.StreamInts[i](ctx, desc, cc, method, c.streamFrom(i+1, w), opts...)
	}
}
