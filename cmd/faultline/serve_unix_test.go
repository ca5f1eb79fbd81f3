// SPDX-License-Identifier: Apache-2.0

//go:build unix

package main

import (
	"bufio"
	"bytes"
	"io"
	"os"
	"syscall"
	"testing"
)

// TestServeSignal is the end of a server at SIGTERM, as Kubernetes has it.
func TestServeSignal(t *testing.T) {
	for _, sig := range []syscall.Signal{syscall.SIGTERM, syscall.SIGINT} {
		out, in := io.Pipe()
		var errs bytes.Buffer
		done := make(chan int, 1)
		go func() { done <- run(t.Context(), []string{"serve", "--addr", "127.0.0.1:0"}, in, &errs) }()
		if _, err := bufio.NewReader(out).ReadString('\n'); err != nil {
			t.Fatal(err)
		}
		if err := syscall.Kill(os.Getpid(), sig); err != nil {
			t.Fatal(err)
		}
		if status := <-done; status != 0 || errs.String() != stopping {
			t.Errorf("%v: status %d, stderr %q", sig, status, errs.String())
		}
	}
}
