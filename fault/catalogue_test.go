// SPDX-License-Identifier: Apache-2.0

package fault

import (
	"net/url"
	"slices"
	"strings"
	"testing"
	"unicode"

	"google.golang.org/grpc/codes"
)

// Short names for the table below.
const (
	unavailable   = codes.Unavailable
	internal      = codes.Internal
	unknown       = codes.Unknown
	unimplemented = codes.Unimplemented
	exhausted     = codes.ResourceExhausted
	unauth        = codes.Unauthenticated
	denied        = codes.PermissionDenied
	deadline      = codes.DeadlineExceeded
	canceled      = codes.Canceled
)

// specified is the specification of the catalogue, typed in from the design's
// table of circumstances: ids are fixed, and programs rely on them.
var specified = []struct {
	entry *Entry
	id    ID
	codes []codes.Code
	by    Who
}{
	{ResolveNotFound, "resolve.not-found", set(unavailable), ByClient},
	{ResolveFailed, "resolve.failed", set(unavailable), ByClient},
	{ResolveBadTarget, "resolve.bad-target", set(unknown), ByClient}, // no call's error: NewClient's, and Unknown like grpc-go's plain one
	{ResolveBadServiceConfig, "resolve.bad-service-config", set(unavailable), ByClient},
	{ResolveControlPlaneCode, "resolve.control-plane-code", set(internal), ByClient},
	{PickNoReady, "pick.no-ready", set(unavailable), ByClient},
	{PickDropped, "pick.dropped", set(unavailable, codes.ResourceExhausted, codes.PermissionDenied, codes.Unauthenticated, codes.DeadlineExceeded,
		codes.Canceled, codes.Unimplemented, codes.Internal, codes.Unknown), ByClient},
	{PickUnhealthy, "pick.unhealthy", set(unavailable), ByClient},
	{DialRefused, "dial.refused", set(unavailable), ByClient},
	{DialUnreachable, "dial.unreachable", set(unavailable), ByClient},
	{DialTimeout, "dial.timeout", set(unavailable), ByClient},
	{DialPermission, "dial.permission", set(unavailable), ByClient},
	{DialMissing, "dial.missing", set(unavailable), ByClient},
	{DialProxy, "dial.proxy", set(unavailable), ByClient},
	{DialFailed, "dial.failed", set(unavailable), ByClient},
	{TLSPlaintextPeer, "tls.plaintext-peer", set(unavailable), ByClient},
	{TLSUnknownAuthority, "tls.unknown-authority", set(unavailable), ByClient},
	{TLSHostname, "tls.hostname", set(unavailable), ByClient},
	{TLSExpired, "tls.expired", set(unavailable), ByClient},
	{TLSClientCertRequired, "tls.client-cert-required", set(unavailable), ByClient},
	{TLSClientCertRejected, "tls.client-cert-rejected", set(unavailable), ByClient},
	{TLSNoALPN, "tls.no-alpn", set(unavailable), ByClient},
	{TLSVersion, "tls.version", set(unavailable), ByClient},
	{TLSHandshake, "tls.handshake", set(unavailable), ByBoth},
	{HTTP2TLSPeer, "http2.tls-peer", set(unavailable), ByClient},
	{HTTP2HTTP1Peer, "http2.http1-peer", set(unavailable), ByClient},
	{HTTP2NotHTTP2, "http2.not-http2", set(unavailable), ByClient},
	{HTTP2PrefaceTimeout, "http2.preface-timeout", set(unavailable), ByClient},
	{HTTP2GoAway, "http2.goaway", set(unavailable), ByClient},
	{HTTP2GoAwayError, "http2.goaway-error", set(unavailable), ByClient},
	{HTTP2GoAwayCalm, "http2.goaway-calm", set(unavailable), ByClient},
	{HTTP2ConnectionLost, "http2.connection-lost", set(unavailable), ByBoth},
	{HTTP2Keepalive, "http2.keepalive", set(unavailable), ByBoth},
	{HTTP2SettingsTimeout, "http2.settings-timeout", set(unavailable), ByBoth},
	{HTTP2RefusedStream, "http2.refused-stream", set(unavailable), ByClient},
	{HTTP2RSTCancel, "http2.rst-cancel", set(canceled), ByClient},
	{HTTP2RSTCalm, "http2.rst-calm", set(exhausted), ByClient},
	{HTTP2RSTInadequateSecurity, "http2.rst-inadequate-security", set(denied), ByClient},
	{HTTP2RSTOther, "http2.rst-other", set(internal, unknown), ByClient},
	{HTTP2FlowControl, "http2.flow-control", set(internal), ByBoth},
	{HTTP2Protocol, "http2.protocol", set(internal, unavailable), ByBoth},
	{HTTP2Compression, "http2.compression", set(internal), ByBoth},
	{HTTP2HeaderList, "http2.header-list", set(internal), ByBoth},
	{WireHTTPStatus, "wire.http-status", set(unknown, internal, unauth, denied, unimplemented, unavailable), ByClient},
	{WireContentType, "wire.content-type", set(unknown), ByClient},
	{WireTrailersMissing, "wire.trailers-missing", set(internal), ByClient},
	{WireStatusMissing, "wire.status-missing", set(unknown), ByClient},
	{WireStatusUnparsable, "wire.status-unparsable", set(unknown), ByClient},
	{WireStatusDetailsMismatch, "wire.status-details-mismatch", set(internal), ByClient},
	{WireBadMetadata, "wire.bad-metadata", set(internal), ByBoth},
	{WireIllegalMetadata, "wire.illegal-metadata", set(internal), ByBoth},
	{WireBadTimeout, "wire.bad-timeout", set(internal), ByServer},
	{WireNotGRPCRequest, "wire.not-grpc-request", set(unknown), ByServer}, // answered in HTTP: what a client makes of 415
	{WireNotPost, "wire.not-post", set(unknown), ByServer},                // likewise 405
	{WireAuthority, "wire.authority", set(unauth, internal), ByBoth},
	{WireTruncated, "wire.truncated", set(internal), ByBoth},
	{WireCardinality, "wire.cardinality", set(unimplemented), ByBoth},
	{CodecRequestParse, "codec.request-parse", set(internal), ByServer},
	{CodecResponseParse, "codec.response-parse", set(internal), ByClient},
	{CodecMarshal, "codec.marshal", set(internal), ByBoth},
	{CodecDecompress, "codec.decompress", set(internal), ByBoth},
	{CodecCompressorUnsupported, "codec.compressor-unsupported", set(unimplemented), ByServer},
	{CodecResponseCompressor, "codec.response-compressor", set(internal), ByBoth},
	{CodecTooLarge, "codec.too-large", set(exhausted), ByBoth},
	{CodecSubtype, "codec.subtype", set(unimplemented), ByServer},
	{CallCancelled, "call.cancelled", set(canceled), ByBoth},
	{CallDeadline, "call.deadline", set(deadline), ByBoth},
	{CallDeadlinePast, "call.deadline-past", set(deadline), ByClient},
	{CallClosed, "call.closed", set(canceled), ByClient},
	{CallCredentials, "call.credentials", set(unauth, canceled, unknown, deadline, denied, exhausted, unimplemented, internal, unavailable), ByClient},
	{CallInsecureCredentials, "call.insecure-credentials", set(unauth), ByClient},
	{CallMisuse, "call.misuse", set(internal), ByBoth},
	{CallRetriesExhausted, "call.retries-exhausted", nil, ByClient},
	{CallRetryThrottled, "call.retry-throttled", nil, ByClient},
	{CallRetryPushback, "call.retry-pushback", nil, ByClient},
	{CallRetryCommitted, "call.retry-committed", nil, ByClient},
	{ServerDraining, "server.draining", set(unavailable), ByServer},
	{ServerStopped, "server.stopped", set(unavailable), ByServer},
	{ServerOverloaded, "server.overloaded", set(exhausted), ByServer},
	{ServerMaxAge, "server.max-age", set(unavailable), ByServer},
	{ServerMaxIdle, "server.max-idle", set(unavailable), ByServer},
	{HandlerStatus, "handler.status", nil, ByServer},
	{HandlerUnknownService, "handler.unknown-service", set(unimplemented), ByServer},
	{HandlerUnknownMethod, "handler.unknown-method", set(unimplemented), ByServer},
	{HandlerNotStatus, "handler.not-status", set(unknown), ByServer},
	{HandlerPanic, "handler.panic", set(unknown), ByServer},
	{HandlerContext, "handler.context", set(canceled, deadline), ByServer},
	{HandlerUpstream, "handler.upstream", nil, ByServer},
	{PolicyUnauthenticated, "policy.unauthenticated", set(unauth), ByServer},
	{PolicyPermission, "policy.permission", set(denied), ByServer},
	{PolicyRateLimit, "policy.rate-limit", set(exhausted), ByServer},
	{PolicyValidation, "policy.validation", set(codes.InvalidArgument), ByServer},
	{PolicyBudget, "policy.budget", set(deadline), ByServer},
}

