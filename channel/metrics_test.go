// SPDX-License-Identifier: Apache-2.0

package channel

import (
	"testing"
	"testing/synctest"

	"google.golang.org/grpc/balancer"
	estats "google.golang.org/grpc/experimental/stats"
	"google.golang.org/grpc/resolver"
	"google.golang.org/grpc/stats"
)

var updates = estats.RegisterInt64Count(estats.MetricDescriptor{Name: "faultline.test.updates", Default: true, Labels: []string{"target"}})

// measuring is a stats.Handler that gets measurements too.
type measuring struct {
	estats.UnimplementedMetricsRecorder
	connStats
	got int64
}

func (m *measuring) RecordInt64Count(h *estats.Int64CountHandle, n int64, labels ...string) {
	if h == updates && len(labels) == 1 && labels[0] == "hand:///x" {
		m.got += n
	}
}

// counting is a balancing policy that measures.
type counting struct{ refusing }

func (counting) Name() string { return "counting" }
func (counting) Build(cc balancer.ClientConn, _ balancer.BuildOptions) balancer.Balancer {
	return &counter{refuser{cc: cc}}
}

type counter struct{ refuser }

func (c *counter) UpdateClientConnState(s balancer.ClientConnState) error {
	updates.Record(c.cc.MetricsRecorder(), 3, c.cc.Target())
	return c.refuser.UpdateClientConnState(s)
}

func TestStatsHandlersGetMeasurements(t *testing.T) {
	balancer.Register(counting{})
	for n := range 3 {
		synctest.Test(t, func(t *testing.T) {
			h := &hand{}
			list := []stats.Handler{&connStats{}}
			for range n {
				list = append(list, &measuring{})
			}
			c := newChannel(t, "hand:///x", Config{Resolvers: []resolver.Builder{h.builder()}, StatsHandlers: list,
				DefaultServiceConfig: `{"loadBalancingConfig":[{"counting":{}}]}`})
			c.Connect()
			if err := h.cc.UpdateState(h.addrs("a")); err != nil {
				t.Fatal(err)
			}
			for _, h := range list[1:] {
				if got := h.(*measuring).got; got != 3 {
					t.Errorf("measured %d, want 3", got)
				}
			}
		})
	}
}
