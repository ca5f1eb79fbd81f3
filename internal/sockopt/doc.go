// SPDX-License-Identifier: Apache-2.0

// Package sockopt sets the options of sockets that package net does not know.
// It carries no compatibility promise.
package sockopt
