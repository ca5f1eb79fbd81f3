// SPDX-License-Identifier: Apache-2.0

package call

import (
	"math"
	"strconv"
	"time"

	"google.golang.org/grpc/metadata"

	"github.com/faultline-rpc/faultline/channel"
)

// backoff is the time before an attempt, n others having been made since the
// first, or since the server said itself when: gRFC A6's
//
//	min(initialBackoff * backoffMultiplier**n, maxBackoff) * random(0.8, 1.2)
//
// random returns a number in [0, 1).
func backoff(p *channel.RetryPolicy, n int, random func() float64) time.Duration {
	d := float64(p.InitialBackoff) * math.Pow(p.BackoffMultiplier, float64(n))
	d = min(d, float64(p.MaxBackoff)) * (0.8 + 0.4*random())
	return time.Duration(min(d, math.MaxInt64/2))
}

// pushbackKey is the trailer by which servers say when to come again.
const pushbackKey = "grpc-retry-pushback-ms"

// readPushback returns what a server says about another attempt: after
// how long, if it said so, or stop for never, which is also what an unreadable
// value means (gRFC A6, "Pushback").
func readPushback(trailer metadata.MD) (wait time.Duration, said, stop bool) {
	v := trailer[pushbackKey]
	if len(v) == 0 {
		return 0, false, false
	}
	ms, err := strconv.ParseInt(v[0], 10, 32)
	if len(v) > 1 || err != nil || ms < 0 {
		return 0, false, true
	}
	return time.Duration(ms) * time.Millisecond, true, false
}
