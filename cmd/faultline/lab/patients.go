// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"context"
	"crypto/tls"
	"net"
	"os"
	"syscall"
	"time"

	"golang.org/x/net/http2"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"

	"github.com/faultline-rpc/faultline/doctor"
	"github.com/faultline-rpc/faultline/internal/peer"
)

// Patients are all peers of the lab, from the name up to the method.
func Patients() []Patient {
	var all []Patient
	for _, part := range [][]Patient{names, dials, handshakes, connections, streams, answers, statuses, methods, watches, lookalikes, hard, oddities} {
		all = append(all, part...)
	}
	return all
}

// show is a patient whose peer needs no more than an address.
func show(cfg doctor.Config) func(*ward) (doctor.Config, error) {
	return func(*ward) (doctor.Config, error) { return cfg, nil }
}

// raw is a patient that does not speak HTTP/2.
func raw(r peer.Raw) func(*ward) (doctor.Config, error) {
	return func(w *ward) (doctor.Config, error) { return w.raw(r) }
}

// silent is a patient that is expected not to answer.
func silent(f func(*ward) (doctor.Config, error)) func(*ward) (doctor.Config, error) {
	return func(w *ward) (doctor.Config, error) {
		cfg, err := f(w)
		cfg.Timeout = short
		return cfg, err
	}
}

// overTLS examines a patient with TLS.
func overTLS(f func(*ward) (doctor.Config, error)) func(*ward) (doctor.Config, error) {
	return func(w *ward) (doctor.Config, error) {
		cfg, err := f(w)
		cfg.TLS = trusting()
		return cfg, err
	}
}

// tlsServer is a patient with that TLS configuration.
func tlsServer(cfg func() *tls.Config) func(*ward) (doctor.Config, error) {
	return func(w *ward) (doctor.Config, error) { return w.secured(cfg()) }
}

// answering is a patient that answers each call so.
func answering(a peer.Answer, o ...peer.Options) func(*ward) (doctor.Config, error) {
	return func(w *ward) (doctor.Config, error) { return w.scripted(peer.Each(a), o...) }
}

// dialer is a network of its own.
func dialer(err error) func(*ward) (doctor.Config, error) {
	return show(doctor.Config{Target: "passthrough:///192.0.2.1:443", Timeout: short, Dialer: func(ctx context.Context, _ string) (net.Conn, error) {
		if err == nil {
			<-ctx.Done()
			return nil, ctx.Err()
		}
		return nil, &net.OpError{Op: "dial", Net: "tcp", Err: os.NewSyscallError("connect", err)}
	}})
}

// named resolves a name by a name server that answers with the code.
func named(rcode byte) func(*ward) (doctor.Config, error) {
	return func(w *ward) (doctor.Config, error) {
		server, err := w.nameServer(rcode)
		return doctor.Config{Target: "dns://" + server + "/api.lab.example.:443"}, err
	}
}

var names = []Patient{
	{Name: "a target of a scheme nobody has", want: "resolve.bad-target", show: show(doctor.Config{Target: "nosuch:///x"})},
	{Name: "a name that does not exist (NXDOMAIN)", want: "resolve.not-found", show: named(3)},
	{Name: "a name server that fails (SERVFAIL)", want: "resolve.failed", show: named(2)},
}

var dials = []Patient{
	{Name: "a port at which nothing listens", want: "dial.refused", show: func(w *ward) (doctor.Config, error) {
		addr, err := w.refusing()
		return at(addr), err
	}},
	{Name: "a unix socket that is not there", want: "dial.missing", show: show(doctor.Config{Target: "unix:///nonexistent/faultline.sock"})},
	{Name: "a network without a route", want: "dial.unreachable", show: dialer(syscall.EHOSTUNREACH)},
	{Name: "a network that swallows packets", want: "dial.timeout", show: dialer(nil)},
	{Name: "a process out of file descriptors", want: "dial.failed", show: dialer(syscall.EMFILE)},
}

