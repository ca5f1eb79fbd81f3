// SPDX-License-Identifier: Apache-2.0

package main

import (
	"net"
	"time"

	"github.com/faultline-rpc/faultline"
	"google.golang.org/grpc/credentials/insecure"
	pb "google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/keepalive"
)

// policies is the service config of enginePolicies.
const policies = `{"loadBalancingConfig": [{"round_robin": {}}], "methodConfig": [{"name": [{}], "retryPolicy": {
	"maxAttempts": 3, "initialBackoff": "0.1s", "maxBackoff": "1s", "backoffMultiplier": 2, "retryableStatusCodes": ["UNAVAILABLE"]}}]}`

// faultlineEngines is ours with its defaults, and with round_robin, a retry
// policy and keepalive, which should cost a call next to nothing.
func faultlineEngines() []engine {
	return []engine{
		faultlineEngine(engineFaultline, nil, nil),
		faultlineEngine(enginePolicies,
			[]faultline.ServerOption{faultline.KeepaliveParams(keepalive.ServerParameters{Time: 10 * time.Second})},
			[]faultline.DialOption{faultline.WithDefaultServiceConfig(policies), faultline.WithKeepaliveParams(keepalive.ClientParameters{Time: 10 * time.Second})}),
	}
}

func faultlineEngine(name string, serving []faultline.ServerOption, dialing []faultline.DialOption) engine {
	return engine{
		name: name,
		serve: func(l net.Listener, svc *service) error {
			s := faultline.NewServer(serving...)
			pb.RegisterBenchmarkServiceServer(s, svc)
			return s.Serve(l)
		},
		dial: func(addr string) (client, error) {
			cc, err := faultline.NewClient("passthrough:///"+addr, append(dialing, faultline.WithTransportCredentials(insecure.NewCredentials()))...)
			if err != nil {
				return nil, err
			}
			return newStub(cc), nil
		},
	}
}
