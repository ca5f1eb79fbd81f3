// SPDX-License-Identifier: Apache-2.0

package main

import (
	"net"

	"github.com/faultline-rpc/faultline"
	"google.golang.org/grpc/credentials/insecure"
	pb "google.golang.org/grpc/interop/grpc_testing"
)

// faultlineEngines is ours, with its defaults.
func faultlineEngines() []engine {
	return []engine{{
		name: engineFaultline,
		serve: func(l net.Listener, svc *service) error {
			s := faultline.NewServer()
			pb.RegisterBenchmarkServiceServer(s, svc)
			return s.Serve(l)
		},
		dial: func(addr string) (client, error) {
			cc, err := faultline.NewClient("passthrough:///"+addr, faultline.WithTransportCredentials(insecure.NewCredentials()))
			if err != nil {
				return nil, err
			}
			return newStub(cc), nil
		},
	}}
}
