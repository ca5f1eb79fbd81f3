// SPDX-License-Identifier: Apache-2.0

// Package codes says what is known of each of gRPC's 17 status codes: its names, meaning, HTTP equivalent, who raises it and whether to retry.
//
// [Code] and its constants are those of google.golang.org/grpc/codes, under
// the same names, so values of either package are interchangeable. [About]
// tells what a code means, [Parse] reads one from a name or number.
package codes
