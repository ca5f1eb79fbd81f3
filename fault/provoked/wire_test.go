// SPDX-License-Identifier: Apache-2.0

package provoked_test

import (
	"context"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	_ "google.golang.org/grpc/encoding/gzip" // the compression that both ends have
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/faultline-rpc/faultline"
	"github.com/faultline-rpc/faultline/fault"
	"github.com/faultline-rpc/faultline/internal/peer"
)

// gRPC on a stream, and its messages.

// page is an HTTP answer of something between.
func page(status int) func(*world, bool) error {
	return answers(peer.HTTPStatus(status, "text/html", "<html><h1>sorry</h1></html>"))
}

var answerRows = []row{
	{entry: fault.WireHTTPStatus, name: "(503)", code: codes.Unavailable, side: fault.Between, processed: fault.Maybe,
		evidence: with("http_status: 503", "sample: <html>"), remedy: "check that backends run", run: page(503)},
	{entry: fault.WireHTTPStatus, name: "(404)", code: codes.Unimplemented, side: fault.Between, processed: fault.Maybe,
		evidence: with("http_status: 404"), remedy: "There is no route to the gRPC server for this path or host: add one", run: page(404)},
	{entry: fault.WireHTTPStatus, name: "(403)", code: codes.PermissionDenied, side: fault.Between, processed: fault.Maybe,
		evidence: with("http_status: 403"), remedy: "permit this client", run: page(403)},
	{entry: fault.WireHTTPStatus, name: "(401)", code: codes.Unauthenticated, side: fault.Between, processed: fault.Maybe,
		evidence: with("http_status: 401"), remedy: "Send the credentials that the gateway asks for", run: page(401)},
	{entry: fault.WireHTTPStatus, name: "(400)", code: codes.Internal, side: fault.Between, processed: fault.Maybe,
		evidence: with("http_status: 400"), remedy: "Find who answered", run: page(400)},
	{entry: fault.WireHTTPStatus, name: "(500)", code: codes.Unknown, side: fault.Between, processed: fault.Maybe,
		evidence: with("http_status: 500"), remedy: "Find who answered", run: page(500)},
	{entry: fault.WireContentType, code: codes.Unknown, side: fault.Between, processed: fault.Maybe,
		evidence: with("content_type: text/html", "sample: <"), remedy: "with grpc_pass (not proxy_pass)", run: answers(peer.HTML())},
	{entry: fault.WireTrailersMissing, code: codes.Internal, side: fault.Between, processed: fault.Yes,
		evidence: with("messages: 1"), remedy: "Use a proxy that forwards trailers", run: answers(peer.MissingTrailers(text("done")))},
	{entry: fault.WireStatusMissing, code: codes.Unknown, side: fault.Remote, processed: fault.Yes,
		evidence: with("messages: 1"), remedy: "must send grpc-status, also for success", run: answers(peer.MissingStatus(text("done")))},
	{entry: fault.WireStatusUnparsable, code: codes.Unknown, side: fault.Remote, processed: fault.Maybe,
		evidence: with("grpc_status: OK"), remedy: "the server or the proxy's rule that sets grpc-status", run: answers(peer.StatusText("OK"))},
	{entry: fault.WireStatusDetailsMismatch, code: codes.Internal, side: fault.Remote, processed: fault.Maybe,
		evidence: with("grpc_status: 5"), remedy: "rewrite or drop grpc-status-details-bin as well", run: answers(peer.StatusText("5", "grpc-status-details-bin", "CAM"))},
	{entry: fault.WireBadMetadata, code: codes.Internal, side: fault.Remote, processed: fault.Maybe,
		evidence: with("header: x-trace-bin"), remedy: "encode values of -bin names as base64", run: answers(peer.StatusText("0", "x-trace-bin", "*"))},
	{entry: fault.WireTruncated, code: codes.Internal, side: fault.Remote, processed: fault.Maybe,
		evidence: onStream, remedy: "Check body limits of proxies", run: answers(peer.Truncated(text("done"), 6))},
	{entry: fault.WireCardinality, name: "(none)", code: codes.Unimplemented, side: fault.Remote, processed: fault.Maybe,
		evidence: onStream, remedy: "A server must send one message", run: answers(peer.OK())},
	{entry: fault.WireCardinality, name: "(two)", code: codes.Unimplemented, side: fault.Remote, processed: fault.Yes,
		evidence: onStream, remedy: "Generate both sides from the same .proto file", run: answers(peer.OK(text("one"), text("two")))},
}

