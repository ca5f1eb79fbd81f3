// SPDX-License-Identifier: Apache-2.0

package wire

import (
	"fmt"
	"net/http"
	"strings"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"

	"github.com/faultline-rpc/faultline/fault"
	"github.com/faultline-rpc/faultline/h2"
)

// RequestHead is what a request's header section says.
type RequestHead struct {
	Path           string // as received: "/package.Service/Method"
	Service        string // "package.Service"
	Method         string // "Method"
	Authority      string // :authority, or host where that is missing
	Scheme         string
	UserAgent      string
	ContentType    string
	Subtype        string // in lower case; "" means proto
	Encoding       string // grpc-encoding
	AcceptEncoding string // grpc-accept-encoding, several joined by commas
	Timeout        time.Duration
	HasTimeout     bool
	// MD is the metadata as grpc-go shows it to handlers, which includes
	// :authority, content-type, user-agent and grpc-accept-encoding. It is
	// shared by all calls whose header section is the same: never change it.
	MD metadata.MD
	// WireSize is the section's size in bytes as it came, compressed; where
	// net/http read it, as it was passed on.
	WireSize int
	// Refusal is set if the request must be refused before any interceptor.
	Refusal *Refusal
}

// Refusal is the answer to a request that never reaches a handler.
type Refusal struct {
	Fault *fault.Fault
	// HTTPStatus is the answer's :status: 200 where grpc-status says it all,
	// 400 with grpc-status as well, 405 (send "allow: POST") and 415 with a
	// text instead of it.
	HTTPStatus int
	// Bodiless says that the answer has headers only: "The server MUST NOT send
	// content in the response" to HEAD (RFC 9110, section 9.3.2).
	Bodiless bool
}

// requestParser is the state of one pass over a header section.
type requestParser struct {
	h           RequestHead
	md          mdBuilder
	verb        string
	host        string
	authorities int
	hosts       int
	badBinary   string // name of a -bin field that is no base64
	badTimeout  error
}

// ParseRequest reads a request's header section in one pass. The section must
// have passed HTTP/2's own rules (RFC 9113 section 8.3), which h2 checks. Of
// several things wrong the first is the refusal, in the order: section too
// large, :authority and host contradictory, method, content-type, authority,
// timeout, metadata, path.
func ParseRequest(b *h2.Block) RequestHead {
	var p requestParser
	n := len(b.Fields) - hiddenRequestFields
	for i := range b.Fields {
		f := &b.Fields[i]
		p.field(f.Name, f.Value, n)
	}
	p.finish(n)
	h := &p.h
	h.Refusal = p.refusal(b)
	h.MD, h.WireSize = p.md.md, b.WireSize
	return p.h
}

// hiddenRequestFields is how many fields of every request are not metadata:
// :method, :scheme, :path and te.
const hiddenRequestFields = 4

func (p *requestParser) field(name, value string, n int) {
	h := &p.h
	switch name {
	case ":method":
		p.verb = value
		return
	case ":path":
		h.Path = value
		return
	case ":scheme":
		h.Scheme = value
		return
	case "te", "grpc-message-type", "grpc-message", "grpc-status":
		return
	case "grpc-encoding":
		h.Encoding = value
		return
	case "grpc-timeout":
		d, err := ParseTimeout(value)
		if err != nil && p.badTimeout == nil {
			p.badTimeout = err
		}
		h.Timeout, h.HasTimeout = d, err == nil
		return
	case "host": // becomes :authority, or nothing (gRFC A41)
		p.host = value
		p.hosts++
		return
	case ":authority":
		h.Authority = value
		p.authorities++
	case "content-type":
		h.ContentType = value
	case "user-agent":
		h.UserAgent = value
	case "grpc-accept-encoding":
		if h.AcceptEncoding != "" && value != "" {
			h.AcceptEncoding += ","
		}
		h.AcceptEncoding += value
	default:
		if name == "" || name[0] == ':' || connectionSpecific(name) {
			return
		}
	}
	if p.md.add(name, value, n) != nil && p.badBinary == "" {
		p.badBinary = name
	}
}

// finish derives what depends on several fields.
func (p *requestParser) finish(n int) {
	h := &p.h
	if p.authorities == 0 && p.hosts > 0 { // gRFC A41: "If :authority is missing, Host must be renamed to :authority"
		h.Authority = p.host
		p.md.add(":authority", p.host, n) // no -bin name: it cannot fail
	}
	if len(h.Path) > 1 && h.Path[0] == '/' {
		// The service's name may hold slashes, as in grpc-go.
		if i := strings.LastIndexByte(h.Path, '/'); i > 0 {
			h.Service, h.Method = h.Path[1:i], h.Path[i+1:]
		}
	}
}

