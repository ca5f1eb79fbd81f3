// SPDX-License-Identifier: Apache-2.0

package subject

import (
	"compress/zlib"
	"fmt"
	"io"

	"github.com/andybalholm/brotli"
	"github.com/klauspost/compress/snappy"
	"github.com/klauspost/compress/zstd"
	"google.golang.org/grpc"
	"google.golang.org/grpc/encoding"
	"google.golang.org/grpc/encoding/gzip"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	"github.com/faultline-rpc/faultline/conformance/internal/gen/conformancev1"
)

// What programs register with google.golang.org/grpc/encoding serves both
// engines.
func init() {
	encoding.RegisterCodec(jsonCodec{})
	encoding.RegisterCompressor(compressor{"br",
		func(w io.Writer) (io.WriteCloser, error) { return brotli.NewWriter(w), nil },
		func(r io.Reader) (io.Reader, error) { return brotli.NewReader(r), nil }})
	encoding.RegisterCompressor(compressor{"zstd",
		func(w io.Writer) (io.WriteCloser, error) { return zstd.NewWriter(w, zstd.WithEncoderConcurrency(1)) },
		func(r io.Reader) (io.Reader, error) { return zstd.NewReader(r, zstd.WithDecoderConcurrency(1)) }})
	encoding.RegisterCompressor(compressor{"deflate", // HTTP's name for zlib
		func(w io.Writer) (io.WriteCloser, error) { return zlib.NewWriter(w), nil },
		func(r io.Reader) (io.Reader, error) { return zlib.NewReader(r) }})
	encoding.RegisterCompressor(compressor{"snappy",
		func(w io.Writer) (io.WriteCloser, error) { return snappy.NewBufferedWriter(w), nil },
		func(r io.Reader) (io.Reader, error) { return snappy.NewReader(r), nil }})
}

// compressor is an encoding.Compressor.
type compressor struct {
	name       string
	compress   func(io.Writer) (io.WriteCloser, error)
	decompress func(io.Reader) (io.Reader, error)
}

func (c compressor) Name() string                                 { return c.name }
func (c compressor) Compress(w io.Writer) (io.WriteCloser, error) { return c.compress(w) }
func (c compressor) Decompress(r io.Reader) (io.Reader, error)    { return c.decompress(r) }

// jsonCodec is protobuf's JSON mapping as an encoding.Codec.
type jsonCodec struct{}

func (jsonCodec) Name() string { return "json" }

func (jsonCodec) Marshal(v any) ([]byte, error) {
	m, ok := v.(proto.Message)
	if !ok {
		return nil, fmt.Errorf("a %T is no protobuf message", v)
	}
	return protojson.Marshal(m)
}

func (jsonCodec) Unmarshal(b []byte, v any) error {
	m, ok := v.(proto.Message)
	if !ok {
		return fmt.Errorf("a %T is no protobuf message", v)
	}
	return protojson.Unmarshal(b, m)
}

var encodings = map[conformancev1.Compression]string{
	conformancev1.Compression_COMPRESSION_GZIP:    gzip.Name,
	conformancev1.Compression_COMPRESSION_BR:      "br",
	conformancev1.Compression_COMPRESSION_ZSTD:    "zstd",
	conformancev1.Compression_COMPRESSION_DEFLATE: "deflate",
	conformancev1.Compression_COMPRESSION_SNAPPY:  "snappy",
}

// formats are the call options for the codec and the compression of req.
func formats(req *conformancev1.ClientCompatRequest) ([]grpc.CallOption, error) {
	var opts []grpc.CallOption
	switch c := req.GetCodec(); c {
	case conformancev1.Codec_CODEC_UNSPECIFIED, conformancev1.Codec_CODEC_PROTO:
	case conformancev1.Codec_CODEC_JSON:
		opts = append(opts, grpc.CallContentSubtype("json"))
	default:
		return nil, fmt.Errorf("asked for %v, want protobuf or JSON", c)
	}
	switch c := req.GetCompression(); c {
	case conformancev1.Compression_COMPRESSION_UNSPECIFIED, conformancev1.Compression_COMPRESSION_IDENTITY:
	default:
		name, ok := encodings[c]
		if !ok {
			return nil, fmt.Errorf("asked for %v, which is not known", c)
		}
		opts = append(opts, grpc.UseCompressor(name))
	}
	return opts, nil
}
