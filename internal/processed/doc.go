// SPDX-License-Identifier: Apache-2.0

// Package processed holds the proof that what a fault says of its call's processing is what is known of it.
//
// There is no code here but the test, which makes calls through every kind of
// trouble and has three witnesses of each: the fault that the program gets, a
// ledger of the handlers that ran, and a tap on the client's end of the wire
// which another HTTP/2 implementation than ours reads.
package processed
