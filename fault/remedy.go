// SPDX-License-Identifier: Apache-2.0

package fault

import (
	"strings"

	"google.golang.org/grpc/codes"
)

// Remedy returns the advice for this failure: the entry's, unless more is known
// of it.
func (f *Fault) Remedy() string {
	if f.remedy != "" {
		return f.remedy
	}
	var ev Evidence
	if f.evidence != nil {
		ev = *f.evidence
	}
	special, then := "", ""
	switch f.entry {
	case HandlerStatus:
		special, then = statusRemedy[f.code], "Read the message and the details: they are the application's own words."
		if f.code > codes.Unauthenticated {
			special = "The server sent a number that is none of gRPC's codes (0 to 16): correct it there, or look up what the application means by it. Clients treat it as UNKNOWN."
		}
	case WireHTTPStatus:
		special, then = httpRemedy[ev.HTTPStatus], "Find who answered: the server header and the sample are evidence."
	case WireContentType:
		then = "The sample and the server header are evidence."
		if ev.HTTPStatus == 200 && ev.Content == "" && ev.Sample == "" {
			special = "An empty page answered, not a gRPC server: a web server or proxy does so for a host (:authority) or path that it has no site for (Caddy). Dial a host that it serves, or add the route."
		}
		for _, c := range contentRemedy {
			if strings.HasPrefix(ev.Content, c.prefix) {
				special = c.text
				break
			}
		}
	case HTTP2GoAwayError:
		special = goAwayRemedy[ev.HTTP2Code]
		if special == "" {
			special = resetRemedy[ev.HTTP2Code]
		}
		then = "The debug text in the evidence and the log of the server or proxy say more; retry only what is idempotent."
	case HTTP2GoAway:
		special = keptOutRemedy[ev.HTTP2Code]
		then = "No handler ran: it is safe to call again."
	case DialRefused:
		if ev.Network == "unix" {
			special, then = "No program listens on this socket: start the server, or correct the path.",
				"A file that a crashed server left behind looks the same (ss -lx shows who listens): servers remove it before they listen. In containers mount the socket's directory, not the socket."
		}
	case HTTP2RSTOther:
		special, then = resetRemedy[ev.HTTP2Code], "Take the code to the log of the server and of each proxy between."
	}
	if special == "" {
		return f.entry.Remedy
	}
	return special + " " + then
}

// statusRemedy is for a status of the server's own.
var statusRemedy = map[codes.Code]string{
	codes.Canceled:           "The server gave the call up, or a call of its own was canceled: look into its log for who did.",
	codes.Unknown:            "The handler failed without naming a code: look into the server's log, and let the handler return status errors.",
	codes.InvalidArgument:    "Correct the request: the same one fails again. BadRequest details name the fields.",
	codes.DeadlineExceeded:   "Time ran out on the server, or in a service that it calls: find what was slow there, or give the call a longer deadline.",
	codes.NotFound:           "What the request names does not exist there: check its id and that it is the right server (environment, tenant).",
	codes.AlreadyExists:      "It exists already: read it instead; after an earlier attempt it may be that attempt's success.",
	codes.PermissionDenied:   "The caller is known but not permitted: get the role or scope that the method needs, or use another identity. Retrying is useless.",
	codes.ResourceExhausted:  "A quota, a rate limit or the server's capacity is used up: slow down and retry with back-off (RetryInfo says when), or raise the limit.",
	codes.FailedPrecondition: "The system is not in the state that the operation needs: change that first. Retrying is useless until then.",
	codes.Aborted:            "It lost against a concurrent operation: repeat the whole transaction from its first read, with back-off.",
	codes.OutOfRange:         "It went past the valid range: stop iterating, or correct the offset.",
	codes.Unimplemented:      "The server does not have this method, or does not support what it asks for: compare service and method names and the server's version; faultline list shows what it has.",
	codes.Internal:           "A defect or an invariant broken on the server: look into its log at that moment, and report it.",
	codes.Unavailable:        "The server, or the proxy that speaks for it, cannot serve now: retry with back-off, and check that it and its backends are healthy (Envoy: no healthy upstream).",
	codes.DataLoss:           "Data is lost or corrupted on the server: restore it; retrying is useless.",
	codes.Unauthenticated:    "Send valid credentials: a token in the authorization metadata (WithPerRPCCredentials), neither expired nor for another audience.",
}