var handshakes = []Patient{
	{Name: "TLS to a cleartext gRPC server", want: "tls.plaintext-peer", show: overTLS(answering(peer.TrailersOnly(12, "")))},
	{Name: "TLS to an HTTP/1 server", want: "tls.plaintext-peer", show: overTLS(raw(peer.HTTP1()))},
	{Name: "TLS to an ssh server", want: "tls.plaintext-peer", show: overTLS(raw(peer.SSH()))},
	{Name: "a certificate that has expired", want: "tls.expired", show: tlsServer(func() *tls.Config {
		cfg := good()
		cfg.Certificates[0] = certificate(authorities().own, -30, -2)
		return cfg
	})},
	{Name: "a certificate that is not valid yet", want: "tls.expired", show: tlsServer(func() *tls.Config {
		cfg := good()
		cfg.Certificates[0] = certificate(authorities().own, 2, 30)
		return cfg
	})},
	{Name: "a certificate for another name", want: "tls.hostname", show: tlsServer(func() *tls.Config {
		cfg := good()
		cfg.Certificates[0] = certificate(authorities().own, -1, 30, "other.lab.example")
		return cfg
	})},
	{Name: "an authority that nobody trusts", want: "tls.unknown-authority", show: tlsServer(func() *tls.Config {
		cfg := good()
		cfg.Certificates[0] = certificate(authorities().stranger, -1, 30)
		return cfg
	})},
	{Name: "a certificate signed by itself", want: "tls.unknown-authority", show: tlsServer(selfSigned)},
	{Name: "a client certificate is required (TLS 1.3)", want: "tls.client-cert-required", show: tlsServer(func() *tls.Config { return asking(tls.VersionTLS13) })},
	{Name: "a client certificate is required (TLS 1.2)", want: "tls.client-cert-required", show: tlsServer(func() *tls.Config { return asking(tls.VersionTLS12) })},
	{Name: "a client certificate of a stranger (TLS 1.3)", want: "tls.client-cert-rejected", show: withClientCert(tls.VersionTLS13, true)},
	{Name: "a client certificate of a stranger (TLS 1.2)", want: "tls.client-cert-rejected", show: withClientCert(tls.VersionTLS12, true)},
	{Name: "no ALPN at all", want: "tls.no-alpn", show: tlsServer(func() *tls.Config {
		cfg := good()
		cfg.NextProtos = nil
		return cfg
	})},
	{Name: "ALPN for HTTP/1.1 only", want: "tls.no-alpn", show: tlsServer(func() *tls.Config {
		cfg := good()
		cfg.NextProtos = []string{"http/1.1"}
		return cfg
	})},
	{Name: "TLS 1.1 at most", want: "tls.version", show: tlsServer(func() *tls.Config {
		cfg := good()
		cfg.MinVersion, cfg.MaxVersion = tls.VersionTLS10, tls.VersionTLS11
		return cfg
	})},
	{Name: "a peer that hangs up on the handshake", want: "tls.handshake", show: overTLS(raw(peer.Raw{Wait: true}))},
	{Name: "a peer that is silent in the handshake", want: "tls.handshake", show: silent(overTLS(raw(peer.Mute())))},
}

func selfSigned() *tls.Config {
	cfg := good()
	cfg.Certificates[0] = certificate(pair{}, -1, 90)
	return cfg
}

// withClientCert examines a server that asks for a certificate with one, a
// stranger's or a good one.
func withClientCert(version uint16, stranger bool) func(*ward) (doctor.Config, error) {
	return func(w *ward) (doctor.Config, error) {
		cfg, err := w.secured(asking(version))
		by := authorities().own
		if stranger {
			by = authorities().stranger
		}
		if cfg.TLS != nil {
			cfg.TLS.Certificates = []tls.Certificate{certificate(by, -1, 30)}
		}
		return cfg, err
	}
}

