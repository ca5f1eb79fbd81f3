// SPDX-License-Identifier: Apache-2.0

package faultline_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	grpcstatus "google.golang.org/grpc/status"

	"github.com/faultline-rpc/faultline"
	"github.com/faultline-rpc/faultline/codes"
	"github.com/faultline-rpc/faultline/fault"
	"github.com/faultline-rpc/faultline/status"
)

// Each code asks for something else of its reader.
func Example_statusCodes() {
	client, stop := start(&users{get: func(_ context.Context, code string) (string, error) {
		c, _ := codes.Parse(code)
		return "", status.Error(c, "because")
	}})
	defer stop()

	for _, code := range []string{"NOT_FOUND", "RESOURCE_EXHAUSTED", "UNAVAILABLE"} {
		_, err := client.GetUser(context.Background(), code)
		about := codes.About(status.Code(err))
		fmt.Printf("%d %s, HTTP %d, retry: %s\n", about.Code, about.Name, about.HTTP, about.Retry)
	}
	// Output:
	// 5 NOT_FOUND, HTTP 404, retry: never
	// 8 RESOURCE_EXHAUSTED, HTTP 429, retry: when-told
	// 14 UNAVAILABLE, HTTP 503, retry: backoff
}

// Details tell programs what a message tells people.
func Example_richDetails() {
	client, stop := start(&users{get: func(context.Context, string) (string, error) {
		return "", status.New(codes.InvalidArgument, "invalid user").
			WithFieldViolation("email", "must be an address").
			WithFieldViolation("age", "must be positive").
			WithReason("INVALID_USER", "shop.example.com", nil).Err()
	}})
	defer stop()

	_, err := client.GetUser(context.Background(), "1")
	for _, v := range status.FieldViolations(err) {
		fmt.Printf("%s: %s\n", v.GetField(), v.GetDescription())
	}
	reason, domain, _, _ := status.Reason(err)
	fmt.Println(reason, domain)
	// Output:
	// email: must be an address
	// age: must be positive
	// INVALID_USER shop.example.com
}

// A quota says when to come back.
func Example_resourceExhausted() {
	client, stop := start(&users{get: func(context.Context, string) (string, error) {
		return "", status.New(codes.ResourceExhausted, "rate limit exceeded").
			WithQuotaViolation("user:ann", "100 calls a minute").
			WithRetryDelay(30 * time.Second).Err()
	}})
	defer stop()

	_, err := client.GetUser(context.Background(), "1")
	if wait, ok := status.RetryDelay(err); ok {
		fmt.Println("again in", wait)
	}
	fmt.Println(status.QuotaViolations(err)[0].GetDescription())
	// Output:
	// again in 30s
	// 100 calls a minute
}

// A stream that fails delivers what came before: the error ends it.
func Example_streamingError() {
	client, stop := start(&users{list: func(_ context.Context, prefix string, send func(string) error) error {
		for _, name := range []string{"Ann", "Anton"} {
			if err := send(name); err != nil {
				return err
			}
		}
		return status.Error(codes.DataLoss, "the rest of the index is damaged")
	}})
	defer stop()

	err := client.ListUsers(context.Background(), "An", func(name string) { fmt.Println(name) })
	fmt.Println(err)
	if f, ok := fault.From(err); ok {
		fmt.Println("messages before:", f.Evidence().Messages, "processed:", f.Processed())
	}
	// Output:
	// Ann
	// Anton
	// rpc error: code = DataLoss desc = the rest of the index is damaged
	// messages before: 2 processed: yes
}

// Callers may wrap what they got: code, details and fault stay within reach.
func Example_wrapping() {
	client, stop := start(&users{get: func(_ context.Context, id string) (string, error) {
		return "", status.Errorf(codes.NotFound, "user %s not found", id)
	}})
	defer stop()

	_, err := client.GetUser(context.Background(), "2")
	err = fmt.Errorf("greet: %w", err)
	fmt.Println(err)
	fmt.Println(status.Code(err), "/", status.Convert(err).Message())
	fmt.Println(fault.HandlerStatus.Is(err))
	// Output:
	// greet: rpc error: code = NotFound desc = user 2 not found
	// NotFound / user 2 not found
	// true
}

// suspended is an application's own error; GRPCStatus says how it travels.
type suspended struct{ user string }

func (e *suspended) Error() string { return e.user + " is suspended" }

func (e *suspended) GRPCStatus() *grpcstatus.Status {
	return status.New(codes.FailedPrecondition, e.Error()).
		WithReason("SUSPENDED", "shop.example.com", map[string]string{"user": e.user}).GRPCStatus()
}