var requestRows = []row{
	{entry: fault.WireBadMetadata, name: "(server)", code: codes.Internal, side: fault.Remote, processed: fault.No,
		evidence: []string{"header: x-trace-bin"}, remedy: "encode values of -bin names as base64", run: asked(place, peer.Message(text("tea")), "x-trace-bin", "*")},
	{entry: fault.WireIllegalMetadata, code: codes.Internal, side: fault.Local, processed: fault.No,
		evidence: []string{"header: x-name"}, remedy: "use a name that ends in -bin",
		run: func(w *world, mended bool) error {
			w.serve(nil)
			name := "x-name"
			if mended {
				name += "-bin"
			}
			return order(metadata.AppendToOutgoingContext(context.Background(), name, "Žižkov"), w.client())
		}},
	{entry: fault.WireIllegalMetadata, name: "(server)", code: codes.Internal, side: fault.Local, processed: fault.Yes,
		evidence: []string{"header: x-name"}, remedy: "use a name that ends in -bin",
		run: answering(func(ctx context.Context, mended bool) (*wrapperspb.StringValue, error) {
			name := "x-name"
			if mended {
				name += "-bin"
			}
			return wrapperspb.String("done"), grpc.SetHeader(ctx, metadata.Pairs(name, "Žižkov"))
		})},
	{entry: fault.WireBadTimeout, code: codes.Internal, side: fault.Remote, processed: fault.No,
		evidence: []string{"header: grpc-timeout"}, remedy: "at most eight digits and a unit", run: asked(place, peer.Message(text("tea")), "grpc-timeout", "5 minutes")},
	{entry: fault.WireNotGRPCRequest, code: codes.Unknown, side: fault.Remote, processed: fault.No,
		evidence: []string{"content_type: application/json"}, remedy: "For browsers put a gRPC-Web proxy", run: asked(place, []byte("{}"), "content-type", "application/json")},
	{entry: fault.WireNotPost, code: codes.Unknown, side: fault.Remote, processed: fault.No,
		evidence: []string{"header: :method"}, remedy: "use gRPC probes", run: asked("/healthz", nil, ":method", "GET")},
	{entry: fault.WireAuthority, code: codes.Unauthenticated, side: fault.Local, processed: fault.No,
		evidence: []string{"authority: https://orders"}, remedy: "a host and optional port, no scheme and no path",
		run: func(w *world, mended bool) error {
			w.serve(nil)
			authority := "https://orders"
			if mended {
				authority = "orders"
			}
			return order(context.Background(), w.client(), grpc.CallAuthority(authority))
		}},
	{entry: fault.WireAuthority, name: "(server)", code: codes.Unauthenticated, side: fault.Remote, processed: fault.No,
		evidence: []string{"authority: user@orders/path"}, remedy: "a host and optional port, no scheme and no path",
		run: asked(place, peer.Message(text("tea")), ":authority", "user@orders/path")},
	{entry: fault.WireAuthority, name: "(missing)", code: codes.Internal, side: fault.Remote, processed: fault.No,
		evidence: []string{"header: :authority"}, remedy: "Check WithAuthority", run: asked(place, peer.Message(text("tea")), ":authority", peer.Absent)},
	{entry: fault.WireTruncated, name: "(server)", code: codes.Internal, side: fault.Remote, processed: fault.No,
		evidence: []string{"method: " + place}, remedy: "Look into the peer's log", run: asked(place, peer.MessageWith(0, 100, []byte("half")))},
	{entry: fault.WireCardinality, name: "(server)", code: codes.Unimplemented, side: fault.Remote, processed: fault.No,
		evidence: []string{"method: " + place}, remedy: "compare the word stream",
		run: asked(place, append(peer.Message(text("one")), peer.Message(text("two"))...))},
}

// answering provokes in a server of this module by what its handler does, as
// the server records it.
func answering(handler func(ctx context.Context, mended bool) (*wrapperspb.StringValue, error), opts ...faultline.ServerOption) func(*world, bool) error {
	return func(w *world, mended bool) error {
		s := w.serve(&shop{place: func(ctx context.Context, _ *wrapperspb.StringValue) (*wrapperspb.StringValue, error) {
			return handler(ctx, mended)
		}}, opts...)
		err := w.call()
		recorded := next(w, s.ended, "the call's end")
		if (err == nil) != (recorded == nil) {
			w.Errorf("the client has %v, the server %v", err, recorded)
		}
		return recorded
	}
}

// sized provokes with a limit, by an option that the remedy sets higher.
func sized(limited func(bytes int) (faultline.DialOption, faultline.ServerOption)) func(*world, bool) error {
	return func(w *world, mended bool) error {
		limit := 1000
		if mended {
			limit = 10_000
		}
		client, server := limited(limit)
		s := w.serve(nil, server)
		err := w.client(client).Invoke(context.Background(), place, wrapperspb.String(long2000), new(wrapperspb.StringValue))
		select {
		case recorded := <-s.ended:
			if recorded != nil {
				return recorded
			}
		case refused := <-s.refused:
			return refused
		default:
		}
		return err
	}
}

var long2000 = string(make([]byte, 2000))

func defaults(o grpc.CallOption) faultline.DialOption { return faultline.WithDefaultCallOptions(o) }

