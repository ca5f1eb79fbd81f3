// SPDX-License-Identifier: Apache-2.0

package faultline_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"
	grpcstatus "google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/emptypb"

	"github.com/faultline-rpc/faultline"
	"github.com/faultline-rpc/faultline/fault"
	scripted "github.com/faultline-rpc/faultline/internal/peer"
	"github.com/faultline-rpc/faultline/status"
)

// A chain of services: each calls the next one and returns its error.
//
//	client -> link 0 -> link 1 -> ... -> what the last one does

// stack is what a link runs.
type stack struct {
	goServer, goClient bool // grpc-go's, or else this module's
	trail              bool // grpc-go's with our interceptors
}

var (
	ours    = stack{}
	plainGo = stack{goServer: true, goClient: true}
	trailGo = stack{goServer: true, goClient: true, trail: true}
	mixedGo = stack{goServer: true, trail: true} // a server of grpc-go whose calls go through a ClientConn
)

// serviceName is a link's, which nobody outside may learn.
func serviceName(i int) string { return fmt.Sprintf("inner%d.Service", i) }

func desc(i int, handle func(context.Context) error) *grpc.ServiceDesc {
	return &grpc.ServiceDesc{
		ServiceName: serviceName(i), HandlerType: (*any)(nil),
		Methods: []grpc.MethodDesc{{MethodName: "Do", Handler: func(srv any, ctx context.Context, dec func(any) error, in grpc.UnaryServerInterceptor) (any, error) {
			req := new(emptypb.Empty)
			if err := dec(req); err != nil {
				return nil, err
			}
			last := func(ctx context.Context, _ any) (any, error) {
				if err := handle(ctx); err != nil {
					return nil, err
				}
				return &emptypb.Empty{}, nil
			}
			if in == nil {
				return last(ctx, req)
			}
			return in(ctx, req, &grpc.UnaryServerInfo{Server: srv, FullMethod: "/" + serviceName(i) + "/Do"}, last)
		}}},
		Streams: []grpc.StreamDesc{{StreamName: "Flow", ServerStreams: true, ClientStreams: true, Handler: func(_ any, s grpc.ServerStream) error { return handle(s.Context()) }}},
	}
}

// do calls a link, as a unary call or a stream.
func do(ctx context.Context, cc grpc.ClientConnInterface, i int, stream bool) error {
	if !stream {
		return cc.Invoke(ctx, "/"+serviceName(i)+"/Do", &emptypb.Empty{}, &emptypb.Empty{})
	}
	s, err := cc.NewStream(ctx, &grpc.StreamDesc{ServerStreams: true, ClientStreams: true}, "/"+serviceName(i)+"/Flow")
	if err != nil {
		return err
	}
	if err = s.RecvMsg(&emptypb.Empty{}); err == io.EOF {
		return nil
	}
	return err
}

// build starts the links and returns the first one's address. Inner links
// trust who comes from loopback; edge says whom link 0 trusts. last is the last
// link's handler; with nil nobody listens there.
func build(t *testing.T, links []stack, stream bool, edge []func(*peer.Peer) bool, last func(context.Context) error, log *slog.Logger) (addrs []string) {
	t.Helper()
	next := func(context.Context) error { return nil }
	for i := len(links) - 1; i >= 0; i-- {
		l := listen(t)
		addrs = append(addrs, l.Addr().String())
		if i == len(links)-1 && last == nil {
			l.Close()
		} else {
			handle := next
			if i == len(links)-1 {
				handle = last
			}
			trusted := []func(*peer.Peer) bool{faultline.LocalPeer}
			if i == 0 {
				trusted = edge
			}
			launch(t, links[i], l, desc(i, handle), trusted, log)
		}
		if i == 0 {
			break
		}
		cc := connect(t, links[i-1], l.Addr().String())
		wraps := links[i-1] != plainGo // whose status package takes the whole text for the message
		next = func(ctx context.Context) error {
			err := do(ctx, cc, i, stream)
			if err != nil && wraps {
				err = fmt.Errorf("asking the next one: %w", err)
			}
			return err
		}
	}
	slices.Reverse(addrs)
	return addrs
}

