// SPDX-License-Identifier: Apache-2.0

package channel

import (
	"sync"

	estats "google.golang.org/grpc/experimental/stats"
	"google.golang.org/grpc/stats"
)

// recorders hands what balancers and resolvers measure (gRFC A79) to several.
type recorders struct {
	estats.UnimplementedMetricsRecorder
	list []estats.MetricsRecorder
}

// metricsOf returns the recorder of those handlers that are one as well, as
// OpenTelemetry's is; nil if none is.
func metricsOf(handlers []stats.Handler) estats.MetricsRecorder {
	r := &recorders{}
	for _, h := range handlers {
		if m, ok := h.(estats.MetricsRecorder); ok {
			r.list = append(r.list, m)
		}
	}
	switch len(r.list) {
	case 0:
		return nil
	case 1:
		return r.list[0]
	}
	return r
}

// RecordInt64Count implements estats.MetricsRecorder.
func (r *recorders) RecordInt64Count(h *estats.Int64CountHandle, n int64, labels ...string) {
	for _, m := range r.list {
		m.RecordInt64Count(h, n, labels...)
	}
}

// RecordFloat64Count implements estats.MetricsRecorder.
func (r *recorders) RecordFloat64Count(h *estats.Float64CountHandle, n float64, labels ...string) {
	for _, m := range r.list {
		m.RecordFloat64Count(h, n, labels...)
	}
}

// RecordInt64Histo implements estats.MetricsRecorder.
func (r *recorders) RecordInt64Histo(h *estats.Int64HistoHandle, n int64, labels ...string) {
	for _, m := range r.list {
		m.RecordInt64Histo(h, n, labels...)
	}
}

// RecordFloat64Histo implements estats.MetricsRecorder.
func (r *recorders) RecordFloat64Histo(h *estats.Float64HistoHandle, n float64, labels ...string) {
	for _, m := range r.list {
		m.RecordFloat64Histo(h, n, labels...)
	}
}

// RecordInt64Gauge implements estats.MetricsRecorder.
func (r *recorders) RecordInt64Gauge(h *estats.Int64GaugeHandle, n int64, labels ...string) {
	for _, m := range r.list {
		m.RecordInt64Gauge(h, n, labels...)
	}
}

// RecordInt64UpDownCount implements estats.MetricsRecorder.
func (r *recorders) RecordInt64UpDownCount(h *estats.Int64UpDownCountHandle, n int64, labels ...string) {
	for _, m := range r.list {
		m.RecordInt64UpDownCount(h, n, labels...)
	}
}

// RegisterAsyncReporter implements estats.MetricsRecorder.
func (r *recorders) RegisterAsyncReporter(reporter estats.AsyncMetricReporter, metrics ...estats.AsyncMetric) func() {
	ends := make([]func(), 0, len(r.list))
	for _, m := range r.list {
		ends = append(ends, m.RegisterAsyncReporter(reporter, metrics...))
	}
	return sync.OnceFunc(func() {
		for _, end := range ends {
			end()
		}
	})
}