var codecRows = []row{
	{entry: fault.CodecRequestParse, code: codes.Internal, side: fault.Remote, processed: fault.No,
		evidence: []string{"method: " + place}, remedy: "Generate both sides from the same .proto file", run: asked(place, peer.Message([]byte{0x0a, 0xff}))},
	{entry: fault.CodecResponseParse, code: codes.Internal, side: fault.Remote, processed: fault.Yes,
		evidence: onStream, remedy: "Generate both sides from the same .proto file", run: answers(peer.OK([]byte{0x0a, 0xff}))},
	{entry: fault.CodecMarshal, code: codes.Internal, side: fault.Local, processed: fault.No,
		evidence: []string{"method: " + place}, remedy: "Use bytes for data that is not text",
		run: func(w *world, mended bool) error {
			w.script(peer.Each(ok))
			if mended {
				return w.client().Invoke(context.Background(), place, wrapperspb.Bytes([]byte("\xff")), new(wrapperspb.BytesValue))
			}
			return w.client().Invoke(context.Background(), place, wrapperspb.String("\xff"), new(wrapperspb.StringValue))
		}},
	{entry: fault.CodecMarshal, name: "(server)", code: codes.Internal, side: fault.Local, processed: fault.Yes,
		evidence: []string{"method: " + place}, remedy: "pass the generated message type",
		run: answering(func(_ context.Context, mended bool) (*wrapperspb.StringValue, error) {
			if mended {
				return wrapperspb.String("done"), nil
			}
			return wrapperspb.String("\xff"), nil
		})},
	{entry: fault.CodecDecompress, code: codes.Internal, side: fault.Remote, processed: fault.Yes,
		evidence: with("encoding: gzip"), remedy: "Switch the sender's compression off", run: answers(peer.CorruptGzip())},
	{entry: fault.CodecDecompress, name: "(server)", code: codes.Internal, side: fault.Remote, processed: fault.No,
		evidence: []string{"encoding: gzip", "method: " + place}, remedy: "Switch the sender's compression off", run: asked(place, peer.MessageWith(1, 4, []byte("junk")), "grpc-encoding", "gzip")},
	{entry: fault.CodecCompressorUnsupported, code: codes.Unimplemented, side: fault.Local, processed: fault.No,
		evidence: []string{"encoding: squeeze"}, remedy: "use one that the server lists", run: asked(place, peer.MessageWith(1, 1, []byte{0}), "grpc-encoding", "squeeze")},
	{entry: fault.CodecResponseCompressor, code: codes.Internal, side: fault.Remote, processed: fault.Maybe,
		evidence: with("encoding: squeeze"), remedy: "a server may use only what the client's grpc-accept-encoding lists", run: answers(peer.Compressed("squeeze", []byte("x")))},
	{entry: fault.CodecResponseCompressor, name: "(no encoding)", code: codes.Internal, side: fault.Remote, processed: fault.Maybe,
		evidence: onStream, remedy: "A proxy that removes grpc-encoding", run: answers(peer.Compressed("", []byte("x")))},
	{entry: fault.CodecResponseCompressor, name: "(server)", code: codes.Internal, side: fault.Remote, processed: fault.No,
		evidence: []string{"method: " + place}, remedy: "A proxy that removes grpc-encoding", run: asked(place, peer.MessageWith(1, 1, []byte{0}))},
	{entry: fault.CodecTooLarge, name: "(received)", code: codes.ResourceExhausted, side: fault.Local, processed: fault.Yes,
		evidence: with("option: MaxCallRecvMsgSize", "limit: 1000"), remedy: "MaxCallRecvMsgSize",
		run: sized(func(n int) (faultline.DialOption, faultline.ServerOption) {
			return defaults(grpc.MaxCallRecvMsgSize(n)), nil
		})},
	{entry: fault.CodecTooLarge, name: "(sent)", code: codes.ResourceExhausted, side: fault.Local, processed: fault.No,
		evidence: []string{"option: MaxCallSendMsgSize", "limit: 1000"}, remedy: "MaxCallSendMsgSize",
		run: sized(func(n int) (faultline.DialOption, faultline.ServerOption) {
			return defaults(grpc.MaxCallSendMsgSize(n)), nil
		})},
	{entry: fault.CodecTooLarge, name: "(server, received)", code: codes.ResourceExhausted, side: fault.Local, processed: fault.No,
		evidence: []string{"option: MaxRecvMsgSize", "limit: 1000"}, remedy: "MaxRecvMsgSize",
		run: sized(func(n int) (faultline.DialOption, faultline.ServerOption) { return nil, faultline.MaxRecvMsgSize(n) })},
	{entry: fault.CodecTooLarge, name: "(server, sent)", code: codes.ResourceExhausted, side: fault.Local, processed: fault.Yes,
		evidence: []string{"option: MaxSendMsgSize", "limit: 1000"}, remedy: "MaxSendMsgSize",
		run: sized(func(n int) (faultline.DialOption, faultline.ServerOption) { return nil, faultline.MaxSendMsgSize(n) })},
	{entry: fault.CodecSubtype, code: codes.Unimplemented, side: fault.Local, processed: fault.No,
		evidence: []string{"content_type: application/grpc+thrift"}, remedy: "drop CallContentSubtype", run: asked(place, peer.Message(nil), "content-type", "application/grpc+thrift")},
}
