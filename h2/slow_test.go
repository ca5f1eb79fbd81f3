// SPDX-License-Identifier: Apache-2.0

package h2

import (
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/net/http2"

	"github.com/faultline-rpc/faultline/h2/frame"
)

// TestDrippedHeaders: a peer that lets headers drip is cut off, though it is
// heard all the time; one that is merely slow is served.
func TestDrippedHeaders(t *testing.T) {
	frames := [][]byte{raw(frame.Headers, endStream, 1, post[:1]...)}
	for range 8 {
		frames = append(frames, raw(frame.Continuation, 0, 1))
	}
	frames = append(frames, raw(frame.Continuation, endHeaders, 1, post[1:]...))
	for name, tc := range map[string]struct {
		drops  [][]byte
		opened int
	}{
		"bytes of HEADERS":     {bytesOf(raw(frame.Headers, endHeaders|endStream, 1, post...)), 1},
		"HEADERS in fragments": {frames, 1},
		"bytes of a PING":      {bytesOf(raw(frame.Ping, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8)), 0},
	} {
		t.Run(name+", too slow", func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				d := server(t, Config{SettingsTimeout: 5 * time.Second})
				start := time.Now()
				for _, p := range tc.drops {
					_, _ = d.p.Conn().Write(p) // fails when it is cut off
					time.Sleep(time.Second)
				}
				d.wantEnd(Violation, codeCalm)
				d.p.WantGoAway(http2.ErrCodeEnhanceYourCalm)
				if d.count() != 0 || time.Since(start) > time.Duration(len(tc.drops))*time.Second {
					t.Errorf("%d streams, after %v", d.count(), time.Since(start))
				}
			})
		})
		t.Run(name+", in time", func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				d := server(t, Config{SettingsTimeout: 5 * time.Second})
				for _, p := range tc.drops {
					if _, err := d.p.Conn().Write(p); err != nil {
						t.Fatal(err)
					}
					time.Sleep(100 * time.Millisecond)
				}
				time.Sleep(time.Minute) // nothing of the bound is left
				if synctest.Wait(); d.count() != tc.opened {
					t.Errorf("%d streams, want %d", d.count(), tc.opened)
				}
				d.alive(3)
			})
		})
	}
}

// bytesOf cuts a frame into its bytes.
func bytesOf(p []byte) (all [][]byte) {
	for i := range p {
		all = append(all, p[i:i+1])
	}
	return all
}
