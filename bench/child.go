// SPDX-License-Identifier: Apache-2.0

//go:build unix

package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"runtime/pprof"
	"syscall"
	"time"
)

// The two roles of a child process.
const (
	roleServer = "server"
	roleClient = "client"
)

// childArg is the first argument of a process that is a child; the second is its order as JSON.
const childArg = "bench-child"

// An order tells a child what to be. The parent then writes a line per wish (begin, end) and the child answers each
// with a line of JSON, the first one without being asked. The end of its standard input ends the child.
type order struct {
	Role     string
	Engine   string
	Workload string
	Addr     string // client: the server's
	Warmup   time.Duration
	Duration time.Duration
	CPU, Mem string // profiles to write, if not empty
}

// A reply is a child's answer.
type reply struct {
	Error string `json:",omitempty"`
	Addr  string `json:",omitempty"` // server, at first
	Tally tally  // client, to begin
	Usage usage  // client, to begin; server, to end
}

// usage is what a process consumed.
type usage struct {
	CPU     time.Duration // user and system
	Mallocs uint64
	Memory  int64 // bytes of heap and stacks; idle workloads only
}

// snapshot returns what the process consumed so far.
func snapshot(w workload) (usage, error) {
	var u usage
	if w.idle() {
		u.Memory = int64(settledMemory())
	}
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	u.Mallocs = m.Mallocs
	var r syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &r); err != nil {
		return usage{}, fmt.Errorf("getrusage: %w", err)
	}
	u.CPU = time.Duration(r.Utime.Nano() + r.Stime.Nano())
	return u, nil
}

func (u usage) minus(o usage) usage {
	return usage{CPU: u.CPU - o.CPU, Mallocs: u.Mallocs - o.Mallocs, Memory: u.Memory - o.Memory}
}

// A meter measures one stretch: profiles and consumption.
type meter struct {
	w     workload
	o     order
	cpu   *os.File
	start usage
}

func (m *meter) begin() (err error) {
	if m.start, err = snapshot(m.w); err != nil {
		return err
	}
	if m.o.CPU == "" {
		return nil
	}
	if m.cpu, err = createFile(m.o.CPU); err != nil {
		return err
	}
	return pprof.StartCPUProfile(m.cpu)
}

func (m *meter) end() (usage, error) {
	now, err := snapshot(m.w)
	if err != nil {
		return usage{}, err
	}
	if m.cpu != nil {
		pprof.StopCPUProfile()
		if err := m.cpu.Close(); err != nil {
			return usage{}, err
		}
	}
	if m.o.Mem != "" {
		f, err := createFile(m.o.Mem)
		if err != nil {
			return usage{}, err
		}
		if err := errors.Join(pprof.Lookup("allocs").WriteTo(f, 0), f.Close()); err != nil {
			return usage{}, err
		}
	}
	return now.minus(m.start), nil
}

func createFile(name string) (*os.File, error) {
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		return nil, err
	}
	return os.Create(name)
}

// runChild is the main function of a child process; it returns the exit status.
func runChild(arg string, in io.Reader, out io.Writer) int {
	enc := json.NewEncoder(out)
	var o order
	err := json.Unmarshal([]byte(arg), &o)
	if err == nil {
		if o.Role == roleServer {
			err = serverChild(o, in, enc)
		} else {
			err = clientChild(o, in, enc)
		}
	}
	if err != nil {
		enc.Encode(reply{Error: fmt.Sprintf("%s %s: %v", o.Engine, o.Role, err)})
		return 1
	}
	return 0
}

func serverChild(o order, in io.Reader, enc *json.Encoder) error {
	e, w, err := o.lookup()
	if err != nil {
		return err
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	defer l.Close()
	failed := make(chan error, 1)
	go func() { failed <- e.serve(l, newService(w)) }()
	m := &meter{w: w, o: o}
	if err := enc.Encode(reply{Addr: l.Addr().String()}); err != nil {
		return err
	}
	wishes := bufio.NewScanner(in)
	for wishes.Scan() {
		var r reply
		switch wishes.Text() {
		case "begin":
			err = m.begin()
		case "end":
			r.Usage, err = m.end()
		}
		select {
		case err = <-failed:
			err = fmt.Errorf("serve: %w", err)
		default:
		}
		if err != nil {
			return err
		}
		if err := enc.Encode(r); err != nil {
			return err
		}
	}
	return wishes.Err()
}

func clientChild(o order, in io.Reader, enc *json.Encoder) error {
	e, w, err := o.lookup()
	if err != nil {
		return err
	}
	l, err := newLoad(w, func() (client, error) { return e.dial(o.Addr) })
	if err != nil {
		return err
	}
	defer l.c.close()
	if w.idle() {
		if _, err = l.hold(5); err != nil {
			return err
		}
	} else if _, err = l.run(o.Warmup); err != nil {
		return err
	}
	if err := enc.Encode(reply{}); err != nil {
		return err
	}
	wishes := bufio.NewScanner(in)
	for wishes.Scan() {
		r, err := l.measure(&meter{w: w, o: o}, o.Duration)
		if err != nil {
			return err
		}
		if err := enc.Encode(r); err != nil {
			return err
		}
	}
	return wishes.Err()
}

// measure runs the load once, metered. What idle workloads open stays open until the process ends.
func (l *load) measure(m *meter, d time.Duration) (reply, error) {
	var r reply
	if err := m.begin(); err != nil {
		return r, err
	}
	var held []any
	var err error
	if l.w.idle() {
		held, err = l.hold(l.w.callers)
		r.Tally.Calls = uint64(len(held))
	} else {
		r.Tally, err = l.run(d)
	}
	if err != nil {
		return r, err
	}
	r.Usage, err = m.end()
	l.held = held
	return r, err
}

// lookup finds what o names.
func (o order) lookup() (engine, workload, error) {
	e, err := findEngine(o.Engine)
	if err != nil {
		return engine{}, workload{}, err
	}
	w, err := findWorkload(o.Workload)
	return e, w, err
}

// findWorkload returns the workload called name.
func findWorkload(name string) (workload, error) {
	for _, w := range workloads {
		if w.name == name {
			return w, nil
		}
	}
	return workload{}, fmt.Errorf("no workload %q", name)
}
