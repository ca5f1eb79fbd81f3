// SPDX-License-Identifier: Apache-2.0

package near

import (
	"strings"
	"testing"
)

func TestName(t *testing.T) {
	names := []string{"grpc.health.v1.Health", "grpc.testing.TestService", "UnaryCall", "CacheableUnaryCall", "my.pkg.Users"}
	for name, want := range map[string]string{
		"UnaryCal":                 "UnaryCall",
		"unarycall":                "UnaryCall",
		"grpc.testing.TestServise": "grpc.testing.TestService",
		"Users":                    "my.pkg.Users",
		"other.pkg.users":          "my.pkg.Users",
		"Nothing":                  "",
		"":                         "",
		strings.Repeat("x", 1000):  "",
	} {
		if got := Name(name, names); got != want {
			t.Errorf("Name(%q) = %q, want %q", name, got, want)
		}
	}
	for name, names := range map[string][]string{"Get": {"Put", "Set"}, "GetUser": {"GetUsers", "getuser"}, "a.Greeter": {"c.b.Greeter", "b.c.Greeter"}} {
		if got, want := Name(name, names), names[1]; got != want {
			t.Errorf("Name(%q, %q) = %q, want %q", name, names, got, want)
		}
	}
	if got := Name("Get", []string{"Put", "List"}); got != "" {
		t.Errorf("Get is near %q", got)
	}
	if d := distance("kitten", "Sitting", 9); d != 3 {
		t.Errorf("distance = %d, want 3", d)
	}
	if got := Name("x", nil); got != "" {
		t.Errorf("Name without names = %q", got)
	}
}

func FuzzName(f *testing.F) {
	f.Add("UnaryCal", "UnaryCall")
	f.Add("", "\xff")
	f.Fuzz(func(t *testing.T, name, other string) {
		if got := Name(name, []string{other}); got != "" && got != other {
			t.Errorf("Name(%q, %q) = %q", name, other, got)
		}
		if name != "" && len(name) <= maxName && Name(name, []string{name}) != name {
			t.Errorf("%q is not near itself", name)
		}
	})
}
