// SPDX-License-Identifier: Apache-2.0

package provoked_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/net/dns/dnsmessage"
	"google.golang.org/grpc"
	"google.golang.org/grpc/balancer"
	"google.golang.org/grpc/balancer/base"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/resolver"
	"google.golang.org/grpc/resolver/manual"
	"google.golang.org/grpc/status"

	"github.com/faultline-rpc/faultline"
	"github.com/faultline-rpc/faultline/fault"
	"github.com/faultline-rpc/faultline/internal/peer"
	"github.com/faultline-rpc/faultline/internal/simnet"
)

// From the name to the socket.

var resolveRows = []row{
	{entry: fault.ResolveNotFound, name: "(NXDOMAIN)", code: codes.Unavailable, side: fault.Remote, processed: fault.No, real: true,
		evidence: []string{"target: dns://127.0.0.1:", "host: orders.example"}, remedy: "Correct the name",
		run: func(w *world, mended bool) error {
			port, ns := w.loopback(), w.nameServer("orders.shop.example.")
			name := "orders.example."
			if mended {
				name = "orders.shop.example."
			}
			return order(context.Background(), w.clientOf(fmt.Sprintf("dns://%s/%s:%s", ns, name, port)))
		}},
	{entry: fault.ResolveNotFound, name: "(no address)", code: codes.Unavailable, side: fault.Remote, processed: fault.No,
		evidence: []string{"target: shop:///orders"}, remedy: "passthrough:///",
		run: func(w *world, mended bool) error {
			w.serve(nil)
			if mended {
				return w.call()
			}
			return order(context.Background(), w.resolved(func(cc resolver.ClientConn) { _ = cc.UpdateState(resolver.State{}) }))
		}},
	{entry: fault.ResolveFailed, code: codes.Unavailable, side: fault.Remote, processed: fault.No,
		evidence: []string{"target: shop:///orders"}, remedy: "WaitForReady(true)",
		run: func(w *world, mended bool) error {
			w.serve(nil)
			cc := w.resolved(func(cc resolver.ClientConn) {
				cc.ReportError(errors.New("the directory does not answer"))
				time.AfterFunc(time.Second, func() { _ = cc.UpdateState(at(server)) })
			})
			return order(context.Background(), cc, grpc.WaitForReady(mended))
		}},
	{entry: fault.ResolveBadTarget, code: codes.Unknown, side: fault.Local, processed: fault.No,
		evidence: []string{"target: orders://shop"}, remedy: "passthrough:///address",
		run: func(w *world, mended bool) error {
			target := "orders://shop"
			if mended {
				target = "passthrough:///orders"
			}
			cc, err := faultline.NewClient(target, faultline.WithTransportCredentials(insecure.NewCredentials()))
			if err == nil {
				err = cc.Close()
			}
			return err
		}},
	{entry: fault.ResolveBadServiceConfig, code: codes.Unavailable, side: fault.Remote, processed: fault.No,
		evidence: []string{"target: shop:///orders"}, remedy: "WithDisableServiceConfig",
		run: func(w *world, mended bool) error {
			w.serve(nil)
			var opts []faultline.DialOption
			if mended {
				opts = append(opts, faultline.WithDisableServiceConfig())
			}
			return order(context.Background(), w.resolved(func(cc resolver.ClientConn) {
				s := at(server)
				s.ServiceConfig = cc.ParseServiceConfig(`{"methodConfig": [{"timeout": "soon"}]}`)
				_ = cc.UpdateState(s)
			}, opts...))
		}},
	{entry: fault.ResolveControlPlaneCode, code: codes.Internal, side: fault.Local, processed: fault.No,
		evidence: []string{"method: " + place}, remedy: "UNAUTHENTICATED",
		run: func(w *world, mended bool) error {
			w.serve(nil)
			token := token{err: status.Error(codes.NotFound, "no key for tenant 7")}
			if mended { // the code is the credentials' own, and reaches the caller
				token.err = status.Error(codes.Unauthenticated, "no key for tenant 7")
			}
			err := order(context.Background(), w.client(), grpc.PerRPCCredentials(token))
			if mended && status.Code(err) == codes.Unauthenticated {
				return nil
			}
			return err
		}},
}

// at is a resolver's answer.
func at(addr string) resolver.State {
	return resolver.State{Addresses: []resolver.Address{{Addr: addr}}}
}

// resolved makes a client whose resolver does as told.
func (w *world) resolved(do func(resolver.ClientConn), opts ...faultline.DialOption) *faultline.ClientConn {
	r := manual.NewBuilderWithScheme("shop")
	r.BuildCallback = func(_ resolver.Target, cc resolver.ClientConn, _ resolver.BuildOptions) { do(cc) }
	return w.clientOf("shop:///orders", append([]faultline.DialOption{faultline.WithResolvers(r), faultline.WithContextDialer(w.net.Dial)}, opts...)...)
}

