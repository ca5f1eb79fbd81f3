// SPDX-License-Identifier: Apache-2.0

package server

import (
	"context"
	"errors"
	"math/rand/v2"
	"runtime"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	testpb "google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/metadata"

	"github.com/faultline-rpc/faultline/status"
)

// modes is how many manners rude handlers have.
const modes = 10

// rude are handlers that break the rules of gRPC, or come near it. What they
// leave behind is counted in strays, and ends with its call's context.
func rude(strays *sync.WaitGroup) *testService {
	return &testService{
		unary: func(c context.Context, m *testpb.SimpleRequest) (*testpb.SimpleResponse, error) {
			err := manner(c, strays, m.GetResponseStatus().GetCode(), func() {
				_ = grpc.SendHeader(c, metadata.Pairs("a", "1"))
				_ = SetSendCompressor(c, "identity")
			})
			return &testpb.SimpleResponse{Payload: m.Payload}, err
		},
		output: func(m *testpb.StreamingOutputCallRequest, s testpb.TestService_StreamingOutputCallServer) error {
			return manner(s.Context(), strays, m.GetResponseStatus().GetCode(), func() {
				_ = s.Send(&testpb.StreamingOutputCallResponse{Payload: m.Payload})
			})
		},
		input: func(s testpb.TestService_StreamingInputCallServer) error {
			err := manner(s.Context(), strays, rand.Int32N(modes), func() { _, _ = s.Recv() })
			if err != nil {
				return err
			}
			return s.SendAndClose(&testpb.StreamingInputCallResponse{})
		},
		duplex: func(s testpb.TestService_FullDuplexCallServer) error {
			m, err := s.Recv()
			if err != nil {
				return err
			}
			return manner(s.Context(), strays, m.GetResponseStatus().GetCode(), func() {
				if rand.IntN(2) == 0 {
					_, _ = s.Recv()
				} else {
					_ = s.Send(&testpb.StreamingOutputCallResponse{Payload: m.Payload})
				}
			})
		},
	}
}

// manner acts in one of the manners; act is something that the call allows.
func manner(c context.Context, strays *sync.WaitGroup, mode int32, act func()) error {
	stray := func(f func()) {
		for range 3 {
			strays.Go(f)
		}
	}
	switch mode {
	case 0:
		act()
	case 1:
		<-c.Done()
		return c.Err()
	case 2:
		panic("rude")
	case 3:
		stray(act)
		runtime.Goexit()
	case 4: // all at once, beyond the handler's end
		stray(act)
		stray(func() {
			_ = grpc.SetHeader(c, metadata.Pairs("b", "1"))
			_ = grpc.SetTrailer(c, metadata.Pairs("c", "1"))
			_ = grpc.SendHeader(c, nil)
		})
	case 5: // until the end, and after it
		stray(func() {
			for ; c.Err() == nil; runtime.Gosched() {
				act()
			}
			act()
			_ = grpc.SetTrailer(c, metadata.Pairs("c", "1"))
		})
	case 6: // with a context of their own
		own, cancel := context.WithTimeout(c, time.Millisecond)
		stray(func() {
			defer cancel()
			<-own.Done()
			_ = context.Cause(c)
		})
		act()
	case 7:
		return status.Error(codes.Aborted, "rude")
	case 8:
		stray(func() {
			defer func() { _ = recover() }()
			act()
			panic(errors.New("rude"))
		})
		act()
		panic(c)
	case 9:
		strays.Add(1) // the context ends, if not before then with the call
		context.AfterFunc(c, func() {
			defer strays.Done()
			act()
		})
		act()
	}
	return nil
}
