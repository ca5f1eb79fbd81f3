// SPDX-License-Identifier: Apache-2.0

package hpack

import (
	"errors"
	"strings"
	"testing"

	xhpack "golang.org/x/net/http2/hpack"
)

// FuzzDecode feeds the same blocks to both decoders. data is a list of blocks,
// each after its length in one byte.
func FuzzDecode(f *testing.F) {
	for _, ex := range rfcExamples {
		var data []byte
		for _, s := range ex.steps {
			b := unhex(f, s.hex)
			data = append(append(data, byte(len(b))), b...)
		}
		f.Add(uint16(4096), data)
	}
	f.Add(uint16(100), []byte("\x05\x40\x01a\x01b\x01\xbe\x01\xbe\x01\xbe\x01\x20\x01\xbe"))
	f.Add(uint16(100), []byte("\x05\x40\x01a\x01b\x04\x3f\x30\x3f\x30"))
	f.Add(uint16(100), []byte("\x03\x3f\x25\x20\x06\x7f\x00\x01b\x82\x82\x07\xff\x80\x80\x80\x80\x80\x00"))
	f.Fuzz(func(t *testing.T, maxList uint16, data []byte) {
		d := NewDecoder(4096, uint32(maxList))
		x := xhpack.NewDecoder(4096, nil)
		for len(data) > 0 {
			n := min(int(data[0]), len(data)-1)
			if !sameBlock(t, d, x, data[1:1+n]) {
				return
			}
			data = data[1+n:]
		}
	})
}

// sameBlock reports whether both accepted the block.
func sameBlock(t *testing.T, d *Decoder, x *xhpack.Decoder, p []byte) bool {
	b, err := d.Decode(p)
	want, xerr := x.DecodeFull(p)
	switch {
	case err != nil && xerr != nil:
		return false
	case err != nil: // x/net takes any number of updates, anywhere while its table is empty, and integers padded with zeros
		if !errors.Is(err, errUpdateMany) && !errors.Is(err, errUpdateLate) && !errors.Is(err, errInteger) {
			t.Fatalf("%x: %v, x/net accepts it", p, err)
		}
		return false
	case xerr != nil && twoUpdates(p): // x/net takes the second only when its table is empty
		return false
	case xerr != nil:
		t.Fatalf("%x: x/net: %v, accepted here", p, xerr)
	}
	var size uint32
	for i, f := range want {
		size += f.Size()
		if size <= d.maxList && (i >= len(b.Fields) || b.Fields[i].Name != f.Name || b.Fields[i].Value != f.Value || (b.Fields[i].Index == Never) != f.Sensitive) {
			t.Fatalf("%x: %q, x/net %v", p, b.Fields, want)
		}
		if size > d.maxList && i < len(b.Fields) {
			t.Fatalf("%x: %d fields beyond the limit", p, len(b.Fields)-i)
		}
	}
	if size != b.Size || b.TooLarge != (size > d.maxList) || len(b.Fields) > len(want) {
		t.Fatalf("%x: size %d, too large %v, %d fields; x/net %d of %d", p, b.Size, b.TooLarge, len(b.Fields), size, len(want))
	}
	return true
}

// twoUpdates reports whether p begins with two table size updates.
func twoUpdates(p []byte) bool {
	if len(p) == 0 {
		return false
	}
	_, rest, err := readInt(p, 5)
	return err == nil && p[0]&0xe0 == 0x20 && len(rest) > 0 && rest[0]&0xe0 == 0x20
}

// FuzzRoundTrip runs a program of blocks and SETTINGS through our encoder and
// both decoders. Each byte of prog is a step: a field, or the end of a block.
func FuzzRoundTrip(f *testing.F) {
	f.Add([]byte("abcabc\xffabc\xffabc\xff\xf0abc\xff\xf1abc\xff"), "v")
	f.Add([]byte("aaaa\xff\xffAAAA\xff\xf3zzzz\xffzz\xff\xfe\xff\xfd\xff"), strings.Repeat("long", 100))
	f.Add([]byte("\xe0\xe1\xff\xe0\xff\xe1\xff\xe0\xf8\xff\xe0\xff"), "")
	f.Fuzz(func(t *testing.T, prog []byte, text string) {
		p := newPair(t)
		templates := [8]*Template{}
		var tmpl *Template
		var fields []Field
		for i, c := range prog {
			switch {
			case c == 0xff:
				p.send(tmpl, fields...)
				tmpl, fields = nil, fields[:0]
			case c >= 0xf0:
				p.setMax(uint32(c&0x0f) * 300)
			case c >= 0xe0:
				k := c % 8
				if templates[k] == nil {
					templates[k] = NewTemplate(append(fields, Field{Name: "t", Value: text})...)
				}
				tmpl = templates[k]
			default:
				name := "n" + string(rune('a'+c%8))
				if c%8 == 7 {
					name = static[1+i%staticLen].Name
				}
				value := text[min(int(c), len(text)):]
				if c&8 != 0 {
					value += string(rune(i))
				}
				fields = append(fields, Field{Name: name, Value: value, Index: Index(c >> 4 % 3)})
			}
		}
		p.send(tmpl, fields...)
	})
}
