// SPDX-License-Identifier: Apache-2.0

// Package near finds the name that was probably meant.
// It carries no compatibility promise.
package near
