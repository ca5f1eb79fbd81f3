// SPDX-License-Identifier: Apache-2.0

package faultline_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"syscall"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"

	"github.com/faultline-rpc/faultline"
	"github.com/faultline-rpc/faultline/codes"
	"github.com/faultline-rpc/faultline/fault"
	"github.com/faultline-rpc/faultline/status"
)

// A handler returns a status; its client asks for the code.
func Example() {
	client, stop := start(&users{get: func(_ context.Context, id string) (string, error) {
		if id != "1" {
			return "", status.Errorf(codes.NotFound, "user %s not found", id)
		}
		return "Ann", nil
	}})
	defer stop()

	for _, id := range []string{"1", "2"} {
		name, err := client.GetUser(context.Background(), id)
		if status.Code(err) == codes.NotFound {
			fmt.Println(status.Convert(err).Message())
			continue
		}
		fmt.Println(name, err)
	}
	// Output:
	// Ann <nil>
	// user 2 not found
}

// Reading a fault: which layer broke, on whose side, whether a handler may have
// run, and what to do.
func Example_readingAFault() {
	cc := dialTo(func(context.Context, string) (net.Conn, error) { return nil, syscall.ECONNREFUSED })
	defer cc.Close()

	_, err := (&usersClient{cc}).GetUser(context.Background(), "1")
	f, _ := fault.From(err)
	fmt.Println("code:     ", f.Code())
	fmt.Println("id:       ", f.ID())
	fmt.Println("layer:    ", f.Layer())
	fmt.Println("side:     ", f.Side())
	fmt.Println("processed:", f.Processed())
	fmt.Println("address:  ", f.Evidence().Address)
	fmt.Println("cause:    ", errors.Is(err, syscall.ECONNREFUSED))
	fmt.Println(f.Remedy()[:45], "...")
	// Output:
	// code:      Unavailable
	// id:        dial.refused
	// layer:     dial
	// side:      remote
	// processed: no
	// address:   users.test:50051
	// cause:     true
	// Check the port and that the server is up (ss  ...
}

// Circumstances are compared, never texts.
func Example_decideByCircumstance() {
	cc := dialTo(func(context.Context, string) (net.Conn, error) { return nil, syscall.ECONNREFUSED })
	defer cc.Close()

	_, err := (&usersClient{cc}).GetUser(context.Background(), "1")
	switch {
	case fault.DialRefused.Is(err):
		fmt.Println("the server is not running")
	case fault.CallDeadline.Is(err):
		fmt.Println("too slow")
	}
	// Output: the server is not running
}

// Processed tells when another attempt cannot do anything twice.
func Example_safeToRepeat() {
	again := func(err error, idempotent bool) bool {
		f, ok := fault.From(err)
		if !ok || f.Code() != codes.Unavailable {
			return false
		}
		return idempotent || f.Processed() == fault.No
	}

	refused := fault.HTTP2RefusedStream.New(fault.Args{Side: fault.Remote, Processed: fault.No})
	lost := fault.HTTP2ConnectionLost.New(fault.Args{Side: fault.Between, Processed: fault.Maybe})
	fmt.Println("refused, a payment:", again(refused, false))
	fmt.Println("lost, a payment:   ", again(lost, false))
	fmt.Println("lost, a lookup:    ", again(lost, true))
	// Output:
	// refused, a payment: true
	// lost, a payment:    false
	// lost, a lookup:     true
}

// A deadline travels: each service gets what is left of the caller's budget.
func Example_deadlinePropagation() {
	inventory, stopInventory := start(&users{get: func(ctx context.Context, _ string) (string, error) {
		deadline, ok := ctx.Deadline()
		fmt.Println("inventory has a deadline:", ok, time.Until(deadline) <= 250*time.Millisecond)
		<-ctx.Done() // too slow
		return "", ctx.Err()
	}})
	defer stopInventory()
	shop, stopShop := start(&users{get: func(ctx context.Context, id string) (string, error) {
		return inventory.GetUser(ctx, id) // ctx carries the deadline: pass it on
	}}, faultline.Logger(quiet))
	defer stopShop()

	ctx, cancel := context.WithTimeout(context.Background(), 250*time.Millisecond)
	defer cancel()
	_, err := shop.GetUser(ctx, "1")
	fmt.Println(status.Code(err))
	// Output:
	// inventory has a deadline: true true
	// DeadlineExceeded
}

