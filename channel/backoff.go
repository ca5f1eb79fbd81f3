// SPDX-License-Identifier: Apache-2.0

package channel

import (
	"math"
	"time"

	"google.golang.org/grpc/backoff"
)

// defaultMinConnectTimeout is the least time a connection attempt gets
// (https://github.com/grpc/grpc/blob/master/doc/connection-backoff.md).
const defaultMinConnectTimeout = 20 * time.Second

// backoffDelay returns the time from the start of an attempt to the start of
// the next, after that many failures in a row before it. r, in [0, 1), spreads
// the delays: "connection backoffs started at the same time disperse"
// (https://github.com/grpc/grpc/blob/master/doc/connection-backoff.md). The
// first is no exception, as in gRPC's C core, though the document's sketch and
// grpc-go have it exact: after a server's restart it is the one that all
// clients are in.
func backoffDelay(c backoff.Config, failures int, r float64) time.Duration {
	d := float64(c.BaseDelay) * math.Pow(c.Multiplier, float64(failures))
	d = min(d, float64(c.MaxDelay))
	d *= 1 + c.Jitter*(2*r-1)
	return time.Duration(max(d, 0))
}