var connections = []Patient{
	{Name: "cleartext to a TLS server", want: "http2.tls-peer", show: func(w *ward) (doctor.Config, error) {
		cfg, err := w.secured(good())
		cfg.TLS = nil
		return cfg, err
	}},
	{Name: "an HTTP/1 server", want: "http2.http1-peer", show: raw(peer.HTTP1())},
	{Name: "an ssh server", want: "http2.not-http2", show: raw(peer.SSH())},
	{Name: "a redis server", want: "http2.not-http2", show: raw(peer.Raw{Wait: true, Answer: []byte("-ERR unknown command 'PRI'\r\n")})},
	{Name: "a peer that accepts and says nothing", want: "http2.preface-timeout", show: silent(raw(peer.Mute()))},
	{Name: "a peer that hangs up on the preface", want: "http2.connection-lost", show: raw(peer.Raw{Wait: true})},
	{Name: "a peer that resets the connection", want: "http2.connection-lost", show: raw(peer.Raw{Wait: true, Reset: true})},
	{Name: "SETTINGS that are never acknowledged", want: "http2.settings-timeout",
		show: silent(answering(peer.TrailersOnly(12, ""), peer.Options{NoSettingsAck: true}))},
	{Name: "a peer that does not answer PINGs", want: "http2.keepalive",
		show: silent(answering(peer.TrailersOnly(12, ""), peer.Options{NoPingAck: true}))},
	{Name: "a peer frozen after its SETTINGS", want: "http2.keepalive",
		show: silent(answering(peer.Silence(), peer.Options{NoPingAck: true, NoSettingsAck: true}))},
}

var streams = []Patient{
	{Name: "GOAWAY below every call", want: "http2.goaway", show: answering(peer.GoAway(-2, http2.ErrCodeNo, ""))},
	{Name: "GOAWAY too_many_pings", want: "http2.goaway-calm", show: answering(peer.Then(peer.GoAway(0, http2.ErrCodeEnhanceYourCalm, "too_many_pings"), peer.HangUp()))},
	{Name: "GOAWAY INTERNAL_ERROR", want: "http2.goaway-error", show: answering(peer.Then(peer.GoAway(0, http2.ErrCodeInternal, "boom"), peer.HangUp()))},
	{Name: "a connection that breaks under the call", want: "http2.connection-lost", show: answering(peer.Cut())},
	{Name: "RST REFUSED_STREAM", want: "http2.refused-stream", show: answering(peer.RST(http2.ErrCodeRefusedStream))},
	{Name: "RST CANCEL", want: "http2.rst-cancel", show: answering(peer.RST(http2.ErrCodeCancel))},
	{Name: "RST ENHANCE_YOUR_CALM", want: "http2.rst-calm", show: answering(peer.RST(http2.ErrCodeEnhanceYourCalm))},
	{Name: "RST INADEQUATE_SECURITY", want: "http2.rst-inadequate-security", show: answering(peer.RST(http2.ErrCodeInadequateSecurity))},
	{Name: "RST INTERNAL_ERROR", want: "http2.rst-other", show: answering(peer.RST(http2.ErrCodeInternal))},
	{Name: "RST with a code that nobody knows", want: "http2.rst-other", code: codes.Unknown, show: answering(peer.RST(0xbeef))},
	{Name: "a window that overflows", want: "http2.flow-control", show: answering(peer.OverflowWindow(true))},
	{Name: "DATA on stream 0", want: "http2.protocol", show: answering(peer.BadFrame())},
	{Name: "a header block that does not decode", want: "http2.compression", show: answering(peer.BadBlock())},
	{Name: "headers of 100 KB", want: "http2.header-list", show: answering(peer.HugeHeaders(100_000))},
	{Name: "a call that is never answered", want: "call.deadline", show: silent(answering(peer.Silence()))},
	{Name: "no stream allowed (MAX_CONCURRENT_STREAMS 0)", want: "call.deadline",
		show: silent(answering(peer.Silence(), peer.Options{Settings: []http2.Setting{{ID: http2.SettingMaxConcurrentStreams, Val: 0}}}))},
}

// page is an HTTP answer of a gateway.
func page(status int) func(*ward) (doctor.Config, error) {
	return answering(peer.HTTPStatus(status, "text/html", "<html><h1>sorry</h1></html>"))
}

