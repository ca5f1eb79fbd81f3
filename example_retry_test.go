// SPDX-License-Identifier: Apache-2.0

package faultline_test

import (
	"context"
	"fmt"
	"net"

	"google.golang.org/grpc/test/bufconn"

	"github.com/faultline-rpc/faultline"
	"github.com/faultline-rpc/faultline/codes"
	"github.com/faultline-rpc/faultline/fault"
	"github.com/faultline-rpc/faultline/status"
)

// A service config has idempotent methods repeated. The fault of a call that
// failed nevertheless lists all attempts.
func Example_retryPolicy() {
	lis := bufconn.Listen(1 << 16)
	s := faultline.NewServer()
	calls := 0
	s.RegisterService(&usersDesc, &users{get: func(_ context.Context, id string) (string, error) {
		if calls++; id == "never" || calls < 3 {
			return "", status.Error(codes.Unavailable, "the index is being rebuilt")
		}
		return "Ann", nil
	}})
	go func() { _ = s.Serve(lis) }()
	defer s.Stop()
	cc := dialTo(func(ctx context.Context, _ string) (net.Conn, error) { return lis.DialContext(ctx) },
		faultline.WithDefaultServiceConfig(`{"methodConfig": [{
			"name": [{"service": "shop.Users", "method": "GetUser"}],
			"retryPolicy": {"maxAttempts": 3, "initialBackoff": "0.01s", "maxBackoff": "0.1s",
				"backoffMultiplier": 2, "retryableStatusCodes": ["UNAVAILABLE"]}}]}`))
	defer cc.Close()
	client := &usersClient{cc}

	name, err := client.GetUser(context.Background(), "1")
	fmt.Println(name, err, "after", calls, "attempts")

	_, err = client.GetUser(context.Background(), "never")
	f, _ := fault.From(err)
	for _, a := range f.Attempts() {
		fmt.Println(a.ID, a.Code, "processed:", a.Processed)
	}
	fmt.Println(f.Rungs()[0].ID)
	// Output:
	// Ann <nil> after 3 attempts
	// handler.status Unavailable processed: yes
	// handler.status Unavailable processed: yes
	// handler.status Unavailable processed: yes
	// call.retries-exhausted
}
