// SPDX-License-Identifier: Apache-2.0

package hpack

import (
	"hash/maphash"
	"strings"
)

const (
	// maxEncoderTable bounds the encoder's dynamic table, in bytes.
	maxEncoderTable = 4096
	// maxNames bounds the names that an encoder keeps book of, maxNameLen their
	// length in bytes.
	maxNames, maxNameLen = 256, 512
	// maxTemplates bounds the templates whose encoded form is kept, and
	// maxTemplateLen that form's length in bytes.
	maxTemplates, maxTemplateLen = 512, 8 << 10
	// relearnAfter is how many bytes may go out as literals for want of room
	// before the table is emptied and learned anew.
	relearnAfter = 64 << 10
)

// seed makes fingerprints of values; it differs from process to process.
var seed = maphash.MakeSeed()

// Encoder writes the header blocks of one connection (RFC 7541). Blocks must be
// sent in the order in which they were encoded. It is not safe for concurrent
// use.
//
// An entry is inserted once and never evicted by another, so that an entry's
// index is a subtraction. When the table is full, other fields go as literals;
// when too many bytes went that way, the whole table is emptied by a size update
// and a new generation begins.
type Encoder struct {
	max     uint32 // table size in bytes
	size    uint32 // of the entries held
	ins     uint32 // entries inserted in this generation
	gen     uint32
	spent   int  // bytes of literals that would have been indexed, had there been room
	pending bool // size updates are due at the start of the next block

	names     map[string]*nameState
	templates map[*Template]*encoded
	last      *encoded // the template encoded last
}

// nameState is what the encoder knows of one name.
type nameState struct {
	static uint32 // index of the name in the static table; 0: none
	entry  uint32 // number of the newest dynamic entry with the name; 0: none
	values []valueState
	// print is the fingerprint of the last value that was not in the table: the
	// value itself is not kept.
	print uint64
	seen  bool // print is set
}

// valueState is a value that can be sent by index.
type valueState struct {
	value  string
	static uint32 // its static index, or
	entry  uint32 // the number of its dynamic entry, counted from 1
}

// encoded is a template's encoded form, good for one state of the table.
type encoded struct {
	t     *Template
	gen   uint32
	ins   uint32
	spent int
	raw   []byte
}

// NewEncoder makes an encoder with the initial table size of 4096 bytes.
func NewEncoder() *Encoder { return &Encoder{max: maxEncoderTable} }

// SetMaxTableSize obeys the peer's SETTINGS_HEADER_TABLE_SIZE, in bytes; 4096
// at most are used. A change empties the table, and the next block begins with
// the updates that RFC 7541 section 4.2 demands.
func (e *Encoder) SetMaxTableSize(n uint32) {
	if n = min(n, maxEncoderTable); n != e.max {
		e.max = n
		e.restart()
	}
}

// restart begins a generation with an empty table.
func (e *Encoder) restart() {
	e.size, e.ins, e.spent = 0, 0, 0
	e.gen++
	e.pending = true
	clear(e.names)
}

// Append appends one header block: the fields of t, which may be nil, and then
// fields. Fields whose Index is Auto may be kept in the table as copies; nothing
// else of fields is retained.
func (e *Encoder) Append(dst []byte, t *Template, fields []Field) []byte {
	if e.spent > relearnAfter {
		e.restart()
	}
	if e.pending {
		e.pending = false
		// An update to 0 evicts everything, and is the smallest that could have
		// been asked for since the last block.
		dst = append(dst, 0x20)
		if e.max > 0 {
			dst = appendInt(dst, 0x20, 5, e.max)
		}
	}
	if t != nil {
		dst = e.template(dst, t)
	}
	for i := range fields {
		dst = e.field(dst, &fields[i], false)
	}
	return dst
}

// template appends t, from its encoded form when the table is as it was.
func (e *Encoder) template(dst []byte, t *Template) []byte {
	k := e.last
	if k == nil || k.t != t {
		k = e.templates[t]
	}
	if k != nil && k.ins == e.ins && k.gen == e.gen {
		e.last = k
		e.spent += k.spent
		return append(dst, k.raw...)
	}
	start, ins, spent := len(dst), e.ins, e.spent
	for i := range t.fields {
		dst = e.field(dst, &t.fields[i], true)
	}
	if raw := dst[start:]; e.ins == ins && len(raw) <= maxTemplateLen {
		if k == nil {
			k = e.remember(t)
		}
		k.gen, k.ins, k.spent = e.gen, ins, e.spent-spent
		k.raw = append(k.raw[:0], raw...)
	}
	return dst
}

