// SPDX-License-Identifier: Apache-2.0

package server

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/encoding/gzip"
	testpb "google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"
	grpcstatus "google.golang.org/grpc/status"

	"github.com/faultline-rpc/faultline/fault"
)

type httpKey struct{}

// overHTTP serves r's server beside a handler at "/hello", on a net/http
// server of its own, and returns a client of grpc-go's and the server.
func overHTTP(t *testing.T, r *rig, secure bool) (testpb.TestServiceClient, *httptest.Server) {
	t.Helper()
	mux := http.NewServeMux()
	mux.HandleFunc("GET /hello", func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "hello") })
	mux.HandleFunc("/", func(w http.ResponseWriter, req *http.Request) {
		r.ServeHTTP(w, req.WithContext(context.WithValue(req.Context(), httpKey{}, "middleware")))
	})
	h := httptest.NewUnstartedServer(mux)
	creds := insecure.NewCredentials()
	if secure {
		h.EnableHTTP2 = true
		h.StartTLS()
		pool := x509.NewCertPool()
		pool.AddCert(h.Certificate())
		creds = credentials.NewTLS(&tls.Config{RootCAs: pool, ServerName: "example.com"})
	} else {
		h.Config.Protocols = new(http.Protocols)
		h.Config.Protocols.SetHTTP1(true)
		h.Config.Protocols.SetUnencryptedHTTP2(true)
		h.Start()
	}
	cc, err := grpc.NewClient(h.Listener.Addr().String(), grpc.WithTransportCredentials(creds))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cc.Close()
		h.Close()
	})
	return testpb.NewTestServiceClient(cc), h
}

func TestServeHTTP(t *testing.T) {
	big := bytes.Repeat([]byte("0123456789"), 100_000)
	for _, secure := range []bool{false, true} {
		t.Run(fmt.Sprint("TLS ", secure), func(t *testing.T) {
			r := newRig(t, Config{}, &testService{
				empty: func(c context.Context, _ *testpb.Empty) (*testpb.Empty, error) {
					md, _ := metadata.FromIncomingContext(c)
					p, _ := peer.FromContext(c)
					_, tls := p.AuthInfo.(credentials.TLSInfo)
					if c.Value(httpKey{}) != "middleware" || tls != secure || !strings.HasPrefix(p.Addr.String(), "127.0.0.1:") || p.LocalAddr.String() == "" {
						return nil, grpcstatus.Errorf(codes.Internal, "value %v, peer %v", c.Value(httpKey{}), p)
					}
					grpc.SetHeader(c, metadata.Pairs("h-bin", "\x00\xff", "h", "1", "h", "2"))
					grpc.SetTrailer(c, metadata.Pairs("t-bin", "\x01", "t", strings.Join(md["a"], "+")))
					return &testpb.Empty{}, nil
				},
				unary: func(c context.Context, m *testpb.SimpleRequest) (*testpb.SimpleResponse, error) {
					if m.ResponseStatus != nil {
						return nil, grpcstatus.Error(codes.Code(m.ResponseStatus.Code), m.ResponseStatus.Message)
					}
					return &testpb.SimpleResponse{Payload: m.Payload}, nil
				},
				duplex: func(s testpb.TestService_FullDuplexCallServer) error {
					for {
						m, err := s.Recv()
						if err != nil {
							if err == io.EOF {
								return grpcstatus.Error(codes.DataLoss, "the end")
							}
							return err
						}
						if err := s.Send(&testpb.StreamingOutputCallResponse{Payload: m.Payload}); err != nil {
							return err
						}
					}
				},
			})
			c, h := overHTTP(t, r, secure)
			var header, trailer metadata.MD
			_, err := c.EmptyCall(metadata.AppendToOutgoingContext(ctx(t), "a", "x", "a", "y"), &testpb.Empty{}, grpc.Header(&header), grpc.Trailer(&trailer))
			if err != nil || fmt.Sprint(header["h-bin"], header["h"], trailer["t-bin"], trailer["t"]) != fmt.Sprint([]string{"\x00\xff"}, []string{"1", "2"}, []string{"\x01"}, []string{"x+y"}) || len(header["content-length"])+len(header["date"]) > 0 {
				t.Errorf("%v, header %v, trailer %v", err, header, trailer)
			}
			for _, opts := range [][]grpc.CallOption{nil, {grpc.UseCompressor(gzip.Name)}} {
				out, err := c.UnaryCall(ctx(t), &testpb.SimpleRequest{Payload: &testpb.Payload{Body: big}}, opts...)
				if err != nil || !bytes.Equal(out.Payload.Body, big) {
					t.Errorf("a large call: %v", err)
				}
			}
			_, err = c.UnaryCall(ctx(t), &testpb.SimpleRequest{ResponseStatus: &testpb.EchoStatus{Code: 9, Message: "50 % off \u20ac"}})
			wantStatus(t, err, codes.FailedPrecondition, "50 % off \u20ac")
			pingPong(t, c)
			if !secure {
				res, err := h.Client().Get(h.URL + "/hello")
				if err != nil {
					t.Fatal(err)
				}
				defer res.Body.Close()
				if text, _ := io.ReadAll(res.Body); string(text) != "hello" {
					t.Errorf("the other handler: %q", text)
				}
				if res, err = h.Client().Post(h.URL+"/x", "application/grpc", nil); err != nil {
					t.Fatal(err)
				}
				defer res.Body.Close()
				if res.StatusCode != 505 {
					t.Errorf("over HTTP/1: %v", res)
				}
			}
		})
	}
}

