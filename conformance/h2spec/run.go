// SPDX-License-Identifier: Apache-2.0

package h2spec

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"time"

	"github.com/faultline-rpc/faultline/conformance/known"
)

const (
	// caseTimeout is how long h2spec waits for an answer, in seconds; it is
	// its own default.
	caseTimeout = 2
	// startTimeout bounds the wait for a server to say where it listens.
	startTimeout = 20 * time.Second
	h2specPath   = "github.com/summerwind/h2spec/cmd/h2spec"
)

// Serving is a server under test.
type Serving struct {
	// Addr is "host:port" on loopback.
	Addr string
	// Stop ends it and waits until it has ended.
	Stop func()
}

// Run builds h2spec and runs all of its cases, strict ones too, against a
// server of HTTP/2 in cleartext at addr. The error is that of running it, not
// that of a case.
func Run(ctx context.Context, addr string) ([]known.Result, error) {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return nil, fmt.Errorf("h2spec: %q is not host:port: %w", addr, err)
	}
	dir, err := os.MkdirTemp("", "h2spec")
	if err != nil {
		return nil, err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	tool, err := build(ctx, "tools", h2specPath, dir)
	if err != nil {
		return nil, err
	}
	file := filepath.Join(dir, "report.xml")
	cmd := exec.CommandContext(ctx, tool, "-S", "-o", strconv.Itoa(caseTimeout), "-h", host, "-p", port, "-j", file)
	text, err := cmd.CombinedOutput()
	var failed *exec.ExitError
	if err != nil && !errors.As(err, &failed) { // it exits with 1 when a case fails
		return nil, fmt.Errorf("h2spec: it does not run: %w", err)
	}
	f, err := os.Open(file)
	if err != nil {
		return nil, fmt.Errorf("h2spec: it left no report, and said: %s", tail(text))
	}
	defer func() { _ = f.Close() }()
	return parse(f)
}

// tail returns the end of what a program wrote.
func tail(text []byte) string {
	s := strings.TrimSpace(string(text))
	return s[max(0, len(s)-2000):]
}

// build compiles the main package pkg of the module in folder, relative to the
// repository's root, into dir and returns the executable.
func build(ctx context.Context, folder, pkg, dir string) (string, error) {
	root, err := repository(ctx)
	if err != nil {
		return "", err
	}
	bin := filepath.Join(dir, filepath.Base(pkg))
	if runtime.GOOS == "windows" {
		bin += ".exe"
	}
	cmd := exec.CommandContext(ctx, "go", "build", "-o", bin, pkg)
	cmd.Dir = filepath.Join(root, folder)
	if text, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("h2spec: %s does not build: %w\n%s", pkg, err, tail(text))
	}
	return bin, nil
}

// repository returns the folder above this module.
func repository(ctx context.Context) (string, error) {
	out, err := exec.CommandContext(ctx, "go", "env", "GOMOD").Output()
	if err != nil {
		return "", fmt.Errorf("h2spec: go env does not run: %w", err)
	}
	mod := strings.TrimSpace(string(out))
	if filepath.Base(filepath.Dir(mod)) != "conformance" {
		return "", fmt.Errorf("h2spec: run it inside the conformance module, not under %q", mod)
	}
	return filepath.Dir(filepath.Dir(mod)), nil
}

// Faultline builds and starts `faultline serve` on a free port of loopback.
func Faultline(ctx context.Context) (Serving, error) {
	dir, err := os.MkdirTemp("", "faultline")
	if err != nil {
		return Serving{}, err
	}
	s, err := start(ctx, dir)
	if err != nil {
		_ = os.RemoveAll(dir)
	}
	return s, err
}

func start(ctx context.Context, dir string) (Serving, error) {
	bin, err := build(ctx, ".", "./cmd/faultline", dir)
	if err != nil {
		return Serving{}, err
	}
	cmd := exec.CommandContext(ctx, bin, "serve", "--addr", "127.0.0.1:0")
	pr, pw := io.Pipe()
	cmd.Stdout, cmd.Stderr = pw, pw
	if err := cmd.Start(); err != nil {
		return Serving{}, fmt.Errorf("h2spec: faultline serve does not start: %w", err)
	}
	gone := make(chan struct{})
	go func() {
		defer close(gone)
		_ = pw.CloseWithError(cmd.Wait())
	}()
	stop := func() {
		_ = cmd.Process.Kill() // it may have ended by itself
		<-gone
		_ = os.RemoveAll(dir)
	}
	addr, err := listening(pr, startTimeout)
	if err != nil {
		stop()
		return Serving{}, fmt.Errorf("h2spec: faultline serve: %w", err)
	}
	return Serving{Addr: addr, Stop: stop}, nil
}

var loopback = regexp.MustCompile(`127\.0\.0\.1:[1-9][0-9]*`)

// listening reads what a server prints until an address on loopback stands in
// it, and goes on draining r. It gives up after limit or at the end of r.
func listening(r io.Reader, limit time.Duration) (string, error) {
	type answer struct {
		addr string
		err  error
	}
	c := make(chan answer, 1)
	go func() {
		var said []string
		for sc := bufio.NewScanner(r); sc.Scan(); {
			if addr := loopback.FindString(sc.Text()); addr != "" {
				c <- answer{addr: addr}
				_, _ = io.Copy(io.Discard, r)
				return
			}
			said = append(said, sc.Text())
		}
		c <- answer{err: fmt.Errorf("it ended without saying where it listens, but said %q", strings.Join(said, "\n"))}
	}()
	t := time.NewTimer(limit)
	defer t.Stop()
	select {
	case a := <-c:
		return a.addr, a.err
	case <-t.C:
		return "", fmt.Errorf("it did not say where it listens within %s", limit)
	}
}
