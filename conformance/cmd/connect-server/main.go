// SPDX-License-Identifier: Apache-2.0

// Command connect-server serves as connectconformance asks on standard input, and
// says where on standard output. It ends
// with SIGTERM.
package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/faultline-rpc/faultline/conformance/connect/subject"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := run(ctx, os.Args[1:], os.Stdin, os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

func run(ctx context.Context, args []string, in io.Reader, out, errOut io.Writer) int {
	fs := flag.NewFlagSet("connect-server", flag.ContinueOnError)
	fs.SetOutput(errOut)
	name := fs.String("engine", "faultline", "the implementation under test: faultline or grpc-go")
	if err := fs.Parse(args); err != nil {
		return 2
	}
	if fs.NArg() > 0 {
		fmt.Fprintf(errOut, "connect-server: %q is not understood: it takes flags only\n", fs.Arg(0))
		return 2
	}
	engine, err := subject.EngineByName(*name)
	if err == nil {
		err = subject.Serve(ctx, engine, in, out)
	}
	if err != nil {
		fmt.Fprintf(errOut, "connect-server: %v\n", err)
		return 1
	}
	return 0
}
