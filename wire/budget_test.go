// SPDX-License-Identifier: Apache-2.0

package wire

import "testing"

// Connections that take what they can get leave the last quarter of a budget to
// those that hold little; a budget too small for that is whole.
func TestBudgetKeepsAReserve(t *testing.T) {
	const limit = 8 << 20
	b := NewBudget(limit)
	greedy := []*account{{budget: b}, {budget: b}}
	for i := 0; greedy[i%2].take(64 << 10); i++ {
	}
	if used := b.used.Load(); used != limit*3/4 {
		t.Errorf("the greedy hold %d bytes, want %d", used, limit*3/4)
	}
	modest := 0
	for range 100 {
		a := &account{budget: b}
		for a.take(64 << 10) {
			modest++
		}
		if held := a.held.Load(); held > share {
			t.Fatalf("a modest connection holds %d bytes, want at most %d", held, share)
		}
	}
	if want := limit / 4 / (64 << 10); modest != want || b.used.Load() != limit {
		t.Errorf("the modest got %d pieces, want %d; %d bytes are charged", modest, want, b.used.Load())
	}
	if greedy[0].take(1) {
		t.Error("more than the whole was taken")
	}
	greedy[0].give(greedy[0].held.Load())
	if !greedy[1].take(64<<10) || greedy[0].held.Load() != 0 {
		t.Error("what was given back is not there")
	}
	small := &account{budget: NewBudget(1000)}
	if !small.take(1000) || small.take(1) {
		t.Error("a small budget is not whole")
	}
	var none *account
	if !none.take(1<<40) || !(&account{}).take(1<<40) {
		t.Error("no budget is a limit")
	}
}