// The ledger says what the time went to: here nobody took the connection.
func Example_deadlineLedger() {
	cc := dialTo(func(ctx context.Context, _ string) (net.Conn, error) {
		<-ctx.Done()
		return nil, ctx.Err()
	})
	defer cc.Close()

	ctx, cancel := context.WithTimeout(context.Background(), 100*time.Millisecond)
	defer cancel()
	_, err := (&usersClient{cc}).GetUser(ctx, "1")
	f, _ := fault.From(err)
	fmt.Println(f.ID(), "processed:", f.Processed(), errors.Is(err, context.DeadlineExceeded))
	l := f.Ledger()
	fmt.Println("budget", l.Budget.Round(time.Millisecond), "mostly for", l.Longest())
	for _, phase := range l.Phases {
		if phase.Spent > time.Millisecond {
			fmt.Println(phase.Name, phase.Spent > 90*time.Millisecond)
		}
	}
	// Output:
	// call.deadline processed: no true
	// budget 100ms mostly for connect
	// connect true
}

// Nothing is sent when the time is up before the call begins.
func Example_deadlineAlreadyPast() {
	client, stop := start(&users{})
	defer stop()

	ctx, cancel := context.WithTimeout(context.Background(), -time.Second)
	defer cancel()
	_, err := client.GetUser(ctx, "1")
	f, _ := fault.From(err)
	fmt.Println(f.Code(), f.ID(), "processed:", f.Processed())
	// Output: DeadlineExceeded call.deadline-past processed: no
}

// A caller that cancels is told so, and so is the handler.
func Example_cancellation() {
	ended := make(chan error, 1)
	ctx, cancel := context.WithCancelCause(context.Background())
	client, stop := start(&users{get: func(handlerCtx context.Context, _ string) (string, error) {
		cancel(errors.New("the user closed the page"))
		<-handlerCtx.Done()
		ended <- handlerCtx.Err()
		return "", handlerCtx.Err()
	}})
	defer stop()

	_, err := client.GetUser(ctx, "1")
	fmt.Println(status.Code(err), errors.Is(err, context.Canceled))
	fmt.Println("handler:", <-ended)
	// Output:
	// Canceled true
	// handler: context canceled
}

// A server interceptor that logs every error, with the code that its caller
// gets.
func Example_loggingInterceptor() {
	logErrors := func(ctx context.Context, req any, info *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
		resp, err := handler(ctx, req)
		if err != nil {
			st, _ := status.FromError(err)
			fmt.Printf("method=%s code=%s message=%q\n", info.FullMethod, st.Code(), st.Message())
		}
		return resp, err
	}
	client, stop := start(&users{get: func(_ context.Context, id string) (string, error) {
		return "", status.Errorf(codes.FailedPrecondition, "user %s is suspended", id)
	}}, faultline.UnaryInterceptor(logErrors))
	defer stop()

	_, _ = client.GetUser(context.Background(), "7")
	// Output: method=/shop.Users/GetUser code=FailedPrecondition message="user 7 is suspended"
}

// An interceptor that refuses callers: UNAUTHENTICATED if it is not known who
// calls, PERMISSION_DENIED if it is known and not allowed.
func Example_permissionError() {
	auth := func(ctx context.Context, req any, _ *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
		md, _ := metadata.FromIncomingContext(ctx)
		switch caller := md.Get("user"); {
		case len(caller) == 0:
			return nil, status.Error(codes.Unauthenticated, "authentication required")
		case caller[0] != "admin":
			return nil, status.Error(codes.PermissionDenied, "insufficient permissions")
		}
		return handler(ctx, req)
	}
	client, stop := start(&users{get: func(context.Context, string) (string, error) { return "Ann", nil }},
		faultline.ChainUnaryInterceptor(auth))
	defer stop()

	for _, who := range []string{"", "bob", "admin"} {
		ctx := context.Background()
		if who != "" {
			ctx = metadata.AppendToOutgoingContext(ctx, "user", who)
		}
		name, err := client.GetUser(ctx, "1")
		fmt.Println(name, status.Code(err))
	}
	// Output:
	//  Unauthenticated
	//  PermissionDenied
	// Ann OK
}