const redirects = "The address redirects, and gRPC follows no redirect: dial where it points to, usually the TLS port or another host name."

// httpRemedy is by HTTP status; 0 stands for 000.
var httpRemedy = map[int]string{
	0:   "HTTP 000 is what nginx says where it passes gRPC on as HTTP/1: use grpc_pass in place of proxy_pass.",
	301: redirects,
	302: redirects,
	303: redirects,
	307: redirects,
	308: redirects,
	204: "What answered has nothing to say and is no gRPC server: dial the right host and port, or route the path to the gRPC server.",
	400: "The proxy finds the request malformed: its log says which header, host (:authority) or path it does not accept. On a TLS port that asks for client certificates nginx says 400 to a client without a valid one (ssl_verify_client): give the client its certificate.",
	401: "Send the credentials that the gateway asks for (authorization metadata, a token that has not expired).",
	403: "The gateway's or firewall's access rules forbid it: permit this client, path or host, or send other credentials.",
	404: "There is no route to the gRPC server for this path or host: add one, or dial the right host and port.",
	405: "A web server that takes no POST here: it is not the gRPC server; dial the right host and port, or add a route.",
	407: "An HTTP proxy on the way wants credentials: give it those, or go around it (NO_PROXY).",
	408: "The proxy did not get the request in time: raise its timeouts for request bodies (client_body_timeout).",
	411: "An HTTP/1 proxy that wants a Content-Length, which gRPC does not have: enable HTTP/2 and gRPC in it from end to end (grpc_pass), or take it out of the path.",
	413: "The proxy refuses a body of this size: raise its limit (nginx: client_max_body_size 0).",
	415: "It does not take application/grpc: a REST, Connect or gRPC-Web server. Dial the gRPC port, or enable gRPC there.",
	421: "This server does not serve the :authority sent: set WithAuthority and the TLS name to a host that it knows.",
	426: "It wants another version of HTTP than it was spoken to: enable HTTP/2 there, from end to end.",
	429: "A rate limit of the gateway is reached: slow down and retry with back-off, or raise the limit.",
	431: "The request's headers are too large for the proxy: send less metadata, or raise its limit (large_client_header_buffers).",
	464: "AWS ALB says so where its target group's protocol version does not fit: set it to GRPC.",
	499: "The proxy saw its client hang up (nginx logs it so): compare the deadlines of the caller and of each proxy between.",
	500: "The server or proxy that answered failed by itself: look into its log at that moment. An HTTP 500 without a gRPC status comes from something in front of the gRPC server (a gateway, middleware, a web framework), not from its handlers.",
	501: "What answered does not implement this request: a proxy or web server without HTTP/2 POST or gRPC. Dial the gRPC server, or enable gRPC in the proxy (grpc_pass).",
	502: "The proxy cannot speak to its backend: check that the backend runs, and the address and protocol that the proxy uses (grpc_pass grpc:// or grpcs://, h2 in HAProxy).",
	503: "The proxy has no healthy backend, or is overloaded: check that backends run, pass their health checks, and are spoken to as they expect (HAProxy: proto h2, ssl, send-proxy).",
	504: "The backend did not answer the proxy in time: find what is slow there, or raise the proxy's timeout (grpc_read_timeout, timeout server).",
	505: "It does not take this version of HTTP: enable HTTP/2 on it, from end to end.",
	511: "A captive portal asks for a login: sign in to the network first, or use another.",
	520: cloudflare, 521: cloudflare, 522: cloudflare, 523: cloudflare, 524: cloudflare, 525: cloudflare, 526: cloudflare, 530: cloudflare,
}

