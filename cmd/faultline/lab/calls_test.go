// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"context"
	"crypto/tls"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"

	"github.com/faultline-rpc/faultline"
	"github.com/faultline-rpc/faultline/doctor"
	"github.com/faultline-rpc/faultline/fault"
	rpc "github.com/faultline-rpc/faultline/status"
)

// TestCallsAgree calls each peer as a program would. The call fails with what
// the doctor finds, but for what only a doctor can see.
func TestCallsAgree(t *testing.T) {
	beyond := map[string]string{
		"http2.keepalive":        "the doctor's PING",
		"http2.settings-timeout": "no call waits for the acknowledgement",
		"pick.unhealthy":         "the call is answered",
		"call.deadline":          "the ledger says more than the id",
	}
	for _, p := range Patients() {
		if beyond[p.want] != "" {
			continue
		}
		t.Run(p.Name, func(t *testing.T) {
			t.Parallel()
			w := new(ward)
			defer func() { _ = w.close() }()
			cfg, err := p.show(w)
			if err != nil {
				t.Fatal(err)
			}
			if cfg.Method != "" || cfg.Watch > 0 || cfg.Compress != "" {
				return // the doctor was asked for more
			}
			err = callHealth(t, cfg)
			if p.want == Healthy {
				if c := rpc.Code(err); c != codes.OK && c != codes.Unimplemented && c != codes.NotFound {
					t.Errorf("a healthy peer, and the call failed: %+v", err)
				}
				return
			}
			f, ok := fault.From(err)
			if want := p.Expected(); !ok || string(f.ID()) != want.ID || f.Layer().String() != want.Layer {
				t.Errorf("the call failed with %v, want %+v", err, want)
			} else if fault.LayerResolve != f.Layer() && faultCode(f) != want.Code {
				t.Errorf("the call's code is %s, want %s", faultCode(f), want.Code)
			}
		})
	}
}

func faultCode(f *fault.Fault) string {
	return Patient{want: string(f.ID()), code: f.Code()}.Expected().Code
}

// callHealth makes one call of Health/Check.
func callHealth(t *testing.T, cfg doctor.Config) error {
	creds := insecure.NewCredentials()
	if cfg.TLS != nil {
		c := cfg.TLS.Clone()
		if own := c.Certificates; len(own) > 0 { // as faultline call does, whatever authorities the server names
			c.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &own[0], nil }
		}
		creds = credentials.NewTLS(c)
	}
	opts := []faultline.DialOption{faultline.WithTransportCredentials(creds), faultline.WithNoProxy(),
		faultline.WithConnectParams(grpc.ConnectParams{MinConnectTimeout: time.Second})}
	if cfg.Dialer != nil {
		opts = append(opts, faultline.WithContextDialer(cfg.Dialer))
	}
	cc, err := faultline.NewClient(cfg.Target, opts...)
	if err != nil {
		return err
	}
	defer cc.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	_, err = healthpb.NewHealthClient(cc).Check(ctx, new(healthpb.HealthCheckRequest))
	return err
}
