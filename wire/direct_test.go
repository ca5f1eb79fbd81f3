// SPDX-License-Identifier: Apache-2.0

package wire

import (
	"strings"
	"sync"
	"testing"
	"testing/synctest"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/faultline-rpc/faultline/codec"
	"github.com/faultline-rpc/faultline/fault"
)

// text is a message on the wire.
func text(t *testing.T, s string) []byte {
	t.Helper()
	p, err := proto.Marshal(wrapperspb.String(s))
	if err != nil {
		t.Fatal(err)
	}
	return framed(p)
}

// Where a message for which a program waits goes: into the program's own, or
// the way of all others. Either way its window and its budget come back.
func TestDirect(t *testing.T) {
	compressed := text(t, "x")
	compressed[0] = 1
	for _, c := range []struct {
		name    string
		msg     []byte
		limit   int
		decoded bool
	}{
		{"small", text(t, "hello"), 1 << 20, true},
		{"empty", framed(nil), 1 << 20, true},
		{"largest", text(t, strings.Repeat("x", maxDirect-3)), 1 << 20, true},
		{"too large", text(t, strings.Repeat("x", maxDirect)), 1 << 20, false},
		{"compressed", compressed, 1 << 20, false},
		{"garbage", framed([]byte{0xff, 0xff}), 1 << 20, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				budget := NewBudget(1 << 20)
				r := &receiver{limit: codec.Limit{Bytes: c.limit}, garbage: fault.CodecResponseParse, account: &account{budget: budget}}
				var got wrapperspb.StringValue
				var m Message
				var credit int
				var err error
				go func() { m, credit, err = r.take(nil, codec.Codec{}.Direct(&got)) }()
				synctest.Wait()
				now, bad := r.data(c.msg, testBuf(), false)
				synctest.Wait()
				if bad != nil || err != nil || m.Decoded != c.decoded {
					t.Fatalf("data: %v; take: %+v, %v; want decoded %v", bad, m, err, c.decoded)
				}
				if !c.decoded && string(m.Data) != string(c.msg[codec.PrefixLen:]) {
					t.Errorf("message % x, want % x", m.Data, c.msg[codec.PrefixLen:])
				}
				if again, _ := proto.Marshal(&got); c.decoded && string(again) != string(c.msg[codec.PrefixLen:]) {
					t.Errorf("decoded %q from % x", got.Value, c.msg)
				}
				if now+credit != len(c.msg) || budget.used.Load() != 0 || r.queued != 0 || r.got != 1 {
					t.Errorf("credit %d and %d for %d bytes, budget used %d, queued %d, got %d", now, credit, len(c.msg), budget.used.Load(), r.queued, r.got)
				}
				m.Free()
			})
		})
	}
}

// Once a wait has ended, nothing is written to the message that it named.
func TestDirectEndsWithItsWait(t *testing.T) {
	for range 200 {
		r := &receiver{limit: codec.Limit{Bytes: 1 << 20}, garbage: fault.CodecResponseParse}
		var got wrapperspb.StringValue
		done := make(chan struct{})
		msg := text(t, "late")
		var wg sync.WaitGroup
		wg.Go(func() { close(done) })
		wg.Go(func() { _, _ = r.data(msg, testBuf(), false) })
		m, _, err := r.take(done, codec.Codec{}.Direct(&got))
		value := got.Value // races with the reader, were it still writing
		wg.Wait()
		switch {
		case err == ErrDone && value == "" && got.Value == "":
		case err == nil && (m.Decoded && value == "late" || string(m.Data) == string(msg[codec.PrefixLen:])):
		default:
			t.Fatalf("take: %+v, %v with %q, afterwards %q", m, err, value, got.Value)
		}
		m.Free()
	}
}

// crasher is a message with code of its own.
type crasher struct{ *wrapperspb.StringValue }

func (crasher) ProtoReflect() protoreflect.Message { panic("a program's own code") }

func TestDirectPanics(t *testing.T) {
	m := crasher{new(wrapperspb.StringValue)}
	if (codec.Codec{}).Direct(m).Decode(nil) {
		t.Error("a panic was called success")
	}
}
