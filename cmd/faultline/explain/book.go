// SPDX-License-Identifier: Apache-2.0

package explain

import (
	"bytes"
	"cmp"
	"embed"
	"encoding/json"
	"fmt"
	"io/fs"
	"path"
	"regexp"
	"slices"
	"strings"
	"sync"

	"github.com/faultline-rpc/faultline/fault"
)

//go:embed phrases/*.json
var files embed.FS

// Phrase is a text that a gRPC stack, a proxy or a system library prints.
type Phrase struct {
	// Pattern is a regular expression of package regexp, whatever the case.
	Pattern string `json:"pattern"`
	// From are the stacks that print it.
	From []string `json:"from"`
	// Example is a whole text with it, as people paste it.
	Example string `json:"example"`
	// Source is the address of the source file or report it was taken from.
	Source string `json:"source"`
	// Wrapper marks a text that surrounds a more telling one as a rule.
	Wrapper bool `json:"wrapper,omitempty"`
	// Weight puts a phrase before those with less, where several are found.
	Weight int `json:"weight,omitempty"`
	// Means are the circumstances, the likeliest first.
	Means []Meaning `json:"means"`

	exp     *regexp.Regexp
	needles []string
}

// Meaning is one circumstance that a phrase can stand for.
type Meaning struct {
	ID fault.ID `json:"id"`
	// Tell is how to tell it from the others.
	Tell string `json:"tell"`
}

// Book returns the phrase book, file by file. Its phrases are shared: do not
// change them. The error is a mistake in the data, which tests exclude.
var Book = sync.OnceValues(read)

func read() ([]Phrase, error) {
	names, err := fs.Glob(files, "phrases/*.json")
	if err != nil {
		return nil, err
	}
	var all []Phrase
	for _, name := range names {
		text, err := files.ReadFile(name)
		if err != nil {
			return nil, err
		}
		dec := json.NewDecoder(bytes.NewReader(text))
		dec.DisallowUnknownFields()
		var some []Phrase
		if err := dec.Decode(&some); err != nil {
			return nil, fmt.Errorf("%s: %w", path.Base(name), err)
		}
		for i := range some {
			if some[i].exp, err = regexp.Compile("(?i)" + some[i].Pattern); err != nil {
				return nil, fmt.Errorf("%s: %w", path.Base(name), err)
			}
			if some[i].needles, err = needlesOf(some[i].Pattern); err != nil {
				return nil, fmt.Errorf("%s: %w", path.Base(name), err)
			}
		}
		all = append(all, some...)
	}
	return all, nil
}

// Match is a phrase found in a text.
type Match struct {
	Phrase *Phrase
	Found  string // the part of the text
}

// find returns the phrases in text: wrappers last, and among the others those
// with more weight first, then the longest, for it says most.
func find(text string) ([]Match, error) {
	book, err := Book()
	if err != nil {
		return nil, err
	}
	var all []Match
	low := strings.ToLower(text)
	for i := range book {
		if !book[i].may(low) {
			continue
		}
		if found := book[i].exp.FindString(text); found != "" {
			all = append(all, Match{&book[i], found})
		}
	}
	sortMatches(all)
	return all, nil
}

func sortMatches(all []Match) {
	slices.SortStableFunc(all, func(a, b Match) int {
		switch {
		case a.Phrase.Wrapper != b.Phrase.Wrapper && a.Phrase.Wrapper:
			return 1
		case a.Phrase.Wrapper != b.Phrase.Wrapper:
			return -1
		}
		return cmp.Or(b.Phrase.Weight-a.Phrase.Weight, len(b.Found)-len(a.Found))
	})
}
