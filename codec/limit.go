// SPDX-License-Identifier: Apache-2.0

package codec

import (
	"math"

	"github.com/faultline-rpc/faultline/fault"
)

// The limits that hold where no option sets one, in bytes. They are grpc-go's.
const (
	DefaultMaxSend = math.MaxInt32
	DefaultMaxRecv = 4 << 20
)

// PrefixLen is the length of what precedes each message: one byte of flags
// and four of length (gRPC over HTTP/2, Length-Prefixed-Message).
const PrefixLen = 5

// Limit is the size allowed to a message.
type Limit struct {
	// Bytes is the size of the largest message allowed, without prefix. It
	// holds before compression and after it.
	Bytes int
	// Option names what set the limit, for the reader of the fault:
	// "MaxCallSendMsgSize", say.
	Option string
}

// Form says in which form a message met a limit. With "larger than max" behind
// it, it is grpc-go's text, which programs and alerts look for.
type Form string

// The forms.
const (
	Sent             Form = "trying to send message"
	SentCompressed   Form = "trying to send message (compressed)"
	Received         Form = "received message"
	ReceivedInflated Form = "received message after decompression"
)

// Exceeded stamps codec.too-large: a message of size bytes in that form met
// the limit. A negative size means that it was cut off and is not known. What
// is known of the handler is the caller's to add, by
// [fault.Fault.WithProcessed].
func (l Limit) Exceeded(form Form, size int64) *fault.Fault {
	a := fault.Args{Side: fault.Local, Evidence: &fault.Evidence{Option: l.Option, Limit: int64(l.Bytes), Size: max(size, 0)}}
	by := "this side's limit"
	if l.Option != "" {
		by += " " + l.Option
	}
	if size < 0 {
		return fault.CodecTooLarge.Newf(a, "%s larger than max: more than the %d bytes that %s allows", form, l.Bytes, by)
	}
	return fault.CodecTooLarge.Newf(a, "%s larger than max: %d bytes, %s allows %d", form, size, by, l.Bytes)
}
