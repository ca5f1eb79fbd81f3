// SPDX-License-Identifier: Apache-2.0

package wire

import (
	"fmt"
	"net/http"
	"strconv"
	"strings"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"

	"github.com/faultline-rpc/faultline/fault"
	"github.com/faultline-rpc/faultline/h2"
)

// ResponseHead is what the first header section of an answer says. An answer
// that ends with it, and has GRPC or HasStatus, is trailers-only: the same
// section goes to [ParseTrailer]. One that has neither is no gRPC: see
// [ResponseHead.NotGRPC].
type ResponseHead struct {
	// HTTPStatus is :status, 0 if that is missing or no number.
	HTTPStatus  int
	ContentType string
	// GRPC says that the content-type is gRPC's; Subtype is its
	// content-subtype in lower case, "" for proto.
	GRPC    bool
	Subtype string
	// HasStatus says that the section has a grpc-status. It counts only if the
	// answer ends here: otherwise trailers will have the true one.
	HasStatus      bool
	Encoding       string // grpc-encoding
	AcceptEncoding string // grpc-accept-encoding, several joined by commas
	Server         string // the server field: who answered
	// MD is the metadata as grpc-go shows it to callers, nil if there is none.
	// It is shared by all answers whose section is the same: never change it.
	MD metadata.MD
	// WireSize is the section's size in bytes as it came, compressed.
	WireSize int
	// Fault is set if the section cannot be used: http2.header-list or
	// wire.bad-metadata.
	Fault *fault.Fault
}

// ParseResponse reads the first header section of an answer, in one pass.
func ParseResponse(b *h2.Block) ResponseHead {
	var (
		h   ResponseHead
		md  mdBuilder
		bad string
		n   = len(b.Fields) - 1 // :status or grpc-status
	)
	for i := range b.Fields {
		f := &b.Fields[i]
		switch f.Name {
		case ":status":
			h.HTTPStatus = parseHTTPStatus(f.Value)
			continue
		case "grpc-encoding":
			h.Encoding = f.Value
			continue
		case "grpc-status":
			h.HasStatus = true
			continue
		case "content-type":
			h.ContentType = f.Value
			if h.Subtype, h.GRPC = ParseContentType(f.Value); !h.GRPC {
				continue
			}
		case "grpc-accept-encoding":
			if h.AcceptEncoding != "" && f.Value != "" {
				h.AcceptEncoding += ","
			}
			h.AcceptEncoding += f.Value
		case "server":
			h.Server = f.Value
		default:
			if hiddenAnswer(f.Name) {
				continue
			}
		}
		if md.add(f.Name, f.Value, n) != nil && bad == "" {
			bad = f.Name
		}
	}
	h.MD, h.WireSize = md.md, b.WireSize
	switch {
	case b.TooLarge:
		h.Fault = tooLargeSection("response headers", b)
	case bad != "" && h.GRPC:
		h.Fault = badMetadata(bad, "in the response headers is no base64")
	}
	return h
}

// hiddenAnswer reports the fields of an answer that are not shown to programs,
// beside those that the parsers treat by name.
func hiddenAnswer(name string) bool {
	if name == "" || name[0] == ':' {
		return name != ":authority" // shown by grpc-go, though no server sends it
	}
	switch name {
	case "te", "grpc-message-type", "grpc-message", "grpc-encoding", "grpc-status", "grpc-timeout", fault.TrailKey:
		return true
	}
	return connectionSpecific(name)
}

// parseHTTPStatus reads the three digits of a :status (RFC 9110 section 15).
func parseHTTPStatus(s string) int {
	if len(s) != 3 {
		return 0
	}
	n, err := strconv.ParseUint(s, 10, 16)
	if err != nil {
		return 0
	}
	return int(n)
}

// NotGRPC stamps the fault of an answer that is no gRPC: wire.http-status, or
// wire.content-type where the HTTP status says success. The sample is the
// beginning of its body, of which a bounded piece becomes evidence.
func (h *ResponseHead) NotGRPC(sample []byte) *fault.Fault {
	e, code := ForHTTP(h.HTTPStatus)
	return e.New(fault.Args{
		Code:    code,
		Side:    fault.Between,
		Message: h.describe(),
		Evidence: &fault.Evidence{Answered: true, HTTPStatus: h.HTTPStatus, HTTPServer: clip(h.Server), Content: clip(h.ContentType),
			Sample: clipSample(sample)},
	})
}

func (h *ResponseHead) describe() string {
	var s strings.Builder
	switch text := http.StatusText(h.HTTPStatus); {
	case h.HTTPStatus == 0:
		s.WriteString("the answer has no HTTP status")
	case text != "":
		fmt.Fprintf(&s, "the answer is HTTP %d (%s)", h.HTTPStatus, text)
	default:
		fmt.Fprintf(&s, "the answer is HTTP %d", h.HTTPStatus)
	}
	if h.Server != "" {
		fmt.Fprintf(&s, " from %q", clip(h.Server))
	}
	switch {
	case h.ContentType == "":
		s.WriteString(" without content-type")
	case !h.GRPC:
		fmt.Fprintf(&s, " with content-type %q", clip(h.ContentType))
	}
	s.WriteString(", want gRPC")
	return s.String()
}

// clipSample keeps what shows who answered: the first bytes, printable.
func clipSample(p []byte) string {
	const most = 512
	s := string(p[:min(len(p), most)])
	return strings.Map(func(r rune) rune {
		if r < ' ' && r != '\n' && r != '\t' || r == 0x7F || r == '\uFFFD' {
			return '.'
		}
		return r
	}, s)
}

func tooLargeSection(what string, b *h2.Block) *fault.Fault {
	const option = "WithMaxHeaderListSize"
	return fault.HTTP2HeaderList.Newf(fault.Args{Code: codes.Internal, Side: fault.Local, Evidence: &fault.Evidence{Answered: true, Option: option, Size: int64(b.Size)}},
		"the %s have %d bytes, more than this side's limit %s", what, b.Size, option)
}

func badMetadata(name, what string) *fault.Fault {
	name = clip(name)
	return fault.WireBadMetadata.Newf(fault.Args{Code: codes.Internal, Side: fault.Remote, Evidence: &fault.Evidence{Header: name, Answered: true}},
		"metadata %q %s", name, what)
}
