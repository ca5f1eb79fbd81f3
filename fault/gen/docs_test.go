// SPDX-License-Identifier: Apache-2.0

package gen_test

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/faultline-rpc/faultline/codes"
	"github.com/faultline-rpc/faultline/event"
	"github.com/faultline-rpc/faultline/fault"
)

// TestRetryTable holds the policy table of docs/retry.md against the codes.
func TestRetryTable(t *testing.T) {
	text, err := os.ReadFile("../../docs/retry.md")
	if err != nil {
		t.Fatal(err)
	}
	for c := codes.OK; c <= codes.Unauthenticated; c++ {
		about := codes.About(c)
		if line := fmt.Sprintf("\n| %s (%d) | %s |", about.Name, c, about.Retry); !strings.Contains(string(text), line) {
			t.Errorf("docs/retry.md has no line that begins with %q", line[1:])
		}
	}
}

var (
	link = regexp.MustCompile(`\]\(([^)#:\s]+)(#[^)]*)?\)`)
	ids  = regexp.MustCompile("`((?:resolve|pick|dial|tls|http2|wire|codec|call|server|handler|policy)\\.[a-z0-9-]+)`")
)

// TestDocsNameWhatExists follows the relative links of the documents, and looks
// up the circumstances that they name.
func TestDocsNameWhatExists(t *testing.T) {
	files, err := filepath.Glob("../../docs/*.md")
	if err != nil {
		t.Fatal(err)
	}
	more, err := filepath.Glob(dir + "/*.md")
	if err != nil {
		t.Fatal(err)
	}
	files = append(files, more...)
	for _, root := range []string{"README.md", "CONTRIBUTING.md", "CHANGELOG.md"} {
		files = append(files, "../../"+root)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range link.FindAllStringSubmatch(string(text), -1) {
			if _, err := os.Stat(filepath.Join(filepath.Dir(file), m[1])); err != nil {
				t.Errorf("%s links %s, which does not exist", file, m[1])
			}
		}
		for _, m := range ids.FindAllStringSubmatch(string(text), -1) {
			if fault.Lookup(fault.ID(m[1])) == nil && m[1] != (event.DeadlineExpired{}).Name() {
				t.Errorf("%s names the circumstance %s, which is not in the catalogue", file, m[1])
			}
		}
	}
}
