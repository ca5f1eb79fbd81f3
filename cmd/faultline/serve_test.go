// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"io"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	testpb "google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/metadata"
	reflectpb "google.golang.org/grpc/reflection/grpc_reflection_v1"

	"github.com/faultline-rpc/faultline"
	"github.com/faultline-rpc/faultline/cmd/faultline/testservice"
	"github.com/faultline-rpc/faultline/status"
)

// pair writes a certificate for 127.0.0.1 and its key into dir.
func pair(t *testing.T, dir, name string) (cert, key string) {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, k.Public(), k)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(k)
	if err != nil {
		t.Fatal(err)
	}
	write := func(ext, kind string, b []byte) string {
		p := filepath.Join(dir, name+ext)
		if err := os.WriteFile(p, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: b}), 0o600); err != nil {
			t.Fatal(err)
		}
		return p
	}
	return write(".crt", "CERTIFICATE", der), write(".key", "PRIVATE KEY", private)
}

// serving is `faultline serve` in this process.
type serving struct {
	addr, how string
	stop      func() (status int, stderr string)
}

func startServe(t *testing.T, args ...string) serving {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	out, in := io.Pipe()
	var errs bytes.Buffer
	done := make(chan int, 1)
	go func() {
		status := run(ctx, append([]string{"serve", "--addr", "127.0.0.1:0"}, args...), in, &errs)
		in.CloseWithError(io.EOF)
		done <- status
	}()
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatalf("serve said %q, %v; stderr %q", line, err, errs.String())
	}
	m := regexp.MustCompile(`^listening on (127\.0\.0\.1:[1-9]\d*) \((cleartext|TLS)\)\n$`).FindStringSubmatch(line)
	if m == nil {
		t.Fatalf("serve said %q", line)
	}
	s := serving{addr: m[1], how: m[2], stop: func() (int, string) {
		cancel()
		return <-done, errs.String()
	}}
	t.Cleanup(cancel)
	return s
}

func dial(t *testing.T, addr string, creds credentials.TransportCredentials) *faultline.ClientConn {
	t.Helper()
	cc, err := faultline.NewClient("passthrough:///"+addr, faultline.WithTransportCredentials(creds))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cc.Close() })
	return cc
}

const stopping = "stopping: calls that run have 10s to finish\n"

func TestServe(t *testing.T) {
	cert, key := pair(t, t.TempDir(), "server")
	roots := x509.NewCertPool()
	text, err := os.ReadFile(cert)
	if err != nil || !roots.AppendCertsFromPEM(text) {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		how   string
		args  []string
		creds credentials.TransportCredentials
	}{
		{"cleartext", nil, insecure.NewCredentials()},
		{"TLS", []string{"--cert", cert, "--key", key}, credentials.NewClientTLSFromCert(roots, "")},
	} {
		t.Run(tc.how, func(t *testing.T) {
			s := startServe(t, tc.args...)
			if s.how != tc.how {
				t.Errorf("it serves %s, want %s", s.how, tc.how)
			}
			cc := dial(t, s.addr, tc.creds)
			out, err := testpb.NewTestServiceClient(cc).UnaryCall(t.Context(), &testpb.SimpleRequest{ResponseSize: 7})
			if err != nil || len(out.GetPayload().GetBody()) != 7 {
				t.Errorf("UnaryCall: %v, %v; want 7 bytes", out, err)
			}
			checkHealth(t, cc)
			checkReflection(t, cc)
			if err := cc.Close(); err != nil {
				t.Error(err)
			}
			if status, stderr := s.stop(); status != 0 || stderr != stopping {
				t.Errorf("status %d, stderr %q; want 0, %q", status, stderr, stopping)
			}
		})
	}
}

func checkHealth(t *testing.T, cc *faultline.ClientConn) {
	t.Helper()
	h := healthpb.NewHealthClient(cc)
	for _, name := range []string{"", testpb.TestService_ServiceDesc.ServiceName} {
		out, err := h.Check(t.Context(), &healthpb.HealthCheckRequest{Service: name})
		if err != nil || out.GetStatus() != healthpb.HealthCheckResponse_SERVING {
			t.Errorf("health of %q: %v, %v; want SERVING", name, out, err)
		}
	}
	if _, err := h.Check(t.Context(), &healthpb.HealthCheckRequest{Service: "nobody"}); status.Code(err) != codes.NotFound {
		t.Errorf("health of nobody: %v, want NOT_FOUND", err)
	}
}

var services = []string{"grpc.health.v1.Health", "grpc.reflection.v1.ServerReflection", "grpc.reflection.v1alpha.ServerReflection", "grpc.testing.TestService"}

