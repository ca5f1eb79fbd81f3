// SPDX-License-Identifier: Apache-2.0

package ecosystem

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/grpc-ecosystem/grpc-gateway/v2/runtime"
	"go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/etcdserverpb/gw"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	grpcmetadata "google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/faultline-rpc/faultline"
)

// store is an etcd of one key. Its gateway is generated code that many run.
type store struct {
	etcdserverpb.UnimplementedKVServer
	etcdserverpb.UnimplementedWatchServer
}

func (store) Range(ctx context.Context, in *etcdserverpb.RangeRequest) (*etcdserverpb.RangeResponse, error) {
	md, _ := grpcmetadata.FromIncomingContext(ctx)
	if err := grpc.SetHeader(ctx, grpcmetadata.Pairs("seen", strings.Join(md.Get("grpcgateway-user-agent"), ""))); err != nil {
		return nil, err
	}
	if string(in.Key) != "key" {
		return nil, status.Error(codes.NotFound, "no such key")
	}
	return &etcdserverpb.RangeResponse{Count: 1, Kvs: []*mvccpb.KeyValue{{Key: in.Key, Value: []byte("value")}}}, nil
}

func (store) Watch(st etcdserverpb.Watch_WatchServer) error {
	if _, err := st.Recv(); err != nil {
		return err
	}
	for i := range int64(3) {
		if err := st.Send(&etcdserverpb.WatchResponse{WatchId: i}); err != nil {
			return err
		}
	}
	return nil
}

// TestGateway: grpc-gateway's runtime and generated handlers in front of our
// server, by our client as it is and as the *grpc.ClientConn that generated
// registrations want.
func TestGateway(t *testing.T) {
	cc := dial(t, serve(t, func(s *faultline.Server) {
		etcdserverpb.RegisterKVServer(s, store{})
		etcdserverpb.RegisterWatchServer(s, store{})
	}))
	for name, register := range map[string]func(context.Context, *runtime.ServeMux) error{
		"as an interface": func(ctx context.Context, mux *runtime.ServeMux) error {
			if err := gw.RegisterKVHandlerClient(ctx, mux, etcdserverpb.NewKVClient(cc)); err != nil {
				return err
			}
			return gw.RegisterWatchHandlerClient(ctx, mux, etcdserverpb.NewWatchClient(cc))
		},
		"as a *grpc.ClientConn": func(ctx context.Context, mux *runtime.ServeMux) error {
			if err := gw.RegisterKVHandler(ctx, mux, cc.GRPCConn()); err != nil {
				return err
			}
			return gw.RegisterWatchHandler(ctx, mux, cc.GRPCConn())
		},
	} {
		t.Run(name, func(t *testing.T) {
			mux := runtime.NewServeMux()
			if err := register(t.Context(), mux); err != nil {
				t.Fatal(err)
			}
			web := httptest.NewServer(mux)
			defer web.Close()
			post := func(path, body string) (*http.Response, string) {
				req, err := http.NewRequestWithContext(within(t, 10*time.Second), http.MethodPost, web.URL+path, strings.NewReader(body))
				if err != nil {
					t.Fatal(err)
				}
				req.Header.Set("User-Agent", "a browser")
				resp, err := http.DefaultClient.Do(req)
				if err != nil {
					t.Fatal(err)
				}
				defer func() { _ = resp.Body.Close() }()
				text, err := io.ReadAll(resp.Body)
				if err != nil {
					t.Fatal(err)
				}
				return resp, string(text)
			}
			resp, text := post("/v3/kv/range", `{"key":"a2V5"}`)
			if resp.StatusCode != 200 || !strings.Contains(text, `"dmFsdWU="`) || resp.Header.Get("Grpc-Metadata-Seen") != "a browser" {
				t.Errorf("%d %s, header %v", resp.StatusCode, text, resp.Header)
			}
			resp, text = post("/v3/kv/range", `{"key":"eA=="}`)
			var st struct {
				Code    int
				Message string
			}
			if err := json.Unmarshal([]byte(text), &st); err != nil || resp.StatusCode != 404 || st.Code != int(codes.NotFound) || st.Message != "no such key" {
				t.Errorf("%d %s, %v", resp.StatusCode, text, err)
			}
			if resp, text = post("/v3/watch", `{}`); resp.StatusCode != 200 || strings.Count(text, `"result"`) != 3 {
				t.Errorf("%d %s, want three results", resp.StatusCode, text)
			}
			if resp, text = post("/v3/kv/put", `{}`); resp.StatusCode != 501 || !strings.Contains(text, "Put not implemented") {
				t.Errorf("%d %s, want 501", resp.StatusCode, text)
			}
		})
	}
}