func launch(t *testing.T, k stack, l net.Listener, d *grpc.ServiceDesc, trusted []func(*peer.Peer) bool, log *slog.Logger) {
	var s interface {
		grpc.ServiceRegistrar
		Serve(net.Listener) error
		Stop()
	}
	switch {
	case !k.goServer:
		s = faultline.NewServer(faultline.TrustedPeers(trusted...), faultline.Logger(log))
	case k.trail:
		s = grpc.NewServer(grpc.UnaryInterceptor(faultline.UnaryServerTrail(trusted...)), grpc.StreamInterceptor(faultline.StreamServerTrail(trusted...)))
	default:
		s = grpc.NewServer()
	}
	s.RegisterService(d, nil)
	done := make(chan struct{})
	go func() { defer close(done); _ = s.Serve(l) }()
	t.Cleanup(func() { s.Stop(); <-done })
}

func connect(t *testing.T, k stack, addr string) grpc.ClientConnInterface {
	if !k.goClient {
		return dial(t, addr)
	}
	opts := []grpc.DialOption{grpc.WithTransportCredentials(insecure.NewCredentials())}
	if k.trail {
		opts = append(opts, grpc.WithUnaryInterceptor(faultline.UnaryClientTrail()), grpc.WithStreamInterceptor(faultline.StreamClientTrail()))
	}
	cc, err := grpc.NewClient(addr, opts...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cc.Close() })
	return cc
}

// unread are logs that nobody reads.
var unread = slog.New(slog.DiscardHandler)

func TestTrailAlongAChain(t *testing.T) {
	gone := status.New(codes.NotFound, "no such book").WithReason("GONE", "example.com", nil)
	notFound := func(context.Context) error { return gone.Err() }
	up, seen := "handler.upstream", " seen"
	for _, tc := range []struct {
		name  string
		links []stack
		last  func(context.Context) error
		code  codes.Code
		want  []string // link and id of each hop
	}{
		{"all ours", []stack{ours, ours, ours, ours}, notFound, codes.NotFound, []string{"0 " + up, "1 " + up, "2 " + up, "3 handler.status"}},
		{"the last one on grpc-go", []stack{ours, ours, ours, plainGo}, notFound, codes.NotFound, []string{"0 " + up, "1 " + up, "2 " + up, "3 handler.status" + seen}},
		{"two on grpc-go, with interceptors", []stack{ours, trailGo, ours, trailGo}, notFound, codes.NotFound, []string{"0 " + up, "1 " + up, "2 " + up, "3 handler.status"}},
		{"two on grpc-go, one with our client", []stack{ours, mixedGo, ours, plainGo}, notFound, codes.NotFound, []string{"0 " + up, "1 " + up, "2 " + up, "3 handler.status" + seen}},
		{"the first two on grpc-go", []stack{trailGo, mixedGo, ours, ours}, notFound, codes.NotFound, []string{"0 " + up, "1 " + up, "2 " + up, "3 handler.status"}},
		{"two on grpc-go, as they are", []stack{ours, plainGo, ours, plainGo}, notFound, codes.NotFound, []string{"0 " + up, "1 handler.status" + seen}},
		{"nobody at the end", []stack{ours, trailGo, mixedGo, ours}, nil, codes.Unavailable, []string{"0 " + up, "1 " + up, "2 " + up, "3 dial.refused" + seen}},
	} {
		for _, stream := range []bool{false, true} {
			t.Run(fmt.Sprint(tc.name, ", stream ", stream), func(t *testing.T) {
				addrs := build(t, tc.links, stream, []func(*peer.Peer) bool{faultline.PeersIn(netip.MustParsePrefix("127.0.0.0/8"))}, tc.last, unread)
				err := do(timeout(t), dial(t, addrs[0]), 0, stream)
				f, ok := fault.From(err)
				if !ok || f.Code() != tc.code || f.Side() != fault.Remote {
					t.Fatalf("%+v", err)
				}
				trail := f.Trail()
				var got []string
				for _, h := range trail {
					s := strings.TrimSuffix(strings.TrimPrefix(h.Service, "inner"), ".Service") + " " + string(h.ID)
					if h.Seen {
						s += seen
					}
					got = append(got, s)
				}
				if !slices.Equal(got, tc.want) {
					t.Fatalf("the trail is %q, want %q\n%+v", got, tc.want, err)
				}
				for i, h := range trail {
					if h.Address != addrs[i] || h.Code != tc.code || h.Method != map[bool]string{false: "Do", true: "Flow"}[stream] {
						t.Errorf("hop %d: %v, want address %s", i, h, addrs[i])
					}
					if h.Seen {
						continue
					}
					if h.Elapsed <= 0 || !h.Timed || h.Budget <= 0 || i > 0 && h.Elapsed > trail[i-1].Elapsed {
						t.Errorf("hop %d: %v within %v", i, h, trail[max(i-1, 0)])
					}
				}
				if tc.last != nil && (f.Message() != gone.Message() || len(f.Details()) != 1 || f.Processed() != fault.Yes) {
					t.Errorf("the status: %+v", f)
				}
				if tc.last == nil && (trail[3].Processed != fault.No || !strings.Contains(trail[3].Text, "connection refused") || strings.Contains(f.Message(), addrs[3])) {
					t.Errorf("the origin: %v; the message: %s", trail[3], f.Message())
				}
				j, err := json.Marshal(f)
				var shown struct{ Trail []map[string]any }
				if err = errors.Join(err, json.Unmarshal(j, &shown)); err != nil || len(shown.Trail) != len(trail) || !strings.Contains(fmt.Sprintf("%+v", f), "trail         1: inner0.Service/") {
					t.Errorf("JSON %s, %v; ladder %+v", j, err, f)
				}
			})
		}
	}
}

