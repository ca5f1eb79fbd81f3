// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	testpb "google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/reflection"

	"github.com/faultline-rpc/faultline"
	"github.com/faultline-rpc/faultline/cmd/faultline/testservice"
	"github.com/faultline-rpc/faultline/doctor"
	"github.com/faultline-rpc/faultline/internal/peer"
)

const loopback = "127.0.0.1:0"

// short is the time for probes of peers that are expected to be silent.
const short = 400 * time.Millisecond

// ward is where one peer lives. What it opens it closes.
type ward struct{ closers []func() error }

func (w *ward) onClose(f func() error) { w.closers = append(w.closers, f) }

func (w *ward) close() error {
	var errs []error
	for i := len(w.closers) - 1; i >= 0; i-- {
		errs = append(errs, w.closers[i]())
	}
	return errors.Join(errs...)
}

// at examines an address in cleartext.
func at(addr string) doctor.Config { return doctor.Config{Target: "passthrough:///" + addr} }

// scripted serves a script. What goes wrong in it is no matter of the lab's:
// many end because the doctor hangs up.
func (w *ward) scripted(s peer.Script, o ...peer.Options) (doctor.Config, error) {
	l, err := net.Listen("tcp", loopback)
	if err != nil {
		return doctor.Config{}, err
	}
	svc := peer.Serve(l, s, o...)
	w.onClose(func() error { _ = svc.Close(); return nil })
	return at(svc.Addr()), nil
}

// unix serves a script on a unix socket.
func (w *ward) unix(s peer.Script) (doctor.Config, error) {
	dir, err := os.MkdirTemp("", "lab")
	if err != nil {
		return doctor.Config{}, err
	}
	w.onClose(func() error { return os.RemoveAll(dir) })
	path := filepath.Join(dir, "peer.sock")
	l, err := net.Listen("unix", path)
	if err != nil {
		return doctor.Config{}, err
	}
	svc := peer.Serve(l, s)
	w.onClose(func() error { _ = svc.Close(); return nil })
	return doctor.Config{Target: "unix://" + path}, nil
}

// raw serves bytes.
func (w *ward) raw(r peer.Raw) (doctor.Config, error) {
	svc, err := peer.ListenRaw(loopback, r)
	if err != nil {
		return doctor.Config{}, err
	}
	w.onClose(func() error { _ = svc.Close(); return nil })
	return at(svc.Addr()), nil
}

// offers is what a server has.
type offers struct {
	creds      credentials.TransportCredentials
	health     bool
	state      healthpb.HealthCheckResponse_ServingStatus
	reflection bool
	opts       []faultline.ServerOption
}

// served starts a server of ours with the test service.
func (w *ward) served(o offers) (string, error) {
	opts := o.opts
	if o.creds != nil {
		opts = append(opts, faultline.Creds(o.creds))
	}
	s := faultline.NewServer(opts...)
	testpb.RegisterTestServiceServer(s, testservice.Server{})
	if o.health {
		h := health.NewServer()
		if o.state != 0 {
			h.SetServingStatus("", o.state)
		}
		healthpb.RegisterHealthServer(s, h)
	}
	if o.reflection {
		reflection.Register(s)
	}
	return w.listen(s.Serve, s.Stop)
}

// everything is a server with all that the doctor asks for.
var everything = offers{health: true, reflection: true}

// grpcGo starts a server of grpc-go with the test service.
func (w *ward) grpcGo(o offers, opts ...grpc.ServerOption) (string, error) {
	if o.creds != nil {
		opts = append(opts, grpc.Creds(o.creds))
	}
	s := grpc.NewServer(opts...)
	testpb.RegisterTestServiceServer(s, testservice.Server{})
	if o.health {
		healthpb.RegisterHealthServer(s, health.NewServer())
	}
	if o.reflection {
		reflection.Register(s)
	}
	return w.listen(s.Serve, s.Stop)
}

func (w *ward) listen(serve func(net.Listener) error, stop func()) (string, error) {
	l, err := net.Listen("tcp", loopback)
	if err != nil {
		return "", err
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = serve(l) // ends with stop
	}()
	w.onClose(func() error { stop(); <-done; return nil })
	return l.Addr().String(), nil
}

// secured starts a TLS listener with that configuration before a server that
// answers every call with UNIMPLEMENTED.
func (w *ward) secured(cfg *tls.Config) (doctor.Config, error) {
	l, err := tls.Listen("tcp", loopback, cfg)
	if err != nil {
		return doctor.Config{}, err
	}
	svc := peer.Serve(l, peer.Each(peer.TrailersOnly(12, "no such service")))
	w.onClose(func() error { _ = svc.Close(); return nil })
	c := at(svc.Addr())
	c.TLS = trusting()
	return c, nil
}

