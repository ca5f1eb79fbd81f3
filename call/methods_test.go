// SPDX-License-Identifier: Apache-2.0

package call

import (
	"context"
	"errors"
	"io"
	"math"
	"math/rand/v2"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"

	"github.com/faultline-rpc/faultline/channel"
	"github.com/faultline-rpc/faultline/fault"
	"github.com/faultline-rpc/faultline/internal/peer"
)

func methodConfig(fields string) string { return `{"methodConfig":[{"name":[{}],` + fields + `}]}` }

// The service config's timeout and the program's: the earlier one counts.
func TestMethodTimeout(t *testing.T) {
	for _, tc := range []struct {
		name       string
		configured string
		own        time.Duration
		want       time.Duration
		from       error
		entry      *fault.Entry
		processed  fault.Processed
	}{
		{"configured", "2s", 0, 2 * time.Second, errMethodTimeout, fault.CallDeadline, fault.Maybe},
		{"configured is earlier", "2s", time.Minute, 2 * time.Second, errMethodTimeout, fault.CallDeadline, fault.Maybe},
		{"the program's is earlier", "2s", time.Second, time.Second, nil, fault.CallDeadline, fault.Maybe},
		{"nothing", "0s", 0, 0, nil, fault.CallDeadlinePast, fault.No},
	} {
		for form, do := range forms {
			t.Run(tc.name+"/"+form, func(t *testing.T) {
				s := peer.EachAtOnce(peer.Silence())
				under(t, s, methodConfig(`"timeout":"`+tc.configured+`"`), Config{}, func(t *testing.T, c *Caller) {
					ctx, cancel := context.Background(), context.CancelFunc(func() {})
					if tc.own > 0 {
						ctx, cancel = context.WithTimeout(ctx, tc.own)
					}
					defer cancel()
					begin := time.Now()
					_, err := do(c, ctx)
					f, ok := fault.From(err)
					if !ok || f.Entry() != tc.entry || f.Code() != codes.DeadlineExceeded || f.Processed() != tc.processed || !errors.Is(err, context.DeadlineExceeded) {
						t.Fatalf("%+v", err)
					}
					if tc.from != nil && !errors.Is(err, tc.from) {
						t.Errorf("the cause is not the service config: %+v", err)
					}
					if took := time.Since(begin).Round(100 * time.Millisecond); took != tc.want {
						t.Errorf("took %v, want %v", took, tc.want)
					}
					if l := f.Ledger(); l != nil && l.Budget.Round(100*time.Millisecond) != tc.want {
						t.Errorf("budget %v, want %v", l.Budget, tc.want)
					}
				})
			})
		}
	}
}

// Sizes: the smaller of the call's own and the service config's; without the
// call's own the service config's.
func TestMethodLimits(t *testing.T) {
	long := strings.Repeat("x", 100)
	for _, tc := range []struct {
		name   string
		fields string
		opts   []grpc.CallOption
		option string
		limit  int64
	}{
		{"request", `"maxRequestMessageBytes":3`, nil, "maxRequestMessageBytes of the service config", 3},
		{"response", `"maxResponseMessageBytes":50`, nil, "maxResponseMessageBytes of the service config", 50},
		{"the call's own is smaller", `"maxResponseMessageBytes":50`, []grpc.CallOption{grpc.MaxCallRecvMsgSize(40)}, "MaxCallRecvMsgSize", 40},
		{"the call's own is larger", `"maxResponseMessageBytes":50`, []grpc.CallOption{grpc.MaxCallRecvMsgSize(4000)}, "maxResponseMessageBytes of the service config", 50},
		{"enough", `"maxResponseMessageBytes":5000,"maxRequestMessageBytes":100`, nil, "", 0},
	} {
		for form, do := range forms {
			t.Run(tc.name+"/"+form, func(t *testing.T) {
				under(t, peer.Each(peer.OK(text(long))), methodConfig(tc.fields), Config{}, func(t *testing.T, c *Caller) {
					for range 2 { // storage is used again
						_, err := do(c, context.Background(), tc.opts...)
						if tc.option == "" {
							if err != nil {
								t.Error(err)
							}
							continue
						}
						f, ok := fault.From(err)
						if !ok || f.Entry() != fault.CodecTooLarge || f.Evidence().Option != tc.option || f.Evidence().Limit != tc.limit {
							t.Errorf("%+v", err)
						}
					}
				})
			})
		}
	}
}

// waitForReady applies to calls that do not say.
func TestMethodWaitForReady(t *testing.T) {
	for _, tc := range []struct {
		fields string
		opts   []grpc.CallOption
		entry  *fault.Entry
	}{
		{`"waitForReady":true`, nil, fault.CallDeadline},
		{`"waitForReady":true`, []grpc.CallOption{grpc.WaitForReady(false)}, fault.DialFailed},
		{`"waitForReady":false`, nil, fault.DialFailed},
		{`"waitForReady":false`, []grpc.CallOption{grpc.WaitForReady(true)}, fault.CallDeadline},
	} {
		synctest.Test(t, func(t *testing.T) {
			c, ch := clientWith(t, func(context.Context, string) (net.Conn, error) { return nil, io.ErrClosedPipe }, methodConfig(tc.fields), Config{})
			defer ch.Close()
			for form, do := range forms {
				ctx, cancel := context.WithTimeout(context.Background(), time.Second)
				_, err := do(c, ctx, tc.opts...)
				cancel()
				if f, ok := fault.From(err); !ok || f.Entry() != tc.entry {
					t.Errorf("%s, %v: %+v", form, tc.fields, err)
				}
			}
		})
	}
}

