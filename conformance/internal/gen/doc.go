// SPDX-License-Identifier: Apache-2.0

// Package gen makes the Go code of connectconformance's protos, which that
// module keeps internal, from its proto folder.
//
// It needs protoc and, on the PATH, protoc-gen-go and protoc-gen-go-grpc at the
// versions that the generated files name. It carries no compatibility promise.
package gen

//go:generate bash generate.sh