func TestCatalogueIsTheSpecification(t *testing.T) {
	seen := map[ID]bool{}
	for _, s := range specified {
		e := s.entry
		if e.ID != s.id || Lookup(s.id) != e || seen[s.id] {
			t.Errorf("%s: the variable holds %s, Lookup gives %v, repeated %v", s.id, e.ID, Lookup(s.id), seen[s.id])
		}
		seen[s.id] = true
		if !slices.Equal(e.Codes, s.codes) {
			t.Errorf("%s: codes %v, want %v", s.id, e.Codes, s.codes)
		}
		if e.By != s.by {
			t.Errorf("%s: raised by %v, want %v", s.id, e.By, s.by)
		}
	}
	for _, e := range Catalogue() {
		if !seen[e.ID] {
			t.Errorf("%s is not in the specification", e.ID)
		}
	}
	if Lookup("dial.nonsense") != nil {
		t.Error("Lookup knows an id that is not in the catalogue")
	}
}

func TestEveryEntryIsComplete(t *testing.T) {
	known := strings.Fields("channel wire codec call server intercept")
	summaries := map[string]ID{}
	for _, e := range Catalogue() {
		if s := e.Summary; len(s) < 15 || len(s) > 100 || strings.ContainsAny(s, "\n") || strings.HasSuffix(s, ".") || unicode.IsUpper(rune(s[0])) && !strings.HasPrefix(s, "HTTP") {
			t.Errorf("%s: the summary does not read well after \"id: \": %q", e.ID, s)
		}
		if first, ok := summaries[e.Summary]; ok {
			t.Errorf("%s has the summary of %s", e.ID, first)
		}
		summaries[e.Summary] = e.ID
		for name, text := range map[string]string{"cause": e.Cause, "remedy": e.Remedy} {
			if len(text) < 60 || !strings.HasSuffix(text, ".") || strings.ContainsAny(text, "\n") || strings.Contains(text, "  ") {
				t.Errorf("%s: the %s is no complete text: %q", e.ID, name, text)
			}
		}
		if n := strings.Count(e.Cause, ". ") + 1; n < 2 || n > 5 {
			t.Errorf("%s: the cause has %d sentences, want 2 to 5", e.ID, n)
		}
		if u, err := url.Parse(e.Spec); err != nil || u.Scheme != "https" || u.Host == "" || u.Path == "" {
			t.Errorf("%s: the specification %q is no link: %v", e.ID, e.Spec, err)
		}
		if len(e.Rooms) == 0 {
			t.Errorf("%s: no room may raise it", e.ID)
		}
		for _, r := range e.Rooms {
			if !slices.Contains(known, r) {
				t.Errorf("%s: %q is no room that raises faults", e.ID, r)
			}
		}
		if prefix, _, _ := strings.Cut(string(e.ID), "."); e.Layer.String() != prefix {
			t.Errorf("%s: layer %v", e.ID, e.Layer)
		}
		if e.By == 0 || e.By > ByBoth {
			t.Errorf("%s: raised by %v", e.ID, e.By)
		}
	}
}

