// SPDX-License-Identifier: Apache-2.0

package h2

// window is a send window (RFC 9113 section 6.9). It may be negative: the peer
// can lower INITIAL_WINDOW_SIZE while data is on its way.
type window int64

// add grows the window by n and reports whether it stays within 2^31-1.
func (w *window) add(n int64) bool {
	*w += window(n)
	return *w <= maxWindow
}

// fit returns how many of n bytes may go, given both windows.
func fit(n int, stream, conn window) int {
	return max(0, int(min(window(n), stream, conn)))
}

// due reports whether so much credit has gathered that it is worth a
// WINDOW_UPDATE: a quarter of the window, so that a steady sender never waits.
func due(credit int32, size uint32) bool { return int64(credit)*4 >= int64(size) }
