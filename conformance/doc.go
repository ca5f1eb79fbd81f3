// SPDX-License-Identifier: Apache-2.0

// Package conformance holds Faultline against the suites that others wrote:
// grpc-go's interop cases in interop, connectconformance in connect and h2spec
// in h2spec.
//
// It is a module of its own, so that what the suites need stays out of the
// library's requirements, and it carries no compatibility promise. The
// package itself carries the lists of what is known to fail.
package conformance

import (
	"embed"

	"github.com/faultline-rpc/faultline/conformance/known"
)

//go:embed testdata/known-failing-*.txt
var lists embed.FS

// KnownFailing returns the list of a suite, such as "h2spec". The error names
// the file and line that cannot be read.
func KnownFailing(suite string) (known.List, error) {
	name := "testdata/known-failing-" + suite + ".txt"
	b, err := lists.ReadFile(name)
	if err != nil {
		return nil, err
	}
	return known.Parse(name, string(b))
}
