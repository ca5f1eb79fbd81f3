// SPDX-License-Identifier: Apache-2.0

package hpack

import (
	"encoding/hex"
	"reflect"
	"strings"
	"testing"
)

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.ReplaceAll(s, " ", ""))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// section is one step of an example: what is sent, what it means, and the size
// of the table after it.
type section struct {
	hex    string
	fields []Field
	table  uint32
}

var (
	requests = [][]Field{
		{{Name: ":method", Value: "GET"}, {Name: ":scheme", Value: "http"}, {Name: ":path", Value: "/"}, {Name: ":authority", Value: "www.example.com"}},
		{{Name: ":method", Value: "GET"}, {Name: ":scheme", Value: "http"}, {Name: ":path", Value: "/"}, {Name: ":authority", Value: "www.example.com"}, {Name: "cache-control", Value: "no-cache"}},
		{{Name: ":method", Value: "GET"}, {Name: ":scheme", Value: "https"}, {Name: ":path", Value: "/index.html"}, {Name: ":authority", Value: "www.example.com"}, {Name: "custom-key", Value: "custom-value"}},
	}
	responses = [][]Field{
		{{Name: ":status", Value: "302"}, {Name: "cache-control", Value: "private"}, {Name: "date", Value: "Mon, 21 Oct 2013 20:13:21 GMT"}, {Name: "location", Value: "https://www.example.com"}},
		{{Name: ":status", Value: "307"}, {Name: "cache-control", Value: "private"}, {Name: "date", Value: "Mon, 21 Oct 2013 20:13:21 GMT"}, {Name: "location", Value: "https://www.example.com"}},
		{{Name: ":status", Value: "200"}, {Name: "cache-control", Value: "private"}, {Name: "date", Value: "Mon, 21 Oct 2013 20:13:22 GMT"}, {Name: "location", Value: "https://www.example.com"},
			{Name: "content-encoding", Value: "gzip"}, {Name: "set-cookie", Value: "foo=ASDJKHQKBZXOQWEOPIUAXQWEOIU; max-age=3600; version=1"}},
	}
)

// table256 is a table size update to 256 bytes, the table of the RFC's examples
// of responses.
const table256 = "3fe101"

// rfcExamples are those of RFC 7541 appendix C.
var rfcExamples = []struct {
	name  string
	steps []section
}{
	{"C.2.1 literal with indexing", []section{{"400a637573746f6d2d6b65790d637573746f6d2d686561646572", []Field{{Name: "custom-key", Value: "custom-header"}}, 55}}},
	{"C.2.2 literal without indexing", []section{{"040c2f73616d706c652f70617468", []Field{{Name: ":path", Value: "/sample/path"}}, 0}}},
	{"C.2.3 literal never indexed", []section{{"100870617373776f726406736563726574", []Field{{Name: "password", Value: "secret", Index: Never}}, 0}}},
	{"C.2.4 indexed", []section{{"82", []Field{{Name: ":method", Value: "GET"}}, 0}}},
	{"C.3 requests", []section{
		{"828684410f7777772e6578616d706c652e636f6d", requests[0], 57},
		{"828684be58086e6f2d6361636865", requests[1], 110},
		{"828785bf400a637573746f6d2d6b65790c637573746f6d2d76616c7565", requests[2], 164},
	}},
	{"C.4 requests, Huffman", []section{
		{"828684418cf1e3c2e5f23a6ba0ab90f4ff", requests[0], 57},
		{"828684be5886a8eb10649cbf", requests[1], 110},
		{"828785bf408825a849e95ba97d7f8925a849e95bb8e8b4bf", requests[2], 164},
	}},
	{"C.5 responses", []section{
		{table256 + "4803333032580770726976617465611d4d6f6e2c203231204f637420323031332032303a31333a323120474d546e1768747470733a2f2f7777772e6578616d706c652e636f6d", responses[0], 222},
		{"4803333037c1c0bf", responses[1], 222},
		{"88c1611d4d6f6e2c203231204f637420323031332032303a31333a323220474d54c05a04677a69707738666f6f3d4153444a4b48514b425a584f5157454f50495541585157454f49553b206d61782d6167653d333630303b2076657273696f6e3d31", responses[2], 215},
	}},
	{"C.6 responses, Huffman", []section{
		{table256 + "488264025885aec3771a4b6196d07abe941054d444a8200595040b8166e082a62d1bff6e919d29ad171863c78f0b97c8e9ae82ae43d3", responses[0], 222},
		{"4883640effc1c0bf", responses[1], 222},
		{"88c16196d07abe941054d444a8200595040b8166e084a62d1bffc05a839bd9ab77ad94e7821dd7f2e6c7b335dfdfcd5b3960d5af27087f3672c1ab270fb5291f9587316065c003ed4ee5b1063d5007", responses[2], 215},
	}},
}

func TestRFCExamples(t *testing.T) {
	for _, tt := range rfcExamples {
		t.Run(tt.name, func(t *testing.T) {
			d := NewDecoder(4096, 16<<10)
			for i, s := range tt.steps {
				b, err := d.Decode(unhex(t, s.hex))
				if err != nil {
					t.Fatalf("section %d: %v", i, err)
				}
				if !reflect.DeepEqual(b.Fields, s.fields) {
					t.Errorf("section %d: fields %v, want %v", i, b.Fields, s.fields)
				}
				var size uint32
				for _, f := range s.fields {
					size += uint32(len(f.Name) + len(f.Value) + 32)
				}
				if b.Size != size || b.TooLarge {
					t.Errorf("section %d: size %d, too large %v, want %d, false", i, b.Size, b.TooLarge, size)
				}
				if d.table.size != s.table {
					t.Errorf("section %d: table of %d bytes, want %d", i, d.table.size, s.table)
				}
			}
		})
	}
}

func TestRFCIntegers(t *testing.T) { // C.1
	for _, tt := range []struct {
		v    uint32
		bits uint
		hex  string
	}{
		{10, 5, "0a"}, {1337, 5, "1f9a0a"}, {42, 8, "2a"},
		{30, 5, "1e"}, {31, 5, "1f00"}, {1<<32 - 1, 7, "7f80ffffff0f"}, {0, 4, "00"},
	} {
		if tt.bits < 8 {
			if got := hex.EncodeToString(appendInt(nil, 0, tt.bits, tt.v)); got != tt.hex {
				t.Errorf("appendInt(%d, %d bits) = %s, want %s", tt.v, tt.bits, got, tt.hex)
			}
		}
		v, rest, err := readInt(append(unhex(t, tt.hex), 0xaa), tt.bits)
		if v != tt.v || len(rest) != 1 || err != nil {
			t.Errorf("readInt(%s) = %d, %x, %v, want %d", tt.hex, v, rest, err, tt.v)
		}
	}
	for in, want := range map[string]error{
		"7f": errTruncated, "7f80": errTruncated, "7f8080808080": errInteger, "7f808080808000": errInteger,
		"7fffffffff0f": errInteger, "7f81ffffff0f": errInteger, "7fffffffff7f": errInteger, "7fffffffffff": errInteger,
	} {
		if _, _, err := readInt(unhex(t, in), 7); err != want {
			t.Errorf("readInt(%s): %v, want %v", in, err, want)
		}
	}
}
