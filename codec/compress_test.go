// SPDX-License-Identifier: Apache-2.0

package codec

import (
	"bytes"
	"compress/gzip"
	"encoding/binary"
	"errors"
	"io"
	"runtime"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/encoding"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/faultline-rpc/faultline/fault"
)

// scripted is a compressor that does what a test says.
type scripted struct {
	name    string
	out     []byte // what compressing yields
	failure error
	reader  io.Reader
	hint    int
}

func (s *scripted) Name() string { return s.name }

func (s *scripted) Compress(w io.Writer) (io.WriteCloser, error) {
	return &scriptedWriter{s: s, w: w}, nil
}

func (s *scripted) Decompress(io.Reader) (io.Reader, error) { return s.reader, s.failure }

func (s *scripted) DecompressedSize([]byte) int { return s.hint }

type scriptedWriter struct {
	s *scripted
	w io.Writer
}

func (w *scriptedWriter) Write(p []byte) (int, error) { return len(p), w.s.failure }

func (w *scriptedWriter) Close() error {
	_, err := w.w.Write(w.s.out)
	return err
}

func init() { encoding.RegisterCompressor(&scripted{name: "test-private"}) }

func gzipOf(t testing.TB, p []byte) []byte {
	t.Helper()
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	if _, err := w.Write(p); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func gz(t testing.TB) Compressor {
	t.Helper()
	c, ok := LookupCompressor("gzip", nil)
	if !ok || c == nil {
		t.Fatal("gzip is not registered")
	}
	return c
}

func TestLookupCompressor(t *testing.T) {
	for _, name := range []string{"", "identity"} {
		if c, ok := LookupCompressor(name, nil); c != nil || !ok {
			t.Errorf("LookupCompressor(%q) = %v, %v, want nil, true", name, c, ok)
		}
	}
	if c, ok := LookupCompressor("test-missing", nil); c != nil || ok {
		t.Errorf("an unregistered compressor was found: %v", c)
	}
}

func TestSupported(t *testing.T) {
	if got := Supported(nil); got != "gzip" {
		t.Errorf("Supported() = %q, want gzip", got)
	}
	if got := Supported(nil, "test-private", "gzip", "identity", "", "test-missing", "test-private"); got != "gzip,test-private" {
		t.Errorf("Supported(...) = %q, want gzip,test-private", got)
	}
}

func TestCompressRoundTrip(t *testing.T) {
	for _, n := range []int{1, 100, 70_000, 3 << 20} {
		in := wrapperspb.String(strings.Repeat("abcdefg ", n/8+1))
		b, s, err := Codec{}.Encode(in, gz(t), generous)
		if err != nil {
			t.Fatal(err)
		}
		if b.B[0] != 1 || int(binary.BigEndian.Uint32(b.B[1:])) != len(b.B)-PrefixLen {
			t.Errorf("prefix % x of %d bytes", b.B[:PrefixLen], len(b.B))
		}
		if want := (Sizes{Length: proto.Size(in), CompressedLength: len(b.B) - PrefixLen, WireLength: len(b.B)}); s != want {
			t.Errorf("sizes %+v, want %+v", s, want)
		}
		z, err := Decompress(gz(t), b.B[PrefixLen:], Limit{Bytes: s.Length})
		if err != nil {
			t.Fatalf("a message of just the limit's size: %v", err)
		}
		out := new(wrapperspb.StringValue)
		if err := (Codec{}).Decode(z.B, out); err != nil || !proto.Equal(in, out) {
			t.Errorf("%d bytes: not what was sent (%v)", n, err)
		}
		z.Free()
		_, err = Decompress(gz(t), b.B[PrefixLen:], Limit{Bytes: s.Length - 1, Option: "MaxRecvMsgSize"})
		f := wantFault(t, err, fault.CodecTooLarge, codes.ResourceExhausted, "received message after decompression larger than max")
		if ev := f.Evidence(); ev.Option != "MaxRecvMsgSize" || ev.Limit != int64(s.Length-1) || ev.Size != 0 {
			t.Errorf("evidence %+v", ev)
		}
		b.Free()
	}
}

func TestEmptyMessageIsNotCompressed(t *testing.T) {
	b, s, err := Codec{}.Encode(new(wrapperspb.StringValue), gz(t), generous)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(b.B, make([]byte, PrefixLen)) || s != (Sizes{WireLength: PrefixLen}) {
		t.Errorf("% x, sizes %+v, want an empty message without flag", b.B, s)
	}
	b.Free()
}

func TestCompressLimits(t *testing.T) {
	m := wrapperspb.Bytes(make([]byte, 98)) // 100 bytes marshaled, fewer compressed
	_, _, err := Codec{}.Encode(m, gz(t), Limit{Bytes: 99})
	wantFault(t, err, fault.CodecTooLarge, codes.ResourceExhausted, "trying to send message larger than max: 100 bytes")
	fat := &scripted{name: "fat", out: make([]byte, 101)}
	_, _, err = Codec{}.Encode(m, fat, Limit{Bytes: 100})
	wantFault(t, err, fault.CodecTooLarge, codes.ResourceExhausted, "trying to send message (compressed) larger than max: 101 bytes")
}

func TestCompressorFails(t *testing.T) {
	cause := errors.New("out of dictionary")
	_, _, err := Codec{}.Encode(wrapperspb.Int64(1), &scripted{name: "broken", failure: cause}, generous)
	f := wantFault(t, err, fault.CodecMarshal, codes.Internal, `error while compressing: compressor "broken": out of dictionary`)
	if !errors.Is(err, cause) || f.Evidence().Encoding != "broken" {
		t.Errorf("%v, evidence %+v", err, f.Evidence())
	}
}

// TestDecompressionBomb sends 24 KiB that inflate to 24 MiB. What is allocated
// must follow the limit, not the bomb.
func TestDecompressionBomb(t *testing.T) {
	bomb := gzipOf(t, make([]byte, 24<<20))
	comp := gz(t)
	const limit = 256 << 10
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	_, err := Decompress(comp, bomb, Limit{Bytes: limit})
	runtime.ReadMemStats(&after)
	wantFault(t, err, fault.CodecTooLarge, codes.ResourceExhausted, "after decompression")
	if n := after.TotalAlloc - before.TotalAlloc; n > 8*limit {
		t.Errorf("%d bytes were allocated for a limit of %d", n, limit)
	}
}

func TestSizeHintIsNotTrusted(t *testing.T) {
	for _, hint := range []int{-1, 0, 1, 1 << 30} {
		comp := &scripted{name: "liar", hint: hint, reader: strings.NewReader("hello")}
		b, err := Decompress(comp, []byte("z"), Limit{Bytes: 4 << 20})
		if err != nil || string(b.B) != "hello" || cap(b.B) > maxInflate {
			t.Fatalf("hint %d: %q, capacity %d, %v", hint, b.B, cap(b.B), err)
		}
		b.Free()
	}
}

type readFunc func(p []byte) (int, error)

func (f readFunc) Read(p []byte) (int, error) { return f(p) }

func TestDecompressorMisbehaves(t *testing.T) {
	cause := errors.New("bad checksum")
	for name, c := range map[string]struct {
		comp  *scripted
		text  string
		limit int
	}{
		"does not start":  {&scripted{failure: cause}, "bad checksum", 100},
		"fails late":      {&scripted{reader: io.MultiReader(strings.NewReader("abc"), readFunc(func([]byte) (int, error) { return 0, cause }))}, "bad checksum", 100},
		"never advances":  {&scripted{reader: readFunc(func([]byte) (int, error) { return 0, nil })}, "multiple Read calls", 100},
		"counts too high": {&scripted{reader: readFunc(func(p []byte) (int, error) { return len(p) + 1, nil })}, "returns a count of", 100},
		"counts negative": {&scripted{reader: readFunc(func([]byte) (int, error) { return -1, nil })}, "returns a count of -1", 100},
	} {
		_, err := Decompress(c.comp, nil, Limit{Bytes: c.limit})
		if _, isFault := fault.From(err); err == nil || isFault || !strings.Contains(err.Error(), c.text) {
			t.Errorf("%s: %v, want a plain error with %q", name, err, c.text)
		}
	}
}

func TestCorruptGzip(t *testing.T) {
	good := gzipOf(t, []byte(strings.Repeat("some text ", 100)))
	flipped := bytes.Clone(good)
	flipped[len(flipped)-6] ^= 0x55 // the checksum
	for name, p := range map[string][]byte{"empty": nil, "text": []byte("no gzip at all"), "cut": good[:len(good)-9], "flipped": flipped, "trailing": append(bytes.Clone(good), "tail"...)} {
		_, err := Decompress(gz(t), p, Limit{Bytes: 4 << 20})
		if _, isFault := fault.From(err); err == nil || isFault {
			t.Errorf("%s: %v, want a plain error", name, err)
		}
		// The pooled decompressor works on.
		b, err := Decompress(gz(t), good, Limit{Bytes: 4 << 20})
		if err != nil || len(b.B) != 1000 {
			t.Fatalf("after %s: %v", name, err)
		}
		b.Free()
	}
}

func TestZeroAndNegativeLimits(t *testing.T) {
	empty, one := gzipOf(t, nil), gzipOf(t, []byte("x"))
	b, err := Decompress(gz(t), empty, Limit{})
	if err != nil || len(b.B) != 0 {
		t.Fatalf("an empty message under a limit of 0: %v", err)
	}
	b.Free()
	_, err = Decompress(gz(t), one, Limit{})
	wantFault(t, err, fault.CodecTooLarge, codes.ResourceExhausted, "0 bytes")
	_, err = Decompress(gz(t), one, Limit{Bytes: -1})
	wantFault(t, err, fault.CodecTooLarge, codes.ResourceExhausted, "-1 bytes")
}

type closeCounter struct {
	io.Reader
	closed int
}

func (c *closeCounter) Close() error { c.closed++; return nil }

func TestDecompressorIsClosedOnce(t *testing.T) {
	for _, limit := range []int{100, 2} {
		r := &closeCounter{Reader: strings.NewReader("hello")}
		b, _ := Decompress(&scripted{reader: r}, nil, Limit{Bytes: limit})
		b.Free()
		if r.closed != 1 {
			t.Errorf("limit %d: closed %d times, want once", limit, r.closed)
		}
	}
}

func FuzzDecompress(f *testing.F) {
	good := gzipOf(f, []byte("hello, hello, hello"))
	f.Add(good)
	f.Add(good[:len(good)-3])
	f.Add([]byte{0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 0})
	f.Add([]byte{})
	comp := gz(f)
	f.Fuzz(func(t *testing.T, p []byte) {
		const limit = 1 << 12
		b, err := Decompress(comp, p, Limit{Bytes: limit})
		if err != nil {
			if fl, ok := fault.From(err); ok && fl.ID() != "codec.too-large" {
				t.Errorf("fault %s", fl.ID())
			}
			return
		}
		if len(b.B) > limit {
			t.Errorf("%d bytes, limit %d", len(b.B), limit)
		}
		b.Free()
	})
}
