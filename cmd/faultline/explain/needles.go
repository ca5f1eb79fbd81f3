// SPDX-License-Identifier: Apache-2.0

package explain

import (
	"regexp/syntax"
	"strings"
)

// A pattern is tried on a text only if the text has one of its needles: to try
// hundreds of patterns on a long log would take many seconds.

// needlesOf returns, in small letters, pieces of text of which every match of
// the pattern has one, whatever its case. It returns nil where there are none.
func needlesOf(pattern string) ([]string, error) {
	re, err := syntax.Parse(pattern, syntax.Perl|syntax.FoldCase)
	if err != nil {
		return nil, err
	}
	return needles(re), nil
}

// minNeedle is the length below which a needle is in too many texts.
const minNeedle = 3

func needles(re *syntax.Regexp) []string {
	switch re.Op {
	case syntax.OpLiteral:
		if s := strings.ToLower(string(re.Rune)); len(s) >= minNeedle {
			return []string{s}
		}
	case syntax.OpCapture, syntax.OpPlus:
		return needles(re.Sub[0])
	case syntax.OpRepeat:
		if re.Min > 0 {
			return needles(re.Sub[0])
		}
	case syntax.OpConcat: // all of its parts are there: take the rarest
		var best []string
		for _, sub := range re.Sub {
			if n := needles(sub); shortest(n) > shortest(best) {
				best = n
			}
		}
		return best
	case syntax.OpAlternate: // one of its parts is
		var all []string
		for _, sub := range re.Sub {
			n := needles(sub)
			if n == nil {
				return nil
			}
			all = append(all, n...)
		}
		return all
	}
	return nil
}

func shortest(all []string) int {
	least := 0
	for _, s := range all {
		if least == 0 || len(s) < least {
			least = len(s)
		}
	}
	return least
}

// may reports whether a text in small letters can match.
func (p *Phrase) may(low string) bool {
	if p.needles == nil {
		return true
	}
	for _, n := range p.needles {
		if strings.Contains(low, n) {
			return true
		}
	}
	return false
}
