// SPDX-License-Identifier: Apache-2.0

package codec

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"reflect"
	"strings"

	"google.golang.org/grpc/encoding"
	protocodec "google.golang.org/grpc/encoding/proto" // registers "proto"
	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/protoadapt"

	"github.com/faultline-rpc/faultline/fault"
)

// Codec turns messages into bytes and back. The zero Codec is protobuf. It is
// a value, safe for concurrent use.
type Codec struct {
	name string
	// At most one of the two is set. With neither, messages are marshaled here:
	// that is what grpc-go's own codec would do, without its buffers.
	v2 encoding.CodecV2
	v1 encoding.Codec
}

// Lookup returns the codec registered for a content-subtype, which is the part
// after the "+" of a content-type. Case does not matter; "" means "proto".
func Lookup(subtype string) (Codec, bool) {
	if subtype == "" {
		subtype = protocodec.Name
	} else {
		subtype = strings.ToLower(subtype)
	}
	if c := encoding.GetCodecV2(subtype); c != nil {
		return FromV2(c), true
	}
	if c := encoding.GetCodec(subtype); c != nil {
		return FromV1(c), true
	}
	return Codec{}, false
}

// FromV2 returns the Codec that uses c.
func FromV2(c encoding.CodecV2) Codec {
	if isBuiltIn(c) {
		return Codec{}
	}
	return Codec{name: strings.ToLower(c.Name()), v2: c}
}

// FromV1 returns the Codec that uses c, which has grpc-go's older interface.
func FromV1(c encoding.Codec) Codec { return Codec{name: strings.ToLower(c.Name()), v1: c} }

// Name returns the content-subtype, in lower case; "" if the codec has none.
func (c Codec) Name() string {
	if c.v1 == nil && c.v2 == nil {
		return protocodec.Name
	}
	return c.name
}

// String names the codec in errors.
func (c Codec) String() string {
	if old, ok := c.v1.(nameless); ok {
		return old.String()
	}
	return c.Name()
}

// builtIn is the type of the codec that grpc-go registers for "proto", which is
// not exported; nil if a program replaced it before this package was
// initialized.
var builtIn = func() reflect.Type {
	t := reflect.TypeOf(encoding.GetCodecV2(protocodec.Name))
	if t == nil || t.Kind() != reflect.Pointer || t.Elem().PkgPath() != "google.golang.org/grpc/encoding/proto" {
		return nil
	}
	return t
}()

func isBuiltIn(c encoding.CodecV2) bool { return reflect.TypeOf(c) == builtIn }

// Sizes are the lengths of a message, in bytes.
type Sizes struct {
	Length           int // marshaled, before compression
	CompressedLength int // as sent, without prefix
	WireLength       int // as sent, with prefix
}

// Encode marshals m and returns prefix and payload in one buffer, which is the
// caller's to free. A payload that is not empty is compressed by comp unless
// that is nil. The error is a *fault.Fault: codec.marshal, or codec.too-large
// if the message exceeds limit before or after compression.
func (c Codec) Encode(m any, comp Compressor, limit Limit) (*Buffer, Sizes, error) {
	b, err := c.marshal(m, limit)
	if err != nil {
		return nil, Sizes{}, err
	}
	n := len(b.B) - PrefixLen
	s := Sizes{Length: n, CompressedLength: n, WireLength: len(b.B)}
	if comp != nil && n > 0 {
		z, err := compress(comp, b, limit)
		b.Free()
		if err != nil {
			return nil, Sizes{}, err
		}
		b = z
		b.B[0] = 1
		s.CompressedLength, s.WireLength = len(b.B)-PrefixLen, len(b.B)
	}
	binary.BigEndian.PutUint32(b.B[1:], uint32(s.CompressedLength))
	return b, s, nil
}

