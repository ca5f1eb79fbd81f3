// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync/atomic"

	"github.com/spf13/cobra"
	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/dynamicpb"

	"github.com/faultline-rpc/faultline"
	dyn "github.com/faultline-rpc/faultline/cmd/faultline/invoke"
	"github.com/faultline-rpc/faultline/fault"
)

const callHelp = `call makes a call and prints each message of the answer as JSON.

The method's types come from the server's reflection service (v1, then v1alpha),
or from --proto or --protoset files; those of gRPC's own health and reflection
services are known. All four kinds of call work: give several
JSON messages one after another to a method that takes a stream.

  -d '{"name": "x"}'   the request; nothing is an empty message
  -d @                 read messages from standard input, and send each as it comes
  -d @request.json     read them from a file

If the server has no reflection and there is no data, the call is made all the
same, with an empty message, and the answer is shown as bytes: that is enough to
see how a server fails. If reflection does not know the method, the server is
asked for it without any message, so that the answer is its own. If a server
answers UNIMPLEMENTED and no more, two calls to names that it surely does not
have, without a message, tell a missing service or method from a handler's word.
If a peer hangs up on --plaintext or says nothing, one TLS handshake shows
whether that was why; one that says nothing to TLS is tried in cleartext.

` + connHelp + `
-v shows, on standard error, each step of the connection with its time, what
secures it, headers, trailers and timings; -vv single streams too.
` + exitHelp + `

With --json each message of the answer is one line, too.`

const callExample = `  faultline call --plaintext localhost:50051 grpc.testing.TestService/UnaryCall -d '{"response_size": 3}'
  faultline call api.example.com:443 my.pkg.Users/Get -d '{"id": 7}' -H 'authorization: Bearer TOKEN'
  echo '{"payload":{}} {"payload":{}}' |
      faultline call --plaintext localhost:50051 grpc.testing.TestService/StreamingInputCall -d @
  faultline call --proto api.proto localhost:443 --insecure my.pkg.Users/List -v
  faultline call --json --timeout 2s api.example.com:443 my.pkg.Users/Get | jq .error`

type callFlags struct {
	conn                      connFlags
	from                      sourceFlags
	data, compress, format    string
	asJSON, unknown, defaults bool
	verbose                   int
	target, text              string
	service                   protoreflect.FullName
	method                    protoreflect.Name
	rpc                       metadata.MD
	cmd                       *cobra.Command
	log                       *transcript
}

func newCall() *cobra.Command {
	f := new(callFlags)
	cmd := &cobra.Command{
		Use: "call TARGET package.Service/Method", Short: "Make a call, and see what comes back or why nothing does", Long: callHelp, Example: callExample,
		RunE: func(cmd *cobra.Command, args []string) error {
			f.cmd = cmd
			if err := f.check(args); err != nil {
				return err
			}
			ctx, stop := interruptible(cmd.Context(), f.conn.timeout)
			defer stop()
			return f.run(ctx)
		},
		ValidArgsFunction: completeMethod(&f.conn, &f.from),
	}
	fl := cmd.Flags()
	f.conn.add(cmd)
	f.conn.addRPC(cmd)
	f.from.add(cmd)
	fl.StringVarP(&f.data, "data", "d", "", "the request as `JSON`; @ reads it from standard input, @FILE from a file")
	fl.StringVar(&f.compress, "compress", "", "compress the request by this `name`: gzip")
	fl.BoolVar(&f.unknown, "allow-unknown-fields", false, "ignore fields of the data that the message does not have")
	fl.BoolVar(&f.defaults, "emit-defaults", false, "print fields that have their default value too")
	fl.StringVar(&f.format, "format", "json", "the `form` of messages: json")
	fl.CountVarP(&f.verbose, "verbose", "v", "show connection, headers, trailers and timings; -vv shows more")
	fl.BoolVar(&f.asJSON, "json", false, "print one line of JSON for each message, and for a failure")
	return cmd
}

// check reads the arguments and what flags there are beside the connection's.
func (f *callFlags) check(args []string) error {
	switch {
	case len(args) == 0:
		return f.conn.usagef("no target is given, want host:port and package.Service/Method")
	case len(args) == 1:
		return f.conn.usagef("no method is given for %q, want package.Service/Method (faultline list shows them)", args[0])
	case len(args) > 2:
		return f.conn.usagef("unexpected argument %q, want a target and a method (is the data in quotes, after -d?)", args[2])
	case f.format != "json":
		return f.conn.usagef("--format %q is not supported, want json", f.format)
	case f.compress != "" && f.compress != "gzip" && f.compress != "identity":
		return f.conn.usagef("--compress %q is not supported, want gzip", f.compress)
	}
	var err error
	if f.service, f.method, err = dyn.MethodName(args[1]); err != nil {
		return f.conn.usagef("%v", err)
	}
	f.target, f.text = args[0], string(f.service)+"/"+string(f.method)
	all, err := f.conn.metadata("-H", f.conn.headers)
	if err != nil {
		return err
	}
	own, err := f.conn.metadata("--rpc-header", f.conn.rpcHeaders)
	f.rpc = metadata.Join(all, own)
	return err
}

