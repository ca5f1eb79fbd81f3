// SPDX-License-Identifier: Apache-2.0

package wire

import (
	"google.golang.org/grpc/codes"

	"github.com/faultline-rpc/faultline/fault"
	"github.com/faultline-rpc/faultline/h2"
)

// resets is the table from the error code of an RST_STREAM received by a
// client to the circumstance and its gRPC code. The index is the code's number
// (RFC 9113 section 7, https://www.rfc-editor.org/rfc/rfc9113#section-7). The
// quotations are from PROTOCOL-HTTP2, section "Errors":
// https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md#errors
var resets = [...]struct {
	entry *fault.Entry
	code  codes.Code
}{
	// "NO_ERROR(0) | INTERNAL - An explicit GRPC status of OK should have been sent"
	0x0: {fault.HTTP2RSTOther, codes.Internal},
	// "PROTOCOL_ERROR(1) | INTERNAL"
	0x1: {fault.HTTP2RSTOther, codes.Internal},
	// "INTERNAL_ERROR(2) | INTERNAL"
	0x2: {fault.HTTP2RSTOther, codes.Internal},
	// "FLOW_CONTROL_ERROR(3) | INTERNAL"; grpc-go says RESOURCE_EXHAUSTED.
	0x3: {fault.HTTP2RSTOther, codes.Internal},
	// "SETTINGS_TIMEOUT(4) | INTERNAL"
	0x4: {fault.HTTP2RSTOther, codes.Internal},
	// "STREAM_CLOSED | No mapping as there is no open stream to propagate to":
	// where there is one nevertheless, the peer is confused.
	0x5: {fault.HTTP2RSTOther, codes.Internal},
	// "FRAME_SIZE_ERROR | INTERNAL"
	0x6: {fault.HTTP2RSTOther, codes.Internal},
	// "REFUSED_STREAM | UNAVAILABLE - Indicates that no processing occurred and
	// the request can be retried, possibly elsewhere."
	0x7: {fault.HTTP2RefusedStream, codes.Unavailable},
	// "CANCEL(8) | ... Mapped to CANCELLED when sent by a server."
	0x8: {fault.HTTP2RSTCancel, codes.Canceled},
	// "COMPRESSION_ERROR | INTERNAL"
	0x9: {fault.HTTP2RSTOther, codes.Internal},
	// "CONNECT_ERROR | INTERNAL"
	0xa: {fault.HTTP2RSTOther, codes.Internal},
	// "ENHANCE_YOUR_CALM | RESOURCE_EXHAUSTED ...with additional error detail
	// provided by runtime to indicate that the exhausted resource is bandwidth."
	0xb: {fault.HTTP2RSTCalm, codes.ResourceExhausted},
	// "INADEQUATE_SECURITY | PERMISSION_DENIED ... with additional detail
	// indicating that permission was denied as protocol is not secure enough"
	0xc: {fault.HTTP2RSTInadequateSecurity, codes.PermissionDenied},
	// HTTP_1_1_REQUIRED is younger than the table; grpc-go says INTERNAL.
	0xd: {fault.HTTP2RSTOther, codes.Internal},
}

// ForReset returns the circumstance and gRPC code of a stream that the peer
// reset with that HTTP/2 code. "Unknown or unsupported error codes MUST NOT
// trigger any special behavior" (RFC 9113 section 7): they are UNKNOWN.
func ForReset(c h2.Code) (*fault.Entry, codes.Code) {
	if int64(c) < int64(len(resets)) {
		return resets[c].entry, resets[c].code
	}
	return fault.HTTP2RSTOther, codes.Unknown
}

// ForHTTP returns the circumstance and gRPC code of an answer that has that
// HTTP status and no grpc-status. The quotations are from
// https://github.com/grpc/grpc/blob/master/doc/http-grpc-status-mapping.md
func ForHTTP(status int) (*fault.Entry, codes.Code) {
	code := codes.Unknown // "Every other code | UNKNOWN", 431 too
	switch status {
	case 400: // "400 Bad Request | INTERNAL"
		code = codes.Internal
	case 401: // "401 Unauthorized | UNAUTHENTICATED"
		code = codes.Unauthenticated
	case 403: // "403 Forbidden | PERMISSION_DENIED"
		code = codes.PermissionDenied
	case 404: // "404 Not Found | UNIMPLEMENTED"
		code = codes.Unimplemented
	case 429: // "429 Too Many Requests | UNAVAILABLE"
		code = codes.Unavailable
	case 502: // "502 Bad Gateway | UNAVAILABLE"
		code = codes.Unavailable
	case 503: // "503 Service Unavailable | UNAVAILABLE"
		code = codes.Unavailable
	case 504: // "504 Gateway Timeout | UNAVAILABLE"
		code = codes.Unavailable
	case 200: // not in the table: an answer that succeeded and is no gRPC
		return fault.WireContentType, codes.Unknown
	}
	return fault.WireHTTPStatus, code
}
