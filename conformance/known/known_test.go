// SPDX-License-Identifier: Apache-2.0

package known

import (
	"errors"
	"reflect"
	"strings"
	"testing"
)

func TestParse(t *testing.T) {
	l, err := Parse("f.txt", "# comment\n\na/1: the peer is asked for nothing\n b/2 : two: colons \n")
	want := List{"a/1": "the peer is asked for nothing", "b/2": "two: colons"}
	if err != nil || !reflect.DeepEqual(l, want) {
		t.Fatalf("Parse = %v, %v; want %v", l, err, want)
	}
}

func TestParseErrors(t *testing.T) {
	for _, tc := range []struct{ text, want string }{
		{"a/1", "f.txt:1"},
		{"\na/1: ", "f.txt:2"},
		{"a: x\na: y", "listed twice"},
	} {
		if _, err := Parse("f.txt", tc.text); err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("Parse(%q) = %v, want an error with %q", tc.text, err, tc.want)
		}
	}
}

func TestCompare(t *testing.T) {
	l := List{"known": "r", "fixed": "r", "gone": "r"}
	results := []Result{{"known", errors.New("x")}, {"fixed", nil}, {"new", errors.New("boom")}, {"good", nil}}
	got := l.Compare(results)
	want := []string{
		"fixed passes now: take it off the list of known failures",
		"gone is on the list of known failures, but there is no such case",
		"new fails: boom",
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("Compare = %q, want %q", got, want)
	}
	if got := (List{"known": "r"}).Compare([]Result{{"known", errors.New("x")}}); len(got) != 0 {
		t.Errorf("Compare of what is expected = %q, want none", got)
	}
	if n := Passed(results); n != 2 {
		t.Errorf("Passed = %d, want 2", n)
	}
}