// loopback starts a polite shop on this machine and returns its port.
func (w *world) loopback() string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	w.must(err)
	w.serveOn(l, nil)
	_, port, err := net.SplitHostPort(l.Addr().String())
	w.must(err)
	return port
}

// nameServer starts one that knows a single name, as 127.0.0.1.
func (w *world) nameServer(known string) string {
	pc, err := net.ListenPacket("udp", "127.0.0.1:0")
	w.must(err)
	done := make(chan struct{})
	w.Cleanup(func() { _ = pc.Close(); <-done })
	go func() {
		defer close(done)
		for buf := make([]byte, 1500); ; {
			n, from, err := pc.ReadFrom(buf)
			if err != nil {
				return
			}
			if answer, err := dnsAnswer(buf[:n], known); err == nil {
				_, _ = pc.WriteTo(answer, from)
			}
		}
	}()
	return pc.LocalAddr().String()
}

func dnsAnswer(query []byte, known string) ([]byte, error) {
	var m dnsmessage.Message
	if err := m.Unpack(query); err != nil {
		return nil, err
	}
	m.Response, m.RCode, m.Additionals = true, dnsmessage.RCodeNameError, nil
	if q := m.Questions[0]; q.Name.String() == known {
		m.RCode = dnsmessage.RCodeSuccess
		if q.Type == dnsmessage.TypeA {
			h := dnsmessage.ResourceHeader{Name: q.Name, Type: q.Type, Class: q.Class}
			m.Answers = []dnsmessage.Resource{{Header: h, Body: &dnsmessage.AResource{A: [4]byte{127, 0, 0, 1}}}}
		}
	}
	return m.Pack()
}

var pickRows = []row{
	{entry: fault.PickNoReady, code: codes.Unavailable, side: fault.Local, processed: fault.No,
		evidence: []string{"target: shop:///orders"}, remedy: "WaitForReady(true)",
		run: func(w *world, mended bool) error {
			w.serve(nil)
			verdict.Store(&pickerError{errors.New("the map of shards is not there yet")})
			cc := w.resolved(func(cc resolver.ClientConn) {
				_ = cc.UpdateState(at(server))
				time.AfterFunc(time.Second, func() { verdict.Store(nil); _ = cc.UpdateState(at(server)) })
			}, picky)
			return order(context.Background(), cc, grpc.WaitForReady(mended))
		}},
	{entry: fault.PickDropped, code: codes.Unavailable, side: fault.Local, processed: fault.No,
		evidence: []string{"target: shop:///orders", "grpc_status: Unavailable"}, remedy: "raise the drop threshold",
		run: func(w *world, mended bool) error {
			w.serve(nil)
			verdict.Store(&pickerError{status.Error(codes.Unavailable, "1 of 5 calls is shed")})
			if mended {
				verdict.Store(nil)
			}
			return order(context.Background(), w.resolved(func(cc resolver.ClientConn) { _ = cc.UpdateState(at(server)) }, picky))
		}},
	{entry: fault.PickUnhealthy, code: codes.Unavailable, side: fault.Remote, processed: fault.No,
		evidence: []string{"address: " + server}, remedy: "SetServingStatus(name, SERVING)",
		run: func(w *world, mended bool) error {
			l := w.listen()
			s := faultline.NewServer()
			h := health.NewServer()
			healthpb.RegisterHealthServer(s, h)
			s.RegisterService(&orders, &shop{began: make(chan struct{}, 1)})
			h.SetServingStatus("orders", healthpb.HealthCheckResponse_NOT_SERVING)
			if mended {
				h.SetServingStatus("orders", healthpb.HealthCheckResponse_SERVING)
			}
			done := make(chan struct{})
			go func() { defer close(done); _ = s.Serve(l) }()
			w.Cleanup(func() { s.Stop(); <-done })
			return w.call(faultline.WithDefaultServiceConfig(`{"loadBalancingConfig": [{"round_robin": {}}], "healthCheckConfig": {"serviceName": "orders"}}`))
		}},
}

// picky is a balancing policy whose picker answers with the verdict, if there
// is one. The registry of policies is the process's, and so is the verdict.
var (
	picky   = faultline.WithDefaultServiceConfig(`{"loadBalancingConfig": [{"provoked_picky": {}}]}`)
	verdict atomic.Pointer[pickerError]
)

type pickerError struct{ error }

type pickyBuilder struct{}

// Build implements base.PickerBuilder.
func (pickyBuilder) Build(info base.PickerBuildInfo) balancer.Picker {
	for sc := range info.ReadySCs {
		return pickyPicker{sc}
	}
	return base.NewErrPicker(balancer.ErrNoSubConnAvailable)
}

type pickyPicker struct{ sc balancer.SubConn }

// Pick implements balancer.Picker.
func (p pickyPicker) Pick(balancer.PickInfo) (balancer.PickResult, error) {
	if v := verdict.Load(); v != nil {
		return balancer.PickResult{}, v.error
	}
	return balancer.PickResult{SubConn: p.sc}, nil
}

