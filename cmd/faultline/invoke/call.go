// SPDX-License-Identifier: Apache-2.0

package invoke

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/dynamicpb"
	"google.golang.org/protobuf/types/known/emptypb"

	"github.com/faultline-rpc/faultline/internal/near"
)

// MethodName splits "pkg.Service/Method", "/pkg.Service/Method" or
// "pkg.Service.Method".
func MethodName(text string) (service protoreflect.FullName, method protoreflect.Name, err error) {
	name := strings.TrimPrefix(text, "/")
	at := strings.LastIndexByte(name, '/')
	if at < 0 {
		at = strings.LastIndexByte(name, '.')
	}
	if at > 0 {
		service, method = protoreflect.FullName(name[:at]), protoreflect.Name(name[at+1:])
	}
	if !service.IsValid() || !method.IsValid() {
		return "", "", fmt.Errorf("%q is no method, want package.Service/Method", text)
	}
	return service, method, nil
}

// FindMethod returns the descriptor of a method. The error is a *NotFound if
// the service has none of that name.
func FindMethod(ctx context.Context, src Source, service protoreflect.FullName, method protoreflect.Name) (protoreflect.MethodDescriptor, error) {
	d, err := src.Find(ctx, service)
	var missing *NotFound
	if errors.As(err, &missing) {
		return nil, &NotFound{string(service) + "/" + string(method), src.String(), nearestService(ctx, src, service, method, missing.Nearest), true}
	}
	if err != nil {
		return nil, err
	}
	s, ok := d.(protoreflect.ServiceDescriptor)
	if !ok {
		return nil, fmt.Errorf("%q is no service of %s but %s", service, src, kindOf(d))
	}
	if m := s.Methods().ByName(method); m != nil {
		return m, nil
	}
	return nil, &NotFound{string(service) + "/" + string(method), src.String(), nearestMethod(s, method), false}
}

func nearestMethod(s protoreflect.ServiceDescriptor, method protoreflect.Name) string {
	var all []string
	for i := range s.Methods().Len() {
		all = append(all, string(s.Methods().Get(i).Name()))
	}
	if n := near.Name(string(method), all); n != "" {
		return string(s.FullName()) + "/" + n
	}
	return ""
}

// nearestService looks for a service like it, and there for the method.
func nearestService(ctx context.Context, src Source, service protoreflect.FullName, method protoreflect.Name, hint string) string {
	like := hint
	if all, err := src.Services(ctx); err == nil {
		like = near.Name(string(service), all)
	}
	d, err := src.Find(ctx, protoreflect.FullName(like))
	if s, ok := d.(protoreflect.ServiceDescriptor); ok && err == nil {
		if m := nearestMethod(s, method); m != "" {
			return m
		}
	}
	return like
}

// Call is one call to be made.
type Call struct {
	Conn   grpc.ClientConnInterface
	Method protoreflect.MethodDescriptor
	// Next returns the request messages, one after another, and then io.EOF.
	Next func() (*dynamicpb.Message, error)
	// Sent, Header and Message are told what happens, if they are not nil.
	Sent    func(*dynamicpb.Message)
	Header  func(metadata.MD)
	Message func(*dynamicpb.Message) error
	Options []grpc.CallOption
}

// Result is what is known when a call is over.
type Result struct {
	Trailer metadata.MD
	Peer    peer.Peer
}

// InputError wraps what went wrong with the request on this side: what Next
// returned, or too many or too few messages.
type InputError struct{ Err error }

// Error is the text of what it wraps.
func (e *InputError) Error() string { return e.Err.Error() }

// Unwrap returns what it wraps.
func (e *InputError) Unwrap() error { return e.Err }

// Path returns "/package.Service/Method".
func Path(m protoreflect.MethodDescriptor) string {
	return "/" + string(m.Parent().FullName()) + "/" + string(m.Name())
}

// Do makes the call and returns when it is over. The error is the client's, an
// *InputError, or what Message returned.
func (c *Call) Do(ctx context.Context) (Result, error) {
	var res Result
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	opts := append([]grpc.CallOption{grpc.Peer(&res.Peer), grpc.Trailer(&res.Trailer)}, c.Options...)
	var err error
	if c.Method.IsStreamingClient() || c.Method.IsStreamingServer() {
		err = c.stream(ctx, cancel, opts, &res)
	} else {
		err = c.unary(ctx, opts)
	}
	return res, err
}

func (c *Call) unary(ctx context.Context, opts []grpc.CallOption) error {
	in, err := c.only()
	if err != nil {
		return err
	}
	c.sent(in)
	out := dynamicpb.NewMessage(c.Method.Output())
	var md metadata.MD
	err = c.Conn.Invoke(ctx, Path(c.Method), in, out, append(opts, grpc.Header(&md))...)
	if md != nil || err == nil {
		c.header(md)
	}
	if err != nil {
		return err
	}
	return c.message(out)
}

