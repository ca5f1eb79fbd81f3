// SPDX-License-Identifier: Apache-2.0

package wire

import (
	"encoding/base64"
	"fmt"
	"strconv"
	"strings"

	spb "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/proto"

	"github.com/faultline-rpc/faultline/fault"
	"github.com/faultline-rpc/faultline/h2"
	"github.com/faultline-rpc/faultline/h2/hpack"
)

const detailsName = "grpc-status-details-bin"

// Trailer is what the last header section of an answer says.
type Trailer struct {
	// Code is the status. A number above 16 is kept, as in grpc-go: programs
	// use private codes, and nothing in the specification forbids to show them.
	Code codes.Code
	// Message is grpc-message decoded, or the message of Status.
	Message string
	// Details are the bytes of grpc-status-details-bin, nil if there are none.
	// They are kept if they do not parse.
	Details []byte
	// Status is Details parsed: nil if there are none or they do not parse.
	Status *spb.Status
	// MD is the metadata as grpc-go shows it to callers, nil if there is none.
	// It includes grpc-status-details-bin, and leaves out the trail. Never change it.
	MD metadata.MD
	// Trail are the values of [fault.TrailKey], decoded from base64, for a code
	// that is not OK. What is no base64 is left out.
	Trail []string
	// WireSize is the section's size in bytes as it came, compressed.
	WireSize int
	// Fault is set if the trailers themselves are wrong; Code and Message are
	// then the fault's: http2.header-list, wire.bad-metadata,
	// wire.status-missing, wire.http-status, wire.status-unparsable,
	// wire.status-details-mismatch.
	Fault *fault.Fault
}

// ParseTrailer reads the last header section of an answer, or the only one.
// httpStatus is the answer's :status where an earlier section had it, else 0:
// without grpc-status the code comes from it.
func ParseTrailer(b *h2.Block, httpStatus int) Trailer {
	var (
		t      Trailer
		md     mdBuilder
		bad    string
		status string
		found  bool
		trail  []string
		n      = len(b.Fields) - 1 // :status or grpc-status
	)
	for i := range b.Fields {
		f := &b.Fields[i]
		switch f.Name {
		case "grpc-status":
			status, found = f.Value, true
			continue
		case "grpc-message":
			t.Message = DecodeMessage(f.Value)
			continue
		case ":status":
			httpStatus = parseHTTPStatus(f.Value)
			continue
		case fault.TrailKey:
			trail = append(trail, f.Value)
			continue
		case "content-type":
			if _, ok := ParseContentType(f.Value); !ok {
				continue
			}
		default:
			if hiddenAnswer(f.Name) {
				continue
			}
		}
		if md.add(f.Name, f.Value, n) != nil && bad == "" {
			bad = f.Name
		}
	}
	t.MD, t.WireSize = md.md, b.WireSize
	if status != "0" {
		t.Trail = decodeTrail(trail)
	}
	t.judge(b, bad, status, found, httpStatus)
	if t.Fault != nil {
		t.Code, t.Message = t.Fault.Code(), t.Fault.Message()
	}
	return t
}

// judge turns the fields found into a code, or a fault.
func (t *Trailer) judge(b *h2.Block, bad, status string, found bool, httpStatus int) {
	code, ok := parseStatus(status)
	switch {
	case b.TooLarge:
		t.Fault = tooLargeSection("trailers", b)
	case !found && httpStatus != 200 && httpStatus != 0:
		// "If grpc-status was provided, it must be used"; here it was not
		// (http-grpc-status-mapping).
		h := ResponseHead{HTTPStatus: httpStatus, GRPC: true, ContentType: baseContentType}
		t.Fault = h.NotGRPC(nil)
	case !found:
		t.Fault = fault.WireStatusMissing.Newf(trailerArgs(codes.Unknown, ""), "the answer ends with trailers that have no grpc-status%s", t.quoteMessage())
	case !ok:
		t.Fault = fault.WireStatusUnparsable.Newf(trailerArgs(codes.Unknown, status),
			"grpc-status is %q, want a number%s", clip(status), t.quoteMessage())
	case bad != "":
		t.Fault = badMetadata(bad, fmt.Sprintf("in the trailers is no base64; they say grpc-status %d%s", code, t.quoteMessage()))
	default:
		t.Code = code
		t.parseDetails()
	}
}