func TestMain(m *testing.M) {
	balancer.Register(base.NewBalancerBuilder("provoked_picky", pickyBuilder{}, base.Config{}))
	os.Exit(m.Run())
}

// dialing provokes with a network on which the server's address is ill.
func dialing(ill simnet.Health) func(*world, bool) error {
	return func(w *world, mended bool) error {
		w.serve(nil)
		if !mended {
			w.must(w.net.SetHealth(server, ill))
		}
		return w.call()
	}
}

// dialError provokes with a dialer of the program's own.
func dialError(err error) func(*world, bool) error {
	return func(w *world, mended bool) error {
		w.serve(nil)
		return w.call(faultline.WithContextDialer(func(ctx context.Context, addr string) (net.Conn, error) {
			if mended {
				return w.net.Dial(ctx, addr)
			}
			return nil, err
		}))
	}
}

var dialRows = []row{
	{entry: fault.DialRefused, code: codes.Unavailable, side: fault.Remote, processed: fault.No,
		evidence: []string{"address: " + server}, remedy: "that the server is up",
		run: func(w *world, mended bool) error {
			if mended {
				w.serve(nil)
			}
			return w.call()
		}},
	{entry: fault.DialUnreachable, code: codes.Unavailable, side: fault.Between, processed: fault.No,
		evidence: []string{"address: " + server}, remedy: "Check the route", run: dialing(simnet.Unreachable)},
	{entry: fault.DialTimeout, code: codes.Unavailable, side: fault.Between, processed: fault.No,
		evidence: []string{"address: " + server}, remedy: "A firewall, security group", run: dialing(simnet.Blackholed)},
	{entry: fault.DialPermission, code: codes.Unavailable, side: fault.Local, processed: fault.No,
		evidence: []string{"address: " + server}, remedy: "owner and mode",
		run: dialError(&net.OpError{Op: "dial", Net: "unix", Err: os.NewSyscallError("connect", syscall.EACCES)})},
	{entry: fault.DialMissing, code: codes.Unavailable, side: fault.Local, processed: fault.No, real: true,
		evidence: []string{"address: /", "network: unix"}, remedy: "Check the path",
		run: func(w *world, mended bool) error {
			dir, err := os.MkdirTemp("", "shop") // a short path: sockets' are bounded
			w.must(err)
			w.Cleanup(func() { _ = os.RemoveAll(dir) })
			path := filepath.Join(dir, "orders.sock")
			if mended {
				l, err := net.Listen("unix", path)
				w.must(err)
				w.serveOn(l, nil)
			}
			return order(context.Background(), w.clientOf("unix://"+path))
		}},
	{entry: fault.DialProxy, code: codes.Unavailable, side: fault.Between, processed: fault.No, real: true,
		evidence: []string{"proxy: 127.0.0.1:", "http_status: 403"}, remedy: "that it permits CONNECT to this port",
		run: func(w *world, mended bool) error {
			to := ""
			if mended {
				to = "127.0.0.1:" + w.loopback()
			}
			w.Setenv("HTTPS_PROXY", "http://"+w.proxy(to))
			w.Setenv("NO_PROXY", "")
			return order(context.Background(), w.clientOf("passthrough:///192.0.2.1:50051"))
		}},
	{entry: fault.DialFailed, code: codes.Unavailable, side: fault.Local, processed: fault.No,
		evidence: []string{"address: " + server}, remedy: "raise its limit (ulimit -n",
		run: dialError(&net.OpError{Op: "dial", Net: "tcp", Err: os.NewSyscallError("socket", syscall.EMFILE)})},
}

// proxy starts an HTTP proxy that permits no CONNECT, or takes all to one
// address.
func (w *world) proxy(to string) string {
	if to == "" {
		svc, err := peer.ListenRaw("127.0.0.1:0", peer.Raw{Wait: true, Answer: []byte("HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n")})
		w.must(err)
		w.Cleanup(func() { _ = svc.Close() })
		return svc.Addr()
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	w.must(err)
	done := make(chan struct{})
	w.Cleanup(func() { _ = l.Close(); <-done })
	go func() {
		defer close(done)
		in, err := l.Accept()
		if err != nil {
			return
		}
		defer in.Close()
		out, err := net.Dial("tcp", to)
		if err != nil {
			return
		}
		defer out.Close()
		buf := make([]byte, 4096)
		if _, err := in.Read(buf); err != nil { // the request: one write, and nothing follows before the answer
			return
		}
		_, _ = io.WriteString(in, "HTTP/1.1 200 OK\r\n\r\n")
		back := make(chan struct{})
		go func() { defer close(back); _, _ = io.Copy(in, out); _ = in.Close() }()
		_, _ = io.Copy(out, in)
		_ = out.Close()
		<-back
	}()
	return l.Addr().String()
}
