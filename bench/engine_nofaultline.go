// SPDX-License-Identifier: Apache-2.0

//go:build !faultline

package main

// faultlineEngines is empty in a build without the tag faultline: the other engines can be measured by themselves.
func faultlineEngines() []engine { return nil }
