// SPDX-License-Identifier: Apache-2.0

package wire

import "sync/atomic"

// share is what a connection may always have waiting as long as the whole
// budget is not used up, in bytes. The last quarter of a budget is for
// connections that hold no more: whoever takes what he can get, on some
// connections and without end, leaves room for the requests of others.
const share = 256 << 10

// Budget bounds the bytes of requests that were received and not yet taken by
// handlers, over all connections. It is safe for concurrent use; nil is
// unlimited.
type Budget struct {
	limit, reserve int64
	used           atomic.Int64
}

// NewBudget returns a budget of limit bytes.
func NewBudget(limit int64) *Budget {
	b := &Budget{limit: limit}
	if limit/4 >= share { // else it would not do for a single one
		b.reserve = limit / 4
	}
	return b
}

// Limit returns the budget's size in bytes, 0 for unlimited, and how much of it
// is for connections that hold little.
func (b *Budget) Limit() (limit, reserve int64) {
	if b == nil {
		return 0, 0
	}
	return b.limit, b.reserve
}

// Used returns how many bytes are charged.
func (b *Budget) Used() int64 {
	if b == nil {
		return 0
	}
	return b.used.Load()
}

func (b *Budget) take(n, limit int64) bool {
	for {
		used := b.used.Load()
		if used+n > limit {
			return false
		}
		if b.used.CompareAndSwap(used, used+n) {
			return true
		}
	}
}

// account is one connection's part of a budget. It is safe for concurrent use;
// without budget, or nil, it is unlimited.
type account struct {
	budget *Budget
	held   atomic.Int64
}

// take charges n bytes, or nothing if they exceed what the connection may have.
func (a *account) take(n int) bool {
	if a == nil || a.budget == nil {
		return true
	}
	limit := a.budget.limit
	if held := a.held.Add(int64(n)); held > share {
		limit -= a.budget.reserve
	}
	if !a.budget.take(int64(n), limit) {
		a.held.Add(int64(-n))
		return false
	}
	return true
}

func (a *account) give(n int64) {
	if a != nil && a.budget != nil && n != 0 {
		a.held.Add(-n)
		a.budget.used.Add(-n)
	}
}
