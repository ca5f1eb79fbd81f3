// SPDX-License-Identifier: Apache-2.0

package near

import "strings"

// maxName bounds the names that are compared, in bytes: others may be a peer's,
// as often as it likes.
const maxName = 256

// Name returns the one of names that is most like name, or "" if none is
// alike: the same but for case, few letters apart, or the same last part. Of
// several it is the first in the alphabet.
func Name(name string, names []string) string {
	if len(name) > maxName {
		return ""
	}
	best, least := "", 1+min(max(2, len(name)/4), 8, len(name)/2)
	for _, n := range names {
		if d := distance(name, n, least+1); d < least || d == least && best != "" && n < best {
			best, least = n, d
		}
	}
	if best != "" {
		return best
	}
	for _, n := range names {
		if strings.EqualFold(lastPart(n), lastPart(name)) && (best == "" || n < best) {
			best = n
		}
	}
	return best
}

func lastPart(name string) string { return name[1+strings.LastIndexAny(name, "./"):] }

// distance counts the bytes to insert, delete or replace (Levenshtein), ASCII
// letters of either case being the same. It gives up at limit.
func distance(a, b string, limit int) int {
	if len(b) > maxName || max(len(a)-len(b), len(b)-len(a)) >= limit {
		return limit
	}
	var row [maxName + 1]int
	for j := range len(b) + 1 {
		row[j] = j
	}
	for i := range len(a) {
		corner := row[0]
		row[0] = i + 1
		lowest := row[0]
		for j := range len(b) {
			next := corner
			if lower(a[i]) != lower(b[j]) {
				next = 1 + min(corner, row[j], row[j+1])
			}
			corner, row[j+1] = row[j+1], next
			lowest = min(lowest, next)
		}
		if lowest >= limit {
			return limit
		}
	}
	return min(row[len(b)], limit)
}

func lower(c byte) byte {
	if 'A' <= c && c <= 'Z' {
		c += 'a' - 'A'
	}
	return c
}
