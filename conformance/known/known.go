// SPDX-License-Identifier: Apache-2.0

// Package known says which conformance cases are expected to fail, and
// compares that with what happened. It carries no compatibility promise.
package known

import (
	"fmt"
	"slices"
	"strings"
)

// List maps the name of a case that fails to the reason why.
type List map[string]string

// Result is the outcome of one case.
type Result struct {
	// Name identifies the case within its suite.
	Name string
	// Err is nil for a case that passed.
	Err error
}

// Parse reads a list: one "name: reason" to a line; empty lines and those that
// begin with # are skipped. A line without a reason is an error: nothing may
// fail without one. file is used in errors alone.
func Parse(file, text string) (List, error) {
	l := List{}
	for i, line := range strings.Split(text, "\n") {
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		name, reason, ok := strings.Cut(line, ": ")
		name, reason = strings.TrimSpace(name), strings.TrimSpace(reason)
		if !ok || name == "" || reason == "" {
			return nil, fmt.Errorf("%s:%d: %q is not \"name: reason\"", file, i+1, line)
		}
		if _, twice := l[name]; twice {
			return nil, fmt.Errorf("%s:%d: %s is listed twice", file, i+1, name)
		}
		l[name] = reason
	}
	return l, nil
}

// Compare returns what is not as the list says, one sentence for each: a case
// that fails unlisted, one that is listed and passes, one that is listed and
// was not run. None means that the suite is as expected.
func (l List) Compare(results []Result) []string {
	var out []string
	ran := map[string]bool{}
	for _, r := range results {
		ran[r.Name] = true
		_, listed := l[r.Name]
		switch {
		case r.Err != nil && !listed:
			out = append(out, fmt.Sprintf("%s fails: %v", r.Name, r.Err))
		case r.Err == nil && listed:
			out = append(out, fmt.Sprintf("%s passes now: take it off the list of known failures", r.Name))
		}
	}
	for name := range l {
		if !ran[name] {
			out = append(out, fmt.Sprintf("%s is on the list of known failures, but there is no such case", name))
		}
	}
	slices.Sort(out)
	return out
}

// Passed counts the results without an error.
func Passed(results []Result) int {
	n := 0
	for _, r := range results {
		if r.Err == nil {
			n++
		}
	}
	return n
}
