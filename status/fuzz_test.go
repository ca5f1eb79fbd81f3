// SPDX-License-Identifier: Apache-2.0

package status_test

import (
	"fmt"
	"testing"

	spb "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/faultline-rpc/faultline/codes"
	"github.com/faultline-rpc/faultline/status"
)

// FuzzFromProto: whatever google.rpc.Status a peer sends, reading it neither
// fails nor loses a detail.
func FuzzFromProto(f *testing.F) {
	for _, s := range []*status.Status{
		status.New(codes.Internal, "m"),
		status.New(codes.Aborted, "").WithFieldViolation("f", "d").WithRetryDelay(1).WithLocalizedMessage("de", "x").WithDebug([]string{"a"}, "b"),
		status.FromProto(&spb.Status{Code: -7, Details: []*anypb.Any{unlinked, broken, nil}}),
	} {
		b, err := proto.Marshal(s.Proto())
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		var p spb.Status
		if proto.Unmarshal(b, &p) != nil {
			return
		}
		s := status.FromProto(&p)
		if !proto.Equal(s.Proto(), &p) || len(s.Details()) != len(p.Details) || s.GRPCStatus().Code() != s.Code() {
			t.Errorf("%v reads as %v", &p, s)
		}
		err := s.Err()
		if (err == nil) != (p.Code == 0) {
			t.Errorf("code %d gives the error %v", p.Code, err)
		}
		if d, _ := status.RetryDelay(err); d < 0 {
			t.Errorf("RetryDelay %v", d)
		}
		if m, ok := status.LocalizedMessage(err, "de-CH"); !ok && m != "" {
			t.Errorf("LocalizedMessage %q", m)
		}
		_ = fmt.Sprintf("%+v", err)
		again, errs := s.WithFieldViolation("f", "d"), status.FieldViolations(err)
		if err != nil && len(status.FieldViolations(again.Err())) != len(errs)+1 {
			t.Errorf("adding a violation to %v gives %v", &p, again.Proto())
		}
	})
}
