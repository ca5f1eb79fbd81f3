// SPDX-License-Identifier: Apache-2.0

package hpack

import (
	"bytes"
	"reflect"
	"strings"
	"testing"
	"unsafe"
)

func decode(t testing.TB, d *Decoder, hex string) *Block {
	t.Helper()
	b, err := d.Decode(unhex(t, hex))
	if err != nil {
		t.Fatalf("%s: %v", hex, err)
	}
	return b
}

func TestDecodeErrors(t *testing.T) {
	long := appendInt([]byte{0x00, 0x01, 'a'}, 0, 7, 64<<10+1)
	for _, tt := range []struct {
		name, in, want string
	}{
		{"index 0", "80", "hpack: index 0, expected 1 or more"},
		{"index beyond the table", "be", "hpack: index 62, expected at most 61"},
		{"huge index", "ff80ffffff0f", "hpack: index 4294967295, expected at most 61"},
		{"name index beyond the table", "7f000161", "hpack: index 63, expected at most 61"},
		{"index cut off", "ff80", errTruncated.Error()},
		{"name cut off", "400a6375", errTruncated.Error()},
		{"value missing", "41", errTruncated.Error()},
		{"value cut off", "41056162", errTruncated.Error()},
		{"integer too long", "ff808080808000", errInteger.Error()},
		{"EOS in a string", "4184ffffffff", errHuffman.Error()},
		{"padding of zeros", "418100", errHuffman.Error()},
		{"update inside a block", "8220", errUpdateLate.Error()},
		{"three updates", "202020", errUpdateMany.Error()},
		{"update too large", "3fe21f", "hpack: table size update to 4097, expected at most 4096"},
		{"string too long", string(long), "hpack: string of 65537 bytes, expected at most 65536"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			in := []byte(tt.in)
			if tt.name != "string too long" {
				in = unhex(t, tt.in)
			}
			d := NewDecoder(4096, 16<<10)
			_, err := d.Decode(in)
			if err == nil || err.Error() != tt.want {
				t.Fatalf("error %v, want %s", err, tt.want)
			}
			if _, again := d.Decode([]byte{0x82}); again != err {
				t.Errorf("after an error: %v, want the same error", again)
			}
		})
	}
}

func TestDecodeSharesStrings(t *testing.T) {
	d := NewDecoder(4096, 16<<10)
	first := decode(t, d, "400161 0162").Fields[0]
	again := decode(t, d, "82be").Fields[1]
	if again != first || unsafe.StringData(again.Value) != unsafe.StringData(first.Value) || unsafe.StringData(again.Name) != unsafe.StringData(first.Name) {
		t.Errorf("a table hit gave %v, want the strings of the insertion", again)
	}
}

func TestLasting(t *testing.T) {
	d := NewDecoder(4096, 16<<10)
	decode(t, d, "400161 0162")
	if b := decode(t, d, "82be"); b.Lasting {
		t.Fatal("lasting at first sight")
	}
	b := decode(t, d, "82be")
	want := []Field{{Name: ":method", Value: "GET"}, {Name: "a", Value: "b"}}
	if !b.Lasting || !reflect.DeepEqual(b.Fields, want) || b.Size != 42+34 {
		t.Fatalf("second sight: %+v", b)
	}
	b.Memo = "read"
	decode(t, d, "8200016100") // a literal changes nothing
	if c := decode(t, d, "82be"); c != b || c.Memo != "read" {
		t.Fatalf("third sight: %+v, want the same block", c)
	}

	decode(t, d, "400163 0164") // insertion: index 62 means another entry
	for range 3 {
		c := decode(t, d, "82be")
		if c == b || c.Fields[1] != (Field{Name: "c", Value: "d"}) {
			t.Fatalf("after an insertion: %+v", c)
		}
	}
	if !reflect.DeepEqual(b.Fields, want) {
		t.Errorf("a lasting block changed: %+v", b)
	}
	if c := decode(t, d, "3fe11f 82be"); c.Lasting || len(c.Fields) != 2 {
		t.Errorf("block with an update to the same size: %+v", c)
	}
	decode(t, d, "20")
	if _, err := d.Decode(unhex(t, "82be")); err == nil {
		t.Error("index 62 accepted after the table was emptied")
	}
}

func TestLastingAmongMany(t *testing.T) {
	d := NewDecoder(4096, 16<<10)
	for range 3 {
		for i := byte(1); i <= 8; i++ {
			d.Decode([]byte{0x80 | i})
		}
	}
	for i := byte(1); i <= 8; i++ {
		b, err := d.Decode([]byte{0x80 | i})
		if err != nil || !b.Lasting || b.Fields[0] != static[i] {
			t.Errorf("block %d: %+v, %v", i, b, err)
		}
	}
	for i := byte(9); i <= 61; i++ { // more than are cached: decoded all the same
		for range 2 {
			if b, err := d.Decode([]byte{0x80 | i, 0x88}); err != nil || b.Fields[0] != static[i] || len(b.Fields) != 2 {
				t.Errorf("block %d: %+v, %v", i, b, err)
			}
		}
	}
}

