// SPDX-License-Identifier: Apache-2.0

package gen_test

import "github.com/faultline-rpc/faultline/fault"

// What Processed says, where several circumstances have it in common.
const (
	neverSent  = "**no**: nothing was sent."
	noHTTP2    = "**no**: the connection never carried a call."
	noHandler  = "**no**: the server answered without running a handler."
	someAnswer = "**maybe**; **yes** if a message of the answer had arrived."
	ranHandler = "**yes**: the handler ran."
	lostStream = "**no** if the call's headers never left this process, **yes** if a message of the answer had arrived, else **maybe**."
	gaveUp     = "**no** if nothing was sent, **yes** if a message of the answer had arrived, else **maybe**. On the server: of the work behind its context, **maybe**."
)

// processed says for each circumstance what its faults tell of Processed, on
// the side that raises it.
var processed = map[fault.ID]string{
	"resolve.not-found":          neverSent,
	"resolve.failed":             neverSent,
	"resolve.bad-target":         neverSent,
	"resolve.bad-service-config": neverSent,
	"resolve.control-plane-code": neverSent,

	"pick.no-ready":  neverSent,
	"pick.dropped":   neverSent,
	"pick.unhealthy": neverSent,

	"dial.refused":     neverSent,
	"dial.unreachable": neverSent,
	"dial.timeout":     neverSent,
	"dial.permission":  neverSent,
	"dial.missing":     neverSent,
	"dial.proxy":       neverSent,
	"dial.failed":      neverSent,

	"tls.plaintext-peer":       noHTTP2,
	"tls.unknown-authority":    noHTTP2,
	"tls.hostname":             noHTTP2,
	"tls.expired":              noHTTP2,
	"tls.client-cert-required": noHTTP2,
	"tls.client-cert-rejected": noHTTP2,
	"tls.no-alpn":              noHTTP2,
	"tls.version":              noHTTP2,
	"tls.handshake":            noHTTP2,

	"http2.tls-peer":                noHTTP2,
	"http2.http1-peer":              noHTTP2,
	"http2.not-http2":               noHTTP2,
	"http2.preface-timeout":         noHTTP2,
	"http2.goaway":                  "**no**: the server promises not to have looked at streams above GOAWAY's last one. Should headers of an answer have arrived nevertheless, **maybe**.",
	"http2.goaway-error":            someAnswer,
	"http2.goaway-calm":             "**no** if the stream lies above GOAWAY's last one, or was not opened; **yes** if a message of the answer had arrived; else **maybe**.",
	"http2.connection-lost":         lostStream,
	"http2.keepalive":               lostStream,
	"http2.settings-timeout":        lostStream,
	"http2.refused-stream":          "**no**: REFUSED_STREAM is that promise. Should headers of an answer have arrived nevertheless, **maybe**.",
	"http2.rst-cancel":              someAnswer,
	"http2.rst-calm":                someAnswer,
	"http2.rst-inadequate-security": someAnswer,
	"http2.rst-other":               someAnswer,
	"http2.flow-control":            lostStream,
	"http2.protocol":                lostStream,
	"http2.compression":             lostStream,
	"http2.header-list":             "**no** for a request that is too large, on either side. For an answer that is too large: **maybe** on the client, **yes** on the server.",

	"wire.http-status":             someAnswer,
	"wire.content-type":            someAnswer,
	"wire.trailers-missing":        someAnswer,
	"wire.status-missing":          someAnswer,
	"wire.status-unparsable":       someAnswer,
	"wire.status-details-mismatch": someAnswer,
	"wire.bad-metadata":            "**no** for a request. For an answer **maybe**, or **yes** if a message had arrived.",
	"wire.illegal-metadata":        "**no** on the client: nothing was sent. **yes** on the server: its handler set the metadata.",
	"wire.bad-timeout":             noHandler,
	"wire.not-grpc-request":        noHandler,
	"wire.not-post":                noHandler,
	"wire.authority":               "**no**: nothing was sent, or the server answered without running a handler.",
	"wire.truncated":               "For an answer **maybe**, or **yes** if a whole message had arrived. For the request of a method that takes one message **no**.",
	"wire.cardinality":             "For an answer **maybe**, or **yes** if a message had arrived. For the request of a method that takes one message **no**.",

	"codec.request-parse":          "**no** for a method that takes one message; **yes** for one that takes a stream, whose handler was running.",
	"codec.response-parse":         ranHandler,
	"codec.marshal":                "**no** on the client for the first message: nothing was sent. **yes** on the server: its handler ran.",
	"codec.decompress":             "**yes** on the client. On the server **no** for a method that takes one message, **yes** for one that takes a stream.",
	"codec.compressor-unsupported": noHandler,
	"codec.response-compressor":    "For an answer **maybe**: nobody here can read what came; **yes** if another message had come before. On the server **no** for a method that takes one message, **yes** for one that takes a stream.",
	"codec.too-large":              "**no** for a request's first message, refused by either side. **yes** for an answer, which the server did not send or the client refused.",
	"codec.subtype":                noHandler,

	"call.cancelled":            gaveUp,
	"call.deadline":             gaveUp,
	"call.deadline-past":        neverSent,
	"call.closed":               lostStream,
	"call.credentials":          neverSent,
	"call.insecure-credentials": neverSent,
	"call.misuse":               "**no** if nothing was sent, else what is known of the call: **maybe**, or **yes** if a message of the answer had arrived. **yes** for what a handler did.",
	"call.retries-exhausted":    "A rung above the last attempt's circumstance, which has its own; each attempt is listed with what is known of it.",
	"call.retry-throttled":      "A rung above the attempt's circumstance, which has its own.",
	"call.retry-pushback":       "A rung above the attempt's circumstance, which has its own.",
	"call.retry-committed":      "A rung above the attempt's circumstance, which has its own.",

	"server.draining":   noHandler,
	"server.stopped":    "**yes** for a handler that ran; **maybe** behind an interceptor, which may have kept the call from it.",
	"server.overloaded": "**no**: no handler ran. **yes** in the handler of a stream that was ended for its share.",
	"server.max-age":    "**yes** for a handler that ran, **maybe** behind an interceptor, **no** for a call that was still waiting for one.",
	"server.max-idle":   "**no**: the server had no call in progress.",

	"handler.status":          "**yes** if the code is one that only applications use, if a message of the answer had arrived, or if the server says so; **no** if an interceptor of a Faultline server answered in the handler's place; else **maybe**, since a library or a proxy may have said it.",
	"handler.unknown-service": "**no**: no handler ran. A server that is not Faultline's says only UNIMPLEMENTED, which its client reports as handler.status.",
	"handler.unknown-method":  "**no**: no handler ran. A server that is not Faultline's says only UNIMPLEMENTED, which its client reports as handler.status.",
	"handler.not-status":      ranHandler,
	"handler.panic":           ranHandler,
	"handler.context":         ranHandler,
	"handler.upstream":        ranHandler,

	"policy.unauthenticated": noHandler,
	"policy.permission":      noHandler,
	"policy.rate-limit":      noHandler,
	"policy.validation":      noHandler,
	"policy.budget":          noHandler,
}
