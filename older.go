// SPDX-License-Identifier: Apache-2.0

package faultline

import (
	"google.golang.org/grpc"

	"github.com/faultline-rpc/faultline/server"
)

// The options for grpc-go's interfaces from before package encoding. Programs
// that have such a codec or compressor keep it; new ones have better:
// encoding.RegisterCodecV2 and encoding.RegisterCompressor.

// WithCodec has all calls marshal with c, and send no content-subtype. It is
// [WithDefaultCallOptions] with grpc.CallCustomCodec.
func WithCodec(c grpc.Codec) DialOption { return WithDefaultCallOptions(grpc.CallCustomCodec(c)) }

// WithCompressor has the requests of calls that ask for no compressor
// themselves compressed with c; grpc-encoding is its Type. grpc.UseCompressor
// takes precedence, "identity" included. The server must know the encoding:
// one that does not answers UNIMPLEMENTED. Nil is none.
func WithCompressor(c grpc.Compressor) DialOption {
	return dialOption(func(d *dialSettings) { d.call.Compressor = c })
}

// WithDecompressor has answers whose grpc-encoding is the Type of dc
// decompressed with it; others need a registered compressor. The limit for
// messages is held against what dc returns: it is on dc to bound what it
// inflates. Nil is none.
func WithDecompressor(dc grpc.Decompressor) DialOption {
	return dialOption(func(d *dialSettings) { d.call.Decompressor = dc })
}

// WithMaxMsgSize bounds an answer's messages, in bytes. It is
// [WithDefaultCallOptions] with grpc.MaxCallRecvMsgSize.
func WithMaxMsgSize(bytes int) DialOption {
	return WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(bytes))
}

// CustomCodec serves requests of every content-subtype with c.
func CustomCodec(c grpc.Codec) ServerOption {
	return serverOption(func(s *serverSettings) { s.cfg.ForceCodec = server.CodecV0(c) })
}

// RPCCompressor has all answers compressed with c, whatever the requests' own
// compression is and whatever clients say they accept; grpc-encoding is its
// Type. A client that does not know it fails its calls with INTERNAL.
// [SetSendCompressor] takes precedence. Nil is none.
func RPCCompressor(c grpc.Compressor) ServerOption {
	return serverOption(func(s *serverSettings) { s.cfg.Compressor = c })
}

// RPCDecompressor has requests whose grpc-encoding is the Type of dc
// decompressed with it; others need a registered compressor. The limit for
// messages is held against what dc returns: it is on dc to bound what it
// inflates. Nil is none.
func RPCDecompressor(dc grpc.Decompressor) ServerOption {
	return serverOption(func(s *serverSettings) { s.cfg.Decompressor = dc })
}

// MaxMsgSize is [MaxRecvMsgSize].
func MaxMsgSize(bytes int) ServerOption { return MaxRecvMsgSize(bytes) }
