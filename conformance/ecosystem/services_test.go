// SPDX-License-Identifier: Apache-2.0

package ecosystem

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"net/http/httptest"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/grpc-ecosystem/go-grpc-middleware/v2/metadata"
	"github.com/grpc-ecosystem/go-grpc-middleware/v2/testing/testpb"
	"golang.org/x/oauth2"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/credentials/oauth"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/reflection"
	reflectionv1 "google.golang.org/grpc/reflection/grpc_reflection_v1"
	reflectionv1alpha "google.golang.org/grpc/reflection/grpc_reflection_v1alpha"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/descriptorpb"

	"github.com/faultline-rpc/faultline"
)

// certificate borrows that of the standard library's test server, which is for
// 127.0.0.1.
func certificate(t *testing.T) (server, client *tls.Config) {
	t.Helper()
	s := httptest.NewTLSServer(nil)
	defer s.Close()
	roots := x509.NewCertPool()
	roots.AddCert(s.Certificate())
	return &tls.Config{Certificates: s.TLS.Certificates}, &tls.Config{RootCAs: roots}
}

// TestOAuth: oauth2 token sources as credentials of a client and of a call, in
// TLS only.
func TestOAuth(t *testing.T) {
	var seen atomic.Value
	p := &ping{unary: func(ctx context.Context, in *testpb.PingRequest) (*testpb.PingResponse, error) {
		seen.Store(strings.Join(metadata.ExtractIncoming(ctx)["authorization"], "|"))
		return &testpb.PingResponse{Value: in.Value}, nil
	}}
	server, roots := certificate(t)
	addr := servePing(t, p, faultline.Creds(credentials.NewTLS(server)))
	token := func(s string) oauth.TokenSource {
		return oauth.TokenSource{TokenSource: oauth2.StaticTokenSource(&oauth2.Token{AccessToken: s, TokenType: "Bearer"})}
	}
	ctx := within(t, 10*time.Second)
	c := client(t, addr, faultline.WithTransportCredentials(credentials.NewTLS(roots)), faultline.WithPerRPCCredentials(token("every-call")))
	if _, err := c.Ping(ctx, hello); err != nil || seen.Load() != "Bearer every-call" {
		t.Errorf("%v, the server saw %q", err, seen.Load())
	}
	if _, err := c.Ping(ctx, hello, grpc.PerRPCCredentials(token("this-call"))); err != nil || seen.Load() != "Bearer every-call|Bearer this-call" {
		t.Errorf("%v, the server saw %q", err, seen.Load())
	}
	if _, err := faultline.NewClient(addr, faultline.WithTransportCredentials(insecure.NewCredentials()), faultline.WithPerRPCCredentials(token("x"))); err == nil {
		t.Error("a token source is accepted for cleartext")
	}
	plain := client(t, servePing(t, p))
	_, err := plain.Ping(ctx, hello, grpc.PerRPCCredentials(token("x")))
	wantCode(t, err, codes.Unauthenticated)
}

// TestHealth: grpc-go's health server and its clients: check, watch, list.
func TestHealth(t *testing.T) {
	h := health.NewServer()
	cc := dial(t, serve(t, func(s *faultline.Server) { healthpb.RegisterHealthServer(s, h) }))
	c := healthpb.NewHealthClient(cc)
	ctx := within(t, 10*time.Second)
	if r, err := c.Check(ctx, &healthpb.HealthCheckRequest{}); err != nil || r.GetStatus() != healthpb.HealthCheckResponse_SERVING {
		t.Errorf("check: %v, %v", r, err)
	}
	_, err := c.Check(ctx, &healthpb.HealthCheckRequest{Service: "unheard-of"})
	wantCode(t, err, codes.NotFound)
	w, err := c.Watch(ctx, &healthpb.HealthCheckRequest{Service: "pings"})
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []healthpb.HealthCheckResponse_ServingStatus{healthpb.HealthCheckResponse_SERVICE_UNKNOWN,
		healthpb.HealthCheckResponse_SERVING, healthpb.HealthCheckResponse_NOT_SERVING} {
		if want != healthpb.HealthCheckResponse_SERVICE_UNKNOWN {
			h.SetServingStatus("pings", want)
		}
		if r, err := w.Recv(); err != nil || r.GetStatus() != want {
			t.Fatalf("watch: %v, %v, want %v", r, err, want)
		}
	}
	l, err := c.List(ctx, &healthpb.HealthListRequest{})
	if err != nil || l.GetStatuses()["pings"].GetStatus() != healthpb.HealthCheckResponse_NOT_SERVING {
		t.Errorf("list: %v, %v", l, err)
	}
}