// pingPong needs each message to be flushed.
func pingPong(t *testing.T, c testpb.TestServiceClient) {
	t.Helper()
	s, err := c.FullDuplexCall(ctx(t))
	if err != nil {
		t.Fatal(err)
	}
	for i := range 20 {
		body := bytes.Repeat([]byte{byte(i)}, 1+i*5000)
		if err := s.Send(&testpb.StreamingOutputCallRequest{Payload: &testpb.Payload{Body: body}}); err != nil {
			t.Fatal(err)
		}
		if m, err := s.Recv(); err != nil || !bytes.Equal(m.GetPayload().GetBody(), body) {
			t.Fatalf("message %d: %v", i, err)
		}
	}
	s.CloseSend()
	_, err = s.Recv()
	wantStatus(t, err, codes.DataLoss, "the end")
}

// TestServeHTTPEnds: the ways in which a call ends before its handler does.
func TestServeHTTPEnds(t *testing.T) {
	causes := make(chan error, 1)
	started := make(chan struct{}, 1)
	svc := func() *testService {
		return &testService{duplex: func(s testpb.TestService_FullDuplexCallServer) error {
			if err := s.Send(&testpb.StreamingOutputCallResponse{}); err != nil {
				return err
			}
			<-s.Context().Done()
			causes <- context.Cause(s.Context())
			return s.Context().Err()
		}, empty: func(c context.Context, _ *testpb.Empty) (*testpb.Empty, error) {
			started <- struct{}{}
			<-c.Done()
			causes <- context.Cause(c)
			return nil, c.Err()
		}}
	}
	for _, tc := range []struct {
		name string
		end  func(r *rig, cancel func())
		code codes.Code
		want *fault.Entry
	}{
		{"canceled", func(_ *rig, cancel func()) { cancel() }, codes.Canceled, fault.CallCancelled},
		{"stopped", func(r *rig, _ func()) { r.Stop() }, codes.Unavailable, fault.ServerStopped},
		{"deadline", func(*rig, func()) {}, codes.DeadlineExceeded, fault.CallDeadline},
	} {
		t.Run(tc.name, func(t *testing.T) {
			r := newRig(t, Config{}, svc())
			c, _ := overHTTP(t, r, false)
			within := 10 * time.Second
			if tc.name == "deadline" {
				within = 200 * time.Millisecond
			}
			x, cancel := context.WithTimeout(context.Background(), within)
			defer cancel()
			s, err := c.FullDuplexCall(x)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := s.Recv(); err != nil {
				t.Fatal(err)
			}
			tc.end(r, cancel)
			if _, err := s.Recv(); grpcstatus.Code(err) != tc.code {
				t.Errorf("the caller got %v", err)
			}
			// Whichever is first: the client's RST_STREAM or the deadline.
			if err := <-causes; !tc.want.Is(err) && !(tc.name == "deadline" && fault.CallCancelled.Is(err)) {
				t.Errorf("cause: %v", err)
			}
		})
	}
	t.Run("after Stop", func(t *testing.T) {
		r := newRig(t, Config{}, svc())
		c, _ := overHTTP(t, r, false)
		r.Stop()
		_, err := c.EmptyCall(ctx(t), &testpb.Empty{})
		wantStatus(t, err, codes.Unavailable, drainingText)
	})
	t.Run("GracefulStop", func(t *testing.T) {
		r := newRig(t, Config{}, svc())
		c, _ := overHTTP(t, r, false)
		done := make(chan error, 1)
		go func() {
			x, cancel := context.WithTimeout(context.Background(), 300*time.Millisecond)
			defer cancel()
			_, err := c.EmptyCall(x, &testpb.Empty{})
			done <- err
		}()
		<-started
		r.GracefulStop() // waits for the call
		<-causes
		if err := <-done; grpcstatus.Code(err) != codes.DeadlineExceeded {
			t.Error(err)
		}
	})
}

