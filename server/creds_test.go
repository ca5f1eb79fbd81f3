// SPDX-License-Identifier: Apache-2.0

package server

import (
	"bufio"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"math/big"
	"net"
	"runtime"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	testpb "google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/reflection"
	reflectpb "google.golang.org/grpc/reflection/grpc_reflection_v1"

	"github.com/faultline-rpc/faultline/event"
	"github.com/faultline-rpc/faultline/fault"
	"github.com/faultline-rpc/faultline/internal/simnet"
)

// stuckCreds wait for a byte that never comes.
type stuckCreds struct {
	credentials.TransportCredentials
}

func (stuckCreds) ServerHandshake(nc net.Conn) (net.Conn, credentials.AuthInfo, error) {
	_, err := nc.Read(make([]byte, 1))
	return nil, nil, err
}

func certificate(t *testing.T) (tls.Certificate, *x509.CertPool) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(1), DNSNames: []string{"test"}, NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(cert)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, pool
}

func TestTLS(t *testing.T) {
	cert, pool := certificate(t)
	r := newRig(t, Config{Creds: credentials.NewServerTLSFromCert(&cert)}, &testService{
		empty: func(c context.Context, _ *testpb.Empty) (*testpb.Empty, error) {
			p, _ := peer.FromContext(c)
			if info, ok := p.AuthInfo.(credentials.TLSInfo); !ok || info.State.NegotiatedProtocol != "h2" {
				t.Errorf("auth info %v", p.AuthInfo)
			}
			return &testpb.Empty{}, nil
		},
	})
	c := r.stub(grpc.WithTransportCredentials(credentials.NewClientTLSFromCert(pool, "test")))
	if _, err := c.EmptyCall(ctx(t), &testpb.Empty{}); err != nil {
		t.Fatal(err)
	}
	nc, err := r.lis.Dial(context.Background(), "")
	if err != nil {
		t.Fatal(err)
	}
	nc.Write([]byte("GET / HTTP/1.1\r\n\r\n"))
	bufio.NewReader(nc).ReadString(0) // until it is closed
	nc.Close()
	found := false
	for start := time.Now(); !found && time.Since(start) < 10*time.Second; runtime.Gosched() { // a server that stops logs less
		for _, e := range r.events.all() {
			closed, ok := e.(event.ConnClosed)
			found = found || ok && fault.TLSHandshake.Is(closed.Err)
		}
	}
	if !found || !strings.Contains(r.log.String(), "tls.handshake: the handshake with 10.0.0.1:") {
		t.Errorf("no event, or log: %s", r.log.String())
	}
}

func TestHandshakeTimeout(t *testing.T) {
	r := newRig(t, Config{Creds: stuckCreds{}, ConnectionTimeout: 30 * time.Millisecond}, &testService{})
	nc, err := r.lis.Dial(context.Background(), "")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := nc.Read(make([]byte, 1)); err == nil {
		t.Error("the connection is open")
	}
	nc.Close()
}

// dispatching credentials serve the connection themselves.
type dispatching struct {
	credentials.TransportCredentials
	taken chan net.Conn
}

func (d dispatching) ServerHandshake(nc net.Conn) (net.Conn, credentials.AuthInfo, error) {
	d.taken <- nc
	return nil, nil, credentials.ErrConnDispatched
}

func TestConnDispatched(t *testing.T) {
	d := dispatching{taken: make(chan net.Conn, 1)}
	r := newRig(t, Config{Creds: d}, &testService{})
	nc, err := r.lis.Dial(context.Background(), "")
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	taken := <-d.taken
	r.GracefulStop()
	go func() { taken.Write([]byte("x")); taken.Close() }()
	if _, err := nc.Read(make([]byte, 1)); err != nil {
		t.Errorf("the connection was closed: %v", err)
	}
}

func TestHealthAndReflection(t *testing.T) {
	s := New(Config{})
	hs := health.NewServer()
	healthpb.RegisterHealthServer(s, hs)
	reflection.Register(s)
	testpb.RegisterTestServiceServer(s, &testService{})
	lis := simnet.Listen(simnet.Options{})
	served := make(chan error)
	go func() { served <- s.Serve(lis) }()
	r := &rig{Server: s, t: t, lis: lis}
	cc := r.client()
	hc := healthpb.NewHealthClient(cc)
	if res, err := hc.Check(ctx(t), &healthpb.HealthCheckRequest{}); err != nil || res.Status != healthpb.HealthCheckResponse_SERVING {
		t.Fatalf("Check = %v, %v", res, err)
	}
	watch, err := hc.Watch(ctx(t), &healthpb.HealthCheckRequest{Service: "x"})
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []healthpb.HealthCheckResponse_ServingStatus{healthpb.HealthCheckResponse_SERVICE_UNKNOWN, healthpb.HealthCheckResponse_SERVING} {
		if res, err := watch.Recv(); err != nil || res.Status != want {
			t.Fatalf("Watch = %v, %v", res, err)
		}
		hs.SetServingStatus("x", healthpb.HealthCheckResponse_SERVING)
	}
	info, err := reflectpb.NewServerReflectionClient(cc).ServerReflectionInfo(ctx(t))
	if err != nil {
		t.Fatal(err)
	}
	if err := info.Send(&reflectpb.ServerReflectionRequest{MessageRequest: &reflectpb.ServerReflectionRequest_ListServices{}}); err != nil {
		t.Fatal(err)
	}
	res, err := info.Recv()
	if err != nil || !strings.Contains(res.String(), "grpc.testing.TestService") || !strings.Contains(res.String(), "grpc.health.v1.Health") {
		t.Fatalf("list = %v, %v", res, err)
	}
	cc.Close()
	s.GracefulStop()
	if err := <-served; err != nil {
		t.Errorf("Serve = %v", err)
	}
}
