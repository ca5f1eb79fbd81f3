// SPDX-License-Identifier: Apache-2.0

package faultline_test

import (
	"crypto/tls"
	"crypto/x509"
	"net/http"
	"net/http/httptest"
	"testing"

	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	testgrpc "google.golang.org/grpc/interop/grpc_testing"

	"github.com/faultline-rpc/faultline"
	"github.com/faultline-rpc/faultline/fault"
)

// TestServeHTTP has our client call our server behind net/http.
func TestServeHTTP(t *testing.T) {
	for name, secure := range map[string]bool{"cleartext": false, "TLS": true} {
		t.Run(name, func(t *testing.T) {
			s := faultline.NewServer()
			testgrpc.RegisterTestServiceServer(s, &service{})
			h := httptest.NewUnstartedServer(s)
			creds := insecure.NewCredentials()
			if secure {
				h.EnableHTTP2 = true
				h.StartTLS()
				pool := x509.NewCertPool()
				pool.AddCert(h.Certificate())
				creds = credentials.NewTLS(&tls.Config{RootCAs: pool, ServerName: "example.com"})
			} else {
				h.Config.Protocols = new(http.Protocols)
				h.Config.Protocols.SetUnencryptedHTTP2(true)
				h.Start()
			}
			defer h.Close()
			cc := dial(t, h.Listener.Addr().String(), faultline.WithTransportCredentials(creds))
			defer cc.Close()
			fourKinds(t, cc)
			err := cc.Invoke(timeout(t), "/grpc.testing.TestService/None", &testgrpc.Empty{}, &testgrpc.Empty{})
			if !fault.HandlerUnknownMethod.Is(err) {
				t.Errorf("an unknown method: %v", err)
			}
			s.Stop()
			err = cc.Invoke(timeout(t), "/grpc.testing.TestService/EmptyCall", &testgrpc.Empty{}, &testgrpc.Empty{})
			if f, ok := fault.From(err); !ok || f.Message() != "server.draining: "+fault.ServerDraining.Summary {
				t.Errorf("after Stop: %v", err)
			}
		})
	}
}
