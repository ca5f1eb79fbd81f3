// SPDX-License-Identifier: Apache-2.0

package call

import (
	"context"
	"testing"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/faultline-rpc/faultline/fault"
	"github.com/faultline-rpc/faultline/wire"
)

// TestLateAfterAttempts: a last attempt that the deadline ended says nothing of
// the handlers of those before it.
func TestLateAfterAttempts(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), -time.Second)
	defer cancel()
	for _, test := range []struct{ before, last, want fault.Processed }{
		{fault.Maybe, fault.No, fault.Maybe},
		{fault.Yes, fault.No, fault.Yes},
		{fault.Yes, fault.Maybe, fault.Yes},
		{fault.No, fault.No, fault.No},
		{fault.No, fault.Yes, fault.Yes},
	} {
		c := &call{caller: New(Config{}), ctx: ctx, timed: true, method: "/s/M"}
		c.s = new(wire.ClientStream)
		c.need(nil).add(fault.Attempt{ID: fault.HTTP2ConnectionLost.ID, Code: codes.Unavailable, Processed: test.before})
		f := fault.HandlerStatus.New(fault.Args{Code: codes.DeadlineExceeded, Processed: test.last, Verbatim: true, Message: "too late", Evidence: &fault.Evidence{Sent: true}})
		got := c.late(f)
		if got.Entry() != fault.CallDeadline || got.Code() != codes.DeadlineExceeded || got.Processed() != test.want {
			t.Errorf("an attempt %v and then one %v: %v %v processed %v, want %v", test.before, test.last, got.ID(), got.Code(), got.Processed(), test.want)
		}
	}
}
