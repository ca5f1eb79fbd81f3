// SPDX-License-Identifier: Apache-2.0

package text

import (
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"
)

func TestWrap(t *testing.T) {
	for text, want := range map[string]string{
		"":                                "",
		"one two":                         "one two",
		"twenty letters are here, or so":  "twenty letters are|here, or so",
		"a " + strings.Repeat("x", 45):    "a|" + strings.Repeat("x", 20) + "|" + strings.Repeat("x", 20) + "|xxxxx",
		strings.Repeat("ä", 21) + "  end": strings.Repeat("ä", 20) + "|ä end",
	} {
		for _, n := range []int{20, 8} {
			if got := strings.Join(Wrap(text, n), "|"); got != want {
				t.Errorf("%q: got %q, want %q", text, got, want)
			}
		}
	}
}

func TestClip(t *testing.T) {
	for _, tc := range []struct {
		text string
		n    int
		want string
	}{{"", 0, ""}, {"äöü", 3, "äöü"}, {"äöü", 2, "ä…"}, {"ab", 0, "…"}} {
		if got := Clip(tc.text, tc.n); got != tc.want {
			t.Errorf("Clip(%q, %d) = %q, want %q", tc.text, tc.n, got, tc.want)
		}
	}
}

func FuzzPrintable(f *testing.F) {
	f.Add("plain")
	f.Add("a\x1b[31mred\r\n\xff\u202e")
	f.Fuzz(func(t *testing.T, s string) {
		got := Printable(s)
		if !utf8.ValidString(got) || strings.ContainsFunc(got, func(r rune) bool { return !unicode.IsPrint(r) }) {
			t.Errorf("Printable(%q) = %q", s, got)
		}
		for _, l := range Wrap(got, 20) {
			if utf8.RuneCountInString(l) > 20 {
				t.Errorf("%q is a line of 20", l)
			}
		}
	})
}
