// SPDX-License-Identifier: Apache-2.0

package hpack

import (
	"errors"
	"math"
)

var (
	errTruncated = errors.New("hpack: the block ends inside a field")
	errInteger   = errors.New("hpack: integer of more than 32 bits or 5 continuation bytes")
	errHuffman   = errors.New("hpack: string is no Huffman code, contains EOS, or is padded with more than 7 bits or not with ones")
)

// readInt reads an integer with a prefix of so many bits (RFC 7541 section
// 5.1). p is not empty.
func readInt(p []byte, bits uint) (v uint32, rest []byte, err error) {
	mask := byte(1)<<bits - 1
	if b := p[0] & mask; b < mask {
		return uint32(b), p[1:], nil
	}
	return readLongInt(uint64(mask), p[1:])
}

func readLongInt(v uint64, p []byte) (uint32, []byte, error) {
	for shift := uint(0); shift < 35; shift += 7 {
		if len(p) == 0 {
			return 0, nil, errTruncated
		}
		b := p[0]
		p = p[1:]
		v += uint64(b&0x7f) << shift
		if b < 0x80 {
			if v > math.MaxUint32 {
				return 0, nil, errInteger
			}
			return uint32(v), p, nil
		}
	}
	return 0, nil, errInteger
}

// appendInt appends v with a prefix of so many bits, whose byte's upper bits are
// pattern.
func appendInt(dst []byte, pattern byte, bits uint, v uint32) []byte {
	mask := uint32(1)<<bits - 1
	if v < mask {
		return append(dst, pattern|byte(v))
	}
	dst = append(dst, pattern|byte(mask))
	for v -= mask; v >= 0x80; v >>= 7 {
		dst = append(dst, byte(v)|0x80)
	}
	return append(dst, byte(v))
}

// appendString appends s as it is: cheapest for what is sent once.
func appendString(dst []byte, s string) []byte {
	dst = appendInt(dst, 0, 7, uint32(len(s)))
	return append(dst, s...)
}

// appendShortest appends s Huffman-encoded if that is shorter.
func appendShortest(dst []byte, s string) []byte {
	n := huffmanLen(s)
	if n >= len(s) {
		return appendString(dst, s)
	}
	dst = appendInt(dst, 0x80, 7, uint32(n))
	return appendHuffman(dst, s)
}
