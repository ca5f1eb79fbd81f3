// SPDX-License-Identifier: Apache-2.0

package call

import (
	"maps"
	"strings"
	"sync/atomic"

	"google.golang.org/grpc/codes"

	"github.com/faultline-rpc/faultline/codec"
	"github.com/faultline-rpc/faultline/fault"
	"github.com/faultline-rpc/faultline/wire"
)

// templates keeps the fixed part of requests, by what they differ in. Reads
// take no lock.
type templates struct {
	cfg     *Config
	inflate codec.Compressor // the client's own, or nil
	known   atomic.Pointer[map[templateKey]*wire.Template]
}

type templateKey struct{ method, authority, subtype, encoding string }

// maxTemplates bounds the memory that programs which make up method names
// would take: the map is begun anew when it is reached.
const maxTemplates = 4096

// get returns the template for k, or why there cannot be one.
func (t *templates) get(k templateKey) (*wire.Template, *fault.Fault) {
	if m := t.known.Load(); m != nil {
		if w, ok := (*m)[k]; ok {
			return w, nil
		}
	}
	if f := k.check(); f != nil {
		return nil, f
	}
	scheme := "http"
	if t.cfg.Secure {
		scheme = "https"
	}
	w := wire.NewTemplate(wire.TemplateSpec{Scheme: scheme, Authority: k.authority, Path: k.method, Subtype: k.subtype,
		UserAgent: t.cfg.UserAgent, Encoding: k.encoding, AcceptEncoding: codec.Supported(t.inflate, k.encoding)})
	t.add(k, w)
	return w, nil
}

func (t *templates) add(k templateKey, w *wire.Template) {
	for {
		old := t.known.Load()
		next := map[templateKey]*wire.Template{}
		if old != nil && len(*old) < maxTemplates {
			next = maps.Clone(*old)
		}
		next[k] = w
		if t.known.CompareAndSwap(old, &next) {
			return
		}
	}
}

// check refuses what no server could read as it was meant.
func (k templateKey) check() *fault.Fault {
	if strings.ContainsFunc(k.method, unprintable) {
		return misuse("malformed method name %q, expected /package.Service/Method in printable ASCII", k.method)
	}
	if strings.ContainsFunc(k.authority, func(r rune) bool { return unprintable(r) || r == '/' || r == '@' || r == ' ' }) {
		return authority(k.authority, "expected a host, or host:port", nil)
	}
	return nil
}

func unprintable(r rune) bool { return r < ' ' || r > '~' }

// authority is the fault of a call for a host that is none, or that the
// credentials do not vouch for.
func authority(name, why string, cause error) *fault.Fault {
	return fault.WireAuthority.Newf(fault.Args{Code: codes.Unauthenticated, Side: fault.Local, Processed: fault.No,
		Evidence: &fault.Evidence{Authority: name}, Cause: cause}, "the call's authority %q is refused: %s", name, why)
}
