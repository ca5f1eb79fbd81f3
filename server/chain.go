// SPDX-License-Identifier: Apache-2.0

package server

import (
	"context"

	"google.golang.org/grpc"
)

// chainUnary makes one interceptor of several, the first one outermost.
func chainUnary(list []grpc.UnaryServerInterceptor) grpc.UnaryServerInterceptor {
	if len(list) <= 1 {
		return only(list)
	}
	return func(ctx context.Context, req any, info *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
		return list[0](ctx, req, info, nextUnary(list, 1, info, handler))
	}
}

func nextUnary(list []grpc.UnaryServerInterceptor, i int, info *grpc.UnaryServerInfo, last grpc.UnaryHandler) grpc.UnaryHandler {
	if i == len(list) {
		return last
	}
	return func(ctx context.Context, req any) (any, error) {
		return list[i](ctx, req, info, nextUnary(list, i+1, info, last))
	}
}

// chainStream makes one interceptor of several, the first one outermost.
func chainStream(list []grpc.StreamServerInterceptor) grpc.StreamServerInterceptor {
	if len(list) <= 1 {
		return only(list)
	}
	return func(srv any, ss grpc.ServerStream, info *grpc.StreamServerInfo, handler grpc.StreamHandler) error {
		return list[0](srv, ss, info, nextStream(list, 1, info, handler))
	}
}

func nextStream(list []grpc.StreamServerInterceptor, i int, info *grpc.StreamServerInfo, last grpc.StreamHandler) grpc.StreamHandler {
	if i == len(list) {
		return last
	}
	return func(srv any, ss grpc.ServerStream) error {
		return list[i](srv, ss, info, nextStream(list, i+1, info, last))
	}
}

// only returns the single element of a list, or the zero value.
func only[T any](list []T) T {
	var none T
	if len(list) == 1 {
		return list[0]
	}
	return none
}
