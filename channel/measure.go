// SPDX-License-Identifier: Apache-2.0

package channel

import (
	"context"
	"errors"
	"os"
	"syscall"

	"google.golang.org/grpc/credentials"
	estats "google.golang.org/grpc/experimental/stats"

	"github.com/faultline-rpc/faultline/fault"
	"github.com/faultline-rpc/faultline/h2"
)

// measures are what is measured of subchannels
// (https://github.com/grpc/proposal/blob/master/A94-subchannel-otel-metrics.md),
// under the descriptors that grpc-go's root package registers: a program
// without it has none of these.
type measures struct {
	to                             estats.MetricsRecorder
	target                         string
	succeeded, failed, disconnects *estats.Int64CountHandle
	open                           *estats.Int64UpDownCountHandle
}

// newMeasures returns nil if there is nothing to measure with. Recorders panic at
// labels that are too many or too few, and the program may have another grpc-go.
func newMeasures(to estats.MetricsRecorder, target string) *measures {
	if to == nil {
		return nil
	}
	known := func(name string, kind estats.MetricType, labels int) *estats.MetricDescriptor {
		d := estats.DescriptorForMetric("grpc.subchannel." + name)
		if d == nil || d.Type != kind || len(d.Labels)+len(d.OptionalLabels) != labels {
			return nil
		}
		return d
	}
	m := &measures{to: to, target: target,
		succeeded:   (*estats.Int64CountHandle)(known("connection_attempts_succeeded", estats.MetricTypeIntCount, 3)),
		failed:      (*estats.Int64CountHandle)(known("connection_attempts_failed", estats.MetricTypeIntCount, 3)),
		disconnects: (*estats.Int64CountHandle)(known("disconnections", estats.MetricTypeIntCount, 4)),
		open:        (*estats.Int64UpDownCountHandle)(known("open_connections", estats.MetricTypeIntUpDownCount, 4))}
	if m.succeeded == nil || m.failed == nil || m.disconnects == nil || m.open == nil {
		return nil
	}
	return m
}

// connected counts a connection that came about. Its labels of a backend service
// and a locality are those of xDS, which is not here: they are empty.
func (m *measures) connected(l *link) {
	if m != nil {
		m.succeeded.Record(m.to, 1, m.target, "", "")
		m.open.Record(m.to, 1, m.target, "", l.securityLevel(), "")
	}
}

func (m *measures) attemptFailed() {
	if m != nil {
		m.failed.Record(m.to, 1, m.target, "", "")
	}
}

func (m *measures) disconnected(l *link, why parting) {
	if m != nil {
		m.disconnects.Record(m.to, 1, m.target, "", "", string(why))
		m.open.Record(m.to, -1, m.target, "", l.securityLevel(), "")
	}
}

// securityLevel is what the credentials say of the connection, "" for nothing.
func (l *link) securityLevel() string {
	if ci, ok := l.peer.AuthInfo.(interface {
		GetCommonAuthInfo() credentials.CommonAuthInfo
	}); ok {
		return ci.GetCommonAuthInfo().SecurityLevel.String()
	}
	return ""
}

// parting is why a subchannel left its connection, as gRFC A94 names it.
type parting string

const (
	partUnknown  parting = "unknown"
	partShutdown parting = "subchannel shutdown"
)

func partGoAway(g *h2.GoAwayError) parting { return parting("GOAWAY " + g.Code.String()) }

// partBroken is the name of a connection's end.
func partBroken(err error) parting {
	var number syscall.Errno
	switch {
	case errors.Is(err, context.Canceled):
		return partShutdown
	case errors.Is(err, syscall.ECONNRESET), errors.Is(err, wsaECONNRESET):
		return "connection reset"
	case fault.HTTP2Keepalive.Is(err), errors.Is(err, syscall.ETIMEDOUT), errors.Is(err, wsaETIMEDOUT),
		errors.Is(err, context.DeadlineExceeded), errors.Is(err, os.ErrDeadlineExceeded):
		return "connection timed out"
	case errors.Is(err, syscall.ECONNABORTED):
		return "connection aborted"
	case errors.As(err, &number):
		return "socket error"
	}
	return partUnknown
}
