// SPDX-License-Identifier: Apache-2.0

// Command faultline calls gRPC servers, explains why calls fail, and shows what Faultline's failures tell.
package main

import (
	"context"
	"os"
)

func main() {
	os.Exit(run(context.Background(), os.Args[1:], os.Stdout, os.Stderr))
}