func (e *Encoder) remember(t *Template) *encoded {
	if e.templates == nil {
		e.templates = make(map[*Template]*encoded)
	}
	if len(e.templates) >= maxTemplates {
		clear(e.templates)
	}
	k := &encoded{t: t}
	e.templates[t] = k
	e.last = k
	return k
}

// field appends one field. A fixed one is part of a template: it will repeat.
func (e *Encoder) field(dst []byte, f *Field, fixed bool) []byte {
	if f.Index == Never {
		return e.literal(dst, 0x10, e.lookup(f.Name), f)
	}
	n := e.name(f.Name)
	if n == nil {
		return e.unknown(dst, f)
	}
	known := e.nameIndex(n)
	size := f.Size()
	// The first field of a name goes into the table whatever its value, if only
	// for the name's sake.
	insert := known == 0 && size <= e.max/8
	if f.Index == Auto {
		for i := range n.values {
			if v := &n.values[i]; v.value == f.Value {
				return appendInt(dst, 0x80, 7, e.index(v.static, v.entry))
			}
		}
		if fixed || n.repeats(f.Value) {
			insert = size <= e.max/2
		}
	}
	if !insert {
		return e.literal(dst, 0, known, f)
	}
	if e.size+size > e.max {
		return e.crowded(dst, known, f)
	}
	return e.insert(dst, n, known, f)
}

// unknown appends a field whose name is not kept book of.
func (e *Encoder) unknown(dst []byte, f *Field) []byte {
	if e.max == 0 || len(f.Name) > maxNameLen {
		return e.literal(dst, 0, 0, f)
	}
	return e.crowded(dst, uint32(staticNames[f.Name]), f)
}

// crowded appends a literal that would have been indexed, had there been room.
func (e *Encoder) crowded(dst []byte, known uint32, f *Field) []byte {
	start := len(dst)
	dst = e.literal(dst, 0, known, f)
	e.spent += len(dst) - start
	return dst
}

// repeats reports whether value is the one that came last under the name.
func (n *nameState) repeats(value string) bool {
	h := maphash.String(seed, value)
	again := n.seen && n.print == h
	n.seen, n.print = true, h
	return again
}

// insert appends f as a literal with incremental indexing (section 6.2.1). It
// will be sent once, so that the shortest form is worth its price. What the
// table keeps are copies.
func (e *Encoder) insert(dst []byte, n *nameState, known uint32, f *Field) []byte {
	dst = appendInt(dst, 0x40, 6, known)
	if known == 0 {
		dst = appendShortest(dst, f.Name)
	}
	dst = appendShortest(dst, f.Value)
	e.ins++
	e.size += f.Size()
	n.entry = e.ins
	n.values = append(n.values, valueState{value: strings.Clone(f.Value), entry: e.ins})
	return dst
}

// literal appends f as a literal that is not indexed; known is the name's index
// or 0.
func (e *Encoder) literal(dst []byte, pattern byte, known uint32, f *Field) []byte {
	dst = appendInt(dst, pattern, 4, known)
	if known == 0 {
		dst = appendString(dst, f.Name)
	}
	return appendString(dst, f.Value)
}

// index is the index on the wire: entries move up by one with each insertion.
func (e *Encoder) index(static, entry uint32) uint32 {
	if static != 0 {
		return static
	}
	return staticLen + 1 + e.ins - entry
}

func (e *Encoder) nameIndex(n *nameState) uint32 {
	if n.static == 0 && n.entry == 0 {
		return 0
	}
	return e.index(n.static, n.entry)
}

// lookup is the index of a name that is not to be kept book of, or 0.
func (e *Encoder) lookup(name string) uint32 {
	if n := e.names[name]; n != nil {
		return e.nameIndex(n)
	}
	return uint32(staticNames[name])
}

// name returns the state of a name, or nil if there are too many names.
func (e *Encoder) name(name string) *nameState {
	if n := e.names[name]; n != nil {
		return n
	}
	if len(e.names) >= maxNames || len(name) > maxNameLen {
		return nil
	}
	if e.names == nil {
		e.names = make(map[string]*nameState)
	}
	n := &nameState{static: uint32(staticNames[name])}
	if n.static != 0 {
		for i := n.static; i <= staticLen && static[i].Name == name; i++ {
			n.values = append(n.values, valueState{value: static[i].Value, static: i})
		}
	}
	e.names[strings.Clone(name)] = n
	return n
}
