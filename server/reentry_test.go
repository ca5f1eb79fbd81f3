// SPDX-License-Identifier: Apache-2.0

package server

import (
	"context"
	"log/slog"
	"testing"
	"time"

	"google.golang.org/grpc"
	testpb "google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/stats"
)

// everything is all that a server's methods and a call's do without waiting for
// the call itself.
func everything(c context.Context, s *Server) {
	_ = grpc.SetHeader(c, metadata.Pairs("a", "1"))
	_ = grpc.SendHeader(c, nil)
	_ = grpc.SetTrailer(c, metadata.Pairs("a", "1"))
	_ = SetSendCompressor(c, "identity")
	_ = c.Err()
	_ = context.Cause(c)
	s.GetServiceInfo()
	s.Stop()
	_ = s.Shutdown(c)
}

// reentrant calls back whatever it is told.
type reentrant struct {
	countEnds
	slog.Handler
	s **Server
}

func (r *reentrant) HandleRPC(c context.Context, _ stats.RPCStats) { everything(c, *r.s) }
func (r *reentrant) Handle(c context.Context, _ slog.Record) error { everything(c, *r.s); return nil }
func (r *reentrant) Enabled(context.Context, slog.Level) bool      { return true }
func (r *reentrant) WithAttrs([]slog.Attr) slog.Handler            { return r }

// Observers of calls, interceptors and handlers may use the server and the call
// at any moment, Stop among it: no lock is held, and none waits for another.
func TestCallbacksCallBack(t *testing.T) {
	type set struct {
		cfg func(*Config, *reentrant)
		svc *testService
	}
	var s *Server
	for name, tc := range map[string]set{
		"stats": {cfg: func(c *Config, r *reentrant) { c.StatsHandlers = []stats.Handler{r} }},
		"log":   {cfg: func(c *Config, r *reentrant) { c.Logger = slog.New(r) }},
		"interceptor": {cfg: func(c *Config, r *reentrant) {
			c.UnaryInts = []grpc.UnaryServerInterceptor{func(c context.Context, req any, _ *grpc.UnaryServerInfo, h grpc.UnaryHandler) (any, error) {
				everything(c, *r.s)
				return h(c, req)
			}}
		}},
		"handler": {svc: &testService{empty: func(c context.Context, _ *testpb.Empty) (*testpb.Empty, error) {
			everything(c, s)
			return &testpb.Empty{}, nil
		}}},
	} {
		t.Run(name, func(t *testing.T) {
			cfg := Config{}
			if tc.cfg != nil {
				tc.cfg(&cfg, &reentrant{s: &s})
			}
			svc := tc.svc
			if svc == nil {
				svc = &testService{empty: func(context.Context, *testpb.Empty) (*testpb.Empty, error) { panic("for the log") }}
			}
			r := newRig(t, cfg, svc)
			s = r.Server
			cc := r.stub()
			c, cancel := context.WithTimeout(context.Background(), 10*time.Second)
			defer cancel()
			if _, _ = cc.EmptyCall(c, &testpb.Empty{}); c.Err() != nil {
				t.Error("the call hangs")
			}
			r.GracefulStop() // for the call's last words too
		})
	}
}
