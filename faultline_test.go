// SPDX-License-Identifier: Apache-2.0

package faultline_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"io"
	"math/big"
	"net"
	"path/filepath"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	testgrpc "google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/reflection"
	grpcstatus "google.golang.org/grpc/status"
	"google.golang.org/grpc/test/bufconn"

	"github.com/faultline-rpc/faultline"
	"github.com/faultline-rpc/faultline/fault"
	"github.com/faultline-rpc/faultline/status"
)

// service is a test service with one method of each kind.
type service struct {
	testgrpc.UnimplementedTestServiceServer
	unary func(context.Context, *testgrpc.SimpleRequest) (*testgrpc.SimpleResponse, error)
}

func (s *service) EmptyCall(context.Context, *testgrpc.Empty) (*testgrpc.Empty, error) {
	return &testgrpc.Empty{}, nil
}

func (s *service) UnaryCall(ctx context.Context, in *testgrpc.SimpleRequest) (*testgrpc.SimpleResponse, error) {
	if s.unary != nil {
		return s.unary(ctx, in)
	}
	return &testgrpc.SimpleResponse{Payload: &testgrpc.Payload{Body: make([]byte, in.GetResponseSize())}}, nil
}

func (s *service) StreamingOutputCall(in *testgrpc.StreamingOutputCallRequest, out testgrpc.TestService_StreamingOutputCallServer) error {
	for _, p := range in.GetResponseParameters() {
		if err := out.Send(&testgrpc.StreamingOutputCallResponse{Payload: &testgrpc.Payload{Body: make([]byte, p.GetSize())}}); err != nil {
			return err
		}
	}
	return nil
}

func (s *service) StreamingInputCall(in testgrpc.TestService_StreamingInputCallServer) error {
	n := 0
	for {
		m, err := in.Recv()
		if err == io.EOF {
			return in.SendAndClose(&testgrpc.StreamingInputCallResponse{AggregatedPayloadSize: int32(n)})
		}
		if err != nil {
			return err
		}
		n += len(m.GetPayload().GetBody())
	}
}

func (s *service) FullDuplexCall(st testgrpc.TestService_FullDuplexCallServer) error {
	for {
		m, err := st.Recv()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		if err := st.Send(&testgrpc.StreamingOutputCallResponse{Payload: m.GetPayload()}); err != nil {
			return err
		}
	}
}

// serve runs a server on l until the test ends.
func serve(t testing.TB, l net.Listener, svc *service, opts ...faultline.ServerOption) *faultline.Server {
	t.Helper()
	s := faultline.NewServer(opts...)
	testgrpc.RegisterTestServiceServer(s, svc)
	healthpb.RegisterHealthServer(s, health.NewServer())
	reflection.Register(s)
	done := make(chan error, 1)
	go func() { done <- s.Serve(l) }()
	t.Cleanup(func() {
		s.Stop()
		if err := <-done; err != nil {
			t.Errorf("Serve: %v", err)
		}
	})
	return s
}

func listen(t testing.TB) net.Listener {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func dial(t testing.TB, target string, opts ...faultline.DialOption) *faultline.ClientConn {
	t.Helper()
	cc, err := faultline.NewClient(target, append([]faultline.DialOption{faultline.WithTransportCredentials(insecure.NewCredentials())}, opts...)...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cc.Close() })
	return cc
}

func timeout(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	t.Cleanup(cancel)
	return ctx
}

