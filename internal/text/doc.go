// SPDX-License-Identifier: Apache-2.0

// Package text fits words to lines and terminals.
// It carries no compatibility promise.
package text
