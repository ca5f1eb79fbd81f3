// SPDX-License-Identifier: Apache-2.0

package call

import (
	"sync/atomic"

	"github.com/faultline-rpc/faultline/channel"
)

// bucket counts a service's failures against its successes (gRFC A6,
// "Throttling Retry Attempts and Hedged RPCs"). Tokens are in thousandths: the
// ratio has three decimals. A nil bucket throttles nothing.
type bucket struct {
	of         *channel.RetryThrottling // whose values it has
	max, ratio int64
	tokens     atomic.Int64
}

const perToken = 1000

func newBucket(t *channel.RetryThrottling) *bucket {
	b := &bucket{of: t, max: int64(t.MaxTokens * perToken)}
	b.ratio = int64(min(t.TokenRatio*perToken+0.5, float64(b.max)))
	b.tokens.Store(b.max)
	return b
}

// bucket returns the bucket of t, which is full when it is met first; nil for
// nil.
func (c *Caller) bucket(t *channel.RetryThrottling) *bucket {
	for {
		b := c.tokens.Load()
		switch {
		case t == nil:
			return nil
		case b != nil && b.of == t:
			return b
		case c.tokens.CompareAndSwap(b, newBucket(t)):
		}
	}
}

// success puts back what a successful call is worth.
func (b *bucket) success() {
	for {
		n := b.tokens.Load()
		if n >= b.max || b.tokens.CompareAndSwap(n, min(b.max, n+b.ratio)) {
			return
		}
	}
}

// failure takes a token.
func (b *bucket) failure() {
	if b == nil {
		return
	}
	for {
		n := b.tokens.Load()
		if n <= 0 || b.tokens.CompareAndSwap(n, max(0, n-perToken)) {
			return
		}
	}
}

// open reports whether there may be another attempt: more than half of the
// tokens are left.
func (b *bucket) open() bool { return b == nil || b.tokens.Load() > b.max/2 }

// succeeded counts a successful call, whatever its method. A bucket that no
// failure has met yet is full.
func (c *Caller) succeeded() {
	if b := c.tokens.Load(); b != nil {
		b.success()
	}
}
