// SPDX-License-Identifier: Apache-2.0

package wire

import (
	"strings"
	"testing"
	"unicode/utf8"
)

func TestEncodeMessage(t *testing.T) {
	for _, c := range []struct{ in, want string }{
		{"", ""},
		{"plain text, ~!", "plain text, ~!"},
		{"100%", "100%25"},
		{"a\nb\tc\x00\x7f", "a%0Ab%09c%00%7F"},
		{"Grüße", "Gr%C3%BC%C3%9Fe"},
		{"\U0001F600", "%F0%9F%98%80"},
		{"bad \xff byte", "bad %EF%BF%BD byte"},
	} {
		if got := EncodeMessage(c.in); got != c.want {
			t.Errorf("EncodeMessage(%q) = %q, want %q", c.in, got, c.want)
		}
	}
}

func TestDecodeMessage(t *testing.T) {
	for _, c := range []struct{ in, want string }{
		{"", ""},
		{"plain", "plain"},
		{"100%25", "100%"},
		{"Gr%C3%BC%c3%9fe", "Grüße"},
		{"Grüße", "Grüße"}, // not encoded at all: a sender's mistake that is readable
		{"%", "%"},
		{"50% off", "50% off"},
		{"%4", "%4"},
		{"%zz%41", "%zzA"},
		{"%%41", "%A"},
		{"%4%41", "%4A"},
		{"end%41", "endA"},
		{"bad %FF byte", "bad %FF byte"},
		{"bad \xff byte", "bad %FF byte"},
		{"%C3 %BC", "%C3 %BC"},
		{"\xff%41", "%FFA"},
	} {
		if got := DecodeMessage(c.in); got != c.want {
			t.Errorf("DecodeMessage(%q) = %q, want %q", c.in, got, c.want)
		}
	}
}

func TestPlainMessageIsNotCopied(t *testing.T) {
	s := strings.Repeat("a plain message ", 10)
	if n := testing.AllocsPerRun(100, func() {
		if EncodeMessage(s) != s || DecodeMessage(s) != s {
			t.Error("a plain message changed")
		}
	}); n > 0 {
		t.Errorf("a plain message costs %v allocations", n)
	}
}

func FuzzPercent(f *testing.F) {
	for _, s := range []string{"", "ok", "100%", "%41", "%4", "%zz", "Grüße\n", "\xff", "%FF%C3%BC", "%EF%BF%BD"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if d := DecodeMessage(s); !utf8.ValidString(d) {
			t.Errorf("DecodeMessage(%q) = %q is not valid UTF-8", s, d)
		} else if s != "" && d == "" {
			t.Errorf("DecodeMessage(%q) threw the message away", s)
		}
		e := EncodeMessage(s)
		for i := 0; i < len(e); i++ {
			if e[i] < 0x20 || e[i] > 0x7E {
				t.Fatalf("EncodeMessage(%q) = %q", s, e)
			}
		}
		if got, want := DecodeMessage(e), string([]rune(s)); got != want {
			t.Errorf("%q came back as %q, want %q", s, got, want)
		}
	})
}
