// SPDX-License-Identifier: Apache-2.0

package main

// Names of the lanes a run can compare. A lane is a client engine and a server engine.
const (
	laneFaultline = "faultline"
	lanePolicies  = "faultline-policies"
	laneGRPC      = "grpc-go"
	laneWindows   = "grpc-go-win"
	laneConnect   = "connect-go"
	laneEcho      = "echo"
	laneOurClient = "faultline>grpc-go"
	laneOurServer = "grpc-go>faultline"
)

// A lane pairs the engine that calls with the engine that answers.
type lane struct {
	name   string
	client string
	server string
}

// lanes lists every lane in the order in which they take their turn within a round.
var lanes = []lane{
	{laneFaultline, engineFaultline, engineFaultline},
	{lanePolicies, enginePolicies, enginePolicies},
	{laneGRPC, engineGRPC, engineGRPC},
	{laneWindows, engineWindows, engineWindows},
	{laneConnect, engineConnect, engineConnect},
	{laneEcho, engineEcho, engineEcho},
	{laneOurClient, engineFaultline, engineGRPC},
	{laneOurServer, engineGRPC, engineFaultline},
}

// A kind is the shape of the load.
type kind int

const (
	unary       kind = iota // each caller: one call after the other
	pingPong                // each caller: one stream, one message there and one back
	download                // server streaming: one stream, messages as fast as they go
	upload                  // client streaming: the same in the other direction
	idleConns               // count connections that made one call and are idle
	idleStreams             // count streams on one connection that exchanged one message and are idle
)

// A workload is one load that every lane is put under.
type workload struct {
	name     string
	kind     kind
	callers  int  // concurrent callers or streams; for the idle kinds, how many of the things are opened
	size     int  // bytes of payload in each message, both ways
	metadata bool // every call has a deadline and three metadata fields, one of which varies
	sleepMS  int  // the handler sleeps this long
	mixed    bool // also with only one end ours, and with policies
	noEcho   bool // a raw echo says nothing here
}

// idle tells whether w measures memory rather than rate.
func (w workload) idle() bool { return w.kind == idleConns || w.kind == idleStreams }

// runs tells whether lane l takes part in w.
func (w workload) runs(l lane) bool {
	switch l.name {
	case laneOurClient, laneOurServer, lanePolicies:
		return w.mixed
	case laneEcho:
		return !w.noEcho
	case laneWindows:
		return !w.idle()
	}
	return true
}

// workloads lists every load. Rows of the report refer to them by name.
var workloads = []workload{
	{name: "unary-1-0B", kind: unary, callers: 1},
	{name: "unary-1-1KiB", kind: unary, callers: 1, size: 1 << 10},
	{name: "unary-100-0B", kind: unary, callers: 100, mixed: true},
	{name: "unary-100-1KiB", kind: unary, callers: 100, size: 1 << 10},
	{name: "unary-1000-0B", kind: unary, callers: 1000},
	{name: "unary-100-1KiB-deadline-metadata", kind: unary, callers: 100, size: 1 << 10, metadata: true, noEcho: true},
	{name: "pingpong-1", kind: pingPong, callers: 1},
	{name: "pingpong-100", kind: pingPong, callers: 100},
	{name: "download-64KiB", kind: download, callers: 1, size: 64 << 10},
	{name: "upload-64KiB", kind: upload, callers: 1, size: 64 << 10},
	{name: "download-1MiB", kind: download, callers: 1, size: 1 << 20},
	{name: "upload-1MiB", kind: upload, callers: 1, size: 1 << 20},
	{name: "sleep-1ms-100", kind: unary, callers: 100, sleepMS: 1, noEcho: true},
	{name: "idle-connections", kind: idleConns, callers: 500, noEcho: true},
	{name: "idle-streams", kind: idleStreams, callers: 1000, noEcho: true},
}

// A metric is the figure of a measurement that a row looks at.
type metric int

const (
	rate         metric = iota // multiple of grpc-go's calls or messages per second
	memory                     // grpc-go's bytes per idle thing over ours, client side
	allocsClient               // allocations per call in the client process, absolute
	allocsServer               // allocations per call in the server process, absolute
)

// absolute tells whether the figure stands by itself and less is better; all others are multiples over grpc-go.
func (m metric) absolute() bool { return m == allocsClient || m == allocsServer }

// A row is one line of the report: a figure of a workload, and what is demanded of it.
type row struct {
	name     string
	workload string
	lane     string // "": the subject of the run
	metric   metric
	bar      float64 // the first bar; -check fails a run that misses it
	goal     float64
}

// rows is the table of demands. A multiple must reach its bar; an absolute figure must not exceed it.
var rows = []row{
	{name: "unary, 1 in flight, 0 B", workload: "unary-1-0B", bar: 1.6, goal: 2.3},
	{name: "unary, 1 in flight, 1 KiB", workload: "unary-1-1KiB", bar: 1.6, goal: 2.3},
	{name: "unary, 100 callers, 0 B", workload: "unary-100-0B", bar: 5, goal: 8},
	{name: "unary, 100 callers, 1 KiB", workload: "unary-100-1KiB", bar: 4, goal: 6},
	{name: "unary, 1000 callers, 0 B", workload: "unary-1000-0B", bar: 5, goal: 10},
	{name: "deadline + 3 metadata, 100 callers, 1 KiB", workload: "unary-100-1KiB-deadline-metadata", bar: 3, goal: 4.5},
	{name: "ping-pong, 1 stream", workload: "pingpong-1", bar: 1.3, goal: 1.5},
	{name: "ping-pong, 100 streams", workload: "pingpong-100", bar: 2, goal: 2.8},
	{name: "server stream, 64 KiB", workload: "download-64KiB", bar: 1.3, goal: 2},
	{name: "client stream, 64 KiB", workload: "upload-64KiB", bar: 1.3, goal: 2},
	{name: "server stream, 1 MiB", workload: "download-1MiB", bar: 0.9, goal: 1.3},
	{name: "client stream, 1 MiB", workload: "upload-1MiB", bar: 0.9, goal: 1.3},
	{name: "only the client is ours, 100 callers, 0 B", workload: "unary-100-0B", lane: laneOurClient, bar: 1.6, goal: 2},
	{name: "only the server is ours, 100 callers, 0 B", workload: "unary-100-0B", lane: laneOurServer, bar: 1.6, goal: 2},
	{name: "handler sleeps 1 ms, 100 callers", workload: "sleep-1ms-100", bar: 2, goal: 2},
	{name: "allocations per call, client", workload: "unary-100-0B", metric: allocsClient, bar: 8, goal: 4},
	{name: "allocations per call, server", workload: "unary-100-0B", metric: allocsServer, bar: 10, goal: 5},
	{name: "memory, idle connection, client", workload: "idle-connections", metric: memory, bar: 2, goal: 4},
	{name: "memory, idle stream, client", workload: "idle-streams", metric: memory, bar: 5, goal: 10},
}
