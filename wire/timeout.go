// SPDX-License-Identifier: Apache-2.0

package wire

import (
	"errors"
	"fmt"
	"math"
	"strconv"
	"time"
)

// timeoutUnits are the units of PROTOCOL-HTTP2's TimeoutUnit, finest first.
var timeoutUnits = [...]struct {
	letter byte
	length time.Duration
}{
	{'n', time.Nanosecond},
	{'u', time.Microsecond},
	{'m', time.Millisecond},
	{'S', time.Second},
	{'M', time.Minute},
	{'H', time.Hour},
}

// maxTimeoutValue is the largest TimeoutValue: "at most 8 digits".
const maxTimeoutValue = 99_999_999

// AppendTimeout appends the value of grpc-timeout for d to dst, in the finest
// unit that eight digits can hold. It rounds up, so that the server does not
// give up before the client. What is not positive becomes "0n".
func AppendTimeout(dst []byte, d time.Duration) []byte {
	d = max(d, 0)
	for _, u := range timeoutUnits {
		n := d / u.length
		if d%u.length > 0 {
			n++
		}
		// The hours of any time.Duration fit, so the loop ends here.
		if n <= maxTimeoutValue {
			dst = strconv.AppendInt(dst, int64(n), 10)
			return append(dst, u.letter)
		}
	}
	return dst
}

var errTimeoutLength = errors.New("want 1 to 8 digits and a unit")

// ParseTimeout reads a value of grpc-timeout: one to eight ASCII digits and
// one of the units H, M, S, m, u, n (PROTOCOL-HTTP2, Timeout). A timeout
// longer than a time.Duration can hold becomes the longest one. The error does
// not quote the value.
func ParseTimeout(s string) (time.Duration, error) {
	if len(s) < 2 || len(s) > 9 {
		return 0, errTimeoutLength
	}
	var n int64
	for i := 0; i < len(s)-1; i++ {
		c := s[i]
		if c < '0' || c > '9' {
			return 0, fmt.Errorf("byte %d is %q, want a digit", i, c)
		}
		n = n*10 + int64(c-'0')
	}
	for _, u := range timeoutUnits {
		if u.letter != s[len(s)-1] {
			continue
		}
		if n > math.MaxInt64/int64(u.length) {
			return math.MaxInt64, nil
		}
		return time.Duration(n) * u.length, nil
	}
	return 0, fmt.Errorf("unit is %q, want one of H, M, S, m, u, n", s[len(s)-1])
}
