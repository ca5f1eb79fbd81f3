// SPDX-License-Identifier: Apache-2.0

package fault

import "google.golang.org/grpc/codes"

// Bytes to messages and back.
var (
	CodecRequestParse = entry(Entry{
		ID: "codec.request-parse", Codes: set(codes.Internal), By: ByServer,
		Summary: "the request does not parse",
		Cause:   "The bytes of the request are no valid message of the method's type. Client and server use incompatible versions of the .proto file, different codecs, or the client sent bytes that it encoded wrongly. No handler ran.",
		Remedy:  "Generate both sides from the same .proto file; never change the number or the type of a field. Strings must be valid UTF-8. Check the content-subtype (CallContentSubtype, ForceCodec) if a codec other than proto is in use.",
		Spec:    errorGuide, Rooms: rooms("codec", "wire", "server"),
	})
	CodecResponseParse = entry(Entry{
		ID: "codec.response-parse", Codes: set(codes.Internal), By: ByClient,
		Summary: "the response does not parse",
		Cause:   "The bytes of the answer are no valid message of the type this client expects. Client and server use incompatible versions of the .proto file or different codecs. The server did process the call.",
		Remedy:  "Generate both sides from the same .proto file; never change the number or the type of a field. Do not simply retry: the handler ran, and the next answer will not parse either.",
		Spec:    errorGuide, Rooms: rooms("codec", "wire", "call"),
	})
	CodecMarshal = entry(Entry{
		ID: "codec.marshal", Codes: set(codes.Internal), By: ByBoth,
		Summary: "the message does not marshal",
		Cause:   "This side's own message could not be turned into bytes. A string is not valid UTF-8, a required field is missing, or the value is nil or not of the kind that the codec encodes.",
		Remedy:  "Read the cause, which names the field. Use bytes for data that is not text, and pass the generated message type (a pointer) to the call.",
		Spec:    statusCodes, Rooms: rooms("codec", "wire", "call", "server"),
	})
	CodecDecompress = entry(Entry{
		ID: "codec.decompress", Codes: set(codes.Internal), By: ByBoth,
		Summary: "the message does not decompress",
		Cause:   "The message is marked as compressed with an algorithm this side supports, but the bytes are corrupt. The sender's compressor is defective, or a proxy between re-compressed or altered the body.",
		Remedy:  "Switch the sender's compression off to confirm (no UseCompressor on the client, no grpc-encoding from the server). Keep proxies from compressing bodies of application/grpc.",
		Spec:    compression, Rooms: rooms("codec", "wire", "call", "server"),
	})
	CodecCompressorUnsupported = entry(Entry{
		ID: "codec.compressor-unsupported", Codes: set(codes.Unimplemented), By: ByServer,
		Summary: "the server does not support the request's compression",
		Cause:   "The client compressed its request with an algorithm for which the server has no compressor. The answer's grpc-accept-encoding lists those it has.",
		Remedy:  "On the client drop UseCompressor, or use one that the server lists in the answer's grpc-accept-encoding: that works at once. To keep the compression register it in the server's program, for gzip import _ \"google.golang.org/grpc/encoding/gzip\"; grpc-java, C-core and grpc-js have gzip built in, other algorithms must be registered there too.",
		Spec:    compression, Rooms: rooms("codec", "wire", "server"),
	})
	CodecResponseCompressor = entry(Entry{
		ID: "codec.response-compressor", Codes: set(codes.Internal), By: ByBoth,
		Summary: "a compressed message came without a usable encoding",
		Cause:   "The peer compressed a message with an algorithm that this side did not offer and does not have, or marked it as compressed without naming any encoding. Both break the rules of gRPC compression.",
		Remedy:  "Register the compressor the evidence names, or correct the peer: a server may use only what the client's grpc-accept-encoding lists. A proxy that removes grpc-encoding has the same effect. Compression switched off on the server helps at once.",
		Spec:    compression, Rooms: rooms("codec", "wire", "call", "server"),
	})
	CodecTooLarge = entry(Entry{
		ID: "codec.too-large", Codes: set(codes.ResourceExhausted), By: ByBoth,
		Summary: "the message is larger than the limit",
		Cause:   "Each side bounds the messages it receives, to 4 MiB unless configured, and may bound those it sends. The limit counts before and after decompression. The evidence says which side's limit it was, its value and the option that sets it.",
		Remedy:  "Page or stream large results instead. Where large messages are wanted raise the limit of the side that refused: MaxCallRecvMsgSize and MaxCallSendMsgSize on the client (WithDefaultCallOptions), MaxRecvMsgSize and MaxSendMsgSize on the server; nginx: client_max_body_size.",
		Spec:    statusCodes, Rooms: rooms("codec", "wire", "call", "server"),
	})
	CodecSubtype = entry(Entry{
		ID: "codec.subtype", Codes: set(codes.Unimplemented), By: ByServer,
		Summary: "the server has no codec for the request's content-subtype",
		Cause:   "The content-type application/grpc+NAME asks for a codec called NAME, and none is registered under that name in the server's program. Plain application/grpc means proto.",
		Remedy:  "Register the codec on the server (encoding.RegisterCodecV2 in an init function, which runs when its package is imported), or drop CallContentSubtype on the client.",
		Spec:    protocol + "#requests", Rooms: rooms("codec", "wire", "server"),
	})
)

