// SPDX-License-Identifier: Apache-2.0

// Package h2 is one HTTP/2 connection over a net.Conn (RFC 9113): streams, flow control, settings and closing, without a word of gRPC or TLS.
//
// The way of what arrives: Run reads a batch, the frames in it are taken apart
// in order, and each is delivered to its stream's [StreamHandler] on the
// reader's own goroutine; after the batch [ConnHandler.BatchEnd] runs. Handlers
// must never block: only the reader can open a send window.
//
// The way of what leaves: any goroutine appends frames to the connection's
// write buffer under one lock; a writer goroutine yields once, so that
// everyone runnable can append too, and then writes all of it at once.
//
// The package carries no compatibility promise.
package h2