// unresolved is a service config that never comes.
type unresolved struct{}

func (unresolved) WaitForConfig(ctx context.Context) error {
	<-ctx.Done()
	return &channel.PickInterrupted{Phase: "resolve", Cause: context.Cause(ctx)}
}
func (unresolved) MethodConfig(string) *channel.MethodConfig { return nil }
func (unresolved) RetryThrottling() *channel.RetryThrottling { return nil }

func TestWaitForConfig(t *testing.T) {
	for form, do := range forms {
		t.Run(form, func(t *testing.T) {
			against(t, peer.Each(peer.OK(text("pong"))), Config{}, func(t *testing.T, c *Caller) {
				c.cfg.Methods = unresolved{}
				ctx, cancel := context.WithTimeout(context.Background(), time.Second)
				defer cancel()
				_, err := do(c, ctx)
				(&circumstance{entry: fault.CallDeadline, code: codes.DeadlineExceeded, side: fault.Local, processed: fault.No,
					waiting: "resolve", says: "resolving the name"}).judge(t, err)
			})
		})
	}
}

func TestBackoff(t *testing.T) {
	p := &channel.RetryPolicy{InitialBackoff: 100 * time.Millisecond, MaxBackoff: time.Second, BackoffMultiplier: 3}
	for n, nominal := range []time.Duration{100 * time.Millisecond, 300 * time.Millisecond, 900 * time.Millisecond, time.Second, time.Second} {
		for r, share := range map[float64]float64{0: 0.8, 0.5: 1, 1: 1.2} {
			want := time.Duration(float64(nominal) * share)
			if got := backoff(p, n, func() float64 { return r }); (got - want).Abs() > time.Microsecond {
				t.Errorf("backoff %d with %v: %v, want %v", n, r, got, want)
			}
		}
	}
	for range 1000 {
		if d := backoff(p, 0, rand.Float64); d < 80*time.Millisecond || d >= 120*time.Millisecond {
			t.Fatal(d)
		}
	}
	huge := &channel.RetryPolicy{InitialBackoff: 1, MaxBackoff: math.MaxInt64, BackoffMultiplier: math.MaxFloat64}
	for _, n := range []int{0, 1, 9, math.MaxInt32} {
		if d := backoff(huge, n, rand.Float64); d < 0 {
			t.Errorf("backoff %d is %v", n, d)
		}
	}
}

func FuzzPushback(f *testing.F) {
	for _, s := range []string{"", "0", "1500", "-1", "soon", "1.5", "99999999999999999999", "+7", " 1"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		wait, said, stop := readPushback(metadata.Pairs(pushbackKey, s))
		if said == stop || wait < 0 || stop && wait != 0 {
			t.Errorf("%q: %v, %v, %v", s, wait, said, stop)
		}
	})
}

func TestPushback(t *testing.T) {
	for _, tc := range []struct {
		md   metadata.MD
		wait time.Duration
		said bool
		stop bool
	}{
		{nil, 0, false, false},
		{metadata.Pairs(pushbackKey, "0"), 0, true, false},
		{metadata.Pairs(pushbackKey, "1500"), 1500 * time.Millisecond, true, false},
		{metadata.Pairs(pushbackKey, "-1"), 0, false, true},
		{metadata.Pairs(pushbackKey, "1.5"), 0, false, true},
		{metadata.Pairs(pushbackKey, "2147483648"), 0, false, true},
		{metadata.Pairs(pushbackKey, "1", pushbackKey, "1"), 0, false, true},
	} {
		if wait, said, stop := readPushback(tc.md); wait != tc.wait || said != tc.said || stop != tc.stop {
			t.Errorf("%v: %v, %v, %v", tc.md, wait, said, stop)
		}
	}
}

func TestBucket(t *testing.T) {
	conf := &channel.RetryThrottling{MaxTokens: 4, TokenRatio: 0.5}
	c := New(Config{})
	c.succeeded() // a bucket that nobody has met
	b := c.bucket(conf)
	if c.bucket(conf) != b || c.bucket(nil) != nil {
		t.Error("the bucket of the same values changed")
	}
	for i, want := range []bool{true, false, false, false, false} {
		if b.failure(); b.open() != want {
			t.Errorf("after failure %d: open %v, want %v", i+1, b.open(), want)
		}
	}
	for i := range 10 { // from 0 in steps of a half
		if c.succeeded(); b.open() != (i >= 4) {
			t.Errorf("after success %d: open %v", i+1, b.open())
		}
	}
	if n := b.tokens.Load(); n != 4*perToken {
		t.Errorf("%d thousandths, want 4000", n)
	}
	again := &channel.RetryThrottling{MaxTokens: 4, TokenRatio: math.MaxFloat64}
	if b2 := c.bucket(again); b2 == b || b2.ratio != 4*perToken {
		t.Errorf("new values: %+v", b2)
	}
	var none *bucket
	if none.failure(); !none.open() {
		t.Error("no bucket throttles")
	}
}
