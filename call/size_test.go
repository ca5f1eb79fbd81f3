// SPDX-License-Identifier: Apache-2.0

package call

import (
	"testing"
	"unsafe"
)

// Programs keep thousands of streams open that say nothing for hours.
func TestStreamSize(t *testing.T) {
	if unsafe.Sizeof(uintptr(0)) != 8 {
		return // measured in 64-bit words
	}
	// The allocator has sizes of 704 and 768 bytes, and takes 8 for itself.
	if n := unsafe.Sizeof(stream{}) + 8; n > 704 {
		t.Errorf("a stream takes %d bytes, want at most 704", n)
	}
}
