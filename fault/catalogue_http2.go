// SPDX-License-Identifier: Apache-2.0

package fault

import "google.golang.org/grpc/codes"

// What answered is not HTTP/2, or not in the way expected.
var (
	HTTP2TLSPeer = entry(Entry{
		ID: "http2.tls-peer", Codes: set(codes.Unavailable), By: ByClient,
		Summary: "the client speaks cleartext, the server speaks TLS",
		Cause:   "The client sent the HTTP/2 preface in the clear and the server answered with a TLS alert, or hung up as TLS servers do when the first bytes are no handshake. The port serves TLS.",
		Remedy:  "Connect with TLS, not in plaintext: WithTransportCredentials(credentials.NewTLS(&tls.Config{})), or NewClientTLSFromFile for a private authority. insecure.NewCredentials() suits cleartext ports only; 443 and 8443 are almost always TLS.",
		Spec:    rfc9113 + "#section-3.4", Rooms: rooms("channel"),
	})
	HTTP2HTTP1Peer = entry(Entry{
		ID: "http2.http1-peer", Codes: set(codes.Unavailable), By: ByClient,
		Summary: "the peer answers in HTTP/1.x",
		Cause:   "What listens there is a web server or load balancer that speaks HTTP/1.1 on this port, usually with 400 Bad Request or 505. gRPC needs HTTP/2 from end to end.",
		Remedy:  "Check the port: REST and gRPC often live side by side. Enable HTTP/2 towards clients and gRPC towards the backend: nginx \"http2 on\" with grpc_pass, AWS ALB protocol version GRPC, Kubernetes ingress annotation backend-protocol: GRPC.",
		Spec:    rfc9113 + "#section-3.4", Rooms: rooms("channel"),
	})
	HTTP2NotHTTP2 = entry(Entry{
		ID: "http2.not-http2", Codes: set(codes.Unavailable), By: ByClient,
		Summary: "the peer does not speak HTTP/2",
		Cause:   "The first bytes from the peer are neither an HTTP/2 SETTINGS frame, nor TLS, nor HTTP/1.x. Another service lives at that address: ssh, redis, a database. The bytes are kept as evidence.",
		Remedy:  "Correct host or port of the target: another service listens there. The sample in the evidence usually names it (\"SSH-2.0\": ssh, \"220\": mail, \"-ERR\": redis).",
		Spec:    rfc9113 + "#section-3.4", Rooms: rooms("channel"),
	})
	HTTP2PrefaceTimeout = entry(Entry{
		ID: "http2.preface-timeout", Codes: set(codes.Unavailable), By: ByClient,
		Summary: "the peer accepted the connection and then said nothing",
		Cause:   "The socket is open, but the server's SETTINGS frame did not arrive in time. The process behind the port hangs or is stopped, its accept queue is full, or a load balancer accepts connections for a backend that is gone.",
		Remedy:  "Look whether the server process is alive and accepting, or frozen or stuck (a debugger, SIGSTOP and an exhausted thread pool all do this). Behind a TCP load balancer check that a backend is healthy. A cleartext client against a silent TLS port can also look so, and cmux on the server without MatchWithWriters(HTTP2MatchHeaderFieldSendSettings(...)).",
		Spec:    rfc9113 + "#section-3.4", Rooms: rooms("channel"),
	})
)