func (f *callFlags) run(ctx context.Context) error {
	src, err := f.from.files(ctx, &f.conn)
	if err != nil {
		return err
	}
	f.log = newTranscript(f.cmd.ErrOrStderr(), f.verbose)
	cc, err := f.conn.dial(f.target, f.log.sink())
	if err != nil {
		if flt, ok := fault.From(err); ok {
			return f.failed(flt, "")
		}
		return err
	}
	defer cc.Close()
	if src == nil {
		r, rctx, err := f.conn.reflection(ctx, cc)
		if err != nil {
			return err
		}
		return f.reflected(ctx, rctx, cc, r)
	}
	m, err := dyn.FindMethod(ctx, src, f.service, f.method)
	if err != nil {
		return f.conn.usagef("%v", err)
	}
	return f.call(ctx, cc, src, m)
}

// reflected asks the server for the method, and makes the best of its answer.
// rctx carries reflection's own metadata.
func (f *callFlags) reflected(ctx, rctx context.Context, cc *faultline.ClientConn, r *dyn.Reflection) error {
	all, cancel := f.conn.bounded(ctx)
	defer cancel()
	rctx, cancel = f.conn.bounded(rctx)
	defer cancel()
	if f.empty() {
		rctx, cancel = sparing(rctx, cc)
		defer cancel()
	}
	m, err := dyn.FindMethod(rctx, r, f.service, f.method)
	if err == nil {
		f.log.note("found %s by reflection", f.text)
		return f.call(ctx, cc, r, m)
	}
	f.log.flush()
	var missing *dyn.NotFound
	if errors.As(err, &missing) {
		return f.missing(all, cc, missing)
	}
	flt, ok := fault.From(err)
	hangs := f.empty() && errors.Is(context.Cause(rctx), errHangs) // the method may not
	switch {
	case hangs:
	case ok && beneath(flt):
		flt, _ = fault.From(f.conn.again(ctx, flt))
		return f.failed(f.meant(flt), "")
	case !ok && errors.Is(ctx.Err(), context.Canceled):
		return err
	}
	if known := dyn.Known(f.service); known != nil {
		if m, err := dyn.FindMethod(ctx, known, f.service, f.method); err == nil {
			f.log.note("%s is known without reflection", f.text)
			return f.call(ctx, cc, known, m)
		}
	}
	switch {
	case hangs:
	case !f.empty() && ok && flt.Code().String() != "Unimplemented": // it is not for want of reflection
		return f.failed(flt, "")
	case !f.empty() && ok:
		return f.failed(flt, noReflection)
	case !f.empty():
		return f.conn.usagef("%v; %s", err, noReflection)
	}
	why := "offers no reflection"
	if hangs {
		why = "does not answer reflection"
	}
	return f.blind(all, cc, why)
}

// meant names the method that was asked for in place of reflection's, which
// nobody asked for, where neither has been sent.
func (f *callFlags) meant(flt *fault.Fault) *fault.Fault {
	ev := flt.Evidence()
	if ev.Sent || ev.Method == "" {
		return flt
	}
	ev.Method = "/" + f.text
	return flt.WithEvidence(ev)
}

// beneath reports whether a failure of reflection would be that of any call:
// it lies beneath what the method has to say.
func beneath(f *fault.Fault) bool {
	if f.Side() == fault.Local && !f.Evidence().Sent { // an authority or metadata that is not sent
		return true
	}
	switch f.Layer() {
	case fault.LayerResolve, fault.LayerPick, fault.LayerDial, fault.LayerTLS, fault.LayerCall:
		return true
	case fault.LayerHTTP2:
		return !strings.HasPrefix(string(f.ID()), "http2.rst-") && f.ID() != "http2.refused-stream"
	}
	return false
}

// empty reports whether there is nothing to send that needs the message type.
func (f *callFlags) empty() bool {
	return f.data == "" || json.Valid([]byte(f.data)) && strings.Join(strings.Fields(f.data), "") == "{}"
}

// missing lets the server itself say that it does not have the method. No
// message is sent: should it have it all the same, no unary handler runs.
func (f *callFlags) missing(ctx context.Context, cc grpc.ClientConnInterface, why *dyn.NotFound) error {
	ctx, cancel := f.conn.bounded(metadata.NewOutgoingContext(ctx, f.rpc))
	defer cancel()
	res, err := dyn.Blind(ctx, cc, "/"+f.text, false, nil, func([]byte) error { return nil })
	f.log.answer("trailers", res.Trailer)
	flt, ok := fault.From(err)
	switch {
	case !ok || flt.Layer() == fault.LayerHandler && flt.Code().String() != "Unimplemented":
		return f.conn.usagef("%v", why)
	case flt.Layer() != fault.LayerHandler:
		return f.failed(flt, "")
	}
	hint := ""
	if why.Nearest != "" {
		hint = fmt.Sprintf("did you mean %s?", why.Nearest)
	}
	return f.failed(proven(flt, why), hint)
}

