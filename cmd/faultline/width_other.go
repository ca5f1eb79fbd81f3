// SPDX-License-Identifier: Apache-2.0

//go:build !linux && !darwin && !freebsd

package main

import "os"

// columns is how wide the terminal f is, 0 if it cannot be known.
func columns(*os.File) int { return 0 }