// The connection ended, or is ending.
var (
	HTTP2GoAway = entry(Entry{
		ID: "http2.goaway", Codes: set(codes.Unavailable), By: ByClient,
		Summary: "the server is closing the connection and did not take the call",
		Cause:   "The server sent GOAWAY, and this call's stream lies above the last one it promises to answer, or was not opened yet. That is how servers restart, scale in and retire old connections without losing calls: the client repeats such a call once on another connection by itself.",
		Remedy:  "It is always safe to call again: no handler ran, and clients retry by themselves, so it is seen only if no other connection was ready in time. The server is going away (a rollout, a restart, a connection of age): see that another backend is ready meanwhile (maxUnavailable, a readiness probe), or let calls wait with WaitForReady(true).",
		Spec:    rfc9113 + "#section-6.8", Rooms: rooms("channel", "wire", "call"),
	})
	HTTP2GoAwayError = entry(Entry{
		ID: "http2.goaway-error", Codes: set(codes.Unavailable), By: ByClient,
		Summary: "the server gave the connection up with an error",
		Cause:   "The server sent GOAWAY with an error code while this call was in flight, then closed. It says that this client, or a proxy between, broke the protocol, or that the server itself failed. The call may or may not have been processed.",
		Remedy:  "The evidence holds the code and the server's debug text. Look into the server's or proxy's log at that moment; retry only what is idempotent.",
		Spec:    rfc9113 + "#section-6.8", Rooms: rooms("channel", "wire", "call"),
	})
	HTTP2GoAwayCalm = entry(Entry{
		ID: "http2.goaway-calm", Codes: set(codes.Unavailable), By: ByClient,
		Summary: "the server closed the connection because of too many pings",
		Cause:   "The server sent GOAWAY ENHANCE_YOUR_CALM, with \"too_many_pings\": this client's keepalive pings come more often than the server's enforcement policy permits (every 5 minutes by default, and none without an active call). The client doubles its keepalive time for the next connection.",
		Remedy:  "Raise keepalive.ClientParameters.Time (WithKeepaliveParams), or lower MinTime and set PermitWithoutStream in the server's KeepaliveEnforcementPolicy. Envoy and nginx have limits of their own.",
		Spec:    gRFCA8, Rooms: rooms("channel", "wire", "call"),
	})
	HTTP2ConnectionLost = entry(Entry{
		ID: "http2.connection-lost", Codes: set(codes.Unavailable), By: ByBoth,
		Summary: "the connection broke",
		Cause:   "The connection ended without GOAWAY: the peer's process died or was killed, a load balancer or NAT dropped an idle or long-lived connection, or the network failed. A call whose headers had left may have been processed; one that had not was not.",
		Remedy:  "See whether the peer restarted or crashed at that moment (its log; OOM kill, rollout without GracefulStop), or a proxy between did; retry only what is idempotent. If it happens after a steady idle time, a middlebox cuts idle connections: WithKeepaliveParams below its timeout (AWS NLB 350 s, many NATs 60 s), or raise it (nginx stream: proxy_timeout; HAProxy: timeout client, server and tunnel).",
		Spec:    statusCodes, Rooms: rooms("channel", "wire", "call", "server"),
	})
	HTTP2Keepalive = entry(Entry{
		ID: "http2.keepalive", Codes: set(codes.Unavailable), By: ByBoth,
		Summary: "the peer does not answer keepalive pings",
		Cause:   "Nothing was heard from the peer for the keepalive time, and a PING then stayed unanswered for the keepalive timeout. The machine or its network is gone without saying so, or the peer is frozen. The connection was closed so that calls fail now instead of at their deadlines.",
		Remedy:  "Check the peer and the network between: its process is frozen (stopped, in a debugger, deadlocked), its machine down, or a firewall or NAT has forgotten the connection. Restart what hangs. If the peer merely paused (garbage collection, a CPU limit), raise Timeout in keepalive.ClientParameters or keepalive.ServerParameters: 20 seconds is the default.",
		Spec:    gRFCA8, Rooms: rooms("channel", "wire", "call", "server"),
	})
	HTTP2SettingsTimeout = entry(Entry{
		ID: "http2.settings-timeout", Codes: set(codes.Unavailable), By: ByBoth,
		Summary: "the peer never acknowledged the HTTP/2 settings",
		Cause:   "Every HTTP/2 endpoint must acknowledge the SETTINGS frame it receives. This one did not within the time allowed, so its limits cannot be relied on and the connection was closed with SETTINGS_TIMEOUT.",
		Remedy:  "The peer is frozen, or is no complete HTTP/2 implementation. Look at what answers at that address, proxies included, and update it.",
		Spec:    rfc9113 + "#section-6.5.3", Rooms: rooms("channel", "wire", "call", "server"),
	})
)

