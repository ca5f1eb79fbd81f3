// SPDX-License-Identifier: Apache-2.0

package hpack

import (
	"encoding/hex"
	"fmt"
	"strings"
	"testing"
	"unsafe"

	xhpack "golang.org/x/net/http2/hpack"
)

// pair checks each block of an encoder with our decoder and x/net's.
type pair struct {
	t   testing.TB
	enc *Encoder
	dec *Decoder
	x   *xhpack.Decoder
	buf []byte
}

func newPair(t testing.TB) *pair {
	return &pair{t: t, enc: NewEncoder(), dec: NewDecoder(4096, 1<<24), x: xhpack.NewDecoder(4096, nil)}
}

// setMax is the SETTINGS of the decoders, acknowledged.
func (p *pair) setMax(n uint32) {
	p.enc.SetMaxTableSize(n)
	p.dec.SetAllowedMaxTableSize(n)
	p.x.SetAllowedMaxDynamicTableSize(n)
}

// send encodes a block, checks what arrives, and returns the bytes.
func (p *pair) send(t *Template, fields ...Field) []byte {
	p.t.Helper()
	p.buf = p.enc.Append(append(p.buf[:0], "head"...), t, fields)
	block := p.buf[4:]
	want := fields
	if t != nil {
		want = append(append([]Field(nil), t.Fields()...), fields...)
	}
	b, err := p.dec.Decode(block)
	if err != nil {
		p.t.Fatalf("block %x of %q: %v", block, want, err)
	}
	x, err := p.x.DecodeFull(block)
	if err != nil {
		p.t.Fatalf("block %x of %q: x/net: %v", block, want, err)
	}
	if len(b.Fields) != len(want) || len(x) != len(want) {
		p.t.Fatalf("block %x: %q, x/net %v, want %q", block, b.Fields, x, want)
	}
	for i, f := range want {
		never := f.Index == Never
		if g := b.Fields[i]; g.Name != f.Name || g.Value != f.Value || (g.Index == Never) != never {
			p.t.Fatalf("block %x, field %d: %q, want %q", block, i, g, f)
		}
		if g := x[i]; g.Name != f.Name || g.Value != f.Value || g.Sensitive != never {
			p.t.Fatalf("block %x, field %d: x/net %v, want %q", block, i, g, f)
		}
	}
	if n := p.dec.table.n; n != p.enc.ins || p.dec.table.size != p.enc.size || p.enc.size > p.enc.max {
		p.t.Fatalf("decoder holds %d entries of %d bytes, encoder counts %d of %d", n, p.dec.table.size, p.enc.ins, p.enc.size)
	}
	return block
}

var request = NewTemplate(
	Field{Name: ":method", Value: "POST"}, Field{Name: ":scheme", Value: "http"},
	Field{Name: ":path", Value: "/echo.Echo/Unary"}, Field{Name: ":authority", Value: "127.0.0.1:50051"},
	Field{Name: "content-type", Value: "application/grpc"}, Field{Name: "user-agent", Value: "test/1.0"}, Field{Name: "te", Value: "trailers"},
)

func TestTemplateIsIndexedAtOnce(t *testing.T) {
	p := newPair(t)
	p.send(request)
	second := hex.EncodeToString(p.send(request))
	if want := "8386c2c1c0bfbe"; second != want {
		t.Errorf("second block %s, want %s", second, want)
	}
	p.send(nil, Field{Name: "x", Value: "y"})
	if third, want := hex.EncodeToString(p.send(request)), "8386c3c2c1c0bf"; third != want {
		t.Errorf("after an insertion %s, want %s", third, want)
	}
}

func TestAuto(t *testing.T) {
	p := newPair(t)
	f := func(v string) Field { return Field{Name: "key", Value: v} }
	for _, tt := range []struct{ value, want string }{
		{"a", "40"}, // first use: inserted for the name's sake
		{"a", "be"},
		{"b", "0f2f0162"},    // seen once: literal, name by index 62
		{"c", "0f2f0163"},    // another
		{"c", "7e0163"},      // twice running: inserted
		{"c", "be"},          // and there it is
		{"a", "bf"},          // as is the first
		{"b", "0f2f0162"},    // the fingerprint is of c: b must come twice again
		{"b", "7e0162"},      //
		{"b", "be"},          //
		{"", "0f2f00"},       //
		{"", "7e00"},         // the empty value is a value
		{"", "be"},           //
		{"z", "0f2f017a"},    //
		{"\xff", "0f2f01ff"}, // bytes that Huffman makes longer go as they are
	} {
		if got := hex.EncodeToString(p.send(nil, f(tt.value))); !strings.HasPrefix(got, tt.want) {
			t.Errorf("%q: %s, want %s", tt.value, got, tt.want)
		}
	}
	// A name of the static table needs no insertion.
	if got := hex.EncodeToString(p.send(nil, Field{Name: "etag", Value: "1"})); got != "0f130131" {
		t.Errorf("etag: %s, want 0f130131", got)
	}
	if got := hex.EncodeToString(p.send(nil, Field{Name: ":status", Value: "404"})); got != "8d" {
		t.Errorf(":status 404: %s, want 8d", got)
	}
}

