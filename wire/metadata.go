// SPDX-License-Identifier: Apache-2.0

package wire

import (
	"encoding/base64"
	"slices"
	"strings"

	"google.golang.org/grpc/metadata"

	"github.com/faultline-rpc/faultline/fault"
	"github.com/faultline-rpc/faultline/h2/hpack"
)

// AppendMetadata checks a program's own metadata and appends it to dst, keys
// in alphabetical order so that equal metadata makes equal header blocks.
// Values of keys that end in "-bin" are encoded as unpadded base64.
//
// Names of the transport that programs find in what they receive, from here or
// over HTTP, and pass on are skipped, as grpc-go skips them. A name that is
// gRPC's own, an illegal one, or a value that is not printable ASCII is refused
// with a *fault.Fault wire.illegal-metadata, which names the key and never the
// value; dst is then of no use. The fault says "not processed", which holds for a
// request's metadata; a server that sends its own must say what it knows.
func AppendMetadata(dst []hpack.Field, md metadata.MD) ([]hpack.Field, error) {
	if len(md) == 0 {
		return dst, nil
	}
	var room [16]string
	keys := room[:0]
	for k := range md {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	for _, k := range keys {
		name, what := checkName(k)
		if what != "" {
			return nil, illegal(k, what)
		}
		if transportName(name) {
			continue
		}
		if what = reservedName(name); what != "" {
			return nil, illegal(k, what)
		}
		binary := strings.HasSuffix(name, "-bin")
		for _, v := range md[k] {
			if binary {
				v = base64.RawStdEncoding.EncodeToString([]byte(v))
			} else if v, what = checkValue(v); what != "" {
				return nil, illegal(k, what)
			}
			dst = append(dst, hpack.Field{Name: name, Value: v})
		}
	}
	return dst, nil
}

// checkName returns the name in lower case. What is not empty says what is
// wrong with it. PROTOCOL-HTTP2: "Header-Name -> 1*( %x30-39 / %x61-7A / "_" /
// "-" / ".")". Pseudo-header fields pass.
func checkName(k string) (name, what string) {
	if k == "" {
		return "", "the name is empty"
	}
	if k[0] == ':' {
		return k, ""
	}
	for i := 0; i < len(k); i++ {
		switch c := k[i]; {
		case c >= 'a' && c <= 'z', c >= '0' && c <= '9', c == '-', c == '_', c == '.':
		case c >= 'A' && c <= 'Z':
			name = strings.ToLower(k)
		default:
			return "", "the name has a character that is none of a-z 0-9 _ - ."
		}
	}
	if name == "" {
		name = k
	}
	return name, ""
}

// checkValue returns the value without surrounding spaces, which RFC 9113
// section 8.2.1 forbids and PROTOCOL-HTTP2 allows to strip. "ASCII-Value ->
// 1*( %x20-%x7E )"; the empty value is sent, as grpc-go does.
func checkValue(v string) (value, what string) {
	for i := 0; i < len(v); i++ {
		if v[i] < 0x20 || v[i] > 0x7E {
			return "", `a value is not printable ASCII; binary values need a name that ends in "-bin"`
		}
	}
	return strings.Trim(v, " "), ""
}

func illegal(key, what string) error {
	key = clip(key)
	return fault.WireIllegalMetadata.Newf(fault.Args{Side: fault.Local, Processed: fault.No, Evidence: &fault.Evidence{Header: key}},
		"metadata key %q: %s", key, what)
}

// transportName reports whether a name belongs to the transport, in a place
// where a program may have met it. The first group is what servers show to
// handlers. In the second, "te" is every request's already, "host" would
// contradict :authority, "content-length" the framing, and a trail is what
// servers say of a failure, when they know who asks. The third is what RFC 9113
// section 8.2.2 forbids.
func transportName(name string) bool {
	switch name {
	case ":authority", "content-type", "user-agent", "grpc-accept-encoding":
		return true
	case "te", "host", "content-length", fault.TrailKey:
		return true
	}
	return connectionSpecific(name)
}

// reservedName says why a name can only be a mistake: no library shows it to a
// program, and what is meant is done in another way (PROTOCOL-HTTP2, "Reserved"
// and the headers of Call-Definition, Response-Headers and Trailers). Others
// that start with "grpc-" pass as in grpc-go: grpc-trace-bin and
// grpc-previous-rpc-attempts live there.
func reservedName(name string) string {
	switch name {
	case "grpc-timeout":
		return "the name is gRPC's own; give the context a deadline"
	case "grpc-encoding":
		return "the name is gRPC's own; choose a compressor for the call"
	case "grpc-status", "grpc-message":
		return "the name is gRPC's own; return a status from the handler"
	case "grpc-message-type":
		return "the name is gRPC's own"
	}
	if name[0] == ':' {
		return "the name is that of a pseudo-header field, which only HTTP/2 sets"
	}
	return ""
}

// connectionSpecific reports the fields that RFC 9113 section 8.2.2 forbids.
func connectionSpecific(name string) bool {
	switch name {
	case "connection", "proxy-connection", "keep-alive", "transfer-encoding", "upgrade":
		return true
	}
	return false
}

// DecodeMetadataInto adds a received field to md, the way grpc-go shows it to
// programs. A value of a "-bin" name is split at its commas and decoded, with
// or without padding; the error says that it is no base64 and quotes nothing.
func DecodeMetadataInto(md metadata.MD, name, value string) error {
	if !strings.HasSuffix(name, "-bin") {
		md[name] = append(md[name], value)
		return nil
	}
	for {
		// "Implementations must split Binary-Headers on "," before decoding the
		// Base64-encoded values" (PROTOCOL-HTTP2, Custom-Metadata).
		piece, rest, more := strings.Cut(value, ",")
		v, err := decodeBinary(strings.Trim(piece, " \t"))
		if err != nil {
			return err
		}
		md[name] = append(md[name], v)
		if !more {
			return nil
		}
		value = rest
	}
}

// decodeBinary decodes one base64 value. "Implementations MUST accept padded
// and un-padded values" (PROTOCOL-HTTP2, Custom-Metadata).
func decodeBinary(s string) (string, error) {
	enc := base64.RawStdEncoding
	if len(s)%4 == 0 {
		enc = base64.StdEncoding
	}
	p, err := enc.DecodeString(s)
	return string(p), err
}

// mdBuilder collects received metadata with one allocation for the values of
// all names that occur once, which is nearly every name.
type mdBuilder struct {
	md   metadata.MD
	slab []string
}

// add adds a field of a section that shows about n fields. The estimate sizes
// the map: up to eight names cost two allocations, one more costs four.
func (b *mdBuilder) add(name, value string, n int) error {
	if b.md == nil {
		n = max(n, 1)
		b.md = make(metadata.MD, n)
		b.slab = make([]string, 0, n)
	}
	if _, again := b.md[name]; again || strings.HasSuffix(name, "-bin") {
		return DecodeMetadataInto(b.md, name, value)
	}
	if len(b.slab) == cap(b.slab) {
		b.slab = make([]string, 0, max(n, 1))
	}
	i := len(b.slab)
	b.slab = append(b.slab, value)
	b.md[name] = b.slab[i : i+1 : i+1] // a second value must not reach the next name's
	return nil
}

// clip bounds what a peer or program can make us keep as evidence.
func clip(s string) string {
	const most = 256
	if len(s) > most {
		return strings.ToValidUTF8(s[:most], "") + "..."
	}
	return s
}