var answers = []Patient{
	{Name: "HTTP 400", want: "wire.http-status", code: codes.Internal, show: page(400)},
	{Name: "HTTP 401", want: "wire.http-status", code: codes.Unauthenticated, show: page(401)},
	{Name: "HTTP 403", want: "wire.http-status", code: codes.PermissionDenied, show: page(403)},
	{Name: "HTTP 404", want: "wire.http-status", code: codes.Unimplemented, show: page(404)},
	{Name: "HTTP 429", want: "wire.http-status", code: codes.Unavailable, show: page(429)},
	{Name: "HTTP 500", want: "wire.http-status", code: codes.Unknown, show: page(500)},
	{Name: "HTTP 502", want: "wire.http-status", code: codes.Unavailable, show: page(502)},
	{Name: "HTTP 503", want: "wire.http-status", code: codes.Unavailable, show: page(503)},
	{Name: "HTTP 504", want: "wire.http-status", code: codes.Unavailable, show: page(504)},
	{Name: "a web page with HTTP 200", want: "wire.content-type", show: answering(peer.HTML())},
	{Name: "trailers that are stripped", want: "wire.trailers-missing", show: answering(peer.MissingTrailers(serving))},
	{Name: "trailers without grpc-status", want: "wire.status-missing", show: answering(peer.MissingStatus(serving))},
	{Name: "a grpc-status that is no number", want: "wire.status-unparsable", show: answering(peer.StatusText("OK"))},
	{Name: "a status that contradicts its details", want: "wire.status-details-mismatch", show: answering(peer.StatusText("5", "grpc-status-details-bin", "CAM"))},
	{Name: "binary metadata that is no base64", want: "wire.bad-metadata", show: answering(peer.StatusText("0", "x-bin", "*"))},
	{Name: "a message that is cut off", want: "wire.truncated", show: answering(peer.Truncated(serving, 6))},
	{Name: "OK without a message", want: "wire.cardinality", show: answering(peer.OK())},
	{Name: "a message of another type", want: "codec.response-parse", show: answering(peer.OK([]byte("\x0a\xff")))},
	{Name: "corrupt gzip", want: "codec.decompress", show: answering(peer.CorruptGzip())},
	{Name: "a compression that nobody offered", want: "codec.response-compressor", show: answering(peer.Compressed("br", serving))},
	{Name: "a message of 1 GiB", want: "codec.too-large", show: answering(peer.Oversized(1 << 30))},
}

// serving is a HealthCheckResponse.
var serving = []byte{8, 1}

// well is a server with nothing wrong.
var well = peer.Each(peer.OK(serving))

// status is a patient that answers each call with the code.
func status(c codes.Code, text string) func(*ward) (doctor.Config, error) {
	return answering(peer.TrailersOnly(int(c), text))
}

var statuses = []Patient{
	{Name: "every call is UNAVAILABLE", want: "handler.status", code: codes.Unavailable, show: status(codes.Unavailable, "no backend")},
	{Name: "every call is UNAUTHENTICATED", want: "handler.status", code: codes.Unauthenticated, show: status(codes.Unauthenticated, "no token")},
	{Name: "every call is RESOURCE_EXHAUSTED", want: "handler.status", code: codes.ResourceExhausted, show: status(codes.ResourceExhausted, "quota")},
	{Name: "every call is INTERNAL", want: "handler.status", code: codes.Internal, show: status(codes.Internal, "oops")},
	{Name: "a server that says NOT_SERVING", want: "pick.unhealthy", show: func(w *ward) (doctor.Config, error) {
		addr, err := w.served(offers{health: true, state: 2, reflection: true})
		return at(addr), err
	}},
}

// ours examines a server of ours.
func ours(o offers, change func(*doctor.Config)) func(*ward) (doctor.Config, error) {
	return func(w *ward) (doctor.Config, error) {
		addr, err := w.served(o)
		cfg := at(addr)
		if change != nil {
			change(&cfg)
		}
		return cfg, err
	}
}

// theirs examines a server of grpc-go.
func theirs(o offers, change func(*doctor.Config)) func(*ward) (doctor.Config, error) {
	return func(w *ward) (doctor.Config, error) {
		addr, err := w.grpcGo(o)
		cfg := at(addr)
		if change != nil {
			change(&cfg)
		}
		return cfg, err
	}
}

func calling(method, data string) func(*doctor.Config) {
	return func(c *doctor.Config) { c.Method, c.Data = method, []byte(data) }
}

const unary = "grpc.testing.TestService/UnaryCall"

