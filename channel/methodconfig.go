// SPDX-License-Identifier: Apache-2.0

package channel

import (
	"math"
	"strings"
	"time"

	"google.golang.org/grpc/codes"
)

// MethodConfig is what a service config says of a method. It is shared: do not
// change it. What is nil is not said.
type MethodConfig struct {
	// Timeout bounds calls whose context does not end earlier.
	Timeout *time.Duration
	// WaitForReady applies to calls that do not say.
	WaitForReady *bool
	// MaxReq and MaxResp bound messages, in bytes. A call's own smaller limit
	// stays.
	MaxReq, MaxResp *int
	// Retry and Hedging exclude each other.
	Retry   *RetryPolicy
	Hedging *HedgingPolicy
}

// RetryPolicy is gRFC A6's retryPolicy.
type RetryPolicy struct {
	MaxAttempts       int // 2 to the channel's cap, the first attempt included
	InitialBackoff    time.Duration
	MaxBackoff        time.Duration
	BackoffMultiplier float64
	Retryable         CodeSet // never empty
}

// HedgingPolicy is gRFC A6's hedgingPolicy.
type HedgingPolicy struct {
	MaxAttempts int           // 2 to the channel's cap, the first attempt included
	Delay       time.Duration // between attempts; 0 sends all at once
	NonFatal    CodeSet       // codes upon which the others go on
}

// RetryThrottling is gRFC A6's retryThrottling. A new pointer means new values.
type RetryThrottling struct {
	MaxTokens  float64 // more than 0, at most 1000
	TokenRatio float64 // more than 0, three decimals
}

// CodeSet is a set of status codes.
type CodeSet uint32

// Has reports whether c is in the set.
func (s CodeSet) Has(c codes.Code) bool { return c < 32 && s&(1<<c) != 0 }

// defaultMaxAttempts is how many attempts gRFC A6 permits at most.
const defaultMaxAttempts = 5

// methodConfigs reads the methodConfig list into a table by "/service/method",
// "/service/" and "".
func methodConfigs(f jsonField, maxAttempts int) (map[string]*MethodConfig, error) {
	list, err := f.list()
	if err != nil {
		return nil, err
	}
	table := map[string]*MethodConfig{}
	for _, entry := range list {
		o, err := entry.object()
		if err != nil {
			return nil, err
		}
		mc, err := readMethodConfig(o, maxAttempts)
		if err != nil {
			return nil, err
		}
		if err := nameMethods(o, mc, table); err != nil {
			return nil, err
		}
	}
	return table, nil
}

// nameMethods enters mc under its names.
func nameMethods(o jsonObject, mc *MethodConfig, table map[string]*MethodConfig) error {
	f, ok := o.get("name")
	if !ok {
		return nil // it applies to nothing
	}
	names, err := f.list()
	if err != nil {
		return err
	}
	for _, n := range names {
		name, err := n.object()
		if err != nil {
			return err
		}
		var part [2]string
		for i, key := range []string{"service", "method"} {
			if p, ok := name.get(key); ok {
				if part[i], err = p.text(); err != nil {
					return err
				}
			}
		}
		key := "/" + part[0] + "/" + part[1]
		if part[0] == "" {
			if part[1] != "" {
				return n.bad("a service beside the method", nil)
			}
			key = ""
		}
		if table[key] != nil {
			return n.bad("a name that no other entry of methodConfig has", nil)
		}
		table[key] = mc
	}
	return nil
}

func readMethodConfig(o jsonObject, maxAttempts int) (*MethodConfig, error) {
	mc := &MethodConfig{}
	if f, ok := o.get("timeout"); ok {
		d, err := f.duration(false)
		if err != nil {
			return nil, err
		}
		mc.Timeout = &d
	}
	if f, ok := o.get("waitForReady"); ok {
		b, err := f.boolean()
		if err != nil {
			return nil, err
		}
		mc.WaitForReady = &b
	}
	for _, limit := range []struct {
		name string
		to   **int
	}{{"maxRequestMessageBytes", &mc.MaxReq}, {"maxResponseMessageBytes", &mc.MaxResp}} {
		if f, ok := o.get(limit.name); ok {
			n, err := f.integer(0, "a number of bytes")
			if err != nil {
				return nil, err
			}
			*limit.to = &n
		}
	}
	retry, retries := o.get("retryPolicy")
	hedging, hedges := o.get("hedgingPolicy")
	var err error
	switch {
	case retries && hedges:
		return nil, hedging.bad("no hedgingPolicy beside a retryPolicy", nil)
	case retries:
		mc.Retry, err = readRetry(retry, maxAttempts)
	case hedges:
		mc.Hedging, err = readHedging(hedging, maxAttempts)
	}
	return mc, err
}

