// SPDX-License-Identifier: Apache-2.0

package codec

import (
	"bytes"
	"io"
	"reflect"

	"google.golang.org/grpc/encoding"
)

// What grpc-go had before package encoding, and programs still pass: Codec,
// Compressor and Decompressor of package grpc. The interfaces here are the part
// of them that is used.

// OlderCodec is a codec that says nothing of content-subtypes.
type OlderCodec interface {
	Marshal(v any) ([]byte, error)
	Unmarshal(data []byte, v any) error
	String() string // what it is called in errors
}

// OlderCompressor compresses whole messages.
type OlderCompressor interface {
	Do(w io.Writer, p []byte) error
	Type() string // the name that grpc-encoding carries
}

// OlderDecompressor decompresses whole messages.
type OlderDecompressor interface {
	Do(r io.Reader) ([]byte, error)
	Type() string // the name that grpc-encoding carries
}

// FromV0 returns the Codec that uses c. Its Name is "".
func FromV0(c OlderCodec) Codec { return Codec{v1: nameless{c}} }

// nameless gives the oldest codec the shape of the next.
type nameless struct{ OlderCodec }

// Name implements encoding.Codec. Nothing is registered under the empty name.
func (nameless) Name() string { return "" }

// FromCompressor returns the Compressor that compresses with c, nil for nil. It
// does not decompress.
func FromCompressor(c OlderCompressor) Compressor {
	if c == nil {
		return nil
	}
	return oneWay{name: c.Type(), out: c}
}

// FromDecompressor returns the Compressor that decompresses with d, nil for
// nil. It does not compress. What d makes of a message is not bounded before it is there, other
// than with registered compressors; for grpc-go's own gzip the registered one
// is returned.
func FromDecompressor(d OlderDecompressor) Compressor {
	if d == nil {
		return nil
	}
	t := reflect.TypeOf(d)
	if comp := encoding.GetCompressor(d.Type()); comp != nil && t.Kind() == reflect.Pointer && t.Elem().PkgPath() == "google.golang.org/grpc" {
		return comp
	}
	return oneWay{name: d.Type(), in: d}
}

// oneWay is one of the two as a Compressor.
type oneWay struct {
	name string
	out  OlderCompressor
	in   OlderDecompressor
}

var _ Compressor = oneWay{}

// Name implements encoding.Compressor.
func (o oneWay) Name() string { return o.name }

// Compress implements encoding.Compressor.
func (o oneWay) Compress(w io.Writer) (io.WriteCloser, error) {
	return &olderWriter{out: o.out, w: w}, nil
}

// Decompress implements encoding.Compressor.
func (o oneWay) Decompress(r io.Reader) (io.Reader, error) {
	p, err := o.in.Do(r)
	if err != nil {
		return nil, err
	}
	return bytes.NewReader(p), nil
}

// olderWriter collects a message, which is compressed as a whole.
type olderWriter struct {
	out OlderCompressor
	w   io.Writer
	p   []byte
}

// Write implements io.Writer. A message that comes in one piece, as those of
// this package do, is not copied: it stays as it is until Close.
func (z *olderWriter) Write(p []byte) (int, error) {
	if z.p == nil {
		z.p = p[:len(p):len(p)]
	} else {
		z.p = append(z.p, p...)
	}
	return len(p), nil
}

// Close implements io.Closer.
func (z *olderWriter) Close() error { return z.out.Do(z.w, z.p) }
