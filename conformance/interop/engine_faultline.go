// SPDX-License-Identifier: Apache-2.0

package interop

import (
	"net"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"

	"github.com/faultline-rpc/faultline"
)

// Faultline is the engine under test, with its defaults.
func Faultline() Engine {
	return Engine{
		Name: "faultline",
		Serve: func(lis net.Listener, creds credentials.TransportCredentials, register func(grpc.ServiceRegistrar)) func() {
			s := faultline.NewServer(faultline.Creds(creds))
			register(s)
			return serve(lis, s)
		},
		Dial: func(target string, creds credentials.TransportCredentials) (Client, error) {
			cc, err := faultline.NewClient(target, faultline.WithTransportCredentials(creds))
			if err != nil {
				return Client{}, err
			}
			return Client{Conn: cc, Concrete: cc.GRPCConn(), Close: cc.Close}, nil
		},
	}
}