// An error type of one's own has a GRPCStatus method, and needs no translation.
func Example_ownErrorType() {
	client, stop := start(&users{get: func(_ context.Context, id string) (string, error) {
		return "", fmt.Errorf("load: %w", &suspended{id})
	}})
	defer stop()

	_, err := client.GetUser(context.Background(), "ann")
	reason, _, metadata, _ := status.Reason(err)
	fmt.Println(err)
	fmt.Println(reason, metadata)
	// Output:
	// rpc error: code = FailedPrecondition desc = ann is suspended
	// SUSPENDED map[user:ann]
}

// A missing row is the caller's business; a database that fails is not, and its
// error stays in the server: status.Wrap keeps it as the cause, for the log.
func Example_databaseError() {
	query := func(id string) error {
		if id == "2" {
			return sql.ErrNoRows
		}
		return errors.New("dial tcp db-1.internal:5432: connection refused")
	}
	client, stop := start(&users{get: func(_ context.Context, id string) (string, error) {
		err := query(id)
		if errors.Is(err, sql.ErrNoRows) {
			return "", status.Wrapf(err, codes.NotFound, "user %s not found", id)
		}
		return "", status.Wrap(err, codes.Internal, "database error")
	}})
	defer stop()

	for _, id := range []string{"2", "3"} {
		_, err := client.GetUser(context.Background(), id)
		fmt.Println(err)
	}
	// Output:
	// rpc error: code = NotFound desc = user 2 not found
	// rpc error: code = Internal desc = database error
}

// An error that is no status may say anything: the caller gets UNKNOWN and a
// reference, the log gets the text.
func Example_plainError() {
	client, stop := start(&users{get: func(context.Context, string) (string, error) {
		return "", errors.New("open /etc/shop/secret: permission denied")
	}}, faultline.Logger(quiet))
	defer stop()

	_, err := client.GetUser(context.Background(), "1")
	text, reference, _ := strings.Cut(err.Error(), "; reference ")
	fmt.Println(text)
	fmt.Println("digits of the reference:", len(reference))
	// Output:
	// rpc error: code = Unknown desc = handler.not-status: the handler returned an error that is no status
	// digits of the reference: 16
}

// A panic ends its call, not the server.
func Example_panic() {
	client, stop := start(&users{get: func(_ context.Context, id string) (string, error) {
		if id == "0" {
			panic("index out of range")
		}
		return "Ann", nil
	}}, faultline.Logger(quiet))
	defer stop()

	_, err := client.GetUser(context.Background(), "0")
	fmt.Println(status.Code(err))
	name, err := client.GetUser(context.Background(), "1")
	fmt.Println(name, err)
	// Output:
	// Unknown
	// Ann <nil>
}

// Along a chain of services the status passes unchanged: return the error as
// it came.
func Example_propagation() {
	inventory, stopInventory := start(&users{get: func(context.Context, string) (string, error) {
		return "", status.New(codes.FailedPrecondition, "out of stock").
			WithPreconditionViolation("STOCK", "book", "order it first").Err()
	}})
	defer stopInventory()
	shop, stopShop := start(&users{get: func(ctx context.Context, id string) (string, error) {
		name, err := inventory.GetUser(ctx, id)
		if err != nil {
			return "", err // no wrapping in INTERNAL
		}
		return name, nil
	}})
	defer stopShop()

	_, err := shop.GetUser(context.Background(), "book")
	fmt.Println(err)
	fmt.Println(status.PreconditionViolations(err)[0].GetDescription())
	// Output:
	// rpc error: code = FailedPrecondition desc = out of stock
	// order it first
}

// The handler of Example_testing.
func getUser(_ context.Context, id string) (string, error) {
	switch id {
	case "":
		return "", status.New(codes.InvalidArgument, "no id").WithFieldViolation("id", "must not be empty").Err()
	case "1":
		return "Ann", nil
	}
	return "", status.Errorf(codes.NotFound, "user %s not found", id)
}

// Errors are tested by code and details; messages are for people and change.
// Handlers are functions: most tests need no server.
func Example_testing() {
	for _, id := range []string{"", "1", "2"} {
		_, err := getUser(context.Background(), id)
		fmt.Printf("%q %s %d\n", id, status.Code(err), len(status.FieldViolations(err)))
	}
	// Output:
	// "" InvalidArgument 1
	// "1" OK 0
	// "2" NotFound 0
}

// TestGetUser is the same as a test, through a client.
func TestGetUser(t *testing.T) {
	client, stop := start(&users{get: getUser})
	defer stop()
	for id, want := range map[string]codes.Code{"": codes.InvalidArgument, "1": codes.OK, "2": codes.NotFound} {
		if _, err := client.GetUser(t.Context(), id); status.Code(err) != want {
			t.Errorf("GetUser(%q) = %v, want %v", id, err, want)
		}
	}
}
