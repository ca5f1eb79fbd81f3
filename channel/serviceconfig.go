// SPDX-License-Identifier: Apache-2.0

package channel

import (
	"encoding/json"
	"errors"
	"fmt"

	"google.golang.org/grpc/balancer"
	"google.golang.org/grpc/balancer/pickfirst"
	"google.golang.org/grpc/serviceconfig"
)

// maxServiceConfig bounds a service config's JSON, in bytes.
const maxServiceConfig = 1 << 20

// ServiceConfig is a service config as far as a channel reads it
// (https://github.com/grpc/grpc/blob/master/doc/service_config.md): the
// balancing policy. JSON keeps the whole.
type ServiceConfig struct {
	serviceconfig.Config

	JSON     string
	Policy   string // a registered balancer's name
	PolicyLB serviceconfig.LoadBalancingConfig
}

// parseServiceConfig reads what a channel needs. Of loadBalancingConfig's
// entries the first whose policy is registered counts.
func parseServiceConfig(js string) (*ServiceConfig, error) {
	if len(js) > maxServiceConfig {
		return nil, fmt.Errorf("service config of %d bytes; expected at most %d", len(js), maxServiceConfig)
	}
	var raw struct {
		LoadBalancingPolicy *string                      `json:"loadBalancingPolicy"`
		LoadBalancingConfig []map[string]json.RawMessage `json:"loadBalancingConfig"`
	}
	if err := json.Unmarshal([]byte(js), &raw); err != nil {
		return nil, fmt.Errorf("service config: %w; expected a JSON object", err)
	}
	sc := &ServiceConfig{JSON: js}
	if raw.LoadBalancingConfig == nil {
		// An unknown name here means the default: the field is deprecated, and
		// grpc-go reads it so.
		if p := raw.LoadBalancingPolicy; p != nil && balancer.Get(*p) != nil {
			sc.Policy = *p
		}
		return sc, nil
	}
	for i, entry := range raw.LoadBalancingConfig {
		if len(entry) != 1 {
			return nil, fmt.Errorf("service config: loadBalancingConfig[%d] has %d fields; expected one, a policy's name", i, len(entry))
		}
		for name, cfg := range entry {
			b := balancer.Get(name)
			if b == nil {
				continue
			}
			sc.Policy = name
			if p, ok := b.(balancer.ConfigParser); ok {
				lb, err := p.ParseConfig(cfg)
				if err != nil {
					return nil, fmt.Errorf("service config: policy %q: %w", name, err)
				}
				sc.PolicyLB = lb
			}
			return sc, nil
		}
	}
	return nil, errors.New("service config: no policy of loadBalancingConfig is registered; expected " + pickfirst.Name + " or an imported policy")
}
