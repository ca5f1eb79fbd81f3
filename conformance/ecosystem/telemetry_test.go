// SPDX-License-Identifier: Apache-2.0

package ecosystem

import (
	"context"
	"strings"
	"testing"
	"time"

	grpcprom "github.com/grpc-ecosystem/go-grpc-middleware/providers/prometheus"
	"github.com/grpc-ecosystem/go-grpc-middleware/v2/testing/testpb"
	older "github.com/grpc-ecosystem/go-grpc-prometheus"
	"github.com/prometheus/client_golang/prometheus"
	"go.opentelemetry.io/contrib/instrumentation/google.golang.org/grpc/otelgrpc"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
	"go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	oteltrace "go.opentelemetry.io/otel/trace"
	"google.golang.org/grpc/codes"

	"github.com/faultline-rpc/faultline"
)

// calls makes one call that succeeds, one that fails and one stream of three
// messages.
func calls(t *testing.T, c testpb.TestServiceClient) {
	t.Helper()
	ctx := within(t, 10*time.Second)
	if _, err := c.Ping(ctx, hello); err != nil {
		t.Fatal(err)
	}
	_, err := c.PingError(ctx, &testpb.PingErrorRequest{Value: "x", ErrorCodeReturned: uint32(codes.Internal)})
	wantCode(t, err, codes.Internal)
	if err := stream(t, ctx, c, 3); err != nil {
		t.Fatal(err)
	}
}

// TestOpenTelemetry: otelgrpc's stats handlers trace a call over both sides,
// with its code and its peer, and measure it.
func TestOpenTelemetry(t *testing.T) {
	spans, reader := tracetest.NewSpanRecorder(), metric.NewManualReader()
	opts := []otelgrpc.Option{
		otelgrpc.WithTracerProvider(trace.NewTracerProvider(trace.WithSpanProcessor(spans))),
		otelgrpc.WithMeterProvider(metric.NewMeterProvider(metric.WithReader(reader))),
		otelgrpc.WithPropagators(propagation.TraceContext{}),
	}
	var inHandler oteltrace.SpanContext
	p := &ping{unary: func(ctx context.Context, in *testpb.PingRequest) (*testpb.PingResponse, error) {
		inHandler = oteltrace.SpanContextFromContext(ctx)
		return &testpb.PingResponse{Value: in.Value}, nil
	}}
	addr := servePing(t, p, faultline.StatsHandler(otelgrpc.NewServerHandler(opts...)))
	calls(t, client(t, addr, faultline.WithStatsHandler(otelgrpc.NewClientHandler(opts...))))
	const want = 6 // three calls, two sides
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for ctx := within(t, 10*time.Second); len(spans.Ended()) < want; {
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatalf("%d spans ended, want %d", len(spans.Ended()), want)
		}
	}
	find := func(name string, kind oteltrace.SpanKind) trace.ReadOnlySpan {
		for _, s := range spans.Ended() {
			if s.Name() == "testing.testpb.v1.TestService/"+name && s.SpanKind() == kind {
				return s
			}
		}
		t.Fatalf("there is no span of %s, kind %v", name, kind)
		return nil
	}
	for name, want := range map[string]string{"Ping": "OK", "PingError": "INTERNAL", "PingStream": "OK"} {
		cs, ss := find(name, oteltrace.SpanKindClient), find(name, oteltrace.SpanKindServer)
		if ss.Parent().SpanID() != cs.SpanContext().SpanID() || ss.SpanContext().TraceID() != cs.SpanContext().TraceID() {
			t.Errorf("%s: the server's span is no child of the client's", name)
		}
		for _, s := range []trace.ReadOnlySpan{cs, ss} {
			got := map[string]string{}
			for _, a := range s.Attributes() {
				got[string(a.Key)] = a.Value.Emit()
			}
			if code := got["rpc.response.status_code"]; code != want {
				t.Errorf("%s, %v: status %q, want %s: %v", name, s.SpanKind(), code, want, got)
			}
			if !strings.Contains(addr, got["server.address"]) || s.SpanKind() == oteltrace.SpanKindClient && got["server.address"] == "" {
				t.Errorf("%s, %v: server.address %q of %s: %v", name, s.SpanKind(), got["server.address"], addr, got)
			}
		}
	}
	if !inHandler.Equal(find("Ping", oteltrace.SpanKindServer).SpanContext()) {
		t.Errorf("the handler ran in span %v", inHandler.SpanID())
	}
	var data metricdata.ResourceMetrics
	if err := reader.Collect(t.Context(), &data); err != nil {
		t.Fatal(err)
	}
	counts := map[string]uint64{}
	for _, scope := range data.ScopeMetrics {
		for _, m := range scope.Metrics {
			if h, ok := m.Data.(metricdata.Histogram[float64]); ok {
				for _, p := range h.DataPoints {
					counts[m.Name] += p.Count
				}
			}
		}
	}
	for _, name := range []string{"rpc.client.call.duration", "rpc.server.call.duration"} {
		if counts[name] != 3 {
			t.Errorf("%s counts %d calls, want 3: %v", name, counts[name], counts)
		}
	}
}