func TestTableSizeAfterSettings(t *testing.T) {
	d := NewDecoder(100, 16<<10)
	decode(t, d, "400161 0162") // the peer has not seen our SETTINGS: 4096 apply
	decode(t, d, "be")
	decode(t, d, "be")
	d.SetAllowedMaxTableSize(100)
	const want = "hpack: no table size update after SETTINGS_HEADER_TABLE_SIZE 100 was acknowledged, the table's size is 4096"
	if _, err := d.Decode(unhex(t, "be")); err == nil || err.Error() != want {
		t.Errorf("without update: %v, want %s", err, want)
	}

	d = NewDecoder(100, 16<<10)
	d.SetAllowedMaxTableSize(100)
	decode(t, d, "20 3f45 400161 0162") // to 0, then to 100
	if b := decode(t, d, "be"); b.Fields[0].Value != "b" || d.table.max != 100 {
		t.Errorf("after update: %+v, table max %d", b, d.table.max)
	}
	if _, err := d.Decode(unhex(t, "3f46")); err == nil || err.Error() != "hpack: table size update to 101, expected at most 100" {
		t.Errorf("update to 101: %v", err)
	}

	d = NewDecoder(65536, 16<<10)
	decode(t, d, "3fe1ff03") // to 65536
	if d.table.max != 65536 {
		t.Errorf("table max %d, want 65536", d.table.max)
	}
}

func TestEvictionAndOversizedEntry(t *testing.T) {
	d := NewDecoder(4096, 16<<10)
	decode(t, d, "3f25") // 68 bytes: two entries of 34
	decode(t, d, "400161 0162")
	decode(t, d, "400163 0164")
	decode(t, d, "400165 0166")
	if b := decode(t, d, "bebf"); b.Fields[0].Name != "e" || b.Fields[1].Name != "c" || d.table.n != 2 {
		t.Errorf("after an eviction: %+v", b)
	}
	big := appendString([]byte{0x40, 0x01, 'x'}, strings.Repeat("y", 36))
	if b, err := d.Decode(big); err != nil || len(b.Fields) != 1 || d.table.n != 0 || d.table.size != 0 {
		t.Errorf("entry larger than the table: %+v, %v, %d entries of %d bytes", b, err, d.table.n, d.table.size)
	}
	if f := d.table.ents; f[0] != (Field{}) || f[1] != (Field{}) || f[2] != (Field{}) {
		t.Error("evicted entries are still held")
	}
}

func TestTooLarge(t *testing.T) {
	d := NewDecoder(4096, 200)
	in := unhex(t, "82 84 400161 0162") // 42, 38, 34 bytes: 114
	in = appendString(append(in, 0x40, 0x01, 'c'), strings.Repeat("d", 100))
	in = append(in, unhex(t, "400165 0166 82 100167 0168")...)
	b, err := d.Decode(in)
	if err != nil {
		t.Fatal(err)
	}
	want := []Field{{Name: ":method", Value: "GET"}, {Name: ":path", Value: "/"}, {Name: "a", Value: "b"}}
	if !b.TooLarge || b.Lasting || !reflect.DeepEqual(b.Fields, want) || b.Size != 114+133+34+42+34 {
		t.Errorf("block %+v", b)
	}
	b = decode(t, d, "be c0") // insertions that were dropped from the block are in the table
	if b.TooLarge || b.Fields[0] != (Field{Name: "e", Value: "f"}) || b.Fields[1] != (Field{Name: "a", Value: "b"}) {
		t.Errorf("next block %+v", b)
	}
}

func TestBomb(t *testing.T) {
	d := NewDecoder(4096, 16<<10)
	if _, err := d.Decode(appendString([]byte{0x40, 0x01, 'a'}, strings.Repeat("b", 4000))); err != nil {
		t.Fatal(err)
	}
	bomb := bytes.Repeat([]byte{0xbe}, 1<<32/4033+1)
	b, err := d.Decode(bomb)
	if err != nil || !b.TooLarge || b.Lasting || len(b.Fields) != 4 || b.Size != 1<<32-1 { // not wrapped around
		t.Fatalf("%d fields, size %d, too large %v, %v", len(b.Fields), b.Size, b.TooLarge, err)
	}
	if n := testing.AllocsPerRun(10, func() { d.Decode(bomb[:1<<10]) }); n != 0 {
		t.Errorf("%v allocations for a bomb", n)
	}
	// Dropped literals make no strings either.
	lit := append(bytes.Repeat([]byte{0xbe}, 8), bytes.Repeat(unhex(t, "000163 0164 000165 0166"), 1<<10)...)
	if n := testing.AllocsPerRun(10, func() { d.Decode(lit) }); n != 0 {
		t.Errorf("%v allocations for dropped literals", n)
	}
}

func TestWhatALargeBlockGrewIsLetGo(t *testing.T) {
	d := NewDecoder(4096, 1<<20)
	coded := appendHuffman(nil, strings.Repeat("a", 50<<10))
	in := appendInt([]byte{0x00, 0x01, 'a'}, 0x80, 7, uint32(len(coded)))
	in = append(append(in, coded...), bytes.Repeat([]byte{0x82}, 5000)...)
	if b, err := d.Decode(in); err != nil || len(b.Fields) != 5001 || len(b.Fields[0].Value) != 50<<10 {
		t.Fatal(err)
	}
	decode(t, d, "82")
	if cap(d.scratch.Fields) > 256 || cap(d.buf) > 4<<10 {
		t.Errorf("%d fields and %d bytes are still held", cap(d.scratch.Fields), cap(d.buf))
	}
}

func TestSecretsAreNotRemembered(t *testing.T) {
	d := NewDecoder(4096, 16<<10)
	decode(t, d, "100870617373776f726406736563726574")
	for _, s := range d.recent.slots {
		if s.value != "" {
			t.Errorf("remembered %q", s.value)
		}
	}
}