// refusal also sets the Subtype, which is part of the content-type's verdict.
func (p *requestParser) refusal(b *h2.Block) *Refusal {
	h := &p.h
	subtype, isGRPC := ParseContentType(h.ContentType)
	h.Subtype = subtype
	switch {
	case b.TooLarge:
		return refuse(fault.HTTP2HeaderList, http.StatusOK, codes.Internal, fault.Evidence{Method: clip(h.Path), Option: "MaxHeaderListSize", Size: int64(b.Size)},
			"the request's header section has %d bytes, more than this server's limit MaxHeaderListSize", b.Size)
	case p.authorities > 1 || p.hosts > 1:
		// gRFC A41: "If multiple Host headers or multiple :authority headers are
		// present, the request must be rejected with an HTTP status code 400".
		return refuse(fault.WireAuthority, http.StatusBadRequest, codes.Internal, fault.Evidence{Header: "host"},
			"the request has %d :authority and %d host fields, want one", p.authorities, p.hosts)
	case p.verb != http.MethodPost: // "Method -> ":method POST""
		r := refuse(fault.WireNotPost, http.StatusMethodNotAllowed, anyCode, fault.Evidence{Header: ":method"},
			"the request's method is %q, gRPC wants POST", clip(p.verb))
		r.Bodiless = p.verb == http.MethodHead
		return r
	case !isGRPC:
		// "If Content-Type does not begin with "application/grpc", gRPC servers
		// SHOULD respond with HTTP status of 415 (Unsupported Media Type)".
		return refuse(fault.WireNotGRPCRequest, http.StatusUnsupportedMediaType, anyCode, fault.Evidence{Content: clip(h.ContentType)},
			"the request's content-type is %q, want application/grpc", clip(h.ContentType))
	case p.authorities == 0 && p.hosts == 0: // gRFC A41
		return refuse(fault.WireAuthority, http.StatusBadRequest, codes.Internal, fault.Evidence{Header: ":authority"},
			"the request has neither :authority nor host")
	case !validAuthority(h.Authority):
		// "Invalid host set in authority metadata | UNAUTHENTICATED" (grpc.io, error handling)
		return refuse(fault.WireAuthority, http.StatusOK, codes.Unauthenticated, fault.Evidence{Authority: clip(h.Authority)},
			"the request's :authority %q is no host, want host or host:port", clip(h.Authority))
	case p.badTimeout != nil:
		return refuse(fault.WireBadTimeout, http.StatusBadRequest, codes.Internal, fault.Evidence{Header: "grpc-timeout"},
			"malformed grpc-timeout: %v", p.badTimeout)
	case p.badBinary != "":
		return refuse(fault.WireBadMetadata, http.StatusOK, codes.Internal, fault.Evidence{Header: clip(p.badBinary)},
			"metadata %q is no base64", clip(p.badBinary))
	case h.Method == "" && h.Service == "":
		return refuse(fault.HandlerUnknownMethod, http.StatusOK, codes.Unimplemented, fault.Evidence{Method: clip(h.Path)},
			"malformed method name %q, want /package.Service/Method", clip(h.Path))
	}
	return nil
}

// anyCode leaves the code to the catalogue: the answer carries no grpc-status.
const anyCode = codes.OK

func refuse(e *fault.Entry, status int, code codes.Code, ev fault.Evidence, format string, args ...any) *Refusal {
	a := fault.Args{Code: code, Side: fault.Remote, Processed: fault.No, Evidence: &ev, Message: fmt.Sprintf(format, args...)}
	return &Refusal{Fault: e.New(a), HTTPStatus: status}
}

// validAuthority reports whether s consists of characters that a host and
// port may have (RFC 3986 section 3.2). RFC 9113 section 8.3.1 forbids
// userinfo. The empty authority passes: programs dial targets without a name.
func validAuthority(s string) bool {
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9':
		case strings.IndexByte("-._~!$&'()*+,;=:[]%", c) >= 0:
		default:
			return false
		}
	}
	return true
}

const baseContentType = "application/grpc"

// ContentType returns the content-type for a content-subtype; "" means none.
func ContentType(subtype string) string {
	if subtype == "" {
		return baseContentType
	}
	return baseContentType + "+" + subtype
}

// ParseContentType reports whether a content-type is gRPC's and returns its
// content-subtype in lower case: "application/grpc", "application/grpc+x" and,
// as grpc-go allows, "application/grpc;x". Parameters are ignored. Case does
// not matter. application/grpc-web is another protocol.
func ParseContentType(s string) (subtype string, ok bool) {
	const n = len(baseContentType)
	switch {
	case s == baseContentType, s == baseContentType+"+proto": // nearly every request
		return strings.TrimPrefix(s[n:], "+"), true
	case len(s) < n || !strings.EqualFold(s[:n], baseContentType):
		return "", false
	case len(s) == n:
		return "", true
	}
	rest := strings.ToLower(s[n:])
	switch rest[0] {
	case '+':
		subtype, _, _ = strings.Cut(rest[1:], ";")
	case ';':
		if subtype = rest[1:]; strings.ContainsRune(subtype, '=') {
			subtype = ""
		}
	case ' ', '\t':
		if t := strings.TrimLeft(rest, " \t"); t != "" && t[0] != ';' {
			return "", false
		}
	default:
		return "", false
	}
	return strings.Trim(subtype, " \t"), true
}
