// SPDX-License-Identifier: Apache-2.0

package hpack

// huffmanBits are the lengths in bits of the codes of RFC 7541 appendix B. The
// code is canonical (by length, then by symbol), so that the lengths say it all.
var huffmanBits = [256]uint8{
	13, 23, 28, 28, 28, 28, 28, 28, 28, 24, 30, 28, 28, 30, 28, 28,
	28, 28, 28, 28, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 28,
	6, 10, 10, 12, 13, 6, 8, 11, 10, 10, 8, 11, 8, 6, 6, 6,
	5, 5, 5, 6, 6, 6, 6, 6, 6, 6, 7, 8, 15, 6, 12, 10,
	13, 6, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7,
	7, 7, 7, 7, 7, 7, 7, 7, 8, 7, 8, 13, 19, 13, 14, 6,
	15, 5, 6, 5, 6, 5, 6, 6, 6, 5, 7, 7, 6, 6, 6, 5,
	6, 7, 6, 5, 5, 6, 7, 7, 7, 7, 7, 15, 11, 14, 13, 28,
	20, 22, 20, 20, 22, 22, 22, 23, 22, 23, 23, 23, 23, 23, 24, 23,
	24, 24, 22, 23, 24, 23, 23, 23, 23, 21, 22, 23, 22, 23, 23, 24,
	22, 21, 20, 22, 22, 23, 23, 21, 23, 22, 22, 24, 21, 22, 23, 23,
	21, 21, 22, 21, 23, 22, 23, 23, 20, 22, 22, 22, 23, 22, 22, 23,
	26, 26, 20, 19, 22, 23, 22, 25, 26, 26, 26, 27, 27, 26, 24, 25,
	19, 21, 26, 27, 27, 26, 27, 24, 21, 21, 26, 26, 28, 27, 27, 27,
	20, 24, 20, 21, 22, 21, 21, 23, 22, 22, 25, 25, 24, 24, 26, 23,
	26, 27, 26, 26, 27, 27, 27, 27, 27, 28, 27, 27, 27, 27, 27, 26,
}

// longestCode is the length in bits of the longest codes, EOS among them.
const longestCode = 30

// huffman is the code made ready for both directions.
var huffman = makeHuffman()

type huffmanTables struct {
	codes [256]uint32
	// short maps the next 8 bits to a symbol whose code is 5 to 8 bits long:
	// letters and digits.
	short [256]struct{ sym, bits uint8 }
	// A code of n bits, put at the top of 32, is less than limit[n] and not less
	// than limit[n-1]; it stands for syms[first[n] + its distance from there].
	limit [longestCode + 1]uint64
	first [longestCode + 1]int
	syms  []uint8
}

func makeHuffman() *huffmanTables {
	t := &huffmanTables{syms: make([]uint8, 0, 256)}
	var code uint64 // next code, at the top of 32 bits
	for n := 1; n <= longestCode; n++ {
		t.first[n] = len(t.syms)
		for sym, b := range huffmanBits {
			if int(b) != n {
				continue
			}
			t.codes[sym] = uint32(code >> (32 - n))
			t.syms = append(t.syms, uint8(sym))
			if n <= 8 {
				for i := code >> 24; i < (code+1<<(32-n))>>24; i++ {
					t.short[i].sym, t.short[i].bits = uint8(sym), b
				}
			}
			code += 1 << (32 - n)
		}
		t.limit[n] = code
	}
	return t
}

// symbol finds the code at the top of v. ok is false for EOS and for bits that
// begin no code.
func (t *huffmanTables) symbol(v uint32) (sym uint8, n uint, ok bool) {
	if s := t.short[v>>24]; s.bits != 0 {
		return s.sym, uint(s.bits), true
	}
	for n := uint(9); n <= longestCode; n++ {
		if uint64(v) < t.limit[n] {
			return t.syms[t.first[n]+int((uint64(v)-t.limit[n-1])>>(32-n))], n, true
		}
	}
	return 0, 0, false
}

// appendHuffmanDecoded appends what src stands for: at most 8/5 of its length.
// ok is false for a string with EOS in it, or whose padding is longer than 7
// bits or not made of ones (RFC 7541 section 5.2).
func appendHuffmanDecoded(dst, src []byte) (out []byte, ok bool) {
	var acc uint64 // its low n bits are to be decoded
	var n uint
	for {
		for n <= 56 && len(src) > 0 {
			acc = acc<<8 | uint64(src[0])
			src = src[1:]
			n += 8
		}
		// The next 32 bits, filled up with ones.
		var v uint32
		if n < 32 {
			v = uint32(acc<<(32-n)) | uint32(uint64(1)<<(32-n)-1)
		} else {
			v = uint32(acc >> (n - 32))
		}
		if v == 1<<32-1 && n < 8 {
			return dst, true
		}
		sym, b, ok := huffman.symbol(v)
		if !ok || b > n {
			return dst, false
		}
		dst = append(dst, sym)
		n -= b
	}
}

// huffmanLen is the number of bytes that s takes up when encoded.
func huffmanLen(s string) int {
	n := 0
	for i := range len(s) {
		n += int(huffmanBits[s[i]])
	}
	return (n + 7) / 8
}

// appendHuffman appends s encoded.
func appendHuffman(dst []byte, s string) []byte {
	var acc uint64 // its low n bits wait to be written
	var n uint
	for i := range len(s) {
		b := uint(huffmanBits[s[i]])
		acc = acc<<b | uint64(huffman.codes[s[i]])
		for n += b; n >= 8; n -= 8 {
			dst = append(dst, byte(acc>>(n-8)))
		}
	}
	if n > 0 {
		dst = append(dst, byte(acc<<(8-n))|byte(1<<(8-n)-1)) // padded with ones
	}
	return dst
}
