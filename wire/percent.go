// SPDX-License-Identifier: Apache-2.0

package wire

import (
	"strings"
	"unicode/utf8"
)

const upperHex = "0123456789ABCDEF"

// EncodeMessage returns the value of grpc-message for a status message:
// percent-encoded UTF-8 (PROTOCOL-HTTP2, Status-Message). A message of
// printable ASCII is returned as it is. Each byte that is no UTF-8 becomes the
// replacement character, since the field is a Unicode string.
func EncodeMessage(s string) string {
	plain := true
	for i := 0; i < len(s) && plain; i++ {
		plain = unencoded(s[i])
	}
	if plain {
		return s
	}
	if !utf8.ValidString(s) {
		s = string([]rune(s))
	}
	out := make([]byte, 0, len(s)+len(s)/2+8)
	for i := 0; i < len(s); i++ {
		if unencoded(s[i]) {
			out = append(out, s[i])
		} else {
			out = appendPercent(out, s[i])
		}
	}
	return string(out)
}

// DecodeMessage returns the status message that a value of grpc-message
// carries. It never fails, "implementations MUST NOT error or throw away the
// message" (PROTOCOL-HTTP2, Status-Message): a "%" that opens no encoded byte
// stays as it is, and bytes that are no UTF-8 stay, or become,
// percent-encoded. So the result is always valid UTF-8, which google.rpc.Status
// asks for, and nothing is lost.
func DecodeMessage(s string) string {
	first := strings.IndexByte(s, '%')
	if first < 0 {
		if utf8.ValidString(s) {
			return s
		}
		first = 0
	}
	out := append(make([]byte, 0, len(s)), s[:first]...)
	for i := first; i < len(s); i++ {
		if s[i] == '%' && i+2 < len(s) {
			hi, lo := unhex(s[i+1]), unhex(s[i+2])
			if hi >= 0 && lo >= 0 {
				out = append(out, byte(hi<<4|lo))
				i += 2
				continue
			}
		}
		out = append(out, s[i])
	}
	if utf8.Valid(out) {
		return string(out)
	}
	return keepInvalid(out)
}

// keepInvalid percent-encodes the bytes of p that are no UTF-8.
func keepInvalid(p []byte) string {
	out := make([]byte, 0, len(p)+16)
	for len(p) > 0 {
		r, n := utf8.DecodeRune(p)
		if r == utf8.RuneError && n == 1 {
			out = appendPercent(out, p[0])
		} else {
			out = append(out, p[:n]...)
		}
		p = p[n:]
	}
	return string(out)
}

// unencoded reports Percent-Byte-Unencoded: %x20-%x24 / %x26-%x7E.
func unencoded(c byte) bool { return c >= 0x20 && c <= 0x7E && c != '%' }

func appendPercent(dst []byte, c byte) []byte {
	return append(dst, '%', upperHex[c>>4], upperHex[c&15])
}

func unhex(c byte) int {
	switch {
	case c >= '0' && c <= '9':
		return int(c - '0')
	case c >= 'a' && c <= 'f':
		return int(c-'a') + 10
	case c >= 'A' && c <= 'F':
		return int(c-'A') + 10
	}
	return -1
}

// cutMessage is the beginning of a message that is too long to be sent: as much
// as fits 8 KiB of header fields, the least that is usual, however it is encoded.
func cutMessage(s string) string {
	const most = 2 << 10
	if len(s) <= most {
		return s
	}
	return strings.ToValidUTF8(s[:most], "") + "..."
}