var methods = []Patient{
	{Name: "a method that works", want: Healthy, show: ours(everything, calling(unary, `{"response_size": 9}`))},
	{Name: "a stream that works", want: Healthy, show: ours(everything, calling("grpc.testing.TestService/StreamingOutputCall", `{"response_parameters": [{"size": 1}, {"size": 2}]}`))},
	{Name: "a service that is not there", want: "handler.unknown-service", show: ours(everything, calling("grpc.testing.TestServise/UnaryCall", ""))},
	{Name: "a method that is not there", want: "handler.unknown-method", show: ours(everything, calling("grpc.testing.TestService/UnaryCal", ""))},
	{Name: "a service not there, without reflection (grpc-go)", want: "handler.unknown-service", show: theirs(offers{}, calling("grpc.testing.TestServise/UnaryCall", ""))},
	{Name: "a method not there, without reflection (grpc-go)", want: "handler.unknown-method", show: theirs(offers{health: true}, calling("grpc.testing.TestService/UnaryCal", ""))},
	{Name: "a method that says UNIMPLEMENTED itself", want: "handler.status", code: codes.Unimplemented, show: ours(everything, calling("grpc.testing.TestService/UnimplementedCall", ""))},
	{Name: "a method that says NOT_FOUND", want: "handler.status", code: codes.NotFound, show: ours(everything, calling(unary, `{"response_status": {"code": 5, "message": "no such thing"}}`))},
	{Name: "an answer above the limit", want: "codec.too-large", show: ours(everything, func(c *doctor.Config) {
		calling(unary, `{"response_size": 5000}`)(c)
		c.MaxMessage = 4096
	})},
	{Name: "a request with gzip (grpc-go)", want: Healthy, show: theirs(everything, func(c *doctor.Config) {
		calling(unary, `{"response_size": 5000}`)(c)
		c.Compress = "gzip"
	})},
	{Name: "a compression that the server lacks (grpc-go)", want: "codec.compressor-unsupported", show: theirs(everything, func(c *doctor.Config) {
		calling(unary, "")(c)
		c.Compress = "snappy"
	})},
	{Name: "a slow method", want: "call.deadline", show: ours(everything, func(c *doctor.Config) {
		calling("grpc.testing.TestService/StreamingOutputCall", `{"response_parameters": [{"size": 1, "interval_us": 9000000}]}`)(c)
		c.Timeout = 2 * short
	})},
	{Name: "a stream, without reflection", want: Healthy, show: func(w *ward) (doctor.Config, error) {
		cfg, err := w.scripted(byPath("/a.B/C", peer.OK([]byte{8, 1}, []byte{8, 2}), peer.TrailersOnly(12, "")))
		cfg.Method = "a.B/C"
		return cfg, err
	}},
	{Name: "a gateway that routes the method's service only", want: Healthy, show: func(w *ward) (doctor.Config, error) {
		cfg, err := w.scripted(byPath("/a.B/C", peer.OK(nil), peer.HTTPStatus(404, "text/plain", "no route")))
		cfg.Method = "a.B/C"
		return cfg, err
	}},
}

var watches = []Patient{
	{Name: "a connection that is held", want: Healthy, show: ours(everything, func(c *doctor.Config) { c.Watch = 50 * time.Millisecond })},
	{Name: "MAX_CONNECTION_AGE", want: Healthy, note: "server.max-age", show: func(w *ward) (doctor.Config, error) {
		addr, err := w.served(offers{health: true, opts: aging()})
		cfg := at(addr)
		cfg.Watch = 5 * time.Second
		return cfg, err
	}},
	{Name: "idle connections are cut", want: "http2.connection-lost", show: func(w *ward) (doctor.Config, error) {
		cfg, err := w.scripted(cutWhenIdle)
		cfg.Watch = 5 * time.Second
		return cfg, err
	}},
	{Name: "a stream is cut", want: "http2.rst-cancel", show: func(w *ward) (doctor.Config, error) {
		cfg, err := w.scripted(byPath("/grpc.health.v1.Health/Watch", peer.After(50*time.Millisecond, peer.RST(http2.ErrCodeCancel)), peer.TrailersOnly(12, "")))
		cfg.Watch = 5 * time.Second
		return cfg, err
	}},
	{Name: "keepalive pings are not tolerated (grpc-go)", want: "http2.goaway-calm", show: theirs(offers{health: true}, func(c *doctor.Config) {
		c.Watch, c.Ping = 5*time.Second, 20*time.Millisecond
	})},
}

