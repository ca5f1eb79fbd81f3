// SPDX-License-Identifier: Apache-2.0

package codes_test

import (
	"fmt"

	"github.com/faultline-rpc/faultline/codes"
)

func ExampleAbout() {
	i := codes.About(codes.Aborted)
	fmt.Println(i.Name, i.HTTP, i.HTTPName)
	fmt.Println(i.Meaning)
	fmt.Println(i.Retry, "-", i.Advice)
	// Output:
	// ABORTED 409 Conflict
	// The operation lost against a concurrent one: a transaction was aborted, a sequence check failed.
	// higher-level - Restart the whole read-modify-write sequence, not this call alone.
}

func ExampleParse() {
	c, err := codes.Parse("not_found")
	fmt.Println(c, err)
	_, err = codes.Parse("GONE")
	fmt.Println(err)
	// Output:
	// NotFound <nil>
	// codes: "GONE" is no gRPC status code: expected a name such as NOT_FOUND or NotFound, or a number from 0 to 16
}