// TestServeHTTPRefuses what wire refuses, in its words.
func TestServeHTTPRefuses(t *testing.T) {
	r := newRig(t, Config{}, &testService{})
	_, h := overHTTP(t, r, false)
	tr := &http.Transport{Protocols: new(http.Protocols)}
	tr.Protocols.SetUnencryptedHTTP2(true)
	defer tr.CloseIdleConnections()
	for _, tc := range []struct {
		method, content string
		header          []string
		status          int
		code            string
		text            string
	}{
		{"PUT", "application/grpc", nil, 405, "", "wire.not-post: the request's method is \"PUT\", gRPC wants POST\n"},
		{"HEAD", "application/grpc", nil, 405, "", ""},
		{"POST", "text/html", nil, 415, "", "wire.not-grpc-request: the request's content-type is \"text/html\", want application/grpc\n"},
		{"POST", "application/grpc", []string{"Grpc-Timeout", "soon"}, 400, "13", ""},
		{"POST", "application/grpc", nil, 200, "12", ""},
		{"POST", "application/grpc", []string{"X-Bin", "!"}, 200, "13", ""},
		{"POST", "application/grpc", []string{"X-Large", strings.Repeat("x", 100<<10)}, 200, "13", ""},
		{"POST", "application/grpc", []string{"X-Far-Too-Large", strings.Repeat("x", 900<<10)}, 200, "13", ""},
	} {
		req, _ := http.NewRequest(tc.method, h.URL+"/no.Such/Method", http.NoBody)
		req.Header.Set("Content-Type", tc.content)
		req.Header.Set("Te", "trailers")
		for i := 0; i < len(tc.header); i += 2 {
			req.Header.Set(tc.header[i], tc.header[i+1])
		}
		res, err := tr.RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		text, err := io.ReadAll(res.Body)
		res.Body.Close()
		if res.StatusCode != tc.status || res.Header.Get("Grpc-Status") != tc.code || string(text) != tc.text || err != nil {
			t.Errorf("%s %s: %v %q, %v", tc.method, tc.content, res, text, err)
		}
		if len(tc.header) > 0 && len(tc.header[1]) > 64<<10 && !strings.HasPrefix(res.Header.Get("Grpc-Message"), "http2.header-list: ") {
			t.Errorf("%s: %q", tc.header[0], res.Header.Get("Grpc-Message"))
		}
	}
}

// TestServeHTTPLargeTrailer: what a handler sends is not held against limits for
// what this server takes.
func TestServeHTTPLargeTrailer(t *testing.T) {
	large := strings.Repeat("x", 300<<10)
	r := newRig(t, Config{}, &testService{duplex: func(s testpb.TestService_FullDuplexCallServer) error {
		s.SetTrailer(metadata.Pairs("x-large", large))
		return s.Send(&testpb.StreamingOutputCallResponse{})
	}})
	_, h := overHTTP(t, r, false)
	tr := &http.Transport{Protocols: new(http.Protocols), MaxResponseHeaderBytes: 1 << 20}
	tr.Protocols.SetUnencryptedHTTP2(true)
	defer tr.CloseIdleConnections()
	req, _ := http.NewRequest("POST", h.URL+duplex, http.NoBody)
	req.Header.Set("Content-Type", "application/grpc")
	res, err := tr.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	_, err = io.Copy(io.Discard, res.Body)
	res.Body.Close()
	if res.Trailer.Get("Grpc-Status") != "0" || res.Trailer.Get("X-Large") != large || err != nil {
		t.Errorf("grpc-status %q, %d bytes of the trailer, %v", res.Trailer.Get("Grpc-Status"), len(res.Trailer.Get("X-Large")), err)
	}
}

// noFlush is what middleware sometimes makes of a ResponseWriter.
type noFlush struct{ http.ResponseWriter }

// TestServeHTTPWithoutFlush: an answer that could not leave breaks off.
func TestServeHTTPWithoutFlush(t *testing.T) {
	r := newRig(t, Config{}, &testService{duplex: func(s testpb.TestService_FullDuplexCallServer) error {
		s.Send(&testpb.StreamingOutputCallResponse{})
		<-s.Context().Done()
		return s.Context().Err()
	}})
	req := httptest.NewRequest("POST", duplex, strings.NewReader(""))
	req.ProtoMajor, req.Host = 2, "localhost"
	req.Header.Set("Content-Type", "application/grpc")
	defer func() {
		if err, _ := recover().(error); !errors.Is(err, http.ErrAbortHandler) {
			t.Errorf("panic: %v", err)
		}
	}()
	r.ServeHTTP(noFlush{httptest.NewRecorder()}, req)
}

func TestServeHTTPManyCallers(t *testing.T) {
	r := newRig(t, Config{}, &testService{})
	c, _ := overHTTP(t, r, true)
	var wg sync.WaitGroup
	for i := range 16 {
		wg.Go(func() {
			for j := range 20 {
				body := bytes.Repeat([]byte{byte(i + j)}, 1000*j)
				out, err := c.UnaryCall(ctx(t), &testpb.SimpleRequest{Payload: &testpb.Payload{Body: body}})
				if err != nil || !bytes.Equal(out.Payload.Body, body) {
					t.Errorf("call %d/%d: %v", i, j, err)
					return
				}
			}
		})
	}
	wg.Wait()
	r.GracefulStop() // no call is left
}
