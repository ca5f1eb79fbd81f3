// SPDX-License-Identifier: Apache-2.0

package channel

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"

	"google.golang.org/grpc/serviceconfig"
)

// A service config in DNS
// (https://github.com/grpc/proposal/blob/master/A2-service-configs-in-dns.md).
const (
	textName   = "_grpc_config."
	textPrefix = "grpc_config="
)

// textEnabled reports whether TXT records are asked for, under the variable by
// which grpc-go's users switch them off.
func textEnabled() bool {
	on, err := strconv.ParseBool(os.Getenv("GRPC_ENABLE_TXT_SERVICE_CONFIG"))
	return on || err != nil
}

// lookUpConfig asks for the service config beside the addresses. The channel
// gets nil where there is none: no answer is no service config.
func (r *dnsResolver) lookUpConfig(ctx context.Context) <-chan *serviceconfig.ParseResult {
	result := make(chan *serviceconfig.ParseResult, 1)
	if r.text == nil {
		result <- nil
		return result
	}
	go func() {
		records, err := r.text(ctx, textName+r.host)
		if err != nil {
			result <- nil
			return
		}
		js, err := chooseConfig(records, thisClient())
		switch {
		case err != nil:
			result <- &serviceconfig.ParseResult{Err: err}
		case js == "":
			result <- nil
		default:
			result <- r.cc.ParseServiceConfig(js)
		}
	}()
	return result
}

// client is what the choices of a service config in DNS ask for.
type client struct {
	host    string
	percent int // 0 to 99, drawn
}

func thisClient() client {
	host, _ := os.Hostname()
	return client{host, rand.IntN(100)}
}

// chooseConfig returns the service config meant for c, "" if there is none.
func chooseConfig(records []string, c client) (string, error) {
	var text string
	for _, r := range records {
		if js, ok := strings.CutPrefix(r, textPrefix); ok {
			text = js
			break
		}
	}
	if text == "" {
		return "", nil
	}
	if len(text) > maxServiceConfig {
		return "", &ConfigError{Path: "the TXT record", Held: fmt.Sprintf("%d bytes", len(text)), Expected: fmt.Sprintf("at most %d", maxServiceConfig)}
	}
	choices, err := jsonField{"the TXT record", json.RawMessage(text)}.list()
	if err != nil {
		return "", err
	}
	for _, f := range choices {
		o, err := f.object()
		if err != nil {
			return "", err
		}
		mine, err := c.meant(o)
		if err != nil {
			return "", err
		}
		if sc, ok := o.get("serviceConfig"); ok && mine {
			return string(sc.raw), nil
		}
	}
	return "", nil
}

// meant reports whether a choice applies to c.
func (c client) meant(o jsonObject) (bool, error) {
	for _, want := range []struct{ name, value string }{{"clientLanguage", "go"}, {"clientHostName", c.host}} {
		f, ok := o.get(want.name)
		if !ok {
			continue
		}
		list, err := f.list()
		if err != nil {
			return false, err
		}
		found, err := contains(list, want.value)
		if err != nil || !found {
			return false, err
		}
	}
	if f, ok := o.get("percentage"); ok {
		const expected = "a whole number, 0 to 100"
		n, err := f.integer(0, expected)
		if err == nil && n > 100 {
			err = f.bad(expected, nil)
		}
		return c.percent < n, err
	}
	return true, nil
}

func contains(list []jsonField, value string) (bool, error) {
	var all []string
	for _, f := range list {
		s, err := f.text()
		if err != nil {
			return false, err
		}
		all = append(all, strings.ToLower(s))
	}
	return slices.Contains(all, strings.ToLower(value)), nil
}
