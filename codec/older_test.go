// SPDX-License-Identifier: Apache-2.0

package codec

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/faultline-rpc/faultline/fault"
)

// doubled is an older compressor that writes everything twice.
type doubled struct{}

func (doubled) Type() string { return "doubled" }

func (doubled) Do(w io.Writer, p []byte) error {
	_, err := fmt.Fprintf(w, "%s%s", p, p)
	return err
}

type halved struct{}

func (halved) Type() string { return "doubled" }

func (halved) Do(r io.Reader) ([]byte, error) {
	p, err := io.ReadAll(r)
	if len(p)%2 == 1 {
		err = errors.New("odd")
	}
	return p[:len(p)/2], err
}

type words struct{}

func (words) String() string                  { return "words" }
func (words) Marshal(v any) ([]byte, error)   { return nil, fmt.Errorf("%T has no words", v) }
func (words) Unmarshal(p []byte, v any) error { return nil }

func TestOlderNil(t *testing.T) {
	if FromCompressor(nil) != nil || FromDecompressor(nil) != nil {
		t.Error("nil becomes something")
	}
}

func TestOlderPair(t *testing.T) {
	in, out := FromDecompressor(halved{}), FromCompressor(doubled{})
	b, s, err := Codec{}.Encode(wrapperspb.String("abc"), out, generous)
	if err != nil || s != (Sizes{Length: 5, CompressedLength: 10, WireLength: 15}) {
		t.Fatalf("%+v, %v", s, err)
	}
	defer b.Free()
	for limit, ok := range map[int]bool{4: false, 5: true} {
		z, err := Decompress(in, b.B[PrefixLen:], Limit{Bytes: limit})
		if !ok {
			wantFault(t, err, fault.CodecTooLarge, codes.ResourceExhausted, "after decompression")
			continue
		}
		if err != nil || !bytes.Equal(z.B, b.B[PrefixLen:PrefixLen+5]) {
			t.Errorf("% x, %v", z.B, err)
		}
		z.Free()
	}
	if _, err := Decompress(in, []byte("abc"), generous); err == nil || err.Error() != "odd" {
		t.Errorf("%v, want the decompressor's own error", err)
	}
}

func TestOlderCompressorTakesPieces(t *testing.T) {
	var b bytes.Buffer
	w, err := FromCompressor(doubled{}).Compress(&b)
	if err != nil {
		t.Fatal(err)
	}
	first := []byte("ab")
	for _, p := range [][]byte{first[:1], []byte("c")} {
		if n, err := w.Write(p); n != len(p) || err != nil {
			t.Fatal(n, err)
		}
	}
	if err := w.Close(); err != nil || b.String() != "acac" || string(first) != "ab" {
		t.Errorf("%q, %q, %v, want each twice and the caller's bytes untouched", b.String(), first, err)
	}
}

// TestOlderGzipIsBounded: grpc-go's own older gzip would inflate a bomb whole.
func TestOlderGzipIsBounded(t *testing.T) {
	if FromDecompressor(grpc.NewGZIPDecompressor()) != gz(t) {
		t.Error("it is not the registered gzip")
	}
}

func TestOlderIsAnnouncedAndFound(t *testing.T) {
	own := FromDecompressor(halved{})
	if got := Supported(own, "doubled"); got != "gzip,doubled" {
		t.Errorf("Supported = %q, want gzip,doubled", got)
	}
	for name, want := range map[string]Compressor{"doubled": own, "gzip": gz(t), "identity": nil} {
		if got, ok := LookupCompressor(name, own); got != want || !ok {
			t.Errorf("LookupCompressor(%q) = %v, %v", name, got, ok)
		}
	}
	if got, ok := LookupCompressor("halved", own); got != nil || ok {
		t.Errorf("LookupCompressor found %v", got)
	}
}

func TestOlderCodecIsNamedInErrorsOnly(t *testing.T) {
	c := FromV0(words{})
	if c.Name() != "" {
		t.Errorf("Name = %q, want none", c.Name())
	}
	_, _, err := c.Encode(1, nil, generous)
	wantFault(t, err, fault.CodecMarshal, codes.Internal, `error while marshaling: codec "words", int: int has no words`)
}
