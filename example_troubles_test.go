// SPDX-License-Identifier: Apache-2.0

package faultline_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/test/bufconn"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/faultline-rpc/faultline"
	"github.com/faultline-rpc/faultline/codes"
	"github.com/faultline-rpc/faultline/fault"
	"github.com/faultline-rpc/faultline/status"
)

// Troubles that other stacks report as "14 UNAVAILABLE" or "13 INTERNAL".

// One side speaks TLS, the other does not: both are UNAVAILABLE, and the
// circumstance says which.
func Example_tlsMismatch() {
	lis := bufconn.Listen(1 << 16)
	s := faultline.NewServer() // no Creds: cleartext
	go func() { _ = s.Serve(lis) }()
	defer s.Stop()
	https := httptest.NewUnstartedServer(http.NotFoundHandler())
	https.Config.ErrorLog = log.New(io.Discard, "", 0)
	https.StartTLS()
	defer https.Close()

	secure, err := faultline.NewClient("passthrough:///users.test:50051", faultline.WithTransportCredentials(credentials.NewTLS(nil)),
		faultline.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return lis.DialContext(ctx) }))
	if err != nil {
		fmt.Println(err)
		return
	}
	defer secure.Close()
	plain, err := faultline.NewClient(https.Listener.Addr().String(), faultline.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		fmt.Println(err)
		return
	}
	defer plain.Close()

	for _, cc := range []*faultline.ClientConn{secure, plain} {
		_, err := (&usersClient{cc}).GetUser(context.Background(), "1")
		f, _ := fault.From(err)
		fmt.Println(f.Code(), f.ID(), "processed:", f.Processed())
	}
	// Output:
	// Unavailable tls.plaintext-peer processed: no
	// Unavailable http2.tls-peer processed: no
}

// Client and server were generated from different .proto files.
func Example_unimplemented() {
	client, stop := start(&users{})
	defer stop()

	err := client.cc.Invoke(context.Background(), "/shop.Users/GetUsers", wrapperspb.String(""), new(wrapperspb.StringValue))
	f, _ := fault.From(err)
	fmt.Println(f.Code(), f.ID(), "processed:", f.Processed())
	fmt.Println(f.Message())
	// Output:
	// Unimplemented handler.unknown-method processed: no
	// unknown method GetUsers for service shop.Users; the nearest registered name is GetUser
}

// A proxy answers in the server's place, or strips the trailers with the
// status: neither is a word of the server's.
func Example_proxyInTheWay() {
	answers := map[string]func(http.ResponseWriter){
		"no backend": func(w http.ResponseWriter) { http.Error(w, "<h1>502 Bad Gateway</h1>", http.StatusBadGateway) },
		"no trailers": func(w http.ResponseWriter) {
			w.Header().Set("content-type", "application/grpc")
			_, _ = w.Write([]byte{0, 0, 0, 0, 0}) // an empty message
		},
	}
	for _, name := range []string{"no backend", "no trailers"} {
		proxy := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { answers[name](w) }))
		proxy.Config.Protocols = new(http.Protocols)
		proxy.Config.Protocols.SetUnencryptedHTTP2(true)
		proxy.Start()
		cc, err := faultline.NewClient(proxy.Listener.Addr().String(), faultline.WithTransportCredentials(insecure.NewCredentials()))
		if err != nil {
			fmt.Println(err)
			return
		}
		_, err = (&usersClient{cc}).GetUser(context.Background(), "1")
		f, _ := fault.From(err)
		fmt.Println(f.Code(), f.ID(), "side:", f.Side(), "HTTP:", f.Evidence().HTTPStatus)
		cc.Close()
		proxy.Close()
	}
	// Output:
	// Unavailable wire.http-status side: between HTTP: 502
	// Internal wire.trailers-missing side: between HTTP: 0
}

// A gateway answers with the HTTP status that belongs to the code.
func Example_gateway() {
	client, stop := start(&users{get: func(_ context.Context, id string) (string, error) {
		return "", status.Errorf(codes.NotFound, "user %s not found", id)
	}})
	defer stop()
	gateway := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		name, err := client.GetUser(r.Context(), r.URL.Query().Get("id"))
		if err != nil {
			st := status.Convert(err)
			http.Error(w, st.Message(), codes.About(st.Code()).HTTP)
			return
		}
		fmt.Fprint(w, name)
	})

	w := httptest.NewRecorder()
	gateway.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/users?id=2", nil))
	fmt.Print(w.Code, " ", w.Body)
	// Output: 404 user 2 not found
}

