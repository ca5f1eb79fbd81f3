// SPDX-License-Identifier: Apache-2.0

// Package simnet simulates connections in memory, with latency, bounded buffers and faults at exact places.
//
// It is made for tests in fake time (testing/synctest): it starts no
// goroutine, every wait is on a channel made by a call, and time is what the
// time package says. The same tests run in real time outside a bubble.
//
// What an end observes looks as it does on a TCP socket: errors are
// *net.OpError around the system's error number, a deadline that passes is
// os.ErrDeadlineExceeded, and bytes that have arrived can be read before a
// reset is reported.
//
// It serves this module's tests and tools and carries no compatibility promise.
package simnet
