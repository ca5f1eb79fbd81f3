// SPDX-License-Identifier: Apache-2.0

package main

import (
	"math"
	"testing"
	"time"
)

func TestBucketHoldsItsBound(t *testing.T) {
	for _, v := range []uint64{0, 1, 31, 32, 33, 63, 64, 65, 1000, 123456789, 1 << 40, math.MaxInt64} {
		i := bucket(v)
		hi := bound(i)
		if v > hi || bucket(hi) != i || bucket(hi+1) != i+1 {
			t.Errorf("bucket(%d) = %d, bound %d: the bound must be the last value of the bucket", v, i, hi)
		}
		if float64(hi-v) > float64(v)/(1<<subBits) {
			t.Errorf("bound(bucket(%d)) = %d, more than %d%% off", v, hi, 100>>subBits)
		}
	}
}

func TestQuantile(t *testing.T) {
	var a, b histogram
	for i := 1; i <= 500; i++ {
		a.add(time.Duration(i) * time.Microsecond)
		b.add(time.Duration(i+500) * time.Microsecond)
	}
	a.merge(&b)
	for _, c := range []struct {
		q    float64
		want time.Duration
	}{{.5, 500 * time.Microsecond}, {.99, 990 * time.Microsecond}, {1, time.Millisecond}} {
		got := a.quantile(c.q)
		if got < c.want || got > c.want+c.want/(1<<subBits) {
			t.Errorf("quantile(%v) = %v, want %v or a bucket's width more", c.q, got, c.want)
		}
	}
	if got := new(histogram).quantile(.99); got != 0 {
		t.Errorf("quantile of nothing = %v, want 0", got)
	}
}

func TestSumFindsTheSlowestCaller(t *testing.T) {
	h := make([]histogram, 2)
	h[0].add(time.Millisecond)
	for range 3 {
		h[1].add(time.Millisecond)
	}
	got := sum(h, time.Second)
	if got.Calls != 4 || got.Least != .5 {
		t.Errorf("sum = %d calls, slowest caller %v of the average; want 4 and 0.5", got.Calls, got.Least)
	}
}
