// SPDX-License-Identifier: Apache-2.0

package subject

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	statuspb "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/faultline-rpc/faultline/conformance/internal/gen/conformancev1"
)

// toMetadata makes metadata of headers. The runner writes binary values in
// base64; metadata holds them as they are.
func toMetadata(hs []*conformancev1.Header) metadata.MD {
	md := metadata.MD{}
	for _, h := range hs {
		name := strings.ToLower(h.GetName())
		for _, v := range h.GetValue() {
			if strings.HasSuffix(name, "-bin") {
				if b, err := base64.RawStdEncoding.DecodeString(strings.TrimRight(v, "=")); err == nil {
					v = string(b)
				}
			}
			md.Append(name, v)
		}
	}
	return md
}

// fromMetadata is the reverse of toMetadata, sorted by name.
func fromMetadata(md metadata.MD) []*conformancev1.Header {
	var hs []*conformancev1.Header
	for _, name := range slices.Sorted(maps.Keys(md)) {
		values := slices.Clone(md[name])
		if strings.HasSuffix(name, "-bin") {
			for i, v := range values {
				values[i] = base64.RawStdEncoding.EncodeToString([]byte(v))
			}
		}
		hs = append(hs, &conformancev1.Header{Name: name, Value: values})
	}
	return hs
}

// toError is the error of a call that e describes. Codes have the same numbers.
func toError(e *conformancev1.Error) error {
	return status.ErrorProto(&statuspb.Status{Code: int32(e.GetCode()), Message: e.GetMessage(), Details: e.GetDetails()})
}

// fromError describes the error of a call, nil for none.
func fromError(err error) *conformancev1.Error {
	if err == nil {
		return nil
	}
	s := status.Convert(err).Proto()
	return &conformancev1.Error{Code: conformancev1.Code(s.GetCode()), Message: proto.String(s.GetMessage()), Details: s.GetDetails()}
}

// serverCreds are the transport credentials that req asks for.
func serverCreds(req *conformancev1.ServerCompatRequest) (credentials.TransportCredentials, error) {
	if !req.GetUseTls() {
		return insecure.NewCredentials(), nil
	}
	cert, err := tls.X509KeyPair(req.GetServerCreds().GetCert(), req.GetServerCreds().GetKey())
	if err != nil {
		return nil, fmt.Errorf("the server's certificate: %w", err)
	}
	cfg := &tls.Config{Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS12}
	if ca := req.GetClientTlsCert(); len(ca) > 0 {
		if cfg.ClientCAs, err = pool(ca); err != nil {
			return nil, err
		}
		cfg.ClientAuth = tls.RequireAndVerifyClientCert
	}
	return credentials.NewTLS(cfg), nil
}

// clientCreds are the transport credentials that req asks for.
func clientCreds(req *conformancev1.ClientCompatRequest) (credentials.TransportCredentials, error) {
	if len(req.GetServerTlsCert()) == 0 {
		return insecure.NewCredentials(), nil
	}
	roots, err := pool(req.GetServerTlsCert())
	if err != nil {
		return nil, err
	}
	cfg := &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}
	if own := req.GetClientTlsCreds(); own != nil {
		cert, err := tls.X509KeyPair(own.GetCert(), own.GetKey())
		if err != nil {
			return nil, fmt.Errorf("the client's certificate: %w", err)
		}
		cfg.Certificates = []tls.Certificate{cert}
	}
	return credentials.NewTLS(cfg), nil
}

func pool(pem []byte) (*x509.CertPool, error) {
	p := x509.NewCertPool()
	if !p.AppendCertsFromPEM(pem) {
		return nil, errors.New("the certificate to trust is not PEM")
	}
	return p, nil
}
