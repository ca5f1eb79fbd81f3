// SPDX-License-Identifier: Apache-2.0

// Package server is one served connection and the server around it: accept, handshake, dispatch, drain, recovery.
//
// The way of a call:
//
//  1. [Server.Serve] accepts a connection; its goroutine makes the handshake
//     and becomes the connection's reader (serve.go, conn.go).
//  2. wire reports a request: its method, codec and compressor are looked up
//     and its context is made (dispatch.go, methods.go, context.go).
//  3. What a read brought is handed to the workers as one batch. A worker runs
//     one handler after the other; one that blocks delays nobody (workers.go).
//  4. The handler runs behind its interceptors, and its answer or error goes
//     back to wire (call.go, stream.go, errors.go).
//
// The package carries no compatibility promise: programs use the root package.
package server
