// SPDX-License-Identifier: Apache-2.0

package main

import (
	"math/bits"
	"time"
)

// subBits is the resolution of a histogram: 2^subBits buckets per power of two, an error of at most 1/2^subBits.
const subBits = 5

// A histogram counts durations in buckets whose width grows with the value. It is not safe for concurrent use: each
// caller has its own, and they are merged at the end.
type histogram struct {
	counts [(64 - subBits + 1) << subBits]uint32
	n      uint64
	max    time.Duration
}

// bucket returns the index of v's bucket.
func bucket(v uint64) int {
	if v < 1<<subBits {
		return int(v)
	}
	exp := bits.Len64(v) - subBits - 1
	return exp<<subBits + int(v>>exp)
}

// bound returns the largest value of bucket i.
func bound(i int) uint64 {
	if i < 1<<subBits {
		return uint64(i)
	}
	exp := i>>subBits - 1
	return (uint64(i-exp<<subBits)+1)<<exp - 1
}

func (h *histogram) add(d time.Duration) {
	d = max(d, 0)
	h.counts[bucket(uint64(d))]++
	h.n++
	h.max = max(h.max, d)
}

func (h *histogram) merge(o *histogram) {
	for i, c := range o.counts {
		h.counts[i] += c
	}
	h.n += o.n
	h.max = max(h.max, o.max)
}

// quantile returns the value that the share q (0 to 1) of all values does not exceed, and 0 if there are none.
func (h *histogram) quantile(q float64) time.Duration {
	if h.n == 0 {
		return 0
	}
	rank := max(uint64(q*float64(h.n)+0.5), 1)
	var seen uint64
	for i, c := range h.counts {
		if seen += uint64(c); seen >= rank {
			return min(time.Duration(bound(i)), h.max)
		}
	}
	return h.max
}
