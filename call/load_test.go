// SPDX-License-Identifier: Apache-2.0

package call

import (
	"testing"

	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/descriptorpb"
	"google.golang.org/protobuf/types/dynamicpb"
)

// registerReport registers the type that a policy would link; there is no way
// back. The report has one field here.
func registerReport(t *testing.T) {
	file, err := protodesc.NewFile(&descriptorpb.FileDescriptorProto{
		Name: proto.String("orca_load_report.proto"), Package: proto.String("xds.data.orca.v3"), Syntax: proto.String("proto3"),
		MessageType: []*descriptorpb.DescriptorProto{{Name: proto.String("OrcaLoadReport"), Field: []*descriptorpb.FieldDescriptorProto{{
			Name: proto.String("cpu_utilization"), Number: proto.Int32(1),
			Type: descriptorpb.FieldDescriptorProto_TYPE_DOUBLE.Enum(), Label: descriptorpb.FieldDescriptorProto_LABEL_OPTIONAL.Enum(),
		}}}},
	}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := protoregistry.GlobalTypes.RegisterMessage(dynamicpb.NewMessageType(file.Messages().Get(0))); err != nil {
		t.Fatal(err)
	}
}

// TestServerLoad: the real type and policy are used in conformance/ecosystem.
func TestServerLoad(t *testing.T) {
	report := string(protowire.AppendFixed64(protowire.AppendTag(nil, 1, protowire.Fixed64Type), 0x3fe0000000000000)) // 0.5
	trailer := metadata.Pairs(loadKey, report)
	if _, err := protoregistry.GlobalTypes.FindMessageByName(loadName); err != nil { // the first run of several
		if got := serverLoad(trailer); got != nil {
			t.Fatalf("%v, though nobody knows the type", got)
		}
		registerReport(t)
	}
	for name, md := range map[string]metadata.MD{"no trailer": nil, "no report": metadata.Pairs("a", "b"),
		"two reports": metadata.Pairs(loadKey, report, loadKey, report), "torn": metadata.Pairs(loadKey, report[:5])} {
		if got := serverLoad(md); got != nil {
			t.Errorf("%s: %v, want nil", name, got)
		}
	}
	m, ok := serverLoad(trailer).(proto.Message)
	if !ok {
		t.Fatalf("%T, want a message", serverLoad(trailer))
	}
	r := m.ProtoReflect()
	if got := r.Get(r.Descriptor().Fields().ByNumber(1)).Float(); got != 0.5 {
		t.Errorf("a utilization of %v, want 0.5", got)
	}
}
