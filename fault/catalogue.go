// SPDX-License-Identifier: Apache-2.0

package fault

import "google.golang.org/grpc/codes"

// The documents that ask for the codes. Entries link the section where there
// is one.
const (
	rfc9113     = "https://www.rfc-editor.org/rfc/rfc9113"
	rfc7541     = "https://www.rfc-editor.org/rfc/rfc7541"
	rfc8446     = "https://www.rfc-editor.org/rfc/rfc8446"
	rfc7301     = "https://www.rfc-editor.org/rfc/rfc7301"
	rfc9525     = "https://www.rfc-editor.org/rfc/rfc9525"
	rfc5280     = "https://www.rfc-editor.org/rfc/rfc5280"
	docs        = "https://github.com/grpc/grpc/blob/master/doc/"
	statusCodes = docs + "statuscodes.md"
	protocol    = docs + "PROTOCOL-HTTP2.md"
	httpMapping = docs + "http-grpc-status-mapping.md"
	compression = docs + "compression.md"
	naming      = docs + "naming.md"
	waitReady   = docs + "wait-for-ready.md"
	backoff     = docs + "connection-backoff.md"
	errorGuide  = "https://grpc.io/docs/guides/error/"
	richErrors  = "https://grpc.io/docs/guides/error/#richer-error-model"
	cancelGuide = "https://grpc.io/docs/guides/cancellation/"
	timeGuide   = "https://grpc.io/docs/guides/deadlines/"
	gRFC        = "https://github.com/grpc/proposal/blob/master/"
	gRFCA1      = gRFC + "A1-http-connect-proxy-support.md"
	gRFCA6      = gRFC + "A6-client-retries.md"
	gRFCA8      = gRFC + "A8-client-side-keepalive.md"
	gRFCA9      = gRFC + "A9-server-side-conn-mgt.md"
	gRFCA17     = gRFC + "A17-client-side-health-checking.md"
	gRFCA21     = gRFC + "A21-service-config-error-handling.md"
	gRFCA54     = gRFC + "A54-restrict-control-plane-status-codes.md"
)

// set and rooms keep the entries to one line each where they say little.
func set(c ...codes.Code) []codes.Code { return c }

func rooms(r ...string) []string { return r }
