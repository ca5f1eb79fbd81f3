// SPDX-License-Identifier: Apache-2.0

package channel

import (
	"context"
	"encoding/json"
	"errors"
	"math"
	"reflect"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/resolver"
)

func ptr[T any](v T) *T { return &v }

func TestServiceConfigPolicy(t *testing.T) {
	for js, policy := range map[string]string{
		`{}`:                                   "",
		`{"loadBalancingPolicy":"pick_first"}`: "pick_first",
		`{"loadBalancingPolicy":"no_such"}`:    "",
		`{"loadBalancingConfig":[{"no_such":{}},{"pick_first":{}}]}`:                      "pick_first",
		`{"loadBalancingConfig":null}`:                                                    "",
		`{"loadBalancingPolicy":"pick_first","loadBalancingConfig":[{"round_robin":{}}]}`: "round_robin",
		`{"methodConfig":[{"name":[{}]}],"loadBalancingPolicy":"no_such"}`:                "",
	} {
		sc, err := parseServiceConfig(js, 5)
		if err != nil || sc.Policy != policy || sc.JSON != js {
			t.Errorf("%s: %+v, %v; want policy %q", js, sc, err, policy)
		}
	}
}

func TestMethodConfig(t *testing.T) {
	sc, err := parseServiceConfig(`{
		"methodConfig": [
			{"name": [{"service": "shop.Orders", "method": "Place"}], "timeout": "1.5s", "waitForReady": true,
			 "maxRequestMessageBytes": 1024, "maxResponseMessageBytes": "2048",
			 "retryPolicy": {"MaxAttempts": 9, "initialBackoff": ".01s", "maxBackoff": "1s", "backoffMultiplier": 2,
			   "retryableStatusCodes": ["unavailable", 10], "unknown": [1]}},
			{"name": [{"service": "shop.Orders"}, {"service": "shop.Carts", "method": ""}],
			 "hedgingPolicy": {"maxAttempts": 3, "hedgingDelay": "0.2s", "nonFatalStatusCodes": ["INTERNAL"]}},
			{"name": [{}], "waitForReady": false, "timeout": "9223372036s"},
			{"timeout": "1s"}
		],
		"retryThrottling": {"maxTokens": 10, "tokenRatio": 0.12345},
		"healthCheckConfig": {"serviceName": "shop"},
		"unknown": {"a": 1}}`, 4)
	if err != nil {
		t.Fatal(err)
	}
	place := &MethodConfig{Timeout: ptr(1500 * time.Millisecond), WaitForReady: ptr(true), MaxReq: ptr(1024), MaxResp: ptr(2048),
		Retry: &RetryPolicy{MaxAttempts: 4, InitialBackoff: 10 * time.Millisecond, MaxBackoff: time.Second, BackoffMultiplier: 2,
			Retryable: 1<<codes.Unavailable | 1<<codes.Aborted}}
	hedged := &MethodConfig{Hedging: &HedgingPolicy{MaxAttempts: 3, Delay: 200 * time.Millisecond, NonFatal: 1 << codes.Internal}}
	rest := &MethodConfig{WaitForReady: ptr(false), Timeout: ptr(time.Duration(math.MaxInt64))}
	for name, want := range map[string]*MethodConfig{
		"/shop.Orders/Place": place, "/shop.Orders/Cancel": hedged, "/shop.Carts/Add": hedged, "/other/M": rest, "": rest, "odd": rest,
	} {
		if got := sc.method(name); !reflect.DeepEqual(got, want) {
			t.Errorf("%s: %+v, want %+v", name, got, want)
		}
	}
	if !place.Retry.Retryable.Has(codes.Unavailable) || place.Retry.Retryable.Has(codes.OK) || place.Retry.Retryable.Has(77) {
		t.Error("CodeSet.Has is wrong")
	}
	if got := *sc.Throttling; got != (RetryThrottling{10, 0.123}) {
		t.Errorf("throttling %+v", got)
	}
	if *sc.Health != "shop" {
		t.Errorf("health %q", *sc.Health)
	}
	if n := testing.AllocsPerRun(100, func() { sc.method("/shop.Orders/Cancel") }); n != 0 {
		t.Errorf("%v allocations per look-up", n)
	}
}

