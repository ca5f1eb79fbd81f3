// SPDX-License-Identifier: Apache-2.0

package connect

import (
	"bytes"
	"context"
	_ "embed"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"

	"github.com/faultline-rpc/faultline/conformance/known"
)

const (
	suitePath   = "connectrpc.com/conformance/cmd/connectconformance"
	subjectPath = "github.com/faultline-rpc/faultline/conformance/cmd/connect-" // and a mode
	// simultaneous is how many servers the suite starts, and how many calls its
	// own client makes, at a time. Some cases have deadlines of 200 ms.
	simultaneous = "4"
)

// generate.sh of internal/gen reads it too.
const suiteVersion = "v1.0.7"

//go:embed features.yaml
var features []byte

// Suite is the suite's program and what it examines, built.
type Suite struct {
	dir string
}

// Build builds the suite and its subjects. Close removes them.
func Build(ctx context.Context) (*Suite, error) {
	dir, err := os.MkdirTemp("", "connectconformance")
	if err != nil {
		return nil, err
	}
	s := &Suite{dir}
	// Apart: what is asked for by version is built with its own requirements.
	if err = s.install(ctx, suitePath+"@"+suiteVersion); err == nil {
		err = s.install(ctx, subjectPath+"server", subjectPath+"client")
	}
	if err == nil {
		err = os.WriteFile(filepath.Join(dir, "features.yaml"), features, 0o600)
	}
	if err != nil {
		s.Close()
		return nil, err
	}
	return s, nil
}

// Close removes what was built.
func (s *Suite) Close() { _ = os.RemoveAll(s.dir) }

func (s *Suite) install(ctx context.Context, packages ...string) error {
	cmd := exec.CommandContext(ctx, "go", append([]string{"install"}, packages...)...)
	cmd.Env = append(os.Environ(), "GOBIN="+s.dir)
	if text, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("connect: %s cannot be built: %w\n%s", strings.Join(packages, " and "), err, tail(text))
	}
	return nil
}

func (s *Suite) program(name string) string {
	if runtime.GOOS == "windows" {
		name += ".exe"
	}
	return filepath.Join(s.dir, name)
}

// Run runs every case. mode is "server" or "client", the side under test;
// engine is faultline or grpc-go. cases, when not empty, is a pattern in the
// suite's own form, such as "Timeouts/**", that chooses among the cases. The
// error is that of running the suite, not that of a case.
func (s *Suite) Run(ctx context.Context, mode, engine, cases string) ([]known.Result, error) {
	args := []string{"--vv", "--conf", filepath.Join(s.dir, "features.yaml"), "--mode", mode, "--max-servers", simultaneous}
	if mode == "server" {
		args = append(args, "--parallel", simultaneous)
	}
	if cases != "" {
		args = append(args, "--run", cases)
	}
	cmd := exec.CommandContext(ctx, s.program("connectconformance"), append(args, "--", s.program("connect-"+mode), "-engine", engine)...)
	var out, errOut bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errOut
	var failed *exec.ExitError
	if err := cmd.Run(); err != nil && !errors.As(err, &failed) { // it exits with 1 when a case fails
		return nil, fmt.Errorf("connect: the suite does not run: %w", err)
	}
	rs, err := parse(&out)
	if err != nil {
		return nil, fmt.Errorf("connect: %w, and it said: %s", err, tail(errOut.Bytes()))
	}
	return rs, nil
}

// tail returns the end of what a program wrote.
func tail(text []byte) string {
	s := strings.TrimSpace(string(text))
	return s[max(0, len(s)-2000):]
}
