// SPDX-License-Identifier: Apache-2.0

package call

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	testgrpc "google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/faultline-rpc/faultline/channel"
	"github.com/faultline-rpc/faultline/fault"
	"github.com/faultline-rpc/faultline/internal/peer"
)

// token is a per-call credential made of what it answers.
type token struct {
	values map[string]string
	err    error
	secure bool
	ask    func(ctx context.Context, uri []string)
}

func (t token) GetRequestMetadata(ctx context.Context, uri ...string) (map[string]string, error) {
	if t.ask != nil {
		t.ask(ctx, uri)
	}
	return t.values, t.err
}

func (t token) RequireTransportSecurity() bool { return t.secure }

// secured makes the connections of a Picker look encrypted.
func secured(p Picker, info credentials.AuthInfo) Picker {
	return pickFunc(func(ctx context.Context, m string, wait bool) (channel.Picked, error) {
		picked, err := p.Pick(ctx, m, wait)
		picked.Security = info
		return picked, err
	})
}

type authInfo struct {
	credentials.CommonAuthInfo
	vouchesFor string
}

func (authInfo) AuthType() string { return "test" }

func (a authInfo) ValidateAuthority(name string) error {
	if name != a.vouchesFor {
		return errors.New("the certificate is for " + a.vouchesFor)
	}
	return nil
}

// plainInfo cannot validate an authority.
type plainInfo struct{ credentials.CommonAuthInfo }

func (plainInfo) AuthType() string { return "plain" }

func TestCredentialsAreSent(t *testing.T) {
	var seen metadata.MD
	c, _ := client(t, serve(t, &service{unary: func(ctx context.Context, _ *testgrpc.SimpleRequest) (*testgrpc.SimpleResponse, error) {
		seen, _ = metadata.FromIncomingContext(ctx)
		return &testgrpc.SimpleResponse{}, nil
	}}), Config{Creds: []credentials.PerRPCCredentials{token{values: map[string]string{"Authorization": "Bearer 1"}}}})
	c.cfg.Channel = secured(c.cfg.Channel, authInfo{CommonAuthInfo: credentials.CommonAuthInfo{SecurityLevel: credentials.PrivacyAndIntegrity}})
	var uris []string
	var info credentials.RequestInfo
	own := token{values: map[string]string{"x-own": "2"}, secure: true, ask: func(ctx context.Context, uri []string) {
		uris = uri
		info, _ = credentials.RequestInfoFromContext(ctx)
	}}
	ctx := metadata.AppendToOutgoingContext(context.Background(), "authorization", "the program's", "x-own", "0")
	for range 2 { // the second call finds everything warm
		if _, err := stub(c).UnaryCall(ctx, &testgrpc.SimpleRequest{}, grpc.PerRPCCredentials(own)); err != nil {
			t.Fatal(err)
		}
	}
	if !slices.Equal(seen.Get("authorization"), []string{"Bearer 1", "the program's"}) || !slices.Equal(seen.Get("x-own"), []string{"2", "0"}) {
		t.Errorf("the server saw %v and %v", seen.Get("authorization"), seen.Get("x-own"))
	}
	if want := []string{"https://server/grpc.testing.TestService"}; !slices.Equal(uris, want) {
		t.Errorf("audience %q, want %q", uris, want)
	}
	if info.Method != unaryMethod || info.AuthInfo == nil {
		t.Errorf("request info %+v", info)
	}
}

func TestAudience(t *testing.T) {
	for in, want := range map[[2]string]string{
		{"host:443", "/a.B/C"}:  "https://host/a.B",
		{"host:8443", "/a.B/C"}: "https://host:8443/a.B",
		{"host", "/C"}:          "https://host",
	} {
		if got := audience(in[0], in[1]); got != want {
			t.Errorf("audience(%q, %q) = %q, want %q", in[0], in[1], got, want)
		}
	}
}

func TestCredentialsFail(t *testing.T) {
	errVault := errors.New("vault is sealed")
	rows := []circumstance{
		{name: "plain error", opts: creds(token{err: errVault}),
			entry: fault.CallCredentials, code: codes.Unauthenticated, is: []error{errVault}, says: "vault is sealed"},
		{name: "status", opts: creds(token{err: status.Error(codes.Unavailable, "issuer down")}),
			entry: fault.CallCredentials, code: codes.Unavailable, says: "issuer down"},
		{name: "reserved status", opts: creds(token{err: status.Error(codes.NotFound, "no such key")}),
			entry: fault.ResolveControlPlaneCode, code: codes.Internal, says: "no such key"},
		{name: "insecure", opts: creds(token{secure: true}),
			entry: fault.CallInsecureCredentials, code: codes.Unauthenticated},
		{name: "illegal value", opts: creds(token{values: map[string]string{"k": "a\nsecret"}}),
			entry: fault.WireIllegalMetadata, code: codes.Internal},
	}
	for _, row := range rows {
		for form, do := range forms {
			t.Run(row.name+"/"+form, func(t *testing.T) {
				var n atomic.Int32
				against(t, script(&n, peer.OK(text("pong"))), Config{}, func(t *testing.T, c *Caller) {
					_, err := do(c, context.Background(), row.opts...)
					row.side, row.processed = fault.Local, fault.No
					row.judge(t, err)
					if strings.Contains(err.Error(), "secret") || n.Load() != 0 {
						t.Errorf("%v after %d requests", err, n.Load())
					}
				})
			})
		}
	}
}

