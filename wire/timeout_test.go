// SPDX-License-Identifier: Apache-2.0

package wire

import (
	"math"
	"strings"
	"testing"
	"time"
)

func TestAppendTimeout(t *testing.T) {
	for _, c := range []struct {
		d    time.Duration
		want string
	}{
		{-time.Second, "0n"},
		{0, "0n"},
		{1, "1n"},
		{99_999_999, "99999999n"},
		{100_000_000, "100000u"},
		{100_000_001, "100001u"}, // rounds up
		{time.Second, "1000000u"},
		{99_999_999 * time.Microsecond, "99999999u"},
		{99_999_999*time.Microsecond + 1, "100000m"},
		{time.Hour, "3600000m"},
		{99_999_999 * time.Millisecond, "99999999m"},
		{99_999_999*time.Millisecond + 1, "100000S"},
		{99_999_999 * time.Second, "99999999S"},
		{99_999_999*time.Second + 1, "1666667M"},
		{99_999_999 * time.Minute, "99999999M"},
		{99_999_999*time.Minute + 1, "1666667H"},
		{math.MaxInt64, "2562048H"},
	} {
		if got := string(AppendTimeout([]byte("x"), c.d)); got != "x"+c.want {
			t.Errorf("AppendTimeout(%v) = %q, want %q", c.d, got[1:], c.want)
		}
	}
	buf := make([]byte, 0, 16)
	if n := testing.AllocsPerRun(100, func() { buf = AppendTimeout(buf[:0], 12345*time.Millisecond) }); n > 0 {
		t.Errorf("AppendTimeout allocates %v times", n)
	}
}

func TestParseTimeout(t *testing.T) {
	for _, c := range []struct {
		s    string
		want time.Duration
	}{
		{"0n", 0},
		{"1H", time.Hour},
		{"2M", 2 * time.Minute},
		{"3S", 3 * time.Second},
		{"4m", 4 * time.Millisecond},
		{"5u", 5 * time.Microsecond},
		{"6n", 6},
		{"00000001S", time.Second},
		{"99999999n", 99_999_999},
		{"99999999S", 99_999_999 * time.Second},
		{"99999999M", 99_999_999 * time.Minute},
		{"2562047H", 2562047 * time.Hour},
		{"2562048H", math.MaxInt64},
		{"99999999H", math.MaxInt64},
	} {
		if got, err := ParseTimeout(c.s); got != c.want || err != nil {
			t.Errorf("ParseTimeout(%q) = %v, %v, want %v", c.s, got, err, c.want)
		}
	}
	for _, c := range []struct{ s, want string }{
		{"", "1 to 8 digits"},
		{"S", "1 to 8 digits"},
		{"5", "1 to 8 digits"},
		{"123456789S", "1 to 8 digits"},
		{"12345", "unit is '5'"},
		{"5s", "unit is 's'"},
		{"5h", "unit is 'h'"},
		{"+5S", "byte 0 is '+'"},
		{"-5S", "byte 0 is '-'"},
		{" 5S", "byte 0 is ' '"},
		{"5 S", "byte 1 is ' '"},
		{"5.5S", "byte 1 is '.'"},
		{"1_0S", "byte 1 is '_'"},
		{"\u0661S", "byte 0"}, // a digit, but not ASCII
	} {
		if d, err := ParseTimeout(c.s); d != 0 || err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("ParseTimeout(%q) = %v, %v, want an error with %q", c.s, d, err, c.want)
		}
	}
}

func FuzzTimeout(f *testing.F) {
	for _, s := range []string{"0n", "1S", "99999999H", "12345678u", "", "S", "+1S", "1\xff"} {
		f.Add(s, int64(time.Second))
	}
	f.Add("1m", int64(math.MaxInt64))
	f.Add("1m", int64(math.MinInt64))
	f.Fuzz(func(t *testing.T, s string, ns int64) {
		if d, err := ParseTimeout(s); d < 0 || (err != nil && d != 0) {
			t.Errorf("ParseTimeout(%q) = %v, %v", s, d, err)
		}
		d := max(time.Duration(ns), 0)
		enc := AppendTimeout(nil, d)
		back, err := ParseTimeout(string(enc))
		if err != nil || back < d {
			t.Errorf("%v was sent as %q and read as %v, %v", d, enc, back, err)
		}
		// The finest unit that fits loses at most a part in a million or so.
		if lost := back - d; back != math.MaxInt64 && lost > 0 && lost > d/1_000_000 {
			t.Errorf("%v was sent as %q: %v too long", d, enc, lost)
		}
	})
}
