// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"crypto/tls"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"os/signal"
	"strconv"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/grpc/credentials"
	_ "google.golang.org/grpc/encoding/gzip" // clients may compress
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	testpb "google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/reflection"

	"github.com/faultline-rpc/faultline"
	"github.com/faultline-rpc/faultline/cmd/faultline/testservice"
)

const (
	defaultAddr = "127.0.0.1:50051"
	// stopTime bounds the wait for calls that run when the server is to stop.
	stopTime = 10 * time.Second
)

const serveHelp = `serve runs a gRPC server to try any client on, until it is interrupted.

Its services are grpc.testing.TestService of gRPC's interoperability tests,
which echoes, streams, and fails with any status it is asked for; server
reflection (v1 and v1alpha), so that grpcurl needs no .proto file; and the
health service (grpc.health.v1.Health).

It speaks cleartext HTTP/2 unless it is given a certificate and its key. Port 0
takes a free port; the line that says where it listens has the real one.

SIGINT (Ctrl-C) or SIGTERM lets the calls that run finish, for at most 10
seconds. A second one ends the server at once.`

const serveExample = `  faultline serve
  grpcurl -plaintext 127.0.0.1:50051 list
  grpcurl -plaintext -d '{"response_size": 3}' 127.0.0.1:50051 grpc.testing.TestService/UnaryCall
  grpcurl -plaintext -d '{"response_status": {"code": 5, "message": "no such thing"}}' \
      127.0.0.1:50051 grpc.testing.TestService/UnaryCall

  faultline serve --addr 127.0.0.1:0
  faultline serve --addr :8443 --cert server.pem --key server-key.pem`

func newServe() *cobra.Command {
	var addr, cert, key string
	cmd := &cobra.Command{
		Use: "serve", Short: "Serve a test service with reflection and health, to try clients on", Long: serveHelp, Example: serveExample,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := checkAddr(addr); err != nil {
				return err
			}
			creds, err := serverCreds(cert, key)
			if err != nil {
				return err
			}
			ctx, stop := signal.NotifyContext(cmd.Context(), os.Interrupt, syscall.SIGTERM)
			context.AfterFunc(ctx, stop) // a second signal ends the process
			defer stop()
			return serve(ctx, serveConfig{addr, creds, stopTime}, cmd.OutOrStdout(), cmd.ErrOrStderr())
		},
	}
	cmd.Flags().StringVar(&addr, "addr", defaultAddr, "the TCP `address` to listen on, host:port; port 0 takes a free one")
	cmd.Flags().StringVar(&cert, "cert", "", "the PEM `file` with the server's certificate chain; needs --key")
	cmd.Flags().StringVar(&key, "key", "", "the PEM `file` with the certificate's private key; needs --cert")
	return cmd
}

// checkAddr finds what no listener could make sense of.
func checkAddr(addr string) error {
	const want = "want host:port, such as 127.0.0.1:50051 or :50051"
	_, port, err := net.SplitHostPort(addr)
	if err != nil {
		what := err.Error()
		var a *net.AddrError
		if errors.As(err, &a) {
			what = a.Err
		}
		return usagef("serve: --addr %q is no address: %s, %s", addr, what, want)
	}
	if _, err := strconv.ParseUint(port, 10, 16); err != nil {
		return usagef("serve: --addr %q: the port %q is no number from 0 to 65535, %s", addr, port, want)
	}
	return nil
}

// serverCreds reads certificate and key; both are files or none is given.
func serverCreds(cert, key string) (credentials.TransportCredentials, error) {
	switch {
	case cert == "" && key == "":
		return nil, nil
	case key == "":
		return nil, usagef("serve: --cert %s is given without --key, want both or neither", cert)
	case cert == "":
		return nil, usagef("serve: --key %s is given without --cert, want both or neither", key)
	}
	chain, err := readPEM("--cert", cert, "a certificate", func(kind string) bool { return kind == "CERTIFICATE" })
	if err != nil {
		return nil, err
	}
	private, err := readPEM("--key", key, "a private key", func(kind string) bool {
		return kind == "PRIVATE KEY" || kind == "RSA PRIVATE KEY" || kind == "EC PRIVATE KEY"
	})
	if err != nil {
		return nil, err
	}
	pair, err := tls.X509KeyPair(chain, private)
	if err != nil {
		return nil, fmt.Errorf("serve: --cert %s and --key %s do not go together: %w", cert, key, err)
	}
	return credentials.NewTLS(&tls.Config{Certificates: []tls.Certificate{pair}}), nil
}

// readPEM reads a file that must hold a PEM block of the right kind.
func readPEM(flag, name, what string, right func(kind string) bool) ([]byte, error) {
	text, err := os.ReadFile(name)
	if err != nil {
		var p *fs.PathError
		if errors.As(err, &p) {
			err = p.Err
		}
		return nil, fmt.Errorf("serve: %s %s cannot be read: %w; want a PEM file with %s", flag, name, err, what)
	}
	found := "no PEM block"
	for rest := text; ; {
		var b *pem.Block
		if b, rest = pem.Decode(rest); b == nil {
			return nil, fmt.Errorf("serve: %s %s holds %s, want a PEM file with %s", flag, name, found, what)
		}
		if right(b.Type) {
			return text, nil
		}
		found = fmt.Sprintf("a PEM block %q", b.Type)
	}
}

type serveConfig struct {
	addr  string
	creds credentials.TransportCredentials // nil: cleartext
	wait  time.Duration                    // at the end, for calls that run
}

// serve serves until ctx ends, and then until the calls that run have ended or
// the wait for them is over.
func serve(ctx context.Context, cfg serveConfig, stdout, stderr io.Writer) error {
	lis, err := net.Listen("tcp", cfg.addr)
	if err != nil {
		return fmt.Errorf("serve: cannot listen on --addr %s: %w; want a free port of this machine", cfg.addr, err)
	}
	how := "cleartext"
	var opts []faultline.ServerOption
	if cfg.creds != nil {
		how = "TLS"
		opts = append(opts, faultline.Creds(cfg.creds))
	}
	s := faultline.NewServer(opts...)
	testpb.RegisterTestServiceServer(s, testservice.Server{})
	h := health.NewServer() // "" is the whole server, and it is SERVING
	healthpb.RegisterHealthServer(s, h)
	for name := range s.GetServiceInfo() {
		h.SetServingStatus(name, healthpb.HealthCheckResponse_SERVING)
	}
	reflection.Register(s)
	done := make(chan error, 1)
	go func() { done <- s.Serve(lis) }()
	fmt.Fprintf(stdout, "listening on %s (%s)\n", lis.Addr(), how)
	select {
	case err := <-done:
		return fmt.Errorf("serve: %w", err)
	case <-ctx.Done():
	}
	fmt.Fprintf(stderr, "stopping: calls that run have %v to finish\n", cfg.wait)
	h.Shutdown()
	bound, cancel := context.WithTimeout(context.Background(), cfg.wait)
	defer cancel()
	if s.Shutdown(bound) != nil {
		fmt.Fprintf(stderr, "stopped: some calls were cut off after %v\n", cfg.wait)
	}
	return <-done
}