func TestDurations(t *testing.T) {
	for in, want := range map[string]time.Duration{
		`"0s"`: 0, `"1s"`: time.Second, `"1.s"`: time.Second, `"0.000000001s"`: 1, `"1.000340012s"`: 1000340012, `"3.5s"`: 3500 * time.Millisecond,
		`"315576000000s"`: math.MaxInt64, `"9223372035s"`: 9223372035 * time.Second,
	} {
		if got, err := (jsonField{raw: json.RawMessage(in)}).duration(false); err != nil || got != want {
			t.Errorf("%s: %v, %v; want %v", in, got, err, want)
		}
	}
	for _, in := range []string{`1`, `"1"`, `"s"`, `".s"`, `"-1s"`, `"+1s"`, `"1.0000000001s"`, `"1m"`, `"1e3s"`, `"1.1.1s"`, `"315576000001s"`,
		`"99999999999999999999999s"`, `" 1s"`} {
		if got, err := (jsonField{raw: json.RawMessage(in)}).duration(false); err == nil {
			t.Errorf("%s: %v, want an error", in, got)
		}
	}
}

// An error names the field, what it holds and what was expected.
func TestServiceConfigComplaints(t *testing.T) {
	method := func(s string) string { return `{"methodConfig":[{"name":[{"service":"s"}],` + s + `}]}` }
	retry := func(s string) string { return method(`"retryPolicy":{` + s + `}`) }
	const good = `"maxAttempts":2,"initialBackoff":"1s","maxBackoff":"1s","backoffMultiplier":1`
	tests := []struct{ js, want string }{
		{``, `the JSON object is missing; expected one, {} at least`},
		{`null`, `the JSON object is missing; expected one, {} at least`},
		{`[]`, ` holds []; expected a JSON object`},
		{`{"a":}`, ` holds {"a":}; expected JSON: byte 6: invalid character '}' looking for beginning of value`},
		{strings.Repeat(" ", maxServiceConfig+1), `the JSON holds 1048577 bytes; expected at most 1048576`},
		{`{"loadBalancingPolicy":3}`, `loadBalancingPolicy holds 3; expected a string`},
		{`{"loadBalancingConfig":[{"no_such":{}}]}`, `loadBalancingConfig holds [{"no_such":{}}]; expected a policy that is registered, such as pick_first or one whose package is imported`},
		{`{"loadBalancingConfig":[{"a":{},"b":{}}]}`, `loadBalancingConfig[0] holds {"a":{},"b":{}}; expected an object with one field, a policy's name`},
		{`{"loadBalancingConfig":[{"pick_first":{"shuffleAddressList":3}}]}`, `loadBalancingConfig[0].pick_first holds {"shuffleAddressList":3}; expected a configuration that the policy accepts: pickfirst: unable`},
		{`{"methodConfig":{}}`, `methodConfig holds {}; expected a list`},
		{`{"methodConfig":[7]}`, `methodConfig[0] holds 7; expected an object`},
		{`{"methodConfig":[{"name":[null]}]}`, `methodConfig[0].name[0] holds null; expected an object`},
		{`{"methodConfig":[{"name":[{"service":1}]}]}`, `methodConfig[0].name[0].service holds 1; expected a string`},
		{`{"methodConfig":[{"name":[{"method":"m"}]}]}`, `methodConfig[0].name[0] holds {"method":"m"}; expected a service beside the method`},
		{`{"methodConfig":[{"name":[{}]},{"name":[{"service":""}]}]}`, `methodConfig[1].name[0] holds {"service":""}; expected a name that no other entry of methodConfig has`},
		{method(`"timeout":"1m"`), `methodConfig[0].timeout holds "1m"; expected a duration such as "1.5s"`},
		{method(`"waitForReady":1`), `methodConfig[0].waitForReady holds 1; expected true or false`},
		{method(`"maxRequestMessageBytes":-1`), `methodConfig[0].maxRequestMessageBytes holds -1; expected a number of bytes`},
		{method(`"maxResponseMessageBytes":1.5`), `methodConfig[0].maxResponseMessageBytes holds 1.5; expected a number of bytes`},
		{retry(``), `methodConfig[0].retryPolicy.maxAttempts is missing; expected a whole number of attempts, 2 or more`},
		{retry(`"maxAttempts":1`), `methodConfig[0].retryPolicy.maxAttempts holds 1; expected a whole number of attempts, 2 or more`},
		{retry(`"maxAttempts":2,"initialBackoff":"0s"`), `methodConfig[0].retryPolicy.initialBackoff holds "0s"; expected a duration such as "1.5s", more than 0`},
		{retry(`"maxAttempts":2,"initialBackoff":"1s"`), `methodConfig[0].retryPolicy.maxBackoff is missing; expected a duration such as "0.1s"`},
		{retry(`"maxAttempts":2,"initialBackoff":"1s","maxBackoff":"1s","backoffMultiplier":0`), `methodConfig[0].retryPolicy.backoffMultiplier holds 0; expected a number more than 0`},
		{retry(good), `methodConfig[0].retryPolicy.retryableStatusCodes is missing; expected a list of one status code or more`},
		{retry(good + `,"retryableStatusCodes":[]`), `methodConfig[0].retryPolicy.retryableStatusCodes holds []; expected a list of one status code or more`},
		{retry(good + `,"retryableStatusCodes":["NOPE"]`), `methodConfig[0].retryPolicy.retryableStatusCodes[0] holds "NOPE"; expected a status code, by name such as "UNAVAILABLE" or by number, 0 to 16`},
		{retry(good + `,"retryableStatusCodes":[14,17]`), `methodConfig[0].retryPolicy.retryableStatusCodes[1] holds 17; expected a status code`},
		{method(`"hedgingPolicy":{"maxAttempts":2,"hedgingDelay":1}`), `methodConfig[0].hedgingPolicy.hedgingDelay holds 1; expected a duration`},
		{method(`"hedgingPolicy":{"maxAttempts":2,"nonFatalStatusCodes":3}`), `methodConfig[0].hedgingPolicy.nonFatalStatusCodes holds 3; expected a list`},
		{method(`"hedgingPolicy":{},"retryPolicy":{}`), `methodConfig[0].hedgingPolicy holds {}; expected no hedgingPolicy beside a retryPolicy`},
		{method(`"hedgingPolicy":3`), `methodConfig[0].hedgingPolicy holds 3; expected an object`},
		{method(`"hedgingPolicy":{"maxAttempts":"two"}`), `methodConfig[0].hedgingPolicy.maxAttempts holds "two"; expected a whole number of attempts, 2 or more`},
		{`{"retryThrottling":{"maxTokens":1001,"tokenRatio":1}}`, `retryThrottling.maxTokens holds 1001; expected a number more than 0 and at most 1000`},
		{`{"retryThrottling":{"maxTokens":10,"tokenRatio":0.0005}}`, `retryThrottling.tokenRatio holds 0.0005; expected a number of 0.001 or more`},
		{`{"retryThrottling":{"maxTokens":10}}`, `retryThrottling.tokenRatio is missing; expected a number more than 0`},
		{`{"healthCheckConfig":"x"}`, `healthCheckConfig holds "x"; expected an object`},
		{`{"healthCheckConfig":{"serviceName":1}}`, `healthCheckConfig.serviceName holds 1; expected a string`},
		{`{"methodConfig":"` + strings.Repeat("x", 99) + `"}`, `methodConfig holds "` + strings.Repeat("x", 63) + `...; expected a list`},
	}
	for _, tt := range tests {
		sc, err := parseServiceConfig(tt.js, 5)
		var ce *ConfigError
		if sc != nil || !errors.As(err, &ce) || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%.80s:\n got %v\nwant %s", tt.js, err, tt.want)
		}
	}
}