// counter returns the value of the sample that has all these labels.
func counter(t *testing.T, r prometheus.Gatherer, name string, labels ...string) float64 {
	t.Helper()
	families, err := r.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() != name {
			continue
		}
		for _, m := range f.GetMetric() {
			if s := m.String(); containsAll(s, labels) {
				if h := m.GetHistogram(); h != nil {
					return float64(h.GetSampleCount())
				}
				return m.GetCounter().GetValue()
			}
		}
	}
	return -1
}

func containsAll(s string, words []string) bool {
	for _, w := range words {
		if !strings.Contains(s, `"`+w+`"`) {
			return false
		}
	}
	return true
}

// want compares the counters after [calls], of which a side has the prefix.
func wantCounters(t *testing.T, r prometheus.Gatherer, prefix string) {
	t.Helper()
	for _, tc := range []struct {
		name   string
		labels []string
		want   float64
	}{
		{"_started_total", []string{"Ping", "unary"}, 1},
		{"_handled_total", []string{"Ping", "OK"}, 1},
		{"_handled_total", []string{"PingError", "Internal"}, 1},
		{"_handled_total", []string{"PingStream", "bidi_stream", "OK"}, 1},
		{"_msg_sent_total", []string{"PingStream"}, 3},
		{"_msg_received_total", []string{"PingStream"}, 3},
		{"_handling_seconds", []string{"Ping"}, 1},
	} {
		tick := time.NewTicker(time.Millisecond)
		got, ctx := float64(-1), within(t, 5*time.Second)
		for got != tc.want && ctx.Err() == nil { // the server may be a moment behind
			got = counter(t, r, prefix+tc.name, tc.labels...)
			<-tick.C
		}
		tick.Stop()
		if got != tc.want {
			t.Errorf("%s%s %v is %v, want %v", prefix, tc.name, tc.labels, got, tc.want)
		}
	}
}

// TestPrometheus: the middleware's provider, on both sides.
func TestPrometheus(t *testing.T) {
	r := prometheus.NewRegistry()
	sm := grpcprom.NewServerMetrics(grpcprom.WithServerHandlingTimeHistogram())
	cm := grpcprom.NewClientMetrics(grpcprom.WithClientHandlingTimeHistogram())
	r.MustRegister(sm, cm)
	var srv *faultline.Server
	addr := serve(t, func(s *faultline.Server) {
		srv = s
		testpb.RegisterTestServiceServer(s, &ping{})
	}, faultline.ChainUnaryInterceptor(sm.UnaryServerInterceptor()), faultline.ChainStreamInterceptor(sm.StreamServerInterceptor()))
	sm.InitializeMetrics(srv) // a reflection.ServiceInfoProvider
	if got := counter(t, r, "grpc_server_handled_total", "PingList", "server_stream", "DataLoss"); got != 0 {
		t.Errorf("a counter not used yet is %v, want 0", got)
	}
	calls(t, client(t, addr, faultline.WithChainUnaryInterceptor(cm.UnaryClientInterceptor()), faultline.WithChainStreamInterceptor(cm.StreamClientInterceptor())))
	wantCounters(t, r, "grpc_server")
	wantCounters(t, r, "grpc_client")
}

// TestOlderPrometheus: go-grpc-prometheus, which many still use. Its Register
// wants a *grpc.Server and cannot be called; it only makes the zeros visible.
func TestOlderPrometheus(t *testing.T) {
	r := prometheus.NewRegistry()
	sm, cm := older.NewServerMetrics(), older.NewClientMetrics()
	sm.EnableHandlingTimeHistogram()
	cm.EnableClientHandlingTimeHistogram()
	r.MustRegister(sm, cm)
	addr := servePing(t, &ping{}, faultline.ChainUnaryInterceptor(sm.UnaryServerInterceptor()), faultline.ChainStreamInterceptor(sm.StreamServerInterceptor()))
	calls(t, client(t, addr, faultline.WithChainUnaryInterceptor(cm.UnaryClientInterceptor()), faultline.WithChainStreamInterceptor(cm.StreamClientInterceptor())))
	wantCounters(t, r, "grpc_server")
	wantCounters(t, r, "grpc_client")
}
