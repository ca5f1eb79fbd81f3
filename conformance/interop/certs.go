// SPDX-License-Identifier: Apache-2.0

package interop

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"math/big"
	"net"
	"time"

	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
)

// Security is the pair of credentials with which both ends of a pairing meet.
type Security struct {
	Name           string
	Client, Server credentials.TransportCredentials
}

// Cleartext is HTTP/2 with prior knowledge.
func Cleartext() Security {
	return Security{"cleartext", insecure.NewCredentials(), insecure.NewCredentials()}
}

// TLS returns credentials around a certificate for the loopback addresses,
// made now and valid for an hour.
func TLS() (Security, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return Security{}, fmt.Errorf("interop: no key for the test certificate: %w", err)
	}
	now := time.Now()
	tmpl := &x509.Certificate{
		SerialNumber: big.NewInt(1),
		Subject:      pkix.Name{CommonName: "conformance"},
		NotBefore:    now.Add(-time.Hour), NotAfter: now.Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true,
		KeyUsage:    x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		DNSNames:    []string{"localhost"},
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1), net.IPv6loopback},
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, key.Public(), key)
	if err != nil {
		return Security{}, fmt.Errorf("interop: no test certificate: %w", err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		return Security{}, fmt.Errorf("interop: the test certificate does not parse: %w", err)
	}
	roots := x509.NewCertPool()
	roots.AddCert(leaf)
	return Security{
		Name:   "tls",
		Client: credentials.NewTLS(&tls.Config{RootCAs: roots}),
		Server: credentials.NewTLS(&tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}}),
	}, nil
}
