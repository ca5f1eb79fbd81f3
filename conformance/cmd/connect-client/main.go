// SPDX-License-Identifier: Apache-2.0

// Command connect-client makes the calls that connectconformance describes on
// standard input, and writes what came of them to standard output. It ends
// with its input.
package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"os"

	"github.com/faultline-rpc/faultline/conformance/connect/subject"
)

func main() {
	os.Exit(run(context.Background(), os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
}

func run(ctx context.Context, args []string, in io.Reader, out, errOut io.Writer) int {
	fs := flag.NewFlagSet("connect-client", flag.ContinueOnError)
	fs.SetOutput(errOut)
	name := fs.String("engine", "faultline", "the implementation under test: faultline or grpc-go")
	if err := fs.Parse(args); err != nil {
		return 2
	}
	if fs.NArg() > 0 {
		fmt.Fprintf(errOut, "connect-client: %q is not understood: it takes flags only\n", fs.Arg(0))
		return 2
	}
	engine, err := subject.EngineByName(*name)
	if err == nil {
		err = subject.Call(ctx, engine, in, out)
	}
	if err != nil {
		fmt.Fprintf(errOut, "connect-client: %v\n", err)
		return 1
	}
	return 0
}
