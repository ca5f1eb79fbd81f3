// SPDX-License-Identifier: Apache-2.0

package fault

import "google.golang.org/grpc/codes"

// What came back is not, or not completely, a gRPC answer.
var (
	WireHTTPStatus = entry(Entry{
		ID:    "wire.http-status",
		Codes: set(codes.Unknown, codes.Internal, codes.Unauthenticated, codes.PermissionDenied, codes.Unimplemented, codes.Unavailable), By: ByClient,
		Summary: "the answer is an HTTP error, not a gRPC status",
		Cause:   "What answered sent an HTTP status other than 200 and no grpc-status: a proxy, gateway or web server in front of, or instead of, the gRPC server. The code is derived from the HTTP status as the gRPC mapping prescribes, which tells little about the server itself.",
		Remedy:  "Find who answered: the server header and the sample are evidence. 404 is usually a missing route (ingress path, nginx location with grpc_pass), 502 to 504 a proxy that cannot reach its backend, 401 and 403 a gateway's own authentication, 429 its rate limit.",
		Spec:    httpMapping, Rooms: rooms("wire"),
	})
	WireContentType = entry(Entry{
		ID: "wire.content-type", Codes: set(codes.Unknown), By: ByClient,
		Summary: "the answer's content-type is not gRPC",
		Cause:   "The answer has HTTP status 200 but is no gRPC message: a web page, a login form, JSON. Something other than the gRPC server answered, and a bounded sample of what it said is kept as evidence.",
		Remedy:  "Look at the sample and the server header. Check that the proxy routes this path to the gRPC backend with grpc_pass (not proxy_pass), and that no single-page application's fallback or captive portal catches it.",
		Spec:    httpMapping, Rooms: rooms("wire"),
	})
	WireTrailersMissing = entry(Entry{
		ID: "wire.trailers-missing", Codes: set(codes.Internal), By: ByClient,
		Summary: "the answer ended without trailers",
		Cause:   "A gRPC answer ends with HTTP/2 trailers, which carry the status. The stream ended after data instead: a proxy between does not forward trailers, or the server is not a complete gRPC server. The true status is lost, a success may hide behind it.",
		Remedy:  "Use a proxy that forwards trailers: nginx with grpc_pass, Envoy, HAProxy 2 or later, AWS ALB with protocol version GRPC (not a Classic Load Balancer). Call the backend directly to see its real status. An answer that ends so after a steady time was cut by a proxy's time-out (HAProxy: timeout server).",
		Spec:    protocol + "#responses", Rooms: rooms("wire"),
	})
	WireStatusMissing = entry(Entry{
		ID: "wire.status-missing", Codes: set(codes.Unknown), By: ByClient,
		Summary: "the trailers carry no grpc-status",
		Cause:   "The answer ended with trailers, as it should, but the field grpc-status is not among them. A proxy or middleware wrote trailers of its own, or a hand-written server forgot the field.",
		Remedy:  "Call the backend directly: if the status is there, a proxy between filters or replaces trailers. Servers that write HTTP/2 by hand must send grpc-status, also for success (0).",
		Spec:    protocol + "#responses", Rooms: rooms("wire"),
	})
	WireStatusUnparsable = entry(Entry{
		ID: "wire.status-unparsable", Codes: set(codes.Unknown), By: ByClient,
		Summary: "the grpc-status that came back is no number",
		Cause:   "grpc-status must be a decimal number without leading zeros, such as 14. The server or a proxy sent something else, a code's name for instance.",
		Remedy:  "Correct the server or the proxy's rule that sets grpc-status to a decimal number, 0 to 16 (nginx: add_trailer or error_page rules, Envoy: response_trailers_to_add).",
		Spec:    statusCodes, Rooms: rooms("wire"),
	})
	WireStatusDetailsMismatch = entry(Entry{
		ID: "wire.status-details-mismatch", Codes: set(codes.Internal), By: ByClient,
		Summary: "grpc-status and grpc-status-details-bin contradict each other",
		Cause:   "The trailers carry the status twice, as a number and inside the binary details, and the two codes differ. Middleware or a proxy changed one of the two, so neither can be trusted.",
		Remedy:  "Where the server or a proxy rewrites the status, let it rewrite or drop grpc-status-details-bin as well. Handlers should attach details with status.WithDetails, never by setting the trailer.",
		Spec:    protocol + "#responses", Rooms: rooms("wire"),
	})
)

