// SPDX-License-Identifier: Apache-2.0

package ecosystem

import (
	"context"
	"math"
	"net"
	"testing"
	"time"

	orcapb "github.com/cncf/xds/go/xds/data/orca/v3"
	"github.com/grpc-ecosystem/go-grpc-middleware/v2/testing/testpb"
	"google.golang.org/grpc"
	_ "google.golang.org/grpc/balancer/weightedroundrobin"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/orca"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/resolver"
	"google.golang.org/grpc/resolver/manual"
	"google.golang.org/protobuf/proto"

	"github.com/faultline-rpc/faultline"
)

// loadReport is the interceptor of docs/migrating.md: it sends a server's load
// with each answer.
func loadReport(load func() *orcapb.OrcaLoadReport) grpc.UnaryServerInterceptor {
	return func(ctx context.Context, req any, _ *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
		resp, err := handler(ctx, req)
		if report, e := proto.Marshal(load()); e == nil {
			_ = grpc.SetTrailer(ctx, metadata.Pairs("endpoint-load-metrics-bin", string(report)))
		}
		return resp, err
	}
}

// reporting is one server of three, which does 100 calls a second at that
// utilization, as it says.
func reporting(t *testing.T, kind string, utilization float64) string {
	p := &ping{}
	recorder := orca.NewServerMetricsRecorder()
	recorder.SetApplicationUtilization(utilization)
	recorder.SetQPS(100)
	switch kind {
	case "per call":
		return servePing(t, p, faultline.ChainUnaryInterceptor(loadReport(func() *orcapb.OrcaLoadReport {
			return &orcapb.OrcaLoadReport{ApplicationUtilization: utilization, RpsFractional: 100}
		})))
	case "out of band":
		return serve(t, func(s *faultline.Server) {
			testpb.RegisterTestServiceServer(s, p)
			if err := orca.Register(s, orca.ServiceOptions{ServerMetricsProvider: recorder}); err != nil {
				t.Fatal(err)
			}
		})
	}
	// grpc-go's server, and its own way to report.
	p.unary = func(ctx context.Context, in *testpb.PingRequest) (*testpb.PingResponse, error) {
		orca.CallMetricsRecorderFromContext(ctx).SetApplicationUtilization(utilization)
		return &testpb.PingResponse{Value: in.Value}, nil
	}
	s := grpc.NewServer(orca.CallMetricsServerOption(recorder))
	testpb.RegisterTestServiceServer(s, p)
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	go func() { _ = s.Serve(lis) }()
	t.Cleanup(s.Stop)
	return lis.Addr().String()
}

// TestLoadReports: grpc-go's weighted_round_robin gives three servers their
// shares by the load that they report, with each call or out of band.
func TestLoadReports(t *testing.T) {
	for kind, oob := range map[string]string{"per call": "false", "per call of grpc-go": "false", "out of band": "true"} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			want := map[string]float64{} // by address
			var addrs []resolver.Address
			for utilization, share := range map[float64]float64{0.2: 4. / 7, 0.4: 2. / 7, 0.8: 1. / 7} {
				addr := reporting(t, kind, utilization)
				want[addr] = share
				addrs = append(addrs, resolver.Address{Addr: addr})
			}
			names := manual.NewBuilderWithScheme("loads")
			names.InitialState(resolver.State{Addresses: addrs})
			shares := &byAddress{}
			c := client(t, "loads:///pings", faultline.WithResolvers(names), faultline.WithDefaultServiceConfig(
				`{"loadBalancingConfig": [{"weighted_round_robin": {"blackoutPeriod": "0s", "weightUpdatePeriod": "0.1s", "enableOobLoadReport": `+oob+`}}]}`),
				faultline.WithChainUnaryInterceptor(shares.count))
			ctx := within(t, 30*time.Second)
			for {
				shares.calls, shares.by = 0, map[string]int{}
				for range 1400 {
					if _, err := c.Ping(ctx, hello); err != nil {
						t.Fatalf("%v; shares %v of %d, want %v", err, shares.by, shares.calls, want)
					}
				}
				if shares.near(want) {
					t.Logf("shares %v of %d", shares.by, shares.calls)
					return
				}
			}
		})
	}
}

// byAddress counts which server answered; calls come one after another.
type byAddress struct {
	calls int
	by    map[string]int
}

func (b *byAddress) count(ctx context.Context, method string, req, reply any, cc *grpc.ClientConn, invoke grpc.UnaryInvoker, opts ...grpc.CallOption) error {
	var p peer.Peer
	err := invoke(ctx, method, req, reply, cc, append(opts, grpc.Peer(&p))...)
	if err == nil {
		b.calls++
		b.by[p.Addr.String()]++
	}
	return err
}

// near reports whether the shares are those wanted, give or take a twentieth.
func (b *byAddress) near(want map[string]float64) bool {
	for addr, share := range want {
		if got := float64(b.by[addr]) / float64(b.calls); math.Abs(got-share) > share/20 {
			return false
		}
	}
	return true
}
