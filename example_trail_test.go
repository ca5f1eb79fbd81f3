// SPDX-License-Identifier: Apache-2.0

package faultline_test

import (
	"context"
	"fmt"
	"log/slog"
	"strings"

	"google.golang.org/grpc/peer"

	"github.com/faultline-rpc/faultline"
	"github.com/faultline-rpc/faultline/codes"
	"github.com/faultline-rpc/faultline/fault"
	"github.com/faultline-rpc/faultline/status"
)

// A handler returns the error that it got from the service behind. Who is
// trusted can follow the failure to where it arose; who is not gets the status
// and nothing of the inside.
func Example_trail() {
	directory, stop := start(&users{get: func(context.Context, string) (string, error) {
		return "", status.Error(codes.Unavailable, "the index is being rebuilt")
	}}, faultline.TrustedPeers(colleagues))
	defer stop()

	front := &users{get: func(ctx context.Context, id string) (string, error) {
		name, err := directory.GetUser(ctx, id)
		if err != nil {
			return "", fmt.Errorf("asking the directory: %w", err)
		}
		return name, nil
	}}
	for _, edge := range []faultline.ServerOption{faultline.TrustedPeers(colleagues), faultline.TrustedPeers()} {
		client, stop := start(front, edge)
		_, err := client.GetUser(context.Background(), "1")
		f, _ := fault.From(err)
		fmt.Println(err)
		fmt.Println(f.ID(), "processed:", f.Processed())
		for i, hop := range f.Trail() {
			fmt.Println(i+1, hop.Service, hop.Method, hop.ID, codes.Name(hop.Code))
		}
		stop()
	}
	// Output:
	// rpc error: code = Unavailable desc = the index is being rebuilt
	// handler.upstream processed: yes
	// 1 shop.Users GetUser handler.upstream UNAVAILABLE
	// 2 shop.Users GetUser handler.status UNAVAILABLE
	// rpc error: code = Unavailable desc = the index is being rebuilt
	// handler.status processed: yes
}

// colleagues are in memory here. On a network they are told by their
// certificates (faultline.VerifiedPeer) or addresses (faultline.PeersIn).
func colleagues(p *peer.Peer) bool { return p.Addr.Network() == "bufconn" }

// The failures of a handler's own client name addresses. Its caller reads which
// circumstance it was and a reference, the server's log has the rest.
func Example_masked() {
	var log strings.Builder
	client, stop := start(&users{get: func(context.Context, string) (string, error) {
		return "", fault.DialRefused.New(fault.Args{Side: fault.Remote, Processed: fault.No, Message: "nobody at db.internal:5432"})
	}}, faultline.Logger(slog.New(slog.NewTextHandler(&log, nil))))

	_, err := client.GetUser(context.Background(), "1")
	stop()
	f, _ := fault.From(err)
	said, reference, _ := strings.Cut(f.Message(), "; reference ")
	fmt.Println(f.Code(), said)
	fmt.Println("the log has it:", strings.Contains(log.String(), "db.internal:5432") && strings.Contains(log.String(), reference))
	// Output:
	// Unavailable dial.refused: nothing listens at the address
	// the log has it: true
}
