// SPDX-License-Identifier: Apache-2.0

// Command bench measures Faultline beside grpc-go, connect-go and a raw TCP echo, and says what multiple of grpc-go it reaches.
//
// It is a module of its own, so that the library does not require the engines it is compared with, and makes no
// compatibility promise. Client and server are two processes (the command executes itself) that talk over loopback;
// engines take turns within a round, and every figure is a ratio of two measurements of the same round.
// README.md says how to run it and how to read the table.
//
// One run takes this way: scenario.go says what is measured and which figure is demanded; main.go reads the flags and
// walks the rounds; drive.go starts a server and a client and asks both for their figures; child.go is what those two
// processes do; load.go is the load, through the engines of engine_*.go, against the service of service.go; report.go
// turns samples into ratios.
package main