// fourKinds makes a call of each kind.
func fourKinds(t *testing.T, cc grpc.ClientConnInterface) {
	t.Helper()
	ctx := timeout(t)
	c := testgrpc.NewTestServiceClient(cc)
	for _, size := range []int32{0, 1, 1000, 100_000, 3 << 20} {
		r, err := c.UnaryCall(ctx, &testgrpc.SimpleRequest{ResponseSize: size, Payload: &testgrpc.Payload{Body: make([]byte, size)}})
		if err != nil || len(r.GetPayload().GetBody()) != int(size) {
			t.Fatalf("unary of %d bytes: %d bytes, %v", size, len(r.GetPayload().GetBody()), err)
		}
	}
	in, err := c.StreamingInputCall(ctx)
	if err != nil {
		t.Fatal(err)
	}
	for range 100 {
		if err := in.Send(&testgrpc.StreamingInputCallRequest{Payload: &testgrpc.Payload{Body: make([]byte, 70_000)}}); err != nil {
			t.Fatal(err)
		}
	}
	if r, err := in.CloseAndRecv(); err != nil || r.GetAggregatedPayloadSize() != 7_000_000 {
		t.Fatalf("client streaming: %v, %v", r, err)
	}
	req := &testgrpc.StreamingOutputCallRequest{}
	for range 100 {
		req.ResponseParameters = append(req.ResponseParameters, &testgrpc.ResponseParameters{Size: 70_000})
	}
	out, err := c.StreamingOutputCall(ctx, req)
	if err != nil {
		t.Fatal(err)
	}
	for range 100 {
		if m, err := out.Recv(); err != nil || len(m.GetPayload().GetBody()) != 70_000 {
			t.Fatalf("server streaming: %v", err)
		}
	}
	if _, err := out.Recv(); err != io.EOF {
		t.Fatalf("server streaming ends with %v, want io.EOF", err)
	}
	both, err := c.FullDuplexCall(ctx)
	if err != nil {
		t.Fatal(err)
	}
	for i := range 100 {
		body := make([]byte, i*100)
		if err := both.Send(&testgrpc.StreamingOutputCallRequest{Payload: &testgrpc.Payload{Body: body}}); err != nil {
			t.Fatal(err)
		}
		if m, err := both.Recv(); err != nil || len(m.GetPayload().GetBody()) != len(body) {
			t.Fatalf("bidirectional: %v", err)
		}
	}
	if err := both.CloseSend(); err != nil {
		t.Fatal(err)
	}
	if _, err := both.Recv(); err != io.EOF {
		t.Fatalf("bidirectional ends with %v, want io.EOF", err)
	}
}

func TestFourKinds(t *testing.T) {
	t.Run("tcp", func(t *testing.T) {
		l := listen(t)
		serve(t, l, &service{})
		fourKinds(t, dial(t, l.Addr().String()))
	})
	t.Run("unix", func(t *testing.T) {
		l, err := net.Listen("unix", filepath.Join(t.TempDir(), "s"))
		if err != nil {
			t.Fatal(err)
		}
		serve(t, l, &service{})
		fourKinds(t, dial(t, "unix:"+l.Addr().String()))
	})
	t.Run("bufconn", func(t *testing.T) {
		l := bufconn.Listen(64 << 10)
		serve(t, l, &service{})
		fourKinds(t, dial(t, "passthrough:///bufconn", faultline.WithContextDialer(
			func(ctx context.Context, _ string) (net.Conn, error) { return l.DialContext(ctx) })))
	})
	t.Run("tls", func(t *testing.T) {
		l := listen(t)
		server, client := certificates(t)
		serve(t, l, &service{}, faultline.Creds(credentials.NewTLS(server)))
		fourKinds(t, dial(t, l.Addr().String(), faultline.WithTransportCredentials(credentials.NewTLS(client))))
	})
	t.Run("gzip", func(t *testing.T) {
		l := listen(t)
		serve(t, l, &service{})
		fourKinds(t, dial(t, l.Addr().String(), faultline.WithDefaultCallOptions(grpc.UseCompressor("gzip"))))
	})
	t.Run("diverted", func(t *testing.T) {
		l := listen(t)
		serve(t, l, &service{})
		cc := dial(t, l.Addr().String())
		fourKinds(t, cc.GRPCConn())
	})
	t.Run("grpc-go client", func(t *testing.T) {
		l := listen(t)
		serve(t, l, &service{})
		cc, err := grpc.NewClient(l.Addr().String(), grpc.WithTransportCredentials(insecure.NewCredentials()))
		if err != nil {
			t.Fatal(err)
		}
		defer cc.Close()
		fourKinds(t, cc)
	})
	t.Run("grpc-go server", func(t *testing.T) {
		l := listen(t)
		s := grpc.NewServer()
		testgrpc.RegisterTestServiceServer(s, &service{})
		go s.Serve(l)
		defer s.Stop()
		fourKinds(t, dial(t, l.Addr().String()))
	})
}