// What was sent, or was about to be, is no valid gRPC.
var (
	WireBadMetadata = entry(Entry{
		ID: "wire.bad-metadata", Codes: set(codes.Internal), By: ByBoth,
		Summary: "a binary metadata value is not valid base64",
		Cause:   "Metadata whose name ends in -bin holds bytes, sent as base64. The peer sent a value that does not decode. Only this call fails, the connection goes on.",
		Remedy:  "The evidence names the field. Let the sender encode values of -bin names as base64 (libraries do it by themselves: pass raw bytes), or use a name without -bin for text.",
		Spec:    protocol + "#requests", Rooms: rooms("wire"),
	})
	WireIllegalMetadata = entry(Entry{
		ID: "wire.illegal-metadata", Codes: set(codes.Internal), By: ByBoth,
		Summary: "this program's metadata has a name or value that may not be sent",
		Cause:   "Metadata names consist of 0-9 a-z _ - . and values without -bin of printable ASCII. The program, an interceptor or its credentials set something else, so nothing was sent. Names that are gRPC's own (grpc-timeout, grpc-encoding, grpc-status, grpc-message, or with a colon first) are refused as well; those that programs receive and pass on (:authority, content-type, user-agent, te and the like) are left out.",
		Remedy:  "The evidence names the field. For values with other characters or bytes use a name that ends in -bin. Do not copy incoming metadata wholesale into outgoing calls: choose the fields to forward.",
		Spec:    protocol + "#requests", Rooms: rooms("wire", "call", "server"),
	})
	WireBadTimeout = entry(Entry{
		ID: "wire.bad-timeout", Codes: set(codes.Internal), By: ByServer,
		Summary: "the request's grpc-timeout is malformed",
		Cause:   "grpc-timeout is at most eight digits and a unit: H, M, S, m, u or n. The client, or a proxy that rewrites the field, sent something else; the request is answered with HTTP 400 and no handler ran.",
		Remedy:  "Correct the client that writes grpc-timeout by hand, or the proxy rule that rewrites it: at most eight digits and a unit (H, M, S, m, u or n), such as 1500m. gRPC libraries write it from the deadline by themselves.",
		Spec:    protocol + "#requests", Rooms: rooms("wire", "server"),
	})
	WireNotGRPCRequest = entry(Entry{
		// The reply is HTTP 415 alone; a gRPC client derives UNKNOWN from it.
		ID: "wire.not-grpc-request", Codes: set(codes.Unknown), By: ByServer,
		Summary: "the request's content-type is not application/grpc",
		Cause:   "Something that is no gRPC client called this port: a browser, curl, a health probe of a load balancer, or a gRPC-Web client without its translating proxy. It was answered with HTTP 415.",
		Remedy:  "Point HTTP probes to another port, or use gRPC probes (Kubernetes: livenessProbe.grpc; AWS ALB: protocol version GRPC). For browsers put a gRPC-Web proxy such as Envoy's grpc_web filter in front.",
		Spec:    protocol + "#requests", Rooms: rooms("wire", "server"),
	})
	WireNotPost = entry(Entry{
		// The reply is HTTP 405 alone; a gRPC client derives UNKNOWN from it.
		ID: "wire.not-post", Codes: set(codes.Unknown), By: ByServer,
		Summary: "the request's method is not POST",
		Cause:   "gRPC requests are always POST. A browser, curl or the HTTP health probe of a load balancer asked with GET or another method, and was answered with HTTP 405.",
		Remedy:  "Point HTTP probes to another port, or use gRPC probes (Kubernetes: livenessProbe.grpc; AWS ALB: protocol version GRPC).",
		Spec:    protocol + "#requests", Rooms: rooms("wire", "server"),
	})
	WireAuthority = entry(Entry{
		ID: "wire.authority", Codes: set(codes.Unauthenticated, codes.Internal), By: ByBoth,
		Summary: "the call's :authority is missing, repeated or not valid",
		Cause:   "Every request names the host it is meant for in :authority. A host that is not valid, or not the one the credentials vouch for, counts as unauthenticated; a missing or repeated one is a malformed request.",
		Remedy:  "Check WithAuthority and the CallAuthority option: they take a host and optional port, no scheme and no path. With TLS the host must be one the server's certificate covers.",
		Spec:    statusCodes, Rooms: rooms("wire", "call", "server"),
	})
	WireTruncated = entry(Entry{
		ID: "wire.truncated", Codes: set(codes.Internal), By: ByBoth,
		Summary: "the stream ended inside a message",
		Cause:   "Each message announces its length, and the stream ended before that many bytes had come. The peer crashed or gave up in the middle of a message, or a proxy cut the body.",
		Remedy:  "Look into the peer's log at that moment: it crashed, or gave up in the middle of a message, or wrote a wrong length before it. Check body limits of proxies between: nginx client_max_body_size, and its grpc_buffer_size and timeouts.",
		Spec:    protocol + "#requests", Rooms: rooms("wire"),
	})
	WireCardinality = entry(Entry{
		ID: "wire.cardinality", Codes: set(codes.Unimplemented), By: ByBoth,
		Summary: "not exactly one message came where one is due",
		Cause:   "The method takes, or returns, exactly one message, and none or several came. Client and server were generated from definitions that disagree about what streams, or a hand-written peer forgot its message.",
		Remedy:  "Generate both sides from the same .proto file and compare the word stream in the method's definition. A server must send one message before a successful end of a unary call.",
		Spec:    statusCodes, Rooms: rooms("wire", "call", "server"),
	})
)
