// SPDX-License-Identifier: Apache-2.0

//go:build unix

package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"time"
)

// grace is how long a measurement may take beyond its own time before its processes are killed.
const grace = 30 * time.Second

// A plan says how each measurement is done.
type plan struct {
	duration, warmup time.Duration
	cpuDir, memDir   string // where profiles go, if not empty
}

// A figures is what one measurement found.
type figures struct {
	Rate         float64       // calls or messages per second
	CPU          time.Duration // per call, user and system of both processes
	P50, P99     time.Duration
	Max          time.Duration
	AllocsClient float64 // per call
	AllocsServer float64 // per call
	Least        float64 // calls of the slowest caller over those of the average one
	MemoryClient float64 // bytes per idle thing
	MemoryServer float64 // bytes per idle thing
}

// measure puts w on l once, with fresh processes that have ended when it returns.
func (p plan) measure(ctx context.Context, w workload, l lane, round int) (figures, error) {
	ctx, cancel := context.WithTimeout(ctx, p.warmup+p.duration+grace)
	defer cancel()
	server, r, err := p.start(ctx, order{Role: roleServer, Engine: l.server}, w, l, round)
	if err != nil {
		return figures{}, err
	}
	defer server.stop()
	client, _, err := p.start(ctx, order{Role: roleClient, Engine: l.client, Addr: r.Addr}, w, l, round)
	if err != nil {
		return figures{}, err
	}
	defer client.stop()
	if _, err := server.ask("begin"); err != nil {
		return figures{}, err
	}
	rc, err := client.ask("begin")
	if err != nil {
		return figures{}, err
	}
	rs, err := server.ask("end")
	if err != nil {
		return figures{}, err
	}
	if rc.Tally.Calls == 0 {
		return figures{}, errors.New("no call ended in the time given")
	}
	return figuresOf(w, rc, rs), nil
}

func figuresOf(w workload, c, s reply) figures {
	n := float64(c.Tally.Calls)
	if w.idle() {
		return figures{MemoryClient: float64(c.Usage.Memory) / n, MemoryServer: float64(s.Usage.Memory) / n}
	}
	return figures{
		Rate:         n / c.Tally.Elapsed.Seconds(),
		CPU:          time.Duration(float64(c.Usage.CPU+s.Usage.CPU) / n),
		P50:          c.Tally.P50,
		P99:          c.Tally.P99,
		Max:          c.Tally.Max,
		AllocsClient: float64(c.Usage.Mallocs) / n,
		AllocsServer: float64(s.Usage.Mallocs) / n,
		Least:        c.Tally.Least,
	}
}

// A process is a child and the conversation with it.
type process struct {
	name string
	cmd  *exec.Cmd
	in   io.WriteCloser
	out  *json.Decoder
}

// start starts a child and returns its first answer. The child does not outlive ctx.
func (p plan) start(ctx context.Context, o order, w workload, l lane, round int) (*process, reply, error) {
	o.Workload, o.Warmup, o.Duration = w.name, p.warmup, p.duration
	o.CPU = p.profile(p.cpuDir, w, l, o.Role, round, "cpu")
	o.Mem = p.profile(p.memDir, w, l, o.Role, round, "mem")
	self, err := os.Executable()
	if err != nil {
		return nil, reply{}, err
	}
	arg, err := json.Marshal(o)
	if err != nil {
		return nil, reply{}, err
	}
	c := &process{name: l.name + " " + o.Role, cmd: exec.CommandContext(ctx, self, childArg, string(arg))}
	c.cmd.Stderr = os.Stderr
	if c.in, err = c.cmd.StdinPipe(); err != nil {
		return nil, reply{}, err
	}
	out, err := c.cmd.StdoutPipe()
	if err != nil {
		return nil, reply{}, err
	}
	c.out = json.NewDecoder(bufio.NewReader(out))
	if err := c.cmd.Start(); err != nil {
		return nil, reply{}, err
	}
	r, err := c.answer()
	if err != nil {
		c.stop()
		return nil, reply{}, err
	}
	return c, r, nil
}

// profile returns the file name of a profile, and "" if none is wanted.
func (p plan) profile(dir string, w workload, l lane, role string, round int, what string) string {
	if dir == "" {
		return ""
	}
	return filepath.Join(dir, fmt.Sprintf("%s.%s.%s.%d.%s.pprof", w.name, safeName(l.name), role, round+1, what))
}

func (c *process) ask(wish string) (reply, error) {
	if _, err := fmt.Fprintln(c.in, wish); err != nil {
		return reply{}, fmt.Errorf("%s: %w", c.name, err)
	}
	return c.answer()
}

func (c *process) answer() (reply, error) {
	var r reply
	if err := c.out.Decode(&r); err != nil {
		return r, fmt.Errorf("%s: no answer: %w", c.name, err)
	}
	if r.Error != "" {
		return r, errors.New(r.Error)
	}
	return r, nil
}

// stop kills the child and waits for its end: it has nothing left to do.
func (c *process) stop() {
	c.in.Close()
	c.cmd.Process.Kill()
	c.cmd.Wait()
}
