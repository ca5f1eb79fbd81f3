// SPDX-License-Identifier: Apache-2.0

package ecosystem

import (
	"context"
	"fmt"
	"net/url"
	"sync"
	"testing"
	"time"

	"github.com/grpc-ecosystem/go-grpc-middleware/v2/testing/testpb"
	"go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/client/v3/naming/endpoints"
	"go.etcd.io/etcd/client/v3/naming/resolver"
	"go.etcd.io/etcd/server/v3/embed"

	"github.com/faultline-rpc/faultline"
)

// etcd starts a store of one member on loopback.
func etcd(t *testing.T) (endpoint string) {
	t.Helper()
	cfg := embed.NewConfig()
	cfg.Dir = t.TempDir()
	cfg.LogLevel = "panic"
	free := url.URL{Scheme: "http", Host: "127.0.0.1:0"}
	cfg.ListenClientUrls, cfg.ListenPeerUrls = []url.URL{free}, []url.URL{free}
	e, err := embed.StartEtcd(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(e.Close)
	select {
	case <-e.Server.ReadyNotify():
	case <-time.After(time.Minute):
		t.Fatal("etcd does not get ready within a minute")
	}
	return e.Clients[0].Addr().String()
}

// TestEtcdResolver: our client finds servers by etcd's resolver as they
// register and leave.
func TestEtcdResolver(t *testing.T) {
	ctx := within(t, 2*time.Minute)
	store, err := clientv3.New(clientv3.Config{Endpoints: []string{etcd(t)}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = store.Close() })
	names, err := endpoints.NewManager(store, "pings")
	if err != nil {
		t.Fatal(err)
	}
	builder, err := resolver.NewBuilder(store)
	if err != nil {
		t.Fatal(err)
	}
	addrs := make([]string, 3)
	for i := range addrs {
		addrs[i] = servePing(t, &ping{unary: func(context.Context, *testpb.PingRequest) (*testpb.PingResponse, error) {
			return &testpb.PingResponse{Value: fmt.Sprint(i)}, nil
		}})
	}
	add := func(i int) {
		if err := names.AddEndpoint(ctx, fmt.Sprintf("pings/%d", i), endpoints.Endpoint{Addr: addrs[i]}); err != nil {
			t.Fatal(err)
		}
	}
	add(0)
	c := client(t, "etcd:///pings", faultline.WithResolvers(builder),
		faultline.WithDefaultServiceConfig(`{"loadBalancingConfig":[{"round_robin":{}}]}`))
	// answering calls until just those servers answer, each in its turn.
	answering := func(want ...string) {
		t.Helper()
		tick := time.NewTicker(5 * time.Millisecond)
		defer tick.Stop()
		var got map[string]bool
		for {
			got = map[string]bool{}
			for range 3 * len(addrs) {
				r, err := c.Ping(ctx, &testpb.PingRequest{Value: "x"})
				if err != nil {
					t.Fatalf("waiting for answers from %v: %v", want, err)
				}
				got[r.GetValue()] = true
			}
			match := len(got) == len(want)
			for _, w := range want {
				match = match && got[w]
			}
			if match {
				return
			}
			select {
			case <-tick.C:
			case <-ctx.Done():
				t.Fatalf("servers %v answer, want %v", got, want)
			}
		}
	}
	answering("0")
	add(1)
	answering("0", "1")
	add(2)
	answering("0", "1", "2")
	if err := names.DeleteEndpoint(ctx, "pings/0"); err != nil {
		t.Fatal(err)
	}
	answering("1", "2")
	if err := names.DeleteEndpoint(ctx, "pings/1"); err != nil {
		t.Fatal(err)
	}
	answering("2")
}

// TestEtcdAPI: etcd's own service, which grpc-go serves, over our client:
// calls, and a watch that sees them.
func TestEtcdAPI(t *testing.T) {
	ctx := within(t, 2*time.Minute)
	cc := dial(t, etcd(t))
	kv := etcdserverpb.NewKVClient(cc)
	w, err := etcdserverpb.NewWatchClient(cc).Watch(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if err := w.Send(&etcdserverpb.WatchRequest{RequestUnion: &etcdserverpb.WatchRequest_CreateRequest{
		CreateRequest: &etcdserverpb.WatchCreateRequest{Key: []byte("a"), RangeEnd: []byte("b")}}}); err != nil {
		t.Fatal(err)
	}
	if r, err := w.Recv(); err != nil || !r.Created {
		t.Fatalf("the watch begins with %v, %v", r, err)
	}
	const puts = 100
	var wg sync.WaitGroup
	for i := range puts {
		wg.Go(func() {
			if _, err := kv.Put(ctx, &etcdserverpb.PutRequest{Key: fmt.Appendf(nil, "a%d", i), Value: []byte("x")}); err != nil {
				t.Errorf("put %d: %v", i, err)
			}
		})
	}
	wg.Wait()
	seen := 0
	for seen < puts {
		r, err := w.Recv()
		if err != nil {
			t.Fatalf("the watch after %d of %d events: %v", seen, puts, err)
		}
		seen += len(r.Events)
	}
	r, err := kv.Range(ctx, &etcdserverpb.RangeRequest{Key: []byte("a"), RangeEnd: []byte("b"), CountOnly: true})
	if err != nil || r.Count != puts || seen != puts {
		t.Errorf("%d keys, %d events, %v, want %d", r.GetCount(), seen, err, puts)
	}
}
