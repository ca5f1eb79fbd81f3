// SPDX-License-Identifier: Apache-2.0

package call

import (
	"context"
	"io"
	"testing"

	testgrpc "google.golang.org/grpc/interop/grpc_testing"
)

func TestUnary(t *testing.T) {
	c, _ := client(t, serve(t, &service{}), Config{})
	for range 3 {
		r, err := stub(c).UnaryCall(context.Background(), &testgrpc.SimpleRequest{Payload: &testgrpc.Payload{Body: []byte("hello")}})
		if err != nil || string(r.GetPayload().GetBody()) != "hello" {
			t.Fatalf("%v, %v", r, err)
		}
	}
}

func TestDuplex(t *testing.T) {
	c, _ := client(t, serve(t, &service{duplex: func(st testgrpc.TestService_FullDuplexCallServer) error {
		for {
			r, err := st.Recv()
			if err == io.EOF {
				return nil
			}
			if err != nil {
				return err
			}
			if err := st.Send(&testgrpc.StreamingOutputCallResponse{Payload: r.Payload}); err != nil {
				return err
			}
		}
	}}), Config{})
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	st, err := stub(c).FullDuplexCall(ctx)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"a", "b", "c"} {
		if err := st.Send(&testgrpc.StreamingOutputCallRequest{Payload: &testgrpc.Payload{Body: []byte(want)}}); err != nil {
			t.Fatal(err)
		}
		r, err := st.Recv()
		if err != nil || string(r.GetPayload().GetBody()) != want {
			t.Fatalf("%v, %v", r, err)
		}
	}
	if err := st.CloseSend(); err != nil {
		t.Fatal(err)
	}
	if _, err := st.Recv(); err != io.EOF {
		t.Fatal(err)
	}
	<-st.Context().Done()
}
