// SPDX-License-Identifier: Apache-2.0

package wire

import (
	"testing"

	"golang.org/x/net/http2"

	"github.com/faultline-rpc/faultline/h2"
	"github.com/faultline-rpc/faultline/internal/peer"
)

// Requests that are no gRPC, of clients that end them only after the answer, or
// want none.
func TestForeignRequests(t *testing.T) {
	for _, tt := range [][]string{{"415", "content-type", "text/html"}, {"405", ":method", "PUT"}} {
		bubble(t, tt[0]+" while the request goes on", func(t *testing.T) {
			conn, p := server(t, h2.Config{}, &service{})
			p.SendRequest(1, false, "/pkg.S/Unary", tt[1:]...)
			p.SendData(1, []byte("a=b"), false)
			p.WantHeaders(1, ":status", tt[0])
			if got := p.WantBody(1); len(got) == 0 {
				t.Error("the answer has no text")
			}
			p.WantRST(1, http2.ErrCodeNo)
			if n := conn.Active(); n != 0 {
				t.Errorf("%d streams are left", n)
			}
		})
	}
	bubble(t, "given up before the answer", func(t *testing.T) {
		conn, p := server(t, h2.Config{}, &service{})
		p.SendRequest(1, false, "/pkg.S/Unary", "content-type", "text/html")
		p.SendRST(1, http2.ErrCodeCancel)
		p.WantQuiet(2 * foreignPatience)
		if n := conn.Active(); n != 0 {
			t.Errorf("%d streams are left", n)
		}
	})
	bubble(t, "HEAD", func(t *testing.T) {
		_, p := server(t, h2.Config{}, &service{})
		p.SendRequest(1, true, "/pkg.S/Unary", ":method", "HEAD")
		p.WantTrailers(1, ":status", "405", "allow", "POST", "content-length", peer.Absent)
	})
}
