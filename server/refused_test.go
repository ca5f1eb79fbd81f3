// SPDX-License-Identifier: Apache-2.0

package server

import (
	"strings"
	"testing"

	"google.golang.org/grpc/codes"
	testpb "google.golang.org/grpc/interop/grpc_testing"

	"github.com/faultline-rpc/faultline/event"
	"github.com/faultline-rpc/faultline/fault"
	"github.com/faultline-rpc/faultline/internal/peer"
)

// refusals are what the rig's server recorded of calls that no handler saw.
func (r *rig) refusals() (list []event.CallRefused) {
	for _, e := range r.events.all() {
		if e, ok := e.(event.CallRefused); ok {
			list = append(list, e)
		}
	}
	return list
}

func TestRefusedCallsAreRecorded(t *testing.T) {
	long := "/" + strings.Repeat("x", 1000) + "/y"
	for _, tc := range []struct {
		name    string
		path    string
		changes []string
		entry   *fault.Entry
		code    codes.Code
		side    fault.Side
	}{
		{"service", "/grpc.testing.TestServic/UnaryCall", nil, fault.HandlerUnknownService, codes.Unimplemented, fault.Local},
		{"method", unaryCall + "l", nil, fault.HandlerUnknownMethod, codes.Unimplemented, fault.Local},
		{"long name", long, nil, fault.HandlerUnknownService, codes.Unimplemented, fault.Local},
		{"path", "nothing", nil, fault.HandlerUnknownMethod, codes.Unimplemented, fault.Remote},
		{"authority", unaryCall, []string{":authority", "user@host/path"}, fault.WireAuthority, codes.Unauthenticated, fault.Remote},
		{"GET", unaryCall, []string{":method", "GET"}, fault.WireNotPost, codes.Internal, fault.Remote},
		{"compressor", unaryCall, []string{"grpc-encoding", "squeeze"}, fault.CodecCompressorUnsupported, codes.Unimplemented, fault.Local},
		{"subtype", unaryCall, []string{"content-type", "application/grpc+thrift"}, fault.CodecSubtype, codes.Unimplemented, fault.Local},
		{"deadline", unaryCall, []string{"grpc-timeout", "0n"}, fault.CallDeadline, codes.DeadlineExceeded, fault.Local},
	} {
		t.Run(tc.name, func(t *testing.T) {
			id := uint64(0)
			r := newRig(t, Config{ConnID: func() uint64 { id += 77; return id }}, &testService{})
			p := r.peer()
			if _, err := p.Call(1, tc.path, nil, tc.changes...); err != nil {
				t.Fatal(err)
			}
			want := tc.path
			if len(want) > 256 {
				want = want[:256] + "..."
			}
			list := r.refusals()
			if len(list) != 1 || list[0].Conn != 77 || list[0].Stream != 1 || list[0].Method != want {
				t.Fatalf("recorded: %+v", list)
			}
			f, _ := fault.From(list[0].Err)
			if !tc.entry.Is(f) || f.Code() != tc.code && tc.entry != fault.WireNotPost || f.Side() != tc.side || f.Processed() != fault.No {
				t.Errorf("recorded: %+v %v %v %v", f, f.Code(), f.Side(), f.Processed())
			}
		})
	}
}

func TestOverloadIsRecorded(t *testing.T) {
	svc, started, release := blocking()
	r := newRig(t, Config{MaxHandlers: 1, MaxUndelivered: 100}, svc)
	p := r.peer()
	begin(p, 1)
	<-started
	p.Call(3, emptyCall, nil)
	p.Call(5, emptyCall, make([]byte, 200))
	close(release)
	p.WantResponse(1)
	list := r.refusals()
	if len(list) != 2 || !fault.ServerOverloaded.Is(list[0].Err) || !fault.ServerOverloaded.Is(list[1].Err) || list[0].Stream != 3 || list[1].Stream != 5 {
		t.Errorf("recorded: %+v", list)
	}
}

// TestHandlersAnswersAreNoRefusals: what a handler says is not the engine's.
func TestHandlersAnswersAreNoRefusals(t *testing.T) {
	r := newRig(t, Config{}, &testService{duplex: func(s testpb.TestService_FullDuplexCallServer) error {
		if _, err := s.Recv(); err != nil {
			return err
		}
		_, err := s.Recv()
		return err
	}})
	p := r.peer()
	p.SendRequest(1, false, duplex)
	p.SendData(1, append(peer.Message(nil), peer.Message([]byte{0xff})...), true)
	p.WantHeaders(1, "grpc-status", "13")
	if list := r.refusals(); len(list) != 0 {
		t.Errorf("recorded: %+v", list)
	}
}