func TestLiteralIsNotRetained(t *testing.T) {
	p := newPair(t)
	mem := []byte("grpc-timeout100m")
	lit := Field{Name: unsafe.String(&mem[0], 12), Value: unsafe.String(&mem[12], 4), Index: Literal}
	p.send(nil, lit)
	p.send(nil, lit)
	copy(mem, "another-name200u")
	p.send(nil, lit)
	copy(mem, "????????????????")
	for _, f := range []Field{{Name: "grpc-timeout", Value: "100m"}, {Name: "another-name", Value: "200u"}} {
		if b := p.send(nil, f); len(b) != 1 || b[0]&0x80 == 0 {
			t.Errorf("%v: %x, want an index: the first use inserted a copy", f, b)
		}
		f.Value, f.Index = "1S", Literal
		for range 3 {
			if b := p.send(nil, f); b[0]&0xf0 != 0 || len(b) != 5 {
				t.Errorf("%v: %x, want a literal of 5 bytes that is not indexed", f, b)
			}
		}
	}
}

func TestNever(t *testing.T) {
	p := newPair(t)
	for _, f := range []Field{{"authorization", "Bearer x", Never}, {"secret-bin", "AAAA", Never}} {
		for range 3 {
			if b := p.send(nil, f); b[0]&0xf0 != 0x10 {
				t.Errorf("%v: %x, want a never-indexed literal", f, b)
			}
		}
	}
	if p.enc.ins != 0 {
		t.Errorf("%d entries in the table, want none", p.enc.ins)
	}
	p.send(nil, Field{Name: "secret-bin", Value: "public"})
	if got := hex.EncodeToString(p.send(nil, Field{"secret-bin", "A", Never})); got != "1f2f0141" {
		t.Errorf("name in the table: %s, want 1f2f0141", got)
	}
}

func TestSetMaxTableSize(t *testing.T) {
	p := newPair(t)
	f := Field{Name: "k", Value: "v"}
	for _, tt := range []struct {
		set  []uint32
		want string
	}{
		{nil, "40016b0176"},
		{[]uint32{4096}, "be"},
		{[]uint32{0}, "2000016b0176"},
		{nil, "00016b0176"},
		{[]uint32{4096}, "203fe11f40016b0176"},
		{[]uint32{0, 4096}, "203fe11f40016b0176"}, // the smallest in between must be told
		{[]uint32{30, 300}, "203f8d0240016b0176"},
		{nil, "be"},
	} {
		for _, n := range tt.set {
			p.setMax(n)
		}
		if got := hex.EncodeToString(p.send(nil, f)); got != tt.want {
			t.Errorf("after %v: %s, want %s", tt.set, got, tt.want)
		}
	}
	p.enc.SetMaxTableSize(1 << 30) // more than 4096 is not used
	if got := hex.EncodeToString(p.enc.Append(nil, nil, nil)); got != "203fe11f" {
		t.Errorf("after 1<<30: %s, want an update to 4096", got)
	}
}

func TestFullTableIsLearnedAnew(t *testing.T) {
	p := newPair(t)
	for i := range 200 { // fill the table with what will not come again
		p.send(nil, Field{Name: fmt.Sprintf("filler-%03d", i), Value: "x"})
	}
	gen, bytes := p.enc.gen, 0
	for p.enc.gen == gen {
		b := p.send(request)
		if bytes += len(b); bytes > 2*relearnAfter {
			t.Fatal("the table was never emptied")
		}
	}
	if got := len(p.send(request)); got != 7 {
		t.Errorf("in the new generation the template takes %d bytes, want 7", got)
	}
}

func TestVaryingValuesDoNotFillTheTable(t *testing.T) {
	p := newPair(t)
	for i := range 3000 {
		v := fmt.Sprint(i, "u")
		p.send(request, Field{Name: "grpc-timeout", Value: v, Index: Literal}, Field{Name: "trace", Value: v + v})
	}
	if p.enc.ins != 7 || p.enc.gen != 0 {
		t.Errorf("%d entries in generation %d, want 7 in 0", p.enc.ins, p.enc.gen)
	}
}

func TestEncoderIsBounded(t *testing.T) {
	p := newPair(t)
	for i := range 3000 {
		f := Field{Name: fmt.Sprint("n", i), Value: "v"}
		p.send(NewTemplate(f), Field{Name: fmt.Sprint("m", i), Value: "v"}, Field{Name: strings.Repeat("x", 600), Value: "v"})
	}
	if n, m := len(p.enc.names), len(p.enc.templates); n > maxNames || m > maxTemplates {
		t.Errorf("%d names, %d templates", n, m)
	}
	before := p.enc.spent
	for range 10000 { // names beyond the bound still cause a new generation in the end
		p.send(nil, Field{Name: "late-comer", Value: "v"})
		if p.enc.spent < before {
			return
		}
		before = p.enc.spent
	}
	if len(p.send(nil, Field{Name: "late-comer", Value: "v"})) != 1 {
		t.Error("a name that came late is never indexed")
	}
}