// The peer reset one stream.
var (
	HTTP2RefusedStream = entry(Entry{
		ID: "http2.refused-stream", Codes: set(codes.Unavailable), By: ByClient,
		Summary: "the server refused the stream before processing it",
		Cause:   "The server reset the stream with REFUSED_STREAM, which promises that no handler saw the call. It is the answer above MAX_CONCURRENT_STREAMS, or of a server or proxy that sheds load. The client repeats such a call once by itself.",
		Remedy:  "It is safe to call again. Seen often: raise MaxConcurrentStreams on the server (nginx: http2_max_concurrent_streams, Envoy: max_concurrent_streams), or spread the calls over more connections or backends. HAProxy also says so of a backend that gives it no answer: check that it is up, and speaks what the server line says (proto h2, ssl).",
		Spec:    rfc9113 + "#section-8.7", Rooms: rooms("wire"),
	})
	HTTP2RSTCancel = entry(Entry{
		ID: "http2.rst-cancel", Codes: set(codes.Canceled), By: ByClient,
		Summary: "the server canceled the stream",
		Cause:   "The stream was reset with CANCEL from the other end while this side's deadline had not passed. A proxy gave up (its own timeout, its client side went away), or the server ended the handler's context; gRPC servers themselves rarely do it.",
		Remedy:  "Look for a timeout shorter than the call in a proxy: Envoy's route timeout (15 s by default), grpc_read_timeout in nginx, an ingress controller's. Compare with how long the call took.",
		Spec:    protocol + "#errors", Rooms: rooms("wire"),
	})
	HTTP2RSTCalm = entry(Entry{
		ID: "http2.rst-calm", Codes: set(codes.ResourceExhausted), By: ByClient,
		Summary: "the server reset the stream and asks for less load",
		Cause:   "The stream was reset with ENHANCE_YOUR_CALM. The server, or a proxy in front of it, protects itself from the rate or the cost of what this client sends.",
		Remedy:  "Send less or more slowly, with back-off. Look at the limits of the server and of the proxies between (Envoy's overload manager, nginx's limit_req), and at access rules: HAProxy's http-request reject says it, too.",
		Spec:    protocol + "#errors", Rooms: rooms("wire"),
	})
	HTTP2RSTInadequateSecurity = entry(Entry{
		ID: "http2.rst-inadequate-security", Codes: set(codes.PermissionDenied), By: ByClient,
		Summary: "the server finds the connection's security inadequate",
		Cause:   "The stream was reset with INADEQUATE_SECURITY. The server's policy wants a newer TLS version or a better cipher suite than this connection has.",
		Remedy:  "Let the client offer TLS 1.3, or TLS 1.2 with ECDHE and AES-GCM; remove restrictions from MinVersion, MaxVersion and CipherSuites in its tls.Config.",
		Spec:    protocol + "#errors", Rooms: rooms("wire"),
	})
	HTTP2RSTOther = entry(Entry{
		ID: "http2.rst-other", Codes: set(codes.Internal, codes.Unknown), By: ByClient,
		Summary: "the server reset the stream",
		Cause:   "The stream was reset with an HTTP/2 error code that has no circumstance of its own; the evidence names it. The server or a proxy crashed in mid-call, its backend went away (many proxies then send INTERNAL_ERROR), or it takes offense at something in the request.",
		Remedy:  "Take the code from the evidence to the log of the server and of each proxy between. PROTOCOL_ERROR from nginx or Envoy often means a header they do not accept; INTERNAL_ERROR that the backend closed the connection.",
		Spec:    protocol + "#errors", Rooms: rooms("wire"),
	})
)

// The peer breaks the rules of HTTP/2, as found here.
var (
	HTTP2FlowControl = entry(Entry{
		ID: "http2.flow-control", Codes: set(codes.Internal), By: ByBoth,
		Summary: "the peer violated flow control",
		Cause:   "The peer sent more than its window permits, or raised a window beyond 2^31-1. A correct HTTP/2 implementation never does, however slow the receiver is.",
		Remedy:  "The peer or a proxy between is defective: update it, and report it with the evidence. No option of this side cures it.",
		Spec:    rfc9113 + "#section-5.2", Rooms: rooms("wire", "channel", "server"),
	})
	HTTP2Protocol = entry(Entry{
		ID: "http2.protocol", Codes: set(codes.Internal, codes.Unavailable), By: ByBoth,
		Summary: "the peer broke a rule of HTTP/2",
		Cause:   "The peer sent a frame that is malformed or not allowed in the state of its stream or connection. The peer or a proxy between is defective, or bytes were lost or altered on the way. Calls in flight on that connection fail with it.",
		Remedy:  "The message names the rule. Update the peer, and take proxies out of the path one at a time to find which of them does it.",
		Spec:    rfc9113 + "#section-5.4", Rooms: rooms("wire", "channel", "server"),
	})
	HTTP2Compression = entry(Entry{
		ID: "http2.compression", Codes: set(codes.Internal), By: ByBoth,
		Summary: "a header block does not decompress",
		Cause:   "A header block breaks the rules of HPACK. Since both ends share one compression state, the connection cannot go on, and every call on it fails.",
		Remedy:  "The peer or a proxy between is defective, or altered a header block in transit: update it, and report it with the evidence.",
		Spec:    rfc7541 + "#section-3", Rooms: rooms("wire", "channel", "server"),
	})
	HTTP2HeaderList = entry(Entry{
		ID: "http2.header-list", Codes: set(codes.Internal), By: ByBoth,
		Summary: "the headers are larger than this side accepts",
		Cause:   "The metadata of a request or an answer exceeds the header list limit of the side that received it, counted as name, value and 32 bytes per field. Large tokens, tracing baggage, or error details that carry a stack trace get there.",
		Remedy:  "Send less metadata: put data into messages, and bound error details. The limit is MaxHeaderListSize on the server and WithMaxHeaderListSize on the client; nginx has large_client_header_buffers, Envoy max_request_headers_kb.",
		Spec:    rfc9113 + "#section-6.5.2", Rooms: rooms("wire", "channel", "server"),
	})
)
