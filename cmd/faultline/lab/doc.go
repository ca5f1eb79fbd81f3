// SPDX-License-Identifier: Apache-2.0

// Package lab keeps sick and healthy peers on loopback for the doctor to diagnose.
//
// A peer is a real server, ours or grpc-go's, or a script that breaks one rule.
// What each suffers from is known, so that the lab is a demonstration and a
// test at once. It belongs to the command faultline and carries no
// compatibility promise.
package lab
