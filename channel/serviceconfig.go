// SPDX-License-Identifier: Apache-2.0

package channel

import (
	"context"
	"fmt"

	"google.golang.org/grpc/balancer"
	"google.golang.org/grpc/balancer/pickfirst"
	"google.golang.org/grpc/serviceconfig"
)

// maxServiceConfig bounds a service config's JSON, in bytes.
const maxServiceConfig = 1 << 20

// ServiceConfig is a service config
// (https://github.com/grpc/grpc/blob/master/doc/service_config.md). It is
// immutable.
type ServiceConfig struct {
	serviceconfig.Config

	JSON     string
	Policy   string // a registered balancer's name
	PolicyLB serviceconfig.LoadBalancingConfig
	// Throttling is nil where retries are not throttled.
	Throttling *RetryThrottling
	// Health is the service whose health is watched (gRFC A17), nil for none.
	Health *string

	methods map[string]*MethodConfig
}

// noConfig stands for the service config of a channel that has none.
var noConfig = &ServiceConfig{}

// parseServiceConfig reads a service config. Unknown fields are ignored. The
// error is a *ConfigError. maxAttempts caps retries and hedges.
func parseServiceConfig(js string, maxAttempts int) (*ServiceConfig, error) {
	if len(js) > maxServiceConfig {
		return nil, &ConfigError{Path: "the JSON", Held: fmt.Sprintf("%d bytes", len(js)),
			Expected: fmt.Sprintf("at most %d", maxServiceConfig)}
	}
	o, err := readObject(js)
	if err != nil {
		return nil, err
	}
	sc := &ServiceConfig{JSON: js}
	if err := sc.readPolicy(o); err != nil {
		return nil, err
	}
	if f, ok := o.get("methodConfig"); ok {
		if sc.methods, err = methodConfigs(f, maxAttempts); err != nil {
			return nil, err
		}
	}
	if f, ok := o.get("retryThrottling"); ok {
		if sc.Throttling, err = readThrottling(f); err != nil {
			return nil, err
		}
	}
	if f, ok := o.get("healthCheckConfig"); ok {
		h, err := f.object()
		if err != nil {
			return nil, err
		}
		if f, ok := h.get("serviceName"); ok {
			name, err := f.text()
			if err != nil {
				return nil, err
			}
			sc.Health = &name
		}
	}
	return sc, nil
}

// readPolicy reads the balancing policy. Of loadBalancingConfig's entries the
// first whose policy is registered counts.
func (sc *ServiceConfig) readPolicy(o jsonObject) error {
	name := ""
	if f, ok := o.get("loadBalancingPolicy"); ok {
		var err error
		if name, err = f.text(); err != nil {
			return err
		}
	}
	f, ok := o.get("loadBalancingConfig")
	if !ok {
		// An unknown name here means the default: the field is deprecated, and
		// grpc-go reads it so.
		if b := balancer.Get(name); b != nil {
			sc.Policy = b.Name()
		}
		return nil
	}
	list, err := f.list()
	if err != nil {
		return err
	}
	for _, entry := range list {
		o, err := entry.object()
		if err != nil {
			return err
		}
		if len(o.fields) != 1 {
			return entry.bad("an object with one field, a policy's name", nil)
		}
		for name, raw := range o.fields {
			if b := balancer.Get(name); b != nil {
				return sc.configure(b, jsonField{o.path(name), raw})
			}
		}
	}
	return f.bad("a policy that is registered, such as "+pickfirst.Name+" or one whose package is imported", nil)
}

// configure sets the policy and parses its own part.
func (sc *ServiceConfig) configure(b balancer.Builder, f jsonField) error {
	sc.Policy = b.Name()
	p, ok := b.(balancer.ConfigParser)
	if !ok {
		return nil
	}
	lb, err := p.ParseConfig(f.raw)
	if err != nil {
		return f.bad("a configuration that the policy accepts", err)
	}
	sc.PolicyLB = lb
	return nil
}

// MethodConfig returns what the service config says of "/service/method", nil
// for nothing. It takes no lock and allocates nothing. The result is shared: do
// not change it. Before the resolver's first result there is no service config:
// see [Channel.WaitForConfig].
func (c *Channel) MethodConfig(method string) *MethodConfig {
	sc := c.config.Load()
	if sc == nil {
		return nil
	}
	return sc.method(method)
}

// RetryThrottling returns the service config's throttling of retries, nil for
// none. The pointer changes only with the values, so that it can name the token
// bucket that belongs to it.
func (c *Channel) RetryThrottling() *RetryThrottling {
	sc := c.config.Load()
	if sc == nil {
		return nil
	}
	return sc.Throttling
}

// WaitForConfig returns nil once the resolver has delivered its first result,
// addresses or an error, so that [Channel.MethodConfig] is known; it wakes an
// idle channel. Once that is so it costs one atomic load. The error is
// *PickInterrupted when ctx ended first. A closed channel lets calls go on to
// Pick, which says so.
func (c *Channel) WaitForConfig(ctx context.Context) error {
	for c.config.Load() == nil {
		c.mu.Lock()
		first := c.configured // before start: if the session ends meanwhile, that closes it
		c.mu.Unlock()
		c.start()
		if !c.await(ctx, first) {
			return c.interrupted(ctx)
		}
	}
	return nil
}

// configure shows calls the service config in force, nil for none, unless the
// session is over. The first one lets those go on that wait for it.
func (c *Channel) configure(s *session, sc *ServiceConfig) {
	if sc == nil {
		sc = noConfig
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.live != s {
		return
	}
	if last := c.throttling; sc.Throttling != nil && last != nil && *last == *sc.Throttling && last != sc.Throttling {
		same := *sc
		same.Throttling = last
		sc = &same
	}
	c.throttling = sc.Throttling
	if c.config.Swap(sc) == nil {
		close(c.configured)
	}
}