func FuzzServiceConfig(f *testing.F) {
	for _, js := range []string{`{"loadBalancingConfig":[{"pick_first":{"shuffleAddressList":true}}]}`, `{"loadBalancingPolicy":"pick_first"}`,
		`{"loadBalancingConfig":[{}]}`, `[`, `{"methodConfig":[{"name":[{"service":"a","method":"b"},{}],"timeout":"1.5s"}]}`,
		`{"methodConfig":[{"retryPolicy":{"maxAttempts":2,"initialBackoff":"1s","maxBackoff":"1s","backoffMultiplier":1e9,"retryableStatusCodes":[1,"ABORTED"]}}]}`,
		`{"methodConfig":[{"hedgingPolicy":{"maxAttempts":"3","hedgingDelay":".1s"}}],"retryThrottling":{"maxTokens":3,"tokenRatio":1e300}}`} {
		f.Add(js)
	}
	f.Fuzz(func(t *testing.T, js string) {
		sc, err := parseServiceConfig(js, 5)
		if (sc == nil) == (err == nil) {
			t.Fatalf("%q: %v and %v", js, sc, err)
		}
		if err != nil {
			var ce *ConfigError
			if !errors.As(err, &ce) || ce.Expected == "" {
				t.Fatalf("%q: %T %v", js, err, err)
			}
			return
		}
		for name, mc := range sc.methods {
			if r := mc.Retry; r != nil && (r.MaxAttempts < 2 || r.MaxAttempts > 5 || r.InitialBackoff <= 0 || r.MaxBackoff <= 0 || !(r.BackoffMultiplier > 0) || r.Retryable == 0) {
				t.Fatalf("%q: %q has %+v", js, name, r)
			}
			if h := mc.Hedging; h != nil && (h.MaxAttempts < 2 || h.MaxAttempts > 5 || h.Delay < 0 || mc.Retry != nil) {
				t.Fatalf("%q: %q has %+v", js, name, h)
			}
			if sc.method(name) == nil {
				t.Fatalf("%q: %q is not found", js, name)
			}
		}
		if th := sc.Throttling; th != nil && !(th.MaxTokens > 0 && th.MaxTokens <= 1000 && th.TokenRatio > 0) {
			t.Fatalf("%q: %+v", js, th)
		}
	})
}