// The client's call as a whole.
var (
	CallCancelled = entry(Entry{
		ID: "call.cancelled", Codes: set(codes.Canceled), By: ByBoth,
		Summary: "the call was canceled",
		Cause:   "The context of the call was canceled before the call was over: by the program itself, because whoever it worked for went away, or by a deferred cancel that ran too early. On a server the cause says why the context ended: the client reset the stream, its deadline passed, or the connection broke.",
		Remedy:  "Usually nothing: it is what was asked for. If it is a surprise, use context.WithCancelCause so that the cause says who canceled, and check that a stream's cancel does not run while the stream is still read.",
		Spec:    cancelGuide, Rooms: rooms("call", "server", "wire"),
	})
	CallDeadline = entry(Entry{
		ID: "call.deadline", Codes: set(codes.DeadlineExceeded), By: ByBoth,
		Summary: "the deadline expired",
		Cause:   "The time given for the call ran out before the answer was complete. The ledger says where it went: finding and connecting to a server, waiting for a free stream, sending, or waiting for the server, and whether that answered a PING meanwhile. The server may still be at work, or done.",
		Remedy:  "Read the ledger first. Connecting: look for the dial or TLS failure in the rungs. Waiting for a server that is alive: look at its latency, and at what it waits for in turn; for one that answered no PING: at the machine and the network. Otherwise give the call more time (context.WithTimeout), and remember that a server inherits the caller's remaining budget.",
		Spec:    timeGuide, Rooms: rooms("call", "server", "wire"),
	})
	CallDeadlinePast = entry(Entry{
		ID: "call.deadline-past", Codes: set(codes.DeadlineExceeded), By: ByClient,
		Summary: "the deadline had already passed, nothing was sent",
		Cause:   "The context's deadline lay in the past when the call was made. An earlier call or computation used up the shared budget, the context is being reused after its time, or a timeout was computed as zero or negative.",
		Remedy:  "Make a context per operation with context.WithTimeout just before it, check the unit of the timeout, and look at what consumed the budget that this call inherited.",
		Spec:    timeGuide, Rooms: rooms("call"),
	})
	CallClosed = entry(Entry{
		ID: "call.closed", Codes: set(codes.Canceled), By: ByClient,
		Summary: "the client connection is closed",
		Cause:   "The program called Close on the ClientConn, before this call or while it was in flight. A deferred Close in the function that made the connection, while generated clients live on, is the usual reason.",
		Remedy:  "Close the ClientConn when the program ends, not after each use: it is safe for concurrent use and reconnects by itself.",
		Spec:    statusCodes, Rooms: rooms("call", "channel", "wire"),
	})
	CallCredentials = entry(Entry{
		ID: "call.credentials",
		// A status error of the credentials passes unless gRFC A54 reserves its code.
		Codes: set(codes.Unauthenticated, codes.Canceled, codes.Unknown, codes.DeadlineExceeded, codes.PermissionDenied,
			codes.ResourceExhausted, codes.Unimplemented, codes.Internal, codes.Unavailable),
		By:      ByClient,
		Summary: "the per-call credentials delivered no metadata",
		Cause:   "PerRPCCredentials are asked for a token before each call, and failed: the token endpoint is not reachable, a refresh token has expired, a key file is missing. The call was not sent.",
		Remedy:  "Read the cause, and try the token source by itself. Cache tokens until shortly before they expire, so that a short outage of the issuer does not fail every call.",
		Spec:    statusCodes, Rooms: rooms("call"),
	})
	CallInsecureCredentials = entry(Entry{
		ID: "call.insecure-credentials", Codes: set(codes.Unauthenticated), By: ByClient,
		Summary: "the per-call credentials need a secure connection and this one is cleartext",
		Cause:   "The credentials answer true to RequireTransportSecurity, since a token sent in the clear can be stolen. The connection uses insecure.NewCredentials(), or another security level below the one required, so the call was not sent.",
		Remedy:  "Use TLS (WithTransportCredentials). For local tests only, use credentials whose RequireTransportSecurity returns false, or google.golang.org/grpc/credentials/local.",
		Spec:    statusCodes, Rooms: rooms("call", "channel"),
	})
	CallMisuse = entry(Entry{
		ID: "call.misuse", Codes: set(codes.Internal), By: ByBoth,
		Summary: "the program uses the call in a way that is not allowed",
		Cause:   "The program broke the contract of a call: SendMsg after CloseSend, RecvMsg after the end, headers after they were sent, a compressor or codec that is not registered. The message says which.",
		Remedy:  "Correct the program at the place the message names. One goroutine may send while another receives, but two may not send, nor two receive, on one stream.",
		Spec:    statusCodes, Rooms: rooms("call", "server", "wire"),
	})
	CallRetriesExhausted = entry(Entry{
		ID: "call.retries-exhausted", Codes: nil, By: ByClient,
		Summary: "every attempt of the retry policy failed",
		Cause:   "The service config's retry policy permits a number of attempts, and the last of them failed as well. The code is the last attempt's; all attempts are kept as evidence, with their peers and times.",
		Remedy:  "Treat the last attempt's circumstance. If the attempts failed for different reasons, look at each; more attempts (maxAttempts, at most 5) only help against short outages.",
		Spec:    gRFCA6, Rooms: rooms("call"),
	})
	CallRetryThrottled = entry(Entry{
		ID: "call.retry-throttled", Codes: nil, By: ByClient,
		Summary: "no retry was made, because too many calls fail",
		Cause:   "The service config's retryThrottling keeps a token bucket per server name. So many calls failed lately that at most half of the tokens are left, and retries stop until successes refill it: they would add load to a service in trouble.",
		Remedy:  "Treat the circumstance of the attempt itself. Adjust maxTokens and tokenRatio only if the throttle sets in too early for healthy traffic.",
		Spec:    gRFCA6 + "#throttling-retry-attempts-and-hedged-rpcs", Rooms: rooms("call"),
	})
	CallRetryPushback = entry(Entry{
		ID: "call.retry-pushback", Codes: nil, By: ByClient,
		Summary: "no retry was made, because the server asked for none",
		Cause:   "The server's trailers carry grpc-retry-pushback-ms with a negative or unreadable value, which means: do not retry. The server knows that another attempt would not help or would hurt.",
		Remedy:  "Treat the circumstance of the attempt itself. On the server, send a non-negative number of milliseconds to allow a retry after that time.",
		Spec:    gRFCA6 + "#pushback", Rooms: rooms("call"),
	})
	CallRetryCommitted = entry(Entry{
		ID: "call.retry-committed", Codes: nil, By: ByClient,
		Summary: "no retry was made, because the call was committed to this attempt",
		Cause:   "The service config's retry policy covers the failure and permits another attempt, but the failure came too late. Response headers had arrived, or the request had outgrown what is kept for a repetition.",
		Remedy:  "Treat the circumstance of the attempt itself. A server that wants failures to be retried sends no headers before it knows that it can answer. For long requests raise grpc.MaxRetryRPCBufferSize.",
		Spec:    gRFCA6 + "#when-retries-are-valid", Rooms: rooms("call"),
	})
)
