// SPDX-License-Identifier: Apache-2.0

package status_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	grpcstatus "google.golang.org/grpc/status"

	"github.com/faultline-rpc/faultline/codes"
	"github.com/faultline-rpc/faultline/fault"
	"github.com/faultline-rpc/faultline/status"
)

func Example() {
	err := status.Errorf(codes.NotFound, "user %s not found", "ann")

	if status.Code(err) == codes.NotFound {
		fmt.Println(status.Convert(err).Message())
	}
	fmt.Println(err)
	// Output:
	// user ann not found
	// rpc error: code = NotFound desc = user ann not found
}

func ExampleNew() {
	st := status.New(codes.InvalidArgument, "invalid user").
		WithFieldViolation("email", "must be an address").
		WithFieldViolation("age", "must be positive")

	for _, v := range status.FieldViolations(st.Err()) {
		fmt.Println(v.GetField(), v.GetDescription())
	}
	// Output:
	// email must be an address
	// age must be positive
}

func ExampleStatus_WithDetails() {
	st, err := status.New(codes.ResourceExhausted, "slow down").WithDetails(
		&errdetails.RequestInfo{RequestId: "r-17"},
		&errdetails.ErrorInfo{Reason: "RATE_LIMIT_EXCEEDED", Domain: "example.com"},
	)
	if err != nil {
		fmt.Println(err)
		return
	}
	for _, detail := range st.Details() {
		switch d := detail.(type) {
		case *errdetails.RequestInfo:
			fmt.Println("request", d.GetRequestId())
		case *errdetails.ErrorInfo:
			fmt.Println("reason", d.GetReason())
		}
	}
	// Output:
	// request r-17
	// reason RATE_LIMIT_EXCEEDED
}

func ExampleDetail() {
	err := status.New(codes.NotFound, "gone").WithResource("user", "u1", "", "deleted").Err()

	if r, ok := status.Detail[*errdetails.ResourceInfo](status.Convert(err)); ok {
		fmt.Println(r.GetResourceType(), r.GetResourceName(), r.GetDescription())
	}
	// Output: user u1 deleted
}

func ExampleRetryDelay() {
	err := status.New(codes.ResourceExhausted, "rate limit exceeded").WithRetryDelay(30 * time.Second).Err()

	if d, ok := status.RetryDelay(err); ok {
		fmt.Println("again in", d)
	}
	// Output: again in 30s
}

// The cause stays in this process: the caller sees code and message.
func ExampleWrap() {
	err := status.Wrap(io.ErrUnexpectedEOF, codes.DataLoss, "the file is damaged")

	fmt.Println(err)
	fmt.Println(errors.Is(err, io.ErrUnexpectedEOF))
	fmt.Println(status.Convert(err).Proto().GetMessage())
	// Output:
	// rpc error: code = DataLoss desc = the file is damaged
	// true
	// the file is damaged
}

// Wrapping a status keeps its code and its message.
func ExampleFromError() {
	err := fmt.Errorf("place order: %w", status.Error(codes.FailedPrecondition, "cart is empty"))

	st, ok := status.FromError(err)
	fmt.Println(ok, st.Code(), st.Message())
	fmt.Println(err)
	// Output:
	// true FailedPrecondition cart is empty
	// place order: rpc error: code = FailedPrecondition desc = cart is empty
}

func ExampleFromContextError() {
	ctx, cancel := context.WithTimeout(context.Background(), 0)
	defer cancel()
	<-ctx.Done()

	st := status.FromContextError(fmt.Errorf("query: %w", ctx.Err()))
	fmt.Println(st.Code(), st.Message())
	// Output: DeadlineExceeded query: context deadline exceeded
}

func ExampleStatus_Fault() {
	err := fmt.Errorf("get user: %w", fault.DialRefused.New(fault.Args{
		Side: fault.Remote, Processed: fault.No, Message: "127.0.0.1:50051",
	}))

	if f := status.Convert(err).Fault(); f != nil {
		fmt.Println(f.ID(), f.Layer(), f.Side(), f.Processed())
	}
	// Output: dial.refused dial remote no
}

// outOfStock is an application's own error. Its GRPCStatus makes both status
// packages understand it.
type outOfStock struct{ item string }

func (e *outOfStock) Error() string { return e.item + " is out of stock" }

func (e *outOfStock) GRPCStatus() *grpcstatus.Status {
	return status.New(codes.FailedPrecondition, e.Error()).
		WithReason("OUT_OF_STOCK", "shop.example.com", map[string]string{"item": e.item}).
		GRPCStatus()
}

func Example_ownErrorType() {
	err := fmt.Errorf("place order: %w", &outOfStock{"book"})

	fmt.Println(status.Code(err), grpcstatus.Code(err))
	reason, domain, metadata, _ := status.Reason(err)
	fmt.Println(reason, domain, metadata)
	// Output:
	// FailedPrecondition FailedPrecondition
	// OUT_OF_STOCK shop.example.com map[item:book]
}

// A handler that reads from a database tells a missing row from a failure, and
// keeps the failure to itself.
func Example_databaseError() {
	getUser := func(id string, query func() error) error {
		switch err := query(); {
		case err == nil:
			return nil
		case errors.Is(err, sql.ErrNoRows):
			return status.Wrapf(err, codes.NotFound, "user %s not found", id)
		default:
			return status.Wrap(err, codes.Internal, "database error")
		}
	}

	err := getUser("ann", func() error { return sql.ErrNoRows })
	fmt.Println(err, errors.Is(err, sql.ErrNoRows))
	err = getUser("ann", func() error { return fmt.Errorf("dial db-1.internal: %w", sql.ErrConnDone) })
	fmt.Println(err, errors.Is(err, sql.ErrConnDone))
	// Output:
	// rpc error: code = NotFound desc = user ann not found true
	// rpc error: code = Internal desc = database error true
}

// UNAUTHENTICATED says that it is not known who calls, PERMISSION_DENIED that
// it is known and not allowed.
func Example_permissionError() {
	deleteUser := func(caller, id string) error {
		if caller == "" {
			return status.Error(codes.Unauthenticated, "authentication required")
		}
		if caller != "admin" {
			return status.New(codes.PermissionDenied, "insufficient permissions").
				WithReason("ROLE_MISSING", "users.example.com", map[string]string{"role": "admin"}).Err()
		}
		return nil
	}

	fmt.Println(deleteUser("", "ann"))
	err := deleteUser("bob", "ann")
	reason, _, metadata, _ := status.Reason(err)
	fmt.Println(err, reason, metadata)
	fmt.Println(deleteUser("admin", "ann"))
	// Output:
	// rpc error: code = Unauthenticated desc = authentication required
	// rpc error: code = PermissionDenied desc = insufficient permissions ROLE_MISSING map[role:admin]
	// <nil>
}