// Calls wait for the first service config, and throttling keeps its pointer as
// long as its values stay.
func TestWaitForConfig(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, f := &hand{}, &farm{serve: goodPeer}
		c := newChannel(t, "hand:///x", Config{Dialer: f.dial, Resolvers: []resolver.Builder{h.builder()}})
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		var pi *PickInterrupted
		if err := c.WaitForConfig(ctx); !errors.As(err, &pi) || pi.Phase != "resolve" {
			t.Fatalf("no result yet: %v", err)
		}
		if c.MethodConfig("/s/M") != nil || c.RetryThrottling() != nil {
			t.Error("a service config out of nothing")
		}
		got := make(chan error)
		go func() { got <- c.WaitForConfig(t.Context()) }()
		synctest.Wait()
		update := func(js string) *RetryThrottling {
			s := h.addrs("a")
			s.ServiceConfig = h.cc.ParseServiceConfig(js)
			if err := h.cc.UpdateState(s); err != nil {
				t.Fatal(err)
			}
			return c.RetryThrottling()
		}
		one := update(`{"retryThrottling":{"maxTokens":10,"tokenRatio":0.1},"methodConfig":[{"name":[{"service":"s"}],"timeout":"3s"}]}`)
		if err := <-got; err != nil {
			t.Errorf("WaitForConfig: %v", err)
		}
		if mc := c.MethodConfig("/s/M"); mc == nil || *mc.Timeout != 3*time.Second {
			t.Errorf("method config %+v", mc)
		}
		if n := testing.AllocsPerRun(100, func() { c.MethodConfig("/s/M"); _ = c.WaitForConfig(ctx) }); n != 0 {
			t.Errorf("%v allocations", n)
		}
		if two := update(`{"retryThrottling":{"tokenRatio":0.1,"maxTokens":10}}`); two != one {
			t.Error("the same values have another pointer")
		}
		if three := update(`{"retryThrottling":{"tokenRatio":0.2,"maxTokens":10}}`); three == one || three.TokenRatio != 0.2 {
			t.Errorf("other values: %+v", three)
		}
		if update(`{}`) != nil {
			t.Error("throttling stays without being configured")
		}
	})
}

// A resolver that fails lets calls go on, by the default service config.
func TestWaitForConfigEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := &hand{}
		c := newChannel(t, "hand:///x", Config{Resolvers: []resolver.Builder{h.builder()},
			DefaultServiceConfig: `{"methodConfig":[{"name":[{}],"waitForReady":true}]}`})
		got := make(chan error)
		go func() { got <- c.WaitForConfig(t.Context()) }()
		synctest.Wait()
		h.cc.ReportError(errCustom)
		if err := <-got; err != nil || !*c.MethodConfig("/s/M").WaitForReady {
			t.Errorf("%v, %+v", err, c.MethodConfig("/s/M"))
		}
		d := newChannel(t, "hand:///x", Config{Resolvers: []resolver.Builder{h.builder()}})
		go func() { got <- d.WaitForConfig(t.Context()) }()
		synctest.Wait()
		d.Close()
		if err := <-got; err != nil {
			t.Errorf("closed: %v", err)
		}
		if err := d.WaitForConfig(t.Context()); err != nil {
			t.Errorf("closed before: %v", err)
		}
	})
}