// certificates makes an authority, and from it mutual TLS for 127.0.0.1.
func certificates(t testing.TB) (server, client *tls.Config) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	c := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test"}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		KeyUsage:    x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}}
	der, err := x509.CreateCertificate(rand.Reader, c, c, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	if c, err = x509.ParseCertificate(der); err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(c)
	own := []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}
	return &tls.Config{Certificates: own, ClientCAs: pool, ClientAuth: tls.RequireAndVerifyClientCert},
		&tls.Config{Certificates: own, RootCAs: pool}
}

func TestMetadataAndPeer(t *testing.T) {
	l := listen(t)
	serve(t, l, &service{unary: func(ctx context.Context, _ *testgrpc.SimpleRequest) (*testgrpc.SimpleResponse, error) {
		md, _ := metadata.FromIncomingContext(ctx)
		if p, ok := peer.FromContext(ctx); !ok || p.Addr.Network() != "tcp" {
			return nil, status.Errorf(codes.Internal, "peer: %v", p)
		}
		if _, ok := ctx.Deadline(); !ok {
			return nil, status.Error(codes.Internal, "no deadline")
		}
		if m, ok := grpc.Method(ctx); !ok || m != testgrpc.TestService_UnaryCall_FullMethodName {
			return nil, status.Errorf(codes.Internal, "method %q", m)
		}
		if err := grpc.SetHeader(ctx, metadata.Pairs("h", md.Get("ask")[0])); err != nil {
			return nil, err
		}
		if err := grpc.SetTrailer(ctx, metadata.Pairs("t-bin", md.Get("ask-bin")[0])); err != nil {
			return nil, err
		}
		return &testgrpc.SimpleResponse{Username: md.Get(":authority")[0] + " " + md.Get("content-type")[0]}, nil
	}})
	cc := dial(t, l.Addr().String())
	ctx := metadata.AppendToOutgoingContext(timeout(t), "ask", "yes", "ask-bin", "\x00\xff")
	var header, trailer metadata.MD
	var p peer.Peer
	r, err := testgrpc.NewTestServiceClient(cc).UnaryCall(ctx, &testgrpc.SimpleRequest{}, grpc.Header(&header), grpc.Trailer(&trailer), grpc.Peer(&p))
	if err != nil {
		t.Fatal(err)
	}
	if got := header.Get("h"); len(got) != 1 || got[0] != "yes" {
		t.Errorf("header h is %q", got)
	}
	if got := trailer.Get("t-bin"); len(got) != 1 || got[0] != "\x00\xff" {
		t.Errorf("trailer t-bin is %q", got)
	}
	if want := l.Addr().String() + " application/grpc"; r.GetUsername() != want {
		t.Errorf("the handler saw %q, want %q", r.GetUsername(), want)
	}
	if p.Addr == nil || p.Addr.String() != l.Addr().String() {
		t.Errorf("peer is %v", p.Addr)
	}
}