// checkReflection asks both versions, whose messages are the same on the wire.
func checkReflection(t *testing.T, cc *faultline.ClientConn) {
	t.Helper()
	for _, version := range []string{"v1", "v1alpha"} {
		desc := &grpc.StreamDesc{ClientStreams: true, ServerStreams: true}
		s, err := cc.NewStream(t.Context(), desc, "/grpc.reflection."+version+".ServerReflection/ServerReflectionInfo")
		if err != nil {
			t.Fatal(err)
		}
		ask := func(in *reflectpb.ServerReflectionRequest) *reflectpb.ServerReflectionResponse {
			out := new(reflectpb.ServerReflectionResponse)
			if err := s.SendMsg(in); err != nil {
				t.Fatal(err)
			}
			if err := s.RecvMsg(out); err != nil {
				t.Fatal(err)
			}
			return out
		}
		var names []string
		out := ask(&reflectpb.ServerReflectionRequest{MessageRequest: &reflectpb.ServerReflectionRequest_ListServices{}})
		for _, s := range out.GetListServicesResponse().GetService() {
			names = append(names, s.GetName())
		}
		if !slices.Equal(names, services) {
			t.Errorf("reflection %s lists %q, want %q", version, names, services)
		}
		out = ask(&reflectpb.ServerReflectionRequest{MessageRequest: &reflectpb.ServerReflectionRequest_FileContainingSymbol{FileContainingSymbol: services[3]}})
		if len(out.GetFileDescriptorResponse().GetFileDescriptorProto()) == 0 {
			t.Errorf("reflection %s: %v, want the file of %s", version, out, services[3])
		}
		if err := s.CloseSend(); err != nil {
			t.Fatal(err)
		}
		if err := s.RecvMsg(out); err != io.EOF {
			t.Errorf("reflection %s ends with %v, want EOF", version, err)
		}
	}
}

// TestServeStopIsBounded leaves a stream open that would go on for ever.
func TestServeStopIsBounded(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	out, in := io.Pipe()
	var errs bytes.Buffer
	done := make(chan error, 1)
	go func() { done <- serve(ctx, serveConfig{addr: "127.0.0.1:0", wait: 50 * time.Millisecond}, in, &errs) }()
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	addr := strings.Fields(line)[2]
	stream, err := testpb.NewTestServiceClient(dial(t, addr, insecure.NewCredentials())).FullDuplexCall(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := stream.Send(&testpb.StreamingOutputCallRequest{ResponseParameters: []*testpb.ResponseParameters{{Size: 1}}}); err != nil {
		t.Fatal(err)
	}
	if _, err := stream.Recv(); err != nil {
		t.Fatal(err)
	}
	cancel()
	if err := <-done; err != nil {
		t.Errorf("serve: %v", err)
	}
	if want := "stopping: calls that run have 50ms to finish\nstopped: some calls were cut off after 50ms\n"; errs.String() != want {
		t.Errorf("stderr %q, want %q", errs.String(), want)
	}
	if _, err := stream.Recv(); status.Code(err) != codes.Unavailable {
		t.Errorf("the stream ended with %v, want UNAVAILABLE", err)
	}
}

func TestServePortTaken(t *testing.T) {
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer lis.Close()
	code, stdout, stderr := invoke(t, "serve", "--addr", lis.Addr().String())
	if code != 1 || stdout != "" || !strings.HasPrefix(stderr, "faultline: serve: cannot listen on --addr "+lis.Addr().String()+": ") || strings.Count(stderr, "\n") != 1 {
		t.Errorf("status %d, stdout %q, stderr %q", code, stdout, stderr)
	}
}

// TestTestService tries what the service does on request.
func TestTestService(t *testing.T) {
	s := startServe(t)
	c := testpb.NewTestServiceClient(dial(t, s.addr, insecure.NewCredentials()))
	_, err := c.UnaryCall(t.Context(), &testpb.SimpleRequest{ResponseStatus: &testpb.EchoStatus{Code: 5, Message: "no such thing"}})
	if st := status.Convert(err); st.Code() != codes.NotFound || st.Message() != "no such thing" {
		t.Errorf("a status asked for: %v", err)
	}
	for _, n := range []int32{-1, testservice.MaxPayload + 1} {
		if _, err := c.UnaryCall(t.Context(), &testpb.SimpleRequest{ResponseSize: n}); status.Code(err) != codes.InvalidArgument {
			t.Errorf("a payload of %d bytes: %v, want INVALID_ARGUMENT", n, err)
		}
	}
	if _, err := c.UnimplementedCall(t.Context(), new(testpb.Empty)); status.Code(err) != codes.Unimplemented {
		t.Errorf("UnimplementedCall: %v", err)
	}
	half, err := c.HalfDuplexCall(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for i := range int32(2) {
		in := &testpb.StreamingOutputCallRequest{ResponseParameters: []*testpb.ResponseParameters{{Size: i + 1, IntervalUs: 10}}}
		if err := half.Send(in); err != nil {
			t.Fatal(err)
		}
	}
	if err := half.CloseSend(); err != nil {
		t.Fatal(err)
	}
	for i := range 2 {
		if out, err := half.Recv(); err != nil || len(out.GetPayload().GetBody()) != i+1 {
			t.Errorf("HalfDuplexCall: answer %d is %v, %v", i, out, err)
		}
	}
	if _, err := half.Recv(); err != io.EOF {
		t.Errorf("HalfDuplexCall ends with %v", err)
	}
	ctx := metadata.AppendToOutgoingContext(t.Context(), testservice.EchoHeader, "ping", testservice.EchoTrailer, "\x00\xff")
	duplex, err := c.FullDuplexCall(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if err := duplex.CloseSend(); err != nil {
		t.Fatal(err)
	}
	if _, err := duplex.Recv(); err != io.EOF {
		t.Errorf("FullDuplexCall ends with %v", err)
	}
	header, err := duplex.Header()
	if v := duplex.Trailer().Get(testservice.EchoTrailer); err != nil || !slices.Equal(header.Get(testservice.EchoHeader), []string{"ping"}) || !slices.Equal(v, []string{"\x00\xff"}) {
		t.Errorf("echoed metadata: %v, %v, %v", header, duplex.Trailer(), err)
	}
}
