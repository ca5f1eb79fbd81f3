// SPDX-License-Identifier: Apache-2.0

package codec

import (
	"bytes"
	"fmt"
	"io"
	"strings"

	"google.golang.org/grpc/encoding"
	_ "google.golang.org/grpc/encoding/gzip" // registers "gzip"

	"github.com/faultline-rpc/faultline/fault"
)

// Compressor is grpc-go's; nil compresses nothing.
type Compressor = encoding.Compressor

// LookupCompressor returns the compressor for the name that grpc-encoding
// carries: own if that goes by it (nil does not), else the registered one. It is
// nil, and ok, for "" and "identity". Names are compared exactly, as grpc-go
// compares them.
func LookupCompressor(name string, own Compressor) (comp Compressor, ok bool) {
	switch {
	case name == "" || name == encoding.Identity:
		return nil, true
	case own != nil && own.Name() == name:
		return own, true
	}
	comp = encoding.GetCompressor(name)
	return comp, comp != nil
}

// wellKnown are the names asked for in grpc-go's registry, which cannot be
// listed. A compressor under another name works, it is merely not announced
// unless the program's options name it.
var wellKnown = []string{"gzip", "deflate", "zlib", "snappy", "zstd", "br", "brotli", "lz4", "s2", "bzip2", "xz", "lzma"}

// Supported returns the value of grpc-accept-encoding: the registered
// compressors among the well-known names and those given, and own unless it is
// nil, each once, joined by commas. "identity" goes without saying
// (doc/compression.md of grpc/grpc).
func Supported(own Compressor, names ...string) string {
	var b strings.Builder
	if own != nil {
		names = append(names[:len(names):len(names)], own.Name())
	}
	seen := make(map[string]bool, len(wellKnown)+len(names))
	for _, list := range [][]string{wellKnown, names} {
		for _, n := range list {
			if comp, ok := LookupCompressor(n, own); seen[n] || !ok || comp == nil {
				continue
			}
			seen[n] = true
			if b.Len() > 0 {
				b.WriteByte(',')
			}
			b.WriteString(n)
		}
	}
	return b.String()
}

// compress returns a new buffer with an empty prefix and the compressed
// payload of raw.
func compress(comp Compressor, raw *Buffer, limit Limit) (*Buffer, error) {
	out := prefixed(len(raw.B) / 2)
	w, err := comp.Compress(out)
	if err == nil {
		if _, err = w.Write(raw.B[PrefixLen:]); err == nil {
			err = w.Close()
		}
	}
	if err == nil {
		if err := check(limit, SentCompressed, len(out.B)-PrefixLen); err != nil {
			out.Free()
			return nil, err
		}
		return out, nil
	}
	// The compressor may still hold on to out: it is not pooled again.
	return nil, fault.CodecMarshal.Newf(fault.Args{Side: fault.Local, Cause: err, Evidence: &fault.Evidence{Encoding: comp.Name()}},
		"error while compressing: compressor %q: %v", comp.Name(), err)
}

// Bounds of the first piece of memory for a message that is decompressed: what
// a peer or a compressor claims about its size never allocates more.
const (
	minInflate = 1 << 10
	maxInflate = 64 << 10
)

// Decompress returns the decompressed message, which is the caller's to free.
// It never inflates more than one byte beyond the limit: then the error is a
// *fault.Fault codec.too-large. Any other error is plain and means that p is
// not what comp makes. p is lent: comp must not read it after the return.
func Decompress(comp Compressor, p []byte, limit Limit) (*Buffer, error) {
	r, err := comp.Decompress(bytes.NewReader(p))
	if err != nil {
		return nil, err
	}
	if c, ok := r.(io.Closer); ok {
		defer c.Close() // what it has to say about the data, Read has said
	}
	b := GetBuffer(firstRoom(comp, p, limit.Bytes))
	for idle := 0; ; {
		b.grow(1)
		room := b.B[len(b.B):cap(b.B)]
		if left := max(limit.Bytes, 0) - len(b.B); left < len(room) {
			room = room[:left+1] // the byte that proves the excess
		}
		n, err := r.Read(room)
		if n < 0 || n > len(room) {
			b.Free()
			return nil, fmt.Errorf("decompressor %q returns a count of %d for a buffer of %d", comp.Name(), n, len(room))
		}
		b.B = b.B[:len(b.B)+n]
		if len(b.B) > limit.Bytes {
			b.Free()
			return nil, limit.Exceeded(ReceivedInflated, -1)
		}
		if err == io.EOF {
			return b, nil
		}
		if n > 0 {
			idle = 0
		} else if idle++; err == nil && idle == 100 {
			err = io.ErrNoProgress
		}
		if err != nil {
			b.Free()
			return nil, err
		}
	}
}

// firstRoom guesses how much memory the decompressed message takes.
func firstRoom(comp Compressor, p []byte, limit int) int {
	n := 4 * min(len(p), maxInflate)
	if s, ok := comp.(interface{ DecompressedSize([]byte) int }); ok {
		if hint := s.DecompressedSize(p); hint > 0 {
			n = hint + 1 // and room to meet the end without growing
		}
	}
	return min(max(n, minInflate), maxInflate, max(limit, 0)+1)
}