// oddities are legal: whatever they look like, nothing is wrong.
var oddities = []Patient{
	{Name: "our server with everything", want: Healthy, show: ours(everything, nil)},
	{Name: "grpc-go's server with everything", want: Healthy, show: theirs(everything, nil)},
	{Name: "a unix socket", want: Healthy, show: func(w *ward) (doctor.Config, error) { return w.unix(well) }},
	{Name: "our server without health and reflection", want: Healthy, show: ours(offers{}, nil)},
	{Name: "grpc-go's server without health and reflection", want: Healthy, show: theirs(offers{}, nil)},
	{Name: "TLS 1.3", want: Healthy, show: secure(everything, good, trusting)},
	{Name: "TLS 1.2", want: Healthy, show: secure(everything, func() *tls.Config {
		cfg := good()
		cfg.MaxVersion = tls.VersionTLS12
		return cfg
	}, trusting)},
	{Name: "a client certificate that is accepted", want: Healthy, show: withClientCert(tls.VersionTLS13, false)},
	{Name: "a certificate signed by itself, not verified", want: Healthy, show: secure(everything, selfSigned, func() *tls.Config { return &tls.Config{InsecureSkipVerify: true} })},
	{Name: "GOAWAY after each call", want: Healthy, show: answering(peer.Then(peer.TrailersOnly(12, ""), peer.GoAway(0, http2.ErrCodeNo, "")))},
	{Name: "a stream refused once", want: Healthy, show: func(w *ward) (doctor.Config, error) {
		return w.scripted(firstThen(peer.RST(http2.ErrCodeRefusedStream), peer.TrailersOnly(12, "")))
	}},
	{Name: "one stream at a time", want: Healthy, show: with(http2.Setting{ID: http2.SettingMaxConcurrentStreams, Val: 1})},
	{Name: "windows of one byte", want: Healthy, show: with(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 1})},
	{Name: "settings that nobody knows", want: Healthy, show: with(http2.Setting{ID: 0x0a0a, Val: 7}, http2.Setting{ID: 0xffff, Val: 1}, http2.Setting{ID: 8, Val: 1})},
	{Name: "no header table", want: Healthy, show: with(http2.Setting{ID: http2.SettingHeaderTableSize, Val: 0})},
	{Name: "frames of unknown types", want: Healthy, show: answering(peer.Then(unknownFrames, peer.OK(serving)))},
	{Name: "a flood of PINGs", want: Healthy, show: answering(peer.Then(manyPings, peer.OK(serving)))},
	{Name: "SETTINGS again and again", want: Healthy, show: answering(peer.Then(manySettings, peer.OK(serving)))},
	{Name: "headers in the opposite order, and many", want: Healthy, show: answering(peer.Full(
		[]string{":status", "200", "x-one", "1", "server", "someone/1.0", "date", "Sun, 22 Nov 2026 10:00:00 GMT", "content-type", "application/grpc+proto"},
		peer.Message(serving), []string{"x-last", "yes", "grpc-message", "", "grpc-status", "0"}))},
	{Name: "header blocks in pieces", want: Healthy, show: answering(inPieces)},
	{Name: "a slow answer", want: Healthy, show: answering(peer.After(300*time.Millisecond, peer.OK(serving)))},
	{Name: "nothing is answered before the first request (cmux)", want: Healthy, show: func(w *ward) (doctor.Config, error) {
		cfg, err := w.scripted(waiting, peer.Options{NoSettingsAck: true, NoPingAck: true, Skip: []http2.FrameType{http2.FrameSettings, http2.FrameWindowUpdate}})
		cfg.Timeout = time.Second // so that the request comes soon
		return cfg, err
	}},
	{Name: "health UNKNOWN", want: Healthy, show: answering(peer.OK(nil))},
	{Name: "health NOT_FOUND", want: Healthy, show: status(codes.NotFound, "unknown service")},
}

// secure examines a server of ours over TLS.
func secure(o offers, server, client func() *tls.Config) func(*ward) (doctor.Config, error) {
	return func(w *ward) (doctor.Config, error) {
		o.creds = credentials.NewTLS(server())
		addr, err := w.served(o)
		cfg := at(addr)
		cfg.TLS = client()
		return cfg, err
	}
}

// with is a healthy patient that announces these settings.
func with(s ...http2.Setting) func(*ward) (doctor.Config, error) {
	return answering(peer.OK(serving), peer.Options{Settings: s})
}
