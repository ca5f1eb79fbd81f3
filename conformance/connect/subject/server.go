// SPDX-License-Identifier: Apache-2.0

package subject

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"

	"github.com/faultline-rpc/faultline/conformance/internal/gen/conformancev1"
)

// Serve reads one ServerCompatRequest from in, serves as it asks on a free port
// of loopback, answers where on out, and returns when ctx ends.
func Serve(ctx context.Context, e Engine, in io.Reader, out io.Writer) error {
	req := &conformancev1.ServerCompatRequest{}
	if err := readDelimited(in, req); err != nil {
		return fmt.Errorf("reading what to serve: %w", err)
	}
	if req.GetProtocol() != conformancev1.Protocol_PROTOCOL_GRPC || req.GetHttpVersion() != conformancev1.HTTPVersion_HTTP_VERSION_2 {
		return fmt.Errorf("asked for %v over %v, want gRPC over HTTP/2", req.GetProtocol(), req.GetHttpVersion())
	}
	creds, err := serverCreds(req)
	if err != nil {
		return err
	}
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	s := e.NewServer(creds, int(req.GetMessageReceiveLimit()))
	conformancev1.RegisterConformanceServiceServer(s, service{})
	done := make(chan error, 1)
	go func() { done <- s.Serve(lis) }()
	addr := lis.Addr().(*net.TCPAddr)
	answer := &conformancev1.ServerCompatResponse{Host: addr.IP.String(), Port: uint32(addr.Port)}
	if req.GetUseTls() {
		answer.PemCert = req.GetServerCreds().GetCert()
	}
	if err = writeDelimited(out, answer); err == nil {
		select {
		case err = <-done:
			return errors.Join(errors.New("the server stopped by itself"), err)
		case <-ctx.Done():
		}
	}
	s.Stop()
	<-done // its error can only be that of stopping
	return err
}