const cloudflare = "Cloudflare cannot speak to the origin server: check that it runs, admits Cloudflare's addresses and answers in time, and that gRPC is enabled for the zone."

// contentRemedy is by the start of the content-type of an answer with HTTP 200.
var contentRemedy = []struct{ prefix, text string }{
	{"application/grpc-web", "It speaks gRPC-Web: dial the server's gRPC port, or take the gRPC-Web proxy out of this path."},
	{"application/json", "A REST or JSON API answers here: dial the gRPC port, or route the path to the gRPC server."},
	{"application/proto", "A Connect or REST server answers here: dial the gRPC port, or enable the gRPC protocol there."},
	{"application/connect", "It speaks the Connect protocol: dial the gRPC port, or enable the gRPC protocol there."},
	{"text/html", "A web page answered, not a gRPC server: check host and port, and that the proxy routes this path to the gRPC server with grpc_pass (not proxy_pass), not to a site's fallback page or a captive portal."},
}

// resetRemedy is by the error code of an RST_STREAM.
var resetRemedy = map[string]string{
	"PROTOCOL_ERROR":     "The server or a proxy (nginx, Envoy) does not accept something in the request, often a header, the path or the :authority: its log names it (nginx does so for \"return 444\", too).",
	"INTERNAL_ERROR":     "The server's handler or process failed, or a proxy lost its backend in mid-call or gave it up after a time-out of its own (nginx: grpc_read_timeout, between two messages too): look into both logs for that moment, and check that the backend runs.",
	"NO_ERROR":           "The server ended the call before it had answered: its handler, or a proxy's early answer, is cut off.",
	"HTTP_1_1_REQUIRED":  "The server wants this request over HTTP/1.1 (IIS with client certificates or Windows authentication, for instance): enable HTTP/2 and gRPC there.",
	"FLOW_CONTROL_ERROR": "The server sees its window exceeded: update the client's library or the proxy, whose count is wrong.",
	"STREAM_CLOSED":      "The server got frames for a stream that it held for closed: update the server, or the proxy between.",
	"FRAME_SIZE_ERROR":   "The server got a frame of a size it does not take: look for a proxy between that alters frames.",
	"COMPRESSION_ERROR":  "The server could not decode the headers: look for a proxy between that alters them.",
	"CONNECT_ERROR":      "The proxy lost or never had its connection to the backend: check that the backend runs.",
	"SETTINGS_TIMEOUT":   "The server waited for an acknowledgement of its SETTINGS: look for a proxy between that holds frames back.",
}

// goAwayRemedy is by the error code of a GOAWAY, where that means something
// else for a whole connection.
var goAwayRemedy = map[string]string{
	"PROTOCOL_ERROR":      "The server holds that this client, or a proxy between, broke a rule of HTTP/2: update the one that is at fault, and take proxies out of the path to find it.",
	"INTERNAL_ERROR":      "The server or proxy failed by itself: look into its log for a crash or panic at that moment.",
	"ENHANCE_YOUR_CALM":   "The server finds that this client asks too much of it (pings, resets, header sizes): slow down and retry with back-off, or raise the server's limit that its debug text names.",
	"INADEQUATE_SECURITY": "The server wants better security than this connection has: offer TLS 1.3, or TLS 1.2 with ECDHE and AES-GCM.",
}

// keptOutRemedy is by the error code of a GOAWAY that takes no call at all.
var keptOutRemedy = map[string]string{
	"PROTOCOL_ERROR":    "The server takes the connection's first bytes for an error. A proxy between puts a PROXY protocol header before them that the server does not expect (send-proxy, proxy_protocol on), or the server expects one that is not sent (accept-proxy, listen ... proxy_protocol): make both ends agree. Otherwise its log or debug text says which rule was broken.",
	"ENHANCE_YOUR_CALM": "The server holds this client for abusive: it connects, pings or calls too often, or its headers are too large. Slow down; the server's log and its debug text say what it counts.",
	"INTERNAL_ERROR":    "The server, or the proxy before it, failed by itself and gives the connection up: look into its log for a crash or panic at that moment.",
}