func (c *Call) sent(m *dynamicpb.Message) {
	if c.Sent != nil {
		c.Sent(m)
	}
}

func (c *Call) header(md metadata.MD) {
	if c.Header != nil {
		c.Header(md)
	}
}

func (c *Call) message(m *dynamicpb.Message) error {
	if c.Message == nil {
		return nil
	}
	return c.Message(m)
}

// only returns the one request of a method that takes one.
func (c *Call) only() (*dynamicpb.Message, error) {
	in, err := c.Next()
	if errors.Is(err, io.EOF) {
		return dynamicpb.NewMessage(c.Method.Input()), nil
	}
	if err != nil {
		return nil, &InputError{err}
	}
	if _, err := c.Next(); !errors.Is(err, io.EOF) {
		if err == nil {
			err = fmt.Errorf("the data holds more than one message, want one: %s takes no stream", Path(c.Method)[1:])
		}
		return nil, &InputError{err}
	}
	return in, nil
}

// stream sends in a goroutine of its own, so that answers are shown as they
// come. It does not wait for a Next that waits for a person.
func (c *Call) stream(ctx context.Context, cancel context.CancelFunc, opts []grpc.CallOption, res *Result) error {
	var first *dynamicpb.Message
	if !c.Method.IsStreamingClient() {
		var err error
		if first, err = c.only(); err != nil {
			return err
		}
	}
	desc := &grpc.StreamDesc{ClientStreams: c.Method.IsStreamingClient(), ServerStreams: c.Method.IsStreamingServer()}
	s, err := c.Conn.NewStream(ctx, desc, Path(c.Method), opts...)
	if err != nil {
		return err
	}
	bad := make(chan error, 1) // the input's mistake, if there is one
	go func() {
		if err := c.send(s, first); err != nil {
			bad <- err
			cancel()
		}
	}()
	err = c.receive(s, res)
	select {
	case input := <-bad:
		return input
	default:
		return err
	}
}

// send returns what is wrong with the input. What is wrong with the stream
// the receiver learns.
func (c *Call) send(s grpc.ClientStream, first *dynamicpb.Message) error {
	if first != nil {
		c.sent(first)
		if s.SendMsg(first) == nil {
			_ = s.CloseSend() // its error is the stream's
		}
		return nil
	}
	for {
		in, err := c.Next()
		if errors.Is(err, io.EOF) {
			_ = s.CloseSend() // its error is the stream's
			return nil
		}
		if err != nil {
			return &InputError{err}
		}
		c.sent(in)
		if s.SendMsg(in) != nil {
			return nil
		}
	}
}

func (c *Call) receive(s grpc.ClientStream, res *Result) error {
	md, err := s.Header()
	if err == nil && md != nil {
		c.header(md)
	}
	for {
		out := dynamicpb.NewMessage(c.Method.Output())
		err := s.RecvMsg(out)
		if err == nil {
			if err = c.message(out); err != nil {
				return err
			}
			if c.Method.IsStreamingServer() {
				continue
			}
			err = io.EOF
		}
		res.Trailer = s.Trailer()
		if errors.Is(err, io.EOF) {
			return nil
		}
		return err
	}
}

// Blind calls a method whose descriptor nobody has. It sends one empty message
// (every message type has one, without bytes), or none at all, and hands on
// what comes back as unparsed bytes.
func Blind(ctx context.Context, conn grpc.ClientConnInterface, path string, empty bool, header func(metadata.MD), message func([]byte) error, opts ...grpc.CallOption) (Result, error) {
	var res Result
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	opts = append([]grpc.CallOption{grpc.Peer(&res.Peer), grpc.Trailer(&res.Trailer)}, opts...)
	s, err := conn.NewStream(ctx, &grpc.StreamDesc{ClientStreams: true, ServerStreams: true}, path, opts...)
	if err != nil {
		return res, err
	}
	if empty {
		err = s.SendMsg(new(emptypb.Empty))
	}
	if err == nil {
		_ = s.CloseSend() // RecvMsg says what became of the stream
	}
	if md, err := s.Header(); err == nil && md != nil && header != nil {
		header(md)
	}
	for {
		var raw emptypb.Empty
		err := s.RecvMsg(&raw)
		if err != nil {
			res.Trailer = s.Trailer()
			if errors.Is(err, io.EOF) {
				err = nil
			}
			return res, err
		}
		b, err := proto.Marshal(&raw) // an Empty keeps every field as unknown
		if err != nil {
			return res, err
		}
		if err := message(b); err != nil {
			return res, err
		}
	}
}
