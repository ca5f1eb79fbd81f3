// SPDX-License-Identifier: Apache-2.0

package faultline

import (
	"context"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/connectivity"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"

	"github.com/faultline-rpc/faultline/call"
	"github.com/faultline-rpc/faultline/channel"
	"github.com/faultline-rpc/faultline/status"
)

// oneSubchannel is a call.Picker whose calls use one connection only.
type oneSubchannel struct{ sub *channel.Subchannel }

// Pick implements call.Picker.
func (o oneSubchannel) Pick(ctx context.Context, method string, waitForReady bool) (channel.Picked, error) {
	return o.sub.PickOnly(ctx, method, waitForReady)
}

// background is the grpc.ClientConnInterface of one subchannel, for balancers'
// own streams, which do not keep the client awake.
type background struct {
	sub    *channel.Subchannel
	caller *call.Caller
}

var _ grpc.ClientConnInterface = background{}

func newBackground(sub *channel.Subchannel, cfg call.Config) background {
	cfg.Channel = oneSubchannel{sub}
	return background{sub, call.New(cfg)}
}

// Invoke implements grpc.ClientConnInterface.
func (b background) Invoke(ctx context.Context, method string, args, reply any, opts ...grpc.CallOption) error {
	defer b.sub.Background()()
	return b.caller.Invoke(ctx, method, args, reply, opts...)
}

// NewStream implements grpc.ClientConnInterface. The stream ends with ctx at
// the latest.
func (b background) NewStream(ctx context.Context, desc *grpc.StreamDesc, method string, opts ...grpc.CallOption) (grpc.ClientStream, error) {
	end := b.sub.Background()
	st, err := b.caller.NewStream(ctx, desc, method, append(opts[:len(opts):len(opts)], grpc.OnFinish(func(error) { end() }))...)
	if err != nil {
		end()
	}
	return st, err
}

// watchHealth makes one Watch call of the health service for the channel's
// client-side health checks (gRFC A17): see channel.HealthCheck.
func watchHealth(ctx context.Context, cc grpc.ClientConnInterface, service string, set func(connectivity.State, error)) error {
	w, err := healthpb.NewHealthClient(cc).Watch(ctx, &healthpb.HealthCheckRequest{Service: service})
	if err != nil {
		return err
	}
	for {
		answer, err := w.Recv()
		if err != nil {
			return err
		}
		if answer.GetStatus() == healthpb.HealthCheckResponse_SERVING {
			set(connectivity.Ready, nil)
			continue
		}
		set(connectivity.TransientFailure, status.Errorf(codes.Unavailable, "the health service says %v", answer.GetStatus()))
	}
}
