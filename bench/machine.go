// SPDX-License-Identifier: Apache-2.0

//go:build unix

package main

import (
	"bytes"
	"errors"
	"os"
	"strconv"
	"syscall"
	"time"
)

// tick is the unit of /proc/stat: USER_HZ is 100 on every Linux that Go supports.
const tick = 10 * time.Millisecond

// noisy is the share of the machine that others may use before a run's figures deserve a warning.
const noisy = 0.05

// A machine is what the processors did since they started: for everybody, and for this process and its ended children.
type machine struct{ total, busy, own time.Duration }

// lookAtMachine returns an error where there is no /proc/stat.
func lookAtMachine() (machine, error) {
	b, err := os.ReadFile("/proc/stat")
	if err != nil {
		return machine{}, err
	}
	m, err := parseStat(b)
	if err != nil {
		return machine{}, err
	}
	for _, who := range []int{syscall.RUSAGE_SELF, syscall.RUSAGE_CHILDREN} {
		var r syscall.Rusage
		if err := syscall.Getrusage(who, &r); err != nil {
			return machine{}, err
		}
		m.own += time.Duration(r.Utime.Nano() + r.Stime.Nano())
	}
	return m, nil
}

// parseStat reads the first line of /proc/stat: cpu user nice system idle iowait irq softirq steal ... in ticks.
func parseStat(b []byte) (machine, error) {
	first, _, _ := bytes.Cut(b, []byte("\n"))
	f := bytes.Fields(first)
	if len(f) < 9 || string(f[0]) != "cpu" {
		return machine{}, errors.New("/proc/stat begins with no line of at least eight figures for all processors")
	}
	var m machine
	for i, s := range f[1:9] {
		n, err := strconv.ParseInt(string(s), 10, 64)
		if err != nil {
			return machine{}, err
		}
		d := time.Duration(n) * tick
		m.total += d
		switch i {
		case 3, 4: // idle, waiting for a disk
		case 5, 6: // interrupts: loopback's are our own, but not every kernel counts them as the process's
		default:
			m.busy += d
		}
	}
	return m, nil
}

// others returns the share of the machine that everybody else used between before and m.
func (m machine) others(before machine) float64 {
	total := m.total - before.total
	if total <= 0 {
		return 0
	}
	return max(float64(m.busy-before.busy-(m.own-before.own))/float64(total), 0)
}
