// SPDX-License-Identifier: Apache-2.0

package h2spec

import (
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/faultline-rpc/faultline/conformance/known"
)

// report is the part of h2spec's JUnit file that is read.
type report struct {
	Suites []struct {
		Package string `xml:"package,attr"`
		Cases   []struct {
			Title   string   `xml:"classname,attr"`
			Failure *outcome `xml:"failure"`
			Error   *outcome `xml:"error"`
			Skipped *outcome `xml:"skipped"`
		} `xml:"testcase"`
	} `xml:"testsuite"`
}

type outcome struct {
	Text string `xml:",chardata"`
}

// parse reads a JUnit report of h2spec. A case is named as h2spec's command
// line names it, section and number, such as "http2/6.9.1/3". A case that was
// skipped counts as failed. A report without cases is an error.
func parse(r io.Reader) ([]known.Result, error) {
	var rep report
	if err := xml.NewDecoder(r).Decode(&rep); err != nil {
		return nil, fmt.Errorf("h2spec: its report does not parse: %w", err)
	}
	var out []known.Result
	for _, s := range rep.Suites {
		for i, c := range s.Cases {
			res := known.Result{Name: fmt.Sprintf("%s/%d", s.Package, i+1)}
			for _, o := range []*outcome{c.Failure, c.Error, c.Skipped} {
				if o != nil {
					res.Err = fmt.Errorf("%s: %s", c.Title, strings.Join(strings.Fields(o.Text), " "))
				}
			}
			out = append(out, res)
		}
	}
	if len(out) == 0 {
		return nil, errors.New("h2spec: its report holds no case")
	}
	return out, nil
}