// proven is a server's UNIMPLEMENTED where its reflection says why: such a
// fault has the id that it has on the server, and no handler ran.
func proven(f *fault.Fault, why *dyn.NotFound) *fault.Fault {
	id := fault.ID("handler.unknown-method")
	if why.Parent {
		id = "handler.unknown-service"
	}
	if f.ID() != fault.HandlerStatus.ID {
		return f
	}
	ev := f.Evidence()
	if ev.Nearest == "" {
		ev.Nearest = why.Nearest
	}
	return renamed(f, id, ev, fault.No)
}

// blind makes the call without knowing its types; why says what the server does
// instead of telling them.
func (f *callFlags) blind(ctx context.Context, cc grpc.ClientConnInterface, why string) error {
	if !f.asJSON {
		fmt.Fprintf(f.cmd.ErrOrStderr(), "note: the server %s; an empty message is sent, and the answer is shown as bytes (--proto or --protoset describe it)\n", why)
	}
	f.log.request("/"+f.text, f.rpc)
	ctx, cancel := f.conn.bounded(metadata.NewOutgoingContext(ctx, f.rpc))
	defer cancel()
	n := 0
	var held []byte // the last message: a unary call that fails has none to show
	show := func() error {
		return writeLine(f.cmd.OutOrStdout(), struct {
			Bytes []byte `json:"bytes"`
		}{held})
	}
	res, err := dyn.Blind(ctx, cc, "/"+f.text, true, func(md metadata.MD) { f.log.answer("headers", md) }, func(b []byte) (err error) {
		if n++; n > 1 {
			err = show()
		}
		held = append([]byte{}, b...)
		return err
	}, f.options()...)
	if n > 1 || n == 1 && err == nil {
		err = errors.Join(err, show())
	}
	return f.over(res, f.absent(ctx, cc, f.conn.again(ctx, err)), 1, n)
}

func writeLine(w io.Writer, v any) error {
	b, err := json.Marshal(v)
	if err == nil {
		_, err = fmt.Fprintf(w, "%s\n", b)
	}
	return err
}

func (f *callFlags) options() []grpc.CallOption {
	opts := []grpc.CallOption{grpc.MaxCallRecvMsgSize(int(f.conn.maxMessage))}
	if f.compress == "gzip" {
		opts = append(opts, grpc.UseCompressor("gzip"))
	}
	return opts
}

// call makes the call of a method that is known.
func (f *callFlags) call(ctx context.Context, cc grpc.ClientConnInterface, src dyn.Source, m protoreflect.MethodDescriptor) error {
	in, done, err := openData(&f.conn, f.data, f.cmd.InOrStdin())
	if err != nil {
		return err
	}
	defer done()
	if !m.IsStreamingClient() && !m.IsStreamingServer() {
		var cancel context.CancelFunc
		ctx, cancel = f.conn.bounded(ctx)
		defer cancel()
	}
	codec := dyn.Codec{Source: src, AllowUnknown: f.unknown, EmitDefaults: f.defaults, Compact: f.asJSON}
	reader := codec.NewReader(ctx, m.Input(), in)
	var sent atomic.Int64
	received := 0
	c := dyn.Call{
		Conn: cc, Method: m, Next: reader.Next, Options: f.options(),
		Sent:   func(*dynamicpb.Message) { sent.Add(1) },
		Header: func(md metadata.MD) { f.log.answer("headers", md) },
		Message: func(out *dynamicpb.Message) error {
			received++
			b, err := codec.Format(ctx, out)
			if err == nil {
				_, err = fmt.Fprintf(f.cmd.OutOrStdout(), "%s\n", b)
			}
			return err
		},
	}
	f.log.request("/"+f.text, f.rpc)
	ctx = metadata.NewOutgoingContext(ctx, f.rpc)
	res, err := c.Do(ctx)
	return f.over(res, f.absent(ctx, cc, f.conn.again(ctx, err)), int(sent.Load()), received)
}

// over ends a call, well or not.
func (f *callFlags) over(res dyn.Result, err error, sent, received int) error {
	f.log.answer("trailers", res.Trailer)
	f.log.peer(res.Peer)
	f.log.done(sent, received)
	var input *dyn.InputError
	switch flt, ok := fault.From(err); {
	case errors.As(err, &input):
		return f.conn.usagef("%v", err)
	case ok:
		return f.failed(flt, "")
	}
	return err
}

// failed reports the fault; another hint than its usual one may be given.
func (f *callFlags) failed(flt *fault.Fault, hint string) error {
	f.log.flush()
	if hint == "" {
		hint = f.conn.hint(flt)
	}
	return failed(f.conn.advised(flt), hint, f.asJSON, f.cmd.OutOrStdout(), f.cmd.ErrOrStderr())
}