// Nothing of the inside reaches a caller that link 0 does not trust, however
// the services behind it fail.
func TestNothingInternalCrossesTheEdge(t *testing.T) {
	hang := func(ctx context.Context) error {
		ctx, cancel := context.WithTimeout(ctx, 20*time.Millisecond)
		defer cancel()
		<-ctx.Done()
		return ctx.Err()
	}
	for name, last := range map[string]func(context.Context) error{
		"nobody listens": nil,
		"no status":      func(context.Context) error { return errors.New("secret cause") },
		"a panic":        func(context.Context) error { panic("secret panic") },
		"a status": func(context.Context) error {
			return status.Wrap(errors.New("secret cause"), codes.Aborted, "public words")
		},
		"debug info": func(context.Context) error {
			return status.New(codes.Internal, "public words").WithDebug([]string{"secret.go:1"}, "secret").Err()
		},
		"time": hang,
	} {
		for _, links := range [][]stack{{ours, ours, ours}, {ours, plainGo, ours}, {ours, trailGo, plainGo}, {ours, mixedGo, ours}, {trailGo, ours, ours}, {mixedGo, plainGo, ours}} {
			if name == "a panic" && links[2] != ours {
				continue // grpc-go lets it end the process
			}
			if (name == "no status" || name == "debug info") && (links[2] != ours || links[1] == plainGo && links[0] != ours) {
				continue // grpc-go's server publishes the text of any error itself
			}
			for _, stream := range []bool{false, true} {
				t.Run(fmt.Sprint(name, " ", links, " ", stream), func(t *testing.T) {
					var log bytes.Buffer
					addrs := build(t, links, stream, nil, last, slog.New(slog.NewTextHandler(&log, nil)))
					all := everything(t, addrs[0], stream)
					for _, secret := range append(addrs[1:], "127.0.0.1", "::1", serviceName(1), serviceName(2), "secret", "asking", "dial tcp", "connection refused", "goroutine") {
						if bytes.Contains(all, []byte(secret)) {
							t.Errorf("a stranger reads %q in\n%s", secret, all)
						}
					}
					if (name == "a status" || name == "debug info") && !bytes.Contains(all, []byte("public words")) {
						t.Errorf("a stranger does not read the status's own words in\n%s", all)
					}
				})
			}
		}
	}
}