const expectedAttempts = "a whole number of attempts, 2 or more"

func readAttempts(o jsonObject, limit int) (int, error) {
	f, err := o.need("maxAttempts", expectedAttempts)
	if err != nil {
		return 0, err
	}
	n, err := f.integer(2, expectedAttempts)
	return min(n, limit), err
}

// readRetry reads a retryPolicy under the rules of gRFC A6.
func readRetry(f jsonField, limit int) (*RetryPolicy, error) {
	o, err := f.object()
	if err != nil {
		return nil, err
	}
	p := &RetryPolicy{}
	if p.MaxAttempts, err = readAttempts(o, limit); err != nil {
		return nil, err
	}
	for _, d := range []struct {
		name string
		to   *time.Duration
	}{{"initialBackoff", &p.InitialBackoff}, {"maxBackoff", &p.MaxBackoff}} {
		f, err := o.need(d.name, `a duration such as "0.1s"`)
		if err != nil {
			return nil, err
		}
		if *d.to, err = f.duration(true); err != nil {
			return nil, err
		}
	}
	if p.BackoffMultiplier, err = positive(o, "backoffMultiplier", math.MaxFloat64); err != nil {
		return nil, err
	}
	const expected = "a list of one status code or more"
	if f, err = o.need("retryableStatusCodes", expected); err != nil {
		return nil, err
	}
	if p.Retryable, err = f.codes(); err == nil && p.Retryable == 0 {
		err = f.bad(expected, nil)
	}
	return p, err
}

// readHedging reads a hedgingPolicy under the rules of gRFC A6.
func readHedging(f jsonField, limit int) (*HedgingPolicy, error) {
	o, err := f.object()
	if err != nil {
		return nil, err
	}
	p := &HedgingPolicy{}
	if p.MaxAttempts, err = readAttempts(o, limit); err != nil {
		return nil, err
	}
	if f, ok := o.get("hedgingDelay"); ok {
		if p.Delay, err = f.duration(false); err != nil {
			return nil, err
		}
	}
	if f, ok := o.get("nonFatalStatusCodes"); ok {
		p.NonFatal, err = f.codes()
	}
	return p, err
}

// readThrottling reads retryThrottling under the rules of gRFC A6: decimals
// after the third are ignored.
func readThrottling(f jsonField) (*RetryThrottling, error) {
	o, err := f.object()
	if err != nil {
		return nil, err
	}
	t := &RetryThrottling{}
	if t.MaxTokens, err = positive(o, "maxTokens", 1000); err != nil {
		return nil, err
	}
	if t.TokenRatio, err = positive(o, "tokenRatio", math.MaxFloat64); err != nil {
		return nil, err
	}
	if t.TokenRatio < 0.001 {
		f, _ := o.get("tokenRatio")
		return nil, f.bad("a number of 0.001 or more", nil)
	}
	if t.TokenRatio < 1<<40 {
		t.TokenRatio = math.Floor(t.TokenRatio*1000+1e-6) / 1000
	}
	return t, nil
}

// positive reads a required number that is more than 0 and at most limit.
func positive(o jsonObject, name string, limit float64) (float64, error) {
	expected := "a number more than 0"
	if limit < math.MaxFloat64 {
		expected += " and at most 1000"
	}
	f, err := o.need(name, expected)
	if err != nil {
		return 0, err
	}
	v, err := f.number(expected)
	if err == nil && (v <= 0 || v > limit) {
		err = f.bad(expected, nil)
	}
	return v, err
}

// method finds what is said of "/service/method": by the method, by its
// service, or by default.
func (sc *ServiceConfig) method(name string) *MethodConfig {
	if len(sc.methods) == 0 {
		return nil
	}
	if mc := sc.methods[name]; mc != nil {
		return mc
	}
	if mc := sc.methods[name[:strings.LastIndexByte(name, '/')+1]]; mc != nil {
		return mc
	}
	return sc.methods[""]
}
