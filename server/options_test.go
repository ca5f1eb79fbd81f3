// SPDX-License-Identifier: Apache-2.0

package server

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	testpb "google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/stats"
	grpcstatus "google.golang.org/grpc/status"
	"google.golang.org/grpc/tap"
	"google.golang.org/protobuf/proto"

	"github.com/faultline-rpc/faultline/fault"
)

func TestSetSendCompressor(t *testing.T) {
	request, _ := proto.Marshal(&testpb.SimpleRequest{Payload: &testpb.Payload{Body: bytes.Repeat([]byte("abc"), 1000)}})
	for _, tc := range []struct {
		name     string // asked for
		accept   string
		header   bool // sent before
		encoding string
		fails    string
		knows    string
	}{
		{"gzip", "gzip", false, "gzip", "", "[gzip]"},
		{"gzip", "identity, deflate ,gzip", false, "gzip", "", "[deflate gzip]"},
		{"gzip", "deflate", false, "", `the client does not accept "gzip"`, "[deflate]"},
		{"squeeze", "squeeze", false, "", `no compressor "squeeze" is registered`, "[squeeze]"},
		{"identity", "gzip", false, "", "", "[gzip]"},
		{"gzip", "gzip", true, "", "the headers were sent already", "[gzip]"},
	} {
		t.Run(fmt.Sprint(tc.name, " of ", tc.accept, tc.header), func(t *testing.T) {
			told := make(chan error, 1)
			r := newRig(t, Config{}, &testService{unary: func(c context.Context, m *testpb.SimpleRequest) (*testpb.SimpleResponse, error) {
				if list, err := ClientSupportedCompressors(c); err != nil || fmt.Sprint(list) != tc.knows {
					t.Errorf("the client supports %v, %v", list, err)
				}
				if tc.header {
					grpc.SendHeader(c, nil)
				}
				told <- SetSendCompressor(context.WithValue(c, httpKey{}, 1), tc.name)
				return &testpb.SimpleResponse{Payload: m.Payload}, nil
			}})
			p := r.peer()
			res, err := p.Call(1, unaryCall, request, "grpc-accept-encoding", tc.accept)
			p.OK(err)
			if res.Get("grpc-status") != "0" || res.Get("grpc-encoding") != tc.encoding {
				t.Errorf("status %q, encoding %q", res.Get("grpc-status"), res.Get("grpc-encoding"))
			}
			err = <-told
			if tc.fails == "" && err != nil || tc.fails != "" && (!fault.CallMisuse.Is(err) || !strings.Contains(err.Error(), tc.fails)) {
				t.Errorf("SetSendCompressor: %v", err)
			}
		})
	}
	if err := SetSendCompressor(context.Background(), "gzip"); !fault.CallMisuse.Is(err) {
		t.Errorf("without a call: %v", err)
	}
	if _, err := ClientSupportedCompressors(context.Background()); !fault.CallMisuse.Is(err) {
		t.Errorf("without a call: %v", err)
	}
}

func TestTap(t *testing.T) {
	detailed, _ := grpcstatus.New(codes.ResourceExhausted, "later").WithDetails(&errdetails.RetryInfo{})
	tapped := func(c context.Context, info *tap.Info) (context.Context, error) {
		info.Header["mine"] = nil // it is the program's
		switch strings.Join(info.Header["verdict"], "") {
		case "status":
			return nil, detailed.Err()
		case "error":
			return nil, errors.New("a secret")
		case "nothing":
			return nil, nil
		}
		return context.WithValue(c, httpKey{}, info.FullMethodName), nil
	}
	for _, watched := range []bool{false, true} {
		cfg := Config{Tap: tapped}
		if watched {
			cfg.StatsHandlers = []stats.Handler{&callEnds{}}
		}
		r := newRig(t, cfg, &testService{empty: func(c context.Context, _ *testpb.Empty) (*testpb.Empty, error) {
			md, _ := metadata.FromIncomingContext(c)
			if _, ok := md["mine"]; ok {
				return nil, errors.New("the tap changed the metadata")
			}
			if c.Value(httpKey{}) != emptyCall && len(md["verdict"]) == 0 {
				return nil, errors.New("the tap's context is gone")
			}
			return &testpb.Empty{}, grpc.SetTrailer(c, metadata.Pairs("a", "b"))
		}})
		c := r.stub()
		for verdict, want := range map[string]*grpcstatus.Status{
			"": nil, "nothing": nil, "status": detailed,
			"error": grpcstatus.New(codes.PermissionDenied, "policy.permission: the caller is not allowed to make this call"),
		} {
			x := ctx(t)
			if verdict != "" {
				x = metadata.AppendToOutgoingContext(x, "verdict", verdict)
			}
			_, err := c.EmptyCall(x, &testpb.Empty{})
			if !proto.Equal(grpcstatus.Convert(err).Proto(), want.Proto()) {
				t.Errorf("%q: %v", verdict, err)
			}
		}
		list := r.refusals()
		if len(list) != 2 {
			t.Errorf("recorded: %+v", list)
		}
		// Each on a connection of its own: what follows an early answer, RST_STREAM,
		// may come late.
		if res, err := r.peer().Call(1, "/no.Such/Method", nil, "verdict", "error"); err != nil || res.Get("grpc-status") != "7" {
			t.Errorf("the tap comes first: %+v, %v", res, err)
		}
		if res, err := r.peer().Call(1, "/no.Such/Method", nil); err != nil || res.Get("grpc-status") != "12" {
			t.Errorf("%+v, %v", res, err)
		}
	}
}
