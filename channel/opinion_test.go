// SPDX-License-Identifier: Apache-2.0

package channel

import (
	"net"
	"testing"
)

func TestFirstBytes(t *testing.T) {
	a, b := net.Pipe()
	defer a.Close()
	go func() {
		for range 5 {
			b.Write([]byte("abc"))
		}
		b.Close()
	}()
	r := &firstBytes{Conn: a}
	buf := make([]byte, 2)
	for {
		if _, err := r.Read(buf); err != nil {
			break
		}
	}
	if string(r.first) != "abcabcab" {
		t.Errorf("the first bytes are %q", r.first)
	}
}