// TestReflection: both versions of the service list what is registered and
// give descriptors.
func TestReflection(t *testing.T) {
	cc := dial(t, serve(t, func(s *faultline.Server) {
		testpb.RegisterTestServiceServer(s, &ping{})
		reflection.Register(s) // v1 and v1alpha
	}))
	want := []string{"grpc.reflection.v1.ServerReflection", "grpc.reflection.v1alpha.ServerReflection", testpb.TestServiceFullName}
	check := func(t *testing.T, names []string, files [][]byte) {
		slices.Sort(names)
		if !slices.Equal(names, want) {
			t.Errorf("services %v, want %v", names, want)
		}
		var fd descriptorpb.FileDescriptorProto
		if len(files) == 0 {
			t.Fatal("there is no descriptor")
		}
		if err := proto.Unmarshal(files[0], &fd); err != nil || fd.GetService()[0].GetName() != "TestService" {
			t.Errorf("descriptor %v, %v", fd.GetName(), err)
		}
	}
	ctx := within(t, 10*time.Second)
	t.Run("v1", func(t *testing.T) {
		st, err := reflectionv1.NewServerReflectionClient(cc).ServerReflectionInfo(ctx)
		if err != nil {
			t.Fatal(err)
		}
		ask := func(r *reflectionv1.ServerReflectionRequest) *reflectionv1.ServerReflectionResponse {
			if err := st.Send(r); err != nil {
				t.Fatal(err)
			}
			got, err := st.Recv()
			if err != nil {
				t.Fatal(err)
			}
			return got
		}
		var names []string
		for _, s := range ask(&reflectionv1.ServerReflectionRequest{MessageRequest: &reflectionv1.ServerReflectionRequest_ListServices{}}).GetListServicesResponse().GetService() {
			names = append(names, s.GetName())
		}
		check(t, names, ask(&reflectionv1.ServerReflectionRequest{MessageRequest: &reflectionv1.ServerReflectionRequest_FileContainingSymbol{
			FileContainingSymbol: testpb.TestServiceFullName}}).GetFileDescriptorResponse().GetFileDescriptorProto())
	})
	t.Run("v1alpha", func(t *testing.T) {
		st, err := reflectionv1alpha.NewServerReflectionClient(cc).ServerReflectionInfo(ctx)
		if err != nil {
			t.Fatal(err)
		}
		ask := func(r *reflectionv1alpha.ServerReflectionRequest) *reflectionv1alpha.ServerReflectionResponse {
			if err := st.Send(r); err != nil {
				t.Fatal(err)
			}
			got, err := st.Recv()
			if err != nil {
				t.Fatal(err)
			}
			return got
		}
		var names []string
		for _, s := range ask(&reflectionv1alpha.ServerReflectionRequest{MessageRequest: &reflectionv1alpha.ServerReflectionRequest_ListServices{}}).GetListServicesResponse().GetService() {
			names = append(names, s.GetName())
		}
		check(t, names, ask(&reflectionv1alpha.ServerReflectionRequest{MessageRequest: &reflectionv1alpha.ServerReflectionRequest_FileContainingSymbol{
			FileContainingSymbol: testpb.TestServiceFullName}}).GetFileDescriptorResponse().GetFileDescriptorProto())
	})
}