func creds(tk token) []grpc.CallOption { return []grpc.CallOption{grpc.PerRPCCredentials(tk)} }

// waitingToken blocks until the call's context ends.
type waitingToken struct{}

func (waitingToken) GetRequestMetadata(ctx context.Context, _ ...string) (map[string]string, error) {
	<-ctx.Done()
	return nil, ctx.Err()
}
func (waitingToken) RequireTransportSecurity() bool { return false }

func TestDeadlineWaitingForCredentials(t *testing.T) {
	against(t, peer.Each(peer.OK(text("pong"))), Config{}, func(t *testing.T, c *Caller) {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		_, err := forms["unary"](c, ctx, grpc.PerRPCCredentials(waitingToken{}))
		(&circumstance{entry: fault.CallDeadline, code: codes.DeadlineExceeded, side: fault.Local, processed: fault.No,
			waiting: fault.PhaseCredentials, is: []error{context.DeadlineExceeded}}).judge(t, err)
	})
}

// The authority of a call must be one that the connection vouches for.
func TestCallAuthority(t *testing.T) {
	for name, row := range map[string]struct {
		info credentials.AuthInfo
		ok   bool
	}{
		"vouched for":     {authInfo{vouchesFor: "other"}, true},
		"not vouched for": {authInfo{vouchesFor: "server"}, false},
		"cannot vouch":    {plainInfo{}, false},
	} {
		t.Run(name, func(t *testing.T) {
			var n atomic.Int32
			against(t, script(&n, peer.OK(text("pong"))), Config{}, func(t *testing.T, c *Caller) {
				c.cfg.Channel = secured(c.cfg.Channel, row.info)
				_, err := forms["unary"](c, context.Background(), grpc.CallAuthority("other"))
				if row.ok {
					if err != nil {
						t.Fatal(err)
					}
					return
				}
				(&circumstance{entry: fault.WireAuthority, code: codes.Unauthenticated, side: fault.Local, processed: fault.No, says: `"other"`}).judge(t, err)
				if n.Load() != 0 {
					t.Error("it was sent")
				}
			})
		})
	}
}

// Tokens are for where the call goes.
func TestCredentialsForCallAuthority(t *testing.T) {
	c, _ := client(t, serve(t, &service{}), Config{})
	c.cfg.Channel = secured(c.cfg.Channel, authInfo{vouchesFor: "other:443"})
	var uris []string
	own := token{ask: func(_ context.Context, uri []string) { uris = uri }}
	_, _ = stub(c).UnaryCall(context.Background(), &testgrpc.SimpleRequest{}, grpc.PerRPCCredentials(own), grpc.CallAuthority("other:443"))
	if want := []string{"https://other/grpc.testing.TestService"}; !slices.Equal(uris, want) {
		t.Errorf("audience %q, want %q", uris, want)
	}
}

// A picker's metadata goes out with the call, and may name the authority (gRFC A81).
func TestPickedMetadata(t *testing.T) {
	var seen metadata.MD
	c, _ := client(t, serve(t, &service{unary: func(ctx context.Context, _ *testgrpc.SimpleRequest) (*testgrpc.SimpleResponse, error) {
		seen, _ = metadata.FromIncomingContext(ctx)
		return &testgrpc.SimpleResponse{}, nil
	}}), Config{})
	p := c.cfg.Channel
	c.cfg.Channel = pickFunc(func(ctx context.Context, m string, wait bool) (channel.Picked, error) {
		picked, err := p.Pick(ctx, m, wait)
		picked.Metadata = metadata.Pairs("x-load", "7", ":authority", "shard-3")
		return picked, err
	})
	ctx := metadata.AppendToOutgoingContext(context.Background(), "k", "v")
	if _, err := stub(c).UnaryCall(ctx, &testgrpc.SimpleRequest{}); err != nil {
		t.Fatal(err)
	}
	for k, want := range map[string]string{"x-load": "7", "k": "v", ":authority": "shard-3"} {
		if v := seen.Get(k); len(v) != 1 || v[0] != want {
			t.Errorf("%s: %v, want %q", k, v, want)
		}
	}
}