// marshal returns room for the prefix, its flag 0, followed by m's bytes.
func (c Codec) marshal(m any, limit Limit) (*Buffer, error) {
	if m == nil { // grpc-go sends the empty message for a handler that returns nil
		return prefixed(0), nil
	}
	switch {
	case c.v2 != nil:
		data, err := c.v2.Marshal(m)
		if err != nil {
			return nil, c.marshalFault(m, err)
		}
		defer data.Free()
		n := data.Len()
		if err := check(limit, Sent, n); err != nil {
			return nil, err
		}
		b := prefixed(n)
		for _, piece := range data {
			b.B = append(b.B, piece.ReadOnlyData()...)
		}
		return b, nil
	case c.v1 != nil:
		data, err := c.v1.Marshal(m)
		if err != nil {
			return nil, c.marshalFault(m, err)
		}
		if err := check(limit, Sent, len(data)); err != nil {
			return nil, err
		}
		b := prefixed(len(data))
		b.B = append(b.B, data...)
		return b, nil
	}
	pm := messageOf(m)
	if pm == nil {
		return nil, c.marshalFault(m, errors.New("want a proto.Message"))
	}
	n := proto.Size(pm)
	if err := check(limit, Sent, n); err != nil {
		return nil, err
	}
	b := prefixed(n)
	// The size was computed on the line above and is kept in the message.
	out, err := proto.MarshalOptions{UseCachedSize: true}.MarshalAppend(b.B, pm)
	if err != nil {
		b.Free()
		return nil, c.marshalFault(m, err)
	}
	b.B = out
	return b, nil
}

// Decode parses p into m. p is lent: it is not kept after the return. The
// error is plain; callers know whether a request or a response does not parse.
func (c Codec) Decode(p []byte, m any) error {
	switch {
	case c.v2 != nil:
		// The codec may keep a reference to the data, so it gets its own.
		data := mem.BufferSlice{mem.SliceBuffer(append([]byte(nil), p...))}
		defer data.Free()
		return c.v2.Unmarshal(data, m)
	case c.v1 != nil:
		return c.v1.Unmarshal(append([]byte(nil), p...), m)
	}
	pm := messageOf(m)
	if pm == nil {
		return fmt.Errorf("codec %q cannot unmarshal into %T, want a proto.Message", c, m)
	}
	return proto.Unmarshal(p, pm)
}

// Direct is a message that may be decoded wherever its bytes are met, because
// protobuf's own code does it, and no program's. The zero Direct is none.
type Direct struct{ m proto.Message }

// Direct returns m for such decoding; none if c is a program's codec, or m no
// protobuf message.
func (c Codec) Direct(m any) Direct {
	if c.v1 != nil || c.v2 != nil {
		return Direct{}
	}
	pm, _ := m.(proto.Message)
	return Direct{pm}
}

// Wanted reports whether there is a message.
func (d Direct) Wanted() bool { return d.m != nil }

// Decode is [Codec.Decode]. After false, decode again where the error, or the
// panic of a message with code of its own, is met by whoever caused it.
func (d Direct) Decode(p []byte) (ok bool) {
	defer func() { ok = recover() == nil && ok }()
	return proto.Unmarshal(p, d.m) == nil
}

// messageOf returns m as a message of today's protobuf API; m may be of the
// first API. It returns nil if it is of neither.
func messageOf(m any) proto.Message {
	switch m := m.(type) {
	case proto.Message:
		return m
	case protoadapt.MessageV1:
		return protoadapt.MessageV2Of(m)
	}
	return nil
}

func (c Codec) marshalFault(m any, err error) *fault.Fault {
	return fault.CodecMarshal.Newf(fault.Args{Side: fault.Local, Cause: err}, "error while marshaling: codec %q, %T: %v", c, m, err)
}

// prefixed returns a buffer with an empty prefix and room for n bytes.
func prefixed(n int) *Buffer {
	b := GetBuffer(PrefixLen + n)
	b.B = append(b.B, 0, 0, 0, 0, 0)
	return b
}

// check refuses what limit or the prefix's four bytes of length do not allow.
func check(limit Limit, form Form, n int) error {
	if n > limit.Bytes {
		return limit.Exceeded(form, int64(n))
	}
	if uint64(n) > math.MaxUint32 {
		return fault.CodecTooLarge.Newf(fault.Args{Side: fault.Local, Evidence: &fault.Evidence{Limit: math.MaxUint32, Size: int64(n)}},
			"%s larger than max: %d bytes, the four bytes of its length can say %d", form, n, uint32(math.MaxUint32))
	}
	return nil
}
