// SPDX-License-Identifier: Apache-2.0

package wire

import (
	"runtime"
	"sync"
	"testing"

	"google.golang.org/grpc/codes"

	"github.com/faultline-rpc/faultline/h2"
)

// hastyCall is a call of a server that stops: it is answered from elsewhere as
// soon as it is open, while the reader is still at its headers.
type hastyCall struct{ *serviceCall }

func (k hastyCall) Open() Dispatch {
	when := k.serviceCall.Open()
	k.v.wg.Go(func() { _ = k.s.Finish(Status{Code: codes.Unavailable, Message: "stopped"}, nil) })
	runtime.Gosched()
	return when
}

// What an answer looks at is in place when the call opens: the race detector
// sees to it.
func TestServerAnswersWhatJustOpened(t *testing.T) {
	for _, path := range []string{"/pkg.S/Unary", "/pkg.S/Stream"} {
		bubble(t, path, func(t *testing.T) {
			v := &service{serve: func(*ServerStream, <-chan struct{}) {}}
			v.pool = &sync.Pool{New: func() any {
				s := new(ServerStream)
				s.Owner = hastyCall{&serviceCall{v, s}}
				return s
			}}
			_, p := server(t, h2.Config{}, v)
			for id := uint32(1); id < 100; id += 2 {
				p.SendRequest(id, true, path)
				if r := p.WantResponse(id); r.Get("grpc-status") != "14" || r.Get("grpc-message") != "stopped" {
					t.Fatalf("stream %d: status %s %q, want 14 %q", id, r.Get("grpc-status"), r.Get("grpc-message"), "stopped")
				}
			}
		})
	}
}
