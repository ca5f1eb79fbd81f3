// SPDX-License-Identifier: Apache-2.0

package call

import (
	"maps"
	"strings"
	"sync/atomic"

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
	return wire.CheckAuthority(k.authority)
}

func unprintable(r rune) bool { return r < ' ' || r > '~' }
