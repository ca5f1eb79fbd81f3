// SPDX-License-Identifier: Apache-2.0

package channel

import (
	"context"

	"google.golang.org/grpc/credentials"
)

// handshakeInfoKey is the context key under which grpc-go's credentials look
// for credentials.ClientHandshakeInfo; nil if they stopped to. The key's type
// is not exported: the public getter is asked what it looks for.
var handshakeInfoKey = func() any {
	p := keyProbe{Context: context.Background()}
	credentials.ClientHandshakeInfoFromContext(&p)
	return p.key
}()

// keyProbe is a context that remembers the key it is asked for.
type keyProbe struct {
	context.Context
	key any
}

// Value implements context.Context.
func (p *keyProbe) Value(key any) any {
	p.key = key
	return nil
}

// withHandshakeInfo gives credentials and custom dialers the address's
// attributes.
func withHandshakeInfo(ctx context.Context, info credentials.ClientHandshakeInfo) context.Context {
	if handshakeInfoKey == nil {
		return ctx
	}
	return context.WithValue(ctx, handshakeInfoKey, info)
}
