// SPDX-License-Identifier: Apache-2.0

package hpack

import (
	"fmt"
	"testing"
)

// varying is what a call with a deadline and metadata adds to a template.
func varying(i int) []Field {
	return []Field{
		{Name: "grpc-timeout", Value: fmt.Sprintf("%07du", 9000000-i), Index: Literal},
		{Name: "tenant", Value: "acme"},
		{Name: "trace-id", Value: fmt.Sprintf("%032x", i), Index: Literal},
		{Name: "authorization", Value: "Bearer 0123456789abcdef", Index: Never},
	}
}

// blocks are what an encoder makes of n calls after it has learned.
func blocks(n int, fields func(int) []Field) (dec *Decoder, out [][]byte) {
	enc, dec := NewEncoder(), NewDecoder(4096, 16<<10)
	for i := range 8 {
		if _, err := dec.Decode(enc.Append(nil, request, fields(i))); err != nil {
			panic(err)
		}
	}
	for i := range n {
		out = append(out, enc.Append(nil, request, fields(i)))
	}
	return dec, out
}

func none(int) []Field { return nil }

func steady(int) []Field { return varying(1)[:3] }

func TestAppendDoesNotAllocate(t *testing.T) {
	enc, buf := NewEncoder(), make([]byte, 0, 1024)
	fields := [16][]Field{}
	for i := range fields {
		fields[i] = varying(i)
		enc.Append(buf, request, fields[i])
	}
	i := 0
	if n := testing.AllocsPerRun(1000, func() { i++; enc.Append(buf, request, fields[i%16]) }); n != 0 {
		t.Errorf("%v allocations per block, want 0", n)
	}
}

func TestDecodeDoesNotAllocate(t *testing.T) {
	for _, tt := range []struct {
		name   string
		fields func(int) []Field
		want   float64
	}{
		{"indexed fields", none, 0},
		{"literals that repeat", steady, 0},
		{"two new literals and a secret", varying, 3},
	} {
		dec, in := blocks(1001, tt.fields)
		i := 0
		n := testing.AllocsPerRun(1000, func() {
			if _, err := dec.Decode(in[i]); err != nil {
				t.Fatal(err)
			}
			i++
		})
		if n != tt.want {
			t.Errorf("%s: %v allocations per block, want %v", tt.name, n, tt.want)
		}
	}
}

func BenchmarkAppend(b *testing.B) {
	for name, fields := range map[string][]Field{"template": nil, "varying": varying(1)} {
		b.Run(name, func(b *testing.B) {
			enc, buf := NewEncoder(), make([]byte, 0, 1024)
			b.ReportAllocs()
			for b.Loop() {
				enc.Append(buf, request, fields)
			}
		})
	}
}

func BenchmarkDecode(b *testing.B) {
	for name, fields := range map[string]func(int) []Field{"indexed": none, "steady": steady, "varying": varying} {
		b.Run(name, func(b *testing.B) {
			dec, in := blocks(256, fields)
			b.ReportAllocs()
			i := 0
			for b.Loop() {
				if _, err := dec.Decode(in[i&255]); err != nil {
					b.Fatal(err)
				}
				i++
			}
		})
	}
}
