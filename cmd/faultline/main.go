// SPDX-License-Identifier: Apache-2.0

// Command faultline shows what Faultline's failures tell, and serves a test service to try clients on.
package main

import (
	"context"
	"os"
)

func main() {
	os.Exit(run(context.Background(), os.Args[1:], os.Stdout, os.Stderr))
}