// parseStatus reads "Status -> 1*DIGIT".
func parseStatus(s string) (codes.Code, bool) {
	if len(s) == 1 && s[0] >= '0' && s[0] <= '9' {
		return codes.Code(s[0] - '0'), true
	}
	n, err := strconv.ParseUint(s, 10, 31) // google.rpc.Status has an int32
	return codes.Code(n), err == nil
}

// parseDetails reads grpc-status-details-bin, which is not in PROTOCOL-HTTP2
// but spoken by every implementation: google.rpc.Status with the same code.
// Several of them, or bytes that are no such message, are no details.
func (t *Trailer) parseDetails() {
	v := t.MD[detailsName]
	if len(v) != 1 {
		return
	}
	t.Details = []byte(v[0])
	st := new(spb.Status)
	if proto.Unmarshal(t.Details, st) != nil {
		return
	}
	t.Status = st
	if st.Code != int32(t.Code) {
		t.Fault = fault.WireStatusDetailsMismatch.Newf(trailerArgs(codes.Internal, strconv.Itoa(int(t.Code))),
			"grpc-status is %d, %s says %d%s", t.Code, detailsName, st.Code, t.quoteMessage())
		return
	}
	if st.Message != "" {
		t.Message = st.Message
	}
}

// decodeTrail decodes the values of a trail, as far as its budget goes. It is
// not worth failing a call for.
func decodeTrail(encoded []string) (values []string) {
	size := 0
	for _, e := range encoded {
		if size += len(e); size > fault.TrailBudget {
			break
		}
		for piece := range strings.SplitSeq(e, ",") { // as a proxy may have joined them
			if v, err := decodeBinary(strings.Trim(piece, " \t")); err == nil {
				values = append(values, v)
			}
		}
	}
	return values
}

func (t *Trailer) quoteMessage() string {
	if t.Message == "" {
		return ""
	}
	return fmt.Sprintf("; grpc-message is %q", clip(t.Message))
}

func trailerArgs(code codes.Code, status string) fault.Args {
	return fault.Args{Code: code, Side: fault.Remote, Evidence: &fault.Evidence{GRPCStatus: clip(status), Answered: true}}
}

// statusText has the values of grpc-status, so that writing one never
// allocates and HPACK meets the same string again.
var statusText = [...]string{"0", "1", "2", "3", "4", "5", "6", "7", "8", "9", "10", "11", "12", "13", "14", "15", "16"}

// appendTrail appends the fields of a trail to dst.
func appendTrail(dst []hpack.Field, values []string) []hpack.Field {
	for _, v := range values {
		dst = append(dst, hpack.Field{Name: fault.TrailKey, Value: base64.RawStdEncoding.EncodeToString([]byte(v)), Index: hpack.Literal})
	}
	return dst
}

// AppendStatus appends the fields of a status to dst: grpc-status,
// grpc-message where there is a message, and grpc-status-details-bin where
// there are details, the bytes of a google.rpc.Status.
func AppendStatus(dst []hpack.Field, code codes.Code, message string, details []byte) []hpack.Field {
	text := ""
	if int64(code) < int64(len(statusText)) {
		text = statusText[code]
	} else {
		text = strconv.FormatUint(uint64(code), 10)
	}
	dst = append(dst, hpack.Field{Name: "grpc-status", Value: text})
	if message != "" {
		dst = append(dst, hpack.Field{Name: "grpc-message", Value: EncodeMessage(message), Index: hpack.Literal})
	}
	if len(details) > 0 {
		dst = append(dst, hpack.Field{Name: detailsName, Value: base64.RawStdEncoding.EncodeToString(details), Index: hpack.Literal})
	}
	return dst
}
