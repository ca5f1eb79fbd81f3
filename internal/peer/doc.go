// SPDX-License-Identifier: Apache-2.0

// Package peer plays the other end of an HTTP/2 connection from a script, well-behaved or not.
//
// It plays either role over any net.Conn, and a script reads as a dialogue:
//
//	p := peer.Server(t, conn)
//	p.Handshake()
//	p.WantHeaders(1, ":path", "/echo.Echo/Say")
//	p.WantMessage(1)
//	p.SendHeaders(1, false, ":status", "200", "content-type", "application/grpc")
//	p.SendData(1, peer.Message(answer), false)
//	p.SendHeaders(1, true, "grpc-status", "0")
//	p.WantClosed()
//
// Two front ends stand on one core. [Peer]'s methods return errors and serve
// outside tests; [T]'s end the test and print the dialogue so far. [Serve]
// runs a script for each connection of a listener, and [Answer] holds what
// servers do wrong, one function each.
//
// SETTINGS and PING are acknowledged and flow-control credit is given without
// being asked, once the peer has sent its own SETTINGS; [Options] turns each
// off. It is built on golang.org/x/net/http2
// and never on this module's own engine: a mistake made on both ends would
// cancel out. It serves tests and tools and carries no compatibility promise.
package peer