// everything is what a stranger's connection brings: each header field, binary
// ones decoded, and each message.
func everything(t *testing.T, addr string, stream bool) []byte {
	nc, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	p := scripted.Client(t, nc)
	defer p.Close()
	p.Handshake()
	path := "/" + serviceName(0) + "/Do"
	if stream {
		path = "/" + serviceName(0) + "/Flow"
	}
	res, err := p.Call(1, path, nil, "grpc-timeout", "20S")
	p.OK(err)
	all := bytes.Clone(res.Body)
	for _, f := range slices.Concat(res.Header, res.Trailer) {
		all = fmt.Appendf(all, "\n%s: %s", f.Name, f.Value)
		if strings.HasSuffix(f.Name, "-bin") {
			b, err := base64.RawStdEncoding.DecodeString(strings.TrimRight(f.Value, "="))
			p.OK(err)
			all = append(append(all, '\n'), b...)
		}
	}
	if res.Get("grpc-status") == "0" || res.Get("grpc-status") == "" {
		t.Errorf("the call did not fail: %s", all)
	}
	return all
}

// A trail that is forged, or too large, is what a server says and no more.
func TestForgedTrails(t *testing.T) {
	hop := fault.Hop{ID: "handler.unknown-method", Code: codes.Unimplemented, Processed: fault.No}
	deep := make([]string, 500)
	for i := range deep {
		deep[i] = fault.WriteTrail(hop.On(fmt.Sprintf("/deep%d.S/M", i)), nil)[0]
	}
	for name, values := range map[string][]string{
		"garbage": {"\x01garbage", "", "\x00", "\xff\xff"}, "huge": {"\x01" + strings.Repeat("x", 10_000)}, "deep": deep,
		"of another call": {fault.WriteTrail(hop.On("/other.S/M"), nil)[0]},
	} {
		l := listen(t)
		handler := func(ctx context.Context) error {
			_ = grpc.SetTrailer(ctx, metadata.MD{fault.TrailKey: values})
			return grpcstatus.Error(codes.Unimplemented, "words")
		}
		s := grpc.NewServer()
		s.RegisterService(desc(0, handler), nil)
		done := make(chan struct{})
		go func() { defer close(done); _ = s.Serve(l) }()
		err := do(timeout(t), dial(t, l.Addr().String()), 0, false)
		f, _ := fault.From(err)
		if !fault.HandlerStatus.Is(err) || f.Message() != "words" || f.Processed() != fault.Maybe || len(f.Trail()) > 64 || len(fmt.Sprintf("%+v", f)) > 20_000 {
			t.Errorf("%s: %+v", name, err)
		}
		s.Stop()
		<-done
	}
}

// What grpc-go's client shows its program of the trailers has no trail: the
// program may copy them to a caller who must not read it.
func TestTrailersOfGRPCGoHaveNoTrail(t *testing.T) {
	for _, stream := range []bool{false, true} {
		addrs := build(t, []stack{ours, ours}, stream, []func(*peer.Peer) bool{faultline.LocalPeer}, func(ctx context.Context) error {
			_ = grpc.SetTrailer(ctx, metadata.Pairs("k", "v"))
			return status.Error(codes.Aborted, "again")
		}, unread)
		cc := connect(t, trailGo, addrs[1]).(*grpc.ClientConn)
		var md, late metadata.MD
		var err error
		if stream {
			s, e := cc.NewStream(timeout(t), &grpc.StreamDesc{ServerStreams: true, ClientStreams: true}, "/"+serviceName(1)+"/Flow", grpc.Trailer(&late))
			if e != nil {
				t.Fatal(e)
			}
			err = s.RecvMsg(&emptypb.Empty{})
			md = s.Trailer()
		} else {
			err = cc.Invoke(timeout(t), "/"+serviceName(1)+"/Do", &emptypb.Empty{}, &emptypb.Empty{}, grpc.Trailer(&md))
			late = md
		}
		f, _ := fault.From(err)
		if len(f.Trail()) != 1 || len(md[fault.TrailKey])+len(late[fault.TrailKey]) != 0 || md.Get("k")[0] != "v" || late.Get("k")[0] != "v" {
			t.Errorf("stream %v: %v, trailers %v and %v", stream, err, md, late)
		}
	}
}
