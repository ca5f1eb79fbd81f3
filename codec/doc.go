// SPDX-License-Identifier: Apache-2.0

// Package codec is bytes to messages and back: codecs, compressors, size limits.
//
// Codecs and compressors come from the registries of
// google.golang.org/grpc/encoding, so whatever a program registers there
// (CodecV2, the older Codec, Compressor) works here. The "proto" codec and the
// "gzip" compressor are always registered.
//
// The way down: [Codec.Encode] turns a message into one [Buffer] that holds
// the five-byte prefix and the payload, ready for DATA frames. The way up:
// [Decompress] where the prefix says so, then [Codec.Decode].
//
// The package carries no compatibility promise.
package codec