// The engine never generates the seven codes that are the application's own.
func TestOnlyApplicationsUseTheirCodes(t *testing.T) {
	for _, e := range Catalogue() {
		for _, c := range e.Codes {
			switch c {
			case codes.OK, codes.NotFound, codes.AlreadyExists, codes.FailedPrecondition, codes.Aborted, codes.OutOfRange, codes.DataLoss:
				t.Errorf("%s carries %v", e.ID, c)
			case codes.InvalidArgument:
				if e.Layer != LayerPolicy {
					t.Errorf("%s carries %v", e.ID, c)
				}
			}
		}
	}
}

func TestCatalogueOrder(t *testing.T) {
	all := Catalogue()
	if len(all) != len(specified) {
		t.Fatalf("%d entries, want %d", len(all), len(specified))
	}
	for i := 1; i < len(all); i++ {
		if a, b := all[i-1], all[i]; a.Layer > b.Layer || a.Layer == b.Layer && a.ID >= b.ID {
			t.Errorf("%s stands before %s", a.ID, b.ID)
		}
	}
}

func TestEntryRefusesMistakes(t *testing.T) {
	for _, id := range []ID{"dial.refused", "unknown.thing", "nolayer", ""} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("an entry with the id %q was accepted", id)
				}
			}()
			entry(Entry{ID: id})
		}()
	}
}
