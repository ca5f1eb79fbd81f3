// SPDX-License-Identifier: Apache-2.0

package codes

import (
	"encoding/json"
	"strconv"
	"strings"
	"testing"

	grpccodes "google.golang.org/grpc/codes"
)

func TestAboutKnowsEveryCode(t *testing.T) {
	// google/rpc/code.proto
	http := []int{200, 499, 500, 400, 504, 404, 409, 403, 429, 400, 409, 400, 501, 500, 503, 500, 401}
	never := map[Code]bool{InvalidArgument: true, NotFound: true, AlreadyExists: true, FailedPrecondition: true, Aborted: true, OutOfRange: true, DataLoss: true}
	all := All()
	if len(all) != 17 || len(http) != 17 {
		t.Fatalf("All() has %d codes, want 17", len(all))
	}
	for n, c := range all {
		i := About(c)
		if c != Code(n) || i.Code != c {
			t.Errorf("code %d stands at %d", i.Code, n)
		}
		if i.Name == "" || i.Meaning == "" || i.HTTPName == "" || i.Advice == "" {
			t.Errorf("%v: incomplete: %+v", c, i)
		}
		if i.GoName != c.String() || i.Name != Name(c) || i.HTTP != http[n] {
			t.Errorf("%v: GoName %q, Name %q, HTTP %d; want HTTP %d", c, i.GoName, i.Name, i.HTTP, http[n])
		}
		if i.GeneratedByLibrary == never[c] || (i.By == ByApplication) != never[c] {
			t.Errorf("%v: by %v, generated %v, want never generated %v", c, i.By, i.GeneratedByLibrary, never[c])
		}
		// grpc-go reads the canonical name from JSON: the two tables must agree.
		var g grpccodes.Code
		if err := json.Unmarshal([]byte(strconv.Quote(i.Name)), &g); err != nil || g != c {
			t.Errorf("grpc-go reads %q as %v, %v", i.Name, g, err)
		}
	}
}

func TestAboutNumberThatIsNoCode(t *testing.T) {
	for _, c := range []Code{17, 1 << 31, 1<<32 - 1} {
		i := About(c)
		n := strconv.FormatUint(uint64(c), 10)
		if i.Code != c || i.Name != "CODE("+n+")" || i.GoName != "Code("+n+")" || i.HTTP != 500 || i.Retry != About(Unknown).Retry {
			t.Errorf("About(%s) = %+v", n, i)
		}
	}
}

func TestParse(t *testing.T) {
	for _, tc := range []struct {
		in   string
		want Code
	}{
		{"NOT_FOUND", NotFound}, {"NotFound", NotFound}, {"not_found", NotFound}, {"notfound", NotFound}, {"5", NotFound},
		{"CANCELLED", Canceled}, {"CANCELED", Canceled}, {"Canceled", Canceled}, {"cancelled", Canceled}, {"1", Canceled},
		{"OK", OK}, {"ok", OK}, {"0", OK}, {"16", Unauthenticated}, {"Unavailable", Unavailable},
	} {
		if got, err := Parse(tc.in); err != nil || got != tc.want {
			t.Errorf("Parse(%q) = %v, %v; want %v", tc.in, got, err, tc.want)
		}
	}
	for _, in := range []string{"", "17", "-1", "+5", "05", " 5", "5.0", "NOT FOUND", "N_OT_FOUND", "not-found", "UN\u212aNOWN", strings.Repeat("x", 1<<20)} {
		got, err := Parse(in)
		if err == nil || got != Unknown {
			t.Errorf("Parse(%.40q) = %v, %v; want an error", in, got, err)
			continue
		}
		if msg := err.Error(); !strings.Contains(msg, "expected a name such as NOT_FOUND") || len(msg) > 300 || !strings.Contains(msg, quote(in)) {
			t.Errorf("Parse(%.40q): error %q does not say what was given and expected", in, msg)
		}
	}
}

func TestParseJSON(t *testing.T) {
	for in, want := range map[string]Code{`"NOT_FOUND"`: NotFound, `"notFound"`: NotFound, `5`: NotFound, ` "14" `: Unavailable, `0`: OK, `5.0`: NotFound} {
		if got, err := ParseJSON([]byte(in)); err != nil || got != want {
			t.Errorf("ParseJSON(%s) = %v, %v; want %v", in, got, err, want)
		}
	}
	for _, in := range []string{``, `NOT_FOUND`, `null`, `true`, `17`, `-1`, `1.5`, `1e99`, `[]`, `{}`, `"x"`, `5 5`} {
		if got, err := ParseJSON([]byte(in)); err == nil || got != Unknown || !strings.Contains(err.Error(), "expected a") {
			t.Errorf("ParseJSON(%s) = %v, %v; want an error that says what is expected", in, got, err)
		}
	}
}

func TestNames(t *testing.T) {
	if ByBoth.String() != "library and application" || ByApplication.String() != "application" || By(9).String() != "by(9)" {
		t.Error("By has wrong names")
	}
	if RetryHigher.String() != "higher-level" || Retry(9).String() != "retry(9)" || len(retryNames) != int(RetryAfterFix)+1 {
		t.Error("Retry has wrong names")
	}
}

func TestKnown(t *testing.T) {
	for c, want := range map[Code]Code{OK: OK, Unauthenticated: Unauthenticated, 17: Unknown, 1<<32 - 1: Unknown} {
		if got := Known(c); got != want {
			t.Errorf("Known(%d) = %v, want %v", c, got, want)
		}
	}
}

func FuzzParse(f *testing.F) {
	for _, s := range []string{"NOT_FOUND", "NotFound", "5", "CANCELED", `"ok"`, "", "17", "\xff", "nOT_foUnd"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		c, err := Parse(s)
		if err != nil {
			if c != Unknown || len(err.Error()) > 500 {
				t.Errorf("Parse(%q) = %v, %v", s, c, err)
			}
		} else if again, err := Parse(Name(c)); err != nil || again != c {
			t.Errorf("Parse(%q) = %v, whose name gives %v, %v", s, c, again, err)
		}
		if j, err := ParseJSON([]byte(s)); err == nil && j > Unauthenticated {
			t.Errorf("ParseJSON(%q) = %v", s, j)
		}
		if q, err2 := json.Marshal(s); err2 == nil && err == nil {
			if j, err := ParseJSON(q); err != nil || j != c {
				t.Errorf("ParseJSON(%s) = %v, %v; Parse says %v", q, j, err, c)
			}
		}
	})
}
