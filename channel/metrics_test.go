// SPDX-License-Identifier: Apache-2.0

package channel

import (
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/net/http2"
	_ "google.golang.org/grpc" // registers the descriptors of grpc.subchannel
	"google.golang.org/grpc/balancer"
	estats "google.golang.org/grpc/experimental/stats"
	"google.golang.org/grpc/resolver"
	"google.golang.org/grpc/stats"

	"github.com/faultline-rpc/faultline/fault"
	"github.com/faultline-rpc/faultline/h2"
	"github.com/faultline-rpc/faultline/internal/peer"
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

// subchannelMetrics keeps what is measured of subchannels, in order.
type subchannelMetrics struct {
	estats.UnimplementedMetricsRecorder
	connStats
	mu  sync.Mutex
	got []string // guarded by mu
}

func (m *subchannelMetrics) RecordInt64Count(h *estats.Int64CountHandle, n int64, labels ...string) {
	m.note(h.Name, n, labels)
}

func (m *subchannelMetrics) RecordInt64UpDownCount(h *estats.Int64UpDownCountHandle, n int64, labels ...string) {
	m.note(h.Name, n, labels)
}

func (m *subchannelMetrics) note(name string, n int64, labels []string) {
	if name, ok := strings.CutPrefix(name, "grpc.subchannel."); ok {
		m.mu.Lock()
		defer m.mu.Unlock()
		m.got = append(m.got, fmt.Sprintf("%s %+d %q", name, n, labels))
	}
}

// Attempts, connections and their ends are measured as gRFC A94 has them.
func TestSubchannelMeasurements(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const (
			succeeded = `connection_attempts_succeeded +1 ["passthrough:///x" "" ""]`
			opened    = `open_connections +1 ["passthrough:///x" "" "NoSecurity" ""]`
			ended     = `open_connections -1 ["passthrough:///x" "" "NoSecurity" ""]`
		)
		pp, m := newPipes(), &subchannelMetrics{}
		var up atomic.Bool
		c := newChannel(t, "passthrough:///x", Config{StatsHandlers: []stats.Handler{m}, Backoff: steady,
			Dialer: func(ctx context.Context, addr string) (net.Conn, error) {
				if !up.Load() {
					return nil, syscall.ECONNREFUSED
				}
				return pp.dial(ctx, addr)
			}})
		expect := func(what string, want ...string) {
			t.Helper()
			synctest.Wait()
			m.mu.Lock()
			defer m.mu.Unlock()
			if !slices.Equal(m.got, want) {
				t.Errorf("%s: measured %q, want %q", what, m.got, want)
			}
			m.got = nil
		}
		serve := func() *peer.T {
			p := peer.Server(t, <-pp.servers, peer.Options{})
			p.Handshake()
			return p
		}
		c.Connect()
		expect("refused", `connection_attempts_failed +1 ["passthrough:///x" "" ""]`)
		up.Store(true)
		time.Sleep(time.Second)
		p := serve()
		expect("connected", succeeded, opened)
		p.SendGoAway(0, http2.ErrCodeNo, "")
		expect("GOAWAY", `disconnections +1 ["passthrough:///x" "" "" "GOAWAY NO_ERROR"]`, ended)
		c.Connect()
		p = serve()
		expect("connected", succeeded, opened)
		p.Close()
		expect("cut", `disconnections +1 ["passthrough:///x" "" "" "unknown"]`, ended)
		c.Connect()
		serve()
		expect("connected", succeeded, opened)
		c.Close()
		expect("closed", `disconnections +1 ["passthrough:///x" "" "" "subchannel shutdown"]`, ended)
	})
	if got := partBroken(&h2.ConnError{Kind: h2.Aborted, Err: silentFault(fault.Evidence{}, time.Minute, time.Second)}); got != "connection timed out" {
		t.Errorf("a keepalive ping without answer is %q", got)
	}
	for _, tt := range []struct {
		err  error
		want parting
	}{
		{syscall.ECONNRESET, "connection reset"}, {syscall.ETIMEDOUT, "connection timed out"}, {os.ErrDeadlineExceeded, "connection timed out"},
		{syscall.ECONNABORTED, "connection aborted"}, {syscall.EPIPE, "socket error"}, {io.EOF, "unknown"},
	} {
		if got := partBroken(&h2.ConnError{Kind: h2.Lost, Err: &net.OpError{Op: "read", Err: tt.err}}); got != tt.want {
			t.Errorf("%v is %q, want %q", tt.err, got, tt.want)
		}
	}
}