// A client interceptor that repeats calls which no handler has seen. The
// client does that once by itself, and a service config does it best.
func Example_retryInterceptor() {
	busy := 3
	refuse := func(ctx context.Context, req any, _ *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
		if busy--; busy > 0 {
			return nil, status.Error(codes.Unavailable, "warming up")
		}
		return handler(ctx, req)
	}
	lis := bufconn.Listen(1 << 16)
	s := faultline.NewServer(faultline.UnaryInterceptor(refuse))
	s.RegisterService(&usersDesc, &users{get: func(context.Context, string) (string, error) { return "Ann", nil }})
	go func() { _ = s.Serve(lis) }()
	defer s.Stop()

	again := func(ctx context.Context, method string, req, reply any, cc *grpc.ClientConn, invoke grpc.UnaryInvoker, opts ...grpc.CallOption) error {
		for attempt := 1; ; attempt++ {
			err := invoke(ctx, method, req, reply, cc, opts...)
			f, ok := fault.From(err)
			if !ok || f.Code() != codes.Unavailable || f.Processed() != fault.No || attempt == 5 {
				return err
			}
			fmt.Println("attempt", attempt, "was not processed:", f.Message())
		}
	}
	cc := dialTo(func(ctx context.Context, _ string) (net.Conn, error) { return lis.DialContext(ctx) }, faultline.WithUnaryInterceptor(again))
	defer cc.Close()

	fmt.Println((&usersClient{cc}).GetUser(context.Background(), "1"))
	// Output:
	// attempt 1 was not processed: warming up
	// attempt 2 was not processed: warming up
	// Ann <nil>
}

// What belongs to an error but to no detail travels as trailing metadata.
func Example_trailersOfAnError() {
	client, stop := start(&users{get: func(ctx context.Context, _ string) (string, error) {
		_ = grpc.SetTrailer(ctx, metadata.Pairs("x-request-id", "r-17"))
		return "", status.Error(codes.Internal, "database error")
	}})
	defer stop()

	var trailer metadata.MD
	_, err := client.GetUser(context.Background(), "1", grpc.Trailer(&trailer))
	fmt.Println(err, trailer.Get("x-request-id"))
	// Output: rpc error: code = Internal desc = database error [r-17]
}

// No call should be without a deadline: the service config gives one to those
// whose program sets none.
func Example_defaultDeadline() {
	lis := bufconn.Listen(1 << 16)
	s := faultline.NewServer()
	s.RegisterService(&usersDesc, &users{get: func(ctx context.Context, _ string) (string, error) {
		<-ctx.Done() // stuck
		return "", ctx.Err()
	}})
	go func() { _ = s.Serve(lis) }()
	defer s.Stop()
	cc := dialTo(func(ctx context.Context, _ string) (net.Conn, error) { return lis.DialContext(ctx) },
		faultline.WithDefaultServiceConfig(`{"methodConfig": [{"name": [{"service": "shop.Users"}], "timeout": "0.05s"}]}`))
	defer cc.Close()

	_, err := (&usersClient{cc}).GetUser(context.Background(), "1")
	f, _ := fault.From(err)
	fmt.Println(f.ID(), f.Ledger().Budget < time.Second, errors.Is(err, context.DeadlineExceeded))
	// Output: call.deadline true true
}

// A stream's handler learns from Send that its client has gone.
func Example_interruptedStream() {
	seen := make(chan error, 1)
	client, stop := start(&users{list: func(_ context.Context, prefix string, send func(string) error) error {
		for {
			if err := send(prefix); err != nil {
				seen <- err
				return status.Wrap(err, codes.Aborted, "stream interrupted")
			}
		}
	}})
	defer stop()

	ctx, cancel := context.WithCancel(context.Background())
	err := client.ListUsers(ctx, "Ann", func(string) { cancel() })
	fmt.Println("client: ", status.Code(err))
	f, _ := fault.From(<-seen)
	fmt.Println("handler:", f.Code(), f.ID(), "side:", f.Side())
	// Output:
	// client:  Canceled
	// handler: Canceled call.cancelled side: remote
}

// outdated is an error type of one's own whose GRPCStatus returns a status of
// this module; grpc-go's does as well.
type outdated struct{ version int }

func (e *outdated) Error() string { return fmt.Sprintf("version %d is outdated", e.version) }

// GRPCStatus says how the error travels.
func (e *outdated) GRPCStatus() *status.Status { return status.New(codes.Aborted, e.Error()) }

func Example_ownErrorTypeOfThisModule() {
	err := error(&outdated{3})
	st, ok := status.FromError(err)
	fmt.Println(st.Code(), ok)

	client, stop := start(&users{get: func(context.Context, string) (string, error) { return "", err }})
	defer stop()
	_, err = client.GetUser(context.Background(), "1")
	fmt.Println(err)
	// Output:
	// Aborted true
	// rpc error: code = Aborted desc = version 3 is outdated
}