func TestFaults(t *testing.T) {
	l := listen(t)
	release := make(chan struct{})
	defer close(release)
	serve(t, l, &service{unary: func(ctx context.Context, in *testgrpc.SimpleRequest) (*testgrpc.SimpleResponse, error) {
		switch in.GetResponseSize() {
		case 1:
			return nil, status.Error(codes.NotFound, "user 42 not found")
		case 2:
			return nil, errors.New("a secret of the database")
		case 3:
			panic("a secret too")
		case 4:
			<-release // not ctx.Done: the client's clock decides
			return nil, ctx.Err()
		}
		return &testgrpc.SimpleResponse{}, nil
	}})
	free := listen(t)
	free.Close()
	cc, gone := dial(t, l.Addr().String()), dial(t, free.Addr().String())
	call := func(cc grpc.ClientConnInterface, ctx context.Context, kind int32) error {
		_, err := testgrpc.NewTestServiceClient(cc).UnaryCall(ctx, &testgrpc.SimpleRequest{ResponseSize: kind})
		return err
	}
	short, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
	defer cancel()
	past, cancel := context.WithDeadline(context.Background(), time.Now().Add(-time.Second))
	defer cancel()
	for _, c := range []struct {
		name      string
		err       error
		code      codes.Code
		id        *fault.Entry
		side      fault.Side
		processed fault.Processed
	}{
		{"status", call(cc, timeout(t), 1), codes.NotFound, fault.HandlerStatus, fault.Remote, fault.Yes},
		{"not a status", call(cc, timeout(t), 2), codes.Unknown, fault.HandlerNotStatus, fault.Remote, fault.Yes},
		{"panic", call(cc, timeout(t), 3), codes.Unknown, fault.HandlerPanic, fault.Remote, fault.Yes},
		{"deadline", call(cc, short, 4), codes.DeadlineExceeded, fault.CallDeadline, fault.Local, fault.Maybe},
		{"past", call(cc, past, 0), codes.DeadlineExceeded, fault.CallDeadlinePast, fault.Local, fault.No},
		{"refused", call(gone, timeout(t), 0), codes.Unavailable, fault.DialRefused, fault.Remote, fault.No},
		{"unknown method", cc.Invoke(timeout(t), "/grpc.testing.TestService/UnaryCal", &testgrpc.Empty{}, &testgrpc.Empty{}),
			codes.Unimplemented, fault.HandlerUnknownMethod, fault.Remote, fault.No},
	} {
		f, ok := fault.From(c.err)
		if !ok {
			t.Errorf("%s: %v is no fault", c.name, c.err)
			continue
		}
		if f.Entry() != c.id || f.Code() != c.code || f.Side() != c.side || f.Processed() != c.processed {
			t.Errorf("%s: %v %v %v processed %v, want %v %v %v processed %v\n%+v", c.name,
				f.Entry(), f.Code(), f.Side(), f.Processed(), c.id, c.code, c.side, c.processed, f)
		}
		if grpcstatus.Code(c.err) != c.code || status.Code(c.err) != c.code {
			t.Errorf("%s: the status packages see %v and %v", c.name, grpcstatus.Code(c.err), status.Code(c.err))
		}
	}
}

func TestConnectivity(t *testing.T) {
	l := listen(t)
	serve(t, l, &service{})
	cc := dial(t, l.Addr().String())
	if s := cc.GetState(); s != connectivity.Idle {
		t.Errorf("a new client is %v, want IDLE", s)
	}
	cc.Connect()
	ctx := timeout(t)
	for s := cc.GetState(); s != connectivity.Ready; s = cc.GetState() {
		if !cc.WaitForStateChange(ctx, s) {
			t.Fatalf("the client stays %v", s)
		}
	}
	if r, err := healthpb.NewHealthClient(cc).Check(ctx, &healthpb.HealthCheckRequest{}); err != nil || r.GetStatus() != healthpb.HealthCheckResponse_SERVING {
		t.Errorf("health: %v, %v", r, err)
	}
	if err := cc.Close(); err != nil {
		t.Error(err)
	}
	if err := cc.Close(); err == nil {
		t.Error("a second Close succeeds")
	}
	if err := cc.Invoke(ctx, testgrpc.TestService_EmptyCall_FullMethodName, &testgrpc.Empty{}, &testgrpc.Empty{}); !fault.CallClosed.Is(err) {
		t.Errorf("a call on a closed client: %v", err)
	}
}

func TestBadOptions(t *testing.T) {
	if _, err := faultline.NewClient("localhost:1"); err == nil {
		t.Error("a client without transport credentials was made")
	}
	if _, err := faultline.NewClient("nosuch://%%/x", faultline.WithTransportCredentials(insecure.NewCredentials())); err == nil {
		t.Error("a client for a target that cannot be parsed was made")
	}
	_, err := faultline.NewClient("localhost:1", faultline.WithTransportCredentials(insecure.NewCredentials()), faultline.WithUserAgent("a\nb"))
	if err == nil || err.Error() != `faultline: WithUserAgent was given "a\nb", want printable ASCII` {
		t.Errorf("a user agent of two lines: %v", err)
	}
}
