// SPDX-License-Identifier: Apache-2.0

// Package near finds the name that a person probably meant.
//
// It belongs to the command faultline and carries no compatibility promise.
package near

import (
	"slices"
	"strings"
)

// Name returns the one of names that is most like name, or "" if none is
// alike: the same but for case, the same last part, or few letters apart.
func Name(name string, names []string) string {
	names = slices.Sorted(slices.Values(names))
	best, least := "", 1+max(2, len(name)/4)
	for _, n := range names {
		d := distance(strings.ToLower(name), strings.ToLower(n), least)
		if d < least {
			best, least = n, d
		}
	}
	if best != "" {
		return best
	}
	for _, n := range names {
		if strings.EqualFold(lastPart(n), lastPart(name)) {
			return n
		}
	}
	return ""
}

func lastPart(name string) string { return name[1+strings.LastIndexAny(name, "./"):] }

// maxName bounds what is compared letter by letter.
const maxName = 256

// distance counts the letters to insert, delete or replace, and gives up at
// limit.
func distance(a, b string, limit int) int {
	if len(a) > maxName || len(b) > maxName || max(len(a)-len(b), len(b)-len(a)) >= limit {
		return limit
	}
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		corner := row[0]
		row[0] = i + 1
		for j := range len(b) {
			replace := corner
			if a[i] != b[j] {
				replace++
			}
			corner = row[j+1]
			row[j+1] = min(replace, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}