// trusting is a client that trusts the lab's authority.
func trusting() *tls.Config {
	pool := x509.NewCertPool()
	pool.AddCert(authorities().own.leaf)
	return &tls.Config{RootCAs: pool}
}

// pair is a certificate with its key.
type pair struct {
	leaf *x509.Certificate
	key  *ecdsa.PrivateKey
}

func (p pair) tls() tls.Certificate {
	return tls.Certificate{Certificate: [][]byte{p.leaf.Raw}, PrivateKey: p.key, Leaf: p.leaf}
}

// authorities are made once: one that the lab's clients trust, one that nobody
// does.
var authorities = sync.OnceValue(func() struct{ own, stranger pair } {
	day := 24 * time.Hour
	ca := func(name string) pair {
		return issue(pair{}, &x509.Certificate{Subject: pkix.Name{CommonName: name}, IsCA: true, BasicConstraintsValid: true,
			KeyUsage: x509.KeyUsageCertSign, NotBefore: time.Now().Add(-day), NotAfter: time.Now().Add(365 * day)})
	}
	return struct{ own, stranger pair }{ca("The lab's authority"), ca("A stranger's authority")}
})

// issue makes a certificate, signed by itself if there is no authority.
func issue(by pair, tmpl *x509.Certificate) pair {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		panic("lab: making a key: " + err.Error()) // the system has no randomness
	}
	tmpl.SerialNumber = big.NewInt(time.Now().UnixNano())
	parent, signer := tmpl, key
	if by.leaf != nil {
		parent, signer = by.leaf, by.key
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, parent, key.Public(), signer)
	if err != nil {
		panic("lab: making a certificate: " + err.Error()) // the templates are fixed
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		panic("lab: reading a certificate: " + err.Error())
	}
	return pair{leaf, key}
}

// certificate is a server's or client's, valid for the days given from now,
// for 127.0.0.1 unless names are given.
func certificate(by pair, from, to int, names ...string) tls.Certificate {
	return issue(by, template(from, to, names...)).tls()
}

// clientOnly is a certificate that servers may not use.
func clientOnly() tls.Certificate {
	t := template(-1, 30)
	t.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
	return issue(authorities().own, t).tls()
}

func template(from, to int, names ...string) *x509.Certificate {
	day := 24 * time.Hour
	t := &x509.Certificate{Subject: pkix.Name{CommonName: "a peer of the lab"}, DNSNames: names, KeyUsage: x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
		NotBefore:   time.Now().Add(time.Duration(from) * day), NotAfter: time.Now().Add(time.Duration(to)*day + time.Hour)}
	if len(names) == 0 {
		t.IPAddresses = []net.IP{net.IPv4(127, 0, 0, 1)}
	}
	return t
}

// good is a TLS configuration with nothing wrong.
func good() *tls.Config {
	return &tls.Config{NextProtos: []string{"h2"}, Certificates: []tls.Certificate{certificate(authorities().own, -1, 90)}}
}

// asking is good, and asks clients for a certificate of the lab's authority.
func asking(version uint16) *tls.Config {
	cfg := good()
	cfg.ClientAuth, cfg.MaxVersion = tls.RequireAndVerifyClientCert, version
	cfg.ClientCAs = x509.NewCertPool()
	cfg.ClientCAs.AddCert(authorities().own.leaf)
	return cfg
}

// nameServer is a name server that answers each question with the code
// (RFC 1035 section 4.1.1), and nothing else.
func (w *ward) nameServer(rcode byte) (string, error) {
	c, err := net.ListenPacket("udp", loopback)
	if err != nil {
		return "", err
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		buf := make([]byte, 1500)
		for {
			n, from, err := c.ReadFrom(buf)
			if err != nil {
				return
			}
			end := 12
			for end < n && buf[end] != 0 {
				end += 1 + int(buf[end])
			}
			if end += 5; n < 17 || end > n {
				continue
			}
			answer := append([]byte{buf[0], buf[1], 0x81, 0x80 | rcode, 0, 1, 0, 0, 0, 0, 0, 0}, buf[12:end]...)
			_, _ = c.WriteTo(answer, from)
		}
	}()
	w.onClose(func() error { err := c.Close(); <-done; return err })
	return c.LocalAddr().String(), nil
}

// refusing is an address at which nothing listens.
func (w *ward) refusing() (string, error) {
	l, err := net.Listen("tcp", loopback)
	if err != nil {
		return "", err
	}
	return l.Addr().String(), l.Close()
}
