// SPDX-License-Identifier: Apache-2.0

// Package status makes and reads the errors of gRPC calls: a code, a message, typed details, and the cause and fault behind them.
//
// The names are those of google.golang.org/grpc/status, so that moving is a
// change of import:
//
//	return status.Errorf(codes.NotFound, "user %s not found", id)
//	return status.Wrap(err, codes.Internal, "database error")
//	return status.New(codes.InvalidArgument, "invalid user").
//		WithFieldViolation("email", "must be an address").Err()
//
//	switch status.Code(err) { ... }
//	for _, v := range status.FieldViolations(err) { ... }
//
// Errors cross between the two packages freely. Every error made here has a
// GRPCStatus method that returns grpc-go's Status, so grpc-go's status.Code,
// middleware and loggers see the same code, message and details; and the
// functions here take any error with a GRPCStatus method that returns the
// Status of either package.
//
// Where this package differs from grpc-go's, on purpose:
//
//   - A wrapped status keeps its message: FromError of fmt.Errorf("x: %w", err)
//     gives err's message, where grpc-go's gives the whole text with "rpc
//     error: code = ..." in its middle. The whole error stays reachable.
//   - A status may have a cause, for errors.Is and errors.As. The cause stays
//     in this process, it is never sent.
//   - Details of types that are not linked into the program are returned as
//     *anypb.Any, not as an error in their place, and attach unchanged.
//   - Status.Fault tells where a call broke; see the package fault.
package status
