// SPDX-License-Identifier: Apache-2.0

package fault_test

import (
	"errors"
	"fmt"

	"github.com/faultline-rpc/faultline/fault"
)

func ExampleFrom() {
	err := fmt.Errorf("get user: %w", fault.HTTP2HTTP1Peer.New(fault.Args{
		Side: fault.Between, Processed: fault.No, Message: "10.0.0.7:80 answers HTTP/1.1 400",
		Evidence: &fault.Evidence{Address: "10.0.0.7:80", HTTPStatus: 400, HTTPServer: "nginx"},
	}))

	f, ok := fault.From(err)
	if !ok {
		return
	}
	fmt.Println(f.ID(), f.Code(), f.Side())
	if f.Processed() == fault.No {
		fmt.Println("safe to call again")
	}
	fmt.Println(f.Evidence().HTTPServer)
	// Output:
	// http2.http1-peer Unavailable between
	// safe to call again
	// nginx
}

// The whole ladder, as %+v prints it.
func ExampleFault_Format() {
	f := fault.DialMissing.New(fault.Args{
		Side: fault.Local, Processed: fault.No, Message: "/run/shop.sock",
		Evidence: &fault.Evidence{Address: "/run/shop.sock", Network: "unix"},
		Cause:    errors.New("no such file or directory"),
	})
	fmt.Printf("%+v\n", f.Above(fault.PickNoReady, "pick_first"))
	// Output:
	// rpc error: code = Unavailable desc = dial.missing: /run/shop.sock
	//   circumstance  dial.missing: the unix socket does not exist
	//   layer         dial
	//   side          local
	//   processed     no
	//   evidence      address: /run/shop.sock
	//                 network: unix
	//   above         pick.no-ready: pick_first
	//   caused by     *errors.errorString: no such file or directory
	//   remedy        Check the path on both sides. Targets are unix:///absolute/path or unix:relative/path, the latter relative to the client's working directory. In containers mount the socket's directory, not the socket.
	//   spec          https://github.com/grpc/grpc/blob/master/doc/naming.md
}

func ExampleLookup() {
	e := fault.Lookup("http2.goaway-calm")
	fmt.Println(e.Codes[0], "by", e.By)
	fmt.Println(e.Summary)
	fmt.Println(e.Spec)
	// Output:
	// Unavailable by client
	// the server closed the connection because of too many pings
	// https://github.com/grpc/proposal/blob/master/A8-client-side-keepalive.md
}
