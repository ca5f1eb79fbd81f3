// SPDX-License-Identifier: Apache-2.0

package connect

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/faultline-rpc/faultline/conformance/known"
)

var (
	sent     = regexp.MustCompile(`^Sending request for "(.*)"\.\.\.$`)
	answered = regexp.MustCompile(`^Received response for "(.*)"\.\.\.$`)
	failure  = regexp.MustCompile(`^FAILED: (.*):$`)
	total    = regexp.MustCompile(`^Total cases: ([0-9]+)$`)
)

// parse reads what the suite prints with --vv: each case as it begins and as
// it is answered, then the failures, then the number of cases. A case that was
// never answered counts as failed.
func parse(r io.Reader) ([]known.Result, error) {
	var out []known.Result
	index, finished := map[string]int{}, map[string]bool{}
	at := func(name string) *known.Result {
		i, ok := index[name]
		if !ok {
			i = len(out)
			index[name] = i
			out = append(out, known.Result{Name: name})
		}
		return &out[i]
	}
	count, failing := -1, (*known.Result)(nil)
	sc := bufio.NewScanner(r)
	sc.Buffer(nil, 64<<20) // a failure may quote a message of a size test
	for sc.Scan() {
		line := sc.Text()
		if why, ok := strings.CutPrefix(line, "\t"); ok && failing != nil {
			if failing.Err == errNoReason {
				failing.Err = errors.New(why)
			} else {
				failing.Err = fmt.Errorf("%w; %s", failing.Err, why)
			}
			continue
		}
		failing = nil
		if m := sent.FindStringSubmatch(line); m != nil {
			at(m[1])
		} else if m := answered.FindStringSubmatch(line); m != nil {
			finished[m[1]] = true
		} else if m := failure.FindStringSubmatch(line); m != nil {
			failing = at(m[1])
			failing.Err = errNoReason
		} else if m := total.FindStringSubmatch(line); m != nil {
			count, _ = strconv.Atoi(m[1])
		}
	}
	if err := sc.Err(); err != nil {
		return nil, fmt.Errorf("the suite's report does not parse: %w", err)
	}
	for i := range out {
		if out[i].Err == nil && !finished[out[i].Name] {
			out[i].Err = errors.New("it was not answered")
		}
	}
	if count != len(out) || count <= 0 {
		return nil, fmt.Errorf("the suite ran %d cases and reports %d", len(out), count)
	}
	return out, nil
}

// beyond matches the names of the cases for which a program registers something.
var beyond = regexp.MustCompile(`/Codec:CODEC_JSON/|/Compression:COMPRESSION_(BR|ZSTD|DEFLATE|SNAPPY)/`)

// Plain returns the results of the cases that need no codec but protobuf and no
// compression but gzip: what comes with an engine.
func Plain(rs []known.Result) []known.Result {
	return slices.DeleteFunc(slices.Clone(rs), func(r known.Result) bool { return beyond.MatchString(r.Name) })
}

var errNoReason = errors.New("no reason is given")
