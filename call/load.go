// SPDX-License-Identifier: Apache-2.0

package call

import (
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
)

// A server's load reaches balancers with the end of a call (gRFC A51): the
// trailer holds one marshaled report, and balancer.DoneInfo.ServerLoad is that
// report's own Go type, github.com/cncf/xds/go/xds/data/orca/v3. A policy that
// reads it links the type, which registers itself; where it is not registered
// nobody could make use of a report.
const (
	loadKey                        = "endpoint-load-metrics-bin"
	loadName protoreflect.FullName = "xds.data.orca.v3.OrcaLoadReport"
)

// serverLoad returns the load report in a call's trailer, or nil: there is
// none, several, or one that does not parse, or nobody knows its type.
func serverLoad(trailer metadata.MD) any {
	v := trailer[loadKey]
	if len(v) != 1 {
		return nil
	}
	t, err := protoregistry.GlobalTypes.FindMessageByName(loadName)
	if err != nil {
		return nil
	}
	report := t.New().Interface()
	if proto.Unmarshal([]byte(v[0]), report) != nil {
		return nil
	}
	return report
}
